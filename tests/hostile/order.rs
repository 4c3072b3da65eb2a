//! IN_ORDER queues that are taken, put back, reset and carried over, against a model of them.

use std::{collections::VecDeque, sync::Arc};

use virtside::{
    DriverMem, Features, FlatMem, Refusal, Shared, Step,
    device::PutBackError,
    device::{QueueState, Stop, TakenQueue},
    error::DeviceError,
    mmio::Reply,
    queue::Chain,
    snapshot::EngineSnapshot,
    testing::{Buffer, Registers},
};
use virtside_tests::{
    BASE, DATA, Line, N, Q,
    in_order::{FORMATS, Format, HolderRig, InOrderDriver},
    random::Random,
    reg,
};

type Queue = TakenQueue<<FlatMem as DriverMem>::Window, Line, Q, N, Arc<Shared<Q>>>;

/// A chain that was popped: its number in its life of the queue, and its room.
struct Popped {
    chain: Chain<N>,
    number: usize,
    room: u32,
    /// It was abandoned.
    lost: bool,
}

/// A chain in the ring.
struct Waiting {
    number: usize,
    room: u32,
    /// One of its buffers is not mapped.
    broken: bool,
}

/// One queue, its owner, and what is to be true of both.
struct World {
    rig: HolderRig,
    format: Format,
    size: u16,
    queue: Option<Queue>,
    /// In the ring.
    waiting: VecDeque<Waiting>,
    /// With the owner, oldest first.
    popped: VecDeque<Popped>,
    /// Given back and not taken by the driver: number, and length.
    given: VecDeque<(usize, u32)>,
    /// Chains of this and earlier lives that must never be taken again.
    old: Vec<Chain<N>>,
}

impl World {
    fn new(format: Format, features: Features, size: u16) -> Self {
        let rig = HolderRig::with(format, features | Features::RING_RESET, 1, size, 4);
        Self::over(rig, format, size)
    }

    /// Broken chains are given back alone.
    fn refusing(format: Format, features: Features) -> Self {
        let rig = HolderRig::rejecting(format, features | Features::RING_RESET);
        Self::over(rig, format, 16)
    }

    fn over(mut rig: HolderRig, format: Format, size: u16) -> Self {
        rig.fill();
        Self {
            rig,
            format,
            size,
            queue: None,
            waiting: VecDeque::new(),
            popped: VecDeque::new(),
            given: VecDeque::new(),
            old: Vec::new(),
        }
    }

    fn take(&mut self) {
        if self.queue.is_none() {
            self.queue = Some(self.rig.engine.take_queue(0).expect("nothing is in hand"));
        }
    }

    fn send(&mut self, random: &mut Random, broken: bool) {
        let pieces = 1 + random.below(4) as u16;
        if pieces > self.rig.drivers[0].free() {
            return;
        }
        let readable = random.below(u64::from(pieces) + 1) as u16;
        let mut buffers: Vec<_> = (0..pieces)
            .map(|at| match at < readable {
                true => Buffer::readable(DATA, 3),
                false => Buffer::writable(DATA, 5),
            })
            .collect();
        if broken {
            buffers[random.index(usize::from(pieces))].addr = 0x10;
        }
        let number = self.rig.drivers[0].send(&buffers);
        let room = 5 * u32::from(pieces - readable);
        self.waiting.push_back(Waiting {
            number,
            room,
            broken,
        });
    }

    fn pop(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        let mut chain = Chain::new();
        let got = queue.pop(&self.rig.ram.flat(BASE), &mut chain);
        let Some(Waiting {
            number,
            room,
            broken,
        }) = self.waiting.pop_front()
        else {
            assert_eq!(got, Ok(false));
            return;
        };
        if broken {
            // Also one that was abandoned stands in its way.
            if self.popped.is_empty() {
                assert!(matches!(got, Err(Stop::Rejected(_))), "{got:?}");
                self.given.push_back((number, 0));
            } else {
                assert!(matches!(got, Err(Stop::Driver(_))), "{got:?}");
                assert!(!self.rig.engine.device().shared().needs_reset());
                self.fail();
            }
            return;
        }
        assert_eq!(got, Ok(true));
        assert_eq!(chain.writable_len(), u64::from(room));
        self.popped.push_back(Popped {
            chain,
            number,
            room,
            lost: false,
        });
    }

    fn complete(&mut self, random: &mut Random) {
        let Some(queue) = &mut self.queue else { return };
        if self.popped.is_empty() {
            return;
        }
        let at = if random.once_in(2) {
            0
        } else {
            random.index(self.popped.len())
        };
        let written = (self.popped[at].room).saturating_sub(random.below(2) as u32);
        let chain = self.popped[at].chain.clone();
        let done = queue.complete(&chain, written);
        if self.popped[at].lost {
            assert_eq!(done, Err(Refusal::StaleToken.into()));
        } else if at != 0 {
            let head = chain.head();
            assert_eq!(
                done,
                Err(DeviceError::Refused(Refusal::OutOfOrder { head }))
            );
        } else {
            assert_eq!(done, Ok(()));
            let Popped { chain, number, .. } = self.popped.remove(at).expect("it is there");
            self.given.push_back((number, written));
            self.old.push(chain);
        }
    }

    /// No chain that was given back, or of an earlier life, is taken.
    fn try_old(&mut self, random: &mut Random) {
        let Some(queue) = &mut self.queue else { return };
        if self.old.is_empty() {
            return;
        }
        let before = queue.in_flight();
        let old = &self.old[random.index(self.old.len())];
        assert_eq!(queue.complete(old, 0), Err(Refusal::StaleToken.into()));
        queue.abandon(old);
        assert_eq!(queue.in_flight(), before);
    }

    fn flush_and_look(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.flush();
        }
        let given = self.rig.drivers[0].take();
        let is: Vec<_> = given
            .iter()
            .map(|given| (given.number, given.len))
            .collect();
        let expected: Vec<_> = self.given.drain(..).collect();
        assert_eq!(is, expected, "{:?} size {}", self.format, self.size);
    }

    /// Everything in flight is given back, and the queue is put back.
    fn put_back(&mut self) {
        let Some(mut queue) = self.queue.take() else {
            return;
        };
        let lost = self.popped.iter().any(|popped| popped.lost);
        while let Some(Popped {
            chain,
            number,
            room,
            ..
        }) = self.popped.pop_front()
        {
            if lost {
                queue.abandon(&chain);
            } else {
                assert_eq!(queue.complete(&chain, room), Ok(()));
                self.given.push_back((number, room));
            }
            self.old.push(chain);
        }
        let back = self.rig.engine.put_back(queue);
        if lost {
            assert!(matches!(back, Err(PutBackError::Discarded)));
            // Under every policy: it is the owner's doing.
            assert!(self.rig.engine.device().shared().needs_reset());
            self.reset();
        } else {
            assert!(back.is_ok());
            self.flush_and_look();
        }
    }

    /// The device serves what is in the ring itself.
    fn serve(&mut self) {
        self.put_back();
        assert_eq!(self.rig.kick(0), Step::Idle);
        let full = |it: Waiting| (it.number, if it.broken { 0 } else { it.room });
        self.given.extend(self.waiting.drain(..).map(full));
        self.flush_and_look();
    }

    fn carry(&mut self) {
        self.put_back();
        let state: EngineSnapshot<(), Q, N, 4> = self.rig.engine.save().expect("nothing is out");
        let _ = self.rig.engine.store(reg::STATUS, 0);
        assert_eq!(self.rig.engine.restore(&state), Ok(()));
        // The first poll would serve what is there.
        self.take();
    }

    /// The queue has stopped; what is in flight may still be given back, in order.
    fn fail(&mut self) {
        while let Some(Popped {
            chain,
            number,
            room,
            lost,
        }) = self.popped.pop_front()
        {
            let queue = self.queue.as_mut().expect("it was taken");
            if lost || queue.complete(&chain, room).is_err() {
                queue.abandon(&chain);
            } else {
                self.given.push_back((number, room));
            }
            self.old.push(chain);
        }
        self.flush_and_look();
        let back = self
            .rig
            .engine
            .put_back(self.queue.take().expect("it was taken"));
        assert!(matches!(back, Err(PutBackError::Discarded)));
        assert_eq!(self.rig.engine.queue_state(0), QueueState::Failed);
        self.reset();
    }

    /// The driver resets the device.
    fn reset(&mut self) {
        self.old
            .extend(self.popped.drain(..).map(|popped| popped.chain));
        drop(self.queue.take());
        self.waiting.clear();
        self.given.clear();
        self.rig.restart(1, self.size);
    }

    /// The driver resets the queue while its owner is at work.
    fn reset_queue(&mut self, random: &mut Random) {
        self.take();
        let _ = self.rig.engine.store(reg::QUEUE_SEL, 0);
        assert_eq!(self.rig.engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
        let queue = self.queue.as_mut().expect("it was taken");
        let mut chain = Chain::new();
        assert_eq!(
            queue.pop(&self.rig.ram.flat(BASE), &mut chain),
            Err(Stop::Asked)
        );
        let abandons = random.once_in(2);
        while let Some(Popped {
            chain,
            room,
            number,
            lost,
        }) = self.popped.pop_front()
        {
            let busy = !lost || self.popped.iter().any(|popped| !popped.lost);
            assert_eq!(self.rig.engine.load(reg::QUEUE_RESET), u32::from(busy));
            let queue = self.queue.as_mut().expect("it was taken");
            if abandons || lost || queue.complete(&chain, room).is_err() {
                queue.abandon(&chain);
            } else {
                self.given.push_back((number, room));
            }
            self.old.push(chain);
        }
        assert_eq!(self.rig.engine.load(reg::QUEUE_RESET), 0);
        // Quiet: nothing more is written, even if it is flushed.
        if random.once_in(2) {
            self.flush_and_look();
        }
        let back = self
            .rig
            .engine
            .put_back(self.queue.take().expect("it was taken"));
        assert!(matches!(back, Err(PutBackError::Discarded)));
        assert!(!self.rig.engine.device().shared().needs_reset());
        self.waiting.clear();
        self.given.clear();
        self.rig.drivers[0] = InOrderDriver::new(self.rig.ram, self.format, 0, self.size);
        let config = self.rig.drivers[0].config();
        assert_eq!(self.rig.engine.configure(&config), Reply::Done(0));
    }

    fn abandon(&mut self, random: &mut Random) {
        if self.popped.is_empty() || self.popped.iter().any(|popped| popped.lost) {
            return;
        }
        let at = random.index(self.popped.len());
        let queue = self.queue.as_mut().expect("chains are out");
        let before = queue.in_flight();
        queue.abandon(&self.popped[at].chain);
        assert_eq!(queue.in_flight(), before - 1);
        self.popped[at].lost = true;
    }

    fn check(&self) {
        if let Some(queue) = &self.queue {
            let flying = self.popped.iter().filter(|popped| !popped.lost).count();
            assert_eq!(usize::from(queue.in_flight()), flying);
        }
    }
}

/// What happens beside the usual.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Abandoned,
    Broken,
}

fn play(seed: u64, trouble: Trouble) {
    let mut random = Random::new(seed);
    let events = random.of(&[Features::empty(), Features::EVENT_IDX]);
    for &format in FORMATS {
        let size = 1 << random.below(5);
        let mut world = match trouble {
            Trouble::Broken => World::refusing(format, events),
            _ => World::new(format, Features::IN_ORDER | events, size),
        };
        for _ in 0..400 {
            let broken = trouble == Trouble::Broken && random.once_in(4);
            match random.below(40) {
                0..=11 => world.send(&mut random, broken),
                12..=21 => {
                    world.take();
                    world.pop();
                }
                22..=29 => world.complete(&mut random),
                30..=32 => world.flush_and_look(),
                33 => world.put_back(),
                34 => world.serve(),
                35 => world.carry(),
                36 => world.reset(),
                37 => world.reset_queue(&mut random),
                38 if trouble != Trouble::None => world.abandon(&mut random),
                _ => world.try_old(&mut random),
            }
            world.check();
        }
    }
}

#[test]
fn a_taken_queue_in_order_does_as_its_model_does() {
    for seed in 0..150 {
        play(seed, Trouble::None);
    }
}

#[test]
fn a_taken_queue_in_order_that_loses_chains_does_so_too() {
    for seed in 1000..1150 {
        play(seed, Trouble::Abandoned);
    }
}

#[test]
fn a_taken_queue_in_order_that_rejects_chains_does_so_too() {
    for seed in 2000..2150 {
        play(seed, Trouble::Broken);
    }
}
