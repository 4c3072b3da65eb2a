//! The block device, over a [`BlockBackend`].
//!
//! * **Requests:** IN, OUT, FLUSH, GET_ID, DISCARD and WRITE_ZEROES. The device answers every other
//!   request type with UNSUPP.
//! * **Features:** RO, SEG_MAX, SIZE_MAX, BLK_SIZE, FLUSH, CONFIG_WCE, TOPOLOGY, MQ, DISCARD and
//!   WRITE_ZEROES. The back end and the [`BlockOptions`] decide which of these features the device
//!   offers. The device never offers zoned storage, secure erase or lifetime metrics.
//! * **Failed requests:** the device writes zeros after the data that it has already written, until
//!   it reaches the status byte or has written as many bytes as the longest read: the smaller of
//!   the disk's size and [`BlockOptions::with_max_transfer`]. The used length counts the zeros. It
//!   counts the status byte only if every byte before the status byte was written.
//!
//! Clauses: blk-01 to blk-05, blk-21 to blk-36, blk-38, blk-40, blk-66 to blk-69, blk-74, blk-75.

mod backend;
mod config;
mod snapshot;

pub use backend::{BlockBackend, BlockError, BlockFeatures, RamDisk, RangeLimits};
pub use config::{BlockOptions, Topology};
pub use snapshot::BlockSnapshot;

use embedded_io::{Read, ReadExactError, Write};
use virtio_spec::blk::{F, T};

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::{DeviceRange, DriverMem},
    model::{Answer, DeviceConfig, DeviceModel, Request},
    num,
    queue::check::largest,
    queue::{ChainError, Views},
};

/// Size of a sector in bytes. It does not depend on `blk_size` (blk-68).
pub const SECTOR: u32 = 1 << SECTOR_SHIFT;

const SECTOR_SHIFT: u32 = 9;

/// Largest number of ranges in one DISCARD or WRITE_ZEROES request.
pub const MAX_RANGES: u32 = {
    let [low, high] = num::clamp_u16(RANGE_CAPACITY).to_le_bytes();
    u32::from_le_bytes([low, high, 0, 0])
};

/// [`MAX_RANGES`] as a `usize`, for the capacity of a vector.
const RANGE_CAPACITY: usize = 8;

const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

/// Size in bytes of a request's header: type, reserved field and sector.
const HEADER_LEN: usize = 16;

/// Size in bytes of the answer to GET_ID.
const ID_LEN: usize = 20;

/// The block device.
///
/// ```
/// use virtside::models::{blk::RamDisk, Block, BlockOptions};
/// let disk = RamDisk::new([0u8; 4096]);
/// let device = Block::new(disk, BlockOptions::new(16).with_id("ram0"));
/// # let _ = device;
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Block<B> {
    backend: B,
    options: BlockOptions,
    negotiated: Option<Features>,
    /// The `writeback` field of the configuration space: true for write-back, false for
    /// write-through.
    writeback: bool,
}

/// The reason why a request is not answered with OK.
enum BlockFailure {
    /// The request is answered with this status.
    Status(u8),
    /// The request is answered with IOERR, and the host fault is reported.
    Host(HostFault),
    /// The request stays pending.
    NotReady,
}

impl From<BlockError> for BlockFailure {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::NotReady => Self::NotReady,
            BlockError::Unsupported => Self::Status(S_UNSUPP),
            BlockError::Io => Self::Host(HostFault::Backend),
        }
    }
}

impl From<ChainError> for BlockFailure {
    fn from(error: ChainError) -> Self {
        Self::Host(error.into())
    }
}

const IOERR: BlockFailure = BlockFailure::Status(S_IOERR);
const UNSUPP: BlockFailure = BlockFailure::Status(S_UNSUPP);

/// One range of a DISCARD or WRITE_ZEROES request.
#[derive(Clone, Copy, Debug)]
struct ByteRange {
    offset: u64,
    len: u64,
    unmap: bool,
}

/// Fills `bytes` from the request's readable bytes.
///
/// # Errors
/// IOERR if the driver sent fewer bytes, or a host fault if memory is no longer mapped.
fn read_whole<M: DriverMem>(
    request: &mut Request<'_, M>,
    bytes: &mut [u8],
) -> Result<(), BlockFailure> {
    request
        .readable
        .read_exact(bytes)
        .map_err(|error| match error {
            ReadExactError::UnexpectedEof => IOERR,
            ReadExactError::Other(error) => error.into(),
        })
}

/// The pieces of a chain, up to one whose memory is gone.
struct Pieces<'a, M> {
    views: Views<'a, M>,
    /// Bytes of the pieces before the last one that was taken; 0 after the end.
    before: u32,
    /// Bytes of the last piece that was taken.
    last: u32,
    gone: Option<ChainError>,
}

impl<'a, M: DriverMem> Pieces<'a, M> {
    const fn new(views: Views<'a, M>) -> Self {
        Self {
            views,
            before: 0,
            last: 0,
            gone: None,
        }
    }

    /// Fails if the memory of a piece was gone.
    fn check(&self) -> Result<(), BlockFailure> {
        match self.gone {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl<'a, M: DriverMem> Iterator for Pieces<'a, M> {
    type Item = DeviceRange<'a>;

    fn next(&mut self) -> Option<DeviceRange<'a>> {
        self.before = self.before.wrapping_add(self.last);
        match self.views.next() {
            Some(Ok(view)) => {
                self.last = num::clamp_u32(view.len());
                Some(view)
            }
            Some(Err(error)) => {
                self.gone = Some(error);
                None
            }
            None => {
                (self.before, self.last) = (0, 0);
                None
            }
        }
    }
}

/// Converts feature flags of the block device to [`Features`].
fn feature(flag: F) -> Features {
    Features::from_spec(flag.bits())
}

impl<B: BlockBackend> Block<B> {
    /// Creates a block device over this back end.
    pub const fn new(backend: B, options: BlockOptions) -> Self {
        Self {
            backend,
            options,
            negotiated: None,
            writeback: true,
        }
    }

    /// Returns the same device, with what its driver has negotiated, over another back end of the
    /// same disk. It serves a taken queue beside this device:
    /// [`TakenQueue::serve`](crate::device::TakenQueue::serve).
    ///
    /// The other device keeps the cache mode that this device has now. If the driver changes the
    /// mode ([`is_write_back`](Self::is_write_back)), take the queues back and make new models.
    ///
    /// ```
    /// use virtside::models::{Block, BlockOptions, blk::RamDisk};
    /// // Two back ends of one read-only disk.
    /// let bytes = vec![0; 4096];
    /// let device = Block::new(RamDisk::new(bytes.clone()), BlockOptions::new(16));
    /// let other = device.with_backend(RamDisk::new(bytes));
    /// # let _ = other;
    /// ```
    pub fn with_backend<C: BlockBackend>(&self, backend: C) -> Block<C> {
        Block {
            backend,
            options: self.options,
            negotiated: self.negotiated,
            writeback: self.writeback,
        }
    }

    /// Returns the back end.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns the back end for changes. Change its capacity only in
    /// [`update_config`](crate::Engine::update_config).
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Returns whether the cache mode is write-back: the device may answer a write before the write
    /// is durable. A driver that accepted CONFIG_WCE can change the mode.
    pub const fn is_write_back(&self) -> bool {
        self.writeback
    }

    /// Returns whether the driver accepted this feature.
    fn has(&self, flag: F) -> bool {
        self.negotiated
            .is_some_and(|features| features.contains(feature(flag)))
    }

    /// Returns whether the device may answer a write before the write is durable. With CONFIG_WCE,
    /// the driver sets the cache mode (blk-34). Without CONFIG_WCE, the driver must have accepted
    /// FLUSH, so that it can make writes durable (blk-33).
    fn may_cache(&self) -> bool {
        if self.has(F::CONFIG_WCE) {
            self.writeback
        } else {
            self.has(F::FLUSH)
        }
    }

    /// Makes completed writes durable, unless the device may cache them. Called at the end of each
    /// request that changes the disk.
    fn flush_unless_cached(&mut self) -> Result<(), BlockFailure> {
        if self.backend.features().flush && !self.may_cache() {
            self.backend.flush()?;
        }
        Ok(())
    }

    /// Converts a sector number into a byte offset. Fails with IOERR unless all of the `len` bytes
    /// from `sector` on are on the disk (blk-68).
    fn locate(&self, sector: u64, len: u64) -> Result<u64, BlockFailure> {
        let sectors = len >> SECTOR_SHIFT;
        let end = sector.checked_add(sectors).ok_or(IOERR)?;
        if end > self.backend.capacity() {
            return Err(IOERR);
        }
        sector.checked_mul(u64::from(SECTOR)).ok_or(IOERR)
    }

    /// Returns the size in bytes of the longest read: the smaller of the disk's size and
    /// `max_transfer`.
    fn longest_read(&self) -> u32 {
        let bytes = self.backend.capacity().saturating_mul(SECTOR.into());
        u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(self.options.max_transfer)
    }

    /// Checks the data length of an IN or OUT request, and converts its sector into a byte offset.
    /// Fails with IOERR for part of a sector, for more than `max_transfer`, and past the end of the
    /// disk.
    fn check_data(&self, sector: u64, len: u64) -> Result<u64, BlockFailure> {
        let whole = len.is_multiple_of(SECTOR.into());
        if !whole || len > self.options.max_transfer.into() {
            return Err(IOERR);
        }
        self.locate(sector, len)
    }

    fn read<M: DriverMem>(
        &mut self,
        sector: u64,
        request: &mut Request<'_, M>,
    ) -> Result<(), BlockFailure> {
        let len = request.writable.remaining();
        let offset = self.check_data(sector, len)?;
        let mut pieces = Pieces::new(request.writable.views());
        let result = self.backend.read_vectored(offset, &mut pieces);
        let result = pieces.check().and(result.map_err(BlockFailure::from));
        let filled = match result {
            Ok(()) => num::low(len),
            Err(_) => pieces.before,
        };
        request.writable.commit(filled);
        result
    }

    fn write<M: DriverMem>(
        &mut self,
        sector: u64,
        request: &mut Request<'_, M>,
    ) -> Result<(), BlockFailure> {
        if self.backend.features().read_only {
            return Err(IOERR);
        }
        let offset = self.check_data(sector, request.readable.remaining())?;
        let mut pieces = Pieces::new(request.readable.views());
        let result = self.backend.write_vectored(offset, &mut pieces);
        pieces.check()?;
        result?;
        self.flush_unless_cached()
    }

    /// Answers GET_ID, with fewer than 20 bytes if the driver left less room.
    fn id<M: DriverMem>(&self, request: &mut Request<'_, M>) -> Result<(), BlockFailure> {
        let room = num::clamp_index(request.writable.remaining()).min(ID_LEN);
        let id = self.options.id.get(..room).unwrap_or(&[]);
        Ok(request.writable.write_all(id)?)
    }

    /// Executes a DISCARD request, or a WRITE_ZEROES request if `zeroes` is true.
    fn execute_ranges<M: DriverMem>(
        &mut self,
        zeroes: bool,
        request: &mut Request<'_, M>,
    ) -> Result<(), BlockFailure> {
        let features = self.backend.features();
        let limits = if zeroes {
            features.write_zeroes
        } else {
            features.discard
        };
        let flag = if zeroes { F::WRITE_ZEROES } else { F::DISCARD };
        let limits = limits.filter(|_| self.has(flag)).ok_or(UNSUPP)?;
        if features.read_only {
            return Err(IOERR);
        }
        // An invalid range makes the whole request fail, so all ranges are checked first.
        let ranges = self.read_ranges(zeroes, limits, request)?;
        for ByteRange { offset, len, unmap } in ranges.iter().copied() {
            if zeroes {
                self.backend.write_zeroes(offset, len, unmap)?;
            } else {
                self.backend.discard(offset, len)?;
            }
        }
        self.flush_unless_cached()
    }

    /// Reads and checks the ranges of a DISCARD or WRITE_ZEROES request. Reads every range once.
    fn read_ranges<M: DriverMem>(
        &self,
        zeroes: bool,
        limits: RangeLimits,
        request: &mut Request<'_, M>,
    ) -> Result<heapless::Vec<ByteRange, RANGE_CAPACITY>, BlockFailure> {
        let len = request.readable.remaining();
        if len == 0 || len & 15 != 0 || len >> 4 > limits.max_ranges.min(MAX_RANGES).into() {
            return Err(IOERR);
        }
        let mut ranges = heapless::Vec::new();
        let mut fits = true;
        while request.readable.remaining() != 0 {
            let mut bytes = [0; 16];
            read_whole(request, &mut bytes)?;
            let [sector, sectors_and_flags] = crate::memory::split(bytes);
            let (sectors, flags) = (num::low(sectors_and_flags), num::high(sectors_and_flags));
            let unmap = flags & 1 != 0;
            // A reserved flag (blk-25), or UNMAP in a DISCARD (blk-26). UNSUPP takes precedence
            // over the IOERR of another range, so `fits` is evaluated after the loop.
            if flags & !1 != 0 || (unmap && !zeroes) {
                return Err(UNSUPP);
            }
            let len = u64::from(sectors).wrapping_mul(SECTOR.into());
            match self.locate(sector, len) {
                Ok(offset) if sectors <= limits.max_sectors => {
                    ranges
                        .push(ByteRange { offset, len, unmap })
                        .map_err(|_| IOERR)?;
                }
                _ => fits = false,
            }
        }
        if !fits {
            return Err(IOERR);
        }
        Ok(ranges)
    }

    /// Executes a request. The status byte is not part of `request`.
    fn execute<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<(), BlockFailure> {
        let mut header = [0; HEADER_LEN];
        read_whole(request, &mut header)?;
        let [kind, sector] = crate::memory::split(header);
        match T::try_from(num::low(kind)) {
            Ok(T::In) => self.read(sector, request),
            Ok(T::Out) => self.write(sector, request),
            Ok(T::Flush) if self.backend.features().flush => Ok(self.backend.flush()?),
            Ok(T::GetId) => self.id(request),
            Ok(T::Discard) => self.execute_ranges(false, request),
            Ok(T::WriteZeroes) => self.execute_ranges(true, request),
            _ => Err(UNSUPP),
        }
    }
}

impl<B: BlockBackend> DeviceConfig for Block<B> {
    fn device_id(&self) -> u32 {
        u32::from(u8::from(virtio_spec::Id::Block))
    }

    fn features(&self) -> Features {
        config::offer(&self.backend.features(), &self.options)
    }

    fn set_capacity(&mut self, queues: u16, elements: u16) {
        self.options.queues = self.options.queues.min(queues);
        self.options.queue_size = largest(self.options.queue_size, elements);
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        // Without MQ there is one queue (blk-74). Before the driver accepts features, it may read
        // the size of every queue.
        let all = self.negotiated.is_none() || self.has(F::MQ);
        let queues = if all { self.options.queues } else { 1 };
        if queue < queues {
            self.options.queue_size
        } else {
            0
        }
    }

    fn negotiate(&mut self, features: Features) -> bool {
        self.negotiated = Some(features);
        // Write-back needs a driver that can send FLUSH (blk-03).
        self.writeback = features.contains(feature(F::FLUSH));
        true
    }

    fn read_config(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let features = self.backend.features();
        let writeback = self.writeback && features.flush;
        let space = config::space(self.backend.capacity(), &features, &self.options, writeback);
        let part = space
            .get(num::index(offset)..)
            .and_then(|rest| rest.get(..bytes.len()));
        match part {
            Some(part) => {
                bytes.copy_from_slice(part);
                true
            }
            None => false,
        }
    }

    fn write_config(&mut self, offset: u32, bytes: &[u8]) -> bool {
        match (offset, bytes) {
            (config::WRITEBACK, [mode @ (0 | 1)]) if self.has(F::CONFIG_WCE) => {
                self.writeback = *mode == 1;
                true
            }
            _ => false,
        }
    }
}

impl<B: BlockBackend> DeviceModel for Block<B> {
    fn reset(&mut self) {
        self.backend.settle();
        self.negotiated = None;
        self.writeback = true;
    }

    fn queue_stopped(&mut self, _: u16) {
        self.backend.settle();
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        // A chain without a byte for the status cannot be answered.
        let Some(end) = request.writable.split_end(1) else {
            return Err(DriverFault::BadRequest { head: request.head });
        };
        self.backend.begin(request.token);
        let status = match self.execute(request) {
            Ok(()) => S_OK,
            Err(BlockFailure::Status(status)) => status,
            Err(BlockFailure::Host(fault)) => {
                request.report(fault);
                S_IOERR
            }
            Err(BlockFailure::NotReady) => return Ok(Answer::Pending),
        };
        let zeros = if status == S_OK {
            0
        } else {
            self.longest_read()
        };
        Ok(super::answer(request, end, status, zeros))
    }
}
