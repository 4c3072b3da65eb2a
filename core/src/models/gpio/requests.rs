//! The requests of the requestq: directions, values, triggers and names of lines.

use embedded_io::{Read, Write};

use super::{
    Abilities, Direction, Gpio, GpioFailure, GpioLines, Trigger, done,
    state::{EventBuffer, State},
    wire::{Kind, REQUEST, STATUS_ERR, STATUS_OK},
};
use crate::{
    memory::DriverMem,
    model::{Answer, Request},
    num,
    queue::ChainError,
};

impl<B: GpioLines, const L: usize> Gpio<B, L> {
    pub(super) fn names<M: DriverMem>(
        &self,
        request: &mut Request<'_, M>,
    ) -> Result<(), ChainError> {
        request.writable.write_all(&[STATUS_OK])?;
        self.names.write(self.count(), &mut request.writable)
    }

    pub(super) fn set_direction(
        &mut self,
        line: u16,
        direction: Direction,
    ) -> Result<(), GpioFailure> {
        let State { value, trigger, .. } = *self.state(line)?;
        let abilities = self.lines.abilities(line);
        let possible = match direction {
            Direction::None => return self.reset_line(line),
            Direction::Output => abilities.contains(Abilities::OUTPUT) && trigger.is_none(),
            Direction::Input => abilities.contains(Abilities::INPUT),
        };
        if !possible {
            return Err(GpioFailure::Rejected);
        }
        let high = value.filter(|_| direction == Direction::Output);
        self.lines.set_direction(line, direction, high)?;
        self.state(line)?.direction = direction;
        Ok(())
    }

    /// Resets all state of a line, except for an eventq buffer that must be returned (gpio-09).
    pub(super) fn reset_line(&mut self, line: u16) -> Result<(), GpioFailure> {
        let state = self.state(line)?;
        let enabled = state.trigger.is_some();
        state.disable();
        let State { buffer, token, .. } = *state;
        *state = State {
            buffer,
            token,
            ..State::NEW
        };
        let disabled = if enabled {
            self.lines.set_trigger(line, None)
        } else {
            Ok(())
        };
        self.lines.set_direction(line, Direction::None, None)?;
        Ok(disabled?)
    }

    pub(super) fn set_value(&mut self, line: u16, high: bool) -> Result<(), GpioFailure> {
        let direction = self.state(line)?.direction;
        if !self.lines.abilities(line).contains(Abilities::OUTPUT) {
            return Err(GpioFailure::Rejected);
        }
        if direction == Direction::Output {
            self.lines.drive(line, high)?;
        }
        self.state(line)?.value = Some(high);
        Ok(())
    }

    pub(super) fn set_trigger(
        &mut self,
        line: u16,
        trigger: Option<Trigger>,
    ) -> Result<(), GpioFailure> {
        let state = *self.state(line)?;
        // An output has no enabled interrupt, so disabling its interrupt has no effect.
        let output = trigger.is_some() && state.direction == Direction::Output;
        if !self.has_irq() || output {
            return Err(GpioFailure::Rejected);
        }
        match (state.trigger, trigger) {
            (None, None) => Ok(()),
            (Some(_), None) => {
                self.state(line)?.disable();
                Ok(self.lines.set_trigger(line, None)?)
            }
            (Some(old), Some(new)) if old == new => Ok(()),
            (_, Some(new)) => self.enable(line, new),
        }
    }

    /// Enables an interrupt, or replaces the trigger of an enabled interrupt. After a replacement,
    /// a kept buffer waits for the new trigger, and a latched edge is discarded.
    pub(super) fn enable(&mut self, line: u16, trigger: Trigger) -> Result<(), GpioFailure> {
        if !self.lines.abilities(line).contains(Abilities::INTERRUPT) {
            return Err(GpioFailure::Rejected);
        }
        let level = self.lines.level(line)?;
        if let Err(error) = self.lines.set_trigger(line, Some(trigger)) {
            self.state(line)?.disable();
            return Err(error.into());
        }
        let state = self.state(line)?;
        state.trigger = Some(trigger);
        state.last = level;
        let waits = state.buffer == EventBuffer::Kept;
        state.fired = waits && !trigger.is_edge() && trigger.fires(level, level);
        Ok(())
    }

    /// Executes a request whose answer is one value. Returns the value.
    pub(super) fn execute(&mut self, kind: Kind, line: u16, value: u32) -> Result<u8, GpioFailure> {
        match kind {
            Kind::LineNames => Err(GpioFailure::Rejected),
            Kind::GetDirection => Ok(self.state(line)?.direction.value()),
            Kind::SetDirection => {
                let direction = Direction::parse(value).ok_or(GpioFailure::Rejected)?;
                self.set_direction(line, direction).map(|()| 0)
            }
            Kind::GetValue => {
                self.state(line)?;
                Ok(self.lines.level(line)?.into())
            }
            Kind::SetValue if value <= 1 => self.set_value(line, value == 1).map(|()| 0),
            Kind::SetValue => Err(GpioFailure::Rejected),
            Kind::SetTrigger => {
                let trigger = Trigger::parse(value).ok_or(GpioFailure::Rejected)?;
                self.set_trigger(line, trigger).map(|()| 0)
            }
        }
    }

    pub(super) fn request<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Answer {
        let mut header = [0; REQUEST];
        let room = request.writable.remaining();
        let outcome = match request.readable.read_exact(&mut header) {
            Ok(()) => {
                let [k, l, a, b, value @ ..] = header;
                let (line, value) = (u16::from_le_bytes([a, b]), u32::from_le_bytes(value));
                match Kind::parse(u16::from_le_bytes([k, l])) {
                    Some(Kind::LineNames) => {
                        let size = self.names_size();
                        if size != 0 && room > size.into() {
                            if let Err(error) = self.names(request) {
                                request.report(error.into());
                            }
                            return done(request);
                        }
                        Err(GpioFailure::Rejected)
                    }
                    // A request whose answer does not fit is not executed.
                    Some(kind) if room >= 2 => self.execute(kind, line, value),
                    _ => Err(GpioFailure::Rejected),
                }
            }
            Err(error) => Err(error.into()),
        };
        let answer = match outcome {
            Ok(value) => [STATUS_OK, value],
            Err(failure) => {
                if let GpioFailure::Host(fault) = failure {
                    request.report(fault);
                }
                [STATUS_ERR, 0]
            }
        };
        let room = num::clamp_index(room).min(answer.len());
        reply(request, answer.get(..room).unwrap_or(&answer))
    }
}

pub(super) fn reply<M: DriverMem>(request: &mut Request<'_, M>, bytes: &[u8]) -> Answer {
    if let Err(error) = request.writable.write_all(bytes) {
        request.report(error.into());
    }
    done(request)
}
