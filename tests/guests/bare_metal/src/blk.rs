//! Checks of the block device and its edge-triggered interrupt.

use virtio_drivers::{
    device::blk::{BlkReq, BlkResp, RespStatus, VirtIOBlk},
    transport::mmio::MmioTransport,
};

use crate::{
    Console, find,
    interrupts::DISK as LINE,
    machine::{DISK, load, store, ticks},
    memory::Memory,
};

pub type Disk = VirtIOBlk<Memory, MmioTransport<'static>>;

/// Requests of each run: half of them writes, half of them reads.
const REQUESTS: u32 = 10_000;
const RESETS: u32 = 50;
/// Length of a request's data in bytes, and of a sector.
const LEN: usize = 4096;
const SECTOR: usize = 512;

/// Registers.
const QUEUE_SEL: usize = DISK + 0x30;
const QUEUE_READY: usize = DISK + 0x44;
const STATUS: usize = DISK + 0x70;

pub fn new() -> Disk {
    VirtIOBlk::new(find(DISK)).expect("there is a disk")
}

/// Returns the bytes that turn `turn` writes.
fn pattern(turn: u32) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let mut word = turn.wrapping_mul(0x9e37_79b9) | 1;
    for part in bytes.chunks_exact_mut(4) {
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        part.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn sector_of(turn: u32, disk: &Disk) -> usize {
    let places = disk.capacity() as usize / (LEN / SECTOR);
    turn as usize * 7 % places * (LEN / SECTOR)
}

/// Writes and reads with one of these functions, and compares.
fn write_and_read(
    disk: &mut Disk,
    requests: u32,
    write: fn(&mut Disk, usize, &mut [u8]),
    read: fn(&mut Disk, usize, &mut [u8]),
) {
    for turn in 0..requests / 2 {
        let (sector, mut written, mut back) = (sector_of(turn, disk), pattern(turn), [0; LEN]);
        write(disk, sector, &mut written);
        read(disk, sector, &mut back);
        assert!(back == pattern(turn), "other bytes in turn {turn}");
    }
}

/// Waits for the interrupt of a request.
fn wait(disk: &mut Disk, token: u16, count: u32) {
    LINE.wait(count, || disk.peek_used() == Some(token));
    disk.ack_interrupt();
}

fn write_by_interrupt(disk: &mut Disk, sector: usize, bytes: &mut [u8]) {
    let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
    let count = LINE.count();
    // SAFETY: the buffers live, and are not used, until the request is complete.
    unsafe {
        let token = disk.write_blocks_nb(sector, &mut request, bytes, &mut response);
        let token = token.expect("the queue has room");
        wait(disk, token, count);
        let done = disk.complete_write_blocks(token, &request, bytes, &mut response);
        done.expect("the disk fails");
    }
    assert_eq!(response.status(), RespStatus::OK);
}

fn read_by_interrupt(disk: &mut Disk, sector: usize, bytes: &mut [u8]) {
    let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
    let count = LINE.count();
    // SAFETY: the buffers live, and are not used, until the request is complete.
    unsafe {
        let token = disk.read_blocks_nb(sector, &mut request, bytes, &mut response);
        let token = token.expect("the queue has room");
        wait(disk, token, count);
        let done = disk.complete_read_blocks(token, &request, bytes, &mut response);
        done.expect("the disk fails");
    }
}

pub fn read(disk: &mut Disk, sector: usize, bytes: &mut [u8]) {
    disk.read_blocks(sector, bytes).expect("the disk fails");
}

fn write(disk: &mut Disk, sector: usize, bytes: &mut [u8]) {
    disk.write_blocks(sector, bytes).expect("the disk fails");
}

pub fn check(console: &mut Console, ticks_per_ms: u64) {
    let mut disk = new();
    let mut timed = |how: &str, disk: &mut Disk, write, read| {
        let (start, count) = (ticks(), LINE.count());
        write_and_read(disk, REQUESTS, write, read);
        let us = (ticks() - start) * 1000 / ticks_per_ms / u64::from(REQUESTS);
        let count = LINE.count() - count;
        console.say(format_args!(
            "blk: {REQUESTS} requests of {LEN} bytes {how}, {count} interrupts, {us} us each"
        ));
        count
    };
    disk.disable_interrupts();
    timed("polled", &mut disk, write, read);
    disk.enable_interrupts();
    disk.ack_interrupt();
    LINE.settle(ticks_per_ms * 20);
    let count = timed(
        "by interrupt",
        &mut disk,
        write_by_interrupt,
        read_by_interrupt,
    );
    // The last polled request may have had a late interrupt.
    assert!(
        (REQUESTS..=REQUESTS + 1).contains(&count),
        "{count} interrupts"
    );

    store(QUEUE_SEL, 0);
    assert_eq!(load(QUEUE_READY), 1);
    store(QUEUE_READY, 0);
    assert_eq!(load(QUEUE_READY), 0);
    console.say(format_args!("blk: QueueReady reads 1, and 0 after a stop"));

    for turn in 0..RESETS {
        drop(disk);
        assert_eq!(load(STATUS), 0);
        store(QUEUE_SEL, 0);
        assert_eq!(load(QUEUE_READY), 0);
        disk = new();
        write_and_read(&mut disk, 10, write, read);
        disk = reset_with_a_request(disk, turn);
    }
    console.say(format_args!(
        "blk: {} resets, half of them with a request in hand",
        2 * RESETS
    ));
}

/// Resets the device right after a kick. Once Status reads 0, the device does not touch the buffer.
fn reset_with_a_request(mut disk: Disk, turn: u32) -> Disk {
    let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
    let mut bytes = [0; LEN];
    // SAFETY: the device has the buffers no longer after the reset.
    let token = unsafe { disk.read_blocks_nb(0, &mut request, &mut bytes, &mut response) };
    token.expect("the queue has room");
    drop(disk);
    assert_eq!(load(STATUS), 0);
    bytes = pattern(turn);
    let mut disk = new();
    write_and_read(&mut disk, 2, write, read);
    let bytes = core::hint::black_box(bytes);
    assert!(bytes == pattern(turn), "a write after the reset");
    disk
}
