//! Back ends that complete requests later.

use virtside::{
    HostFault, Step,
    models::{Block, BlockError, BlockOptions},
    testing::{Buffer, Registers},
};
use virtside_tests::{
    BASE, SIZE, config, driver, engine_over,
    models::blk::*,
    ram, reg,
    rings::{GuardedMem, settle},
};

const LATER: Option<BlockError> = Some(BlockError::NotReady);

#[test]
fn a_request_waits_until_the_back_end_is_ready() {
    for (kind, answer) in [(T_IN, 513), (T_OUT, 1)] {
        let mut drive = Drive::new();
        drive.driver.write(BODY, &[0x77; 512]);
        drive.disk().trouble = vec![LATER];
        assert_eq!(drive.start(2, kind, 6, 512), Step::Blocked);
        assert_eq!(drive.driver.take_used(), None);
        assert_eq!(drive.bytes(STATUS, 1), [UNTOUCHED]);
        assert_eq!(
            drive.engine.load(reg::INTERRUPT_STATUS),
            0,
            "no interrupt yet"
        );
        drive.engine.backend_ready(0);
        assert_eq!(settle(&mut drive.engine), Step::Idle);
        assert_eq!(drive.driver.take_used(), Some((2, answer)));
        assert_eq!(drive.bytes(STATUS, 1), [S_OK]);
        assert_eq!(drive.engine.load(reg::INTERRUPT_STATUS), 1);
        // The device repeats the call to the back end.
        let calls = drive.calls();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0], calls[1]);
        let expected = if kind == T_IN { [6; 512] } else { [0x77; 512] };
        assert_eq!(drive.bytes(BODY, 512), expected);
        assert_eq!(drive.sector(6), expected);
    }
}

#[test]
fn a_request_that_waits_half_way_begins_again() {
    let mut drive = Drive::new();
    drive.write_header(T_IN, 2);
    drive.disk().trouble = vec![None, LATER];
    let buffers = [
        Buffer::readable(HEADER, 16),
        Buffer::writable(BODY, 512),
        Buffer::writable(BODY + 0x800, 512),
        Buffer::writable(STATUS, 1),
    ];
    assert_eq!(drive.send(&buffers), None);
    let (first, second) = (Call::Read(1024, 512), Call::Read(1536, 512));
    assert_eq!(drive.calls(), [first, second]);
    drive.engine.backend_ready(0);
    settle(&mut drive.engine);
    assert_eq!(drive.calls(), [first, second]);
    assert_eq!(drive.driver.take_used(), Some((0, 1025)));
    assert_eq!(drive.bytes(BODY, 512), [2; 512]);
    assert_eq!(drive.bytes(BODY + 0x800, 512), [3; 512]);
}

#[test]
fn a_flush_that_is_not_ready_keeps_its_write_waiting() {
    let wanted = virtside::Features::VERSION_1;
    let mut drive = Drive::with(Disk::new(), BlockOptions::new(SIZE), wanted);
    drive.driver.write(BODY, &[0x33; 512]);
    drive.disk().trouble = vec![None, LATER];
    assert_eq!(drive.start(0, T_OUT, 1, 512), Step::Blocked);
    assert_eq!(drive.calls(), [Call::Write(512, 512), Call::Flush]);
    assert_eq!(
        drive.driver.take_used(),
        None,
        "written, but not durable yet"
    );
    drive.engine.backend_ready(0);
    settle(&mut drive.engine);
    assert_eq!(drive.calls(), [Call::Write(512, 512), Call::Flush]);
    assert_eq!(drive.driver.take_used(), Some((0, 1)));
}

#[test]
fn a_request_that_waited_may_fail() {
    let mut drive = Drive::new();
    drive.disk().trouble = vec![LATER, Some(BlockError::Io)];
    assert_eq!(drive.start(0, T_OUT, 1, 512), Step::Blocked);
    drive.engine.backend_ready(0);
    assert_eq!(settle(&mut drive.engine), Step::Idle);
    assert_eq!(drive.driver.take_used(), Some((0, 1)));
    assert_eq!(drive.bytes(STATUS, 1), [S_IOERR]);
    assert_eq!(drive.host_fault(), Some(HostFault::Backend));
    assert!(drive.is_pristine());
}

#[test]
fn the_disk_may_have_shrunk_while_a_request_waited() {
    let mut drive = Drive::new();
    drive.disk().trouble = vec![LATER];
    assert_eq!(drive.start(0, T_IN, 6, 512), Step::Blocked);
    drive
        .engine
        .update_config(|block| block.backend_mut().capacity = 6);
    drive.calls();
    drive.engine.backend_ready(0);
    settle(&mut drive.engine);
    assert_eq!(drive.driver.take_used(), Some((0, 513)));
    assert_eq!(
        (drive.bytes(STATUS, 1), drive.calls()),
        (vec![S_IOERR], vec![])
    );
}

#[test]
fn a_reset_discards_waiting_requests() {
    let mut drive = Drive::new();
    drive.disk().trouble = vec![LATER];
    assert_eq!(drive.start(0, T_OUT, 1, 512), Step::Blocked);
    drive.calls();
    let _ = drive.engine.store(reg::STATUS, 0);
    drive.engine.backend_ready(0);
    settle(&mut drive.engine);
    assert_eq!(drive.calls(), []);
    assert_eq!(
        (drive.driver.used_idx(), drive.bytes(STATUS, 1)),
        (0, vec![UNTOUCHED])
    );
    assert!(drive.engine.bring_up(all(), &[config(0)]));
    drive.driver = driver(drive.ram, 0);
    assert_eq!(drive.ask(T_IN, 1, &[], 512), outcome(S_OK, 513));
}

/// A live device over memory of which a test can deny parts.
fn guarded() -> (
    virtside_tests::TestEngine<Block<Disk>, GuardedMem<virtside::FlatMem>>,
    Drive,
) {
    let ram = ram();
    let mem = GuardedMem::new(ram.flat(BASE));
    let disk = Block::new(Disk::new(), BlockOptions::new(SIZE));
    let mut engine = engine_over(disk, mem, 4);
    assert!(engine.bring_up(all(), &[config(0)]));
    // The second device only provides its helpers. Its driver works on the rings of the first
    // device.
    let mut helper = Drive::new();
    helper.driver = driver(ram, 0);
    helper.ram = ram;
    (engine, helper)
}

/// Sends a request that waits, and then denies access to this memory.
fn waits_while_memory_goes(
    kind: u32,
    room: u32,
    gone: (u64, u32),
) -> (Option<HostFault>, (u32, u32), u8) {
    let (mut engine, mut helper) = guarded();
    engine.model_mut().backend_mut().trouble = vec![LATER];
    helper.write_header(kind, 1);
    let mut buffers = vec![Buffer::readable(HEADER, 16)];
    if room > 0 {
        buffers.push(Buffer::writable(BODY, room));
    }
    buffers.push(Buffer::writable(STATUS, 1));
    helper.driver.send(0, &buffers);
    let _ = engine.kick(0);
    assert_eq!(settle(&mut engine), Step::Blocked);
    engine.memory_mut().deny(gone.0, gone.1);
    assert!(engine.memory_changed().is_done());
    engine.backend_ready(0);
    assert_eq!(settle(&mut engine), Step::Idle);
    assert_eq!(engine.driver_fault(0), None);
    let fault = engine.take_host_fault();
    let used = helper
        .driver
        .take_used()
        .expect("the request is answered nevertheless");
    (fault, used, helper.bytes(STATUS, 1)[0])
}

#[test]
fn a_request_whose_header_becomes_unmapped_fails() {
    for gone in [HEADER, HEADER + 15] {
        let (fault, used, status) = waits_while_memory_goes(T_IN, 512, (gone, 1));
        assert!(
            matches!(fault, Some(HostFault::MemoryGone { .. })),
            "{fault:?}"
        );
        assert_eq!((used, status), ((0, 513), S_IOERR));
    }
}

#[test]
fn a_request_whose_data_becomes_unmapped_fails() {
    let (fault, used, status) = waits_while_memory_goes(T_IN, 512, (BODY, 16));
    assert_eq!(fault, Some(HostFault::MemoryGone { addr: BODY }));
    assert_eq!((used, status), ((0, 0), S_IOERR));
}

#[test]
fn a_request_counts_the_half_of_its_data_that_is_mapped() {
    let gone = BODY + 512;
    let (fault, used, status) = waits_while_memory_goes(T_IN, 1024, (gone, 16));
    assert_eq!(fault, Some(HostFault::MemoryGone { addr: gone }));
    assert_eq!((used, status), ((0, 512), S_IOERR));
}

#[test]
fn a_status_that_cannot_be_written_is_not_counted() {
    let (fault, used, status) = waits_while_memory_goes(T_FLUSH, 0, (STATUS, 1));
    assert_eq!(fault, Some(HostFault::MemoryGone { addr: STATUS }));
    assert_eq!(status, UNTOUCHED);
    assert_eq!(
        used,
        (0, 0),
        "nothing was written, so nothing may be reported"
    );
}
