use std::{sync::Arc, thread};

use virtio_drivers::{BufferDirection, Hal, device::rng::VirtIORng};
use virtside::{ChainSlot, Engine, Shared, mmio::Access, models::Entropy};

use super::*;
use crate::{OnAccess, OsEntropy, VmMem, channel::channel, serve};

/// What `MmioTransport` does for this driver: `offset` is a load, `offset=value` a store.
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
        let mut engine: Engine<_, _, _, _, _, 1, 16> =
            Engine::new(model, memory, (), slots, shared);
        let mut seen = Vec::new();
        let mut look = OnAccess(|access: Access, _| seen.push(words(access)));
        serve(&mut engine, &mut source, &mut look).unwrap();
        (seen, engine.counters().chains)
    });

    // The first page of the region has a low half of 0: not for a ring.
    GuestHal::dma_alloc(1, BufferDirection::Both);
    let transport = ChannelTransport::new(port).unwrap();
    let mut driver = VirtIORng::<GuestHal, _>::new(transport).unwrap();
    let mut bytes = [0; 4096];
    assert_eq!(driver.request_entropy(&mut bytes), Ok(4096));
    assert!(bytes.iter().any(|byte| *byte != 0));
    // The used ring moves before the interrupt.
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
