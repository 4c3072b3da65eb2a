//! Suspending, suspended, and failed on the way.

use super::*;

#[test]
fn suspending_with_a_chain_in_hand() {
    for features in rings() {
        let (mut guest, mut client, ram) = live(features);
        guest.model_mut().holds = true;
        assert!(client.send(false));
        assert_eq!(guest.poll(BUDGET), Step::Blocked);
        let status = guest.load(reg::STATUS);
        assert_eq!(guest.store(reg::STATUS, status | 16), Reply::Done(0));
        assert_eq!(guest.phase(), Phase::Suspending);
        // Not taken any more.
        assert!(client.send(false));
        let mut guest = carry(guest, ram);
        assert_eq!(guest.load(reg::STATUS), 15, "it is not suspended yet");
        let mut guest = carry(guest, ram);
        guest.model_mut().holds = false;
        let _ = virtside_tests::drain(&mut guest);
        assert_eq!(client.reap(), 1, "what was in hand, and no more");
        assert_eq!(guest.load(reg::STATUS), 11 | 16);
        let mut guest = carry(guest, ram);
        assert_eq!(guest.phase(), Phase::Suspended);
        assert_eq!(guest.store(reg::STATUS, 15), Reply::Done(0));
        let _ = virtside_tests::drain(&mut guest);
        assert_eq!(client.reap(), 1);
        client.assert_works(&mut guest);
    }
}

/// Suspended, with nothing in hand.
fn suspended() -> (Guest<Probe>, Client, TestRam) {
    let (mut guest, client, ram) = live(PLAIN);
    let _ = guest.poll(BUDGET);
    assert_eq!(guest.store(reg::STATUS, 15 | 16), Reply::Done(0));
    assert_eq!(guest.load(reg::STATUS), 11 | 16);
    assert_eq!(guest.phase(), Phase::Suspended);
    (guest, client, ram)
}

#[test]
fn suspended_with_a_configuration_change_that_is_held_back() {
    let (mut guest, mut client, ram) = suspended();
    guest.update_config(|_| ());
    assert_eq!(pending(&mut guest), 0);
    let mut guest = carry(guest, ram);
    assert!(client.send(false));
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(client.reap(), 0);
    assert_eq!(guest.store(reg::STATUS, 15), Reply::Done(0));
    assert_eq!(pending(&mut guest), 2, "now it is heard");
    let _ = virtside_tests::drain(&mut guest);
    assert_eq!(client.reap(), 1);
}

#[test]
fn a_configuration_change_before_driver_ok_is_heard_after_it() {
    let (mut guest, ram) = device();
    let client = Client::new(ram, 0, PLAIN);
    assert!(guest.negotiate(PLAIN));
    guest.update_config(|_| ());
    let mut guest = carry(guest, ram);
    assert_eq!(guest.configure(&client.config()), Reply::Done(0));
    assert_eq!(pending(&mut guest), 0);
    assert_eq!(guest.go_live(), Reply::Done(0));
    assert_eq!(pending(&mut guest), 2);
}

#[test]
fn failed_from_everywhere() {
    for status in [0, 1, 3, 11, 15] {
        let (mut guest, ram) = device();
        if status == 15 {
            assert!(guest.bring_up(PLAIN, &[config(0)]));
        } else if status == 11 {
            assert!(guest.negotiate(PLAIN));
            assert_eq!(guest.configure(&config(0)), Reply::Done(0));
        } else if status != 0 {
            let _ = guest.store(reg::STATUS, status);
        }
        assert_eq!(guest.store(reg::STATUS, status | 128), Reply::Done(0));
        let mut guest = carry(guest, ram);
        assert_eq!(guest.phase(), Phase::Failed);
        assert_eq!(guest.poll(BUDGET), Step::Idle);
        assert!(guest.store(reg::STATUS, 0x8f).refusal().is_some() || status == 15);
        let mut guest = carry(guest, ram);
        assert_reset_cures(&mut guest, ram);
    }
}

#[test]
fn failed_with_chains_in_hand() {
    let (mut guest, mut client, ram) = live(PLAIN);
    client.assert_works(&mut guest);
    guest.model_mut().holds = true;
    assert!(client.send(false));
    let _ = guest.poll(BUDGET);
    assert_eq!(guest.store(reg::STATUS, 15 | 128), Reply::Done(0));
    let mut guest = carry(guest, ram);
    assert_eq!(guest.poll(BUDGET), Step::Idle);
    assert_eq!(client.reap(), 0);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn failed_while_suspended() {
    let (mut guest, _, ram) = suspended();
    assert_eq!(guest.store(reg::STATUS, 11 | 16 | 128), Reply::Done(0));
    assert_eq!(guest.phase(), Phase::Failed);
    let mut guest = carry(guest, ram);
    assert_eq!(guest.load(reg::STATUS), 11 | 16 | 128);
    assert_reset_cures(&mut guest, ram);
}

#[test]
fn failed_while_suspending() {
    let (mut guest, mut client, ram) = live(PLAIN);
    guest.model_mut().holds = true;
    assert!(client.send(false));
    let _ = guest.poll(BUDGET);
    assert_eq!(guest.store(reg::STATUS, 15 | 16), Reply::Done(0));
    assert_eq!(guest.store(reg::STATUS, 15 | 16 | 128), Reply::Done(0));
    assert_eq!(guest.phase(), Phase::Failed);
    let mut guest = carry(guest, ram);
    assert_eq!(guest.load(reg::STATUS), 15 | 128);
    assert_reset_cures(&mut guest, ram);
}
