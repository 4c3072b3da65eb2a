//! The SPI controller: transfers of every shape, to a controller with every capability.

use virtside::{
    model::SaveModel,
    models::{
        Spi,
        spi::{SpiError, SpiSettings},
    },
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Chain, Form, Outcome, REQUESTS, ROOM},
    models::spi::*,
    random::Random,
};

use crate::{
    ModelCase,
    case::{RigOf, Versioned},
};

#[derive(Clone)]
pub struct Case {
    fine: u32,
}

type Model = Spi<Recorder, BYTES>;

fn head(random: &mut Random) -> Head {
    let mut head = Head {
        chip_select: random.below(3) as u8,
        cs_change: random.below(2) as u8,
        tx_nbits: random.of(&[0, 1, 2, 4, 8]),
        rx_nbits: random.of(&[0, 1, 2, 4, 8]),
        mode: random.below(32) as u32,
        ..PLAIN
    };
    if random.once_in(6) {
        match random.below(6) {
            0 => head.chip_select = 3,
            1 => head.bits_per_word = random.below(256) as u8,
            2 => head.cs_change = 2,
            3 => head.tx_nbits = 3,
            4 => head.mode = 32,
            _ => head.freq = u32::MAX,
        }
    }
    head
}

impl ModelCase for Case {
    type Model = Model;
    type Seen = Vec<(SpiSettings, Data)>;

    const STEPS: u32 = 90;
    const REPEATS: bool = true;

    fn all() -> Vec<(Self, u64)> {
        vec![(Self { fine: 0 }, 0x1234_5678_9abc_def1)]
    }
    fn model(&self) -> Model {
        Spi::new(Recorder::new(everything()))
    }
    fn observe(model: &mut Model) -> Vec<(SpiSettings, Data)> {
        let recorder = model.controller_mut();
        // A device that is set up again may release its lines later than another.
        recorder.releases = 0;
        std::mem::take(&mut recorder.calls)
    }

    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        if random.once_in(10) {
            let trouble = [
                None,
                None,
                Some(SpiError::Failed),
                Some(SpiError::Unsupported),
            ];
            let trouble = random.of(&trouble);
            rig.act(|model| model.controller_mut().trouble = trouble, &[]);
        }
        rig.write(DATA, &[UNTOUCHED; ROOM]);
        let mut results = Vec::new();
        for chain in 0..=random.below(3) {
            let at = DATA + 0x400 * chain;
            rig.write(at, &head(random).bytes());
            let mut buffers = random.cut(at, 32, false);
            let len = random.of(&[1, 2, 31, 32, 33]);
            let kind = random.below(3);
            if kind != 0 {
                buffers.extend(random.cut(at + 0x100, len, false));
            }
            if kind != 1 {
                buffers.extend(random.cut(at + 0x200, len, true));
            }
            buffers.push(Buffer::writable(at + 0x300, 1));
            if random.once_in(8) {
                random.spoil(&mut buffers);
            }
            let form = random.form(rig.features(), &buffers);
            if rig.offer(0, &buffers, form) {
                results.push(at + 0x300);
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
        rig.act(|model| model.controller_mut().trouble = None, &[]);
        rig.write(DATA, &PLAIN.bytes());
        let good = [
            Buffer::readable(DATA, 33),
            Buffer::writable(DATA + 0x300, 1),
        ];
        rig.send(0, &good, Form::Direct);
        assert!(matches!(rig.kick(&[0]), Outcome::Given(given) if given.len() == 1));
        assert_eq!(rig.byte(DATA + 0x300), OK);
    }
    fn assert_varied(&self, given: u32, faults: u32) {
        let fine = self.fine;
        assert!(
            fine * 10 > given * 3 && faults > 60,
            "{given} given, {fine} fine, {faults} faults"
        );
    }

    fn scenario(&self) -> Vec<Chain> {
        let chain = |at: u64| {
            let buffers = vec![
                Buffer::readable(at, 32),
                Buffer::readable(at + 0x40, 4),
                Buffer::writable(at + 0x60, 4),
                Buffer::writable(at + 0x80, 1),
            ];
            (0, buffers, vec![(at, PLAIN.bytes())])
        };
        let at = REQUESTS;
        vec![chain(at), chain(at + 0xa0), chain(at + 0x140)]
    }

    fn swap_back_ends(one: &mut Model, other: &mut Model) {
        std::mem::swap(one.controller_mut(), other.controller_mut());
    }
}

impl Versioned for Case {
    fn version(state: &mut <Model as SaveModel>::Snapshot) -> &mut u16 {
        &mut state.version
    }
}
