//! Emergency writes through `emerg_wr`.

use virtio_spec::console::F;
use virtside::{
    Features, Refusal,
    mmio::{Access, Reply},
    models::{Console, ConsoleError, ConsolePort},
    testing::Registers,
};
use virtside_tests::{models::console::*, ram, reg};

fn write(offset: u32, width: u8, value: u64) -> Access {
    Access::Write {
        offset: reg::CONFIG + offset,
        width,
        value,
    }
}

#[test]
fn the_low_byte_of_an_emergency_write_goes_out() {
    let mut rig = ConsoleRig::new();
    for (value, byte) in [(0x41, 0x41), (0xffff_ff42, 0x42), (0x100, 0)] {
        assert_eq!(rig.machine.reach(write(8, 4, value)), Reply::Done(0));
        assert_eq!(std::mem::take(&mut rig.io(0).emergencies), [byte]);
    }
    assert_eq!(rig.config(8), [0; 4], "`emerg_wr` reads 0");
    assert_eq!(rig.written(0), []);
}

#[test]
fn an_emergency_write_may_be_of_any_width_that_has_the_low_byte() {
    let mut rig = ConsoleRig::new();
    for width in [1, 2, 4] {
        assert_eq!(rig.machine.reach(write(8, width, 0x43)), Reply::Done(0));
        assert_eq!(std::mem::take(&mut rig.io(0).emergencies), [0x43]);
    }
}

#[test]
fn nothing_else_in_the_configuration_can_be_written() {
    let mut rig = ConsoleRig::over(Console::new(RecordingPort::new()).with_size(80, 25));
    for (offset, width) in [
        (0, 2),
        (2, 2),
        (0, 4),
        (4, 4),
        (4, 8),
        (9, 1),
        (10, 2),
        (8, 8),
        (12, 4),
    ] {
        let refusal = Refusal::ConfigReadOnly {
            offset: reg::CONFIG + offset,
            width,
        };
        let reply = rig.machine.reach(write(offset, width, 0x44));
        assert_eq!(reply.refusal(), Some(refusal));
    }
    assert_eq!(rig.io(0).emergencies, []);
    assert_eq!(rig.config(0), [80, 0, 25, 0, 0, 0, 0, 0]);
}

#[test]
fn an_emergency_write_needs_neither_the_feature_nor_a_queue() {
    let mut rig = ConsoleRig::with(Console::new(RecordingPort::new()), Features::VERSION_1);
    assert_eq!(rig.machine.reach(write(8, 4, 0x45)), Reply::Done(0));
    assert_eq!(rig.io(0).emergencies, [0x45]);

    let mut device = machine(Console::new(RecordingPort::new()), ram());
    assert!(device.negotiate(Features::RING | feature(F::EMERG_WRITE)));
    assert_eq!(device.reach(write(8, 4, 0x46)), Reply::Done(0));
    let port = device.model().port(0).expect("port 0");
    assert_eq!(port.io().emergencies, [0x46]);
}

#[test]
fn an_emergency_write_works_while_the_ring_is_broken() {
    let mut rig = ConsoleRig::new();
    rig.queues[1].set_avail_idx(1000);
    rig.kick(1);
    assert!(rig.machine.driver_fault(1).is_some());
    assert_eq!(rig.machine.reach(write(8, 4, 0x47)), Reply::Done(0));
    assert_eq!(rig.io(0).emergencies, [0x47]);
}

#[test]
fn an_emergency_write_goes_to_port_0() {
    let mut rig = ConsoleRig::three();
    assert_eq!(rig.machine.reach(write(8, 4, 0x48)), Reply::Done(0));
    assert_eq!(rig.io(0).emergencies, [0x48]);
    assert_eq!(rig.io(1).emergencies, []);
}

/// A port that uses the trait's emergency write.
#[derive(Debug)]
struct Plain(RecordingPort);

impl ConsolePort for Plain {
    fn has_input(&self) -> bool {
        false
    }
    fn read(&mut self, _: &mut [u8]) -> Result<usize, ConsoleError> {
        Err(ConsoleError::NotReady)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        self.0.write(bytes)
    }
}

#[test]
fn by_default_an_emergency_is_written_as_output() {
    let mut rig: ConsoleRig<1, Plain> = ConsoleRig::over(Console::new(Plain(RecordingPort::new())));
    assert_eq!(rig.machine.reach(write(8, 4, 0x49)), Reply::Done(0));
    assert_eq!(rig.port(0).io().0.output, [0x49]);
    // Output that the port cannot take now is dropped.
    rig.port(0).io_mut().0.room = 0;
    assert_eq!(rig.machine.reach(write(8, 4, 0x50)), Reply::Done(0));
    rig.port(0).io_mut().0.room = 9;
    rig.machine.backend_ready(1);
    rig.settle();
    assert_eq!(rig.port(0).io().0.output, [0x49]);
}

#[test]
fn an_emergency_write_works_at_any_time() {
    use virtio_spec::DeviceStatus;
    let mut device = machine(Console::new(RecordingPort::new()), ram());
    let mut byte = 0x60;
    let mut works = |device: &mut Machine<RecordingPort, 1>| {
        byte += 1;
        assert_eq!(device.reach(write(8, 4, byte.into())), Reply::Done(0));
        let port = device.model_mut().port_mut(0).expect("port 0");
        assert_eq!(std::mem::take(&mut port.io_mut().emergencies), [byte]);
    };
    works(&mut device);
    for status in [1, 3, 11, 15] {
        let _ = device.store(reg::STATUS, status);
        works(&mut device);
    }
    let _ = device.set_status(DeviceStatus::from_bits_retain(0x80 | 15));
    works(&mut device);
    let _ = device.store(reg::STATUS, 0);
    works(&mut device);
    // The other fields are read-only.
    let refusal = Refusal::ConfigReadOnly {
        offset: 0x104,
        width: 4,
    };
    assert_eq!(device.reach(write(4, 4, 1)).refusal(), Some(refusal));
}

#[test]
fn a_suspended_device_takes_no_emergency_write() {
    let mut rig = ConsoleRig::new();
    assert_eq!(rig.machine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(rig.machine.load(reg::STATUS), 0x1b);
    let (offset, width) = (8, 4);
    let refusal = Refusal::ConfigReadOnly {
        offset: reg::CONFIG + offset,
        width,
    };
    let reply = rig.machine.reach(write(offset, width, 0x41));
    assert_eq!(reply, Reply::Refused(refusal));
    assert_eq!(rig.io(0).emergencies, []);
    assert_eq!(rig.machine.store(reg::STATUS, 0x1f), Reply::Done(0));
    assert_eq!(
        rig.machine.reach(write(offset, width, 0x41)),
        Reply::Done(0)
    );
    assert_eq!(rig.io(0).emergencies, [0x41]);
}
