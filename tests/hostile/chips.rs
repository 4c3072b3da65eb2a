//! A bus behind a device: what a faulty request leaves behind.

use virtside::{error::FaultPolicy, models::I2c, testing::Buffer};
use virtside_tests::models::i2c::{self, I2cRig};

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
fn a_lenient_adapter_stays_usable_behind_a_faulty_group() {
    let mut rig = faulty_group(true, |buffers| buffers.truncate(2));
    let _ = rig.calls();
    assert_eq!(rig.engine.driver_fault(0), None);
    assert_eq!(rig.one(i2c::read(0x50, 1)).status, i2c::OK);
}
