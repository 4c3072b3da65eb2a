//! A packed ring compared with a model of an endless ring: ids that collide, answers in any order,
//! chains that are given back twice, events at any slot of either round.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use virtside::{
    DriverFault, Features,
    device::Stop,
    queue::Chain,
    testing::{AVAIL, Buffer, PackedDriver, USED},
};
use virtside_tests::{DATA, N};

use crate::{PackedRig, rig};

const DISABLE: u16 = 1;
const DESC: u16 = 2;

/// A ring and its expected state. Slots are counted from the start of the queue and never wrap.
struct World {
    rig: PackedRig,
    size: u64,
    event_idx: bool,
    /// Slots up to which the driver made descriptors available, the device took them, and the
    /// device gave them back.
    offered: u64,
    taken: u64,
    used: u64,
    /// Slots given back when the interrupt was last decided.
    interrupt_decided: u64,
    /// Slots that the driver has taken back.
    got: u64,
    sent: VecDeque<(u16, u64)>,
    held: Vec<(Chain<N>, u64)>,
    given: VecDeque<(u16, u64, u32)>,
    /// Chains that were given back; the test tries to give them back again.
    stale: Vec<Chain<N>>,
    asked: (u16, u16),
    kicks_off: bool,
    broken: bool,
}

impl World {
    fn new(features: Features, size: u16) -> Self {
        Self {
            rig: rig(features, size),
            size: size.into(),
            event_idx: features.contains(Features::EVENT_IDX),
            offered: 0,
            taken: 0,
            used: 0,
            interrupt_decided: 0,
            got: 0,
            sent: VecDeque::new(),
            held: Vec::new(),
            given: VecDeque::new(),
            stale: Vec::new(),
            asked: (0, 0),
            kicks_off: false,
            broken: false,
        }
    }

    fn place(&self, slot: u64) -> (u16, bool) {
        (
            (slot % self.size) as u16,
            (slot / self.size).is_multiple_of(2),
        )
    }

    /// A slot in the form of event suppression structures.
    fn off_wrap(&self, slot: u64) -> u16 {
        let (slot, wrap) = self.place(slot);
        slot | u16::from(wrap) << 15
    }

    fn is_busy(&self, id: u16) -> bool {
        let held = self.held.iter().any(|(chain, _)| chain.head() == id);
        held || self.sent.iter().any(|sent| sent.0 == id)
    }

    fn send(&mut self, id: u16, slots: u64) {
        let buffers = vec![Buffer::writable(DATA, 9); slots as usize];
        self.rig.driver.send(id, &buffers);
        self.offered += slots;
        self.sent.push_back((id, slots));
    }

    fn pop(&mut self) -> Result<(), TestCaseError> {
        let popped = self.rig.queue.pop(&self.rig.mem, &mut self.rig.chain);
        let Some((id, slots)) = self.sent.pop_front() else {
            prop_assert_eq!(popped, Ok(false));
            return Ok(());
        };
        if self.held.iter().any(|(chain, _)| chain.head() == id) {
            let fault = DriverFault::HeadInFlight { head: id };
            prop_assert_eq!(popped, Err(Stop::Driver(fault)));
            self.broken = true;
            return Ok(());
        }
        prop_assert_eq!(popped, Ok(true));
        prop_assert_eq!(self.rig.chain.head(), id);
        prop_assert_eq!(self.rig.chain.segments().len() as u64, slots);
        self.taken += slots;
        self.held.push((self.rig.chain.clone(), slots));
        prop_assert_eq!(usize::from(self.rig.queue.in_flight()), self.held.len());
        Ok(())
    }

    fn complete(&mut self, which: usize, written: u32) -> Result<(), TestCaseError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let (chain, slots) = self.held.swap_remove(which % self.held.len());
        prop_assert_eq!(self.rig.queue.complete(&chain, written), Ok(()));
        self.used += slots;
        self.given.push_back((chain.head(), slots, written));
        self.stale.push(chain);
        prop_assert_eq!(usize::from(self.rig.queue.in_flight()), self.held.len());
        Ok(())
    }

    /// Gives nothing back a second time, even if a chain with the same id is in flight again.
    fn complete_again(&mut self, which: usize) -> Result<(), TestCaseError> {
        if self.stale.is_empty() {
            return Ok(());
        }
        let stale = &self.stale[self.stale.len() - 1 - which % self.stale.len()];
        prop_assert!(self.rig.queue.complete(stale, 1).is_err());
        prop_assert_eq!(usize::from(self.rig.queue.in_flight()), self.held.len());
        Ok(())
    }

    fn take(&mut self) -> Result<(), TestCaseError> {
        let Some((id, slots, written)) = self.given.pop_front() else {
            prop_assert_eq!(self.rig.driver.take_used(1), None);
            return Ok(());
        };
        let used = self.rig.driver.take_used(slots as u16);
        prop_assert_eq!(used, Some((id, written, written != 0)));
        self.got += slots;
        Ok(())
    }

    fn ask(&mut self, flags: u16, off_wrap: u16) {
        self.rig.driver.set_suppression(off_wrap, flags);
        self.asked = (flags, off_wrap);
    }

    fn flush(&mut self) -> Result<(), TestCaseError> {
        let flushed = self.rig.queue.flush();
        let (flags, off_wrap) = self.asked;
        let passed = self.interrupt_decided..self.used;
        self.interrupt_decided = self.used;
        // After more than a round, the driver cannot tell which round's slot it asked for.
        if passed.end - passed.start > self.size {
            return Ok(());
        }
        let wanted = match flags {
            DISABLE => false,
            DESC if self.event_idx => passed.clone().any(|slot| self.off_wrap(slot) == off_wrap),
            _ => !passed.is_empty(),
        };
        let slot = u64::from(off_wrap & 0x7fff);
        if flags != DESC || slot < self.size {
            prop_assert_eq!(flushed, wanted, "{:x} {:?}", off_wrap, passed);
        }
        Ok(())
    }

    fn enable_kicks(&mut self) -> Result<(), TestCaseError> {
        let there = self.rig.queue.enable_kicks();
        let asks = self.event_idx || self.kicks_off;
        prop_assert_eq!(there, Ok(asks && self.taken < self.offered));
        self.kicks_off = false;
        let expected = if self.event_idx {
            (self.off_wrap(self.taken), DESC)
        } else {
            (0, 0)
        };
        prop_assert_eq!(self.rig.driver.suppression(), expected);
        Ok(())
    }

    /// Gives the first slot that is not available the flags of the next or the previous round.
    fn mislead(&mut self, which: usize) {
        if self.offered - self.got == self.size {
            return;
        }
        let (slot, wrap) = self.rig.driver.next_avail();
        let used_before = if wrap { 0 } else { AVAIL | USED };
        let flags = [
            PackedDriver::<virtside::FlatMem>::available(!wrap),
            used_before,
        ][which % 2];
        self.rig.driver.write_desc(slot, (DATA, 4), 1, flags);
    }
}

/// An id in its home slot, or one that shares its home slot with many.
fn id(number: u16) -> u16 {
    match number % 3 {
        0 => number / 3 % 16,
        1 => number / 3 % 4096 * 16 + 3,
        _ => number / 3 % 64 * 1024 + number / 200 % 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_of_any_size_behaves_like_an_endless_ring(
        event_idx in any::<bool>(),
        size in prop::sample::select(vec![1_u16, 2, 3, 5, 7, 15, 16]),
        near in any::<bool>(),
        steps in vec((0u8..22, any::<u16>(), 1u64..=5), 1..300),
    ) {
        let features = if event_idx { Features::EVENT_IDX } else { Features::empty() };
        let mut world = World::new(features, size);
        for (what, number, slots) in steps {
            if world.broken {
                break;
            }
            let which = usize::from(number);
            let free = world.size - (world.offered - world.got);
            match what {
                0..5 if free != 0 => {
                    let id = if near { number % 16 } else { id(number) };
                    // Sometimes exactly as many slots as there are up to the ring's end.
                    let to_end = world.size - world.offered % world.size;
                    let slots = match number % 5 {
                        0 => free,
                        1 if to_end <= free => to_end,
                        _ => slots.min(free),
                    };
                    if !world.is_busy(id) || number % 64 == 0 {
                        world.send(id, slots);
                    }
                }
                5..9 => world.pop()?,
                9..12 => world.complete(which, u32::from(number % 3))?,
                12 => world.complete_again(which % 40)?,
                13..16 => world.take()?,
                16 => {
                    let slot = world.used.saturating_sub(2) + slots - 1;
                    let off_wrap = world.off_wrap(slot);
                    world.ask(DESC, off_wrap);
                }
                17 => world.ask(number % 4, number),
                18 => world.flush()?,
                19 => world.enable_kicks()?,
                20 => {
                    world.rig.queue.disable_kicks();
                    world.kicks_off |= !event_idx;
                    if world.kicks_off {
                        prop_assert_eq!(world.rig.driver.suppression(), (0, DISABLE));
                    }
                }
                21 => world.mislead(which),
                _ => {}
            }
        }
    }
}
