//! Random valid and invalid chains, under each policy, on both ring formats.

use virtside::{
    Features,
    device::Counters,
    error::FaultPolicy,
    testing::{Buffer, Registers},
};
use virtside_tests::{
    BASE, DATA,
    differential::{Form, Ring, mixes},
    in_order::Format,
    ram,
    random::Random,
    reg,
    rings::{Plan, RecordingModel, settle},
};

use super::{NEEDS_RESET, POLICIES};

/// What a driver can see of an invalid chain.
#[derive(Debug, Default)]
struct Seen {
    fine: u32,
    rejected: u32,
    stopped: u32,
}

fn play(policy: FaultPolicy, format: Format, mix: Features, random: &mut Random) -> Seen {
    let mut seen = Seen::default();
    let memory = ram();
    let mut engine =
        virtside_tests::engine_over(RecordingModel::new(Plan::Fill(7)), memory.flat(BASE), 4)
            .with_offer(virtside_tests::differential::offer())
            .with_policy(policy);
    for _ in 0..12 {
        let features = mix | Features::VERSION_1 | format.features();
        let ring = |queue| Ring::new(memory, format, queue, mix.contains(Features::IN_ORDER));
        let (mut bad, mut other) = (ring(0), ring(1));
        assert!(engine.bring_up(features, &[bad.config(), other.config()]));
        for _ in 0..30 {
            let mut buffers = random.cut(DATA, 20, false);
            buffers.extend(random.cut(DATA + 0x100, 30, true));
            if random.once_in(5) {
                random.spoil(&mut buffers);
            }
            let form = match random.form(mix, &buffers) {
                // Another test covers where a packed chain without an end stops.
                Form::TableWithNext => Form::OddTable(7),
                form => form,
            };
            let before = engine.counters();
            bad.send(&buffers, form, DATA + 0x1000);
            let _ = engine.kick(0);
            settle(&mut engine);
            let Counters { rejected, .. } = engine.counters();
            let rejected = rejected.wrapping_sub(before.rejected);
            let fault = engine.driver_fault(0);
            let status = engine.load(reg::STATUS) & NEEDS_RESET != 0;
            let pending = engine.load(reg::INTERRUPT_STATUS);
            let given = bad.take();
            if fault.is_none() {
                // The chain came back. A rejected chain has the length 0.
                assert_eq!(given.len(), 1, "{buffers:?} {form:?}");
                assert!(rejected == 0 || given[0].len == 0);
                // With EVENT_IDX, the driver asked for one interrupt.
                let asked = mix.contains(Features::EVENT_IDX);
                assert!(!status && (pending == 1 || asked && pending == 0));
                assert!(rejected == 0 || policy == FaultPolicy::Reject);
                assert_eq!(
                    rejected != 0,
                    engine.last_rejected(0).is_some() && rejected != 0
                );
                seen.rejected += rejected;
                seen.fine += 1 - rejected;
                let _ = engine.store(reg::INTERRUPT_ACK, pending);
                continue;
            }
            seen.stopped += 1;
            assert_ne!(
                policy,
                FaultPolicy::Reject,
                "{fault:?} {buffers:?} {form:?}"
            );
            assert!(given.is_empty());
            assert_eq!(status, policy == FaultPolicy::NeedsReset);
            assert_eq!(pending, if status { 2 } else { 0 });
            // This queue returns nothing more, and the other queue continues.
            bad.send(&[Buffer::writable(DATA, 1)], Form::Direct, DATA);
            other.send(&[Buffer::writable(DATA, 5)], Form::Direct, DATA);
            let _ = engine.kick(0);
            let _ = engine.kick(1);
            settle(&mut engine);
            assert!(bad.take().is_empty());
            assert_eq!(engine.driver_fault(0), fault);
            assert_eq!(other.take().iter().map(|given| given.len).sum::<u32>(), 5);
            assert_eq!(engine.load(reg::STATUS) & NEEDS_RESET != 0, status);
            assert_eq!(engine.load(reg::INTERRUPT_STATUS), pending | 1);
            break;
        }
    }
    assert_eq!(engine.take_host_fault(), None);
    seen
}

#[test]
fn the_policy_decides_about_random_chains_on_both_rings() {
    for policy in POLICIES {
        for format in [Format::Split, Format::Packed] {
            let mut random = Random::new(0x7777_1234_5678);
            let mut seen = Seen::default();
            for mix in mixes() {
                let more = play(policy, format, mix, &mut random);
                seen.fine += more.fine;
                seen.rejected += more.rejected;
                seen.stopped += more.stopped;
            }
            let rejects = policy == FaultPolicy::Reject;
            assert!(seen.fine > 300, "{policy:?} {format:?} {seen:?}");
            assert_eq!(
                seen.rejected > 100,
                rejects,
                "{policy:?} {format:?} {seen:?}"
            );
            assert_eq!(
                seen.stopped > 50,
                !rejects,
                "{policy:?} {format:?} {seen:?}"
            );
        }
    }
}
