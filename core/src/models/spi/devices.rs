//! A controller over embedded-hal devices.

use embedded_hal::spi::{Mode, SpiDevice};

use super::{
    controller::{
        SpiCapabilities, SpiController, SpiData, SpiError, SpiFunctions, SpiSettings, count,
    },
    lines::{FixedClock, SpiClock},
};

/// A chip behind an embedded-hal device, and the clock that is set up for the chip.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiChip<S> {
    device: S,
    clock: FixedClock,
}

impl<S: SpiDevice> SpiChip<S> {
    /// Creates a chip from this device.
    ///
    /// `mode` and `hz` state the clock mode and the rate in Hz that the bus uses for the device.
    /// `hz` may be 0, as for [`FixedClock::new`].
    pub const fn new(device: S, mode: Mode, hz: u32) -> Self {
        Self {
            device,
            clock: FixedClock::new(mode, hz),
        }
    }
}

/// A controller of `CS` embedded-hal devices, which may share their bus with other devices.
///
/// Words have 8 bits, most significant bit first, on single lines. Mode and rate of each chip are
/// fixed by its set-up ([`FixedClock`]). A request with any delay is answered with PARAM_ERR.
///
/// # One transfer per message
///
/// A device of embedded-hal deselects its chip after each transfer. A request must therefore have
/// `cs_change` set. If a request keeps its chip selected for the next request, the controller sends
/// nothing and the device answers PARAM_ERR.
///
/// * Zephyr sets `cs_change` in the last transfer of a message. All other transfers of the message
///   fail.
/// * Linux 6.18 does not set `cs_change` in the last transfer, so each of its messages fails. If
///   the messages for the chips are single transfers, use
///   [`with_split_messages`](Self::with_split_messages).
///
/// For messages of several transfers, use [`SpiLines`](super::SpiLines).
///
/// ```
/// use embedded_hal::spi::{ErrorType, MODE_3, Operation, SpiDevice};
/// use virtside::models::{Spi, spi::{SpiChip, SpiDevices}};
///
/// /// A chip that ignores every transfer.
/// struct Silent;
///
/// impl ErrorType for Silent {
///     type Error = core::convert::Infallible;
/// }
///
/// impl SpiDevice for Silent {
///     fn transaction(&mut self, _: &mut [Operation<'_, u8>]) -> Result<(), Self::Error> { Ok(()) }
/// }
///
/// let chips = SpiDevices::new([SpiChip::new(Silent, MODE_3, 4_000_000)]);
/// let device = Spi::<_, 64>::new(chips);
/// # let _ = device;
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiDevices<S, const CS: usize> {
    chips: [SpiChip<S>; CS],
    split_messages: bool,
}

impl<S: SpiDevice, const CS: usize> SpiDevices<S, CS> {
    /// Creates a controller of these chips. The index of a chip is its chip select number.
    pub const fn new(chips: [SpiChip<S>; CS]) -> Self {
        Self {
            chips,
            split_messages: false,
        }
    }

    /// Deselects the chip after each transfer, even if the driver wants the chip to stay selected.
    /// The device answers TRANS_OK.
    ///
    /// **A message of several transfers, such as a command and its answer, reaches the chip in
    /// pieces, and nobody is told.** Use this option only for chips whose messages are single
    /// transfers.
    #[must_use]
    pub fn with_split_messages(self) -> Self {
        Self {
            split_messages: true,
            ..self
        }
    }
}

impl<S: SpiDevice, const CS: usize> SpiController for SpiDevices<S, CS> {
    fn capabilities(&self) -> SpiCapabilities {
        let mut capabilities = SpiCapabilities {
            chip_selects: count(CS),
            cs_change: true,
            functions: SpiFunctions::empty(),
            ..SpiCapabilities::default()
        };
        let mut limited = true;
        for SpiChip { clock, .. } in &self.chips {
            capabilities.functions |= SpiClock::<S>::functions(clock);
            let max = SpiClock::<S>::max_hz(clock);
            limited &= max != 0;
            capabilities.max_freq_hz = capabilities.max_freq_hz.max(max);
        }
        if !limited {
            capabilities.max_freq_hz = 0;
        }
        capabilities
    }

    fn transfer(&mut self, settings: &SpiSettings, data: SpiData<'_>) -> Result<(), SpiError> {
        let chip = self.chips.get_mut(usize::from(settings.chip_select));
        let SpiChip { device, clock } = chip.ok_or(SpiError::Unsupported)?;
        if !settings.cs_change && !self.split_messages {
            return Err(SpiError::Unsupported);
        }
        clock.check(settings.mode.clock(), settings.freq_hz)?;
        match data {
            SpiData::Read(bytes) => device.read(bytes),
            SpiData::Write(bytes) => device.write(bytes),
            SpiData::Exchange(bytes) => device.transfer_in_place(bytes),
        }
        .map_err(|_| SpiError::Failed)
    }
}
