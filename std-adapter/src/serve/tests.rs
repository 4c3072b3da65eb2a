use std::{collections::VecDeque, sync::Arc};

use virtside::{
    Answer, DeviceConfig, DriverFault, Features, FlatMem, ReadyResponder, Request, Shared,
    memory::Ram,
    mmio::{Phase, Ticket},
    model::Start,
};

use super::*;
use crate::access::Event;

/// A source that takes accesses from a list.
#[derive(Default)]
struct Script {
    accesses: VecDeque<Access>,
    /// Number of waits without an access before each access.
    gap: u32,
    waits: u32,
    completed: Vec<u64>,
    outstanding: bool,
}

impl AccessSource for Script {
    fn wait(&mut self, _: Option<Duration>) -> io::Result<Event> {
        assert!(!self.outstanding);
        if self.waits < self.gap {
            self.waits += 1;
            return Ok(Event::Woken);
        }
        self.waits = 0;
        Ok(match self.accesses.pop_front() {
            Some(access) => {
                self.outstanding = true;
                Event::Access(access)
            }
            None => Event::End,
        })
    }

    fn complete(&mut self, value: u64) -> io::Result<()> {
        assert!(self.outstanding);
        self.outstanding = false;
        self.completed.push(value);
        Ok(())
    }
}

/// A register block with an endless queue.
#[derive(Default)]
struct Endless {
    polls: u32,
}

impl RegisterBlock for Endless {
    fn access(&mut self, access: Access) -> Reply {
        let Access::Read { offset, .. } = access else {
            return Reply::Busy;
        };
        Reply::Done(offset.into())
    }
    fn finish(&mut self, _: Ticket) -> Reply {
        Reply::Busy
    }
}

impl Served for Endless {
    fn poll(&mut self, budget: u16) -> Step {
        assert_eq!(budget, BUDGET);
        self.polls += 1;
        Step::More
    }
    fn notify_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        Err(DeviceError::InvalidQueue(queue))
    }
    fn backend_ready(&mut self) {}
    fn needs_reset(&self) -> bool {
        false
    }
}

#[test]
fn an_access_waits_for_one_budget_of_an_endless_queue_at_most() {
    let mut endless = Endless::default();
    let mut source = Script {
        accesses: (0..10).map(Access::read).collect(),
        ..Script::default()
    };
    serve(&mut endless, &mut source, &mut ()).unwrap();
    assert!(source.completed.iter().copied().eq(0..10));
    assert_eq!(endless.polls, 10);
}

#[test]
fn an_endless_queue_is_served_while_no_access_comes() {
    let mut endless = Endless::default();
    let mut source = Script {
        gap: 100,
        ..Script::default()
    };
    serve(&mut endless, &mut source, &mut ()).unwrap();
    assert_eq!(endless.polls, 100);
}

#[test]
fn an_access_that_was_outstanding_before_is_an_error() {
    let mut source = Script {
        accesses: VecDeque::from([Access::write(0, 0)]),
        ..Script::default()
    };
    let error = serve(&mut Endless::default(), &mut source, &mut ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
}

/// A model that decides later whether the device starts.
struct Slow;

impl DeviceConfig for Slow {
    fn device_id(&self) -> u32 {
        63
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        16
    }
}

impl DeviceModel for Slow {
    fn ready(&mut self, _: Features, _: virtside::message::ReadyQueues<'_>) -> Start {
        Start::Later
    }
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(Answer::Pending)
    }
}

type Machine = Engine<Slow, FlatMem, (), 1, 16, [ChainSlot<16>; 1], Arc<Shared<1>>>;

/// Accepts DRIVER_OK after 20 rounds.
#[derive(Default)]
struct Hesitant {
    rounds: u32,
    responder: Option<ReadyResponder<(), 1, Arc<Shared<1>>>>,
    seen: Vec<(Access, Reply)>,
}

impl Observer<Machine> for Hesitant {
    fn accessed(&mut self, _: &Machine, access: Access, reply: Reply) {
        self.seen.push((access, reply));
    }
    fn before_poll(&mut self, machine: &mut Machine) {
        // The engine hands the responder out only once.
        if let Some(responder) = machine.responder() {
            assert!(self.responder.replace(responder).is_none());
        }
        if self.responder.is_some() {
            self.rounds += 1;
            if self.rounds == 20 {
                assert!(self.responder.take().is_some_and(ReadyResponder::accept));
            }
        }
    }
}

#[test]
fn a_pending_access_is_completed_before_a_later_one_is_decoded() {
    static RAM: Ram<4096> = Ram::new();
    let shared = Arc::new(Shared::new());
    let mut machine = Machine::new(Slow, RAM.flat(0), (), [ChainSlot::new()], shared);
    let accesses = [
        Access::write(0x70, 3),
        Access::write(0x24, 1),
        Access::write(0x20, 1),
        Access::write(0x70, 0xb),
        Access::write(0x70, 0xf),
        Access::read(0x70),
    ];
    let mut source = Script {
        accesses: VecDeque::from(accesses),
        ..Script::default()
    };
    let mut hesitant = Hesitant::default();
    serve(&mut machine, &mut source, &mut hesitant).unwrap();
    assert_eq!(hesitant.rounds, 20);
    assert_eq!(source.completed, [0, 0, 0, 0, 0, 0xf]);
    let seen = hesitant.seen.iter().map(|(access, _)| *access);
    assert!(seen.eq(accesses));
    // The end of the stream does not change the engine.
    assert_eq!(machine.phase(), Phase::Live);
    assert_eq!(machine.access(Access::read(0x70)), Reply::Done(0xf));
}

#[test]
fn the_loop_ends_between_two_accesses_and_drops_none() {
    /// Leaves the loop after this many accesses.
    struct After(usize);
    impl<E: ?Sized> Observer<E> for After {
        fn accessed(&mut self, _: &E, _: Access, _: Reply) {
            self.0 -= 1;
        }
        fn stops(&mut self) -> bool {
            self.0 == 0
        }
    }
    let mut endless = Endless::default();
    let mut source = Script {
        accesses: (0..10).map(Access::read).collect(),
        ..Script::default()
    };
    serve(&mut endless, &mut source, &mut After(4)).unwrap();
    assert!(source.completed.iter().copied().eq(0..4));
    assert!(!source.outstanding && source.accesses.len() == 6);
    // The loop ends at once, and takes no access.
    serve(&mut endless, &mut source, &mut &mut After(0)).unwrap();
    assert_eq!(source.accesses.len(), 6);
    let stop = AtomicBool::new(true);
    serve(&mut endless, &mut source, &mut Until(&stop)).unwrap();
    assert_eq!(source.accesses.len(), 6);
    stop.store(false, Ordering::Release);
    serve(&mut endless, &mut source, &mut Until(&stop)).unwrap();
    assert!(source.completed.iter().copied().eq(0..10));
}

#[test]
fn only_some_accesses_give_an_engine_work() {
    static RAM: Ram<4096> = Ram::new();
    let shared = Arc::new(Shared::new());
    let engine: Machine = Engine::new(Slow, RAM.flat(0), (), [ChainSlot::new()], shared);
    let stores: Vec<u32> = (0..0x104)
        .step_by(4)
        .filter(|&offset| {
            let known = Register::at(offset).is_some() || offset >= Register::CONFIG;
            known && engine.may_have_work_after(Access::write(offset, 0))
        })
        .collect();
    assert_eq!(stores, [0x44, 0x50, 0x70, 0xc0, 0x100]);
    let loads: Vec<u32> = (0..0x200)
        .step_by(4)
        .filter(|&offset| engine.may_have_work_after(Access::read(offset)))
        .collect();
    assert_eq!(loads, [0x44, 0xc0]);
    assert!(!Served::needs_reset(&engine));
}
