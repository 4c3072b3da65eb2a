//! Snapshot of the GPIO device.

use heapless::Vec;

use super::{Abilities, Direction, EventBuffer, Gpio, GpioLines, Trigger, state::State};
use crate::{
    model::{SaveModel, SavedWith},
    num,
    snapshot::{SnapshotError, check_version},
};

/// The state of a [`Gpio`] device that its driver can change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GpioSnapshot<const L: usize> {
    /// Value of [`GpioSnapshot::VERSION`] when the state was saved.
    pub version: u16,
    /// The states of all `L` lines, starting with line 0.
    pub lines: Vec<LineSnapshot, L>,
}

impl<const L: usize> GpioSnapshot<L> {
    /// Version of the layout. A restore refuses other versions.
    pub const VERSION: u16 = 1;
}

/// The state of one line that the driver can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LineSnapshot {
    /// Direction of the line.
    pub direction: Direction,
    /// Value that the driver set. While the line is an output, it is driven to this value.
    pub value: Option<bool>,
    /// Trigger that the interrupt is enabled for.
    pub trigger: Option<Trigger>,
    /// Level of the line when it was last read. True means high.
    pub last: bool,
    /// The line interrupted, and the device has not returned a buffer for this interrupt yet.
    pub fired: bool,
    /// The state of the line's eventq buffer.
    pub buffer: EventBuffer,
}

impl LineSnapshot {
    /// Returns whether a driver can bring a line with these abilities into this state. `interrupts`
    /// says whether `VIRTIO_GPIO_F_IRQ` was negotiated.
    fn is_possible(&self, abilities: Abilities, interrupts: bool) -> bool {
        let can = |ability| abilities.contains(ability);
        let directed = match self.direction {
            Direction::None => true,
            Direction::Output => can(Abilities::OUTPUT) && self.trigger.is_none(),
            Direction::Input => can(Abilities::INPUT),
        };
        let enabled = self.trigger.is_none() || can(Abilities::INTERRUPT) && interrupts;
        // A level counts as fired only while a kept buffer waits for it.
        let may_fire = self
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
            && (!self.fired || may_fire)
    }
}

/// A restore sets the direction of each line, with the value of an output, and then the trigger. A
/// restore takes at most two calls to the bank for each line. [`sense`](Gpio::sense) detects a
/// change of level between the save and the restore.
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

    fn is_reset(&self) -> bool {
        self.states.iter().all(|state| *state == State::NEW)
    }

    fn restore(
        &mut self,
        snapshot: &GpioSnapshot<L>,
        with: SavedWith,
    ) -> Result<(), SnapshotError> {
        check_version(snapshot.version, GpioSnapshot::<L>::VERSION)?;
        if !self.is_reset() {
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
