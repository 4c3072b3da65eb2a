//! The worst case of every call, in accesses to the driver's rings, as `Engine` documents it. Also
//! how often the engine calls a model, as `DeviceModel` documents it.

mod completion;
mod due;
mod poll;
mod registers;
mod taken;

use std::{cell::Cell, collections::VecDeque};

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, FlatMem, Request, Step,
    Token,
    device::Stop,
    features::Offer,
    mmio::{Access, Reply},
    model::Start,
    queue::Chain,
    testing::{Buffer, CountingMem, Counts, FakeDriver, NEXT, Registers, WRITE},
};
use virtside_tests::{
    BASE, DATA, N, Q, SIZE, TestEngine, TestRam, config, driver, engine_over,
    in_order::Holder,
    ram,
    rings::{Plan, RecordingModel, settle},
};

const TABLE: u64 = DATA + 0x8000;

type Counted<D> = TestEngine<D, CountingMem<'static, FlatMem>>;

/// A device over counting memory, and its counters.
fn counted<D: DeviceModel>(model: D, slots: usize) -> (Counted<D>, &'static Counts, TestRam) {
    let (ram, counts): (_, &'static Counts) = (ram(), Box::leak(Box::default()));
    let engine = engine_over(model, CountingMem::new(ram.flat(BASE), counts), slots);
    let offer = Offer::AS_IS.with(Features::IN_ORDER);
    (engine.with_offer(offer), counts, ram)
}

/// The documented worst case of `poll(budget)`.
fn poll_bound(budget: u16) -> u32 {
    let (budget, queues) = (u32::from(budget), Q as u32);
    budget * (N as u32 + 5) + 2 * budget.min(queues)
}

/// Writes a chain of the full length, in consecutive descriptors from `head` on.
fn write_longest(driver: &FakeDriver<FlatMem>, head: u16) {
    for at in 0..SIZE {
        let index = (head + at) % SIZE;
        let flags = if at + 1 < SIZE { NEXT | WRITE } else { WRITE };
        driver.write_desc(index, (DATA, 1), flags, (index + 1) % SIZE);
    }
}

/// The contents of a test's queues.
#[derive(Clone, Copy, Debug)]
enum Load {
    Nothing,
    /// This many chains of one descriptor.
    Short(u16),
    /// This many chains of all descriptors. All share the descriptors, but each has another head.
    Longest(u16),
    /// This many chains that are wholly in tables of the full length.
    Indirect(u16),
    /// This many chains that use all but one descriptor, the last of which refers to a table.
    Mixed(u16),
    Loop,
    BadHead,
    Jump,
}

impl Load {
    fn write(self, driver: &mut FakeDriver<FlatMem>) {
        let chains = match self {
            Self::Nothing => return,
            Self::Short(chains)
            | Self::Longest(chains)
            | Self::Indirect(chains)
            | Self::Mixed(chains) => chains,
            Self::Loop => {
                for index in 0..SIZE {
                    driver.write_desc(index, (DATA, 1), NEXT, (index + 1) % SIZE);
                }
                1
            }
            Self::BadHead => {
                driver.set_avail_entry(0, SIZE);
                return driver.set_avail_idx(1);
            }
            Self::Jump => return driver.set_avail_idx(SIZE + 1),
        };
        match self {
            // The descriptors form a cycle. Every chain ends at the descriptor without NEXT.
            Self::Longest(_) => write_longest(driver, 0),
            Self::Mixed(_) => {
                write_longest(driver, 0);
                driver.write_indirect(SIZE - 1, TABLE, &[Buffer::writable(DATA, 1)]);
            }
            _ => {}
        }
        for head in 0..chains {
            match self {
                Self::Short(_) => driver.write_chain(head, &[Buffer::writable(DATA, 1)]),
                Self::Indirect(_) => {
                    driver.write_indirect(head, TABLE, &[Buffer::writable(DATA, 1); N]);
                }
                _ => {}
            }
            driver.offer(head);
        }
        driver.publish();
    }
}

const LOADS: [Load; 13] = [
    Load::Nothing,
    Load::Short(1),
    Load::Short(2),
    Load::Short(16),
    Load::Longest(1),
    Load::Longest(2),
    Load::Longest(16),
    Load::Indirect(1),
    Load::Indirect(16),
    Load::Mixed(16),
    Load::Loop,
    Load::BadHead,
    Load::Jump,
];

/// Returns the ring accesses of each poll, until nothing is left to do.
fn accesses(features: Features, loads: [Load; Q], budget: u16, plan: Plan) -> Vec<u32> {
    let (mut engine, counts, ram) = counted(RecordingModel::new(plan), 3);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(engine.bring_up(
        features | Features::RING.difference(Features::EVENT_IDX),
        &configs
    ));
    for (queue, load) in (0..).zip(loads) {
        load.write(&mut driver(ram, queue));
        let _ = engine.kick(queue);
    }
    let mut each = Vec::new();
    for _ in 0..200 {
        counts.clear();
        let step = engine.poll(budget);
        each.push(counts.rings());
        if step != Step::More || budget == 0 {
            return each;
        }
    }
    panic!("{loads:?} never becomes idle");
}

/// Makes a device with this number of chains on queue 0. It keeps the oldest. It has answered the
/// others with `written` bytes each, and they wait for their turn.
fn waiting(features: Features, chains: u16, written: u32) -> (Counted<Holder>, &'static Counts) {
    let (mut engine, counts, ram) = counted(Holder::new(), chains.into());
    assert!(engine.bring_up(features | Features::RING | Features::IN_ORDER, &[config(0)]));
    engine.model_mut().choice = Box::new(move |asked| (asked.number != 0).then_some(written));
    Load::Short(chains).write(&mut driver(ram, 0));
    let _ = engine.kick(0);
    assert_eq!(settle(&mut engine), Step::Blocked);
    let token = engine.model().chain(0, 0).token;
    engine.model_mut().answers.insert(token, written);
    engine.model_mut().due = [token].into();
    counts.clear();
    (engine, counts)
}

#[test]
fn saving_and_restoring_touch_no_ring() {
    for features in [Features::empty(), Features::IN_ORDER] {
        let (mut engine, counts) = waiting(features, 8, 1);
        let state = engine.save::<16>().expect("no queue is taken");
        assert_eq!(state.device.chains.len(), 8);
        let offer = Offer::AS_IS.with(Features::IN_ORDER);
        let mem = engine.device().memory().clone();
        let mut next = engine_over(Holder::new(), mem, 8).with_offer(offer);
        next.restore(&state).expect("the saved state is valid");
        assert_eq!((counts.rings(), counts.stores()), (0, 0));
    }
}
