//! Which batches cause an interrupt. The event that the driver asked for may be anywhere in a
//! batch, of which only the first position is written.

use virtside::Features;
use virtside_tests::in_order::{FORMATS, Format, HolderRig};

/// Sends chains of one descriptor, full where `bits` has a one; returns whether there was an
/// interrupt.
fn batch(rig: &mut HolderRig, count: usize, bits: usize) -> bool {
    let before = rig.interrupts();
    let first = rig.engine.counters().chains as usize;
    rig.choose(move |asked| {
        Some(if bits & (1 << (asked.number - first)) == 0 {
            1
        } else {
            2
        })
    });
    rig.send(&vec![2; count]);
    rig.engine.model_mut().asked.clear();
    assert_eq!(rig.take().len(), count);
    let sent = rig.interrupts() - before;
    assert!(sent <= 1, "at most one interrupt");
    sent == 1
}

#[test]
fn a_batch_interrupts_once_unless_interrupts_are_disabled() {
    for &format in FORMATS {
        let mut rig = HolderRig::new(format, Features::empty());
        for (round, quiet) in [false, true, true, false].into_iter().enumerate() {
            match format {
                Format::Split => rig.driver().split().set_avail_flags(quiet.into()),
                #[cfg(feature = "packed")]
                Format::Packed => rig.driver().packed().set_suppression(0, quiet.into()),
            }
            for bits in 0..16 {
                assert_eq!(batch(&mut rig, 4, bits), !quiet, "{format:?} {round}");
            }
        }
        let counters = rig.engine.counters();
        assert_eq!((counters.interrupts, counters.suppressed), (32, 32));
    }
}

#[test]
fn only_an_event_index_within_a_batch_interrupts() {
    let mut rig = HolderRig::new(Format::Split, Features::EVENT_IDX);
    let mut fired = [0; 2];
    // Until the index has wrapped.
    while rig.engine.counters().chains < 70_000 {
        for count in 1..=5 {
            for bits in 0..1 << count {
                let offset = rig.engine.counters().chains as u16 % 11;
                let old = rig.engine.counters().chains as u16;
                let event = old.wrapping_add(offset).wrapping_sub(3);
                rig.driver().split().set_used_event(event);
                let asked_for = (0..count as u16).any(|at| old.wrapping_add(at) == event);
                assert_eq!(
                    batch(&mut rig, count, bits),
                    asked_for,
                    "event {event}, {count} chains from {old} on, {bits:b}"
                );
                fired[usize::from(asked_for)] += 1;
            }
        }
    }
    assert!(fired.iter().all(|fired| *fired > 1_000), "{fired:?}");
}

#[test]
fn an_event_index_far_away_does_not_interrupt() {
    let mut rig = HolderRig::new(Format::Split, Features::EVENT_IDX);
    for event in [0x7fff, 0x8000, 0xffff] {
        rig.driver().split().set_used_event(event);
        for bits in 0..8 {
            assert!(!batch(&mut rig, 3, bits), "{event:#x}");
        }
    }
}

#[test]
fn answers_that_waited_interrupt_if_one_has_the_event() {
    for event in 0..8u16 {
        let mut rig = HolderRig::new(Format::Split, Features::EVENT_IDX);
        rig.driver().split().set_used_event(event);
        rig.send(&[4; 6]);
        for number in [2, 1, 4] {
            rig.answer(number, 4);
            assert_eq!(rig.interrupts(), 0);
        }
        rig.answer(0, 4);
        assert_eq!(rig.interrupts() == 1, event < 3, "{event}");
        let before = rig.interrupts();
        rig.answer(3, 4);
        assert_eq!(rig.interrupts() - before == 1, event == 3 || event == 4);
        assert_eq!(rig.driver().numbers(), [0, 1, 2, 3, 4]);
    }
}

#[test]
#[cfg(feature = "packed")]
fn only_a_descriptor_event_within_a_batch_interrupts() {
    use virtside::testing::Buffer;

    /// `RING_EVENT_FLAGS_DESC`
    const DESC: u16 = 2;
    for size in [4u16, 5, 16] {
        let mut rig = HolderRig::sized(Format::Packed, Features::EVENT_IDX, size);
        let (mut slot, mut wrap, mut number) = (0, true, 0);
        let mut fired = [0; 2];
        // Every position of the ring, in either round, and two that do not exist.
        for event in (0..size + 2).chain(0..size) {
            for event_wrap in [true, false] {
                for (chains, slots) in [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)] {
                    for is_full in [true, false] {
                        let off_wrap = event | u16::from(event_wrap) << 15;
                        rig.driver().packed().set_suppression(off_wrap, DESC);
                        let mut asked_for = false;
                        for _ in 0..chains * slots {
                            asked_for |= (slot, wrap) == (event, event_wrap);
                            slot += 1;
                            if slot == size {
                                (slot, wrap) = (0, !wrap);
                            }
                        }
                        rig.choose(move |asked| Some(asked.room - u32::from(!is_full)));
                        for _ in 0..chains {
                            let buffers = vec![Buffer::writable(virtside_tests::DATA, 2); slots];
                            rig.driver().send(&buffers);
                        }
                        let before = rig.interrupts();
                        rig.kick(0);
                        let fired_now = rig.interrupts() - before;
                        // A driver that asks for a position that does not exist may get an
                        // interrupt at any end of the ring.
                        assert!(
                            fired_now == asked_for.into() || event >= size && fired_now == 1,
                            "{off_wrap:#x} of {size}: {chains} of {slots} up to {slot}, {wrap}"
                        );
                        let end = number + chains;
                        assert_eq!(rig.driver().numbers(), (number..end).collect::<Vec<_>>());
                        number = end;
                        fired[usize::from(asked_for)] += 1;
                    }
                }
            }
        }
        assert!(fired.iter().all(|fired| *fired > 5), "{fired:?}");
    }
}
