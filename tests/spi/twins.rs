//! The same random transfers, good and bad, on both rings and over every transport.

use virtside::{
    Features,
    models::{Spi, spi::SpiError},
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Company, Form, Outcome, REQUESTS, ROOM, mixes, shift_each_load},
    random::Random,
};

use super::{spoken, support::*};

type Log = (Vec<(virtside::models::spi::SpiSettings, Data)>, u32);

fn log(model: &mut Spi<Recorder, BYTES>) -> Log {
    let recorder = model.controller_mut();
    // A machine that is set up anew may hear of its reset later than another.
    recorder.releases = 0;
    (std::mem::take(&mut recorder.calls), 0)
}

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

#[test]
fn hostile_transfers_end_alike_on_every_transport() {
    let mut random = Random::new(0x1234_5678_9abc_def1);
    let (mut given, mut faults, mut fine) = (0, 0, 0);
    for mix in mixes() {
        let model = || Spi::new(Recorder::new(everything()));
        let mut company = Company::new::<4>(model, mix, 1, log);
        spoken::join::<_, _, 4>(&mut company, model());
        for _ in 0..90 {
            if random.once_in(10) {
                let trouble = [
                    None,
                    None,
                    Some(SpiError::Failed),
                    Some(SpiError::Unsupported),
                ];
                let trouble = random.of(&trouble);
                company.act(|model| model.controller_mut().trouble = trouble, &[]);
            }
            company.write(DATA, &[UNTOUCHED; ROOM]);
            let mut results = Vec::new();
            for chain in 0..=random.below(3) {
                let at = DATA + 0x400 * chain;
                company.write(at, &head(&mut random).bytes());
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
                let form = random.form(mix, &buffers);
                if company.offer(0, &buffers, form) {
                    results.push(at + 0x300);
                }
            }
            match company.kick(&[0]) {
                Outcome::Given(_) => {
                    let ok = |at: &&u64| company.byte(**at) == OK;
                    fine += results.iter().filter(ok).count();
                }
                Outcome::Fault(..) => {
                    // A reset cures it.
                    company.act(|model| model.controller_mut().trouble = None, &[]);
                    company.write(DATA, &PLAIN.bytes());
                    let good = [
                        Buffer::readable(DATA, 33),
                        Buffer::writable(DATA + 0x300, 1),
                    ];
                    company.send(0, &good, Form::Direct);
                    assert!(
                        matches!(company.kick(&[0]), Outcome::Given(given) if given.len() == 1)
                    );
                    assert_eq!(company.byte(DATA + 0x300), OK);
                }
            }
        }
        given += company.given;
        faults += company.faults;
    }
    // Not all of one kind, or the comparison would say little.
    assert!(
        fine * 10 > given as usize * 3 && faults > 60,
        "{given} given, {fine} fine, {faults} faults"
    );
}

#[test]
fn memory_that_changes_in_front_of_any_load_is_cured_by_a_reset() {
    let at = REQUESTS;
    let chain = |at: u64| {
        let buffers = vec![
            Buffer::readable(at, 32),
            Buffer::readable(at + 0x40, 4),
            Buffer::writable(at + 0x60, 4),
            Buffer::writable(at + 0x80, 1),
        ];
        (0, buffers, vec![(at, PLAIN.bytes())])
    };
    let scenario = [chain(at), chain(at + 0xa0), chain(at + 0x140)];
    for mix in [Features::empty(), Features::RING] {
        let model = || Spi::<_, BYTES>::new(Recorder::new(everything()));
        let [fine, faults] = shift_each_load::<_, 4>(model, mix, &scenario, true);
        assert!(fine > 50 && faults > 3, "{fine} fine, {faults} faults");
    }
}
