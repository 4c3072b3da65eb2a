//! The same random messages, good and bad, on both rings and over every transport.

use embedded_hal::i2c::ErrorKind;
use virtside::{
    Features,
    models::{I2c, i2c::ZERO_LENGTH_REQUEST},
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Company, Form, Outcome, REQUESTS, ROOM, mixes, shift_each_load},
    random::Random,
};

use super::{spoken, support::*};

fn play(combining: bool, seed: u64) -> (u32, u32, usize) {
    let mut random = Random::new(seed);
    let (mut given, mut faults, mut fine) = (0, 0, 0);
    for mix in mixes() {
        let model = || {
            let model = I2c::<_, BYTES>::new(Recorder::default());
            if combining { model.combining() } else { model }
        };
        let wanted = mix | ZERO_LENGTH_REQUEST;
        let mut company =
            Company::new::<4>(model, wanted, 1, |model: &mut I2c<Recorder, BYTES>| {
                std::mem::take(&mut model.bus_mut().calls)
            });
        spoken::join::<_, _, 4>(&mut company, model());
        for _ in 0..60 {
            if random.once_in(12) {
                let trouble = [None, Some(NAK), Some(ErrorKind::Bus), None];
                let from = 1 + random.below(3) as usize;
                let trouble = &trouble[from..];
                company.act(|model| model.bus_mut().trouble.extend(trouble), &[]);
            }
            company.write(DATA, &[UNTOUCHED; ROOM]);
            let mut results = Vec::new();
            for chain in 0..=random.below(4) {
                let at = DATA + 0x300 * chain;
                let addr: u16 =
                    random.of(&[0x40, 0x40, 0x40, 0x40, 0x40, 0xa0, 0xa0, 0x23f2, 0x41]);
                let read = random.once_in(2);
                let more = if random.once_in(2) { FAIL_NEXT } else { 0 };
                let odd = if random.once_in(30) { 4 } else { 0 };
                let flags = more | odd | if read { M_RD } else { 0 };
                company.write(at, &addr.to_le_bytes());
                company.write(at + 4, &flags.to_le_bytes());
                let mut buffers = random.cut(at, 8, false);
                let len = random.of(&[0, 1, 2, 15, 32, 33]);
                if len != 0 {
                    buffers.extend(random.cut(at + 0x100, len, read));
                }
                buffers.push(Buffer::writable(at + 0x200, 1));
                if random.once_in(10) {
                    random.spoil(&mut buffers);
                }
                let form = random.form(mix, &buffers);
                if company.offer(0, &buffers, form) {
                    results.push(at + 0x200);
                }
            }
            match company.kick(&[0]) {
                Outcome::Given(_) => {
                    let ok = |at: &&u64| company.byte(**at) == OK;
                    fine += results.iter().filter(ok).count();
                }
                Outcome::Fault(..) => {
                    // A reset cures it.
                    company.act(|model| model.bus_mut().trouble.clear(), &[]);
                    company.write(DATA, &[0x40, 0, 0, 0, 0, 0, 0, 0]);
                    let good = [Buffer::readable(DATA, 9), Buffer::writable(DATA + 0x200, 1)];
                    company.send(0, &good, Form::Direct);
                    assert!(
                        matches!(company.kick(&[0]), Outcome::Given(given) if given.len() == 1)
                    );
                    assert_eq!(company.byte(DATA + 0x200), OK);
                }
            }
        }
        given += company.given;
        faults += company.faults;
    }
    (given, faults, fine)
}

#[test]
fn hostile_messages_end_alike_on_every_transport() {
    for (combining, seed) in [(false, 0x1234_5678_9abc), (true, 0xfeed_beef_cafe)] {
        let (given, faults, fine) = play(combining, seed);
        // Not all of one kind, or the comparison would say little.
        assert!(
            fine * 10 > given as usize * 3 && faults > 40,
            "{given} given, {fine} fine, {faults} faults"
        );
    }
}

#[test]
fn memory_that_changes_in_front_of_any_load_is_cured_by_a_reset() {
    let at = REQUESTS;
    let chain = |at: u64, flags: u8| {
        let head = vec![0x40, 0, 0, 0, flags, 0, 0, 0];
        let data = match flags {
            2 => Buffer::writable(at + 0x20, 5),
            _ => Buffer::readable(at + 0x20, 5),
        };
        let end = Buffer::writable(at + 0x40, 1);
        (
            0,
            vec![Buffer::readable(at, 8), data, end],
            vec![(at, head)],
        )
    };
    let scenario = [chain(at, 1), chain(at + 0x100, 2), chain(at + 0x180, 0)];
    for mix in [Features::empty(), Features::RING] {
        let model = || I2c::<_, BYTES>::new(Recorder::default()).combining();
        let wanted = mix | ZERO_LENGTH_REQUEST;
        let [fine, faults] = shift_each_load::<_, 4>(model, wanted, &scenario, false);
        assert!(fine > 50 && faults > 3, "{fine} fine, {faults} faults");
    }
}
