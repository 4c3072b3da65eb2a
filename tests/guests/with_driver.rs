//! Rows with a driver in this process: the crate `virtio-driver`.

use std::{
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use virtio_driver::{
    Completion, VhostUser, VirtioBlkConfig, VirtioBlkQueue, VirtioBlkReqBuf, VirtioTransport,
};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    tempfile::TempFile,
};

use crate::{
    image,
    outcome::{Outcome, check, failure},
    rows::{Bench, Ring, Verified},
    service::Service,
};

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Requests in flight at once.
const DEPTH: usize = 32;
/// Blocks that are written and read back.
const BLOCKS: usize = 8192;
/// How often the blocks are written, each time with other bytes.
const ROUNDS: u64 = 3;

/// The feature bit of packed rings.
const PACKED: u64 = 1 << 34;

type Transport = VhostUser<VirtioBlkConfig, VirtioBlkReqBuf>;

/// The driver's queue and its buffers.
struct Driver {
    queue: VirtioBlkQueue<'static, usize>,
    transport: Transport,
    buffers: MmapRegion,
    completed: Epoll,
}

impl Driver {
    fn connect(service: &Service, ring: Ring) -> Outcome<Self> {
        let mut accepted = u64::MAX;
        if ring == Ring::Split {
            accepted &= !PACKED;
        }
        let path = service.socket().display().to_string();
        let mut transport = Transport::new(&path, accepted)?;
        let packed = transport.get_features() & PACKED != 0;
        check(packed == ring.is_packed(), || {
            format!("the ring is packed: {packed}")
        })?;
        let file = TempFile::new()?.into_file();
        file.set_len((DEPTH * BLOCK) as u64)?;
        let file = Arc::new(file);
        let offset = FileOffset::from_arc(Arc::clone(&file), 0);
        let buffers = MmapRegion::from_file(offset, DEPTH * BLOCK)?;
        let start = buffers.as_ptr() as usize;
        transport.map_mem_region(start, buffers.size(), file.as_raw_fd(), 0)?;
        let queue = VirtioBlkQueue::setup_queues(&mut transport, 1, 128)?.remove(0);
        let completed = Epoll::new()?;
        completed.ctl(
            ControlOperation::Add,
            transport.get_completion_fd(0).as_raw_fd(),
            EpollEvent::new(EventSet::IN, 0),
        )?;
        Ok(Self {
            queue,
            transport,
            buffers,
            completed,
        })
    }

    /// Runs `request` for each block in turn, `DEPTH` at once, and `done` after each.
    fn run(
        &mut self,
        mut request: impl FnMut(&mut VirtioBlkQueue<'static, usize>, *mut u8, usize) -> Outcome<()>,
        mut done: impl FnMut(&[u8], usize) -> Outcome<()>,
    ) -> Outcome<()> {
        let kick = self.transport.get_submission_notifier(0);
        let mut free: Vec<usize> = (0..DEPTH).collect();
        let mut blocks = [0; DEPTH];
        let (mut next, mut finished) = (0, 0);
        let mut armed = false;
        while finished < BLOCKS {
            while next < BLOCKS
                && let Some(area) = free.pop()
            {
                blocks[area] = next;
                let buffer = self.buffers.as_ptr().wrapping_add(area * BLOCK);
                request(&mut self.queue, buffer, area | next << 8)?;
                next += 1;
            }
            // This driver does not order its publication before its read of the suppression flag.
            fence(Ordering::SeqCst);
            if self.queue.avail_notif_needed() {
                kick.notify()?;
            }
            let completions: Vec<Completion<usize>> = self.queue.completions().collect();
            for completion in &completions {
                check(completion.ret == 0, || {
                    format!("a request failed: {}", completion.ret)
                })?;
                let area = completion.context & 0xff;
                check(completion.context >> 8 == blocks[area], || {
                    "a request was completed twice".into()
                })?;
                let mut bytes = [0; BLOCK];
                let place = self.buffers.get_slice(area * BLOCK, BLOCK)?;
                place.copy_to(&mut bytes);
                done(&bytes, blocks[area])?;
                free.push(area);
                finished += 1;
            }
            // The driver asks for an interrupt, and looks once more before it sleeps. It does not
            // order the one before the other.
            if !completions.is_empty() {
                armed = false;
            } else if armed {
                self.sleep()?;
                armed = false;
            } else {
                self.queue.set_used_notif_enabled(true);
                fence(Ordering::SeqCst);
                armed = true;
            }
        }
        Ok(())
    }

    /// Waits for an interrupt.
    fn sleep(&mut self) -> Outcome<()> {
        /// Milliseconds after which the interrupt will not come.
        const WAIT: i32 = 20_000;
        let mut events = [EpollEvent::default(); 1];
        let count = self.completed.wait(WAIT, &mut events)?;
        check(count != 0, || "an interrupt was lost".into())?;
        self.transport.get_completion_fd(0).read()?;
        Ok(())
    }
}

/// Returns the bytes of a block in a round.
fn content(block: usize, round: u64) -> [u8; BLOCK] {
    let seed = (block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round << 56;
    std::array::from_fn(|at| (seed.rotate_left(at as u32 / 8) >> (at % 8 * 8)) as u8)
}

/// Writes blocks with other bytes each time, and reads them back.
pub fn blk(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let image = image::make(&bench.folder)?;
    let disk = image.display().to_string();
    let arguments = ["blk", "--disk", &disk];
    let service = Service::start(&bench.tools.virtside, &bench.folder, &arguments)?;
    let mut driver = Driver::connect(&service, ring)?;
    for round in 0..ROUNDS {
        driver.run(
            |queue, buffer, context| {
                let block = context >> 8;
                let bytes = content(block, round);
                // SAFETY: the buffer has a block, and nothing else uses it while it is free.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, BLOCK) };
                let offset = (block * BLOCK) as u64;
                // SAFETY: the buffer stays mapped and unused until the request completes.
                unsafe { queue.write_raw(offset, buffer, BLOCK, context)? };
                Ok(())
            },
            |_, _| Ok(()),
        )?;
        driver.run(
            |queue, buffer, context| {
                let offset = ((context >> 8) * BLOCK) as u64;
                // SAFETY: as above.
                unsafe { queue.read_raw(offset, buffer, BLOCK, context)? };
                Ok(())
            },
            |bytes, block| {
                check(bytes == content(block, round), || {
                    format!("block {block} has other bytes")
                })
            },
        )?;
    }
    drop(driver);
    service.stop()?;
    let bytes = std::fs::read(&image)?;
    let blocks = bytes.chunks_exact(BLOCK).take(BLOCKS).enumerate();
    for (block, bytes) in blocks {
        let same = bytes == content(block, ROUNDS - 1);
        same.then_some(())
            .ok_or_else(|| failure(format!("block {block} of the image has other bytes")))?;
    }
    Verified::by(format!(
        "{} requests, each block compared, and the image",
        2 * ROUNDS * BLOCKS as u64
    ))
}
