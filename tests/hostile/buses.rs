//! A bus whose devices vanish, are exchanged, or are finished behind its back.

use virtside::{
    Refusal, Step,
    features::Features,
    mmio::{Access, RegisterBlock, Reply},
    testing::Registers,
};
use virtside_std::{Bus, BusError, Served};
use virtside_tests::{
    TestEngine, config,
    probe::{Probe, probe},
    reg,
};

/// A live device at 0x1000 whose reset waits for the owner of its queue, and one at 0x2000.
fn waiting() -> (
    Bus<Box<TestEngine<Probe>>>,
    impl Sized,
    virtside::mmio::Ticket,
) {
    let (mut one, _) = probe();
    assert!(one.bring_up(Features::VERSION_1, &[config(0)]));
    let taken = one.take_queue(0).expect("it is live");
    let mut bus = Bus::new();
    bus.attach(0x1000..0x1200, Box::new(one))
        .expect("it is free");
    bus.attach(0x2000..0x2200, Box::new(probe().0))
        .expect("it is free");
    let Reply::Pending(ticket) = bus.access(Access::write(0x1000 + reg::STATUS, 0)) else {
        panic!("its queue is out");
    };
    assert_eq!(bus.access(Access::read(0x2000)), Reply::Busy);
    (bus, taken, ticket)
}

#[test]
fn a_wrong_ticket_leaves_the_right_one_valid() {
    let (mut bus, taken, ticket) = waiting();
    // The ticket of a device that never gave one.
    let wrong = probe().0.transport().ticket();
    assert_ne!(wrong, ticket);
    drop(taken);
    let stale = Reply::Refused(Refusal::StaleTicket);
    assert_eq!(bus.finish(wrong), stale);
    assert_eq!(bus.access(Access::read(0x2000)), Reply::Busy);
    assert_eq!(bus.finish(ticket), Reply::Done(0));
    assert_eq!(bus.finish(ticket), stale);
}

#[test]
fn a_detached_device_leaves_a_hole_that_can_be_filled() {
    let mut bus: Bus<Box<TestEngine<Probe>>> = Bus::new();
    for start in [0x1000, 0x2000, 0x3000] {
        bus.attach(start..start + 0x200, Box::new(probe().0))
            .expect("it is free");
    }
    // The poll stops before the second device, which then vanishes.
    assert_eq!(bus.poll(1), Step::More);
    assert!(bus.detach(0x2000).is_some());
    assert!(bus.detach(0x2000).is_none());
    assert_eq!(bus.poll(64), Step::Idle);
    let hole = Reply::Refused(Refusal::NoSuchRegister { offset: 0x2000 });
    assert_eq!(bus.access(Access::read(0x2000)), hole);
    // A larger one over the hole and one byte more.
    let over = bus.attach(0x1200..0x3001, Box::new(probe().0));
    assert_eq!(
        over,
        Err(BusError::Overlap {
            range: 0x1200..0x3001,
            with: 0x3000..0x3200
        })
    );
    assert_eq!(bus.attach(0x1200..0x3000, Box::new(probe().0)), Ok(()));
    assert_eq!(bus.access(Access::read(0x1200)), Reply::Done(0x7472_6976));
    // Across the end of one and the start of the next.
    let across = Access::Read {
        offset: 0x11fe,
        width: 4,
    };
    assert_eq!(
        bus.access(across),
        Reply::Refused(Refusal::NoSuchRegister { offset: 0x11fe })
    );
}

#[test]
fn a_device_at_the_end_of_the_address_space_is_reachable() {
    let mut bus: Bus<Box<TestEngine<Probe>>> = Bus::new();
    let start = u32::MAX - 0x103;
    bus.attach(start..u32::MAX, Box::new(probe().0))
        .expect("it is free");
    assert_eq!(bus.access(Access::read(start)), Reply::Done(0x7472_6976));
    for offset in [u32::MAX - 2, u32::MAX - 1, u32::MAX] {
        let refused = Reply::Refused(Refusal::NoSuchRegister { offset });
        assert_eq!(bus.access(Access::read(offset)), refused);
    }
}

#[test]
fn a_device_exchanged_while_it_owes_a_reply_frees_the_bus() {
    let (mut bus, taken, ticket) = waiting();
    // The host gives up a device that does not answer, and puts another in its place.
    **bus.device_mut(0x1000).expect("it is there") = probe().0;
    drop(taken);
    let _ = bus.finish(ticket);
    assert_eq!(bus.access(Access::read(0x2000)), Reply::Done(0x7472_6976));
}

#[test]
fn a_reply_finished_behind_the_back_of_the_bus_frees_it() {
    let (mut bus, taken, ticket) = waiting();
    drop(taken);
    let device = bus.device_mut(0x1000).expect("it is there");
    assert_eq!(device.finish(ticket), Reply::Done(0));
    let _ = bus.finish(ticket);
    assert_eq!(bus.access(Access::read(0x2000)), Reply::Done(0x7472_6976));
}
