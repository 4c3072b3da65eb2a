//! A model that answers its kept chains when it is told that a queue is drained.

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, Request, Step, Token,
    testing::{Buffer, Registers},
};
use virtside_tests::{BUDGET, DATA, config, driver, test_engine};

/// Keeps each chain of queue 1 until that queue is drained.
#[derive(Debug, Default)]
struct Combiner {
    kept: Vec<Token>,
    due: Vec<Token>,
}

impl DeviceConfig for Combiner {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue < 2 { 16 } else { 0 }
    }
}

impl DeviceModel for Combiner {
    fn due(&self) -> Option<Token> {
        self.due.first().copied()
    }

    fn drained(&mut self, queue: u16) {
        if queue == 1 {
            self.due.append(&mut self.kept);
        }
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let due = self.due.contains(&request.token);
        self.due.retain(|token| *token != request.token);
        if request.queue == 0 || due {
            return Ok(Answer::Done { written: 0 });
        }
        self.kept.push(request.token);
        Ok(Answer::Pending)
    }
}

#[test]
fn a_queue_without_a_slot_continues_after_chains_are_settled() {
    for slots in 1..6 {
        let (mut engine, ram) = test_engine(Combiner::default(), slots);
        assert!(engine.bring_up(Features::RING, &[config(0), config(1)]));
        let mut drivers = [driver(ram, 0), driver(ram, 1)];
        for head in 0..7 {
            drivers[1].send(head, &[Buffer::writable(DATA, 4)]);
        }
        let _ = engine.kick(1);
        let mut polls = 0;
        while engine.poll(BUDGET) == Step::More {
            polls += 1;
            assert!(polls < 20, "the polls end");
        }
        let used: Vec<_> = std::iter::from_fn(|| drivers[1].take_used()).collect();
        assert_eq!(used.len(), 7, "{slots} slots");
        assert_eq!(engine.poll(BUDGET), Step::Idle);
    }
}
