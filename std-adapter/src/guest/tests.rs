use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use virtio_drivers::{
    BufferDirection, Error, Hal,
    device::rng::VirtIORng,
    transport::{DeviceStatus, Transport},
};
use virtside::{ChainSlot, Engine, Shared, mmio::Access, models::Entropy};

use super::*;
use crate::{AccessSource, OnAccess, OsEntropy, VmMem, access::Next, channel::channel, serve};

/// The register accesses that `MmioTransport` makes for this driver: `offset` is a load,
/// `offset=value` is a store.
const EXPECTED: &str = "
    0 8 4
    70=0 70=3
    14=0 10 14=1 10
    24=0 20=30000000 24=1 20=1
    70=b
    30=0 44
    30=0 34
    30=0 38=8 80=* 84=1 90=* 94=1 a0=* a4=1 44=1
    70=f
    50=0
    60 64=1
    30=0 44=0 44 38=0 80=0 84=0 90=0 94=0 a0=0 a4=0
    70=0
";

fn words(access: Access) -> String {
    match access {
        Access::Read { offset, width: 4 } => format!("{offset:x}"),
        Access::Write {
            offset: offset @ (0x80 | 0x90 | 0xa0),
            width: 4,
            value: 1..,
        } => format!("{offset:x}=*"),
        Access::Write {
            offset,
            width: 4,
            value,
        } => format!("{offset:x}={value:x}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_transport_makes_the_register_accesses_of_mmio_transport() {
    let (port, mut source) = channel();
    let memory = VmMem::new(GuestHal::memory().unwrap());
    let shared = Arc::new(Shared::<1>::new());
    let raised = Arc::clone(&shared);
    let device = thread::spawn(move || {
        let model = Entropy::new(OsEntropy);
        let slots = [ChainSlot::<16>::new()];
        let mut engine: Engine<_, _, _, 1, 16, _, _> =
            Engine::new(model, memory, (), slots, shared);
        let mut seen = Vec::new();
        let mut observer = OnAccess(|access: Access, _| seen.push(words(access)));
        serve(&mut engine, &mut source, &mut observer).unwrap();
        (seen, engine.counters().chains)
    });

    // The address of the first page has a low half of 0. Use that page up, so that no ring gets it.
    GuestHal::dma_alloc(1, BufferDirection::Both);
    let transport = ChannelTransport::new(port).unwrap();
    let mut driver = VirtIORng::<GuestHal, _>::new(transport).unwrap();
    let mut bytes = [0; 4096];
    assert_eq!(driver.request_entropy(&mut bytes), Ok(4096));
    assert!(bytes.iter().any(|byte| *byte != 0));
    // The device updates the used ring before it sends the interrupt.
    while raised.interrupt_status().is_empty() {
        thread::yield_now();
    }
    assert!(!driver.ack_interrupt().is_empty());
    drop(driver);
    let (seen, chains) = device.join().unwrap();
    assert_eq!(chains, 1);
    assert!(
        seen.iter()
            .map(String::as_str)
            .eq(EXPECTED.split_whitespace()),
        "{seen:#?}"
    );
}

/// Starts a device that vanishes at the first access for which `last` is true, without an answer.
fn vanishing(last: impl Fn(Access) -> bool + Send + 'static) -> DriverPort {
    let (port, mut source) = channel();
    thread::spawn(move || {
        let memory = VmMem::new(GuestHal::memory().unwrap());
        let slots = [ChainSlot::<16>::new()];
        let mut engine: Engine<_, _, _, 1, 16, _, _> = Engine::new(
            Entropy::new(OsEntropy),
            memory,
            (),
            slots,
            Arc::new(Shared::<1>::new()),
        );
        while let Next::Access(access) = source.next(None).unwrap() {
            if last(access.access()) {
                return;
            }
            let reply = engine.access(access.access());
            access.complete(reply.bus_value().unwrap_or(0)).unwrap();
        }
    });
    port
}

/// Returns the result of `work`; panics if `work` takes more than ten seconds.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waiting) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    let result = waiting.recv_timeout(Duration::from_secs(10));
    result.expect("the driver spins")
}

#[test]
fn a_request_fails_when_its_device_vanishes() {
    for with_the_kick in [true, false] {
        let kicked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&kicked);
        let port = vanishing(move |access| match access {
            Access::Write { offset: 0x50, .. } => {
                seen.store(true, Ordering::Release);
                with_the_kick
            }
            // The access that the thread `later` makes after the kick.
            Access::Read {
                offset: 4,
                width: 1,
            } => true,
            _ => false,
        });
        let transport = ChannelTransport::new(port.clone()).unwrap();
        let waiting = port.clone();
        let later = thread::spawn(move || {
            while !kicked.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            // By now the driver spins on its used ring, or is about to.
            thread::sleep(Duration::from_millis(20));
            waiting.read(4, 1)
        });
        let results = in_time(move || {
            let mut driver = VirtIORng::<GuestHal, _>::new(transport).unwrap();
            let first = driver.request_entropy(&mut [0; 64]);
            (first, driver.request_entropy(&mut [0; 64]))
        });
        assert_eq!(results, (Err(Error::WrongToken), Err(Error::WrongToken)));
        assert_eq!(later.join().unwrap(), Err(Closed));
        assert!(port.is_closed());
    }
}

#[test]
fn a_driver_of_a_vanished_device_is_not_made() {
    for last in [0x70, 0x20, 0x34, 0x38, 0xa4, 0x44] {
        let port = vanishing(move |access| match access {
            Access::Read { offset, .. } | Access::Write { offset, .. } => offset == last,
        });
        let transport = ChannelTransport::new(port).unwrap();
        let result = in_time(move || {
            let mut driver = VirtIORng::<GuestHal, _>::new(transport)?;
            driver.request_entropy(&mut [0; 64])
        });
        assert!(result.is_err(), "{last:#x}");
    }
}

#[test]
fn a_vanished_device_reads_as_one_that_needs_a_reset() {
    let port = vanishing(|access| access == Access::write(0x70, 1));
    let mut transport = ChannelTransport::new(port).unwrap();
    assert!(!transport.is_gone());
    assert_eq!(transport.get_status(), DeviceStatus::empty());
    transport.set_status(DeviceStatus::ACKNOWLEDGE);
    assert!(transport.is_gone());
    assert_eq!(transport.get_status(), DeviceStatus::DEVICE_NEEDS_RESET);
    assert_eq!(transport.max_queue_size(0), 0);
    assert_eq!(transport.read_device_features(), 0);
    assert!(!transport.queue_used(0));
    assert!(transport.ack_interrupt().is_empty());
    assert_eq!(transport.read_config_space::<u32>(0), Err(Error::IoError));
    assert_eq!(transport.write_config_space(0, 0_u32), Err(Error::IoError));
    in_time(move || transport.queue_unset(0));
}
