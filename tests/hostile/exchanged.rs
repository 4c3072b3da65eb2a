//! A bus whose device is exchanged while it owes a reply.

use virtside::{
    features::Features,
    mmio::{Access, RegisterBlock, Reply},
    testing::Registers,
};
use virtside_std::Bus;
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
