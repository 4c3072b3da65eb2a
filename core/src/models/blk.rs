//! The block device, over a small [`BlockBackend`].
//!
//! Requests: IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES; every other type is answered with
//! UNSUPP. Features: RO, SEG_MAX, SIZE_MAX, BLK_SIZE, FLUSH, CONFIG_WCE, TOPOLOGY, MQ, DISCARD and
//! WRITE_ZEROES, each offered as the back end and the options have it.
//!
//! A request that fails reads as zeros where it was not filled, and the used length counts them and the
//! status; but no more than the longest read would write: the smaller of the disk's size and
//! [`BlockOptions::with_max_transfer`].
//!
//! Zoned storage, secure erase and lifetime metrics are never offered.
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
    memory::DriverMem,
    model::{Answer, DeviceConfig, DeviceModel, Request},
    num,
    queue::ChainError,
    queue::check::largest,
};

/// Bytes of a sector, whatever `blk_size` says (blk-68).
pub const SECTOR: u32 = 1 << SECTOR_SHIFT;

const SECTOR_SHIFT: u32 = 9;

/// Ranges of one DISCARD or WRITE_ZEROES request, at most.
pub const MAX_RANGES: u32 = {
    let [low, high] = num::clamp_u16(RANGES).to_le_bytes();
    u32::from_le_bytes([low, high, 0, 0])
};

/// The same, as a capacity.
const RANGES: usize = 8;

const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

/// Bytes of a request's header: type, reserved, sector.
const HEADER: usize = 16;

/// Bytes of the answer to GET_ID.
const ID: usize = 20;

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
    /// The cache mode, as the driver sees and sets it.
    writeback: bool,
}

/// Why a request is not answered with OK.
enum Failure {
    Status(u8),
    /// IOERR, and something of ours is to blame.
    Ours(HostFault),
    /// Ask again later.
    NotReady,
}

impl From<BlockError> for Failure {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::NotReady => Self::NotReady,
            BlockError::Unsupported => Self::Status(S_UNSUPP),
            BlockError::Io => Self::Ours(HostFault::Backend),
        }
    }
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        Self::Ours(error.into())
    }
}

const IOERR: Failure = Failure::Status(S_IOERR);
const UNSUPP: Failure = Failure::Status(S_UNSUPP);

/// One range of a DISCARD or WRITE_ZEROES request.
#[derive(Clone, Copy, Debug)]
struct Span {
    offset: u64,
    len: u64,
    unmap: bool,
}

/// Reads all of `bytes`; a request that is too short is the driver's doing, lost memory ours.
fn read_whole<M: DriverMem>(request: &mut Request<'_, M>, bytes: &mut [u8]) -> Result<(), Failure> {
    request
        .readable
        .read_exact(bytes)
        .map_err(|error| match error {
            ReadExactError::UnexpectedEof => IOERR,
            ReadExactError::Other(error) => error.into(),
        })
}

fn feature(flag: F) -> Features {
    Features::from_spec(flag.bits())
}

impl<B: BlockBackend> Block<B> {
    /// The device over this back end.
    pub const fn new(backend: B, options: BlockOptions) -> Self {
        Self {
            backend,
            options,
            negotiated: None,
            writeback: true,
        }
    }

    /// The back end.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The back end; a change of its capacity goes through `update_config`.
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Whether writes are answered before they are durable, if the driver may choose (CONFIG_WCE).
    pub const fn is_write_back(&self) -> bool {
        self.writeback
    }

    fn has(&self, flag: F) -> bool {
        self.negotiated
            .is_some_and(|features| features.contains(feature(flag)))
    }

    /// Whether a write may be answered before it is durable: only if the driver can ask for it to
    /// be (blk-33, blk-34).
    fn may_cache(&self) -> bool {
        if self.has(F::CONFIG_WCE) {
            self.writeback
        } else {
            self.has(F::FLUSH)
        }
    }

    fn settle(&mut self) -> Result<(), Failure> {
        if self.backend.features().flush && !self.may_cache() {
            self.backend.flush()?;
        }
        Ok(())
    }

    /// The byte offset of `len` bytes from `sector` on, if they are on the disk (blk-68).
    fn locate(&self, sector: u64, len: u64) -> Result<u64, Failure> {
        let sectors = len >> SECTOR_SHIFT;
        let end = sector.checked_add(sectors).ok_or(IOERR)?;
        if end > self.backend.capacity() {
            return Err(IOERR);
        }
        sector.checked_mul(u64::from(SECTOR)).ok_or(IOERR)
    }

    /// Bytes that a read may have at most.
    fn longest_read(&self) -> u32 {
        let bytes = self.backend.capacity().saturating_mul(SECTOR.into());
        u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(self.options.max_transfer)
    }

    fn check_data(&self, sector: u64, len: u64) -> Result<u64, Failure> {
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
    ) -> Result<(), Failure> {
        let mut offset = self.check_data(sector, request.writable.remaining())?;
        while let Some(view) = request.writable.view(u32::MAX)? {
            self.backend.read(offset, &view)?;
            request.writable.commit(num::clamp_u32(view.len()));
            offset = offset.wrapping_add(num::wide(view.len()));
        }
        Ok(())
    }

    fn write<M: DriverMem>(
        &mut self,
        sector: u64,
        request: &mut Request<'_, M>,
    ) -> Result<(), Failure> {
        if self.backend.features().read_only {
            return Err(IOERR);
        }
        let mut offset = self.check_data(sector, request.readable.remaining())?;
        while let Some(view) = request.readable.view(u32::MAX)? {
            self.backend.write(offset, &view)?;
            request.readable.skip(num::clamp_u32(view.len()));
            offset = offset.wrapping_add(num::wide(view.len()));
        }
        self.settle()
    }

    fn id<M: DriverMem>(&self, request: &mut Request<'_, M>) -> Result<(), Failure> {
        let room = num::clamp_index(request.writable.remaining()).min(ID);
        let id = self.options.id.get(..room).unwrap_or(&[]);
        Ok(request.writable.write_all(id)?)
    }

    fn clear<M: DriverMem>(
        &mut self,
        zeroes: bool,
        request: &mut Request<'_, M>,
    ) -> Result<(), Failure> {
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
        // All ranges are checked before the first is carried out.
        let spans = self.spans(zeroes, limits, request)?;
        for Span { offset, len, unmap } in spans.iter().copied() {
            if zeroes {
                self.backend.write_zeroes(offset, len, unmap)?;
            } else {
                self.backend.discard(offset, len)?;
            }
        }
        self.settle()
    }

    /// The ranges of a request, each read once and checked.
    fn spans<M: DriverMem>(
        &self,
        zeroes: bool,
        limits: RangeLimits,
        request: &mut Request<'_, M>,
    ) -> Result<heapless::Vec<Span, RANGES>, Failure> {
        let len = request.readable.remaining();
        if len == 0 || len & 15 != 0 || len >> 4 > limits.max_ranges.min(MAX_RANGES).into() {
            return Err(IOERR);
        }
        let mut spans = heapless::Vec::new();
        let mut fits = true;
        while request.readable.remaining() != 0 {
            let mut bytes = [0; 16];
            read_whole(request, &mut bytes)?;
            let [sector, rest] = crate::memory::split(bytes);
            let (sectors, flags) = (num::low(rest), num::high(rest));
            let unmap = flags & 1 != 0;
            // Reserved flags, or UNMAP where it has no meaning (blk-25, blk-26): in any range, and
            // whatever is wrong with another.
            if flags & !1 != 0 || (unmap && !zeroes) {
                return Err(UNSUPP);
            }
            let len = u64::from(sectors).wrapping_mul(SECTOR.into());
            match self.locate(sector, len) {
                Ok(offset) if sectors <= limits.max_sectors => {
                    spans.push(Span { offset, len, unmap }).map_err(|_| IOERR)?;
                }
                _ => fits = false,
            }
        }
        if !fits {
            return Err(IOERR);
        }
        Ok(spans)
    }

    fn execute<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<(), Failure> {
        let mut header = [0; HEADER];
        read_whole(request, &mut header)?;
        let [kind, sector] = crate::memory::split(header);
        match T::try_from(num::low(kind)) {
            Ok(T::In) => self.read(sector, request),
            Ok(T::Out) => self.write(sector, request),
            Ok(T::Flush) if self.backend.features().flush => Ok(self.backend.flush()?),
            Ok(T::GetId) => self.id(request),
            Ok(T::Discard) => self.clear(false, request),
            Ok(T::WriteZeroes) => self.clear(true, request),
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
        // Without MQ there is one queue (blk-74); before the driver chose, it may look at all.
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
        // Write-back needs a driver that can flush (blk-03).
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
        self.negotiated = None;
        self.writeback = true;
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        // Without a byte for the status there is no way to answer.
        let Some(end) = request.writable.split_end(1) else {
            return Err(DriverFault::BadRequest { head: request.head });
        };
        let status = match self.execute(request) {
            Ok(()) => S_OK,
            Err(Failure::Status(status)) => status,
            Err(Failure::Ours(fault)) => {
                request.report(fault);
                S_IOERR
            }
            Err(Failure::NotReady) => return Ok(Answer::Pending),
        };
        let zeros = if status == S_OK {
            0
        } else {
            self.longest_read()
        };
        Ok(super::answer(request, end, status, zeros))
    }
}
