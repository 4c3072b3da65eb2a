//! Ring contents and chains in hand across a restore: both formats, with each order and
//! suppression, at every position.

use virtside::{
    Features, Step,
    mmio::Reply,
    queue::Chain,
    testing::{Buffer, Registers},
};
use virtside_tests::{BASE, BUDGET, DATA, N, probe::pending, reg};

use crate::support::{Ring, live, move_device, rings, save};

#[test]
fn at_every_position_of_the_ring_and_past_its_end() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        for round in 0..40 {
            engine.model_mut().holds = true;
            for one in 0..3 {
                assert!(client.send(one == round % 3));
            }
            let _ = engine.kick(0);
            let _ = engine.poll(BUDGET);
            engine = move_device(engine, ram);
            engine.model_mut().holds = false;
            let _ = virtside_tests::drain(&mut engine);
            assert_eq!(client.reap(), 3);
            engine = move_device(engine, ram);
        }
        assert_eq!(client.answered, 120);
        assert_eq!(engine.driver_fault(0), None);
    }
}

#[test]
fn past_the_end_of_the_indices() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        // Just before 2^16 requests.
        for _ in 0..10_922 {
            for _ in 0..6 {
                assert!(client.send(false));
            }
            let _ = virtside_tests::drain(&mut engine);
            let _ = engine.kick(0);
            let _ = virtside_tests::drain(&mut engine);
            assert_eq!(client.reap(), 6);
        }
        for _ in 0..8 {
            engine.model_mut().holds = true;
            assert!(client.send(false) && client.send(true));
            let _ = engine.kick(0);
            let _ = engine.poll(BUDGET);
            engine = move_device(engine, ram);
            engine.model_mut().holds = false;
            let _ = virtside_tests::drain(&mut engine);
            assert_eq!(client.reap(), 2);
        }
        assert!(client.answered > 1 << 16);
    }
}

#[test]
fn chains_answered_before_their_turn_keep_their_answers() {
    for features in rings() {
        if !features.contains(Features::IN_ORDER) {
            continue;
        }
        let (mut engine, mut client, ram) = live(features);
        engine.model_mut().holds = true;
        for _ in 0..5 {
            assert!(client.send(false));
        }
        let _ = engine.poll(BUDGET);
        let held = engine.model().held.clone();
        for token in [held[1], held[2], held[4]] {
            engine.complete(token).expect("the chain is pending");
        }
        assert_eq!(client.reap(), 0, "the first is not answered yet");
        let state = save(&mut engine);
        let answered: Vec<bool> = (state.device.chains.iter())
            .map(|chain| chain.answered.is_some())
            .collect();
        assert_eq!(answered, [false, true, true, false, true]);
        let mut engine = move_device(engine, ram);
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        let held = engine.model().held.clone();
        assert_eq!(
            held.len(),
            2,
            "the model is not asked again for answered chains"
        );
        engine.complete(held[1]).expect("the chain is pending");
        assert_eq!(client.reap(), 0);
        let mut engine = move_device(engine, ram);
        engine.model_mut().holds = false;
        let _ = virtside_tests::drain(&mut engine);
        assert_eq!(client.reap(), 5);
        client.assert_works(&mut engine);
    }
}

#[test]
fn kicks_suppressed_before_a_save_are_enabled_again() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        let _ = virtside_tests::drain(&mut engine);
        for _ in 0..4 {
            assert!(client.send(false));
        }
        let _ = engine.kick(0);
        // The poll is not finished, so the device will poll again by itself.
        assert_eq!(engine.poll(2), Step::More);
        let state = save(&mut engine);
        let off = state.device.queues[0]
            .ring
            .expect("the queue is live")
            .kicks_off;
        assert_eq!(off, !features.contains(Features::EVENT_IDX));
        let mut engine = move_device(engine, ram);
        assert_eq!(virtside_tests::drain(&mut engine), Step::Idle);
        assert_eq!(client.reap(), 4);
        let wanted = match &client.ring {
            Ring::Split(driver) if features.contains(Features::EVENT_IDX) => {
                driver.avail_event() == driver.next_avail()
            }
            Ring::Split(driver) => driver.used_flags() == 0,
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                let (slot, wrap) = driver.next_avail();
                let here = slot | if wrap { 1 << 15 } else { 0 };
                driver.suppression() == (0, 0) || driver.suppression() == (here, 2)
            }
        };
        assert!(wanted, "{features:?}: kicks are wanted");
    }
}

#[test]
fn interrupts_are_asked_for_as_before() {
    for features in rings() {
        if !features.contains(Features::EVENT_IDX) {
            continue;
        }
        let (mut engine, mut client, ram) = live(features);
        // The driver asks for an interrupt for the third request.
        match &client.ring {
            Ring::Split(driver) => driver.set_used_event(2),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.set_suppression(4 | 1 << 15, 2),
        }
        for round in 1..=4 {
            assert!(client.send(false));
            let _ = engine.kick(0);
            let _ = virtside_tests::drain(&mut engine);
            let wanted = u32::from(round == 3);
            assert_eq!(pending(&mut engine), wanted, "{features:?} {round}");
            let _ = engine.store(reg::INTERRUPT_ACK, 1);
            engine = move_device(engine, ram);
        }
        assert_eq!(client.reap(), 4);
    }
}

#[test]
fn chains_that_an_owner_abandoned_stay_abandoned() {
    // With IN_ORDER, such a queue cannot be put back.
    let kinds = rings()
        .into_iter()
        .filter(|features| !features.contains(Features::IN_ORDER));
    for features in kinds {
        let (mut engine, mut client, ram) = live(features);
        client.assert_works(&mut engine);
        for _ in 0..3 {
            assert!(client.send(false));
        }
        let mut taken = engine.take_queue(0).expect("the queue is live");
        let mem = ram.flat(BASE);
        let mut chains = [const { Chain::<N>::new() }; 3];
        for chain in &mut chains {
            assert_eq!(taken.pop(&mem, chain), Ok(true));
        }
        // The last chain is abandoned.
        taken.abandon(&chains[2]);
        for chain in &chains[..2] {
            let text = chain.readable_len();
            let mut bytes = vec![0; text as usize];
            embedded_io::Read::read_exact(&mut chain.readable(&mem), &mut bytes).expect("bytes");
            embedded_io::Write::write_all(&mut chain.writable(&mem), &bytes).expect("room");
            taken
                .complete(chain, text as u32)
                .expect("the chain is in flight");
        }
        assert!(engine.put_back(taken).is_ok());
        assert_eq!(client.reap(), 2);
        client.abandon_oldest();
        let state = save(&mut engine);
        let ring = state.device.queues[0].ring.expect("the queue is live");
        assert_eq!(ring.abandoned, if is_packed(features) { 2 } else { 1 });
        let mut engine = move_device(engine, ram);
        client.assert_works(&mut engine);
        let mut engine = move_device(engine, ram);
        client.assert_works(&mut engine);
    }
}

fn is_packed(features: Features) -> bool {
    features.contains(Features::RING_PACKED)
}

#[test]
fn a_ring_that_is_full_of_chains_in_hand() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        engine.model_mut().holds = true;
        while client.send(false) {}
        assert_eq!(client.in_flight(), 6);
        let _ = engine.poll(BUDGET);
        let mut engine = move_device(engine, ram);
        let mut more = 0;
        // More chains than fit.
        while client.send(true) {
            more += 1;
        }
        assert_eq!(more, 0);
        engine.model_mut().holds = false;
        let _ = virtside_tests::drain(&mut engine);
        assert_eq!(client.reap(), 6);
        client.assert_works(&mut engine);
    }
}

#[test]
fn a_split_ring_of_which_every_element_is_in_hand() {
    let ram = virtside_tests::ram();
    let features = Features::RING;
    let make = || virtside_tests::engine_over(crate::support::model(features), ram.flat(BASE), 16);
    let mut engine = make();
    let mut driver = virtside_tests::driver(ram, 0);
    assert!(engine.bring_up(features, &[driver.config(0)]));
    engine.model_mut().holds = true;
    for round in 0..3 {
        for head in 0..16 {
            let at = DATA + 0x20 * u64::from(head);
            driver.send(head, &[Buffer::writable(at, 8)]);
        }
        let _ = engine.kick(0);
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        assert_eq!(
            engine.save::<15>().err(),
            Some(virtside::Refusal::QueueBusy { queue: 0 })
        );
        let state = engine.save::<16>().expect("there is room");
        assert_eq!(state.device.chains.len(), 16);
        engine = make();
        engine.restore(&state).expect("the snapshot is valid");
        assert_eq!(virtside_tests::drain(&mut engine), Step::Idle);
        for head in 0..16 {
            assert_eq!(driver.take_used(), Some((head, 0)), "round {round}");
        }
        engine.model_mut().holds = true;
    }
    assert_eq!(engine.kick(0), Reply::Done(0));
}
