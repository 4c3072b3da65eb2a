//! The same random requests and eventq buffers, good and bad, on both rings and over every transport.

use virtside::{
    Features,
    models::gpio::{Abilities, Gpio, GpioError},
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Company, Form, Outcome, REQUESTS, ROOM, mixes, shift_each_load},
    random::Random,
};

use super::{spoken, support::*};

fn log(model: &mut Gpio<Bank, L>) -> Vec<Call> {
    std::mem::take(&mut model.lines_mut().calls)
}

/// A request: its place, with the status behind it.
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
        // Without interrupts that is never right.
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

fn play(interrupts: bool, seed: u64) {
    let mut random = Random::new(seed);
    let (mut given, mut faults, mut fine, mut events) = (0, 0, 0, 0);
    for mix in mixes() {
        let model = || {
            let mut bank = Bank::new();
            if !interrupts {
                for abilities in &mut bank.abilities {
                    abilities.remove(Abilities::INTERRUPT);
                }
            }
            Gpio::new(bank)
                .with_names(["led", "", "wire", "a jumper"])
                .expect("good names")
        };
        let (wanted, queues) = if interrupts { (mix | IRQ, 2) } else { (mix, 1) };
        let mut company = Company::new::<4>(model, wanted, queues, log);
        spoken::join::<_, _, 4>(&mut company, model());
        assert_eq!(
            company.features().contains(Features::IN_ORDER),
            mix.contains(Features::IN_ORDER) && !interrupts
        );
        company.write(DATA, &[UNTOUCHED; ROOM]);
        for _ in 0..100 {
            let mut results = Vec::new();
            let outcome = match random.below(if interrupts { 8 } else { 5 }) {
                0 => {
                    let (line, high) = (random.below(4) as u16, random.once_in(2));
                    let trouble = [
                        None,
                        None,
                        Some(GpioError::Failed),
                        Some(GpioError::Unsupported),
                    ];
                    let trouble = random.of(&trouble);
                    company.act(
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
                        company.write(at, &request_of(&mut random, interrupts));
                        company.write(at + 0x80, &[UNTOUCHED; 64]);
                        let mut buffers = random.cut(at, 8, false);
                        let len = random.of(&[2, 2, 2, 40, 1, 24]);
                        buffers.extend(random.cut(at + 0x80, len, true));
                        if random.once_in(14) {
                            random.spoil(&mut buffers);
                        }
                        let form = random.form(mix, &buffers);
                        if company.offer(0, &buffers, form) {
                            results.push(at + 0x80);
                        }
                    }
                    company.kick(&[0])
                }
                5 => {
                    let line = random.below(4) as u16;
                    company.act(
                        |model| {
                            let _ = model.interrupt(line);
                        },
                        &[],
                    )
                }
                _ => {
                    for _ in 0..=random.below(3) {
                        let line = random.of(&[BUTTON, BUTTON, WIRE, WIRE, JUMPER, 4]);
                        // Some may overlap with another that the device still has.
                        let at = DATA + 0x400 + 0x10 * random.below(100);
                        company.write(at, &line.to_le_bytes());
                        let mut buffers = random.cut(at, 2, false);
                        buffers.push(Buffer::writable(at + 8, 1));
                        if random.once_in(20) {
                            random.spoil(&mut buffers);
                        }
                        let form = random.form(mix, &buffers);
                        company.offer(1, &buffers, form);
                    }
                    company.kick(&[1])
                }
            };
            match outcome {
                Outcome::Given(given) => {
                    events += given.iter().filter(|given| given.queue == 1).count();
                    let ok = |at: &&u64| company.byte(**at) == OK;
                    fine += results.iter().filter(ok).count();
                }
                Outcome::Fault(..) => {
                    // A reset cures it.
                    company.act(|model| model.lines_mut().trouble.clear(), &[]);
                    company.write(DATA, &request(GET_VALUE, JUMPER, 0));
                    let good = [Buffer::readable(DATA, 8), Buffer::writable(DATA + 0x80, 2)];
                    company.send(0, &good, Form::Direct);
                    assert!(
                        matches!(company.kick(&[0]), Outcome::Given(given) if given.len() == 1)
                    );
                    assert_eq!(company.byte(DATA + 0x80), OK);
                }
            }
        }
        given += company.given;
        faults += company.faults;
    }
    // Not all of one kind, or the comparison would say little.
    assert!(
        fine * 10 > (given as usize - events) * 3 && faults > 40 && (events > 80) == interrupts,
        "{given} given, {fine} fine, {events} events, {faults} faults"
    );
}

#[test]
fn hostile_requests_end_alike_on_every_transport() {
    play(false, 0x9e37_79b9_7f4a_7c15);
}

#[test]
fn hostile_requests_and_events_end_alike_on_every_transport() {
    play(true, 0xdead_beef_1234);
}

#[test]
fn memory_that_changes_in_front_of_any_load_is_cured_by_a_reset() {
    let at = REQUESTS;
    let chain = |at: u64, kind, value| {
        let buffers = vec![Buffer::readable(at, 8), Buffer::writable(at + 0x40, 2)];
        (0, buffers, vec![(at, request(kind, WIRE, value))])
    };
    let event = {
        let buffers = vec![
            Buffer::readable(at + 0x80, 2),
            Buffer::writable(at + 0x90, 1),
        ];
        (1, buffers, vec![(at + 0x80, WIRE.to_le_bytes().to_vec())])
    };
    let scenario = [
        chain(at, SET_DIRECTION, IN),
        chain(at + 0x100, IRQ_TYPE, HIGH),
        event,
        chain(at + 0x180, IRQ_TYPE, 0),
    ];
    for mix in [Features::empty(), Features::RING] {
        let model = || Gpio::<_, L>::new(Bank::new());
        let [fine, faults] = shift_each_load::<_, 4>(model, mix | IRQ, &scenario, true);
        assert!(fine > 50 && faults > 3, "{fine} fine, {faults} faults");
    }
}
