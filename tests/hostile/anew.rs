//! A device that is built anew over the shared block of an earlier device.

use std::sync::Arc;

use virtside::{
    ChainSlot, Engine, Features, Refusal, Shared, interrupt::CountingNotify, queue::Chain,
    testing::Registers,
};
use virtside_tests::{
    BASE, Line, N, Q, TestEngine, TestRam, config, driver,
    probe::{Probe, publish, reset_queue},
    ram,
};

const FEATURES: Features = Features::VERSION_1.union(Features::RING_RESET);

fn device(ram: TestRam, shared: &Arc<Shared<Q>>) -> TestEngine<Probe> {
    let line: Line = Box::leak(Box::<CountingNotify>::default());
    let slots = vec![ChainSlot::new()];
    Engine::new(
        Probe::default(),
        ram.flat(BASE),
        line,
        slots,
        shared.clone(),
    )
}

#[test]
fn a_chain_of_the_last_device_over_a_block_is_stale() {
    let (ram, shared) = (ram(), Arc::new(Shared::new()));
    let mut old = device(ram, &shared);
    assert!(old.bring_up(FEATURES, &[config(0)]));
    let mut kept = Vec::new();
    for _ in 0..140 {
        let mut driver = driver(ram, 0);
        publish(&mut driver, 0, b"kept");
        let mut queue = old.take_queue(0).expect("it is live");
        let mut chain = Chain::<N>::new();
        assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
        kept.push(chain);
        drop(queue);
        let _ = reset_queue(&mut old, 0);
        assert_eq!(old.configure(&config(0)).refusal(), None);
    }
    let _ = old.store(0x70, 0);
    drop(old);

    let mut new = device(ram, &shared);
    assert!(new.bring_up(FEATURES, &[config(0)]));
    publish(&mut driver(ram, 0), 0, b"new");
    let mut queue = new.take_queue(0).expect("it is live");
    let mut chain = Chain::<N>::new();
    assert_eq!(queue.pop(&ram.flat(BASE), &mut chain), Ok(true));
    for (life, old) in kept.iter().enumerate() {
        let stale = Err(Refusal::StaleToken.into());
        assert_eq!(queue.complete(old, 0), stale, "of life {life}");
    }
}
