//! IN_ORDER queues that the device serves itself, late and in any order, carried over and suspended
//! at any moment, against a model of them.

use std::collections::VecDeque;

use virtside::{
    Features, Step,
    mmio::{Phase, Reply},
    snapshot::EngineSnapshot,
    testing::{Buffer, Registers},
};
use virtside_tests::{
    DATA, N, Q,
    in_order::{Asked, FORMATS, Format, HolderRig},
    random::Random,
    reg,
    status::{LIVE_SUSPEND, SUSPENDED},
};

type State = EngineSnapshot<(), Q, N, 16>;

/// A chain that the driver sent and did not get back.
struct Held {
    number: usize,
    room: u32,
    /// Its place among what the model was asked.
    asked: Option<usize>,
    written: Option<u32>,
}

struct World {
    rig: HolderRig,
    held: VecDeque<Held>,
    given: VecDeque<(usize, u32)>,
    /// How many entries of `asked` were looked at.
    seen: usize,
}

/// What the device does with a chain that comes.
fn choice(seed: u64, asked: &Asked) -> Option<u32> {
    let draw = Random::new(seed ^ asked.number as u64).below(8);
    (draw < 4).then(|| asked.room.saturating_sub(u32::from(draw == 0)))
}

impl World {
    fn new(format: Format, features: Features, size: u16) -> Self {
        let all = features | Features::IN_ORDER | Features::SUSPEND;
        let mut rig = HolderRig::with(format, all, 1, size, 16);
        rig.engine.model_mut().sleeps = true;
        Self {
            rig,
            held: VecDeque::new(),
            given: VecDeque::new(),
            seen: 0,
        }
    }

    fn send(&mut self, random: &mut Random) {
        let pieces = 1 + random.below(4) as u16;
        if pieces > self.rig.drivers[0].free() {
            return;
        }
        let readable = random.below(u64::from(pieces) + 1) as u16;
        let buffers: Vec<_> = (0..pieces)
            .map(|at| match at < readable {
                true => Buffer::readable(DATA, 3),
                false => Buffer::writable(DATA, 5),
            })
            .collect();
        let number = self.rig.drivers[0].send(&buffers);
        let room = 5 * u32::from(pieces - readable);
        self.held.push_back(Held {
            number,
            room,
            asked: None,
            written: None,
        });
        assert_eq!(self.rig.engine.notify_queue(0), Ok(()));
    }

    fn give(&mut self) {
        while let Some(written) = self.held.front().and_then(|held| held.written) {
            if let Some(held) = self.held.pop_front() {
                self.given.push_back((held.number, written));
            }
        }
    }

    fn poll(&mut self, random: &mut Random) {
        let seed = random.word();
        self.rig.choose(move |asked| choice(seed, asked));
        let _ = self.rig.engine.poll(random.below(5) as u16);
        let asked = &self.rig.engine.model().asked;
        for (at, asked) in asked.iter().enumerate().skip(self.seen) {
            let next = self
                .held
                .iter_mut()
                .find(|held| held.asked.is_none() && held.written.is_none());
            let held = next.expect("the driver sent it");
            assert_eq!(asked.room, held.room);
            held.asked = Some(at);
            held.written = choice(seed, asked);
        }
        self.seen = asked.len();
        self.give();
    }

    fn answer(&mut self, random: &mut Random) {
        let open = |held: &&mut Held| held.asked.is_some() && held.written.is_none();
        let mut open: Vec<_> = self.held.iter_mut().filter(open).collect();
        if open.is_empty() || self.rig.engine.phase() != Phase::Live {
            return;
        }
        let at = random.index(open.len());
        let held = &mut open[at];
        let written = held.room.saturating_sub(random.below(2) as u32);
        held.written = Some(written);
        let token = self.rig.engine.model().asked[held.asked.expect("it is open")].token;
        self.give();
        if random.once_in(2) {
            self.rig.engine.model_mut().answers.insert(token, written);
            assert_eq!(self.rig.engine.complete(token), Ok(()));
        } else {
            assert_eq!(self.rig.engine.complete_with(token, written), Ok(()));
        }
        assert!(self.rig.engine.complete(token).is_err(), "it was answered");
    }

    fn look(&mut self) {
        let given = self.rig.drivers[0].take();
        let is: Vec<_> = given
            .iter()
            .map(|given| (given.number, given.len))
            .collect();
        let expected: Vec<_> = self.given.drain(..).collect();
        assert_eq!(is, expected);
    }

    fn carry(&mut self) {
        let state: State = self
            .rig
            .engine
            .save()
            .expect("nothing is out or outstanding");
        let before = self.held.iter().filter(|held| held.asked.is_some()).count();
        // What was restored and not asked since is in hand, too.
        assert!(state.device.chains.len() >= before);
        self.rig.renew(16);
        self.rig.engine.model_mut().sleeps = true;
        assert_eq!(self.rig.engine.restore(&state), Ok(()));
        let again: State = self
            .rig
            .engine
            .save()
            .expect("nothing is out or outstanding");
        assert_eq!(state.device.chains.len(), again.device.chains.len());
        assert_eq!(state.device.queues[0].ring, again.device.queues[0].ring);
        for held in &mut self.held {
            held.asked = None;
        }
        self.seen = 0;
    }

    fn sleep(&mut self, random: &mut Random) {
        assert_eq!(
            self.rig.engine.store(reg::STATUS, LIVE_SUSPEND),
            Reply::Done(0)
        );
        assert_eq!(self.rig.engine.load(reg::STATUS), SUSPENDED);
        self.look();
        assert_eq!(self.rig.engine.poll(9), Step::Idle);
        if random.once_in(2) {
            self.carry();
        }
        self.look();
        assert_eq!(
            self.rig.engine.store(reg::STATUS, LIVE_SUSPEND),
            Reply::Done(0)
        );
    }

    fn end(&mut self) {
        for _ in 0..200 {
            self.look();
            if self.held.is_empty() {
                assert_eq!(self.rig.engine.poll(9), Step::Idle);
                return;
            }
            let mut random = Random::new(self.held.len() as u64);
            self.poll(&mut random);
            self.poll(&mut random);
            self.answer(&mut random);
        }
        panic!("it never ends");
    }
}

#[test]
fn late_answers_in_order_survive_restores_and_suspensions() {
    for seed in 0..200 {
        for &format in FORMATS {
            let mut random = Random::new(seed);
            let events = random.of(&[Features::empty(), Features::EVENT_IDX]);
            let mut world = World::new(format, events, 1 << random.below(5));
            for _ in 0..300 {
                match random.below(30) {
                    0..=9 => world.send(&mut random),
                    10..=17 => world.poll(&mut random),
                    18..=23 => world.answer(&mut random),
                    24..=26 => world.look(),
                    27 => world.carry(),
                    28 => world.sleep(&mut random),
                    _ => {}
                }
            }
            world.end();
        }
    }
}
