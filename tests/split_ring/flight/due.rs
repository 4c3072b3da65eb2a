//! Models that name the next chain to answer.

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, Request, Step, Token,
    testing::{Buffer, Registers},
};
use virtside_tests::{DATA, config, driver, test_engine};

/// Keeps each chain of queue 0 until the model is told that the queue is drained.
#[derive(Default)]
struct Keeper {
    held: Option<Token>,
    due: Option<Token>,
    stale: bool,
}

impl DeviceConfig for Keeper {
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

impl DeviceModel for Keeper {
    fn due(&self) -> Option<Token> {
        self.due
    }
    fn drained(&mut self, queue: u16) {
        if queue == 0 && self.held.is_some() {
            self.due = self.held.take();
        }
    }
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        if request.queue == 0 && self.due != Some(request.token) {
            self.held = Some(request.token);
            return Ok(Answer::Pending);
        }
        if !self.stale {
            self.due = None;
        }
        Ok(Answer::Done { written: 0 })
    }
}

/// Sends one chain on each of two queues to a device with so many slots; returns the results of the
/// polls.
fn keep(slots: usize, model: Keeper) -> Vec<Step> {
    let (mut engine, ram) = test_engine(model, slots);
    let mut drivers = [driver(ram, 0), driver(ram, 1)];
    assert!(engine.bring_up(Features::VERSION_1, &[config(0), config(1)]));
    for driver in &mut drivers {
        driver.send(0, &[Buffer::writable(DATA, 1)]);
    }
    let steps = (0..20).map(|_| engine.poll(1)).collect();
    for driver in &mut drivers {
        assert_eq!(driver.take_used(), Some((0, 0)), "{slots} slots");
        assert_eq!(driver.take_used(), None);
    }
    steps
}

#[test]
fn a_chain_kept_in_the_last_slot_blocks_no_other_queue() {
    for slots in [1, 2, 3] {
        let steps = keep(slots, Keeper::default());
        assert_eq!(steps.last(), Some(&Step::Idle), "{steps:?}");
    }
}

#[test]
fn a_due_chain_that_is_not_pending_is_ignored() {
    let stale = true;
    let steps = keep(
        2,
        Keeper {
            stale,
            ..Keeper::default()
        },
    );
    assert_eq!(steps.last(), Some(&Step::Idle), "{steps:?}");
}
