//! A controller over an embedded-hal bus, pins and a delay.

use core::slice;

use embedded_hal::{
    delay::DelayNs,
    digital::OutputPin,
    spi::{Mode, SpiBus},
};

use super::controller::{
    SpiCapabilities, SpiController, SpiData, SpiError, SpiFunctions, SpiMode, SpiSettings, count,
};

/// Sets the clock of bus `B`. embedded-hal has no common interface for this task.
///
/// [`FixedClock`] never changes the clock, and [`SteppedClock`] chooses one of several rates. For
/// other clocks, implement this trait with the functions of the bus.
pub trait SpiClock<B> {
    /// Returns the values of CPHA and CPOL that can be set. All other functions are ignored.
    fn functions(&self) -> SpiFunctions;

    /// Returns the highest rate in Hz; 0 for no limit.
    fn max_hz(&self) -> u32;

    /// Sets the mode, and a rate of at most `hz`. If `hz` is 0, any rate is allowed.
    ///
    /// The controller calls this method before each transfer, while no other chip is selected.
    ///
    /// # Errors
    /// [`SpiError::Unsupported`] if the clock has no such rate.
    fn set(&mut self, bus: &mut B, mode: Mode, hz: u32) -> Result<(), SpiError>;
}

/// The clock that the bus was set up with.
///
/// | request | answer |
/// |---|---|
/// | another mode | PARAM_ERR |
/// | a lower rate | PARAM_ERR: this clock cannot be slowed, and the chip might not tolerate the higher rate |
/// | a higher rate | the transfer runs at this clock's rate, if `max_freq_hz` allows the request |
/// | rate 0 | no preference: the transfer runs at this clock's rate |
///
/// The configuration space has no field for a lowest rate, so a driver learns the lowest rate only
/// from the error.
/// [`SteppedClock`] supports lower rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FixedClock {
    mode: SpiMode,
    hz: u32,
}

impl FixedClock {
    /// Creates a clock of this mode and this rate in Hz.
    ///
    /// If `hz` is 0, the clock accepts every rate and sets none. Use 0 only for a bus that is
    /// slower than all of its chips.
    #[must_use]
    pub const fn new(mode: Mode, hz: u32) -> Self {
        Self {
            mode: SpiMode::from_clock(mode),
            hz,
        }
    }

    pub(super) fn check(&self, mode: Mode, hz: u32) -> Result<(), SpiError> {
        if mode == self.mode.clock() && (hz == 0 || hz >= self.hz) {
            Ok(())
        } else {
            Err(SpiError::Unsupported)
        }
    }
}

impl<B> SpiClock<B> for FixedClock {
    fn functions(&self) -> SpiFunctions {
        self.mode.needs()
    }

    fn max_hz(&self) -> u32 {
        self.hz
    }

    fn set(&mut self, _bus: &mut B, mode: Mode, hz: u32) -> Result<(), SpiError> {
        self.check(mode, hz)
    }
}

/// A clock of `R` rates.
///
/// A request runs at the highest rate that does not exceed the requested rate. If the requested
/// rate is 0, the request runs at the highest of all rates. If the requested rate is less than the
/// lowest rate, the request is answered with PARAM_ERR.
///
/// ```
/// use embedded_hal::spi::Mode;
/// use virtside::models::spi::{SpiError, SpiFunctions, SteppedClock};
/// # struct Bus;
/// # impl Bus { fn divide(&mut self, _: Mode, _: u32) {} }
/// // A bus at 8 MHz that divides its clock by 1, 8 or 20.
/// let rates = [8_000_000, 1_000_000, 400_000];
/// let mode_0 = SpiFunctions::CPHA_0 | SpiFunctions::CPOL_0;
/// let clock = SteppedClock::new(mode_0, rates, |bus: &mut Bus, mode: Mode, hz: u32| {
///     bus.divide(mode, 8_000_000 / hz);
///     Ok::<(), SpiError>(())
/// });
/// # let _ = clock;
/// ```
#[derive(Clone, Copy)]
pub struct SteppedClock<F, const R: usize> {
    functions: SpiFunctions,
    rates: [u32; R],
    set: F,
}

impl<F, const R: usize> SteppedClock<F, R> {
    /// Creates a clock of these values of CPHA and CPOL and these rates in Hz.
    ///
    /// The rates may be in any order. A rate of 0 is never used. The controller calls `set` before
    /// each transfer, with one of the modes and one of the rates.
    pub const fn new(functions: SpiFunctions, rates: [u32; R], set: F) -> Self {
        Self {
            functions,
            rates,
            set,
        }
    }

    /// Returns the highest rate of at most `hz`.
    fn highest(&self, hz: u32) -> Option<u32> {
        let usable = |rate: &u32| *rate != 0 && *rate <= hz;
        self.rates.iter().copied().filter(usable).max()
    }
}

impl<F, const R: usize> core::fmt::Debug for SteppedClock<F, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SteppedClock")
            .field("functions", &self.functions)
            .field("rates", &self.rates)
            .finish_non_exhaustive()
    }
}

impl<B, F, const R: usize> SpiClock<B> for SteppedClock<F, R>
where
    F: FnMut(&mut B, Mode, u32) -> Result<(), SpiError>,
{
    fn functions(&self) -> SpiFunctions {
        self.functions
    }

    fn max_hz(&self) -> u32 {
        self.highest(u32::MAX).unwrap_or(0)
    }

    fn set(&mut self, bus: &mut B, mode: Mode, hz: u32) -> Result<(), SpiError> {
        let most = if hz == 0 { u32::MAX } else { hz };
        let rate = self.highest(most).ok_or(SpiError::Unsupported)?;
        (self.set)(bus, mode, rate)
    }
}

/// A controller of `CS` chips on one embedded-hal bus. Each chip has an active-low chip select pin.
///
/// Words have 8 bits, most significant bit first, on single lines. All pins must be high at the
/// start. For a chip with an active-high chip select, pass an inverted pin.
///
/// # Which transfers belong together
///
/// After a transfer without `cs_change`, the specification lets the chip stay selected. The chip is
/// deselected by the first of these events:
///
/// * a transfer with `cs_change`,
/// * a transfer that fails,
/// * a transfer with another chip,
/// * a reset of the device, or a stop of its queue.
///
/// Zephyr sets `cs_change` in the last transfer of a message. Linux 6.18 does not, so its next
/// message continues the transaction of the last one. There are two remedies:
///
/// * A host that recognises the end of a message, for instance by a pause, ends each message with
///   [`release`](SpiController::release).
/// * If the messages for the chips are single transfers, the host uses
///   [`with_split_messages`](Self::with_split_messages).
///
/// # Worst case
///
/// Besides the time on the bus, a transfer takes at most `BYTES + 4` pauses, where `BYTES` is the
/// size of the device's buffer. [`with_delays`](Self::with_delays) limits the length of each pause.
/// Without `with_delays` there are no pauses.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiLines<B, P, D, C, const CS: usize> {
    bus: B,
    pins: [P; CS],
    delay: D,
    clock: C,
    max_delay_ns: u32,
    split_messages: bool,
    /// The settings of the last transfer to the chip that is selected.
    selected: Option<SpiSettings>,
}

impl<B, P, D, C, const CS: usize> SpiLines<B, P, D, C, CS>
where
    B: SpiBus,
    P: OutputPin,
    D: DelayNs,
    C: SpiClock<B>,
{
    /// Creates a controller of the chips on this bus. The index of a pin is the chip select number
    /// of its chip.
    pub const fn new(bus: B, pins: [P; CS], delay: D, clock: C) -> Self {
        Self {
            bus,
            pins,
            delay,
            clock,
            max_delay_ns: 0,
            split_messages: false,
            selected: None,
        }
    }

    /// Allows pauses of up to `max_ns` nanoseconds each.
    ///
    /// A driver can ask for pauses between words, and before and after a chip is selected or
    /// deselected. The device does nothing else during a pause.
    #[must_use]
    pub fn with_delays(self, max_ns: u32) -> Self {
        Self {
            max_delay_ns: max_ns,
            ..self
        }
    }

    /// Deselects the chip after each transfer, even if the driver wants the chip to stay selected.
    /// The device answers TRANS_OK.
    ///
    /// **A message of several transfers, such as a command and its answer, reaches the chip in
    /// pieces, and nobody is told.** Use this option only for drivers that do not mark the end of a
    /// message, and for chips whose messages are single transfers.
    #[must_use]
    pub fn with_split_messages(self) -> Self {
        Self {
            split_messages: true,
            ..self
        }
    }

    /// Returns the bus for changes.
    pub const fn bus_mut(&mut self) -> &mut B {
        &mut self.bus
    }

    fn pause(&mut self, ns: u32) {
        if ns != 0 {
            self.delay.delay_ns(ns);
        }
    }

    fn select(&mut self, settings: &SpiSettings) -> Result<(), SpiError> {
        let before = self.selected.map(|before| before.chip_select);
        if before.is_some_and(|chip| chip != settings.chip_select) {
            self.deselect()?;
        }
        let mode = settings.mode.clock();
        self.clock.set(&mut self.bus, mode, settings.freq_hz)?;
        let again = self.selected.replace(*settings).is_some();
        if !again {
            let pin = self.pins.get_mut(usize::from(settings.chip_select));
            let pin = pin.ok_or(SpiError::Unsupported)?;
            pin.set_low().map_err(failed)?;
            self.pause(settings.cs_setup_ns);
        }
        Ok(())
    }

    /// Deselects the selected chip. If that fails, the chip still counts as selected, and the next
    /// call tries again.
    fn deselect(&mut self) -> Result<(), SpiError> {
        let Some(settings) = self.selected else {
            return Ok(());
        };
        self.pause(settings.cs_hold_ns);
        if let Some(pin) = self.pins.get_mut(usize::from(settings.chip_select)) {
            pin.set_high().map_err(failed)?;
        }
        self.selected = None;
        self.pause(settings.cs_inactive_ns);
        Ok(())
    }

    fn exchange(&mut self, word_delay_ns: u32, data: SpiData<'_>) -> Result<(), SpiError> {
        if word_delay_ns == 0 {
            self.move_words(data)?;
        } else {
            let mut pause = 0;
            let mut one = |this: &mut Self, word: SpiData<'_>| {
                this.pause(core::mem::replace(&mut pause, word_delay_ns));
                this.move_words(word)?;
                this.bus.flush().map_err(failed)
            };
            match data {
                SpiData::Read(bytes) => bytes
                    .iter_mut()
                    .try_for_each(|byte| one(self, SpiData::Read(slice::from_mut(byte)))),
                SpiData::Write(bytes) => bytes
                    .iter()
                    .try_for_each(|byte| one(self, SpiData::Write(slice::from_ref(byte)))),
                SpiData::Exchange(bytes) => bytes
                    .iter_mut()
                    .try_for_each(|byte| one(self, SpiData::Exchange(slice::from_mut(byte)))),
            }?;
        }
        self.bus.flush().map_err(failed)
    }

    fn move_words(&mut self, data: SpiData<'_>) -> Result<(), SpiError> {
        match data {
            SpiData::Read(bytes) => self.bus.read(bytes),
            SpiData::Write(bytes) => self.bus.write(bytes),
            SpiData::Exchange(bytes) => self.bus.transfer_in_place(bytes),
        }
        .map_err(failed)
    }
}

fn failed<E>(_: E) -> SpiError {
    SpiError::Failed
}

impl<B, P, D, C, const CS: usize> SpiController for SpiLines<B, P, D, C, CS>
where
    B: SpiBus,
    P: OutputPin,
    D: DelayNs,
    C: SpiClock<B>,
{
    fn capabilities(&self) -> SpiCapabilities {
        let others = SpiFunctions::CS_HIGH | SpiFunctions::LSB_FIRST | SpiFunctions::LOOP;
        SpiCapabilities {
            chip_selects: count(CS),
            cs_change: true,
            functions: self.clock.functions().difference(others),
            max_freq_hz: self.clock.max_hz(),
            max_word_delay_ns: self.max_delay_ns,
            max_cs_setup_ns: self.max_delay_ns,
            max_cs_hold_ns: self.max_delay_ns,
            max_cs_inactive_ns: self.max_delay_ns,
            ..SpiCapabilities::default()
        }
    }

    fn transfer(&mut self, settings: &SpiSettings, data: SpiData<'_>) -> Result<(), SpiError> {
        let done = self
            .select(settings)
            .and_then(|()| self.exchange(settings.word_delay_ns, data));
        if done.is_ok() && !self.split_messages && !settings.cs_change {
            return Ok(());
        }
        let end = self.deselect();
        done.and(end)
    }

    fn release(&mut self) {
        let _ = self.deselect();
    }

    fn selected(&self) -> Option<SpiSettings> {
        // With split messages, a chip is still selected only because deselecting it failed. A
        // snapshot does not save such a chip.
        self.selected.filter(|_| !self.split_messages)
    }

    fn reselect(&mut self, settings: &SpiSettings) -> Result<(), SpiError> {
        if self.split_messages {
            return Err(SpiError::Unsupported);
        }
        let done = self.select(settings);
        if done.is_err() {
            self.release();
        }
        done
    }
}
