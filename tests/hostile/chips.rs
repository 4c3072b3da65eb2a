//! Requests of spi and i2c that fail before they reach the bus, and what they leave behind.

use embedded_hal::spi::MODE_0;
use virtside::{
    error::FaultPolicy,
    models::{
        I2c,
        spi::{FixedClock, SpiLines},
    },
    testing::Buffer,
};
use virtside_tests::models::{
    i2c::{self, I2cRig},
    spi::{Event::*, *},
};

type Lines = SpiLines<Wire, Pin, Timer, FixedClock, 2>;

fn lines() -> (SpiRig<Lines>, Log) {
    let log = Log::default();
    let pins = [0, 1].map(|at| Pin(at, log.clone()));
    let clock = FixedClock::new(MODE_0, 1_000_000);
    let lines = SpiLines::new(Wire(log.clone()), pins, Timer(log.clone()), clock);
    (SpiRig::over(lines), log)
}

/// A chip is selected, and stays so.
fn selected() -> (SpiRig<Lines>, Log) {
    let (mut rig, log) = lines();
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(OK));
    assert_eq!(log.take(), [Low(0), Write(vec![1]), Flush]);
    (rig, log)
}

/// A live adapter whose faulty chains are given back alone.
fn lenient(combining: bool) -> I2cRig<i2c::Recorder> {
    let rig = match combining {
        true => I2cRig::with_combining(4),
        false => I2cRig::with(I2c::new(i2c::Recorder::default()), 4),
    };
    let I2cRig {
        engine,
        driver,
        ram,
        order,
    } = rig;
    let engine = engine.with_policy(FaultPolicy::Reject);
    I2cRig {
        engine,
        driver,
        ram,
        order,
    }
}

/// A group of a write, a request that is faulty in some way, and a read.
fn faulty_group(combining: bool, spoil: impl Fn(&mut Vec<Buffer>)) -> I2cRig<i2c::Recorder> {
    let mut rig = lenient(combining);
    rig.offer(0, &i2c::write(0x50, &[1]).and());
    let mut buffers = rig.put(1, &i2c::write(0x50, &[2]).and());
    spoil(&mut buffers);
    rig.driver.write_chain(3, &buffers);
    rig.driver.offer(3);
    rig.offer(2, &i2c::read(0x50, 2));
    let _ = rig.run();
    assert_eq!(rig.take_used().len(), 3, "all came back");
    assert_eq!(rig.engine.counters().rejected, 1);
    rig
}

#[test]
fn a_transfer_that_is_too_long_deselects_the_chip() {
    let (mut rig, log) = selected();
    assert_eq!(rig.ask(PLAIN, &[0; BYTES + 1], 0).result, TRANS_ERR);
    assert_eq!(log.take(), [High(0)]);
}

#[test]
fn a_transfer_with_bad_parameters_deselects_the_chip() {
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
            cs_setup: 5001,
            ..PLAIN
        },
    ] {
        let (mut rig, log) = selected();
        assert_eq!(rig.ask(head, &[1], 0), outcome(PARAM_ERR));
        assert_eq!(log.take(), [High(0)], "{head:?}");
    }
}

#[test]
fn a_transfer_of_nothing_deselects_the_chip() {
    let (mut rig, log) = selected();
    assert_eq!(rig.ask(PLAIN, &[], 0), outcome(PARAM_ERR));
    assert_eq!(log.take(), [High(0)]);
}

#[test]
fn a_request_without_room_for_its_status_fails_its_group() {
    for combining in [false, true] {
        let rig = faulty_group(combining, |buffers| buffers.truncate(2));
        assert_eq!(rig.status(2), i2c::ERR, "{combining}");
    }
}

#[test]
fn a_lenient_adapter_stays_usable_behind_a_faulty_group() {
    let mut rig = faulty_group(true, |buffers| buffers.truncate(2));
    let _ = rig.calls();
    assert_eq!(rig.engine.driver_fault(0), None);
    assert_eq!(rig.one(i2c::read(0x50, 1)).status, i2c::OK);
}
