//! A bus, pins and a delay: what happens on the lines, and in which order.

use embedded_hal::spi::{MODE_0, MODE_1, MODE_2, MODE_3, Mode};
use embedded_hal_mock::eh1::{
    delay::{CheckedDelay, Transaction as DelayTransaction},
    digital::{Mock as PinMock, State, Transaction as PinTransaction},
    spi::{Mock as BusMock, Transaction},
};
use virtside::{
    HostFault,
    models::spi::{
        FixedClock, SpiClock, SpiController, SpiError, SpiFunctions, SpiLines, SteppedClock,
    },
    testing::Registers,
};
use virtside_tests::{
    config, driver,
    models::spi::{Event::*, *},
    reg,
};

type Lines<C = FixedClock> = SpiLines<Wire, Pin, Timer, C, 2>;

fn lines_with<C: SpiClock<Wire>>(clock: C) -> (Lines<C>, Log) {
    let log = Log::default();
    let pins = [0, 1].map(|at| Pin(at, log.clone()));
    (
        SpiLines::new(Wire(log.clone()), pins, Timer(log.clone()), clock),
        log,
    )
}

fn lines() -> (Lines, Log) {
    lines_with(FixedClock::new(MODE_0, 1_000_000))
}

/// A live controller with pauses of up to 5000 ns.
fn rig() -> (SpiRig<Lines>, Log) {
    let (lines, log) = lines();
    (SpiRig::over(lines.with_delays(5000)), log)
}

/// A different value for each pause.
const PAUSES: Head = Head {
    cs_setup: 10,
    cs_hold: 30,
    cs_inactive: 40,
    ..PLAIN
};
const LAST: Head = Head {
    cs_change: 1,
    ..PAUSES
};
const LAST_PLAIN: Head = Head {
    cs_change: 1,
    ..PLAIN
};

#[test]
fn it_reports_its_capabilities() {
    let (mut rig, _) = rig();
    let words: [u32; 7] = [0x80, 0b0101, 1_000_000, 5000, 5000, 5000, 5000];
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    let expected: Vec<u8> = [2, 1, 0, 0].into_iter().chain(words).collect();
    assert_eq!(space(&mut rig.engine), expected);
    // A controller without a pause limit never pauses.
    let mut rig = SpiRig::over(lines().0);
    assert_eq!(space(&mut rig.engine)[16..], [0; 16]);
    for (mode, functions) in [(MODE_1, 0b0110), (MODE_2, 0b1001), (MODE_3, 0b1010)] {
        let mut rig = SpiRig::over(lines_with(FixedClock::new(mode, 1)).0);
        assert_eq!(space(&mut rig.engine)[8], functions);
    }
}

#[test]
fn a_transfer_with_cs_change_selects_and_deselects_its_chip() {
    let (mut rig, log) = rig();
    assert_eq!(rig.ask(LAST, &[1, 2], 0), outcome(OK));
    assert_eq!(
        log.take(),
        [
            Low(0),
            Pause(10),
            Write(vec![1, 2]),
            Flush,
            Pause(30),
            High(0),
            Pause(40)
        ]
    );
    assert_eq!(rig.ask(LAST, &[], 3), got([0x77; 3]));
    assert_eq!(
        log.take(),
        [
            Low(0),
            Pause(10),
            Read(3),
            Flush,
            Pause(30),
            High(0),
            Pause(40)
        ]
    );
    let head = Head {
        chip_select: 1,
        ..LAST
    };
    assert_eq!(rig.ask(head, &[1, 2, 3], 3), got([3, 2, 1]));
    assert_eq!(
        log.take(),
        [
            Low(1),
            Pause(10),
            Exchange(vec![1, 2, 3]),
            Flush,
            Pause(30),
            High(1),
            Pause(40)
        ]
    );
}

#[test]
fn pauses_of_nothing_are_left_out() {
    let (mut rig, log) = rig();
    rig.ask(
        Head {
            cs_change: 1,
            ..PLAIN
        },
        &[1],
        0,
    );
    assert_eq!(log.take(), [Low(0), Write(vec![1]), Flush, High(0)]);
}

#[test]
fn a_chip_stays_selected_until_a_transfer_with_cs_change() {
    let (mut rig, log) = rig();
    rig.ask(PAUSES, &[1], 0);
    assert_eq!(log.take(), [Low(0), Pause(10), Write(vec![1]), Flush]);
    rig.ask(PAUSES, &[], 2);
    assert_eq!(log.take(), [Read(2), Flush]);
    rig.ask(LAST, &[3], 1);
    assert_eq!(
        log.take(),
        [Exchange(vec![3]), Flush, Pause(30), High(0), Pause(40)]
    );
    rig.ask(LAST, &[4], 0);
    assert_eq!(log.take()[0], Low(0));
}

#[test]
fn two_chips_are_never_selected_at_once() {
    let (mut rig, log) = rig();
    rig.ask(PAUSES, &[1], 0);
    log.take();
    rig.ask(
        Head {
            chip_select: 1,
            cs_setup: 11,
            ..LAST
        },
        &[2],
        0,
    );
    assert_eq!(
        log.take(),
        [
            // The pauses of the chip that was selected.
            Pause(30),
            High(0),
            Pause(40),
            Low(1),
            Pause(11),
            Write(vec![2]),
            Flush,
            Pause(30),
            High(1),
            Pause(40),
        ]
    );
}

#[test]
fn split_messages_deselect_after_every_transfer() {
    let (lines, log) = lines();
    let mut rig = SpiRig::over(lines.with_delays(5000).with_split_messages());
    assert_eq!(space(&mut rig.engine)[1], 1, "cs_change is supported");
    for head in [PAUSES, LAST, PAUSES] {
        assert_eq!(rig.ask(head, &[1], 0), outcome(OK));
        assert_eq!(
            log.take(),
            [
                Low(0),
                Pause(10),
                Write(vec![1]),
                Flush,
                Pause(30),
                High(0),
                Pause(40)
            ]
        );
    }
}

#[test]
fn the_host_may_end_a_message() {
    // For Linux, which also clears cs_change in the last transfer of a message.
    let (mut rig, log) = rig();
    rig.ask(PAUSES, &[1], 0);
    rig.ask(PAUSES, &[], 2);
    log.take();
    rig.engine.model_mut().controller_mut().release();
    assert_eq!(log.take(), [Pause(30), High(0), Pause(40)]);
    rig.ask(PAUSES, &[3], 0);
    assert_eq!(log.take()[0], Low(0));
}

#[test]
fn words_are_sent_one_by_one_if_there_are_pauses_between_them() {
    let (mut rig, log) = rig();
    let head = Head {
        word_delay: 20,
        ..LAST
    };
    let pauses = |words: [Event; 3]| -> Vec<Event> {
        let [first, second, third] = words;
        let middle = [
            first,
            Flush,
            Pause(20),
            second,
            Flush,
            Pause(20),
            third,
            Flush,
        ];
        [Low(0), Pause(10)]
            .into_iter()
            .chain(middle)
            .chain([Flush, Pause(30), High(0), Pause(40)])
            .collect()
    };
    assert_eq!(rig.ask(head, &[1, 2, 3], 0), outcome(OK));
    assert_eq!(log.take(), pauses([1, 2, 3].map(|byte| Write(vec![byte]))));
    assert_eq!(rig.ask(head, &[], 3), got([0x77; 3]));
    assert_eq!(log.take(), pauses([1; 3].map(Read)));
    assert_eq!(rig.ask(head, &[1, 2, 3], 3), got([1, 2, 3]));
    assert_eq!(
        log.take(),
        pauses([1, 2, 3].map(|byte| Exchange(vec![byte])))
    );
}

#[test]
fn no_request_takes_more_pauses_than_its_words_and_four() {
    let (mut rig, log) = rig();
    rig.ask(
        Head {
            word_delay: 20,
            ..PAUSES
        },
        &[1],
        0,
    );
    log.take();
    let head = Head {
        word_delay: 20,
        chip_select: 1,
        ..LAST
    };
    rig.ask(head, &[1; BYTES], 0);
    let pauses = log
        .take()
        .iter()
        .filter(|event| matches!(event, Pause(_)))
        .count();
    assert_eq!(pauses, BYTES + 4);
}

#[test]
fn a_bus_that_fails_is_a_transfer_error_and_deselects_the_chip() {
    for (tx, room, bad) in [
        (&[1, 2][..], 0, Write(vec![1, 2])),
        (&[], 2, Read(2)),
        (&[1, 2], 2, Exchange(vec![1, 2])),
        (&[1, 2], 0, Flush),
    ] {
        let (mut rig, log) = rig();
        log.fail([bad]);
        let outcome = rig.ask(PAUSES, tx, room);
        assert_eq!(outcome.result, TRANS_ERR);
        assert_eq!(outcome.rx, vec![0; room]);
        assert_eq!(rig.host_fault(), Some(HostFault::Backend));
        let events = log.take();
        assert_eq!(events[events.len() - 3..], [Pause(30), High(0), Pause(40)]);
        assert_eq!(rig.ask(PLAIN, &[1], 0).result, OK);
        assert_eq!(log.take(), [Low(0), Write(vec![1]), Flush]);
    }
}

#[test]
fn a_word_that_fails_is_the_last_one() {
    let (mut rig, log) = rig();
    let head = Head {
        word_delay: 20,
        cs_change: 1,
        ..PLAIN
    };
    for (tx, room, bad) in [
        (&[1, 2, 3][..], 0, Write(vec![2])),
        (&[1, 2, 3], 3, Exchange(vec![2])),
    ] {
        log.fail([bad.clone()]);
        assert_eq!(rig.ask(head, tx, room).result, TRANS_ERR);
        let events = log.take();
        assert_eq!(events[events.len() - 3..], [Pause(20), bad, High(0)]);
    }
    log.fail([Flush]);
    assert_eq!(rig.ask(head, &[], 3).result, TRANS_ERR);
    assert_eq!(log.take(), [Low(0), Read(1), Flush, High(0)]);
}

#[test]
fn a_pin_that_does_not_go_low_is_a_transfer_error() {
    let (mut rig, log) = rig();
    log.fail([Low(0)]);
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(TRANS_ERR));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    // The pin's level is unknown, so it is set high.
    assert_eq!(log.take(), [Low(0), High(0)]);
}

#[test]
fn a_pin_that_stays_low_keeps_other_chips_unselected() {
    let (mut rig, log) = rig();
    log.fail([High(0), High(0), High(0)]);
    let head = Head {
        cs_change: 1,
        ..PLAIN
    };
    assert_eq!(rig.ask(head, &[1], 0), outcome(TRANS_ERR));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    assert_eq!(log.take(), [Low(0), Write(vec![1]), Flush, High(0)]);
    // The pin is set high again before another chip is selected.
    assert_eq!(
        rig.ask(
            Head {
                chip_select: 1,
                ..head
            },
            &[2],
            0
        ),
        outcome(TRANS_ERR)
    );
    assert_eq!(log.take(), [High(0), High(0)]);
    assert_eq!(
        rig.ask(
            Head {
                chip_select: 1,
                ..head
            },
            &[2],
            0
        ),
        outcome(OK)
    );
    assert_eq!(
        log.take(),
        [High(0), Low(1), Write(vec![2]), Flush, High(1)]
    );
}

#[test]
fn a_reset_deselects_the_chip() {
    let (mut rig, log) = rig();
    rig.ask(PAUSES, &[1], 0);
    log.take();
    assert!(rig.engine.bring_up(virtside::Features::RING, &[config(0)]));
    assert_eq!(log.take(), [Pause(30), High(0), Pause(40)]);
    rig.driver = driver(rig.ram, 0);
    rig.ask(PLAIN, &[1], 0);
    log.take();
    let _ = rig.engine.store(reg::QUEUE_SEL, 0);
    let _ = rig.engine.store(reg::QUEUE_READY, 0);
    assert_eq!(log.take(), [High(0)]);
    // A second reset does nothing.
    let _ = rig.engine.store(reg::STATUS, 0);
    assert_eq!(log.take(), []);
}

#[test]
fn a_request_that_is_refused_touches_no_line() {
    let (mut rig, log) = rig();
    for head in [
        Head {
            chip_select: 2,
            ..PLAIN
        },
        Head {
            bits_per_word: 16,
            ..PLAIN
        },
        Head {
            tx_nbits: 2,
            ..PLAIN
        },
        Head { mode: 4, ..PLAIN },
        Head { mode: 8, ..PLAIN },
        Head { mode: 16, ..PLAIN },
        Head {
            cs_setup: 5001,
            ..PLAIN
        },
    ] {
        assert_eq!(rig.ask(head, &[1], 0), outcome(PARAM_ERR));
        assert_eq!(log.take(), []);
    }
}

#[test]
fn a_fixed_clock_supports_one_mode_and_one_rate() {
    for (mode, bits) in [(MODE_0, 0), (MODE_1, 1), (MODE_2, 2), (MODE_3, 3)] {
        let (lines, log) = lines_with(FixedClock::new(mode, 1_000_000));
        let mut rig = SpiRig::over(lines);
        for other in 0..4 {
            let head = Head {
                mode: other,
                cs_change: 1,
                ..PLAIN
            };
            let expected = if other == bits { OK } else { PARAM_ERR };
            assert_eq!(rig.ask(head, &[1], 0), outcome(expected));
        }
        for (freq, expected) in [
            (1_000_000, OK),
            (0, OK),
            (999_999, PARAM_ERR),
            (1, PARAM_ERR),
            (1_000_001, PARAM_ERR),
        ] {
            log.take();
            let head = Head {
                mode: bits,
                freq,
                cs_change: 1,
                ..PLAIN
            };
            assert_eq!(rig.ask(head, &[1], 0), outcome(expected));
            assert_eq!(log.take().is_empty(), expected != OK);
            assert_eq!(rig.host_fault(), None);
        }
    }
}

#[test]
fn a_fixed_clock_without_a_rate_accepts_any() {
    let mut rig = SpiRig::over(lines_with(FixedClock::new(MODE_3, 0)).0);
    assert_eq!(space(&mut rig.engine)[12..16], [0; 4], "no limit");
    for freq in [0, 1, 1_000_000, u32::MAX] {
        let head = Head {
            mode: 3,
            freq,
            cs_change: 1,
            ..PLAIN
        };
        assert_eq!(rig.ask(head, &[1], 0), outcome(OK));
    }
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(PARAM_ERR));
}

#[test]
fn a_stepped_clock_takes_the_highest_rate_not_above() {
    // Linux asks for the rate in its device tree, which may not be one of the bus's rates.
    let log = Log::default();
    let noted = log.clone();
    let functions = SpiFunctions::CPHA_0 | SpiFunctions::CPOL_0 | SpiFunctions::CPOL_1;
    let clock = SteppedClock::new(functions, [400_000, 0, 8_000_000, 1_000_000], {
        move |_: &mut Wire, mode, hz| noted.note(Clock(mode, hz)).map_err(|_| SpiError::Failed)
    });
    let pins = [0, 1].map(|at| Pin(at, log.clone()));
    let lines = SpiLines::new(Wire(log.clone()), pins, Timer(log.clone()), clock);
    let mut rig = SpiRig::over(lines);
    let shown = space(&mut rig.engine);
    assert_eq!(shown[8], 0b1101);
    assert_eq!(shown[12..16], 8_000_000u32.to_le_bytes());
    for (freq, expected) in [
        (8_000_000, 8_000_000),
        (7_999_999, 1_000_000),
        (1_000_000, 1_000_000),
        (999_999, 400_000),
        (400_000, 400_000),
        (0, 8_000_000),
    ] {
        let head = Head {
            mode: 2,
            freq,
            ..LAST_PLAIN
        };
        assert_eq!(rig.ask(head, &[1], 0), outcome(OK));
        assert_eq!(log.take()[0], Clock(MODE_2, expected), "{freq} Hz");
    }
    for (freq, mode) in [(399_999, 0), (1, 0), (8_000_001, 0), (400_000, 1)] {
        let head = Head {
            freq,
            mode,
            ..LAST_PLAIN
        };
        assert_eq!(rig.ask(head, &[1], 0), outcome(PARAM_ERR));
        assert_eq!(log.take(), []);
    }
    log.fail([Clock(MODE_0, 400_000)]);
    let head = Head {
        freq: 400_000,
        ..LAST_PLAIN
    };
    assert_eq!(rig.ask(head, &[1], 0), outcome(TRANS_ERR));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
}

/// An adjustable clock with rates from 1 kHz on.
struct AdjustableClock(Log);

impl SpiClock<Wire> for AdjustableClock {
    fn functions(&self) -> SpiFunctions {
        // Functions that do not concern the clock are ignored.
        SpiFunctions::all()
    }
    fn max_hz(&self) -> u32 {
        2_000_000
    }
    fn set(&mut self, _: &mut Wire, mode: Mode, hz: u32) -> Result<(), SpiError> {
        if hz != 0 && hz < 1000 {
            return Err(SpiError::Unsupported);
        }
        self.0.note(Clock(mode, hz)).map_err(|_| SpiError::Failed)
    }
}

fn adjustable() -> (SpiRig<Lines<AdjustableClock>>, Log) {
    let log = Log::default();
    let pins = [0, 1].map(|at| Pin(at, log.clone()));
    let lines = SpiLines::new(
        Wire(log.clone()),
        pins,
        Timer(log.clone()),
        AdjustableClock(log.clone()),
    );
    (SpiRig::over(lines), log)
}

#[test]
fn an_adjustable_clock_is_set_before_its_chip_is_selected() {
    let (mut rig, log) = adjustable();
    assert_eq!(
        space(&mut rig.engine)[8..16],
        [0xf, 0, 0, 0, 0x80, 0x84, 0x1e, 0]
    );
    for (mode, clock) in [(0, MODE_0), (1, MODE_1), (2, MODE_2), (3, MODE_3)] {
        let head = Head {
            mode,
            freq: 1000 + mode,
            cs_change: 1,
            ..PLAIN
        };
        assert_eq!(rig.ask(head, &[1], 0), outcome(OK));
        assert_eq!(
            log.take(),
            [
                Clock(clock, 1000 + mode),
                Low(0),
                Write(vec![1]),
                Flush,
                High(0)
            ]
        );
    }
    // While another chip is selected, setting the clock has to wait.
    rig.ask(PLAIN, &[1], 0);
    log.take();
    rig.ask(
        Head {
            chip_select: 1,
            mode: 3,
            freq: 5000,
            ..PLAIN
        },
        &[2],
        0,
    );
    assert_eq!(
        log.take(),
        [High(0), Clock(MODE_3, 5000), Low(1), Write(vec![2]), Flush]
    );
}

#[test]
fn a_clock_that_fails_ends_a_message() {
    let (mut rig, log) = adjustable();
    rig.ask(PLAIN, &[1], 0);
    log.take();
    assert_eq!(
        rig.ask(Head { freq: 999, ..PLAIN }, &[2], 0),
        outcome(PARAM_ERR)
    );
    assert_eq!(log.take(), [High(0)]);
    assert_eq!(rig.host_fault(), None);
    log.fail([Clock(MODE_0, 1_000_000)]);
    assert_eq!(rig.ask(PLAIN, &[2], 0), outcome(TRANS_ERR));
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
}

#[test]
fn mocks_of_embedded_hal_see_what_they_expect() {
    let mut bus = BusMock::new(&[
        Transaction::write_vec(vec![0x9f]),
        Transaction::flush(),
        Transaction::read_vec(vec![0xef, 0x40, 0x18]),
        Transaction::flush(),
        Transaction::transfer_in_place(vec![1, 2], vec![3, 4]),
        Transaction::flush(),
    ]);
    let set = |state| PinTransaction::set(state);
    let mut pin = PinMock::new(&[
        set(State::Low),
        set(State::High),
        set(State::Low),
        set(State::High),
    ]);
    let mut delay = CheckedDelay::new(&[DelayTransaction::delay_ns(100)]);
    let clock = FixedClock::new(MODE_0, 1_000_000);
    let lines = SpiLines::new(bus.clone(), [pin.clone()], delay.clone(), clock).with_delays(100);
    let mut rig = SpiRig::over(lines);
    // A command and its answer: the chip stays selected in between.
    assert_eq!(rig.ask(PLAIN, &[0x9f], 0), outcome(OK));
    assert_eq!(
        rig.ask(
            Head {
                cs_change: 1,
                ..PLAIN
            },
            &[],
            3
        ),
        got([0xef, 0x40, 0x18])
    );
    let head = Head {
        cs_change: 1,
        cs_setup: 100,
        ..PLAIN
    };
    assert_eq!(rig.ask(head, &[1, 2], 2), got([3, 4]));
    drop(rig);
    bus.done();
    pin.done();
    delay.done();
}
