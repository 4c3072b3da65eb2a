//! Driver memory that is remapped while a queue is taken.

use virtside::{
    FlatMem, HostFault, Step,
    device::{QueueState, Stop},
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, BYTES, TestRam, layout,
    probe::{answer, assert_works, pending, publish},
    ram, reg,
};

use crate::{in_flight, mem, out, serve_one};

/// The same bytes in other host memory.
fn moved(from: TestRam) -> TestRam {
    let to = ram();
    let mut bytes = vec![0; BYTES];
    from.read(0, &mut bytes);
    to.write(0, &bytes);
    to
}

/// The same driver in other memory.
fn follow(driver: &FakeDriver<FlatMem>, to: TestRam) -> FakeDriver<FlatMem> {
    let (avail, used) = (driver.next_avail(), driver.used_idx());
    // `new` zeroes the rings, so their contents are written again.
    let mut bytes = vec![0; 0x1000];
    to.read(0, &mut bytes);
    let mut driver = FakeDriver::new(to.flat(BASE), layout(0));
    to.write(0, &bytes);
    driver.set_next(avail, used);
    driver
}

#[test]
fn a_change_of_memory_moves_a_taken_queue_when_it_is_put_back() {
    let mut o = out();
    publish(&mut o.driver, 0, b"before");
    assert_eq!(serve_one(&mut o.queue, &mem(o.ram), &mut o.chain), Ok(true));
    let to = moved(o.ram);
    *o.engine.memory_mut() = to.flat(BASE);
    assert!(
        !o.engine.memory_changed().is_done(),
        "the owner was not told yet"
    );
    assert!(!o.engine.memory_changed().is_done());
    assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
    assert!(o.engine.memory_changed().is_done());
    assert!(o.engine.put_back(o.queue).is_ok());
    assert_eq!(o.engine.queue_state(0), QueueState::Live);
    assert_eq!(o.engine.load(reg::STATUS), 15);

    let mut old = [0; 0x2000];
    o.ram.read(0, &mut old);
    let mut driver = follow(&o.driver, to);
    assert_works(&mut o.engine, &mut driver, 0);
    let mut now = [0; 0x2000];
    o.ram.read(0, &mut now);
    assert!(old == now, "the old memory was touched");
    // The queue can be taken again, and works there too.
    let mut queue = o.engine.take_queue(0).expect("a live queue");
    publish(&mut driver, 0, b"after");
    assert_eq!(
        serve_one(&mut queue, &to.flat(BASE), &mut o.chain),
        Ok(true)
    );
    assert_eq!(answer(&mut driver, 0).as_deref(), Some(&b"after"[..]));
}

#[test]
fn a_chain_in_flight_keeps_the_old_memory_in_use() {
    let mut o = in_flight();
    let to = moved(o.ram);
    *o.engine.memory_mut() = to.flat(BASE);
    assert!(!o.engine.memory_changed().is_done());
    assert_eq!(
        o.queue.pop(&mem(o.ram), &mut o.chain.clone()),
        Err(Stop::Asked)
    );
    assert!(!o.engine.memory_changed().is_done(), "a chain is in flight");
    o.queue.abandon(&o.chain);
    assert!(o.engine.memory_changed().is_done());
}

#[test]
fn chains_given_back_before_the_change_interrupt() {
    let mut o = in_flight();
    assert_eq!(o.queue.complete(&o.chain, 0), Ok(()));
    let to = moved(o.ram);
    *o.engine.memory_mut() = to.flat(BASE);
    assert!(!o.engine.memory_changed().is_done());
    // The owner serves batches, and flushes when no chain is left.
    assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
    o.queue.flush();
    assert!(o.engine.put_back(o.queue).is_ok());
    assert_eq!(o.engine.poll(BUDGET), Step::Idle);
    assert_eq!(pending(&mut o.engine), 1);
}

#[test]
fn a_taken_queue_whose_rings_are_gone_has_failed_at_put_back() {
    let mut o = out();
    *o.engine.memory_mut() = o.ram.flat(BASE + 0x100_0000);
    assert!(!o.engine.memory_changed().is_done());
    // Queue 1, which the device itself serves, fails at once.
    assert_eq!(o.engine.queue_state(1), QueueState::Failed);
    assert_eq!(
        o.engine.take_host_fault(),
        Some(HostFault::RingGone { queue: 1 })
    );
    assert_eq!(o.queue.pop(&mem(o.ram), &mut o.chain), Err(Stop::Asked));
    assert!(o.engine.memory_changed().is_done());
    assert!(o.engine.put_back(o.queue).is_ok());
    assert_eq!(o.engine.queue_state(0), QueueState::Failed);
    assert_eq!(
        o.engine.take_host_fault(),
        Some(HostFault::RingGone { queue: 0 })
    );
    assert_eq!(o.engine.load(reg::STATUS), 15 | 64);
    assert_eq!(pending(&mut o.engine), 2);
    assert_eq!(o.engine.device().notify().asserted(), 1);
    assert_eq!(o.engine.poll(BUDGET), Step::Idle);
}
