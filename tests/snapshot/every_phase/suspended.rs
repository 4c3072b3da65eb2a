//! Saved and restored devices that are suspending, suspended, or failed from either.

use super::*;

#[test]
fn suspending_with_a_chain_in_hand() {
    for features in rings() {
        let (mut engine, mut client, ram) = live(features);
        engine.model_mut().holds = true;
        assert!(client.send(false));
        assert_eq!(engine.poll(BUDGET), Step::Blocked);
        let status = engine.load(reg::STATUS);
        assert_eq!(engine.store(reg::STATUS, status | 16), Reply::Done(0));
        assert_eq!(engine.phase(), Phase::Suspending);
        // A new chain is not taken any more.
        assert!(client.send(false));
        let mut engine = move_device(engine, ram);
        assert_eq!(
            engine.load(reg::STATUS),
            15,
            "the device is not suspended yet"
        );
        let mut engine = move_device(engine, ram);
        engine.model_mut().holds = false;
        let _ = virtside_tests::drain(&mut engine);
        assert_eq!(client.reap(), 1, "only the chain in hand is answered");
        assert_eq!(engine.load(reg::STATUS), 11 | 16);
        let mut engine = move_device(engine, ram);
        assert_eq!(engine.phase(), Phase::Suspended);
        assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
        let _ = virtside_tests::drain(&mut engine);
        assert_eq!(client.reap(), 1);
        client.assert_works(&mut engine);
    }
}

/// A suspended device with no chain in hand.
fn suspended() -> (TestEngine<Probe>, Client, TestRam) {
    let (mut engine, client, ram) = live(PLAIN);
    let _ = engine.poll(BUDGET);
    assert_eq!(engine.store(reg::STATUS, 15 | 16), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 11 | 16);
    assert_eq!(engine.phase(), Phase::Suspended);
    (engine, client, ram)
}

#[test]
fn suspended_with_a_configuration_change_that_is_held_back() {
    let (mut engine, mut client, ram) = suspended();
    engine.update_config(|_| ());
    assert_eq!(pending(&mut engine), 0);
    let mut engine = move_device(engine, ram);
    assert!(client.send(false));
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(client.reap(), 0);
    assert_eq!(engine.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(
        pending(&mut engine),
        2,
        "the configuration change is pending"
    );
    let _ = virtside_tests::drain(&mut engine);
    assert_eq!(client.reap(), 1);
}

#[test]
fn a_configuration_change_before_driver_ok_is_sent_after_it() {
    let (mut engine, ram) = device();
    let client = Client::new(ram, 0, PLAIN);
    assert!(engine.negotiate(PLAIN));
    engine.update_config(|_| ());
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.configure(&client.config()), Reply::Done(0));
    assert_eq!(pending(&mut engine), 0);
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_eq!(pending(&mut engine), 2);
}

#[test]
fn failed_from_everywhere() {
    for status in [0, 1, 3, 11, 15] {
        let (mut engine, ram) = device();
        if status == 15 {
            assert!(engine.bring_up(PLAIN, &[config(0)]));
        } else if status == 11 {
            assert!(engine.negotiate(PLAIN));
            assert_eq!(engine.configure(&config(0)), Reply::Done(0));
        } else if status != 0 {
            let _ = engine.store(reg::STATUS, status);
        }
        assert_eq!(engine.store(reg::STATUS, status | 128), Reply::Done(0));
        let mut engine = move_device(engine, ram);
        assert_eq!(engine.phase(), Phase::Failed);
        assert_eq!(engine.poll(BUDGET), Step::Idle);
        assert!(engine.store(reg::STATUS, 0x8f).refusal().is_some() || status == 15);
        let mut engine = move_device(engine, ram);
        assert_reset_cures(&mut engine, ram);
    }
}

#[test]
fn failed_with_chains_in_hand() {
    let (mut engine, mut client, ram) = live(PLAIN);
    client.assert_works(&mut engine);
    engine.model_mut().holds = true;
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    assert_eq!(engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(client.reap(), 0);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn failed_while_suspended() {
    let (mut engine, _, ram) = suspended();
    assert_eq!(engine.store(reg::STATUS, 11 | 16 | 128), Reply::Done(0));
    assert_eq!(engine.phase(), Phase::Failed);
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.load(reg::STATUS), 11 | 16 | 128);
    assert_reset_cures(&mut engine, ram);
}

#[test]
fn failed_while_suspending() {
    let (mut engine, mut client, ram) = live(PLAIN);
    engine.model_mut().holds = true;
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    assert_eq!(engine.store(reg::STATUS, 15 | 16), Reply::Done(0));
    assert_eq!(engine.store(reg::STATUS, 15 | 16 | 128), Reply::Done(0));
    assert_eq!(engine.phase(), Phase::Failed);
    let mut engine = move_device(engine, ram);
    assert_eq!(engine.load(reg::STATUS), 15 | 128);
    assert_reset_cures(&mut engine, ram);
}
