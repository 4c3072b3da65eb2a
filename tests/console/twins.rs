//! The same random buffers and control messages, good and bad, on both rings and over every
//! transport, while the host's end does what it likes.

use virtio_spec::console::F;
use virtside::{
    Features,
    models::{
        Console, ConsoleError,
        console::{CONTROL_RECEIVEQ, CONTROL_TRANSMITQ, ConsoleSize, Port, receiveq, transmitq},
    },
    testing::Buffer,
};
use virtside_tests::{
    DATA,
    differential::{Company, Form, Outcome, REQUESTS, ROOM, mixes, shift_each_load},
    random::Random,
};

use super::{spoken, support::*};

const PORTS: usize = 2;
const QUEUES: u16 = 6;

type Model = Console<Tape, PORTS>;
type Log = (Vec<(Vec<u8>, Vec<bool>, usize)>, u32);

fn log(model: &mut Model) -> Log {
    let ports = (0..PORTS as u16).map(|port| {
        let tape = model.port_mut(port).expect("a port").io_mut();
        let opened = std::mem::take(&mut tape.opened);
        (std::mem::take(&mut tape.output), opened, tape.input.len())
    });
    (ports.collect(), model.ignored())
}

/// What the host does, and which queues that is news for.
fn host(random: &mut Random, company: &mut Company<Model, Log>) -> Outcome {
    let at = random.below(2) as u16;
    let (kind, count) = (random.below(9), random.below(200) as usize);
    let trouble = random.of(&[
        Some(ConsoleError::Failed),
        Some(ConsoleError::NotReady),
        None,
    ]);
    let act = |model: &mut Model| {
        let port = model.port_mut(at).expect("a port");
        match kind {
            0..3 => port.io_mut().input.extend(vec![count as u8; count]),
            3 => port.io_mut().trouble = vec![trouble; 2],
            4 => port.io_mut().room = count,
            5 => port.set_open(count % 3 != 0),
            6 => port.resize(ConsoleSize { cols: 80, rows: at }),
            7 => port.unplug(),
            _ => port.plug(),
        }
        if kind > 4 {
            port.io_mut().room = usize::MAX;
        }
    };
    company.act(act, &[receiveq(at), transmitq(at), CONTROL_RECEIVEQ])
}

fn message(random: &mut Random) -> Vec<u8> {
    let port = random.of(&[0, 0, 0, 1, 1, 1, 2, u32::MAX]);
    let event = random.of(&[
        DEVICE_READY,
        PORT_READY,
        PORT_READY,
        OPEN,
        OPEN,
        OPEN,
        ADD,
        99,
    ]);
    let value = random.of(&[1, 1, 1, 1, 0, 2]);
    control(port, event, value)
}

#[test]
fn hostile_buffers_and_messages_end_alike_on_every_transport() {
    let mut random = Random::new(0x5bd1_e995_1234_5677);
    let (mut given, mut faults, mut told, mut bytes) = (0, 0, 0, 0);
    for mix in mixes() {
        let model = || {
            let size = ConsoleSize { cols: 1, rows: 2 };
            Console::with_ports([
                Port::new(Tape::new()).console().with_size(size),
                Port::new(Tape::new()).with_name("org.example.a"),
            ])
            .with_limit(150)
        };
        let wanted = mix | feature(F::MULTIPORT) | feature(F::SIZE);
        let mut company = Company::new::<8>(model, wanted, QUEUES, log);
        spoken::join::<_, _, 8>(&mut company, model());
        company.write(DATA, &[UNTOUCHED; ROOM]);
        let (mut fresh, mut sent) = (true, 0);
        for _ in 0..120 {
            if fresh {
                fresh = false;
                for (port, event) in [(0, DEVICE_READY), (0, PORT_READY), (0, OPEN)] {
                    let at = DATA + 0xf00;
                    company.write(at, &control(port, event, 1));
                    company.send(CONTROL_TRANSMITQ, &[Buffer::readable(at, 8)], Form::Direct);
                    assert!(matches!(
                        company.kick(&[CONTROL_TRANSMITQ]),
                        Outcome::Given(_)
                    ));
                    company.send(
                        CONTROL_RECEIVEQ,
                        &[Buffer::writable(at + 16, 64)],
                        Form::Direct,
                    );
                    assert!(matches!(
                        company.kick(&[CONTROL_RECEIVEQ]),
                        Outcome::Given(_)
                    ));
                }
            }
            let outcome = if random.once_in(4) {
                host(&mut random, &mut company)
            } else {
                // One queue at a time: in which order several are looked at is nobody's promise. Buffers
                // of one may overlap, those of two do not.
                let queue = random.below(QUEUES.into()) as u16;
                for _ in 0..=random.below(3) {
                    let at = DATA + 0x280 * u64::from(queue) + 0x40 * (sent % 6);
                    sent += 1;
                    let mut buffers = match queue {
                        CONTROL_TRANSMITQ => {
                            company.write(at, &message(&mut random));
                            random.cut(at, 8, false)
                        }
                        CONTROL_RECEIVEQ => random.cut(at, 24, true),
                        queue if queue % 2 == 0 => {
                            let len = random.of(&[1, 5, 63, 64, 65, 200]);
                            random.cut(at, len, true)
                        }
                        _ => {
                            let len = random.of(&[1, 5, 63, 64, 65, 200]);
                            company.write(at, &[random.below(256) as u8; 40]);
                            random.cut(at, len, false)
                        }
                    };
                    if random.once_in(20) {
                        random.spoil(&mut buffers);
                    }
                    let form = random.form(mix, &buffers);
                    company.offer(queue, &buffers, form);
                }
                company.kick(&[queue])
            };
            match outcome {
                Outcome::Given(given) => {
                    let got = |queues: &[u16]| -> usize {
                        let got = given.iter().filter(|given| queues.contains(&given.queue));
                        got.filter(|given| given.len != 0).count()
                    };
                    told += got(&[CONTROL_RECEIVEQ]);
                    bytes += got(&[receiveq(0), receiveq(1)]);
                }
                Outcome::Fault(..) => {
                    // A reset cures it.
                    fresh = true;
                    company.act(
                        |model| {
                            for port in 0..PORTS as u16 {
                                let port = model.port_mut(port).expect("a port");
                                port.io_mut().room = usize::MAX;
                                port.io_mut().trouble.clear();
                                port.plug();
                                port.set_open(true);
                            }
                        },
                        &[],
                    );
                    company.send(transmitq(0), &[Buffer::readable(DATA, 4)], Form::Direct);
                    let outcome = company.kick(&[transmitq(0)]);
                    assert!(matches!(outcome, Outcome::Given(given) if given.len() == 1));
                }
            }
        }
        given += company.given;
        faults += company.faults;
    }
    // Not all of one kind, or the comparison would say little.
    assert!(
        given > 800 && told > 60 && bytes > 60 && faults > 25,
        "{given} given, {told} told, {bytes} with input, {faults} faults"
    );
}

#[test]
fn memory_that_changes_in_front_of_any_load_is_cured_by_a_reset() {
    let at = REQUESTS;
    let tell = |at: u64, event| {
        let buffers = vec![Buffer::readable(at, 8)];
        (CONTROL_TRANSMITQ, buffers, vec![(at, control(0, event, 1))])
    };
    let hear = |at| (CONTROL_RECEIVEQ, vec![Buffer::writable(at, 40)], vec![]);
    let scenario = [
        (0, vec![Buffer::writable(at + 0x80, 9)], vec![]),
        (
            1,
            vec![Buffer::readable(at, 4), Buffer::readable(at + 9, 70)],
            vec![],
        ),
        tell(at + 0x28, DEVICE_READY),
        hear(at + 0x100),
        tell(at + 0x20, PORT_READY),
        tell(at + 0x30, OPEN),
        hear(at + 0x40),
    ];
    for mix in [Features::empty(), Features::INDIRECT_DESC] {
        let model = || {
            let mut tape = Tape::new();
            // More than a driver can read.
            tape.input.extend([7; 10_000]);
            Console::with_ports([Port::new(tape).console(), Port::new(Tape::new())])
        };
        let wanted = mix | feature(F::MULTIPORT);
        let [fine, faults] = shift_each_load::<_, 8>(model, wanted, &scenario, true);
        assert!(fine > 50 && faults > 3, "{fine} fine, {faults} faults");
    }
}
