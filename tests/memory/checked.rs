//! Driver memory whose translation denies an access, as an IOMMU does.

use virtside::{
    DriverFault, Features, FlatMem, HostFault, Refusal, Step,
    error::Area,
    testing::{Buffer, Layout, Registers},
};
use virtside_tests::{
    BASE, DATA, SIZE, engine_over, ram,
    rings::{GuardedMem, Plan, RecordingModel, RecordingRig},
};

const TABLE: u64 = DATA + 0x8000;
const PAGE: u32 = 0x1000;

/// A rig whose memory has an access check, and the check.
fn guarded() -> (RecordingRig<GuardedMem<FlatMem>>, GuardedMem<FlatMem>) {
    let ram = ram();
    let guard = GuardedMem::new(ram.flat(BASE));
    let rig = RecordingRig::over(guard.clone(), ram, Features::INDIRECT_DESC, SIZE);
    (rig, guard)
}

#[test]
fn a_device_works_behind_an_access_check() {
    let (mut rig, guard) = guarded();
    guard.deny(DATA + 0x4000, PAGE);
    rig.driver.write(DATA, b"allowed");
    rig.driver.send(
        0,
        &[
            Buffer::readable(DATA, 7),
            Buffer::writable(DATA + 0x3ff0, 16),
        ],
    );
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.last().sent, b"allowed");
    assert_eq!(rig.driver.take_used(), Some((0, 16)));
}

#[test]
fn a_buffer_that_is_denied_is_the_driver_s_fault() {
    for (addr, len) in [
        (DATA + 0x4000, 1),
        (DATA + 0x4fff, 1),
        (DATA + 0x3fff, 2),
        (DATA + 0x4fff, 2),
        (DATA + 0x3000, 0x3000),
    ] {
        for writable in [false, true] {
            let (mut rig, guard) = guarded();
            guard.deny(DATA + 0x4000, PAGE);
            rig.driver.send(
                0,
                &[Buffer {
                    addr,
                    len,
                    writable,
                }],
            );
            assert_eq!(rig.kick(), Step::Idle);
            let fault = DriverFault::BufferUnmapped {
                addr,
                len,
                writable,
            };
            assert_eq!(rig.fault(), Some(fault));
            assert!(rig.engine.model().seen.is_empty());
        }
    }
}

#[test]
fn a_table_that_is_denied_is_the_driver_s_fault() {
    let (mut rig, guard) = guarded();
    guard.deny(TABLE + 32, 16);
    rig.driver
        .write_indirect(0, TABLE, &[Buffer::writable(DATA, 1); 3]);
    rig.driver.offer(0);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    let fault = DriverFault::BufferUnmapped {
        addr: TABLE,
        len: 48,
        writable: false,
    };
    assert_eq!(rig.fault(), Some(fault));
}

#[test]
fn a_ring_that_is_denied_is_refused() {
    let layout = Layout::packed_at(BASE, SIZE);
    for (area, start, len) in [
        (Area::Descriptor, layout.desc, 256),
        (Area::Driver, layout.driver, 38),
        (Area::Device, layout.device, 134),
    ] {
        let guard = GuardedMem::new(ram().flat(BASE));
        let mut engine = engine_over(RecordingModel::new(Plan::Fill(0)), guard.clone(), 1);
        assert!(engine.negotiate(Features::VERSION_1));
        // Denying its last byte is enough.
        guard.deny(start + u64::from(len) - 1, 1);
        let refusal = Refusal::Unmapped {
            queue: 0,
            area,
            start,
            len,
        };
        assert_eq!(engine.configure(&layout.config(0)).refusal(), Some(refusal));
        guard.allow_all();
        assert_eq!(engine.configure(&layout.config(0)).refusal(), None);
    }
}

#[test]
fn memory_denied_while_a_chain_waits_fails_only_the_request() {
    for writable in [false, true] {
        let (mut rig, guard) = guarded();
        rig.engine.model_mut().plan = Plan::Wait;
        rig.driver.send(
            0,
            &[Buffer {
                addr: DATA,
                len: 64,
                writable,
            }],
        );
        assert_eq!(rig.kick(), Step::Blocked);
        guard.deny(DATA, PAGE);
        rig.engine.model_mut().plan = Plan::Fill(9);
        rig.engine.backend_ready(0);
        assert_eq!(rig.poll(), Step::Idle);
        assert_eq!(rig.fault(), None);
        assert_eq!(rig.driver.take_used(), Some((0, 0)), "nothing is written");
        assert!(rig.last().sent.is_empty(), "nothing is read");
    }
}

#[test]
fn a_chain_says_which_memory_is_gone() {
    use virtside::queue::{Chain, ChainError};
    let (mut rig, guard) = guarded();
    let buffers = [
        Buffer::readable(DATA, 4),
        Buffer::writable(DATA + 0x1000, 4),
    ];
    rig.driver.send(0, &buffers);
    let mut queue = rig.engine.take_queue(0).expect("the queue is live");
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&guard, &mut chain), Ok(true));
    guard.deny(DATA, 0x2000);
    let gone = chain.readable(&guard).view(4).map(|view| view.is_some());
    assert_eq!(gone, Err(ChainError::MemoryGone { addr: DATA }));
    let gone = chain.writable(&guard).view(4).map(|view| view.is_some());
    assert_eq!(
        gone,
        Err(ChainError::MemoryGone {
            addr: DATA + 0x1000
        })
    );
    let fault = HostFault::from(ChainError::MemoryGone { addr: DATA });
    assert_eq!(fault, HostFault::MemoryGone { addr: DATA });
}
