//! Requests that fail: what the driver is answered and what the host is told.

use std::sync::{Arc, OnceLock};

use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use virtside::{
    DriverFault, FlatMem, HostFault,
    device::QueueState,
    models::{I2c, I2cAddress, I2cBus, I2cTransfer},
    testing::Buffer,
};
use virtside_tests::{
    BASE,
    hooks::{Hook, Touch},
    models::i2c::*,
    ram,
    rings::GuardedMem,
};

const NAKS: [ErrorKind; 3] = [
    ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address),
    ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data),
    ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
];

const FAULTS: [ErrorKind; 4] = [
    ErrorKind::Bus,
    ErrorKind::ArbitrationLoss,
    ErrorKind::Overrun,
    ErrorKind::Other,
];

#[test]
fn a_chip_that_does_not_acknowledge_fails_one_request_only() {
    for kind in NAKS {
        let mut mock = Mock::new(&[
            Transaction::write(0x50, vec![1]).with_error(kind),
            Transaction::read(0x50, vec![0; 4]).with_error(kind),
            Transaction::write(0x50, vec![]).with_error(kind),
        ]);
        let mut rig = I2cRig::over(mock.clone());
        assert_eq!(rig.one(write(0x50, &[1])), failed());
        assert_eq!(rig.one(read(0x50, 4)), failed_read(4));
        assert_eq!(rig.one(write(0x50, &[])), failed());
        assert_eq!(rig.host_fault(), None);
        mock.done();
    }
}

#[test]
fn every_other_error_of_the_bus_is_reported_to_the_host() {
    for kind in FAULTS {
        let mut rig = I2cRig::new();
        rig.trouble([Some(kind), None, Some(kind)]);
        assert_eq!(rig.one(write(0x50, &[1])), failed());
        assert_eq!(rig.host_fault(), Some(HostFault::Backend));
        assert_eq!(rig.one(write(0x50, &[1])), done());
        assert_eq!(rig.host_fault(), None);
        assert_eq!(rig.one(read(0x50, 4)), failed_read(4));
        assert_eq!(rig.host_fault(), Some(HostFault::Backend));
        assert_eq!(rig.engine.queue_state(0), QueueState::Live);
    }
}

#[test]
fn the_rest_of_a_group_reports_nothing() {
    let mut rig = I2cRig::new();
    rig.trouble([Some(ErrorKind::Bus)]);
    assert_eq!(rig.one(write(0x50, &[1]).and()), failed());
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    assert_eq!(rig.one(write(0x50, &[1])), failed());
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn reserved_flags_are_not_guessed_at() {
    for bit in 2..32 {
        let mut rig = I2cRig::new();
        for message in [write(0x50, &[1]), write(0x50, &[])] {
            let flags = message.flags | 1 << bit;
            assert_eq!(rig.one(Message { flags, ..message }), failed());
        }
        let message = read(0x50, 2);
        let flags = message.flags | 1 << bit;
        assert_eq!(rig.one(Message { flags, ..message }), failed_read(2));
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.host_fault(), None, "the host is not at fault");
    }
}

#[test]
fn an_address_of_neither_format_is_an_error() {
    for addr in [0x0001, 0x00a1, 0x01a0, 0xa000, 0x00f1, 0x12f8, 0xffff] {
        let mut rig = I2cRig::new();
        assert_eq!(
            rig.one(Message {
                addr,
                ..write(0, &[1])
            }),
            failed()
        );
        assert_eq!(rig.one(Message { addr, ..read(0, 1) }), failed_read(1));
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.host_fault(), None);
    }
}

#[test]
fn a_10_bit_address_on_a_bus_without_them_is_an_error() {
    for addr in [0x00f0, 0x00f6, 0x23f2, 0xfff6] {
        let mut rig = I2cRig::new();
        assert_eq!(
            rig.one(Message {
                addr,
                ..write(0, &[1])
            }),
            failed()
        );
        assert_eq!(rig.one(Message { addr, ..read(0, 1) }), failed_read(1));
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.host_fault(), None);
    }
}

#[test]
fn a_request_that_exceeds_the_room_is_an_error() {
    for len in [BYTES + 1, BYTES + 2, 2 * BYTES] {
        let mut rig = I2cRig::new();
        assert_eq!(rig.one(write(0x50, &vec![1; len])), failed());
        assert_eq!(rig.one(read(0x50, len as u32)), failed_read(len));
        assert_eq!(rig.calls(), [], "no part of the request is sent");
        assert_eq!(rig.host_fault(), None);
    }
    // The same holds for any length; the test needs only one byte of memory for it.
    let mut rig = I2cRig::new();
    let whole = 0x3_0000;
    rig.put(0, &read(0x50, 1));
    let at = I2cRig::<Recorder>::place(0);
    let header = Buffer::readable(at, 8);
    let status = Buffer::writable(at + 0x200, 1);
    let used = rig.send(&[header, Buffer::writable(BASE, whole), status]);
    assert_eq!((used, rig.status(0)), (Some(BYTES as u32), ERR));
}

#[test]
fn data_of_the_other_direction_is_an_error() {
    let at = I2cRig::<Recorder>::place(0);
    let header = Buffer::readable(at, 8);
    let status = Buffer::writable(at + 0x200, 1);
    let sent = Buffer::readable(at + 0x10, 4);
    let room = Buffer::writable(at + 0x20, 4);
    for (message, buffers, used) in [
        (read(0x50, 0), vec![header, sent, status], 1),
        (read(0x50, 0), vec![header, sent, room, status], 5),
        (write(0x50, &[]), vec![header, room, status], 5),
        (write(0x50, &[]), vec![header, sent, room, status], 5),
    ] {
        let mut rig = I2cRig::new();
        rig.put(0, &message);
        assert_eq!(rig.send(&buffers), Some(used));
        assert_eq!(rig.status(0), ERR);
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.host_fault(), None);
    }
}

#[test]
fn a_header_that_is_too_short_is_an_error() {
    let at = I2cRig::<Recorder>::place(0);
    for len in 0..8 {
        let mut rig = I2cRig::new();
        rig.put(0, &write(0x50, &[]));
        let buffers = [Buffer::readable(at, len), Buffer::writable(at + 0x200, 1)];
        assert_eq!(rig.send(&buffers), Some(1));
        assert_eq!(rig.status(0), ERR);
        let buffers = [Buffer::writable(at + 0x200, 1)];
        assert_eq!(rig.send(&buffers), Some(1));
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.host_fault(), None);
        assert_eq!(
            rig.one(read(0x50, 1)),
            got([1]),
            "the request belongs to no group"
        );
    }
}

#[test]
fn a_request_without_room_for_the_status_breaks_the_queue() {
    let at = I2cRig::<Recorder>::place(0);
    for buffers in [
        vec![Buffer::readable(at, 8)],
        vec![Buffer::readable(at, 8), Buffer::readable(at + 0x10, 4)],
        vec![Buffer::readable(at, 8), Buffer::writable(at + 0x200, 0)],
    ] {
        let mut rig = I2cRig::new();
        rig.put(0, &write(0x50, &[1, 2, 3, 4]));
        assert_eq!(rig.send(&buffers), None);
        let fault = rig.engine.driver_fault(0);
        assert_eq!(fault, Some(DriverFault::BadRequest { head: 0 }));
        assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
        assert_eq!(rig.calls(), []);
    }
}

/// Memory of which a part disappears at the device's first read, that of the header.
type Shaky = GuardedMem<FlatMem<Hook>>;

fn shaky(start: u64, len: u32) -> I2cRig<Recorder, Shaky> {
    let ram = ram();
    let guard: Arc<OnceLock<Shaky>> = Arc::default();
    let inside = guard.clone();
    let hook = Hook::new(move |touch| {
        let header = I2cRig::<Recorder>::place(0);
        if matches!(touch, Touch::Read(at, _) if at == header)
            && let Some(guard) = inside.get()
        {
            guard.deny(start, len);
        }
    });
    let mem = GuardedMem::new(ram.flat(BASE).with_hooks(hook));
    guard.set(mem.clone()).expect("set once");
    I2cRig::at(I2c::new(Recorder::default()), mem, ram, 1)
}

#[test]
fn a_header_that_is_gone_fails_the_request_and_is_reported() {
    let header = I2cRig::<Recorder>::place(0);
    // The header is in two pieces, and the second disappears after the first is read.
    let mut rig = shaky(header + 4, 4);
    rig.put(0, &write(0x50, &[1]));
    let buffers = [
        Buffer::readable(header, 4),
        Buffer::readable(header + 4, 4),
        Buffer::writable(header + 0x200, 1),
    ];
    assert_eq!(rig.send(&buffers), Some(1));
    assert_eq!(rig.status(0), ERR);
    assert_eq!(
        rig.host_fault(),
        Some(HostFault::MemoryGone { addr: header + 4 })
    );
    assert_eq!(rig.engine.model().bus().calls, []);
}

#[test]
fn data_that_is_gone_fails_the_request_and_is_reported() {
    let data = I2cRig::<Recorder>::place(0) + 0x10;
    let mut rig = shaky(data, 4);
    assert_eq!(rig.one(write(0x50, &[1, 2, 3])), failed());
    assert_eq!(rig.host_fault(), Some(HostFault::MemoryGone { addr: data }));
    assert_eq!(rig.engine.model().bus().calls, []);
    // The read has been executed on the bus by then.
    let mut rig = shaky(data, 4);
    let outcome = rig.one(read(0x50, 3));
    assert_eq!((outcome.status, outcome.used), (ERR, 0));
    assert_eq!(outcome.data, [UNTOUCHED; 3], "the buffer is not filled");
    assert_eq!(rig.host_fault(), Some(HostFault::MemoryGone { addr: data }));
    assert_eq!(rig.engine.model().bus().calls, [Read(0x50, 3)]);
    // A buffer that disappears in part is answered with the length that was written.
    let mut rig = shaky(data + 2, 2);
    let outcome = rig.one(read(0x50, 3));
    assert_eq!(
        outcome,
        Outcome {
            status: ERR,
            used: 2,
            data: vec![1, 2, UNTOUCHED]
        }
    );
}

#[test]
fn a_status_that_is_gone_is_reported_and_not_counted() {
    let status = I2cRig::<Recorder>::place(0) + 0x200;
    let mut rig = shaky(status, 1);
    let outcome = rig.one(write(0x50, &[1]));
    assert_eq!((outcome.status, outcome.used), (UNTOUCHED, 0));
    assert_eq!(
        rig.host_fault(),
        Some(HostFault::MemoryGone { addr: status })
    );
}

#[test]
fn a_host_can_keep_chips_from_its_driver() {
    /// Allows only the chip at 0x50.
    struct Only50(Recorder);
    impl I2cBus for Only50 {
        fn transfer(
            &mut self,
            address: I2cAddress,
            transfer: I2cTransfer<'_>,
        ) -> Result<(), ErrorKind> {
            if address == I2cAddress::Seven(0x50) {
                self.0.transfer(address, transfer)
            } else {
                Err(NAK)
            }
        }
    }
    let mut rig = I2cRig::over(Only50(Recorder::default()));
    let outcomes = rig.ask(&[read(0x4f, 1), read(0x50, 1), read(0x51, 1)]);
    assert_eq!(outcomes, [failed_read(1), got([1]), failed_read(1)]);
    assert_eq!(rig.engine.model().bus().0.calls, [Read(0x50, 1)]);
}
