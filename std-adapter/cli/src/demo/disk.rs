//! A block driver as a byte stream, for the file system.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
    time::{Duration, Instant},
};

use virtio_drivers::device::blk::{SECTOR_SIZE, VirtIOBlk};
use virtside_std::{
    CondvarNotify,
    guest::{ChannelTransport, GuestHal},
};

/// Length of a cached block, in bytes.
const BLOCK: usize = 4096;

/// Maximum number of cached blocks: enough for the parts of the FAT in use and for directories.
const BLOCKS: usize = 64;

/// The number, size and total time of requests to a driver.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl Traffic {
    pub(crate) fn add(&mut self, bytes: usize, since: Instant) {
        self.requests = self.requests.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(0));
        self.time = self.time.saturating_add(since.elapsed());
    }
}

/// The block driver, with its interrupt line.
pub(crate) struct Disk {
    driver: VirtIOBlk<GuestHal, ChannelTransport>,
    line: CondvarNotify,
    pub(crate) traffic: Traffic,
}

fn broken(error: virtio_drivers::Error) -> io::Error {
    io::Error::other(format!("block driver: {error}"))
}

impl Disk {
    pub(crate) fn new(transport: ChannelTransport, line: CondvarNotify) -> io::Result<Self> {
        Ok(Self {
            driver: VirtIOBlk::new(transport).map_err(broken)?,
            line,
            traffic: Traffic::default(),
        })
    }

    fn len(&self) -> u64 {
        let sector = u64::try_from(SECTOR_SIZE).unwrap_or(512);
        self.driver.capacity().saturating_mul(sector)
    }

    fn request(
        &mut self,
        bytes: usize,
        request: impl FnOnce(&mut VirtIOBlk<GuestHal, ChannelTransport>) -> virtio_drivers::Result,
    ) -> io::Result<()> {
        let start = Instant::now();
        request(&mut self.driver).map_err(broken)?;
        // The driver polls for completion. Acknowledge the interrupt afterwards, as a kernel does.
        if self.line.is_high() {
            self.driver.ack_interrupt();
        }
        self.traffic.add(bytes, start);
        Ok(())
    }

    fn read(&mut self, sector: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.request(bytes.len(), |driver| driver.read_blocks(sector, bytes))
    }

    fn write(&mut self, sector: usize, bytes: &[u8]) -> io::Result<()> {
        self.request(bytes.len(), |driver| driver.write_blocks(sector, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.request(0, VirtIOBlk::flush)
    }
}

struct Cached {
    bytes: Vec<u8>,
    dirty: bool,
    used: u64,
}

/// The disk as a stream. Small accesses use a write-back cache; large accesses bypass the cache.
pub(crate) struct Stream<'a> {
    disk: &'a mut Disk,
    position: u64,
    /// Cached blocks by block number.
    cache: BTreeMap<usize, Cached>,
    clock: u64,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(disk: &'a mut Disk) -> Self {
        Self {
            disk,
            position: 0,
            cache: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Returns the position of the next access, and how many of `want` bytes are left on the disk.
    fn clip(&self, want: usize) -> io::Result<(usize, usize)> {
        let left = self.disk.len().saturating_sub(self.position);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let at = usize::try_from(self.position).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok((at, want.min(left)))
    }

    fn advance(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(0);
        self.position = self.position.saturating_add(count);
    }

    /// Returns how many bytes of an access bypass the cache: the whole sectors of an aligned access
    /// of at least one block.
    fn direct(at: usize, len: usize) -> Option<usize> {
        (at.is_multiple_of(SECTOR_SIZE) && len >= BLOCK).then_some(len - len % SECTOR_SIZE)
    }

    /// Returns the length of a block in bytes. The last block of the disk may be shorter.
    fn block_len(&self, block: usize) -> usize {
        let start = u64::try_from(block.saturating_mul(BLOCK)).unwrap_or(u64::MAX);
        let left = self.disk.len().saturating_sub(start);
        usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK)
    }

    fn write_back(&mut self, block: usize) -> io::Result<()> {
        if let Some(cached) = self.cache.get_mut(&block).filter(|cached| cached.dirty) {
            self.disk
                .write(block * (BLOCK / SECTOR_SIZE), &cached.bytes)?;
            cached.dirty = false;
        }
        Ok(())
    }

    /// Writes back and drops the cached blocks of a range that is about to bypass the cache.
    fn evict(&mut self, at: usize, len: usize) -> io::Result<()> {
        let blocks = at / BLOCK..=(at.saturating_add(len) - 1) / BLOCK;
        let cached: Vec<_> = self.cache.range(blocks).map(|(block, _)| *block).collect();
        for block in cached {
            self.write_back(block)?;
            self.cache.remove(&block);
        }
        Ok(())
    }

    fn cached(&mut self, block: usize) -> io::Result<&mut Cached> {
        if !self.cache.contains_key(&block) {
            if self.cache.len() >= BLOCKS {
                let oldest = self.cache.iter().min_by_key(|(_, cached)| cached.used);
                if let Some(oldest) = oldest.map(|(block, _)| *block) {
                    self.write_back(oldest)?;
                    self.cache.remove(&oldest);
                }
            }
            let mut bytes = vec![0; self.block_len(block)];
            self.disk.read(block * (BLOCK / SECTOR_SIZE), &mut bytes)?;
            let cached = Cached {
                bytes,
                dirty: false,
                used: 0,
            };
            self.cache.insert(block, cached);
        }
        self.clock = self.clock.wrapping_add(1);
        let cached = self.cache.get_mut(&block).ok_or(io::ErrorKind::NotFound)?;
        cached.used = self.clock;
        Ok(cached)
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (at, len) = self.clip(bytes.len())?;
        if len == 0 {
            return Ok(0);
        }
        let count = match Self::direct(at, len) {
            Some(count) => {
                self.evict(at, count)?;
                self.disk.read(at / SECTOR_SIZE, &mut bytes[..count])?;
                count
            }
            None => {
                let cached = self.cached(at / BLOCK)?;
                let from = &cached.bytes[at % BLOCK..];
                let count = len.min(from.len());
                bytes[..count].copy_from_slice(&from[..count]);
                count
            }
        };
        self.advance(count);
        Ok(count)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (at, len) = self.clip(bytes.len())?;
        if len == 0 {
            return Ok(0);
        }
        let count = match Self::direct(at, len) {
            Some(count) => {
                self.evict(at, count)?;
                self.disk.write(at / SECTOR_SIZE, &bytes[..count])?;
                count
            }
            None => {
                let cached = self.cached(at / BLOCK)?;
                let to = &mut cached.bytes[at % BLOCK..];
                let count = len.min(to.len());
                to[..count].copy_from_slice(&bytes[..count]);
                cached.dirty = true;
                count
            }
        };
        self.advance(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let blocks: Vec<_> = self.cache.keys().copied().collect();
        for block in blocks {
            self.write_back(block)?;
        }
        self.disk.flush()
    }
}

impl Seek for Stream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.disk.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
