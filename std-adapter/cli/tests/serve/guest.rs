//! A guest with a disk: the crate `virtio-driver`, and memory that it shares.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tempfile::tempfile;
use virtio_driver::{
    QueueNotifier, VhostUser, VirtioBlkConfig, VirtioBlkQueue, VirtioBlkReqBuf, VirtioFeatureFlags,
    VirtioTransport, iovec,
};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::service::PATIENCE;

/// Bytes of shared memory for data.
const LEN: usize = 4 << 20;
/// Elements of a queue.
const SIZE: u16 = 64;

/// FLUSH, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES
const DISK_FEATURES: u64 = 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14;

type Transport = VhostUser<VirtioBlkConfig, VirtioBlkReqBuf>;

pub struct Guest {
    queues: Vec<VirtioBlkQueue<'static, usize>>,
    notifiers: Vec<Box<dyn QueueNotifier>>,
    data: MmapRegion,
    transport: Transport,
    _file: File,
}

impl Guest {
    /// Connects to a disk and sets up one queue.
    pub fn connect(socket: &Path) -> Self {
        Self::with_queues(socket, 1, VirtioFeatureFlags::VERSION_1)
    }

    pub fn with_queues(socket: &Path, queues: usize, features: VirtioFeatureFlags) -> Self {
        let wanted = features.bits() | DISK_FEATURES;
        let mut transport = Transport::new(socket.to_str().unwrap(), wanted).unwrap();
        let file = tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let data = MmapRegion::from_file(offset, LEN).unwrap();
        let start = data.as_ptr() as usize;
        let shared = transport.map_mem_region(start, LEN, file.as_raw_fd(), 0);
        shared.unwrap();
        let queues = VirtioBlkQueue::setup_queues(&mut transport, queues, SIZE).unwrap();
        let notifiers = (0..queues.len())
            .map(|queue| transport.get_submission_notifier(queue))
            .collect();
        Self {
            queues,
            notifiers,
            data,
            transport,
            _file: file,
        }
    }

    pub fn config(&self) -> VirtioBlkConfig {
        self.transport.get_config().unwrap()
    }

    /// The features that were accepted.
    pub fn features(&self) -> u64 {
        self.transport.get_features()
    }

    /// Starts a write of `bytes`, which lie at `at` in shared memory meanwhile.
    pub fn begin_write(&mut self, queue: usize, offset: u64, at: usize, bytes: &[u8]) {
        self.data
            .get_slice(at, bytes.len())
            .unwrap()
            .copy_from(bytes);
        let vector = self.vector(at, bytes.len());
        // SAFETY: nothing else uses these bytes before the completion.
        unsafe { self.queues[queue].writev(offset, &vector, 1, at) }.unwrap();
        self.kick(queue);
    }

    pub fn begin_read(&mut self, queue: usize, offset: u64, at: usize, len: usize) {
        let vector = self.vector(at, len);
        // SAFETY: as above.
        unsafe { self.queues[queue].readv(offset, &vector, 1, at) }.unwrap();
        self.kick(queue);
    }

    fn vector(&self, at: usize, len: usize) -> iovec {
        iovec {
            iov_base: self.data.as_ptr().wrapping_add(at).cast(),
            iov_len: len,
        }
    }

    fn kick(&mut self, queue: usize) {
        if self.queues[queue].avail_notif_needed() {
            self.notifiers[queue].notify().unwrap();
        }
    }

    /// Returns the requests that have completed by now: their place in memory, and 0 or an error.
    pub fn completed(&mut self, queue: usize) -> Vec<(usize, i32)> {
        let completions = self.queues[queue].completions();
        completions.map(|done| (done.context, done.ret)).collect()
    }

    /// Waits for this many completions.
    #[track_caller]
    pub fn wait(&mut self, queue: usize, count: usize) -> Vec<(usize, i32)> {
        let end = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.completed(queue));
            assert!(Instant::now() < end, "the disk does not answer");
            thread::sleep(Duration::from_micros(20));
        }
        all
    }

    /// Returns 0 or an error.
    #[track_caller]
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> i32 {
        self.begin_write(0, offset, 0, bytes);
        self.wait(0, 1)[0].1
    }

    /// Returns the bytes, or an error.
    #[track_caller]
    pub fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, i32> {
        self.begin_read(0, offset, 0, len);
        match self.wait(0, 1)[0].1 {
            0 => {
                let mut bytes = vec![0; len];
                self.data.get_slice(0, len).unwrap().copy_to(&mut bytes);
                Ok(bytes)
            }
            error => Err(error),
        }
    }

    #[track_caller]
    pub fn flush(&mut self) -> i32 {
        self.queues[0].flush(0).unwrap();
        self.kick(0);
        self.wait(0, 1)[0].1
    }
}

/// Bytes that differ from place to place and from salt to salt.
pub fn text(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 3) as u8 ^ salt).collect()
}
