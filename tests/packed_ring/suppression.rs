//! Event suppression in packed rings: which interrupts and kicks each side asks for.

use proptest::prelude::*;
use virtside::{Features, testing::Buffer};
use virtside_tests::DATA;

use crate::{PackedRig, rig};

const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const DESC: u16 = 2;

/// Serves one chain of so many slots; returns whether the driver was interrupted.
fn serve(rig: &mut PackedRig, slots: usize) -> bool {
    rig.driver.send(0, &vec![Buffer::writable(DATA, 1); slots]);
    assert_eq!(rig.pop(), Some(0));
    rig.complete(0);
    assert!(rig.driver.take_used(slots as u16).is_some());
    rig.queue.flush()
}

fn off_wrap(slot: u16, wrap: bool) -> u16 {
    slot | u16::from(wrap) << 15
}

#[test]
fn the_driver_turns_interrupts_on_and_off() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        let mut rig = rig(features, 4);
        assert!(serve(&mut rig, 1));
        rig.driver.set_suppression(0, DISABLE);
        assert!(!serve(&mut rig, 1));
        rig.driver.set_suppression(0, ENABLE);
        assert!(serve(&mut rig, 1));
        assert!(!rig.queue.flush(), "nothing new");
    }
}

#[test]
fn a_descriptor_is_only_asked_for_with_event_idx() {
    let far = off_wrap(3, true);
    let mut with = rig(Features::EVENT_IDX, 4);
    with.driver.set_suppression(far, DESC);
    assert!(!serve(&mut with, 1));
    let mut without = rig(Features::empty(), 4);
    without.driver.set_suppression(far, DESC);
    assert!(serve(&mut without, 1));
    // A reserved value does not suppress interrupts.
    let mut reserved = rig(Features::EVENT_IDX, 4);
    reserved.driver.set_suppression(far, 3);
    assert!(serve(&mut reserved, 1));
}

#[test]
fn a_descriptor_that_does_not_exist_is_never_passed() {
    let mut rig = rig(Features::EVENT_IDX, 4);
    for slot in [4, 5, 0x7fff] {
        for wrap in [false, true] {
            rig.driver.set_suppression(off_wrap(slot, wrap), DESC);
            for _ in 0..9 {
                assert!(!serve(&mut rig, 1));
            }
        }
    }
}

#[test]
fn kicks_are_turned_off_and_on_by_flags() {
    let mut rig = rig(Features::empty(), 4);
    assert_eq!(rig.driver.suppression(), (0, ENABLE));
    rig.queue.disable_kicks();
    assert_eq!(rig.driver.suppression(), (0, DISABLE));
    assert_eq!(rig.queue.enable_kicks(), Ok(false));
    assert_eq!(rig.driver.suppression(), (0, ENABLE));
    rig.queue.disable_kicks();
    rig.driver.send(1, &[Buffer::writable(DATA, 1)]);
    assert_eq!(rig.queue.enable_kicks(), Ok(true), "a chain came meanwhile");
}

#[test]
fn with_event_idx_a_kick_is_asked_for_at_the_next_descriptor() {
    let mut rig = rig(Features::EVENT_IDX, 3);
    assert_eq!(rig.driver.suppression(), (0, ENABLE));
    for (slot, wrap) in [(0, true), (2, true), (1, false), (0, true), (2, true)] {
        assert_eq!(rig.queue.enable_kicks(), Ok(false));
        assert_eq!(rig.driver.suppression(), (off_wrap(slot, wrap), DESC));
        rig.queue.disable_kicks();
        assert_eq!(rig.driver.suppression(), (off_wrap(slot, wrap), DESC));
        serve(&mut rig, 2);
    }
    rig.driver.send(1, &[Buffer::writable(DATA, 1)]);
    assert_eq!(rig.queue.enable_kicks(), Ok(true), "a chain came meanwhile");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The driver asks for an interrupt at a slot up to a round ahead. It is interrupted when that
    /// slot is used, not before, and only once.
    #[test]
    fn an_interrupt_comes_when_the_slot_asked_for_is_used(
        size in 1u16..=16,
        chains in prop::collection::vec((1u16..=4, any::<u16>(), any::<bool>()), 1..60),
    ) {
        let mut rig = rig(Features::EVENT_IDX, size);
        // Slots used since the start, and the slot that was asked for last, as an endless count.
        let (mut used, mut asked) = (0u32, None);
        let mut unflushed = used;
        rig.driver.set_suppression(0, DISABLE);
        for (slots, ahead, flush) in chains {
            let slots = slots.min(size);
            if flush {
                let target = used + u32::from(ahead % size);
                asked = Some(target);
                let wrap = (target / u32::from(size)).is_multiple_of(2);
                let slot = (target % u32::from(size)) as u16;
                rig.driver.set_suppression(off_wrap(slot, wrap), DESC);
            }
            rig.driver.send(0, &vec![Buffer::writable(DATA, 1); usize::from(slots)]);
            prop_assert_eq!(rig.pop(), Some(0));
            rig.complete(0);
            rig.driver.take_used(slots);
            used += u32::from(slots);
            if flush {
                let due = asked.is_some_and(|asked| (unflushed..used).contains(&asked));
                // After more than a round, the requested slot is ambiguous.
                if used - unflushed <= u32::from(size) {
                    prop_assert_eq!(rig.queue.flush(), due);
                } else {
                    rig.queue.flush();
                }
                unflushed = used;
            }
        }
    }
}
