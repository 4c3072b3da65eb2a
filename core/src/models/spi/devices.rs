//! A controller over embedded-hal devices.

use embedded_hal::spi::{Mode, SpiDevice};

use super::{
    controller::{
        SpiCapabilities, SpiController, SpiData, SpiError, SpiFunctions, SpiSettings, count,
    },
    lines::{FixedClock, SpiClock},
};

/// A chip behind an embedded-hal device, and the clock that was set up for it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiChip<S> {
    device: S,
    clock: FixedClock,
}

impl<S: SpiDevice> SpiChip<S> {
    /// This device, for which the bus has this mode and rate in Hz; 0 as for [`FixedClock::new`].
    pub const fn new(device: S, mode: Mode, hz: u32) -> Self {
        Self {
            device,
            clock: FixedClock::new(mode, hz),
        }
    }
}

/// A controller of `CS` embedded-hal devices, which may share their bus with others.
///
/// Words are of 8 bits, most significant first, on single lines; mode and rate are those that the chip
/// was set up with ([`FixedClock`]). A request with any delay is answered with PARAM_ERR.
///
/// # One transfer a message
///
/// A device of embedded-hal deselects its chip after each transfer. So a request must have `cs_change`
/// set; a request that wants its chip to stay selected for the next is answered with PARAM_ERR, and
/// nothing is sent. Zephyr marks the last transfer of a message so, and all others are refused. Linux
/// 6.18 does not mark the last one, so each of its messages is refused; if the chips' messages are
/// single transfers, there is [`with_split_messages`](Self::with_split_messages). For messages of
/// several transfers there is [`SpiLines`](super::SpiLines).
///
/// ```
/// use embedded_hal::spi::{ErrorType, MODE_3, Operation, SpiDevice};
/// use virtside::models::{Spi, spi::{SpiChip, SpiDevices}};
///
/// /// Nothing is ever received from it.
/// struct Deaf;
///
/// impl ErrorType for Deaf {
///     type Error = core::convert::Infallible;
/// }
///
/// impl SpiDevice for Deaf {
///     fn transaction(&mut self, _: &mut [Operation<'_, u8>]) -> Result<(), Self::Error> { Ok(()) }
/// }
///
/// let chips = SpiDevices::new([SpiChip::new(Deaf, MODE_3, 4_000_000)]);
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
    /// A controller of these chips, in this order.
    pub const fn new(chips: [SpiChip<S>; CS]) -> Self {
        Self {
            chips,
            split_messages: false,
        }
    }

    /// Deselects the chip after each transfer although the driver wants it to stay selected, and
    /// answers TRANS_OK.
    ///
    /// **A message of several transfers, such as a command and its answer, reaches the chip in pieces,
    /// and nobody is told.** Only for chips whose messages are single transfers.
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
