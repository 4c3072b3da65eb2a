//! What a driver made of the lines, and the lines put back so.

use heapless::Vec;

use super::{Abilities, Direction, EventBuffer, Gpio, GpioLines, Trigger, state::State};
use crate::{
    model::{SaveModel, SavedWith},
    num,
    snapshot::{SnapshotError, check_version},
};

/// What a driver made of a [`Gpio`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GpioSnapshot<const L: usize> {
    /// [`GpioSnapshot::VERSION`] when it was made.
    pub version: u16,
    /// All `L` lines, from line 0 on.
    pub lines: Vec<LineSnapshot, L>,
}

impl<const L: usize> GpioSnapshot<L> {
    /// The version of its layout; others are refused.
    pub const VERSION: u16 = 1;
}

/// What a driver made of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LineSnapshot {
    /// Its direction.
    pub direction: Direction,
    /// How it is driven as an output, now or later.
    pub value: Option<bool>,
    /// What its interrupt is enabled for.
    pub trigger: Option<Trigger>,
    /// The level that was last sensed.
    pub last: bool,
    /// It interrupted, and the driver was not told.
    pub fired: bool,
    /// Its buffer among the chains in hand.
    pub buffer: EventBuffer,
}

impl LineSnapshot {
    /// Whether a driver can have made this of a line that can do so much, with interrupts or without.
    fn is_possible(&self, abilities: Abilities, interrupts: bool) -> bool {
        let can = |ability| abilities.contains(ability);
        let directed = match self.direction {
            Direction::None => true,
            Direction::Output => can(Abilities::OUTPUT) && self.trigger.is_none(),
            Direction::Input => can(Abilities::INPUT),
        };
        let enabled = self.trigger.is_none() || can(Abilities::INTERRUPT) && interrupts;
        // A level is remembered only for a buffer that waits for it.
        let remembers = self
            .trigger
            .is_some_and(|trigger| trigger.is_edge() || self.buffer == EventBuffer::Kept);
        let in_hand = match self.buffer {
            EventBuffer::None => true,
            EventBuffer::Kept => self.trigger.is_some(),
            EventBuffer::Void => interrupts,
        };
        directed
            && enabled
            && in_hand
            && (self.value.is_none() || can(Abilities::OUTPUT))
            && (!self.fired || remembers)
    }
}

/// The lines are put back: each direction, how outputs are driven, then each trigger, with at most two
/// calls for each line. A change of level between the two moments is noticed by
/// [`sense`](Gpio::sense).
impl<B: GpioLines, const L: usize> SaveModel for Gpio<B, L> {
    type Snapshot = GpioSnapshot<L>;

    fn save(&self) -> GpioSnapshot<L> {
        let line = |state: &State| LineSnapshot {
            direction: state.direction,
            value: state.value,
            trigger: state.trigger,
            last: state.last,
            fired: state.fired,
            buffer: state.buffer,
        };
        GpioSnapshot {
            version: GpioSnapshot::<L>::VERSION,
            lines: self.states.iter().map(line).collect(),
        }
    }

    fn restore(
        &mut self,
        snapshot: &GpioSnapshot<L>,
        with: SavedWith,
    ) -> Result<(), SnapshotError> {
        check_version(snapshot.version, GpioSnapshot::<L>::VERSION)?;
        if self.states.iter().any(|state| *state != State::NEW) {
            return Err(SnapshotError::NotInReset);
        }
        let (count, interrupts) = (self.count(), self.has_irq());
        for (line, at) in snapshot.lines.iter().zip(0u16..) {
            let possible = if at < count && with.started {
                line.is_possible(self.lines.abilities(at), interrupts)
            } else {
                *line == LineSnapshot::default()
            };
            if !possible {
                return Err(SnapshotError::Model { at });
            }
        }
        if snapshot.lines.len() != L {
            let at = num::clamp_u16(snapshot.lines.len());
            return Err(SnapshotError::Model { at });
        }
        for (line, at) in snapshot.lines.iter().zip(0..count) {
            let put_back = self.put_back(at, line);
            if put_back.is_err() {
                self.release();
                return Err(SnapshotError::Backend { at });
            }
        }
        Ok(())
    }
}

impl<B: GpioLines, const L: usize> Gpio<B, L> {
    fn put_back(&mut self, at: u16, line: &LineSnapshot) -> Result<(), super::GpioError> {
        if let Ok(state) = self.state(at) {
            *state = State {
                direction: line.direction,
                value: line.value,
                trigger: line.trigger,
                last: line.last,
                fired: line.fired,
                buffer: line.buffer,
                token: None,
            };
        }
        let LineSnapshot {
            direction, value, ..
        } = *line;
        if direction != Direction::None {
            let high = value.filter(|_| direction == Direction::Output);
            self.lines.set_direction(at, direction, high)?;
        }
        if line.trigger.is_some() {
            self.lines.set_trigger(at, line.trigger)?;
        }
        Ok(())
    }
}
