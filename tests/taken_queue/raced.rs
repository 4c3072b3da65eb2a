//! Everything at once: a driver that writes registers in any order on one thread, the device on
//! another, and two owners of taken queues that serve, abandon, drop, keep and give back as they like.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering, fence},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

#[cfg(feature = "packed")]
use virtside::testing::PackedDriver;
use virtside::{
    Chain, ChainSlot, DriverFault, DriverMem, DriverNotify, Engine, FaultPolicy, Features,
    QueueState, Refusal, Shared, Stop, Taken, Token,
    mmio::{Access, Reply, Ticket},
    testing::{Buffer, FakeDriver, Layout, Registers},
};
use virtside_std::VmMem;
use virtside_tests::{
    BASE, BUDGET, BYTES, DATA, Line, N, Q,
    probe::Probe,
    ram,
    random::Random,
    reg,
    status::{FAILED, LIVE, SUSPEND},
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::echo;

/// Rounds of each combination.
const ROUNDS: u32 = 6;
/// Far more than anything here takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
const QUEUES: u16 = 2;
const SIZE: u16 = 8;
/// Chains of two descriptors that fill a ring.
const CHAINS: u16 = SIZE / 2;
/// Bytes of a queue's rings and of its buffers.
const AREA: usize = 0x200;
const NOTHING: u64 = 0x10;

type Queue<M> = Taken<M, Bell, Q, N, Arc<Shared<Q>>>;
/// With a number of its own.
type Out<M> = (u32, Queue<M>);
type Guest<M> = Engine<Probe, M, Bell, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// A line that takes its time, so that others get in between.
#[derive(Clone, Copy, Debug)]
struct Bell(Line);

impl DriverNotify for Bell {
    fn assert(&self) {
        thread::yield_now();
        self.0.assert();
    }
    fn deassert(&self) {
        thread::yield_now();
        self.0.deassert();
    }
}

/// What all threads see.
#[derive(Default)]
struct Stage {
    /// Nothing is abandoned, dropped, kept or broken.
    calm: AtomicBool,
    over: AtomicBool,
    /// Which piece of orderly work this is, in which nobody is asked to stop; 0 between two.
    work: AtomicU32,
    /// Rounds of the device and of each owner.
    ticks: [AtomicU32; 3],
}

impl Stage {
    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }
    fn work(&self) -> u32 {
        self.work.load(Ordering::SeqCst)
    }
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
    /// Says that a thread is at work.
    fn tick(&self, thread: usize) {
        self.ticks[thread].fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
    }
    /// Until every thread has gone on a bit.
    fn wait(&self) {
        let seen = || {
            self.ticks
                .each_ref()
                .map(|tick| tick.load(Ordering::SeqCst))
        };
        let before = seen();
        self.until("somebody does not go on", || {
            let far = |(now, before): (u32, u32)| now.wrapping_sub(before) >= 3;
            seen().into_iter().zip(before).all(far).then_some(())
        });
    }
    #[track_caller]
    fn until<T>(&self, trouble: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(value) = done() {
                return value;
            }
            assert!(!self.is_over(), "another thread failed");
            assert!(start.elapsed() < PATIENCE, "{trouble}");
            thread::yield_now();
        }
    }
}

/// Ends everything with the thread that has it.
struct Ends<'s>(&'s Stage);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// An answer of the device, the interrupts so far, and whether the line was high.
type Answer = (Reply, u32, bool);

/// The device's thread.
struct Host<'s, M: DriverMem> {
    guest: Guest<M>,
    stage: &'s Stage,
    random: Random,
    accesses: Receiver<Access>,
    answers: Sender<Answer>,
    owners: [Sender<Out<M>>; QUEUES as usize],
    back: Receiver<Out<M>>,
    /// The last that was taken, of each number.
    out: [u32; QUEUES as usize],
    taken: u32,
    /// The piece of work, and how often queues are handed out in it yet.
    quota: (u32, u32),
    waiting: Option<Ticket>,
    /// Of any life.
    tokens: Vec<Token>,
}

impl<M: DriverMem> Host<'_, M> {
    fn run(mut self) -> Guest<M> {
        let _ends = Ends(self.stage);
        while !self.stage.is_over() {
            self.hear();
            while let Ok(queue) = self.back.try_recv() {
                self.put_back(queue);
            }
            if self.stage.is_calm() {
                self.guest.model_mut().holds = false;
                self.complete_all();
                self.guest.poll(BUDGET);
            } else {
                self.do_something();
            }
            let work = self.stage.work();
            if self.quota.0 != work {
                self.quota = (work, self.random.below(8) as u32);
            }
            if self.random.once_in(3) && (work == 0 || self.quota.1 != 0) {
                self.quota.1 = self.quota.1.saturating_sub(1);
                self.hand_out();
            }
            self.stage.tick(0);
        }
        self.guest
    }

    /// Takes an access, or asks again after the last one.
    fn hear(&mut self) {
        let reply = match self.waiting {
            Some(ticket) => {
                let another = self.guest.access(Access::read(0));
                assert_eq!(another, Reply::Busy);
                self.guest.finish(ticket)
            }
            None => match self.accesses.try_recv() {
                Ok(access) => self.guest.access(access),
                Err(_) => return,
            },
        };
        self.waiting = match reply {
            Reply::Pending(ticket) => Some(ticket),
            _ => None,
        };
        if self.waiting.is_none() {
            let line = self.guest.device().notify().0;
            // The driver may be gone.
            let _ = self.answers.send((reply, line.asserted(), line.is_high()));
        }
    }

    fn put_back(&mut self, (name, queue): Out<M>) {
        let last = self.out[usize::from(queue.number())];
        match self.guest.put_back(queue) {
            Ok(()) => assert_eq!(name, last, "it has a successor"),
            Err(Err(Refusal::StaleToken)) => {}
            Err(Err(refusal)) => panic!("{refusal:?}"),
            Err(Ok(mut queue)) => {
                assert!(queue.in_flight() != 0);
                queue.abandon_all();
                assert!(!matches!(self.guest.put_back(queue), Err(Ok(_))));
            }
        }
    }

    fn hand_out(&mut self) {
        let number = self.random.below(QUEUES.into()) as u16;
        if let Ok(queue) = self.guest.take_queue(number) {
            assert_eq!((queue.number(), queue.in_flight()), (number, 0));
            self.taken += 1;
            self.out[usize::from(number)] = self.taken;
            // The owner may be gone.
            let _ = self.owners[usize::from(number)].send((self.taken, queue));
        }
    }

    fn complete_all(&mut self) {
        for token in self.guest.model().held.clone() {
            let _ = self.guest.complete(token);
        }
        self.guest.model_mut().held.clear();
    }

    fn do_something(&mut self) {
        match self.random.below(16) {
            0..=7 => {
                let budget = self.random.below(5) as u16;
                self.guest.poll(budget);
            }
            8 => self.guest.model_mut().holds = self.random.once_in(2),
            9..=11 => {
                let held = &self.guest.model().held;
                if !held.is_empty() {
                    let token = held[self.random.index(held.len())];
                    let _ = self.guest.complete(token);
                    self.tokens.push(token);
                }
            }
            // Whatever became of it, it was answered, or its life is over.
            12 => {
                if let Some(token) = self.tokens.pop()
                    && !self.guest.model().held.contains(&token)
                {
                    let again = self.guest.complete(token);
                    assert_eq!(again, Err(Refusal::StaleToken));
                }
            }
            13 => {
                self.guest.update_config(|probe| probe.space[0] ^= 1);
            }
            14 => {
                let _ = self.guest.memory_changed();
            }
            _ => self.save(),
        }
    }

    /// A state is refused while a queue is out, or an access is not answered.
    fn save(&mut self) {
        let saved = self.guest.save::<4>();
        // A queue that is out now was out then.
        let out = (0..QUEUES).any(|queue| self.guest.queue_state(queue) == QueueState::Taken);
        if out || self.waiting.is_some() {
            assert!(saved.is_err(), "queues are out, or a driver waits");
        }
    }
}

/// A thread that owns queue after queue.
struct Owner<'s, M: DriverMem> {
    mem: M,
    stage: &'s Stage,
    name: usize,
    random: Random,
    orders: Receiver<Out<M>>,
    back: Sender<Out<M>>,
    in_order: bool,
    /// Quiet queues that it keeps although they may have successors.
    ghosts: Vec<Out<M>>,
    /// Chains that were given back, or are of earlier lives.
    stale: Vec<Chain<N>>,
}

impl<M: DriverMem> Owner<'_, M> {
    fn run(mut self) {
        let _ends = Ends(self.stage);
        while !self.stage.is_over() {
            if let Ok(queue) = self.orders.try_recv() {
                if self.stage.is_calm() {
                    self.serve(queue);
                } else {
                    self.play(queue);
                }
            }
            self.haunt();
            self.stage.tick(self.name);
        }
    }

    /// Serves as it should be done: asleep until it is kicked. Gives it back after a while.
    fn serve(&mut self, (name, mut queue): Out<M>) {
        let work = self.stage.work();
        let mut naps = 1 + self.random.below(4);
        let mut asleep = self.random.once_in(2);
        let mut end = None;
        while end.is_none() {
            let mut patience = 4;
            while asleep && !queue.was_kicked() && patience != 0 && !self.stage.is_over() {
                // It would sleep for ever, but at last it has something else to do.
                patience -= u32::from(naps == 0);
                self.haunt();
                self.stage.tick(self.name);
            }
            if asleep && naps == 0 {
                break;
            }
            naps -= u64::from(asleep);
            queue.disable_kicks();
            let mut chain = Chain::new();
            asleep = loop {
                match queue.pop(&self.mem, &mut chain) {
                    Ok(true) => {
                        let written = echo(&self.mem, &chain);
                        assert_eq!(queue.complete(&chain, written), Ok(()));
                        queue.flush();
                    }
                    Ok(false) => break !queue.enable_kicks().unwrap_or(true),
                    Err(stop) => {
                        end = Some(stop);
                        break false;
                    }
                }
            };
        }
        if work != 0 && work == self.stage.work() {
            assert_eq!(end, None, "nobody asked for that");
        }
        let _ = self.back.send((name, queue));
    }

    /// Does anything with a queue that its owner may do.
    fn play(&mut self, (name, mut queue): Out<M>) {
        let mut held = VecDeque::new();
        let mut stopped = false;
        for _ in 0..self.random.below(60) {
            match self.random.below(16) {
                0..=5 => {
                    let mut chain = Chain::new();
                    match queue.pop(&self.mem, &mut chain) {
                        Ok(true) => held.push_back(chain),
                        Ok(false) | Err(Stop::Refused(_)) => {}
                        Err(_) => stopped = true,
                    }
                }
                6..=9 => self.complete_one(&mut queue, &mut held),
                10 => {
                    queue.flush();
                }
                11 => queue.disable_kicks(),
                12 => stopped |= queue.enable_kicks().is_err(),
                13 => self.try_stale(&mut queue),
                14 if self.random.once_in(8) => {
                    if let Some(chain) = held.pop_front() {
                        queue.abandon(&chain);
                        self.stale.push(chain);
                    }
                }
                15 if self.random.once_in(16) => {
                    queue.report(DriverFault::HeadInFlight { head: 0 });
                    stopped = true;
                }
                _ => {
                    let _ = queue.was_kicked();
                }
            }
            assert_eq!(usize::from(queue.in_flight()), held.len());
            self.stage.tick(self.name);
            if stopped {
                break;
            }
        }
        self.part((name, queue), held, stopped);
    }

    /// Has done with a queue, in one way or another.
    fn part(&mut self, (name, mut queue): Out<M>, mut held: VecDeque<Chain<N>>, stopped: bool) {
        match self.random.below(8) {
            0 => return drop(queue),
            // The device gets it as it is, or has to insist.
            1 => {
                let _ = self.back.send((name, queue));
                return;
            }
            2..=3 => queue.abandon_all(),
            _ => {
                for _ in 0..held.len() {
                    self.stage.tick(self.name);
                    self.complete_one(&mut queue, &mut held);
                }
                queue.abandon_all();
            }
        }
        self.stale.extend(held);
        self.stale.truncate(8);
        if stopped && self.random.once_in(2) {
            self.ghosts.push((name, queue));
        } else {
            let _ = self.back.send((name, queue));
        }
    }

    fn complete_one(&mut self, queue: &mut Queue<M>, held: &mut VecDeque<Chain<N>>) {
        let at = match self.random.index(held.len().max(1)) {
            _ if self.in_order => 0,
            at => at,
        };
        let Some(chain) = held.remove(at) else {
            return;
        };
        let written = if self.random.once_in(4) {
            0
        } else {
            echo(&self.mem, &chain)
        };
        match queue.complete(&chain, written) {
            Ok(()) => {
                let again = queue.complete(&chain, written);
                assert_eq!(again, Err(Refusal::StaleToken.into()));
                self.stale.push(chain);
            }
            // An older one was abandoned.
            Err(error) => {
                assert!(self.in_order, "{error:?}");
                held.push_front(chain);
            }
        }
    }

    /// No chain of an earlier life is taken for one of this.
    fn try_stale(&mut self, queue: &mut Queue<M>) {
        for chain in &self.stale {
            let before = queue.in_flight();
            assert_eq!(queue.complete(chain, 0), Err(Refusal::StaleToken.into()));
            queue.abandon(chain);
            assert_eq!(queue.in_flight(), before);
        }
    }

    /// Tries everything with queues that are quiet, and at last lets go of them.
    fn haunt(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let at = self.random.index(self.ghosts.len());
        let (name, mut ghost) = self.ghosts.swap_remove(at);
        let mut chain = Chain::new();
        assert_eq!(ghost.pop(&self.mem, &mut chain), Err(Stop::Asked));
        assert!(ghost.is_stopped() && ghost.in_flight() == 0);
        assert!(!ghost.flush() && !ghost.was_kicked());
        ghost.disable_kicks();
        assert!(ghost.enable_kicks().is_err());
        self.try_stale(&mut ghost);
        match self.random.below(60) {
            0 => drop(ghost),
            1 => {
                let _ = self.back.send((name, ghost));
            }
            2 => {
                ghost.report(DriverFault::HeadInFlight { head: 1 });
                let _ = self.back.send((name, ghost));
            }
            _ => self.ghosts.push((name, ghost)),
        }
    }
}

/// The driver's end of a ring.
enum Ring<M> {
    Split(FakeDriver<M>, u16),
    #[cfg(feature = "packed")]
    Packed(PackedDriver<M>),
}

/// The driver's side of a queue: what is out, oldest first.
struct Lane<M> {
    queue: u16,
    ring: Ring<M>,
    in_order: bool,
    sent: VecDeque<(u16, u32)>,
    answered: u32,
}

impl<M: DriverMem + Clone> Lane<M> {
    fn new(mem: &M, queue: u16, features: Features) -> Self {
        let start = BASE + 0x1000 * u64::from(queue);
        let split = FakeDriver::new(mem.clone(), Layout::packed_at(start, SIZE));
        let ring = Ring::Split(split, 0);
        #[cfg(feature = "packed")]
        let ring = if features.contains(Features::RING_PACKED) {
            Ring::Packed(PackedDriver::new(mem.clone(), start, SIZE))
        } else {
            ring
        };
        Self {
            queue,
            ring,
            in_order: features.contains(Features::IN_ORDER),
            sent: VecDeque::new(),
            answered: 0,
        }
    }

    fn config(&self) -> virtside::QueueConfig {
        match &self.ring {
            Ring::Split(driver, _) => driver.config(self.queue),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.config(self.queue),
        }
    }

    fn buffer(&self, id: u16) -> u64 {
        DATA + 0x1000 * u64::from(self.queue) + 0x40 * u64::from(id)
    }

    fn areas(&self) -> [u64; 2] {
        [BASE + 0x1000 * u64::from(self.queue), self.buffer(0)]
    }

    /// Sends a number that is to come back, or something that cannot be taken; false if there is no
    /// room.
    fn send(&mut self, number: u32, good: bool) -> bool {
        let is_free = |id: &u16| self.sent.iter().all(|(other, _)| other != id);
        let Some(id) = (0..CHAINS).find(is_free) else {
            return false;
        };
        let at = self.buffer(id);
        let from = if good { at } else { NOTHING };
        let buffers = [Buffer::readable(from, 4), Buffer::writable(at + 0x20, 4)];
        let (first, second) = (number.to_le_bytes(), [0; 4]);
        match &mut self.ring {
            Ring::Split(driver, _) => {
                driver.write(at, &first);
                driver.write(at + 0x20, &second);
                driver.write_chain(id * 2, &buffers);
                driver.offer(id * 2);
                fence(Ordering::SeqCst);
                driver.publish();
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                driver.write(at, &first);
                driver.write(at + 0x20, &second);
                fence(Ordering::SeqCst);
                driver.send(id, &buffers);
            }
        }
        fence(Ordering::SeqCst);
        self.sent.push_back((id, number));
        true
    }

    /// Takes what came back: each once, and only what was sent.
    fn collect(&mut self) {
        loop {
            let (id, len) = match &mut self.ring {
                Ring::Split(driver, seen) => {
                    let ahead = driver.used_idx().wrapping_sub(*seen);
                    fence(Ordering::SeqCst);
                    assert!(
                        usize::from(ahead) <= self.sent.len(),
                        "more came back than was sent"
                    );
                    if ahead == 0 {
                        return;
                    }
                    let (head, len) = driver.used_entry(*seen);
                    assert_eq!(head % 2, 0);
                    (head as u16 / 2, len)
                }
                #[cfg(feature = "packed")]
                Ring::Packed(driver) => {
                    let Some((id, len, _)) = driver.clone().take_used(0) else {
                        return;
                    };
                    fence(Ordering::SeqCst);
                    (id, len)
                }
            };
            let at = self.place(id);
            // In order, all before the last of a batch are skipped.
            let first = if self.in_order { 0 } else { at };
            let count = (at - first) as u16 + 1;
            match &mut self.ring {
                Ring::Split(_, seen) => *seen = seen.wrapping_add(count),
                #[cfg(feature = "packed")]
                Ring::Packed(driver) => {
                    driver.take_used(2 * count);
                }
            }
            for (sent, number) in self.sent.range(first..=at) {
                self.check(*sent, *number, if *sent == id { len } else { 4 });
            }
            self.answered += u32::from(count);
            self.sent.drain(first..=at);
        }
    }

    #[track_caller]
    fn place(&self, id: u16) -> usize {
        let place = self.sent.iter().position(|(sent, _)| *sent == id);
        place.expect("answered twice, or never sent")
    }

    fn check(&self, id: u16, number: u32, len: u32) {
        let mut bytes = [0; 4];
        let at = self.buffer(id) + 0x20;
        match &self.ring {
            Ring::Split(driver, _) => driver.read(at, &mut bytes),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.read(at, &mut bytes),
        };
        match len {
            0 => {}
            4 => assert_eq!(u32::from_le_bytes(bytes), number),
            len => panic!("{len} bytes came back"),
        }
    }
}

/// The driver's thread.
struct Driver<'s, M: DriverMem> {
    mem: M,
    line: Line,
    shared: Arc<Shared<Q>>,
    stage: &'s Stage,
    random: Random,
    features: Features,
    accesses: Sender<Access>,
    answers: Receiver<Answer>,
    lanes: Vec<Lane<M>>,
    number: u32,
    /// What the line was when the last access was answered.
    seen: (u32, bool),
}

impl<M: DriverMem> Registers for Driver<'_, M> {
    fn reach(&mut self, access: Access) -> Reply {
        self.accesses.send(access).expect("the device is there");
        let answer = self.answers.recv_timeout(PATIENCE);
        let (reply, asserted, high) = answer.expect("the driver was never answered");
        self.seen = (asserted, high);
        reply
    }
}

impl<M: DriverMem + Clone> Driver<'_, M> {
    fn run(mut self) {
        let _ends = Ends(self.stage);
        for round in 1..=ROUNDS {
            self.stage.calm.store(false, Ordering::SeqCst);
            self.start();
            for _ in 0..12 {
                if !self.misbehave() {
                    break;
                }
            }
            self.reset();
            self.stage.calm.store(true, Ordering::SeqCst);
            self.start();
            self.work(round);
            self.stage.work.store(0, Ordering::SeqCst);
        }
    }

    fn start(&mut self) {
        self.lanes = (0..QUEUES)
            .map(|queue| Lane::new(&self.mem, queue, self.features))
            .collect();
        let configs: Vec<_> = self.lanes.iter().map(Lane::config).collect();
        assert!(
            self.bring_up(self.features, &configs),
            "a clean start works"
        );
    }

    fn send(&mut self, queue: usize, good: bool) -> bool {
        self.number += 1;
        self.lanes[queue].send(self.number, good)
    }

    /// Kicks past the registers, as an ioeventfd does, or through them.
    fn knock(&mut self, queue: usize) {
        if self.random.once_in(2) {
            self.shared.doorbell().ring(queue as u16);
        } else {
            let _ = self.kick(queue as u16);
        }
    }

    /// Everything that is sent comes back, and is announced, also what is sent to a device that is
    /// suspended.
    fn work(&mut self, round: u32) {
        let mut expected = [0; QUEUES as usize];
        let before = self.line.asserted();
        for half in [0, 1] {
            self.stage.work.store(round * 2 + half, Ordering::SeqCst);
            for _ in 0..8 {
                let queue = self.random.index(QUEUES.into());
                if self.send(queue, true) {
                    expected[queue] += 1;
                    self.knock(queue);
                }
                if self.random.once_in(4) {
                    assert_eq!(self.store(reg::INTERRUPT_ACK, 3), Reply::Done(0));
                }
                self.lanes[queue].collect();
            }
            self.assert_answered(expected);
            self.stage.work.store(0, Ordering::SeqCst);
            if half == 0 {
                self.suspend();
                for (queue, count) in expected.iter_mut().enumerate() {
                    *count += u32::from(self.send(queue, true));
                }
                self.stage.work.store(round * 2 + 1, Ordering::SeqCst);
                self.resume();
                self.assert_answered(expected);
            }
        }
        assert_eq!(self.load(reg::STATUS), LIVE, "of an earlier life");
        assert_ne!(self.line.asserted(), before, "nothing was announced");
        let start = Instant::now();
        while self.load(reg::INTERRUPT_STATUS) != u32::from(self.line.is_high()) {
            assert!(start.elapsed() < PATIENCE, "the line is stuck");
        }
        while self.load(reg::INTERRUPT_STATUS) != 0 || self.line.is_high() {
            assert_eq!(self.store(reg::INTERRUPT_ACK, 1), Reply::Done(0));
            assert!(start.elapsed() < PATIENCE, "the line is stuck");
        }
    }

    fn assert_answered(&mut self, expected: [u32; QUEUES as usize]) {
        let Self { stage, lanes, .. } = self;
        stage.until("a request, or its kick, was lost", || {
            lanes.iter_mut().for_each(Lane::collect);
            let answered = lanes.iter().map(|lane| lane.answered);
            answered.eq(expected).then_some(())
        });
    }

    fn resume(&mut self) {
        assert_eq!(self.store(reg::STATUS, LIVE | SUSPEND), Reply::Done(0));
        assert_eq!(self.load(reg::STATUS) & SUSPEND, 0);
    }

    /// False if only a reset helps.
    fn misbehave(&mut self) -> bool {
        let queue = self.random.index(QUEUES.into());
        match self.random.below(12) {
            0..=3 => {
                for _ in 0..self.random.below(4) {
                    let good = !self.random.once_in(12);
                    self.send(queue, good);
                }
                self.knock(queue);
                self.lanes[queue].collect();
            }
            4 => {
                let bits = self.random.below(4) as u32;
                let _ = self.store(reg::INTERRUPT_ACK, bits);
            }
            5 => self.stop_queue(queue),
            6..=7 => self.reset_queue(queue),
            8..=9 => {
                self.suspend();
                if self.random.once_in(4) {
                    return false;
                }
                self.resume();
            }
            10 if self.random.once_in(8) => {
                let _ = self.store(reg::STATUS, LIVE | FAILED);
                return false;
            }
            10 => {
                // Nothing that is not allowed has an effect.
                let at = 0x30 + 4 * self.random.below(0x30) as u32;
                let value = self.random.below(2) as u32;
                if ![reg::STATUS, reg::QUEUE_READY, reg::QUEUE_RESET].contains(&at) {
                    let _ = self.store(at, value);
                }
                let _ = self.store(reg::STATUS, LIVE);
            }
            _ => self.stage.wait(),
        }
        true
    }

    fn stop_queue(&mut self, queue: usize) {
        let _ = self.store(reg::QUEUE_SEL, queue as u32);
        if self.load(reg::QUEUE_READY) == 1 {
            assert_eq!(self.store(reg::QUEUE_READY, 0), Reply::Done(0));
            assert_eq!(self.load(reg::QUEUE_READY), 0);
            self.retire(queue);
        }
    }

    /// Resets a queue, and sets it up again.
    fn reset_queue(&mut self, queue: usize) {
        let _ = self.store(reg::QUEUE_SEL, queue as u32);
        assert_eq!(self.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        let start = Instant::now();
        while self.load(reg::QUEUE_RESET) != 0 {
            assert!(start.elapsed() < PATIENCE, "the queue is never reset");
        }
        self.retire(queue);
        self.lanes[queue] = Lane::new(&self.mem, queue as u16, self.features);
        let config = self.lanes[queue].config();
        assert_eq!(self.configure(&config), Reply::Done(0));
    }

    /// The queue's memory is the driver's again.
    fn retire(&mut self, queue: usize) {
        self.lanes[queue].collect();
        let areas = self.lanes[queue].areas();
        self.assert_untouched(&areas);
        // Whoever looks at it later finds nothing.
        self.lanes[queue] = Lane::new(&self.mem, queue as u16, self.features);
    }

    fn suspend(&mut self) {
        assert_eq!(self.store(reg::STATUS, LIVE | SUSPEND), Reply::Done(0));
        let start = Instant::now();
        while self.load(reg::STATUS) & SUSPEND == 0 {
            assert!(start.elapsed() < PATIENCE, "it is never suspended");
        }
        let (asserted, _) = self.seen;
        let before = self.everything();
        if !self.stage.is_calm() {
            self.knock(0);
            self.knock(1);
        }
        self.stage.wait();
        let pending = self.load(reg::INTERRUPT_STATUS);
        assert_eq!(self.line.is_high(), pending != 0);
        let bits = self.random.below(4) as u32;
        let _ = self.store(reg::INTERRUPT_ACK, bits);
        assert_eq!(self.load(reg::INTERRUPT_STATUS), pending & !bits);
        assert_eq!(self.line.is_high(), pending & !bits != 0);
        self.stage.wait();
        assert!(
            before == self.everything(),
            "a suspended device touches memory"
        );
        assert_eq!(
            self.line.asserted(),
            asserted,
            "a suspended device interrupts"
        );
    }

    fn reset(&mut self) {
        assert_eq!(self.store(reg::STATUS, 0), Reply::Done(0));
        let seen = self.seen;
        assert!(!seen.1, "the line is high after a reset");
        let areas: Vec<_> = self.lanes.iter().flat_map(Lane::areas).collect();
        for lane in &mut self.lanes {
            lane.collect();
        }
        self.assert_untouched(&areas);
        assert_eq!(self.load(reg::STATUS), 0);
        assert_eq!(self.load(reg::INTERRUPT_STATUS), 0);
        assert_eq!(self.seen, seen, "an interrupt after the reset");
    }

    /// Uses these areas for something else, and sees whether anyone else does.
    fn assert_untouched(&mut self, areas: &[u64]) {
        let byte = self.random.below(255) as u8 + 1;
        let filled = [byte; AREA];
        let memory = plain(&self.mem);
        for area in areas {
            memory.write(*area, &filled);
        }
        self.stage.wait();
        for area in areas {
            let mut now = [0; AREA];
            assert_eq!(memory.read(*area, &mut now), AREA);
            assert!(now == filled, "memory is touched after the answer");
        }
    }

    /// The rings and buffers.
    fn everything(&self) -> Vec<u8> {
        let memory = plain(&self.mem);
        let mut all = Vec::new();
        for area in self.lanes.iter().flat_map(Lane::areas) {
            let mut now = [0; AREA];
            assert_eq!(memory.read(area, &mut now), AREA);
            all.extend(now);
        }
        all
    }
}

/// Plain access to memory.
fn plain<M: DriverMem + Clone>(mem: &M) -> FakeDriver<M> {
    let nowhere = Layout {
        size: 0,
        desc: DATA + 0x8000,
        driver: DATA + 0x8000,
        device: DATA + 0x8000,
    };
    FakeDriver::new(mem.clone(), nowhere)
}

fn storm<M>(mem: M, features: Features, policy: FaultPolicy, seed: u64)
where
    M: DriverMem + Clone + Send,
    M::Window: Send,
{
    let probe = Probe {
        wishes: Features::ALL_RINGS | Features::IN_ORDER,
        ..Probe::default()
    };
    let (stage, line): (_, Line) = (Stage::default(), Box::leak(Box::default()));
    let slots = (0..4).map(|_| ChainSlot::new()).collect();
    let guest = Guest::new(probe, mem.clone(), Bell(line), slots, Arc::default());
    let guest = guest.with_policy(policy);
    let shared = guest.device().shared().clone();
    let (accesses, heard) = channel();
    let (answers, answered) = channel();
    let (back, returned) = channel();
    let (orders, theirs): (Vec<_>, Vec<_>) = (0..QUEUES).map(|_| channel()).unzip();
    let in_order = features.contains(Features::IN_ORDER);
    thread::scope(|scope| {
        for (name, orders) in (1..).zip(theirs) {
            let owner = Owner {
                mem: mem.clone(),
                stage: &stage,
                name,
                random: Random::new(seed ^ name as u64),
                orders,
                back: back.clone(),
                in_order,
                ghosts: Vec::new(),
                stale: Vec::new(),
            };
            scope.spawn(|| owner.run());
        }
        let driver = Driver {
            mem: mem.clone(),
            line,
            shared,
            stage: &stage,
            random: Random::new(seed ^ 0x100),
            features,
            accesses,
            answers: answered,
            lanes: Vec::new(),
            number: 0,
            seen: (0, false),
        };
        scope.spawn(|| driver.run());
        let host = Host {
            guest,
            stage: &stage,
            random: Random::new(seed ^ 0x200),
            accesses: heard,
            answers,
            owners: orders.try_into().expect("one each"),
            back: returned,
            out: [0; QUEUES as usize],
            taken: 0,
            quota: (0, 0),
            waiting: None,
            tokens: Vec::new(),
        };
        host.run();
    });
}

/// Every format, with and without EVENT_IDX, each time with another policy first.
fn storms<M>(mem: impl Fn() -> M, kind: Features, seed: u64)
where
    M: DriverMem + Clone + Send,
    M::Window: Send,
{
    let always = Features::VERSION_1 | Features::RING_RESET | Features::SUSPEND | kind;
    let policies = [
        FaultPolicy::NeedsReset,
        FaultPolicy::StopQueue,
        FaultPolicy::Refuse,
    ];
    for (at, policy) in policies.into_iter().enumerate() {
        for features in [always, always | Features::EVENT_IDX] {
            let seed = seed << 8 | (at as u64) << 4 | u64::from(features != always);
            storm(mem(), features, policy, seed << 16);
        }
    }
}

fn flat() -> virtside::FlatMem {
    ram().flat(BASE)
}

fn mapped() -> VmMem {
    // Two regions, so that rings and buffers are not in one.
    let half = BYTES / 4;
    let ranges = [
        (GuestAddress(BASE), half),
        (GuestAddress(BASE + half as u64), half),
    ];
    VmMem::new(&GuestMemoryMmap::<()>::from_ranges(&ranges).expect("memory"))
}

#[test]
fn split_rings_survive_a_storm() {
    storms(flat, Features::empty(), 1);
    storms(mapped, Features::empty(), 2);
}

#[test]
fn split_rings_in_order_survive_a_storm() {
    storms(flat, Features::IN_ORDER, 3);
    storms(mapped, Features::IN_ORDER, 4);
}

#[cfg(feature = "packed")]
#[test]
fn packed_rings_survive_a_storm() {
    storms(flat, Features::RING_PACKED, 5);
    storms(mapped, Features::RING_PACKED, 6);
}

#[cfg(feature = "packed")]
#[test]
fn packed_rings_in_order_survive_a_storm() {
    storms(flat, Features::RING_PACKED | Features::IN_ORDER, 7);
    storms(mapped, Features::RING_PACKED | Features::IN_ORDER, 8);
}
