//! The cost of a taken queue to its owner, and of putting it back.

use super::*;

#[test]
fn a_taken_queue_in_order_keeps_within_its_bounds() {
    for load in [Load::Loop, Load::BadHead] {
        let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Fill(1)), 1);
        assert!(engine.bring_up(Features::RING | Features::IN_ORDER, &[config(0)]));
        settle(&mut engine);
        let mut queue = engine.take_queue(0).expect("queue 0 is live");
        let mut driver = driver(ram, 0);
        Load::Short(2).write(&mut driver);
        let mut chain = Chain::new();
        for _ in 0..2 {
            assert_eq!(queue.pop(engine.device().memory(), &mut chain), Ok(true));
            counts.clear();
            assert_eq!(queue.complete(&chain, 1), Ok(()));
            assert_eq!(counts.rings(), 0, "the chain is full");
        }
        counts.clear();
        assert!(queue.flush());
        assert_eq!(counts.rings(), 3);
        // The next chain is full, too; then the driver breaks the ring.
        Load::Short(1).write(&mut driver);
        assert_eq!(queue.pop(engine.device().memory(), &mut chain), Ok(true));
        assert_eq!(queue.complete(&chain, 1), Ok(()));
        if let Load::Loop = load {
            load.write(&mut driver);
        } else {
            driver.set_avail_entry(driver.next_avail(), SIZE);
            driver.set_avail_idx(driver.next_avail() + 1);
        }
        counts.clear();
        let popped = queue.pop(engine.device().memory(), &mut chain);
        assert!(matches!(popped, Err(Stop::Driver(_))), "{popped:?}");
        assert!(counts.rings() <= N as u32 + 2 + 2 + 2, "{}", counts.rings());
        assert_eq!(driver.used_idx(), 3, "every chain was returned");
    }
}

#[test]
fn putting_back_costs_one_access_plus_two_a_chain_in_order() {
    for (order, most) in [(Features::empty(), 1), (Features::IN_ORDER, 3)] {
        for event in [Features::empty(), Features::EVENT_IDX] {
            for chains in [0, 1, 2, 16] {
                let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Fill(1)), 1);
                let plain = Features::RING.difference(Features::EVENT_IDX);
                assert!(engine.bring_up(plain | order | event, &[config(0)]));
                settle(&mut engine);
                let mut queue = engine.take_queue(0).expect("queue 0 is live");
                let mut driver = driver(ram, 0);
                Load::Short(chains).write(&mut driver);
                let mut chain = Chain::new();
                for _ in 0..chains {
                    assert_eq!(queue.pop(engine.device().memory(), &mut chain), Ok(true));
                    assert_eq!(queue.complete(&chain, 1), Ok(()));
                }
                counts.clear();
                assert!(engine.put_back(queue).is_ok());
                assert!(counts.rings() <= most, "{order:?} {event:?} {chains}");
                assert!(chains == 0 || counts.rings() == most);
                assert_eq!(driver.used_idx(), chains);
            }
        }
    }
}

#[test]
fn a_queue_that_comes_back_costs_one_store() {
    let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Fill(1)), 1);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(engine.bring_up(Features::RING, &configs));
    settle(&mut engine);
    for queue in 0..Q as u16 {
        Load::Short(1).write(&mut driver(ram, queue));
    }
    let _ = engine.store(0x30, 0);
    counts.clear();
    for (offset, value) in [(0xc0, 1), (0x70, 0x1f), (0x70, 0x1b), (0x70, 0x1f)] {
        assert_eq!(engine.store(offset, value), Reply::Done(0));
        for offset in (0..0x100).step_by(4) {
            let _ = engine.access(Access::read(offset));
        }
    }
    engine.lay_out(&configs[0]);
    assert_eq!(counts.rings(), 0);
    assert_eq!(engine.store(0x44, 1), Reply::Done(0));
    assert_eq!((counts.rings(), counts.stores()), (1, 1));
    // A queue that fails its check costs no store.
    assert_eq!(engine.store(0xc0, 1), Reply::Done(0));
    counts.clear();
    assert!(
        engine.configure(&configs[1]).refusal().is_none(),
        "queue 0 is ready"
    );
    let mut odd = configs[0];
    odd.size = 3;
    assert!(engine.configure(&odd).refusal().is_some());
    assert_eq!(counts.rings(), 0);
}

#[test]
fn a_taken_queue_keeps_within_its_bounds() {
    let bound = N as u32 + 2;
    for features in [Features::VERSION_1, Features::RING] {
        for load in LOADS {
            let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Fill(1)), 1);
            assert!(engine.bring_up(features, &[config(0)]));
            settle(&mut engine);
            let mut queue = engine.take_queue(0).expect("queue 0 is live");
            load.write(&mut driver(ram, 0));
            let mut chain = Chain::new();
            counts.clear();
            let popped = queue.pop(engine.device().memory(), &mut chain);
            let more = if popped.is_err() { 2 } else { 0 };
            assert!(counts.rings() <= bound + more, "{load:?}: {popped:?}");
            if popped != Ok(true) {
                continue;
            }
            // After a request to stop, the queue is quiet once its owner gives the chain back.
            let _ = engine.store(0x70, 0);
            let mut none = Chain::new();
            assert_eq!(
                queue.pop(engine.device().memory(), &mut none),
                Err(Stop::Asked)
            );
            counts.clear();
            assert_eq!(queue.complete(&chain, 1), Ok(()));
            assert_eq!(counts.rings(), 3);
        }
    }
}
