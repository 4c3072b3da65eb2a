//! `virtio-driver` does I/O on a disk image.

use std::{
    io::Read,
    os::{fd::AsRawFd, unix::net::UnixListener},
};

use virtio_driver::{
    VhostUser, VirtioBlkConfig, VirtioBlkQueue, VirtioBlkReqBuf, VirtioTransport, iovec,
};
use virtside::models::{Block, BlockBackend, BlockOptions};
use virtside_std::{FileDisk, UringDisk};
use vmm_sys_util::tempdir::TempDir;

use super::*;

const SECTORS: usize = 256;
const PIECE: usize = 2048;

/// How a device accesses its image.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// With a system call that waits.
    Waiting,
    /// With a ring, after a look into the page cache.
    Cached,
    /// With a ring of this many operations.
    Ring(u16),
}

/// Serves `connections` front ends one after the other.
fn disk(
    listener: UnixListener,
    image: &std::path::Path,
    access: Access,
    connections: usize,
) -> JoinHandle<()> {
    let file = FileDisk::open(image).expect("the image");
    let ring = |file, operations| UringDisk::new(file, operations).expect("io_uring");
    match access {
        Access::Waiting => serve_disk(listener, file, None, connections),
        Access::Cached => {
            let disk = ring(file, 16);
            let wake = disk.wake().expect("a wake");
            serve_disk(listener, disk, Some(wake), connections)
        }
        Access::Ring(operations) => {
            let disk = ring(file, operations).without_cache();
            let wake = disk.wake().expect("a wake");
            serve_disk(listener, disk, Some(wake), connections)
        }
    }
}

fn serve_disk(
    listener: UnixListener,
    disk: impl BlockBackend + Send + 'static,
    wake: Option<EventFd>,
    connections: usize,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let model = Block::new(disk, BlockOptions::new(64));
        let mut device: VhostUserDevice<_, 1, 64> = VhostUserDevice::new(model, 16);
        if let Some(wake) = wake {
            device = device.with_wake(wake);
        }
        for _ in 0..connections {
            let (front_end, _) = listener.accept().expect("a connection");
            device.serve(front_end).expect("a good front end");
        }
    })
}

/// Writes `pieces` to the whole disk, flushes, and reads it back, several requests at a time.
fn write_and_read_back(path: &std::path::Path, features: Features, salt: u8) {
    let features = u64::try_from(features.bits()).expect("features of vhost-user");
    let path = path.to_str().expect("a path in UTF-8");
    let mut transport: VhostUser<VirtioBlkConfig, VirtioBlkReqBuf> =
        VhostUser::new(path, features).expect("a connection");
    let file = TempFile::new().expect("a temporary file").into_file();
    file.set_len(LEN as u64).expect("the file is extended");
    let raw = file.as_raw_fd();
    let buffers = MmapRegion::<()>::from_file(FileOffset::new(file, 0), LEN).expect("a mapping");
    let start = buffers.as_ptr();
    transport
        .map_mem_region(start as usize, LEN, raw, 0)
        .expect("buffers are shared");
    let config = transport.get_config().expect("a configuration");
    assert_eq!({ config.capacity }, SECTORS as u64);
    let mut queues = VirtioBlkQueue::<usize>::setup_queues(&mut transport, 1, 64).expect("a queue");
    let queue = &mut queues[0];
    queue.set_used_notif_enabled(true);
    let call = transport.get_completion_fd(0);
    let notifier = transport.get_submission_notifier(0);
    let count = SECTORS * 512 / PIECE;
    let text = |piece: usize| -> Vec<u8> {
        (0..PIECE)
            .map(|at| (piece * 7 + at / 3) as u8 ^ salt)
            .collect()
    };
    let place = |piece: usize| iovec {
        iov_base: start.wrapping_add(piece % 8 * PIECE).cast(),
        iov_len: PIECE,
    };
    let mapped = |piece: usize| {
        vm_memory::VolatileMemory::get_slice(&buffers, piece % 8 * PIECE, PIECE).expect("a piece")
    };
    for write in [true, false] {
        for first in (0..count).step_by(8) {
            for piece in first..first + 8 {
                let pieces = [place(piece)];
                let offset = (piece * PIECE) as u64;
                if write {
                    mapped(piece).copy_from(&text(piece));
                    // SAFETY: nothing else uses this part of the buffers before the completion.
                    unsafe { queue.writev(offset, pieces.as_ptr(), 1, piece) }.expect("room");
                } else {
                    mapped(piece).copy_from(&[0_u8; PIECE]);
                    // SAFETY: as above.
                    unsafe { queue.readv(offset, pieces.as_ptr(), 1, piece) }.expect("room");
                }
            }
            finish(queue, &*notifier, &call, 8);
            for piece in (first..first + 8).filter(|_| !write) {
                let mut bytes = vec![0; PIECE];
                mapped(piece).copy_to(&mut bytes);
                assert!(bytes == text(piece), "piece {piece}");
            }
        }
        queue.flush(0).expect("room");
        finish(queue, &*notifier, &call, 1);
    }
}

/// Kicks, and waits for this many completions by interrupt.
fn finish(
    queue: &mut VirtioBlkQueue<'_, usize>,
    notifier: &dyn virtio_driver::QueueNotifier,
    call: &virtio_driver::EventFd,
    mut left: usize,
) {
    if queue.avail_notif_needed() {
        notifier.notify().expect("a kick");
    }
    loop {
        for done in queue.completions() {
            assert_eq!(done.ret, 0, "request {}", done.context);
            left -= 1;
        }
        if left == 0 {
            return;
        }
        call.read().expect("an interrupt");
    }
}

fn image(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.as_path().join("disk.img");
    std::fs::write(&path, vec![0; SECTORS * 512]).expect("an image");
    path
}

fn one_driver(features: Features, access: Access) {
    let folder = TempDir::new().expect("a temporary folder");
    let (image, socket) = (image(&folder), folder.as_path().join("disk.sock"));
    let listener = UnixListener::bind(&socket).expect("a socket");
    let device = disk(listener, &image, access, 1);
    write_and_read_back(&socket, features, 0);
    device.join().expect("no panic in the device");
    let mut bytes = Vec::new();
    std::fs::File::open(&image)
        .expect("the image")
        .read_to_end(&mut bytes)
        .expect("its bytes");
    assert_eq!(bytes.len(), SECTORS * 512);
    assert!(
        bytes
            .chunks(PIECE)
            .all(|piece| piece.iter().any(|&byte| byte != 0))
    );
}

#[test]
fn a_foreign_driver_of_split_rings_writes_and_reads_back() {
    let more = Features::EVENT_IDX | Features::INDIRECT_DESC;
    one_driver(Features::VERSION_1, Access::Waiting);
    one_driver(Features::VERSION_1 | more, Access::Waiting);
}

#[cfg(feature = "packed")]
#[test]
fn a_foreign_driver_of_packed_rings_writes_and_reads_back() {
    one_driver(Features::VERSION_1 | Features::RING_PACKED, Access::Waiting);
}

/// Returns whether the machine lets the test use `io_uring`, and says so if not.
fn has_ring() -> bool {
    let folder = TempDir::new().expect("a temporary folder");
    let file = FileDisk::open(image(&folder)).expect("the image");
    let ring = UringDisk::new(file, 1);
    if let Err(error) = &ring {
        eprintln!("SKIPPED: no io_uring on this machine: {error}");
    }
    ring.is_ok()
}

#[test]
fn a_disk_with_a_ring_completes_later() {
    if !has_ring() {
        return;
    }
    for access in [
        Access::Cached,
        Access::Ring(16),
        Access::Ring(2),
        Access::Ring(1),
    ] {
        one_driver(Features::VERSION_1, access);
        one_driver(Features::VERSION_1 | Features::EVENT_IDX, access);
    }
}

#[cfg(feature = "packed")]
#[test]
fn a_disk_with_a_ring_serves_packed_rings() {
    if !has_ring() {
        return;
    }
    for access in [Access::Cached, Access::Ring(3)] {
        one_driver(Features::VERSION_1 | Features::RING_PACKED, access);
    }
}

/// With FLUSH, a write is not followed by a flush.
#[test]
fn a_write_back_disk_with_a_ring_completes_later() {
    if !has_ring() {
        return;
    }
    let flush = Features::from_bits(1 << 9);
    for access in [Access::Cached, Access::Ring(4)] {
        one_driver(Features::VERSION_1 | flush, access);
    }
}

#[test]
fn one_front_end_after_the_other_is_served() {
    let folder = TempDir::new().expect("a temporary folder");
    let (image, socket) = (image(&folder), folder.as_path().join("disk.sock"));
    let listener = UnixListener::bind(&socket).expect("a socket");
    let device = disk(listener, &image, Access::Waiting, 4);
    for salt in 0..4 {
        write_and_read_back(&socket, Features::VERSION_1, salt);
    }
    device.join().expect("no panic in the device");
}
