//! A taken queue that is served with a model.

use virtside::{
    ChainSlot, DriverFault, Features, FlatMem, HostFault, Refusal, Step,
    device::{QueueState, Stop},
    error::FaultPolicy,
    features::Offer,
    mmio::Reply,
    testing::{FakeDriver, Registers},
};
use virtside_tests::{
    BUDGET, N, TestEngine, config, driver,
    probe::{Event, Probe, answer, pending, probe, publish},
    rings::{Plan, RecordingModel},
    test_engine,
};

use crate::{Queue, mem};

/// A device whose queue 0 is taken, and what its owner has.
struct Owner {
    engine: TestEngine<Probe>,
    driver: FakeDriver<FlatMem>,
    mem: FlatMem,
    queue: Queue,
    model: Probe,
    slots: Vec<ChainSlot<N>>,
}

fn owner_with(features: Features, policy: FaultPolicy) -> Owner {
    let (engine, ram) = probe();
    let mut engine = engine
        .with_policy(policy)
        .with_offer(Offer::AS_IS.with(Features::IN_ORDER));
    let driver = driver(ram, 0);
    assert!(engine.bring_up(features, &[config(0), config(1)]));
    let queue = engine.take_queue(0).expect("a live queue");
    Owner {
        engine,
        driver,
        mem: mem(ram),
        queue,
        model: Probe::default(),
        slots: vec![ChainSlot::new(); 4],
    }
}

fn owner() -> Owner {
    owner_with(Features::VERSION_1, FaultPolicy::NeedsReset)
}

impl Owner {
    fn serve(&mut self, budget: u16) -> Result<Step, Stop> {
        self.queue
            .serve(&self.mem, &mut self.model, &mut self.slots, budget)
    }

    fn publish(&mut self, text: &str) {
        publish(&mut self.driver, 0, text.as_bytes());
    }

    #[track_caller]
    fn answered(&mut self, text: &str) {
        let found = answer(&mut self.driver, 0);
        assert_eq!(found.as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn requests_are_answered_and_announced_once() {
    let mut owner = owner();
    for text in ["one", "two", "three"] {
        owner.publish(text);
    }
    let raised = owner.engine.device().notify().asserted();
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    for text in ["one", "two", "three"] {
        owner.answered(text);
    }
    assert_eq!(owner.engine.device().notify().asserted(), raised + 1);
    assert_eq!(pending(&mut owner.engine), 1);
    assert_eq!(owner.model.count(Event::Served(0)), 3);
}

#[test]
fn a_budget_is_kept() {
    let mut owner = owner();
    for text in ["one", "two", "three"] {
        owner.publish(text);
    }
    assert_eq!(owner.serve(0), Ok(Step::More));
    assert_eq!(owner.serve(2), Ok(Step::More));
    assert_eq!(owner.model.count(Event::Served(0)), 2);
    assert_eq!(owner.serve(2), Ok(Step::Idle));
    assert_eq!(owner.model.count(Event::Served(0)), 3);
}

#[test]
fn a_queue_that_the_model_cannot_serve_is_left_alone() {
    let mut owner = owner();
    owner.model.unready = vec![0];
    owner.publish("text");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    assert_eq!(owner.queue.in_flight(), 0);
    owner.model.unready.clear();
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    owner.answered("text");
}

#[test]
fn pending_chains_are_served_again_when_the_back_end_is_ready() {
    let mut owner = owner();
    owner.model.holds = true;
    owner.publish("one");
    owner.publish("two");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    assert_eq!(owner.queue.in_flight(), 2);
    owner.queue.backend_ready(&mut owner.slots);
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    owner.answered("one");
    owner.answered("two");
}

#[test]
fn a_pending_chain_is_answered_without_the_model() {
    let mut owner = owner();
    owner.model.holds = true;
    owner.publish("one");
    owner.publish("two");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    let token = owner.model.held[1];
    let done = owner.queue.complete_with(token, 2, &mut owner.slots);
    assert_eq!(done, Ok(()));
    assert!(owner.queue.flush());
    owner.answered("\0\0");
    let again = owner.queue.complete_with(token, 2, &mut owner.slots);
    assert_eq!(again, Err(Refusal::StaleToken));
    assert_eq!(owner.queue.in_flight(), 1);
}

#[test]
fn more_chains_than_slots_wait_in_the_ring() {
    let mut owner = owner();
    owner.model.holds = true;
    for at in 0..6 {
        owner.publish(&format!("text {at}"));
    }
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    assert_eq!(owner.queue.in_flight(), 4);
    owner.queue.backend_ready(&mut owner.slots);
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    owner.queue.backend_ready(&mut owner.slots);
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    for at in 0..6 {
        owner.answered(&format!("text {at}"));
    }
}

#[test]
fn with_in_order_an_early_answer_waits_for_its_turn() {
    let features = Features::VERSION_1 | Features::IN_ORDER;
    let mut owner = owner_with(features, FaultPolicy::NeedsReset);
    owner.model.holds = true;
    owner.publish("one");
    owner.publish("two");
    owner.publish("three");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    let held = owner.model.held.clone();
    for at in [2, 1] {
        let done = owner.queue.complete_with(held[at], 1, &mut owner.slots);
        assert_eq!(done, Ok(()));
        assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
        assert_eq!(owner.driver.used_idx(), 0);
    }
    owner.queue.backend_ready(&mut owner.slots);
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    assert_eq!(owner.driver.used_idx(), 3);
    assert_eq!(owner.queue.in_flight(), 0);
}

#[test]
fn asked_to_stop_the_owner_answers_what_it_has() {
    let mut owner = owner();
    owner.model.holds = true;
    owner.publish("held");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    let ticket = crate::reset_waits(&mut owner.engine);
    owner.publish("late");
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
    assert_eq!(owner.engine.finish(ticket), Reply::Pending(ticket));
    assert_eq!(owner.queue.in_flight(), 1);
    owner.queue.backend_ready(&mut owner.slots);
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
    assert_eq!(owner.queue.in_flight(), 0);
    owner.answered("held");
    assert_eq!(answer(&mut owner.driver, 0), None);
    assert_eq!(owner.engine.finish(ticket), Reply::Done(0));
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
}

#[test]
fn a_queue_without_chains_is_quiet_at_once_when_asked() {
    let mut owner = owner();
    let ticket = crate::stop_waits(&mut owner.engine);
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
    assert_eq!(owner.engine.finish(ticket), Reply::Done(0));
}

#[test]
fn a_broken_ring_stops_the_queue_and_discards_its_chains() {
    let mut owner = owner();
    owner.model.holds = true;
    owner.publish("held");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    owner.driver.set_avail_idx(1000);
    let fault = DriverFault::AvailIndexJump { idx: 1000, next: 1 };
    assert_eq!(owner.serve(BUDGET), Err(Stop::Driver(fault)));
    assert_eq!(owner.queue.in_flight(), 0);
    assert_eq!(owner.model.count(Event::Stopped(0)), 1);
    assert!(owner.engine.device().shared().needs_reset());
    let token = owner.model.held[0];
    let done = owner.queue.complete_with(token, 0, &mut owner.slots);
    assert_eq!(done, Err(Refusal::StaleToken));
    assert_eq!(owner.driver.used_idx(), 0);
    assert!(owner.engine.put_back(owner.queue).is_err());
    assert_eq!(owner.engine.queue_state(0), QueueState::Failed);
}

#[test]
fn a_fault_that_the_model_finds_stops_the_queue() {
    let mut owner = owner();
    let fault = DriverFault::BadRequest { head: 0 };
    owner.model.blames = Some(fault);
    owner.publish("bad");
    assert_eq!(owner.serve(BUDGET), Err(Stop::Driver(fault)));
    assert_eq!(owner.driver.used_idx(), 0);
    assert!(owner.engine.put_back(owner.queue).is_err());
    assert_eq!(owner.engine.driver_fault(0), Some(fault));
}

#[test]
fn a_rejecting_queue_gives_bad_requests_back_and_goes_on() {
    let mut owner = owner_with(Features::VERSION_1, FaultPolicy::Reject);
    let fault = DriverFault::BadRequest { head: 0 };
    owner.model.blames = Some(fault);
    owner.publish("bad");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    owner.answered("");
    owner.model.blames = None;
    // A chain that loops is rejected before the model sees it.
    owner.driver.write_desc(2, (virtside_tests::DATA, 4), 1, 2);
    owner.driver.offer(2);
    owner.driver.publish();
    owner.publish("good");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    owner.answered("");
    owner.answered("good");
    assert_eq!(owner.queue.rejections().0, 2);
    assert!(owner.engine.put_back(owner.queue).is_ok());
    assert_eq!(owner.engine.counters().rejected, 2);
}

#[test]
fn host_faults_are_kept_for_the_owner_and_the_device() {
    let (mut engine, ram) = test_engine(RecordingModel::new(Plan::Wait), 1);
    let mut driver = driver(ram, 0);
    assert!(engine.bring_up(Features::VERSION_1, &[config(0)]));
    let mut queue = engine.take_queue(0).expect("a live queue");
    let mem = mem(ram);
    let mut slots = [ChainSlot::new()];
    let mut serve = |plan, text: &[u8]| {
        publish(&mut driver, 0, text);
        let mut model = RecordingModel::new(plan);
        let step = queue.serve(&mem, &mut model, &mut slots, BUDGET);
        assert_eq!(step, Ok(Step::Idle));
        queue.take_host_fault()
    };
    let failed = serve(Plan::Fail(HostFault::Backend), b"fails");
    assert_eq!(failed, Some(HostFault::Backend));
    let too_much = HostFault::WrittenTooMuch {
        written: 99,
        writable: 6,
    };
    assert_eq!(serve(Plan::Claim(99), b"lies!"), Some(too_much));
    publish(&mut driver, 0, b"fails");
    let mut model = RecordingModel::new(Plan::Fail(HostFault::Backend));
    assert_eq!(
        queue.serve(&mem, &mut model, &mut slots, BUDGET),
        Ok(Step::Idle)
    );
    assert!(engine.put_back(queue).is_ok());
    assert_eq!(engine.take_host_fault(), Some(HostFault::Backend));
}

#[test]
fn a_queue_put_back_goes_on_in_the_device() {
    let mut owner = owner();
    owner.publish("owner");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Idle));
    owner.answered("owner");
    assert!(owner.engine.put_back(owner.queue).is_ok());
    publish(&mut owner.driver, 0, b"device");
    assert_eq!(owner.engine.kick(0), Reply::Done(0));
    assert_eq!(owner.engine.poll(BUDGET), Step::Idle);
    assert_eq!(
        answer(&mut owner.driver, 0).as_deref(),
        Some(&b"device"[..])
    );
}

#[test]
fn two_owners_serve_clones_of_a_model_at_once() {
    let (mut engine, ram) = probe();
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    let queues = [0, 1].map(|queue| engine.take_queue(queue).expect("a live queue"));
    for (queue, driver) in (0..2).zip(&mut drivers) {
        for at in 0..8 {
            publish(driver, queue, format!("text {at}").as_bytes());
        }
    }
    let (model, memory) = (Probe::default(), mem(ram));
    std::thread::scope(|scope| {
        for mut queue in queues {
            let (mut model, memory) = (model.clone(), memory.clone());
            scope.spawn(move || {
                let mut slots = [ChainSlot::new()];
                while queue.serve(&memory, &mut model, &mut slots, 3) != Ok(Step::Idle) {}
                assert_eq!(model.count(Event::Served(queue.number())), 8);
            });
        }
    });
    for (queue, driver) in (0..2).zip(&mut drivers) {
        for at in 0..8 {
            let text = format!("text {at}");
            assert_eq!(answer(driver, queue).as_deref(), Some(text.as_bytes()));
        }
    }
}

#[test]
fn a_quiet_queue_does_not_ask_the_model_again() {
    let mut owner = owner();
    owner.model.holds = true;
    owner.publish("held");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    let token = owner.model.held[0];
    let ticket = crate::reset_waits(&mut owner.engine);
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
    owner.queue.abandon_all();
    assert_eq!(owner.engine.finish(ticket), Reply::Done(0));
    owner.queue.backend_ready(&mut owner.slots);
    let done = owner.queue.complete_with(token, 1, &mut owner.slots);
    assert_eq!(done, Err(Refusal::StaleToken));
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
    assert_eq!(owner.model.count(Event::Served(0)), 1);
    assert_eq!(owner.model.count(Event::Stopped(0)), 1);
    assert_eq!(owner.driver.used_idx(), 0);
}

#[test]
fn discarded_chains_let_the_driver_go_on() {
    let mut owner = owner();
    owner.model.holds = true;
    owner.publish("an event buffer");
    assert_eq!(owner.serve(BUDGET), Ok(Step::Blocked));
    let ticket = crate::stop_waits(&mut owner.engine);
    assert_eq!(owner.serve(BUDGET), Err(Stop::Asked));
    assert_eq!(owner.engine.finish(ticket), Reply::Pending(ticket));
    owner.queue.discard(&mut owner.model, &mut owner.slots);
    assert_eq!(owner.engine.finish(ticket), Reply::Done(0));
    assert_eq!(owner.model.count(Event::Stopped(0)), 1);
    assert_eq!(owner.driver.used_idx(), 0);
}

#[test]
fn one_owner_may_serve_two_queues_with_the_same_slots() {
    let (mut engine, ram) = probe();
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    let mut queues = [0, 1].map(|queue| engine.take_queue(queue).expect("a live queue"));
    let (memory, mut slots) = (mem(ram), vec![ChainSlot::new(); 4]);
    let mut model = Probe {
        holds: true,
        ..Probe::default()
    };
    for (queue, driver) in (0..2).zip(&mut drivers) {
        publish(driver, queue, format!("queue {queue}").as_bytes());
    }
    for queue in &mut queues {
        let step = queue.serve(&memory, &mut model, &mut slots, BUDGET);
        assert_eq!(step, Ok(Step::Blocked));
    }
    queues[0].backend_ready(&mut slots);
    let step = queues[1].serve(&memory, &mut model, &mut slots, BUDGET);
    assert_eq!(step, Ok(Step::Blocked));
    queues[1].backend_ready(&mut slots);
    for (queue, driver) in queues.iter_mut().zip(&mut drivers) {
        let _ = queue.serve(&memory, &mut model, &mut slots, BUDGET);
        let text = format!("queue {}", queue.number());
        let found = answer(driver, queue.number());
        assert_eq!(found.as_deref(), Some(text.as_bytes()));
        assert_eq!(queue.in_flight(), 0);
    }
}
