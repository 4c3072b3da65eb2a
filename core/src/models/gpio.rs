//! The GPIO device, over a bank of lines: pins of `embedded-hal`, or your own [`GpioLines`].
//!
//! A request reads or changes the names, directions, values and interrupts of lines. An interrupt
//! needs two actions of the driver:
//!
//! * The driver *enables* the interrupt by a request on the requestq (SET_IRQ_TYPE).
//! * The driver *unmasks* the interrupt by a buffer on the eventq. The device keeps the buffer
//!   until the line interrupts.
//!
//! The device returns the buffer in two steps:
//!
//! 1. The host tells the model: an interrupt handler calls [`Gpio::interrupt`], or a loop that
//!    samples levels calls [`Gpio::sense`].
//! 2. The next `poll` returns the buffer. The host can also pass the token that the method returned
//!    to [`Engine::complete`](crate::Engine::complete), which returns the buffer at once.
//!
//! If the driver disables an unmasked interrupt, a `poll` returns the buffer as invalid.
//!
//! # Driver errors
//!
//! The device answers an invalid request with an error, and changes nothing. These are invalid:
//!
//! * a line that does not exist,
//! * a value that has no meaning,
//! * a direction that the line does not support,
//! * enabling the interrupt of a line whose direction is output,
//! * setting the direction of a line to output while its interrupt is enabled.
//!
//! Two requests that a driver must not send are accepted, because Linux sends them and ignores the
//! answer:
//!
//! * A new trigger type for an enabled interrupt replaces the old type.
//! * SET_IRQ_TYPE with NONE has no effect on an output.
//!
//! The device returns an eventq buffer at once as invalid if the chain contains no line number, if
//! the line does not exist, if the line's interrupt is not enabled, or if the device already keeps
//! a buffer for the line.
//!
//! On both queues, only one mistake is a driver fault that stops the queue: a chain without a
//! device-writable byte for the status.
//!
//! # Worst case
//!
//! | operation | cost |
//! |---|---|
//! | request | up to three calls to the bank, not counting [`GpioLines::count`] |
//! | GET_LINE_NAMES | writes the name and the terminating zero of each of the `L` lines |
//! | eventq buffer | a search through the `L` lines, and one call to the bank |
//! | reset | `2 * L` calls to the bank |
//! | poll | one search through the `L` lines for each call of [`DeviceModel::due`] |
//!
//! The device executes and answers requests in their order of arrival, across all lines.
//!
//! # Set-up
//!
//! The device does not offer IN_ORDER together with interrupts, even if the host asks for it. With
//! IN_ORDER, the buffer of one line would wait for the buffer of another line.
//!
//! Supply one chain slot for each line that can interrupt, and one more for requests. With fewer
//! slots, the device still serves requests, but some eventq buffers wait in the ring. The device
//! reports the interrupts of their lines only after it has taken the buffers.
//!
//! Clauses: gpio-01 to gpio-06, gpio-09 to gpio-23.

mod lines;
mod names;
mod pins;
mod requests;
mod snapshot;
mod state;
mod wire;

pub use lines::{Abilities, GpioError, GpioLine, GpioLines};
pub use names::NameError;
pub use pins::{InputLine, OpenDrainLine, OutputLine, StatefulLine};
pub use snapshot::{GpioSnapshot, LineSnapshot};
pub use state::EventBuffer;
pub use wire::{Direction, Trigger};

use embedded_io::{Read, ReadExactError};

use names::Names;
use requests::reply;
use state::State;
use wire::{F_IRQ, IRQ_INVALID, IRQ_VALID};

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::DriverMem,
    model::{Answer, DeviceConfig, DeviceModel, Request, Token},
    num,
    queue::ChainError,
};

/// Index of the requestq.
pub const REQUESTQ: u16 = 0;
/// Index of the eventq. This queue exists if `VIRTIO_GPIO_F_IRQ` was negotiated.
pub const EVENTQ: u16 = 1;

/// The GPIO device over a bank `B` of up to `L` lines.
///
/// ```
/// # #[derive(Debug)] struct Pin;
/// # impl embedded_hal::digital::ErrorType for Pin { type Error = core::convert::Infallible; }
/// # impl embedded_hal::digital::InputPin for Pin {
/// #     fn is_high(&mut self) -> Result<bool, Self::Error> { Ok(true) }
/// #     fn is_low(&mut self) -> Result<bool, Self::Error> { Ok(false) }
/// # }
/// # impl embedded_hal::digital::OutputPin for Pin {
/// #     fn set_high(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// #     fn set_low(&mut self) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// # let (led_pin, button_pin) = (Pin, Pin);
/// use virtside::models::{Gpio, gpio::{GpioLine, InputLine, OutputLine}};
/// use virtside::{ChainSlot, Engine, Shared, memory::Ram};
/// static RAM: Ram<65536> = Ram::new();
/// static SHARED: Shared<2> = Shared::new();
///
/// let mut led = OutputLine::new(led_pin);
/// let mut button = InputLine::new(button_pin).with_interrupt();
/// let lines: [&mut dyn GpioLine; 2] = [&mut led, &mut button];
/// let gpio = Gpio::new(lines).with_names(["LED red", "button"])?;
/// let slots = [const { ChainSlot::new() }; 2];
/// let mut engine: Engine<_, _, _, 2, 16, _, _> =
///     Engine::new(gpio, RAM.flat(0x8000_0000), (), slots, &SHARED);
///
/// // In the interrupt handler of the button:
/// engine.model_mut().interrupt(1);
/// engine.poll(8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Gpio<B, const L: usize> {
    lines: B,
    names: Names<L>,
    states: [State; L],
    negotiated: Option<Features>,
}

/// Why a request is answered with ERR.
enum GpioFailure {
    /// The request is invalid, or the line does not support it.
    Rejected,
    /// A host fault, which is reported.
    Host(HostFault),
}

impl From<GpioError> for GpioFailure {
    fn from(error: GpioError) -> Self {
        match error {
            GpioError::Unsupported => Self::Rejected,
            GpioError::Failed => Self::Host(HostFault::Backend),
        }
    }
}

impl From<ReadExactError<ChainError>> for GpioFailure {
    fn from(error: ReadExactError<ChainError>) -> Self {
        match error {
            ReadExactError::UnexpectedEof => Self::Rejected,
            ReadExactError::Other(error) => Self::Host(error.into()),
        }
    }
}

impl<B: GpioLines, const L: usize> Gpio<B, L> {
    /// Creates the device over this bank. If the bank has more than `L` lines, the device has the
    /// first `L` of them. The lines have no names.
    pub const fn new(lines: B) -> Self {
        Self {
            lines,
            names: Names::NONE,
            states: [State::NEW; L],
            negotiated: None,
        }
    }

    /// Sets the names of the lines. An empty string means that the line has no name.
    ///
    /// The check of the names takes about `L * L` comparisons.
    ///
    /// # Errors
    /// [`NameError`] if a name is not ASCII or contains a zero byte, or if two lines have the same
    /// name (gpio-05, gpio-16).
    pub fn with_names(self, names: [&'static str; L]) -> Result<Self, NameError> {
        Ok(Self {
            names: Names::new(names)?,
            ..self
        })
    }

    /// Returns the bank.
    pub const fn lines(&self) -> &B {
        &self.lines
    }

    /// Returns the bank for changes.
    pub const fn lines_mut(&mut self) -> &mut B {
        &mut self.lines
    }

    /// Returns the number of lines of the device: those of the bank, at most `L`.
    pub fn count(&self) -> u16 {
        self.lines.count().min(num::clamp_u16(L))
    }

    /// Returns the direction that the driver set for a line.
    pub fn direction(&self, line: u16) -> Direction {
        self.states
            .get(usize::from(line))
            .map_or(Direction::None, |state| state.direction)
    }

    /// Returns the trigger that a line's interrupt is enabled for, or `None` if the interrupt is
    /// disabled.
    pub fn trigger(&self, line: u16) -> Option<Trigger> {
        self.states.get(usize::from(line))?.trigger
    }

    /// Records that a line met the condition of its [`trigger`](Self::trigger). Has no effect if
    /// the interrupt is disabled.
    ///
    /// If the interrupt is unmasked, the method returns the token of the eventq buffer, for
    /// [`complete`](crate::Engine::complete). While the interrupt is masked, an edge is latched. A
    /// level is not latched: the device reads the level again when the driver unmasks the
    /// interrupt.
    pub fn interrupt(&mut self, line: u16) -> Option<Token> {
        let state = self.states.get_mut(usize::from(line))?;
        let waits = state.buffer == EventBuffer::Kept;
        if state.trigger?.is_edge() || waits {
            state.fired = true;
        }
        state.token.filter(|_| waits)
    }

    /// Reads the level of a line, for pins that cannot interrupt. Has no effect if the line's
    /// interrupt is disabled.
    ///
    /// If the level, or its change since the last read, matches the trigger, the method acts like
    /// [`interrupt`](Self::interrupt).
    ///
    /// # Errors
    /// [`GpioError`] if the level cannot be read. The state of the line does not change.
    pub fn sense(&mut self, line: u16) -> Result<Option<Token>, GpioError> {
        let Some(trigger) = self.trigger(line) else {
            return Ok(None);
        };
        let now = self.lines.level(line)?;
        let Some(state) = self.states.get_mut(usize::from(line)) else {
            return Ok(None);
        };
        let before = core::mem::replace(&mut state.last, now);
        if trigger.fires(before, now) {
            return Ok(self.interrupt(line));
        }
        Ok(None)
    }

    fn can_interrupt(&self) -> bool {
        (0..self.count()).any(|line| self.lines.abilities(line).contains(Abilities::INTERRUPT))
    }

    fn has_irq(&self) -> bool {
        self.negotiated
            .is_some_and(|features| features.contains(F_IRQ))
    }

    fn names_size(&self) -> u32 {
        self.names.size(self.count())
    }

    /// Returns the state of a line.
    ///
    /// # Errors
    /// `GpioFailure::Rejected` if the line does not exist.
    fn state(&mut self, line: u16) -> Result<&mut State, GpioFailure> {
        let exists = line < self.count();
        self.states
            .get_mut(usize::from(line))
            .filter(|_| exists)
            .ok_or(GpioFailure::Rejected)
    }

    /// Handles an eventq buffer. Returns its status, or `None` to keep the buffer.
    fn event<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Option<u8> {
        let token = Some(request.token);
        if let Some(state) = self.states.iter_mut().find(|state| state.token == token) {
            let valid = state.buffer == EventBuffer::Kept;
            if valid && !state.fired {
                return None;
            }
            state.drop_buffer();
            state.fired &= !valid;
            return Some(if valid { IRQ_VALID } else { IRQ_INVALID });
        }
        let mut line = [0; 2];
        match request
            .readable
            .read_exact(&mut line)
            .map_err(GpioFailure::from)
        {
            Ok(()) => {}
            Err(GpioFailure::Rejected) => return Some(IRQ_INVALID),
            Err(GpioFailure::Host(fault)) => {
                request.report(fault);
                return Some(IRQ_INVALID);
            }
        }
        let line = u16::from_le_bytes(line);
        let Ok(state) = self.state(line) else {
            return Some(IRQ_INVALID);
        };
        let trigger = match (state.buffer, state.token) {
            (EventBuffer::None, _) | (EventBuffer::Kept, None) => state.trigger,
            // After a restore, the device returns this buffer as invalid.
            (EventBuffer::Void, None) => {
                state.drop_buffer();
                None
            }
            _ => None,
        };
        let Some(trigger) = trigger else {
            return Some(IRQ_INVALID);
        };
        // A level may be active already. Edges are latched.
        let active = !trigger.is_edge()
            && match self.lines.level(line) {
                Ok(level) => trigger.fires(level, level),
                Err(error) => {
                    if error == GpioError::Failed {
                        request.report(HostFault::Backend);
                    }
                    false
                }
            };
        let state = self.state(line).ok()?;
        if active || state.fired {
            state.drop_buffer();
            state.fired = false;
            return Some(IRQ_VALID);
        }
        state.buffer = EventBuffer::Kept;
        state.token = token;
        None
    }

    /// Returns all lines to the state that they had before a driver used them.
    fn release(&mut self) {
        for line in 0..self.count() {
            let Ok(state) = self.state(line) else {
                break;
            };
            let used = state.direction != Direction::None || state.trigger.is_some();
            state.drop_buffer();
            if used {
                // The driver is gone, so a failure cannot be reported.
                let _ = self.reset_line(line);
            } else {
                *state = State::NEW;
            }
        }
    }

    /// Masks all interrupts, because the device keeps no eventq buffer any more.
    fn mask_all(&mut self) {
        for state in &mut self.states {
            state.drop_buffer();
            state.fired &= state.trigger.is_some_and(Trigger::is_edge);
        }
    }
}

fn done<M: DriverMem>(request: &Request<'_, M>) -> Answer {
    Answer::Done {
        written: request.writable.written(),
    }
}

impl<B: GpioLines, const L: usize> DeviceConfig for Gpio<B, L> {
    fn device_id(&self) -> u32 {
        u32::from(u8::from(virtio_spec::Id::Gpio))
    }

    fn features(&self) -> Features {
        if self.can_interrupt() {
            Features::ALL_RINGS.union(F_IRQ)
        } else {
            Features::ALL_RINGS
        }
    }

    /// Excludes IN_ORDER if a line can interrupt. With IN_ORDER, an eventq buffer that is due would
    /// wait for older buffers, whose lines may never interrupt.
    fn excluded(&self) -> Features {
        if self.can_interrupt() {
            Features::IN_ORDER
        } else {
            Features::empty()
        }
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        // A driver may read the size of both queues before it has negotiated features.
        let events = match self.negotiated {
            None => self.can_interrupt(),
            Some(features) => features.contains(F_IRQ),
        };
        match queue {
            REQUESTQ => u16::MAX,
            EVENTQ if events => u16::MAX,
            _ => 0,
        }
    }

    fn negotiate(&mut self, features: Features) -> bool {
        self.negotiated = Some(features);
        true
    }

    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let [a, b] = self.count().to_le_bytes();
        let [c, d, e, f] = self.names_size().to_le_bytes();
        let space = [a, b, 0, 0, c, d, e, f];
        let part = space
            .get(num::index(offset)..)
            .and_then(|rest| rest.get(..bytes.len()));
        match part {
            Some(part) => {
                bytes.copy_from_slice(part);
                true
            }
            None => false,
        }
    }
}

impl<B: GpioLines, const L: usize> DeviceModel for Gpio<B, L> {
    fn reset(&mut self) {
        self.negotiated = None;
        self.release();
    }

    fn queue_stopped(&mut self, queue: u16) {
        if queue == EVENTQ {
            self.mask_all();
        }
    }

    /// Returns true for the eventq, because an interrupt may never come.
    fn may_sleep(&self, queue: u16) -> bool {
        queue == EVENTQ
    }

    /// Returns whether the device could keep a buffer for any line: a line whose interrupt is
    /// enabled and that has no buffer. Every other buffer is returned at once.
    fn may_keep(&self, _queue: u16) -> bool {
        let waits = |state: &State| state.trigger.is_some() && state.buffer == EventBuffer::None;
        self.states.iter().any(waits)
    }

    fn due(&self) -> Option<Token> {
        self.states.iter().find_map(State::due)
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        // A request without a byte for the status cannot be answered.
        if request.writable.remaining() == 0 {
            return Err(DriverFault::BadRequest { head: request.head });
        }
        if request.queue != EVENTQ {
            return Ok(self.request(request));
        }
        Ok(match self.event(request) {
            Some(status) => reply(request, &[status]),
            None => Answer::Pending,
        })
    }
}
