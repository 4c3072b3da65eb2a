//! Interrupts by cause, for interrupts that are messages: MSI-X vectors, or eventfds.

use std::sync::{Arc, Mutex};

use virtside::{
    ChainSlot, DriverNotify, Engine, Features, FlatMem, Shared, Step,
    interrupt::BufferedNotify,
    mmio::Reply,
    shared::InterruptStatus,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, N, Q, TestRam, config, driver,
    probe::{Probe, publish},
    ram, reg, status,
};

/// A call of the interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Used(u16),
    Config,
    Assert,
    Deassert,
}

/// Records its calls. Clones share the record.
#[derive(Clone, Debug, Default)]
struct Record(Arc<Mutex<Vec<Call>>>);

impl Record {
    fn note(&self, call: Call) {
        self.0.lock().unwrap().push(call);
    }

    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl DriverNotify for Record {
    fn assert(&self) {
        self.note(Call::Assert);
    }
    fn deassert(&self) {
        self.note(Call::Deassert);
    }
    fn used(&self, queue: u16) {
        self.note(Call::Used(queue));
    }
    fn config_changed(&self) {
        self.note(Call::Config);
    }
}

type Device<I> = Engine<Probe, FlatMem, I, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

fn device<I: DriverNotify + Clone>(notify: I, ram: TestRam) -> Device<I> {
    let slots = vec![ChainSlot::new(); 4];
    let shared = Arc::new(Shared::new());
    Engine::new(Probe::default(), ram.flat(BASE), notify, slots, shared)
}

/// A live device with queues 0, 1 and 2, and their drivers.
fn live(features: Features) -> (Device<Record>, Record, Vec<FakeDriver<FlatMem>>) {
    let (record, ram) = (Record::default(), ram());
    let mut engine = device(record.clone(), ram);
    let drivers = (0..3).map(|queue| driver(ram, queue)).collect();
    let mut third = config(2);
    third.size = 8;
    assert!(engine.bring_up(features, &[config(0), config(1), third]));
    engine.poll(BUDGET);
    record.take();
    (engine, record, drivers)
}

#[test]
fn each_queue_with_used_buffers_is_named_once() {
    let (mut engine, record, mut drivers) = live(Features::VERSION_1);
    for queue in [0, 2] {
        for text in ["one", "two"] {
            publish(&mut drivers[usize::from(queue)], queue, text.as_bytes());
        }
        assert_eq!(engine.kick(queue), Reply::Done(0));
    }
    assert_eq!(engine.poll(BUDGET), Step::Idle);
    assert_eq!(record.take(), [Call::Used(0), Call::Used(2), Call::Assert]);
}

#[test]
fn a_queue_whose_driver_wants_no_interrupt_is_not_named() {
    let (mut engine, record, mut drivers) = live(Features::VERSION_1);
    drivers[0].set_avail_flags(1);
    for queue in [0, 1] {
        publish(&mut drivers[usize::from(queue)], queue, b"text");
        assert_eq!(engine.kick(queue), Reply::Done(0));
    }
    engine.poll(BUDGET);
    assert_eq!(record.take(), [Call::Used(1), Call::Assert]);
}

#[test]
fn a_queue_that_breaks_is_named_before_the_configuration() {
    let (mut engine, record, mut drivers) = live(Features::VERSION_1);
    publish(&mut drivers[1], 1, b"text");
    assert_eq!(engine.kick(1), Reply::Done(0));
    assert_eq!(engine.poll(1), Step::More);
    assert_eq!(record.take(), [Call::Used(1), Call::Assert]);
    publish(&mut drivers[1], 1, b"text");
    let idx = drivers[1].next_avail();
    drivers[1].set_avail_entry(idx, 99);
    drivers[1].set_avail_idx(idx.wrapping_add(1));
    assert_eq!(engine.kick(1), Reply::Done(0));
    engine.poll(BUDGET);
    let calls = record.take();
    assert_eq!(
        calls,
        [Call::Used(1), Call::Assert, Call::Config, Call::Assert]
    );
}

#[test]
fn a_change_of_the_configuration_is_named() {
    let (mut engine, record, _) = live(Features::VERSION_1);
    engine.update_config(|model| model.space[0] = 77);
    assert_eq!(record.take(), [Call::Config, Call::Assert]);
}

#[test]
fn a_needed_reset_is_a_change_of_the_configuration() {
    let (mut engine, record, _) = live(Features::VERSION_1);
    engine.require_reset();
    assert_eq!(record.take(), [Call::Config, Call::Assert]);
    engine.require_reset();
    assert_eq!(record.take(), []);
}

#[test]
fn a_taken_queue_names_itself() {
    let (mut engine, record, mut drivers) = live(Features::VERSION_1);
    let mut taken = engine.take_queue(1).expect("a live queue");
    publish(&mut drivers[1], 1, b"text");
    let mut slots = [ChainSlot::new()];
    let served = taken.serve(
        engine.device().memory(),
        &mut Probe::default(),
        &mut slots,
        BUDGET,
    );
    assert_eq!(served, Ok(Step::Idle));
    assert_eq!(record.take(), [Call::Used(1), Call::Assert]);
}

#[test]
fn pending_interrupts_of_a_restored_device_name_every_queue() {
    let (mut engine, _, mut drivers) = live(Features::VERSION_1);
    publish(&mut drivers[1], 1, b"text");
    assert_eq!(engine.kick(1), Reply::Done(0));
    engine.poll(BUDGET);
    let mem = engine.device().memory().clone();
    let state = engine.save::<4>().expect("no queue is taken");
    let record = Record::default();
    let slots = vec![ChainSlot::new(); 4];
    let shared = Arc::new(Shared::new());
    let mut restored: Device<Record> =
        Engine::new(Probe::default(), mem, record.clone(), slots, shared);
    restored.restore(&state).expect("a saved state");
    let mut calls = record.take();
    calls.retain(|call| *call != Call::Deassert);
    let named = [0, 1, 2, 3].map(Call::Used);
    assert_eq!(calls[..4], named);
    assert_eq!(calls[4..], [Call::Assert]);
}

#[test]
fn a_change_while_suspended_is_named_on_resume() {
    let (mut engine, record, _) = live(Features::VERSION_1 | Features::SUSPEND);
    assert_eq!(
        engine.store(reg::STATUS, status::LIVE_SUSPEND),
        Reply::Done(0)
    );
    engine.update_config(|model| model.space[0] = 77);
    assert_eq!(record.take(), []);
    assert_eq!(
        engine.store(reg::STATUS, status::LIVE_SUSPEND),
        Reply::Done(0)
    );
    assert_eq!(record.take(), [Call::Config, Call::Assert]);
}

#[test]
fn a_buffered_interrupt_keeps_its_causes() {
    let record = Record::default();
    let buffered = BufferedNotify::new(record.clone());
    for _ in 0..2 {
        for queue in [31, 0] {
            buffered.used(queue);
            buffered.assert();
        }
        buffered.config_changed();
        buffered.assert();
    }
    assert_eq!(record.take(), []);
    buffered.flush();
    let all = [Call::Used(0), Call::Used(31), Call::Config, Call::Assert];
    assert_eq!(record.take(), all);
    buffered.flush();
    assert_eq!(record.take(), []);
    buffered.used(32);
    assert_eq!(record.take(), [Call::Used(32)], "not held back");
}

#[test]
fn a_reset_discards_what_is_held_back() {
    let record = Record::default();
    let buffered = BufferedNotify::new(record.clone());
    buffered.used(3);
    buffered.config_changed();
    buffered.assert();
    buffered.deassert();
    assert_eq!(record.take(), [Call::Deassert]);
    buffered.flush();
    assert_eq!(record.take(), []);
}

#[test]
fn an_interrupt_is_exchanged_while_the_device_lives() {
    let (mut engine, record, mut drivers) = live(Features::VERSION_1);
    let other = Record::default();
    *engine.notify_mut() = other.clone();
    publish(&mut drivers[0], 0, b"text");
    assert_eq!(engine.kick(0), Reply::Done(0));
    engine.poll(BUDGET);
    assert_eq!(record.take(), []);
    assert_eq!(other.take(), [Call::Used(0), Call::Assert]);
    assert_eq!(
        engine.device().shared().interrupt_status(),
        InterruptStatus::USED_BUFFER
    );
}
