//! Requests that fail: what the driver is answered and what the host is told.

use std::sync::{Arc, OnceLock};

use virtside::{
    DriverFault, FlatMem, HostFault,
    device::QueueState,
    models::spi::SpiError,
    testing::{Buffer, Registers},
};
use virtside_tests::{
    BASE, config,
    hooks::{Hook, Touch},
    models::spi::*,
    ram, reg,
    rings::GuardedMem,
};

#[test]
fn a_transfer_that_fails_is_reported_to_driver_and_host() {
    let mut rig = SpiRig::new();
    rig.recorder().trouble = Some(SpiError::Failed);
    for (tx, room, expected) in [
        (&[1, 2][..], 0, outcome(TRANS_ERR)),
        (&[], 2, refused(TRANS_ERR, 2)),
        (&[1, 2], 2, refused(TRANS_ERR, 2)),
    ] {
        assert_eq!(rig.ask(PLAIN, tx, room), expected);
        assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    }
    assert_eq!(rig.calls().len(), 3);
    assert_eq!(rig.engine.queue_state(0), QueueState::Live);
    rig.recorder().trouble = None;
    assert_eq!(rig.ask(PLAIN, &[1, 2], 0), outcome(OK));
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn unsupported_by_the_controller_is_a_parameter_error() {
    let mut rig = SpiRig::new();
    rig.recorder().trouble = Some(SpiError::Unsupported);
    assert_eq!(rig.ask(PLAIN, &[1, 2], 0), outcome(PARAM_ERR));
    assert_eq!(rig.ask(PLAIN, &[], 2), refused(PARAM_ERR, 2));
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn a_request_that_exceeds_the_room_is_a_transfer_error() {
    for len in [BYTES + 1, 2 * BYTES] {
        let mut rig = SpiRig::new();
        let data = vec![0x55; len];
        assert_eq!(rig.ask(PLAIN, &data, 0), outcome(TRANS_ERR));
        assert_eq!(rig.ask(PLAIN, &[], len), refused(TRANS_ERR, len));
        assert_eq!(rig.ask(PLAIN, &data, len), refused(TRANS_ERR, len));
        // Bad parameters are reported as such, for any length.
        let head = Head {
            chip_select: 9,
            ..PLAIN
        };
        assert_eq!(rig.ask(head, &data, 0), outcome(PARAM_ERR));
        assert_eq!(rig.calls(), [], "no part of the request is transferred");
        assert_eq!(rig.host_fault(), None);
    }
}

#[test]
fn a_head_that_is_too_short_is_a_parameter_error() {
    for len in 0..32 {
        let mut rig = SpiRig::new();
        rig.put(&PLAIN, &[], 0);
        let buffers = [Buffer::readable(HEAD, len), Buffer::writable(RESULT, 1)];
        assert_eq!(rig.send(&buffers), Some(1));
        assert_eq!(rig.bytes(RESULT, 1), [PARAM_ERR]);
        rig.put(&PLAIN, &[], 4);
        let buffers = [
            Buffer::readable(HEAD, len),
            Buffer::writable(RX, 4),
            Buffer::writable(RESULT, 1),
        ];
        assert_eq!(rig.send(&buffers), Some(5));
        assert_eq!(rig.bytes(RESULT, 1), [PARAM_ERR]);
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.host_fault(), None);
    }
    let mut rig = SpiRig::new();
    rig.put(&PLAIN, &[], 0);
    assert_eq!(rig.send(&[Buffer::writable(RESULT, 1)]), Some(1));
    assert_eq!(rig.bytes(RESULT, 1), [PARAM_ERR]);
}

#[test]
fn a_request_without_room_for_the_result_breaks_the_queue() {
    for buffers in [
        vec![Buffer::readable(HEAD, 32)],
        vec![Buffer::readable(HEAD, 32), Buffer::readable(TX, 4)],
        vec![Buffer::readable(HEAD, 32), Buffer::writable(RESULT, 0)],
    ] {
        let mut rig = SpiRig::new();
        rig.put(&PLAIN, &[1, 2, 3, 4], 0);
        rig.recorder().releases = 0;
        assert_eq!(rig.send(&buffers), None);
        let fault = rig.engine.driver_fault(0);
        assert_eq!(fault, Some(DriverFault::BadRequest { head: 0 }));
        assert_eq!(rig.engine.queue_state(0), QueueState::Failed);
        assert_eq!(rig.calls(), []);
        assert_eq!(rig.recorder().releases, 1, "nothing stays selected");
    }
}

#[test]
fn a_reset_and_a_stopped_queue_release_the_lines() {
    let mut rig = SpiRig::new();
    rig.recorder().releases = 0;
    let _ = rig.engine.store(reg::QUEUE_SEL, 0);
    let _ = rig.engine.store(reg::QUEUE_READY, 0);
    assert_eq!(rig.recorder().releases, 1);
    let _ = rig.engine.store(reg::STATUS, 0);
    assert_eq!(rig.recorder().releases, 2);
    assert!(rig.engine.bring_up(virtside::Features::RING, &[config(0)]));
}

/// Memory of which a part disappears at the device's first read, that of the head.
type Shaky = GuardedMem<FlatMem<Hook>>;

fn shaky(start: u64, len: u32) -> SpiRig<Recorder, Shaky> {
    let ram = ram();
    let guard: Arc<OnceLock<Shaky>> = Arc::default();
    let inside = guard.clone();
    let hook = Hook::new(move |touch| {
        if matches!(touch, Touch::Read(HEAD, _))
            && let Some(guard) = inside.get()
        {
            guard.deny(start, len);
        }
    });
    let mem = GuardedMem::new(ram.flat(BASE).with_hooks(hook));
    guard.set(mem.clone()).expect("set once");
    SpiRig::at(Recorder::new(everything()), mem, ram)
}

#[test]
fn a_head_that_is_gone_is_a_transfer_error_and_reported() {
    let mut rig = shaky(HEAD + 8, 24);
    rig.put(&PLAIN, &[1], 0);
    let buffers = [
        Buffer::readable(HEAD, 8),
        Buffer::readable(HEAD + 8, 24),
        Buffer::readable(TX, 1),
        Buffer::writable(RESULT, 1),
    ];
    assert_eq!(rig.send(&buffers), Some(1));
    assert_eq!(rig.bytes(RESULT, 1), [TRANS_ERR]);
    assert_eq!(
        rig.host_fault(),
        Some(HostFault::MemoryGone { addr: HEAD + 8 })
    );
    assert_eq!(rig.engine.model().controller().calls, []);
}

#[test]
fn data_that_is_gone_is_a_transfer_error_and_reported() {
    let mut rig = shaky(TX, 4);
    assert_eq!(rig.ask(PLAIN, &[1, 2], 2), refused(TRANS_ERR, 2));
    assert_eq!(rig.host_fault(), Some(HostFault::MemoryGone { addr: TX }));
    assert_eq!(rig.engine.model().controller().calls, []);
    // The bytes have been received by then.
    let mut rig = shaky(RX, 4);
    let outcome = rig.ask(PLAIN, &[1, 2], 2);
    assert_eq!((outcome.result, outcome.used), (TRANS_ERR, 0));
    assert_eq!(outcome.rx, [UNTOUCHED; 2], "the buffer is not filled");
    assert_eq!(rig.host_fault(), Some(HostFault::MemoryGone { addr: RX }));
    assert_eq!(rig.engine.model().controller().calls.len(), 1);
}

#[test]
fn a_result_that_is_gone_is_reported_and_not_counted() {
    let mut rig = shaky(RESULT, 1);
    let outcome = rig.ask(PLAIN, &[1], 0);
    assert_eq!((outcome.result, outcome.used), (UNTOUCHED, 0));
    assert_eq!(
        rig.host_fault(),
        Some(HostFault::MemoryGone { addr: RESULT })
    );
}
