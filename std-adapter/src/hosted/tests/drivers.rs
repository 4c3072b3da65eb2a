use virtio_drivers::device::blk::VirtIOBlk;
use virtside::models::{Block, BlockOptions, blk::RamDisk};

use super::*;
use crate::{
    VmMem,
    guest::{GuestHal, PortTransport},
};

/// Writes and reads 1 KiB blocks of a disk while another thread reads registers.
fn io_beside_register_accesses(options: HostedOptions) {
    let model = Block::new(RamDisk::new(vec![0; 64 << 10]), BlockOptions::new(16));
    let memory = VmMem::new(GuestHal::memory().unwrap());
    let slots = [const { ChainSlot::new() }; 1];
    let engine: Engine<_, _, _, 1, 16, _, _> =
        Engine::new(model, memory, (), slots, Arc::new(Shared::<1>::new()));
    let device = options.start(engine).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(device.access(Access::read(8)), Ok(2));
                // Refused for its width.
                device.write(0x50, &[0; 2]);
            }
        });
        let transport = PortTransport::new(device.clone()).unwrap();
        let mut disk = VirtIOBlk::<GuestHal, _>::new(transport).unwrap();
        for turn in 0..500_u16 {
            let (block, fill) = (usize::from(turn % 64) * 2, turn.to_le_bytes());
            let written: Vec<u8> = fill.into_iter().cycle().take(1024).collect();
            disk.write_blocks(block, &written).unwrap();
            let mut read = vec![0; 1024];
            disk.read_blocks(block, &mut read).unwrap();
            assert_eq!(read, written);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_ne!(device.refused(), 0);
    assert_eq!(device.stop().unwrap().counters().chains, 1000);
}

#[test]
fn a_foreign_driver_does_io_while_another_vcpu_reads_registers() {
    io_beside_register_accesses(HostedOptions::new());
}

#[test]
fn a_foreign_driver_does_io_with_a_worker_that_spins() {
    io_beside_register_accesses(HostedOptions::new().with_spin(Duration::from_micros(100)));
}
