//! The same random requests, good and bad, on both rings and over every transport.

use virtside::{
    Features,
    models::{Block, BlockOptions},
    testing::Buffer,
};
use virtside_tests::{
    DATA, SIZE,
    differential::{Company, Form, Outcome, ROOM, mixes},
    random::Random,
};

use super::{spoken, support::*};

/// Where the last byte of a request is.
const END: u64 = DATA + 0x800;

#[test]
fn hostile_requests_end_alike_on_every_transport() {
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let (mut given, mut faults, mut fine) = (0, 0, 0);
    for mix in mixes() {
        let model = || Block::new(Disk::new(), BlockOptions::new(SIZE).with_id("twin"));
        let own = all().difference(Features::ALL_RINGS);
        let mut company = Company::new::<4>(model, own | mix, 1, |model| {
            let disk = model.backend_mut();
            (std::mem::take(&mut disk.calls), disk.ram.bytes().to_vec())
        });
        spoken::join::<_, _, 4>(&mut company, model());
        for _ in 0..80 {
            company.write(DATA, &[0xa5; ROOM]);
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
            company.write(DATA, &kind.to_le_bytes());
            company.write(DATA + 8, &sector.to_le_bytes());
            let ranges: Vec<u8> = (0..3)
                .flat_map(|_| {
                    let (sector, count) = (random.below(60), random.below(6) as u32);
                    range(sector, count, random.below(2) as u32)
                })
                .collect();
            company.write(DATA + 0x900, &ranges);
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
                continue;
            }
            let form = random.form(mix, &buffers);
            company.offer(0, &buffers, form);
            match company.kick(&[0]) {
                Outcome::Given(_) => fine += u32::from(company.byte(END) == S_OK),
                Outcome::Fault(..) => {
                    // A reset cures it.
                    company.write(DATA, &T_GET_ID.to_le_bytes());
                    let good = [
                        Buffer::readable(DATA, 16),
                        Buffer::writable(DATA + 0x900, 20),
                        Buffer::writable(END, 1),
                    ];
                    company.send(0, &good, Form::Direct);
                    assert!(
                        matches!(company.kick(&[0]), Outcome::Given(given) if given[0].len == 21)
                    );
                }
            }
        }
        given += company.given;
        faults += company.faults;
    }
    // Not all of one kind, or the comparison would say little.
    assert!(
        fine * 10 > given * 3 && faults > 30,
        "{given} given, {fine} fine, {faults} faults"
    );
}
