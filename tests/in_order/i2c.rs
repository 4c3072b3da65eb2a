//! The I2C adapter keeps a write until it has the next request, and therefore answers it after the
//! read.

use std::sync::{Arc, Mutex};

use embedded_hal::i2c::{ErrorKind, ErrorType, Operation};
use virtside::{
    Features, Step,
    features::Offer,
    models::{I2c, i2c::ZERO_LENGTH_REQUEST},
    testing::{Buffer, Registers},
};
use virtside_tests::{
    BASE, DATA, SIZE, TestEngine, engine_over,
    in_order::{FORMATS, Format, Given, InOrderDriver},
    ram,
    rings::settle,
};

/// Counts its transactions; every byte that it reads is 7.
#[derive(Clone, Default)]
struct Bus(Arc<Mutex<Vec<usize>>>);

impl ErrorType for Bus {
    type Error = ErrorKind;
}

impl embedded_hal::i2c::I2c for Bus {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), ErrorKind> {
        self.0.lock().unwrap().push(operations.len());
        for operation in operations {
            if let Operation::Read(bytes) = operation {
                bytes.fill(7);
            }
        }
        if address == 0x50 {
            Ok(())
        } else {
            Err(ErrorKind::NoAcknowledge(
                embedded_hal::i2c::NoAcknowledgeSource::Address,
            ))
        }
    }
}

struct I2cInOrderRig {
    engine: TestEngine<I2c<Bus, 16>>,
    driver: InOrderDriver,
    bus: Bus,
    ram: virtside_tests::TestRam,
}

fn rig(format: Format, slots: usize) -> I2cInOrderRig {
    let (ram, bus) = (ram(), Bus::default());
    let features = Features::IN_ORDER | format.features() | ZERO_LENGTH_REQUEST;
    let model = I2c::new(bus.clone()).with_combining();
    let mut engine =
        engine_over(model, ram.flat(BASE), slots).with_offer(Offer::AS_IS.with(features));
    let driver = InOrderDriver::new(ram, format, 0, SIZE);
    assert!(engine.bring_up(features, &[driver.config()]));
    I2cInOrderRig {
        engine,
        driver,
        bus,
        ram,
    }
}

impl I2cInOrderRig {
    /// Requests a read or a write of two bytes, from the chip at 0x50 or from an absent chip.
    fn ask(&mut self, read: bool, more: bool, there: bool) {
        self.ask_for(2, read, more, there);
    }

    /// Requests a read or a write of `len` bytes.
    fn ask_for(&mut self, len: u32, read: bool, more: bool, there: bool) {
        let at = DATA + 0x100 * self.driver.outstanding() as u64;
        let offset = (at - BASE) as usize;
        let addr: u8 = if there { 0xa0 } else { 0xa2 };
        let flags = u8::from(more) | (u8::from(read) << 1);
        self.ram.write(offset, &[addr, 0, 0, 0, flags, 0, 0, 0]);
        let data = if read {
            Buffer::writable(at + 0x10, len)
        } else {
            Buffer::readable(at + 0x10, len)
        };
        let status = Buffer::writable(at + 0x40, 1);
        self.driver.send(&[Buffer::readable(at, 8), data, status]);
    }

    fn run(&mut self) -> Vec<Given> {
        let _ = self.engine.kick(0);
        assert_eq!(settle(&mut self.engine), Step::Idle);
        self.driver.take()
    }
}

#[test]
fn a_write_that_is_combined_with_its_read_comes_back_before_it() {
    for &format in FORMATS {
        for slots in [2, 5] {
            let mut rig = rig(format, slots);
            rig.ask(false, true, true);
            rig.ask(true, false, true);
            // The write has only a status, the read has data and a status: both are full.
            let expected = [Given::skipped(0, 1), Given::entry(1, 3)];
            assert_eq!(rig.run(), expected, "{format:?}");
            assert_eq!(*rig.bus.0.lock().unwrap(), [2], "one transaction");
        }
    }
}

#[test]
fn a_read_that_failed_comes_back_behind_the_kept_write() {
    for &format in FORMATS {
        let mut rig = rig(format, 3);
        rig.ask(false, true, false);
        rig.ask(true, false, false);
        rig.ask(false, false, true);
        // A failed read is filled with zeros.
        let [first, second] = [Given::skipped(0, 1), Given::skipped(1, 3)];
        assert_eq!(rig.run(), [first, second, Given::entry(2, 1)], "{format:?}");
    }
}

#[test]
fn a_read_that_is_not_filled_has_its_own_entry() {
    for &format in FORMATS {
        let mut rig = rig(format, 3);
        rig.ask(false, true, true);
        // The request is longer than the adapter's room, so it fails, with no more zeros than that
        // room.
        rig.ask_for(20, true, false, true);
        rig.ask(false, false, true);
        let [first, second] = [Given::skipped(0, 1), Given::entry(1, 16)];
        assert_eq!(rig.run(), [first, second, Given::entry(2, 1)], "{format:?}");
    }
}

#[test]
fn a_kept_write_that_nothing_follows_comes_back() {
    for &format in FORMATS {
        for slots in [1, 2, 3] {
            let mut rig = rig(format, slots);
            for _ in 0..3 {
                rig.ask(false, true, true);
                assert_eq!(rig.run().len(), 1, "{format:?}, {slots} slots");
            }
        }
    }
}

#[test]
fn groups_come_back_in_order_however_few_slots_there_are() {
    for &format in FORMATS {
        for slots in 1..=5 {
            let mut rig = rig(format, slots);
            for (read, more) in [
                (false, true),
                (false, true),
                (true, false),
                (true, true),
                (false, false),
            ] {
                rig.ask(read, more, true);
            }
            let numbers: Vec<_> = rig.run().iter().map(|given| given.number).collect();
            assert_eq!(numbers, [0, 1, 2, 3, 4], "{format:?}, {slots} slots");
        }
    }
}
