//! Driver memory that is remapped under a live device.

use virtio_spec::DeviceStatus;
use virtside::{
    Features, FlatMem, HostFault, Step,
    device::{QueueState, Stop},
    queue::Chain,
    shared::InterruptStatus,
    testing::{Buffer, FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, BYTES, DATA, Q, SIZE, TestRam, config, driver, engine_over, ram, reg,
    rings::{GuardedMem, Plan, RecordingModel, RecordingRig, settle, shot},
};

/// Moves all driver memory to other host memory, and fills the old memory with garbage.
fn move_away(rig: &mut RecordingRig) -> TestRam {
    let (old, new) = (rig.ram, ram());
    new.write(0, &shot(old));
    old.write(0, &vec![0xdb; BYTES]);
    *rig.engine.memory_mut() = new.flat(BASE);
    assert!(rig.engine.memory_changed().is_done(), "no queue is taken");
    rig.driver = adopt(&rig.driver, new);
    rig.ram = new;
    old
}

/// The same driver over other memory; the rings keep their contents.
fn adopt(old: &FakeDriver<FlatMem>, ram: TestRam) -> FakeDriver<FlatMem> {
    let kept = shot(ram);
    let mut driver = FakeDriver::new(ram.flat(BASE), *old.layout());
    ram.write(0, &kept);
    // The test takes all used elements before each move.
    driver.set_next(old.next_avail(), driver.used_idx());
    driver
}

fn room(len: u32) -> Vec<Buffer> {
    vec![Buffer::writable(DATA, len)]
}

#[test]
fn a_queue_continues_where_its_rings_have_moved_to() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        let mut rig = RecordingRig::new(features);
        for turn in 0..40u16 {
            rig.driver.send(turn % SIZE, &room(turn.into()));
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(
                rig.driver.take_used(),
                Some(((turn % SIZE).into(), turn.into()))
            );
            let old = move_away(&mut rig);
            assert_eq!(rig.driver.used_idx(), turn + 1);
            assert_eq!(rig.fault(), None);
            // A poll of the moved queue does not touch the old memory.
            rig.kick();
            assert_eq!(shot(old), vec![0xdb; BYTES]);
        }
    }
}

#[test]
fn what_was_published_before_the_move_is_served_after_it() {
    let mut rig = RecordingRig::new(Features::empty());
    for head in 0..4 {
        rig.driver.write_chain(head, &room(7));
        rig.driver.offer(head);
    }
    rig.driver.publish();
    let _ = rig.engine.kick(0);
    // Two chains are served before the move, two after it.
    assert_eq!(rig.engine.poll(2), Step::More);
    assert_eq!(rig.driver.used_idx(), 2);
    while rig.driver.take_used().is_some() {}
    let old = move_away(&mut rig);
    assert_eq!(rig.poll(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((2, 7)));
    assert_eq!(rig.driver.take_used(), Some((3, 7)));
    assert_eq!(shot(old), vec![0xdb; BYTES]);
    let mut bytes = [0; 7];
    rig.driver.read(DATA, &mut bytes);
    assert_eq!(bytes, [0xa5; 7]);
}

#[test]
fn a_chain_that_waits_is_answered_where_memory_is_then() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.engine.model_mut().plan = Plan::Wait;
    rig.driver.write(DATA + 0x100, b"sent");
    rig.driver.send(
        5,
        &[Buffer::readable(DATA + 0x100, 4), Buffer::writable(DATA, 8)],
    );
    assert_eq!(rig.kick(), Step::Blocked);
    let token = rig.last().token;
    let old = move_away(&mut rig);
    rig.driver.write(DATA + 0x100, b"kept");
    rig.engine.model_mut().plan = Plan::Fill(3);
    assert_eq!(rig.engine.complete(token), Ok(()));
    assert_eq!(rig.last().sent, b"kept");
    assert_eq!(rig.driver.take_used(), Some((5, 8)));
    assert_eq!(shot(old), vec![0xdb; BYTES]);
}

#[test]
fn a_queue_that_is_ready_but_not_live_moves_too() {
    let (old, new) = (ram(), ram());
    let mut engine = engine_over(RecordingModel::new(Plan::Fill(1)), old.flat(BASE), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(0)).refusal(), None);
    *engine.memory_mut() = new.flat(BASE);
    assert!(engine.memory_changed().is_done());
    let mut driver = driver(new, 0);
    driver.send(0, &room(2));
    assert_eq!(engine.go_live().value(), Some(0));
    assert_eq!(settle(&mut engine), Step::Idle);
    assert_eq!(driver.take_used(), Some((0, 2)));
    assert_eq!(shot(old), vec![0; BYTES]);
}

#[test]
fn a_queue_whose_ring_is_gone_stops_and_others_continue() {
    let layout = Layout::packed_at(BASE, SIZE);
    for gone in [layout.desc, layout.driver + 37, layout.device + 133] {
        let ram = ram();
        let guard = GuardedMem::new(ram.flat(BASE));
        let mut engine = engine_over(RecordingModel::new(Plan::Fill(1)), guard.clone(), 4);
        let configs: Vec<_> = (0..Q as u16).map(config).collect();
        assert!(engine.bring_up(Features::VERSION_1, &configs));
        let mut drivers: Vec<_> = (0..Q as u16).map(|queue| driver(ram, queue)).collect();
        settle(&mut engine);
        engine.model_mut().plan = Plan::Wait;
        for driver in &mut drivers[..2] {
            driver.send(0, &room(3));
        }
        let _ = (engine.kick(0), engine.kick(1));
        assert_eq!(settle(&mut engine), Step::Blocked);
        let tokens: Vec<_> = engine.model().seen.iter().map(|seen| seen.token).collect();

        guard.deny(gone, 1);
        let before = shot(ram);
        assert!(engine.memory_changed().is_done());
        assert_eq!(
            engine.take_host_fault(),
            Some(HostFault::RingGone { queue: 0 })
        );
        assert_eq!(engine.queue_state(0), QueueState::Failed);
        assert_eq!(engine.driver_fault(0), None, "the driver is not at fault");
        assert!(engine.status().contains(DeviceStatus::DEVICE_NEEDS_RESET));
        assert_eq!(
            engine.load(reg::INTERRUPT_STATUS),
            InterruptStatus::CONFIG_CHANGE.bits()
        );
        assert_eq!(engine.model().stopped, [0]);

        // The chain of the stopped queue is abandoned, that of the other queue is not.
        engine.model_mut().plan = Plan::Fill(1);
        assert!(engine.complete(tokens[0]).is_err());
        assert_eq!(shot(ram), before);
        assert_eq!(engine.complete(tokens[1]), Ok(()));
        assert_eq!(drivers[1].take_used(), Some((0, 3)));
        for queue in 1..Q as u16 {
            let driver = &mut drivers[usize::from(queue)];
            driver.send(1, &room(4));
            let _ = engine.kick(queue);
            settle(&mut engine);
            assert_eq!(driver.take_used(), Some((1, 4)));
        }
        assert_eq!(drivers[0].used_idx(), 0);

        // A reset makes the queue work again, once the memory is back.
        guard.allow_all();
        assert!(engine.bring_up(Features::VERSION_1, &configs));
        let mut driver = driver(ram, 0);
        driver.send(0, &room(5));
        let _ = engine.kick(0);
        settle(&mut engine);
        assert_eq!(driver.take_used(), Some((0, 5)));
        assert!(!engine.status().contains(DeviceStatus::DEVICE_NEEDS_RESET));
    }
}

#[test]
fn a_ring_gone_before_driver_ok_is_reported_at_driver_ok() {
    let guard = GuardedMem::new(ram().flat(BASE));
    let mut engine = engine_over(RecordingModel::new(Plan::Fill(1)), guard.clone(), 1);
    assert!(engine.negotiate(Features::VERSION_1));
    assert_eq!(engine.configure(&config(0)).refusal(), None);
    guard.deny(config(0).device, 1);
    assert!(engine.memory_changed().is_done());
    assert_eq!(
        engine.take_host_fault(),
        Some(HostFault::RingGone { queue: 0 })
    );
    // No configuration interrupt is sent before DRIVER_OK.
    assert_eq!(
        (engine.load(reg::STATUS), engine.load(reg::INTERRUPT_STATUS)),
        (0x4b, 0)
    );
    let _ = engine.go_live();
    assert_eq!(
        (engine.load(reg::STATUS), engine.load(reg::INTERRUPT_STATUS)),
        (0x4f, 2)
    );
    assert_eq!(engine.device().notify().asserted(), 1);
    assert_eq!(settle(&mut engine), Step::Idle);
}

#[test]
fn a_change_of_other_memory_changes_nothing() {
    let ram = ram();
    let guard = GuardedMem::new(ram.flat(BASE));
    let mut rig = RecordingRig::over(guard.clone(), ram, Features::empty(), SIZE);
    guard.deny(DATA, 0x1000);
    assert!(rig.engine.memory_changed().is_done());
    assert_eq!((rig.engine.take_host_fault(), rig.interrupts()), (None, 0));
    rig.driver.send(0, &[Buffer::writable(DATA + 0x1000, 6)]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((0, 6)));
}

#[test]
fn a_taken_queue_is_stopped_and_moves_when_put_back() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.poll();
    let mut queue = rig.engine.take_queue(0).expect("the queue is live");
    rig.driver.send(2, &room(3));
    let (mut chain, mem) = (Chain::new(), rig.engine.device().memory().clone());
    assert_eq!(queue.pop(&mem, &mut chain), Ok(true));
    // The owner still works in the old memory.
    assert!(!rig.engine.memory_changed().is_done());
    assert!(queue.is_stopped());
    assert_eq!(queue.complete(&chain, 3), Ok(()));
    assert!(
        !rig.engine.memory_changed().is_done(),
        "the owner has not been told yet"
    );
    assert_eq!(queue.pop(&mem, &mut chain), Err(Stop::Asked));
    assert_eq!(rig.driver.take_used(), Some((2, 3)));
    let old = move_away(&mut rig);
    assert!(rig.engine.put_back(queue).is_ok());
    rig.driver.send(3, &room(4));
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((3, 4)));
    assert_eq!(shot(old), vec![0xdb; BYTES]);
}

#[test]
fn a_taken_queue_whose_ring_is_gone_is_stopped_at_put_back() {
    let ram = ram();
    let guard = GuardedMem::new(ram.flat(BASE));
    let mut rig = RecordingRig::over(guard.clone(), ram, Features::empty(), SIZE);
    let mut queue = rig.engine.take_queue(0).expect("the queue is live");
    guard.deny(rig.driver.layout().device, 1);
    assert!(!rig.engine.memory_changed().is_done());
    assert_eq!(queue.pop(&guard, &mut Chain::new()), Err(Stop::Asked));
    assert!(rig.engine.memory_changed().is_done());
    assert_eq!(
        rig.engine.take_host_fault(),
        None,
        "a taken queue is not checked"
    );
    assert!(rig.engine.put_back(queue).is_ok());
    assert_eq!(
        rig.engine.take_host_fault(),
        Some(HostFault::RingGone { queue: 0 })
    );
    assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
    assert_eq!(rig.interrupts(), 1);
}
