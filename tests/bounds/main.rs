//! The worst case of every call, in accesses to the driver's rings, as `Engine` documents it; and of
//! what a model is asked, as `DeviceModel` does.

use std::{cell::Cell, collections::VecDeque};

use virtside::{
    Answer, Chain, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, FlatMem, Offer,
    Request, Start, Step, Stop, Token,
    mmio::{Access, Reply},
    testing::{Buffer, CountingMem, Counts, FakeDriver, NEXT, Registers, WRITE},
};
use virtside_tests::{
    BASE, DATA, Guest, N, Q, SIZE, TestRam, config, driver, guest_over,
    in_order::Holder,
    ram,
    rings::{Plan, Scribe, settle},
};

const TABLE: u64 = DATA + 0x8000;

type Counted<D> = Guest<D, CountingMem<'static, FlatMem>>;

/// A device over memory that counts, and the counts.
fn counted<D: DeviceModel>(model: D, slots: usize) -> (Counted<D>, &'static Counts, TestRam) {
    let (ram, counts): (_, &'static Counts) = (ram(), Box::leak(Box::default()));
    let guest = guest_over(model, CountingMem::new(ram.flat(BASE), counts), slots);
    let offer = Offer::AS_IS.with(Features::IN_ORDER);
    (guest.offering(offer), counts, ram)
}

/// The documented worst case of `poll(budget)`.
fn poll_bound(budget: u16) -> u32 {
    let (budget, queues) = (u32::from(budget), Q as u32);
    budget * (N as u32 + 5) + 2 * budget.min(queues)
}

/// A chain of the full length in consecutive descriptors from `head` on.
fn write_longest(driver: &FakeDriver<FlatMem>, head: u16) {
    for at in 0..SIZE {
        let index = (head + at) % SIZE;
        let flags = if at + 1 < SIZE { NEXT | WRITE } else { WRITE };
        driver.write_desc(index, (DATA, 1), flags, (index + 1) % SIZE);
    }
}

/// What the queues of a test hold.
#[derive(Clone, Copy, Debug)]
enum Load {
    Nothing,
    /// As many chains of one descriptor.
    Short(u16),
    /// As many chains of all descriptors: the same ones, by different heads.
    Longest(u16),
    /// As many chains that are wholly in tables of the full length.
    Indirect(u16),
    /// As many that use all but one descriptor, the last of which refers to a table.
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
            // A ring of them all: whichever is first, it ends at the one with no NEXT.
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

/// The ring accesses of each poll until there is no more to do.
fn accesses(features: Features, loads: [Load; Q], budget: u16, plan: Plan) -> Vec<u32> {
    let (mut guest, counts, ram) = counted(Scribe::new(plan), 3);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(guest.bring_up(
        features | Features::RING.difference(Features::EVENT_IDX),
        &configs
    ));
    for (queue, load) in (0..).zip(loads) {
        load.write(&mut driver(ram, queue));
        let _ = guest.kick(queue);
    }
    let mut each = Vec::new();
    for _ in 0..200 {
        counts.clear();
        let step = guest.poll(budget);
        each.push(counts.rings());
        if step != Step::More || budget == 0 {
            return each;
        }
    }
    panic!("{loads:?} never ends");
}

#[test]
fn a_poll_keeps_within_its_bound_whatever_the_queues_hold() {
    for features in [
        Features::empty(),
        Features::EVENT_IDX,
        Features::IN_ORDER,
        Features::IN_ORDER | Features::EVENT_IDX,
    ] {
        for one in LOADS {
            for other in LOADS {
                for budget in [0, 1, 2, 5, 16, 200] {
                    let loads = [one, other, one, other];
                    for polled in accesses(features, loads, budget, Plan::Claim(0)) {
                        assert!(
                            polled <= poll_bound(budget),
                            "{polled} > {}: budget {budget}, {loads:?}",
                            poll_bound(budget),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_poll_of_chains_that_wait_keeps_within_its_bound() {
    for load in LOADS {
        for budget in [1, 2, 5, 40] {
            for polled in accesses(Features::EVENT_IDX, [load; Q], budget, Plan::Wait) {
                assert!(
                    polled <= poll_bound(budget),
                    "{polled}: budget {budget}, {load:?}"
                );
            }
        }
    }
}

/// A bound that nothing comes near says little.
#[test]
fn the_bound_of_a_poll_is_nearly_reached() {
    for budget in [1, 4, 16] {
        let loads = [Load::Longest(16); Q];
        // The longest chain by its first head only; the others are one shorter each.
        let polled = accesses(Features::empty(), loads, budget, Plan::Claim(0));
        let most = polled.into_iter().max().expect("there was a poll");
        let longest: u32 = (0..u32::from(budget))
            .map(|at| N as u32 - at / Q as u32)
            .sum();
        assert!(
            most >= longest + 3 * u32::from(budget),
            "{most} with a budget of {budget}"
        );
    }
}

#[test]
fn a_batch_costs_no_more_than_the_format_needs() {
    let (mut guest, counts, ram) = counted(Scribe::new(Plan::Fill(1)), 1);
    assert!(guest.bring_up(Features::VERSION_1, &[config(0)]));
    settle(&mut guest);
    let mut driver = driver(ram, 0);
    for head in [0, 3, 6, 9, 12] {
        driver.write_chain(head, &[Buffer::writable(DATA, 1); 3]);
        driver.offer(head);
    }
    driver.publish();
    let _ = guest.kick(0);
    counts.clear();
    assert_eq!(guest.poll(5), Step::More);
    // One index for the batch, an entry each, and one look at the driver's wishes.
    assert_eq!(counts.loads(), 1 + 5 + 1);
    assert_eq!((counts.descriptors(), counts.elements()), (15, 5));
    // An index each, and the flags once.
    assert_eq!(counts.stores(), 5 + 1);
    counts.clear();
    assert_eq!(guest.poll(5), Step::Idle);
    // The flags again, and a look before and behind it.
    assert_eq!((counts.loads(), counts.stores()), (2, 1));
    assert_eq!((counts.descriptors(), counts.elements()), (0, 0));
}

#[test]
fn an_idle_device_does_not_look_at_its_rings() {
    let (mut guest, counts, _) = counted(Scribe::new(Plan::Fill(1)), 1);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(guest.bring_up(Features::RING, &configs));
    settle(&mut guest);
    counts.clear();
    for _ in 0..10 {
        assert_eq!(guest.poll(200), Step::Idle);
    }
    assert_eq!(counts.rings(), 0);
}

#[test]
fn completing_a_chain_costs_at_most_four_accesses() {
    for features in [Features::VERSION_1, Features::RING] {
        for plan in [
            Plan::Fill(1),
            Plan::Claim(9),
            Plan::Wait,
            Plan::Blame(DriverFault::BadRequest { head: 0 }),
        ] {
            let (mut guest, counts, ram) = counted(Scribe::new(Plan::Wait), 2);
            assert!(guest.bring_up(features, &[config(0)]));
            let mut driver = driver(ram, 0);
            write_longest(&driver, 0);
            driver.offer(0);
            driver.publish();
            let _ = guest.kick(0);
            assert_eq!(settle(&mut guest), Step::Blocked);
            let token = guest.model().seen[0].token;
            guest.model_mut().plan = plan;
            counts.clear();
            assert_eq!(guest.complete(token), Ok(()));
            let done = matches!(plan, Plan::Fill(_) | Plan::Claim(_));
            assert_eq!(counts.rings(), if done { 3 } else { 0 });
            counts.clear();
            let _ = guest.complete(token);
            assert!(counts.rings() <= 4);
        }
    }
}

/// A device with so many chains on queue 0 whose oldest is kept, while the others are answered with
/// this and wait for their turn.
fn waiting(features: Features, chains: u16, written: u32) -> (Counted<Holder>, &'static Counts) {
    let (mut guest, counts, ram) = counted(Holder::new(), chains.into());
    assert!(guest.bring_up(features | Features::RING | Features::IN_ORDER, &[config(0)]));
    guest.model_mut().choice = Box::new(move |asked| (asked.number != 0).then_some(written));
    Load::Short(chains).write(&mut driver(ram, 0));
    let _ = guest.kick(0);
    assert_eq!(settle(&mut guest), Step::Blocked);
    let token = guest.model().chain(0, 0).token;
    guest.model_mut().answers.insert(token, written);
    guest.model_mut().due = [token].into();
    counts.clear();
    (guest, counts)
}

#[test]
fn chains_that_waited_for_their_turn_cost_two_accesses_each() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        for chains in [1, 2, 8, 16] {
            let elements = 2 * u32::from(chains);
            let (mut guest, counts) = waiting(features, chains, 0);
            let _ = guest.poll(1);
            // None is full, so each has an element and an index; the driver's wishes once.
            assert_eq!(counts.rings(), elements + 1);
            assert!(counts.rings() <= poll_bound(1) + elements);
            let (mut guest, counts) = waiting(features, chains, 0);
            let token = guest.model().chain(0, 0).token;
            assert_eq!(guest.complete(token), Ok(()));
            assert_eq!(counts.rings(), elements + 1);
            // All are full: one for all.
            let (mut guest, counts) = waiting(features, chains, 1);
            assert_eq!(guest.complete(token), Ok(()));
            assert_eq!(counts.rings(), 3);
        }
    }
}

#[test]
fn a_taken_queue_in_order_keeps_within_its_bounds() {
    for load in [Load::Loop, Load::BadHead] {
        let (mut guest, counts, ram) = counted(Scribe::new(Plan::Fill(1)), 1);
        assert!(guest.bring_up(Features::RING | Features::IN_ORDER, &[config(0)]));
        settle(&mut guest);
        let mut queue = guest.take_queue(0).expect("it is live");
        let mut driver = driver(ram, 0);
        Load::Short(2).write(&mut driver);
        let mut chain = Chain::new();
        for _ in 0..2 {
            assert_eq!(queue.pop(guest.device().memory(), &mut chain), Ok(true));
            counts.clear();
            assert_eq!(queue.complete(&chain, 1), Ok(()));
            assert_eq!(counts.rings(), 0, "it is full");
        }
        counts.clear();
        assert!(queue.flush());
        assert_eq!(counts.rings(), 3);
        // Full again, and then the ring is broken.
        Load::Short(1).write(&mut driver);
        assert_eq!(queue.pop(guest.device().memory(), &mut chain), Ok(true));
        assert_eq!(queue.complete(&chain, 1), Ok(()));
        if let Load::Loop = load {
            load.write(&mut driver);
        } else {
            driver.set_avail_entry(driver.next_avail(), SIZE);
            driver.set_avail_idx(driver.next_avail() + 1);
        }
        counts.clear();
        let popped = queue.pop(guest.device().memory(), &mut chain);
        assert!(matches!(popped, Err(Stop::Driver(_))), "{popped:?}");
        assert!(counts.rings() <= N as u32 + 2 + 2 + 2, "{}", counts.rings());
        assert_eq!(driver.used_idx(), 3, "nothing is lost");
    }
}

#[test]
fn putting_back_costs_one_access_and_two_for_each_in_order() {
    for (order, most) in [(Features::empty(), 1), (Features::IN_ORDER, 3)] {
        for event in [Features::empty(), Features::EVENT_IDX] {
            for chains in [0, 1, 2, 16] {
                let (mut guest, counts, ram) = counted(Scribe::new(Plan::Fill(1)), 1);
                let plain = Features::RING.difference(Features::EVENT_IDX);
                assert!(guest.bring_up(plain | order | event, &[config(0)]));
                settle(&mut guest);
                let mut queue = guest.take_queue(0).expect("it is live");
                let mut driver = driver(ram, 0);
                Load::Short(chains).write(&mut driver);
                let mut chain = Chain::new();
                for _ in 0..chains {
                    assert_eq!(queue.pop(guest.device().memory(), &mut chain), Ok(true));
                    assert_eq!(queue.complete(&chain, 1), Ok(()));
                }
                counts.clear();
                assert!(guest.put_back(queue).is_ok());
                assert!(counts.rings() <= most, "{order:?} {event:?} {chains}");
                assert!(chains == 0 || counts.rings() == most);
                assert_eq!(driver.used_idx(), chains);
            }
        }
    }
}

#[test]
fn saving_and_restoring_touch_no_ring() {
    for features in [Features::empty(), Features::IN_ORDER] {
        let (mut guest, counts) = waiting(features, 8, 1);
        let state = guest.save::<16>().expect("nothing is out");
        assert_eq!(state.device.chains.len(), 8);
        let offer = Offer::AS_IS.with(Features::IN_ORDER);
        let mem = guest.device().memory().clone();
        let mut next = guest_over(Holder::new(), mem, 8).offering(offer);
        next.restore(&state).expect("what was saved is whole");
        assert_eq!((counts.rings(), counts.stores()), (0, 0));
    }
}

/// Every register, read and written with these values, in every width.
fn every_access() -> Vec<Access> {
    let mut all = Vec::new();
    for offset in (0..0x140).chain([0x1000, 0xffff_fffc]) {
        for width in [1, 2, 4, 8] {
            all.push(Access::Read { offset, width });
            for value in [0, 1, 2, 3, 0x80, 0xffff_ffff, u64::MAX] {
                // Only DRIVER_OK may touch a ring, and that is another test.
                if offset != 0x70 || value & 4 == 0 {
                    all.push(Access::Write {
                        offset,
                        width,
                        value,
                    });
                }
            }
        }
    }
    all
}

#[test]
fn no_register_access_but_driver_ok_touches_a_ring() {
    for live in [false, true] {
        let (mut guest, counts, _) = counted(Scribe::new(Plan::Fill(1)), 1);
        let configs: Vec<_> = (0..Q as u16).map(config).collect();
        for access in every_access() {
            let again = if live {
                guest.phase() != virtside::mmio::Phase::Live
            } else {
                guest.phase() != virtside::mmio::Phase::SettingUp
            };
            if again {
                assert!(guest.negotiate(Features::RING));
                for config in &configs {
                    assert_eq!(guest.configure(config), Reply::Done(0));
                }
                if live {
                    assert_eq!(guest.go_live(), Reply::Done(0));
                }
            }
            counts.clear();
            let _ = guest.access(access);
            assert_eq!(counts.rings(), 0, "{access:?}");
        }
    }
}

#[test]
fn driver_ok_touches_each_ring_once() {
    for queues in 0..=Q {
        let (mut guest, counts, _) = counted(Scribe::new(Plan::Fill(1)), 1);
        assert!(guest.negotiate(Features::RING));
        for queue in 0..queues as u16 {
            assert_eq!(guest.configure(&config(queue)), Reply::Done(0));
        }
        counts.clear();
        assert_eq!(guest.go_live(), Reply::Done(0));
        assert_eq!(
            (counts.rings(), counts.stores()),
            (queues as u32, queues as u32)
        );
        counts.clear();
        assert_eq!(guest.go_live(), Reply::Done(0));
        assert_eq!(counts.rings(), 0, "DRIVER_OK is there already");
    }
}

#[test]
fn a_queue_that_comes_back_costs_one_store() {
    let (mut guest, counts, ram) = counted(Scribe::new(Plan::Fill(1)), 1);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(guest.bring_up(Features::RING, &configs));
    settle(&mut guest);
    for queue in 0..Q as u16 {
        Load::Short(1).write(&mut driver(ram, queue));
    }
    let _ = guest.store(0x30, 0);
    counts.clear();
    for (offset, value) in [(0xc0, 1), (0x70, 0x1f), (0x70, 0x1b), (0x70, 0x1f)] {
        assert_eq!(guest.store(offset, value), Reply::Done(0));
        for offset in (0..0x100).step_by(4) {
            let _ = guest.access(Access::read(offset));
        }
    }
    guest.lay_out(&configs[0]);
    assert_eq!(counts.rings(), 0);
    assert_eq!(guest.store(0x44, 1), Reply::Done(0));
    assert_eq!((counts.rings(), counts.stores()), (1, 1));
    // One that does not pass costs none.
    assert_eq!(guest.store(0xc0, 1), Reply::Done(0));
    counts.clear();
    assert!(
        guest.configure(&configs[1]).refusal().is_none(),
        "it is ready"
    );
    let mut odd = configs[0];
    odd.size = 3;
    assert!(guest.configure(&odd).refusal().is_some());
    assert_eq!(counts.rings(), 0);
}

#[test]
fn a_poll_into_and_out_of_a_suspension_keeps_its_bound() {
    for load in LOADS {
        for budget in [0, 1, 2, 5, 40] {
            let (mut guest, counts, ram) = counted(Scribe::new(Plan::Wait), 3);
            let configs: Vec<_> = (0..Q as u16).map(config).collect();
            assert!(guest.bring_up(Features::RING, &configs));
            for queue in 0..Q as u16 {
                load.write(&mut driver(ram, queue));
            }
            guest.poll(1);
            guest.model_mut().plan = Plan::Claim(0);
            assert_eq!(guest.store(0x70, 0x1f), Reply::Done(0));
            guest.backend_ready(0);
            let mut resumed = false;
            for _ in 0..200 {
                counts.clear();
                guest.poll(budget);
                let polled = counts.rings();
                assert!(polled <= poll_bound(budget), "{polled}: {budget}, {load:?}");
                if !resumed && guest.load(0x70) & 0x10 != 0 {
                    counts.clear();
                    assert_eq!(guest.poll(budget), Step::Idle);
                    assert_eq!(counts.rings(), 0);
                    assert_eq!(guest.store(0x70, 0x1f), Reply::Done(0));
                    resumed = true;
                }
            }
            assert!(resumed || budget == 0, "{budget}, {load:?}");
        }
    }
}

/// A device that says later whether it starts.
struct Hesitant;

impl DeviceConfig for Hesitant {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        SIZE
    }
}

impl DeviceModel for Hesitant {
    fn ready(&mut self, _: Features, _: virtside::ReadyQueues<'_>) -> Start {
        Start::Later
    }
    fn serve<M: DriverMem>(&mut self, _: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        Ok(Answer::Done { written: 0 })
    }
}

#[test]
fn a_poll_before_driver_ok_completes_keeps_its_bound() {
    for budget in [0, 1, 2] {
        let (mut guest, counts, ram) = counted(Hesitant, 1);
        assert!(guest.negotiate(Features::VERSION_1));
        for queue in 0..Q as u16 {
            assert_eq!(guest.configure(&config(queue)), Reply::Done(0));
            Load::Longest(1).write(&mut driver(ram, queue));
        }
        let Reply::Pending(ticket) = guest.go_live() else {
            panic!("it was answered at once");
        };
        assert!(guest.responder().expect("the driver waits").accept());
        counts.clear();
        let _ = guest.poll(budget);
        // The stores of DRIVER_OK come with it.
        let polled = counts.rings() - Q as u32;
        assert!(
            polled <= poll_bound(budget),
            "{polled} with a budget of {budget}"
        );
        counts.clear();
        assert_eq!(guest.finish(ticket), Reply::Done(0));
        assert_eq!(counts.rings(), 0, "and are not made twice");
    }
}

#[test]
fn a_taken_queue_keeps_within_its_bounds() {
    let bound = N as u32 + 2;
    for features in [Features::VERSION_1, Features::RING] {
        for load in LOADS {
            let (mut guest, counts, ram) = counted(Scribe::new(Plan::Fill(1)), 1);
            assert!(guest.bring_up(features, &[config(0)]));
            settle(&mut guest);
            let mut queue = guest.take_queue(0).expect("it is live");
            load.write(&mut driver(ram, 0));
            let mut chain = Chain::new();
            counts.clear();
            let popped = queue.pop(guest.device().memory(), &mut chain);
            let more = if popped.is_err() { 2 } else { 0 };
            assert!(counts.rings() <= bound + more, "{load:?}: {popped:?}");
            if popped != Ok(true) {
                continue;
            }
            // Asked to stop, it is quiet as soon as the chain is given back.
            let _ = guest.store(0x70, 0);
            let mut none = Chain::new();
            assert_eq!(
                queue.pop(guest.device().memory(), &mut none),
                Err(Stop::Asked)
            );
            counts.clear();
            assert_eq!(queue.complete(&chain, 1), Ok(()));
            assert_eq!(counts.rings(), 3);
        }
    }
}

/// When a model has a chain that is due.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    /// Never: it answers at once.
    Never,
    /// Never, and it serves nothing.
    Busy,
    /// Each chain that was pending when it heard that nothing more comes.
    Drained,
    /// Always one that is not pending any more.
    Stale,
}

/// Counts how often it is asked.
struct Asked {
    when: Due,
    asked: Cell<u32>,
    held: VecDeque<Token>,
    due: VecDeque<Token>,
}

impl DeviceConfig for Asked {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, _: u16) -> u16 {
        SIZE
    }
}

impl DeviceModel for Asked {
    fn can_serve(&self, _: u16) -> bool {
        self.when != Due::Busy
    }
    fn due(&self) -> Option<Token> {
        self.asked.set(self.asked.get() + 1);
        self.due.front().copied()
    }
    fn drained(&mut self, _: u16) {
        self.due.append(&mut self.held);
    }
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        if self.when == Due::Stale {
            self.due = [request.token].into();
        } else if self.due.front() == Some(&request.token) {
            self.due.pop_front();
        } else if self.when == Due::Drained {
            self.held.push_back(request.token);
            return Ok(Answer::Pending);
        }
        Ok(Answer::Done { written: 0 })
    }
}

/// How often each poll asks for a chain that is due, until there is no more to do.
fn asks(when: Due, loads: [Load; Q], slots: usize, budget: u16) -> Vec<u32> {
    let model = Asked {
        when,
        asked: Cell::new(0),
        held: VecDeque::new(),
        due: VecDeque::new(),
    };
    let (mut guest, ram) = virtside_tests::guest(model, slots);
    let configs: Vec<_> = (0..Q as u16).map(config).collect();
    assert!(guest.bring_up(Features::VERSION_1, &configs));
    for (queue, load) in (0..).zip(loads) {
        load.write(&mut driver(ram, queue));
        let _ = guest.kick(queue);
    }
    let mut each = Vec::new();
    for _ in 0..200 {
        let step = guest.poll(budget);
        each.push(guest.model().asked.take());
        if step != Step::More || budget == 0 {
            return each;
        }
    }
    panic!("{loads:?} never ends");
}

#[test]
fn a_poll_asks_for_a_due_chain_no_more_often_than_documented() {
    let bound = |budget: u16| 2 * u32::from(budget) + Q as u32 + 3;
    for when in [Due::Never, Due::Busy, Due::Drained, Due::Stale] {
        for one in [
            Load::Nothing,
            Load::Short(1),
            Load::Short(16),
            Load::BadHead,
        ] {
            for other in [Load::Nothing, Load::Short(16)] {
                for slots in 1..=3 {
                    for budget in [0, 1, 2, 5, 16, 200] {
                        let loads = [one, other, one, other];
                        for asked in asks(when, loads, slots, budget) {
                            assert!(
                                asked <= bound(budget),
                                "{asked}: {when:?}, budget {budget}, {slots} slots, {loads:?}"
                            );
                        }
                    }
                }
            }
        }
    }
    // Each chain takes the only slot, and is due when nothing more comes.
    for budget in [2, 16] {
        let polls = asks(Due::Drained, [Load::Short(16); Q], 1, budget);
        assert!(polls.iter().any(|asked| *asked >= 2 * u32::from(budget)));
    }
    let [most] = asks(Due::Busy, [Load::Short(1); Q], 1, 16)[..] else {
        panic!("one poll is enough");
    };
    assert_eq!(most, Q as u32 + 2, "once for each queue that is not served");
}
