//! The I2C adapter, with and without combining of a write and the next read.

use embedded_hal::i2c::ErrorKind;
use virtside::{
    Features,
    model::SaveModel,
    models::{I2c, i2c::ZERO_LENGTH_REQUEST},
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Chain, Form, Outcome, REQUESTS, ROOM},
    models::i2c::*,
    random::Random,
};

use crate::{
    ModelCase,
    case::{RigOf, Versioned},
};

#[derive(Clone)]
pub struct Case {
    combining: bool,
    fine: u32,
}

type Model = I2c<Recorder, BYTES>;

impl ModelCase for Case {
    type Model = Model;
    type Seen = Vec<Call>;

    const STEPS: u32 = 60;
    const REPEATS: bool = false;

    fn all() -> Vec<(Self, u64)> {
        let case = |combining| Self { combining, fine: 0 };
        vec![
            (case(false), 0x1234_5678_9abc),
            (case(true), 0xfeed_beef_cafe),
        ]
    }
    fn model(&self) -> Model {
        let model = I2c::new(Recorder::default());
        if self.combining {
            model.with_combining()
        } else {
            model
        }
    }
    fn features(&self) -> Features {
        ZERO_LENGTH_REQUEST
    }
    fn observe(model: &mut Model) -> Vec<Call> {
        std::mem::take(&mut model.bus_mut().calls)
    }

    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        if random.once_in(12) {
            let trouble = [None, Some(NAK), Some(ErrorKind::Bus), None];
            let from = 1 + random.below(3) as usize;
            let trouble = &trouble[from..];
            rig.act(|model| model.bus_mut().trouble.extend(trouble), &[]);
        }
        rig.write(DATA, &[UNTOUCHED; ROOM]);
        let mut results = Vec::new();
        for chain in 0..=random.below(4) {
            let at = DATA + 0x300 * chain;
            let addr: u16 = random.of(&[0x40, 0x40, 0x40, 0x40, 0x40, 0xa0, 0xa0, 0x23f2, 0x41]);
            let read = random.once_in(2);
            let more = if random.once_in(2) { FAIL_NEXT } else { 0 };
            let odd = if random.once_in(30) { 4 } else { 0 };
            let flags = more | odd | if read { M_RD } else { 0 };
            rig.write(at, &addr.to_le_bytes());
            rig.write(at + 4, &flags.to_le_bytes());
            let mut buffers = random.cut(at, 8, false);
            let len = random.of(&[0, 1, 2, 15, 32, 33]);
            if len != 0 {
                buffers.extend(random.cut(at + 0x100, len, read));
            }
            buffers.push(Buffer::writable(at + 0x200, 1));
            if random.once_in(10) {
                random.spoil(&mut buffers);
            }
            let form = random.form(rig.features(), &buffers);
            if rig.offer(0, &buffers, form) {
                results.push(at + 0x200);
            }
        }
        let outcome = rig.kick(&[0]);
        if let Outcome::Given(_) = outcome {
            let ok = |at: &&u64| rig.byte(**at) == OK;
            self.fine += results.iter().filter(ok).count() as u32;
        }
        outcome
    }
    fn cure(&mut self, rig: &mut RigOf<Self>) {
        rig.act(|model| model.bus_mut().trouble.clear(), &[]);
        rig.write(DATA, &[0x40, 0, 0, 0, 0, 0, 0, 0]);
        let good = [Buffer::readable(DATA, 9), Buffer::writable(DATA + 0x200, 1)];
        rig.send(0, &good, Form::Direct);
        assert!(matches!(rig.kick(&[0]), Outcome::Given(given) if given.len() == 1));
        assert_eq!(rig.byte(DATA + 0x200), OK);
    }
    fn assert_varied(&self, given: u32, faults: u32) {
        let fine = self.fine;
        assert!(
            fine * 10 > given * 3 && faults > 40,
            "{given} given, {fine} fine, {faults} faults"
        );
    }

    fn scenario(&self) -> Vec<Chain> {
        let chain = |at: u64, flags: u8| {
            let head = vec![0x40, 0, 0, 0, flags, 0, 0, 0];
            let data = match flags {
                2 => Buffer::writable(at + 0x20, 5),
                _ => Buffer::readable(at + 0x20, 5),
            };
            let end = Buffer::writable(at + 0x40, 1);
            let buffers = vec![Buffer::readable(at, 8), data, end];
            (0, buffers, vec![(at, head)])
        };
        let at = REQUESTS;
        vec![chain(at, 1), chain(at + 0x100, 2), chain(at + 0x180, 0)]
    }

    fn swap_back_ends(one: &mut Model, other: &mut Model) {
        std::mem::swap(one.bus_mut(), other.bus_mut());
    }
}

impl Versioned for Case {
    fn version(state: &mut <Model as SaveModel>::Snapshot) -> &mut u16 {
        &mut state.version
    }
}
