//! The block device: requests of every kind on a small disk.

use virtside::{
    Features,
    model::SaveModel,
    models::{Block, BlockOptions},
    testing::Buffer,
};
use virtside_tests::{
    DATA, SIZE,
    differential::{Chain, Form, Outcome, REQUESTS, ROOM},
    models::blk::*,
    random::Random,
};

use crate::{
    ModelCase,
    case::{RigOf, Versioned},
};

/// Upper end of a request's buffers.
const END: u64 = DATA + 0x800;

#[derive(Clone)]
pub struct Case {
    fine: u32,
}

impl ModelCase for Case {
    type Model = Block<Disk>;
    type Seen = (Vec<Call>, Vec<u8>);

    const STEPS: u32 = 80;
    // A request whose memory changes may have written to the disk.
    const REPEATS: bool = false;

    fn all() -> Vec<(Self, u64)> {
        vec![(Self { fine: 0 }, 0x9e37_79b9_7f4a_7c15)]
    }
    fn model(&self) -> Block<Disk> {
        Block::new(
            Disk::new(),
            BlockOptions::new(SIZE).with_id("one of several"),
        )
    }
    fn features(&self) -> Features {
        all().difference(Features::ALL_RINGS)
    }
    fn observe(model: &mut Block<Disk>) -> (Vec<Call>, Vec<u8>) {
        let disk = model.backend_mut();
        (std::mem::take(&mut disk.calls), disk.ram.bytes().to_vec())
    }

    fn step(&mut self, rig: &mut RigOf<Self>, random: &mut Random) -> Outcome {
        rig.write(DATA, &[0xa5; ROOM]);
        let kind = random.of(&[
            T_IN,
            T_OUT,
            T_FLUSH,
            T_GET_ID,
            T_DISCARD,
            T_WRITE_ZEROES,
            99,
        ]);
        let sector = match random.below(9) {
            0 => u64::MAX - random.below(3),
            _ => random.below(66),
        };
        rig.write(DATA, &kind.to_le_bytes());
        rig.write(DATA + 8, &sector.to_le_bytes());
        let ranges: Vec<u8> = (0..3)
            .flat_map(|_| {
                let (sector, count) = (random.below(60), random.below(6) as u32);
                range(sector, count, random.below(2) as u32)
            })
            .collect();
        rig.write(DATA + 0x900, &ranges);
        let header = match random.below(10) {
            0 => random.below(20) as u32,
            _ => 16,
        };
        let mut buffers = random.cut(DATA, header, false);
        let to_driver = kind == T_IN || kind == T_GET_ID;
        let len = match kind {
            _ if random.once_in(6) => random.below(1300) as u32,
            T_IN | T_OUT => random.of(&[512, 512, 1024]),
            T_GET_ID => 20,
            T_DISCARD | T_WRITE_ZEROES => random.of(&[16, 32]),
            _ => 0,
        };
        let at = DATA + 0x900 + random.of(&[0, 0, 0, 0, 7]);
        if len != 0 {
            buffers.extend(random.cut(at, len, to_driver));
        }
        if !random.once_in(10) {
            let before = random.below(2);
            buffers.push(Buffer::writable(END - before, 1 + before as u32));
        }
        if random.once_in(10) {
            random.spoil(&mut buffers);
        }
        if buffers.is_empty() {
            return Outcome::Given(Vec::new());
        }
        let form = random.form(rig.features(), &buffers);
        rig.offer(0, &buffers, form);
        let outcome = rig.kick(&[0]);
        if let Outcome::Given(_) = outcome {
            self.fine += u32::from(rig.byte(END) == S_OK);
        }
        outcome
    }
    fn cure(&mut self, rig: &mut RigOf<Self>) {
        rig.write(DATA, &T_GET_ID.to_le_bytes());
        let good = [
            Buffer::readable(DATA, 16),
            Buffer::writable(DATA + 0x900, 20),
            Buffer::writable(END, 1),
        ];
        rig.send(0, &good, Form::Direct);
        assert!(matches!(rig.kick(&[0]), Outcome::Given(given) if given[0].len == 21));
    }
    fn assert_varied(&self, given: u32, faults: u32) {
        let fine = self.fine;
        assert!(
            fine * 10 > given * 3 && faults > 30,
            "{given} given, {fine} fine, {faults} faults"
        );
    }

    fn scenario(&self) -> Vec<Chain> {
        let chain = |at: u64, kind: u32, data: &[Buffer]| {
            let head = [kind.to_le_bytes(), [0; 4], [1, 0, 0, 0], [0; 4]].concat();
            let first = Buffer::readable(at, 16);
            let last = Buffer::writable(at + 0x20, 1);
            (0, [&[first], data, &[last]].concat(), vec![(at, head)])
        };
        let at = REQUESTS;
        vec![
            chain(at, T_GET_ID, &[Buffer::writable(at + 0x40, 20)]),
            chain(at + 0x100, T_FLUSH, &[]),
            chain(at + 0x180, T_IN, &[Buffer::writable(at + 0x400, 512)]),
        ]
    }

    fn swap_back_ends(one: &mut Block<Disk>, other: &mut Block<Disk>) {
        std::mem::swap(one.backend_mut(), other.backend_mut());
    }
}

impl Versioned for Case {
    fn version(state: &mut <Block<Disk> as SaveModel>::Snapshot) -> &mut u16 {
        &mut state.version
    }
}
