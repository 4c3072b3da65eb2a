//! The gpio device, with interrupts and without.

use virtside::{
    Features,
    model::SaveModel,
    models::gpio::{Abilities, Direction, Gpio, GpioError},
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Chain, Form, Outcome, REQUESTS, ROOM},
    models::gpio::*,
    random::Random,
};

use crate::{
    ModelCase,
    case::{RigOf, Versioned},
};

#[derive(Clone)]
pub struct Case {
    interrupts: bool,
    /// Lines fail.
    troubled: bool,
    fine: usize,
    events: usize,
}

type Model = Gpio<Bank, L>;

/// A random request message: its position, with the status behind it.
fn request_of(random: &mut Random, interrupts: bool) -> Vec<u8> {
    let kind = random.of(&[
        NAMES,
        GET_DIRECTION,
        SET_DIRECTION,
        SET_DIRECTION,
        GET_VALUE,
        SET_VALUE,
        IRQ_TYPE,
        IRQ_TYPE,
        77,
    ]);
    let kind = match kind {
        // An interrupt type without interrupts always fails, so it is sent less often.
        IRQ_TYPE if !interrupts && !random.once_in(5) => GET_DIRECTION,
        kind => kind,
    };
    let line = random.of(&[LED, BUTTON, BUTTON, WIRE, WIRE, WIRE, JUMPER, 4]);
    let value = match kind {
        SET_DIRECTION => random.of(&[NONE, OUT, IN, IN, 3]),
        IRQ_TYPE => random.of(&[0, RISING, FALLING, BOTH, HIGH, HIGH, LOW, 5]),
        _ => random.below(2) as u32,
    };
    request(kind, line, value)
}

impl ModelCase for Case {
    type Model = Model;
    type Seen = Vec<Call>;

    const STEPS: u32 = 100;
    const REPEATS: bool = true;

    fn all() -> Vec<(Self, u64)> {
        let case = |interrupts| Self {
            interrupts,
            troubled: true,
            fine: 0,
            events: 0,
        };
        vec![
            (case(false), 0x9e37_79b9_7f4a_7c15),
            (case(true), 0xdead_beef_1234),
        ]
    }
    fn model(&self) -> Model {
        let mut bank = Bank::new();
        if !self.interrupts {
            for abilities in &mut bank.abilities {
                abilities.remove(Abilities::INTERRUPT);
            }
        }
        Gpio::new(bank)
            .with_names(["led", "", "wire", "a jumper"])
            .expect("good names")
    }
    fn features(&self) -> Features {
        if self.interrupts {
            IRQ
        } else {
            Features::empty()
        }
    }
    fn queues(&self) -> u16 {
        if self.interrupts { 2 } else { 1 }
    }
    fn observe(model: &mut Model) -> Vec<Call> {
        std::mem::take(&mut model.lines_mut().calls)
    }

    fn begin(&mut self, rig: &mut RigOf<Self>) {
        let in_order = rig.features().contains(Features::IN_ORDER);
        assert!(
            !(in_order && self.interrupts),
            "eventq buffers come back in any order"
        );
        rig.write(DATA, &[UNTOUCHED; ROOM]);
    }
    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        let mut results = Vec::new();
        let outcome = match random.below(if self.interrupts { 8 } else { 5 }) {
            0 => {
                let (line, high) = (random.below(4) as u16, random.once_in(2));
                let trouble = [
                    None,
                    None,
                    Some(GpioError::Failed),
                    Some(GpioError::Unsupported),
                ];
                let trouble = random.of(&trouble).filter(|_| self.troubled);
                rig.act(
                    |model| {
                        let bank = model.lines_mut();
                        bank.levels[usize::from(line)] = high;
                        bank.trouble.clear();
                        bank.trouble.extend(trouble.map(Some));
                        let _ = model.sense(line);
                    },
                    &[],
                )
            }
            1..5 => {
                for chain in 0..=random.below(3) {
                    let at = DATA + 0x100 * chain;
                    rig.write(at, &request_of(random, self.interrupts));
                    rig.write(at + 0x80, &[UNTOUCHED; 64]);
                    let mut buffers = random.cut(at, 8, false);
                    let len = random.of(&[2, 2, 2, 40, 1, 24]);
                    buffers.extend(random.cut(at + 0x80, len, true));
                    if random.once_in(14) {
                        random.spoil(&mut buffers);
                    }
                    let form = random.form(rig.features(), &buffers);
                    if rig.offer(0, &buffers, form) {
                        results.push(at + 0x80);
                    }
                }
                rig.kick(&[0])
            }
            5 => {
                let line = random.below(4) as u16;
                rig.act(
                    |model| {
                        let _ = model.interrupt(line);
                    },
                    &[],
                )
            }
            _ => {
                for _ in 0..=random.below(3) {
                    let line = random.of(&[BUTTON, BUTTON, WIRE, WIRE, JUMPER, 4]);
                    // The buffer may overlap another one that the device still has.
                    let at = DATA + 0x400 + 0x10 * random.below(100);
                    rig.write(at, &line.to_le_bytes());
                    let mut buffers = random.cut(at, 2, false);
                    buffers.push(Buffer::writable(at + 8, 1));
                    if random.once_in(20) {
                        random.spoil(&mut buffers);
                    }
                    let form = random.form(rig.features(), &buffers);
                    rig.offer(1, &buffers, form);
                }
                rig.kick(&[1])
            }
        };
        if let Outcome::Given(given) = &outcome {
            self.events += given.iter().filter(|given| given.queue == 1).count();
            let ok = |at: &&u64| rig.byte(**at) == OK;
            self.fine += results.iter().filter(ok).count();
        }
        outcome
    }
    fn cure(&mut self, rig: &mut RigOf<Self>) {
        rig.act(|model| model.lines_mut().trouble.clear(), &[]);
        rig.write(DATA, &request(GET_VALUE, JUMPER, 0));
        let good = [Buffer::readable(DATA, 8), Buffer::writable(DATA + 0x80, 2)];
        rig.send(0, &good, Form::Direct);
        assert!(matches!(rig.kick(&[0]), Outcome::Given(given) if given.len() == 1));
        assert_eq!(rig.byte(DATA + 0x80), OK);
    }
    fn assert_varied(&self, given: u32, faults: u32) {
        let (fine, events) = (self.fine, self.events);
        assert!(
            fine * 10 > (given as usize - events) * 3
                && faults > 40
                && (events > 80) == self.interrupts,
            "{given} given, {fine} fine, {events} events, {faults} faults"
        );
    }

    fn scenario(&self) -> Vec<Chain> {
        let chain = |at: u64, kind, value| {
            let buffers = vec![Buffer::readable(at, 8), Buffer::writable(at + 0x40, 2)];
            (0, buffers, vec![(at, request(kind, WIRE, value))])
        };
        let at = REQUESTS;
        if !self.interrupts {
            return vec![
                chain(at, SET_DIRECTION, OUT),
                chain(at + 0x100, SET_VALUE, 1),
                chain(at + 0x180, GET_VALUE, 0),
            ];
        }
        let event = {
            let buffers = vec![
                Buffer::readable(at + 0x80, 2),
                Buffer::writable(at + 0x90, 1),
            ];
            (1, buffers, vec![(at + 0x80, WIRE.to_le_bytes().to_vec())])
        };
        vec![
            chain(at, SET_DIRECTION, IN),
            chain(at + 0x100, IRQ_TYPE, HIGH),
            event,
            chain(at + 0x180, IRQ_TYPE, 0),
        ]
    }
    fn scenario_model(&self) -> Model {
        Gpio::new(Bank::new())
    }

    fn without_trouble(self) -> Self {
        Self {
            troubled: false,
            ..self
        }
    }
    fn successor(&self, old: &Model) -> Model {
        let mut model = self.model();
        let bank = model.lines_mut();
        bank.levels = old.lines().levels;
        for (line, level) in old.save().lines.iter().zip(&mut bank.levels) {
            if line.direction == Direction::Output && line.value.is_some() {
                *level = false;
            }
        }
        model
    }
    fn swap_back_ends(one: &mut Model, other: &mut Model) {
        std::mem::swap(one.lines_mut(), other.lines_mut());
    }
    fn observe_restored(model: &mut Model) -> Vec<Call> {
        // A buffer that waits for a level senses its line again after a restore.
        let mut calls = Self::observe(model);
        calls.retain(|call| !matches!(call, Call::Level(_)));
        calls
    }
}

impl Versioned for Case {
    fn version(state: &mut <Model as SaveModel>::Snapshot) -> &mut u16 {
        &mut state.version
    }
}
