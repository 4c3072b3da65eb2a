//! Random chains, answers and budgets, compared with a simple model of what a driver may see.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};
use virtside::{Features, testing::Buffer};
use virtside_tests::{
    BUDGET, DATA,
    in_order::{Asked, FORMATS, HolderRig},
};

/// A chain in the device's hand, and its answer.
struct Held {
    number: usize,
    room: u32,
    written: Option<u32>,
}

/// The expected state of a queue.
#[derive(Default)]
struct Model {
    held: VecDeque<Held>,
    /// Number, length, and whether the chain is full.
    given: VecDeque<(usize, u32, bool)>,
}

impl Model {
    /// Gives back every chain whose turn it is.
    fn give(&mut self) {
        let answer = |oldest: &Held| oldest.written;
        while let Some(written) = self.held.front().and_then(answer) {
            if let Some(oldest) = self.held.pop_front() {
                let full = written == oldest.room;
                self.given.push_back((oldest.number, written, full));
            }
        }
    }

    /// The chains without an answer.
    fn open(&mut self) -> Vec<&mut Held> {
        let open = self.held.iter_mut().filter(|held| held.written.is_none());
        open.collect()
    }
}

/// A device, its drivers, and the models of its queues.
struct World {
    rig: HolderRig,
    models: Vec<Model>,
}

impl World {
    fn send(&mut self, queue: u16, length: u16, short: u32) {
        let buffer = |piece: u16| match short {
            0 => Buffer::readable(DATA, 3),
            _ => Buffer::writable(DATA, u32::from(piece)),
        };
        let buffers: Vec<_> = (0..length).map(buffer).collect();
        self.rig.drivers[usize::from(queue)].send(&buffers);
        assert_eq!(self.rig.engine.notify_queue(queue), Ok(()));
    }

    fn poll(&mut self, budget: u16, choice: impl Fn(&Asked) -> Option<u32> + Clone + 'static) {
        let before = self.rig.engine.model().asked.len();
        self.rig.choose(choice.clone());
        let _ = self.rig.engine.poll(budget);
        for asked in &self.rig.engine.model().asked[before..] {
            self.models[usize::from(asked.queue)].held.push_back(Held {
                number: asked.number,
                room: asked.room,
                written: choice(asked),
            });
        }
        self.models.iter_mut().for_each(Model::give);
    }

    /// Answers a chain that is open, with `left` bytes of room left.
    fn answer(&mut self, queue: u16, which: usize, left: u32) -> Result<(), TestCaseError> {
        let model = &mut self.models[usize::from(queue)];
        let mut open = model.open();
        if open.is_empty() {
            return Ok(());
        }
        let which = which % open.len();
        let held = &mut open[which];
        let written = held.room.saturating_sub(left);
        held.written = Some(written);
        let number = held.number;
        model.give();
        prop_assert_eq!(self.rig.answer_of(queue, number, written), Ok(()));
        Ok(())
    }

    /// Checks that the driver finds exactly what the model gave back.
    fn take(&mut self, queue: u16) -> Result<(), TestCaseError> {
        let model = &mut self.models[usize::from(queue)];
        for given in self.rig.drivers[usize::from(queue)].take() {
            let expected = model.given.pop_front();
            let is = (given.number, given.len);
            prop_assert_eq!(expected.map(|(number, len, _)| (number, len)), Some(is));
            let full = expected.is_some_and(|(_, _, full)| full);
            prop_assert!(full || !given.skipped, "{:?} has room left", given);
        }
        prop_assert!(model.given.is_empty(), "the model gave back more");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_chain_comes_back_once_in_order_with_its_length(
        event_idx in any::<bool>(),
        log in 0u32..=4,
        queues in 1u16..=3,
        slots in 1usize..=6,
        steps in vec((0u8..9, any::<u16>(), 1u16..=4, 0u32..3), 1..250),
    ) {
        let size = 1u16 << log;
        let more = if event_idx { Features::EVENT_IDX } else { Features::empty() };
        for &format in FORMATS {
            let rig = HolderRig::with(format, Features::IN_ORDER | more, queues, size, slots);
            let models = (0..queues).map(|_| Model::default()).collect();
            let mut world = World { rig, models };
            for &(what, number, length, short) in &steps {
                let queue = number % queues;
                let driver = &world.rig.drivers[usize::from(queue)];
                match what {
                    0..=2 if length <= driver.free() => world.send(queue, length, short),
                    3 | 4 => {
                        // Two of three chains are answered at once, and a third of these is not
                        // full.
                        let seed = usize::from(number);
                        world.poll(number % 7, move |asked| {
                            let draw = asked.number.wrapping_mul(31).wrapping_add(seed) % 9;
                            let left = u32::from(draw < 2);
                            (draw < 6).then(|| asked.room.saturating_sub(left))
                        });
                    }
                    5 | 6 => world.answer(queue, usize::from(number / 4), short / 2)?,
                    7 | 8 => world.take(queue)?,
                    _ => {}
                }
            }
            // Answers everything that is open.
            let mut rounds = 0;
            loop {
                for queue in 0..queues {
                    world.take(queue)?;
                    while !world.models[usize::from(queue)].open().is_empty() {
                        world.answer(queue, usize::MAX, 0)?;
                    }
                    world.take(queue)?;
                }
                if world.rig.drivers.iter().all(|driver| driver.outstanding() == 0) {
                    break;
                }
                world.poll(BUDGET, |asked| Some(asked.room));
                rounds += 1;
                prop_assert!(rounds < 100, "{:?}: the rounds do not end", format);
            }
            let sent: usize = world.rig.engine.model().asked.len();
            prop_assert_eq!(world.rig.engine.counters().chains as usize, sent);
        }
    }
}
