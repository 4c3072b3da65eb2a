//! `virtio-driver` 0.6: split and packed rings.

use std::{
    cell::RefCell,
    os::fd::AsRawFd,
    rc::Rc,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use ::virtio_driver::{VirtioBlkQueue, VirtioTransport, iovec};
use virtside::Features;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::tempfile::TempFile;

use crate::{
    board::Answers,
    requests,
    stepped::{Driver, run},
    subsets,
    traffic::{AREAS, Kind, LONGEST, Request, SECTORS, Traffic},
    vhost_user::{Connected, Transport, connect},
};

/// Features that vary between runs with two threads; each subset is a run.
pub const VARIED: &[Features] = &[Features::EVENT_IDX];

/// The driver with its queue and its buffers.
pub struct BlkQueue {
    queue: VirtioBlkQueue<'static, usize>,
    /// Owns the memory of the rings.
    pub transport: Transport,
    buffers: MmapRegion,
    size: usize,
    /// Descriptors that the request of each area takes.
    taken: [usize; AREAS],
    kick: Box<dyn FnMut()>,
}

/// A driver with a queue of `size` elements, connected to a device that offers these ring features.
pub fn start(ring: Features, answers: Answers, size: u16) -> (BlkQueue, Connected) {
    let file = TempFile::new().expect("a temporary file").into_file();
    file.set_len((AREAS * LONGEST) as u64)
        .expect("the file is extended");
    let file = Arc::new(file);
    let offset = FileOffset::from_arc(Arc::clone(&file), 0);
    let buffers = MmapRegion::from_file(offset, AREAS * LONGEST).expect("the memory is mapped");
    let (transport, queue, connected) = connect(ring, answers, |transport| {
        let (start, len) = (buffers.as_ptr() as usize, buffers.size());
        transport
            .map_mem_region(start, len, file.as_raw_fd(), 0)
            .expect("buffers are shared");
        let config = transport.get_config().expect("a configuration space");
        assert_eq!(u64::from(config.capacity), SECTORS as u64);
        let queues = VirtioBlkQueue::setup_queues(transport, 1, size);
        queues.expect("a queue").remove(0)
    });
    connected.board.assert_accepted(ring);
    let driver = BlkQueue {
        queue,
        transport,
        buffers,
        size: size.into(),
        taken: [0; AREAS],
        kick: Box::new(|| panic!("a kick before on_kick was called")),
    };
    (driver, connected)
}

impl BlkQueue {
    /// Sets what the driver does when its rules ask for a kick.
    pub fn on_kick(&mut self, kick: impl FnMut() + 'static) {
        self.kick = Box::new(kick);
    }
}

impl Driver for BlkQueue {
    fn room(&self) -> usize {
        // Each request needs a header and a status descriptor. The check is necessary: if this
        // driver runs out of room in the middle of a packed chain, it leaves descriptors behind
        // that look available.
        let free = self.size - self.taken.iter().sum::<usize>();
        free.saturating_sub(2)
    }

    fn submit(&mut self, request: Request, traffic: &Traffic) {
        let Request { area, kind, .. } = request;
        let at = area * LONGEST;
        let piece = |part: std::ops::Range<usize>| iovec {
            iov_base: self.buffers.as_ptr().wrapping_add(at + part.start).cast(),
            iov_len: part.len(),
        };
        let offset = request.part.start as u64;
        let pieces: Vec<iovec> = request.pieces().map(piece).collect();
        self.taken[area] = 2 + if kind == Kind::Flush { 0 } else { pieces.len() };
        let len = request.part.len();
        let place = self.buffers.get_slice(at, len).expect("an area");
        match kind {
            Kind::Write => place.copy_from(traffic.data(&request)),
            // Overwrites the data of an earlier request.
            _ => place.copy_from(&[0xa5u8; LONGEST][..len]),
        }
        let (first, count) = (pieces.as_ptr(), pieces.len());
        let submitted = match kind {
            // SAFETY: the pieces are in the area, which only this request uses while it is in
            // flight.
            Kind::Write => unsafe { self.queue.writev(offset, first, count, area) },
            // SAFETY: as above.
            Kind::Read => unsafe { self.queue.readv(offset, first, count, area) },
            Kind::Flush => self.queue.flush(area),
        };
        submitted.expect("there is room");
    }

    fn kick_if_wanted(&mut self) {
        // In split rings without EVENT_IDX, this driver does not order its publication before its
        // read of the suppression flag.
        fence(Ordering::SeqCst);
        if self.queue.avail_notif_needed() {
            (self.kick)();
        }
    }

    fn reap(&mut self, traffic: &mut Traffic) -> usize {
        let mut count = 0;
        for done in self.queue.completions() {
            count += 1;
            let area: usize = done.context;
            assert_eq!(done.ret, 0, "the request succeeded");
            self.taken[area] = 0;
            traffic.finish(area, |bytes| {
                let place = self.buffers.get_slice(area * LONGEST, bytes.len());
                place.expect("an area").copy_to(bytes);
            });
        }
        count
    }

    fn want_interrupts(&mut self, wanted: bool) {
        self.queue.set_used_notif_enabled(wanted);
    }
}

/// Runs all of the traffic at a device that offers these ring features.
fn traffic(ring: Features, answers: Answers, size: u16) {
    let (mut driver, Connected { board, .. }) = start(ring, answers, size);
    let board = Rc::new(RefCell::new(board));
    let wire = Rc::clone(&board);
    driver.on_kick(move || wire.borrow_mut().write(0x50, 0));
    run(&mut driver, &board, Traffic::new(requests(), true));
}

/// Runs each subset of features with queues of `size` elements; with IN_ORDER, each of these
/// answers.
fn round_trips(format: Features, in_order: &[Answers], size: u16) {
    for ring in subsets(format, VARIED) {
        traffic(ring, Answers::InAnyOrder, size);
        for &answers in in_order {
            traffic(ring | Features::IN_ORDER, answers, size);
        }
    }
}

#[test]
fn a_foreign_driver_of_split_rings_writes_and_reads_back() {
    let in_order = &[Answers::InTurn, Answers::Short];
    round_trips(Features::VERSION_1, in_order, 32);
}

/// With IN_ORDER the device serves one request at a time and answers none before an older one: this
/// driver insists on a used length equal to the whole room, and a full buffer may be skipped.
#[cfg(feature = "packed")]
#[test]
fn a_foreign_driver_of_packed_rings_writes_and_reads_back() {
    let format = Features::VERSION_1 | Features::RING_PACKED;
    round_trips(format, &[Answers::InTurn], 64);
}

/// IN_ORDER is limited as in the test above.
#[cfg(feature = "packed")]
#[test]
fn a_foreign_driver_of_odd_packed_rings_writes_and_reads_back() {
    let format = Features::VERSION_1 | Features::RING_PACKED;
    round_trips(format, &[Answers::InTurn], 37);
}

/// Shows why the other tests keep to batches of one request.
#[test]
#[should_panic = "a wake-up was lost"]
fn a_split_driver_without_in_order_cannot_follow_a_batch() {
    let ring = Features::VERSION_1 | Features::IN_ORDER;
    traffic(ring, Answers::InAnyOrder, 32);
}

/// Shows why the other tests keep to batches of one request.
#[cfg(feature = "packed")]
#[test]
#[should_panic = "a wake-up was lost"]
fn a_packed_driver_without_in_order_cannot_follow_a_batch() {
    let ring = Features::VERSION_1 | Features::RING_PACKED | Features::IN_ORDER;
    traffic(ring, Answers::InAnyOrder, 64);
}
