//! Two devices of different models on one bus. One loop serves both devices. Unmodified drivers of
//! `virtio-drivers` find each device at its own address.
//!
//! `cargo run -p virtside-std --features guest --example bus`

use std::{error::Error, sync::Arc, thread};

use virtio_drivers::device::{blk::VirtIOBlk, rng::VirtIORng};
use virtside::{
    ChainSlot, DeviceModel, Engine, Shared,
    models::{Block, BlockOptions, Entropy, blk::RamDisk},
};
use virtside_std::{
    Bus, CondvarNotify, OsEntropy, Served, VmMem,
    channel::channel,
    guest::{ChannelTransport, GuestHal},
    serve,
};

/// Addresses of the registers of each device, and their length in bytes.
const DISK: u32 = 0x1000_0000;
const ENTROPY: u32 = 0x1000_0200;
const LEN: u32 = 0x200;

/// Creates a device with one queue of up to 16 elements and one chain slot.
fn device(model: impl DeviceModel + Send + 'static) -> Result<Box<dyn Served + Send>, Failed> {
    let memory = VmMem::new(GuestHal::memory()?);
    let (line, slots) = (CondvarNotify::new(), [ChainSlot::new()]);
    let engine: Engine<_, _, _, 1, 16, _, _> =
        Engine::new(model, memory, line, slots, Arc::new(Shared::<1>::new()));
    Ok(Box::new(engine))
}

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let mut bus = Bus::new();
    let disk = RamDisk::new(vec![0; 64 << 10]);
    bus.attach(
        DISK..DISK + LEN,
        device(Block::new(disk, BlockOptions::new(16)))?,
    )?;
    bus.attach(ENTROPY..ENTROPY + LEN, device(Entropy::new(OsEntropy))?)?;
    let taken = bus.attach(DISK + 0x100..DISK + 0x300, device(Entropy::new(OsEntropy))?);
    println!(
        "a third device is refused: {}",
        taken.expect_err("these addresses are in use")
    );

    let (port, mut source) = channel();
    let devices = thread::spawn(move || serve(&mut bus, &mut source, &mut ()));

    // The driver's side writes random bytes from the entropy device to the disk, and reads them
    // back.
    let disk = ChannelTransport::new(port.window(DISK))?;
    let mut disk = VirtIOBlk::<GuestHal, _>::new(disk)?;
    let entropy = ChannelTransport::new(port.window(ENTROPY))?;
    let mut entropy = VirtIORng::<GuestHal, _>::new(entropy)?;
    assert_eq!(disk.capacity(), 128);

    let mut random = [0; 512];
    assert_eq!(entropy.request_entropy(&mut random)?, 512);
    assert!(random.iter().any(|byte| *byte != 0));
    disk.write_blocks(127, &random)?;
    let mut read = [0; 512];
    disk.read_blocks(127, &mut read)?;
    assert_eq!(read, random);
    println!("512 random bytes went to the disk and came back");

    // The loop ends when the last driver and the last port are dropped.
    drop((disk, entropy, port));
    devices.join().expect("the loop does not panic")?;
    Ok(())
}
