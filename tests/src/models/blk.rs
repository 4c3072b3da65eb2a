//! A disk that records its calls, and a block driver.

use crate::{
    DATA, SECTORS, SIZE, TestEngine, TestRam, config, driver, reg, rings::settle, test_engine,
};
use virtio_spec::blk::F;
use virtside::{
    Features, FlatMem, HostFault, Step,
    memory::DeviceRange,
    models::{
        Block, BlockBackend, BlockError, BlockFeatures, BlockOptions,
        blk::{RamDisk, RangeLimits},
    },
    testing::{Buffer, FakeDriver, Registers},
};

pub const S_OK: u8 = 0;
pub const S_IOERR: u8 = 1;
pub const S_UNSUPP: u8 = 2;

pub const T_IN: u32 = 0;
pub const T_OUT: u32 = 1;
pub const T_FLUSH: u32 = 4;
pub const T_GET_ID: u32 = 8;
pub const T_DISCARD: u32 = 11;
pub const T_WRITE_ZEROES: u32 = 13;

/// Initial status byte. No request may leave it.
pub const UNTOUCHED: u8 = 0xee;

/// Addresses of a request's header, data and status.
pub const HEADER: u64 = DATA;
pub const BODY: u64 = DATA + 0x1000;
pub const STATUS: u64 = DATA + 0x800;

/// A call of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read(u64, usize),
    Write(u64, usize),
    Flush,
    Discard(u64, u64),
    WriteZeroes(u64, u64, bool),
}

/// A disk of [`SECTORS`] sectors that records its calls. Each sector is filled with its number.
#[derive(Debug)]
pub struct Disk {
    pub ram: RamDisk<Vec<u8>>,
    pub features: BlockFeatures,
    pub calls: Vec<Call>,
    /// Errors for the next calls, one each; `None` lets a call succeed.
    pub trouble: Vec<Option<BlockError>>,
    pub capacity: u64,
}

impl Disk {
    pub fn new() -> Self {
        let bytes = (0..SECTORS * 512).map(|at| (at / 512) as u8).collect();
        let ram = RamDisk::new(bytes);
        Self {
            features: ram.features(),
            ram,
            calls: Vec::new(),
            trouble: Vec::new(),
            capacity: SECTORS as u64,
        }
    }

    /// Makes a disk with these features.
    pub fn with(features: BlockFeatures) -> Self {
        Self {
            features,
            ..Self::new()
        }
    }

    fn called(&mut self, call: Call) -> Result<(), BlockError> {
        self.calls.push(call);
        if self.trouble.is_empty() {
            return Ok(());
        }
        self.trouble.remove(0).map_or(Ok(()), Err)
    }
}

impl BlockBackend for Disk {
    fn capacity(&self) -> u64 {
        self.capacity
    }
    fn features(&self) -> BlockFeatures {
        self.features
    }
    fn read(&mut self, offset: u64, to: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.called(Call::Read(offset, to.len()))?;
        self.ram.read(offset, to)
    }
    fn write(&mut self, offset: u64, from: &DeviceRange<'_>) -> Result<(), BlockError> {
        self.called(Call::Write(offset, from.len()))?;
        self.ram.write(offset, from)
    }
    fn flush(&mut self) -> Result<(), BlockError> {
        self.called(Call::Flush)
    }
    fn discard(&mut self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.called(Call::Discard(offset, len))?;
        self.ram.discard(offset, len)
    }
    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> Result<(), BlockError> {
        self.called(Call::WriteZeroes(offset, len, unmap))?;
        self.ram.write_zeroes(offset, len, unmap)
    }
}

/// A feature bit of the block device.
pub fn feature(flag: F) -> Features {
    Features::from_spec(flag.bits())
}

/// All features that the device may offer, except MQ.
pub fn all() -> Features {
    [
        F::FLUSH,
        F::CONFIG_WCE,
        F::DISCARD,
        F::WRITE_ZEROES,
        F::SEG_MAX,
    ]
    .into_iter()
    .fold(Features::RING, |all, flag| all | feature(flag))
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: u8,
    pub used: u32,
}

/// The result of most requests: the status is all that was written.
pub fn outcome(status: u8, used: u32) -> Outcome {
    Outcome { status, used }
}

/// A live block device and its driver.
#[derive(Debug)]
pub struct Drive {
    pub engine: TestEngine<Block<Disk>>,
    pub driver: FakeDriver<FlatMem>,
    pub ram: TestRam,
}

impl Drive {
    /// Negotiates the features that most drivers use.
    pub fn new() -> Self {
        Self::with(
            Disk::new(),
            BlockOptions::new(SIZE).with_id("virtside-disk"),
            all(),
        )
    }

    /// Makes a drive over this disk. The driver accepts the offered features that are in `wanted`.
    pub fn with(disk: Disk, options: BlockOptions, wanted: Features) -> Self {
        let (mut engine, ram) = test_engine(Block::new(disk, options), 4);
        let features = crate::split_offer(&mut engine).intersection(wanted | Features::VERSION_1);
        assert!(engine.bring_up(features, &[config(0)]));
        Self {
            driver: driver(ram, 0),
            engine,
            ram,
        }
    }

    /// Makes a drive over this disk with the usual features.
    pub fn over(disk: Disk) -> Self {
        Self::with(disk, BlockOptions::new(SIZE), all())
    }

    pub fn disk(&mut self) -> &mut Disk {
        self.engine.model_mut().backend_mut()
    }

    /// Takes the calls of the disk since the last call of this function.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.disk().calls)
    }

    /// Returns the bytes of a sector.
    pub fn sector(&self, sector: usize) -> &[u8] {
        &self.engine.model().backend().ram.bytes()[sector * 512..][..512]
    }

    /// Returns whether the disk is unchanged.
    pub fn is_pristine(&self) -> bool {
        self.engine.model().backend().ram.bytes() == Disk::new().ram.bytes()
    }

    pub fn write_header(&self, kind: u32, sector: u64) {
        self.driver.write(HEADER, &kind.to_le_bytes());
        self.driver.write(HEADER + 4, &[0; 4]);
        self.driver.write(HEADER + 8, &sector.to_le_bytes());
        self.driver.write(STATUS, &[UNTOUCHED]);
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver.read(addr, &mut bytes);
        bytes
    }

    /// Sends a chain; returns its result, or `None` if it was not returned.
    pub fn send(&mut self, buffers: &[Buffer]) -> Option<Outcome> {
        self.driver.send(0, buffers);
        let _ = self.engine.kick(0);
        settle(&mut self.engine);
        let (head, used) = self.driver.take_used()?;
        assert_eq!(head, 0);
        Some(Outcome {
            status: self.bytes(STATUS, 1)[0],
            used,
        })
    }

    /// Sends a request of `data`, a buffer of `room` bytes, and the status.
    pub fn ask(&mut self, kind: u32, sector: u64, data: &[u8], room: u32) -> Outcome {
        self.write_header(kind, sector);
        self.driver.write(BODY, data);
        let mut buffers = vec![Buffer::readable(HEADER, 16)];
        if !data.is_empty() {
            buffers.push(Buffer::readable(BODY, data.len() as u32));
        }
        if room > 0 {
            buffers.push(Buffer::writable(BODY, room));
        }
        buffers.push(Buffer::writable(STATUS, 1));
        self.send(&buffers).expect("the request was answered")
    }

    /// Sends a request that may stay unanswered; returns the step of the poll.
    pub fn start(&mut self, head: u16, kind: u32, sector: u64, room: u32) -> Step {
        self.write_header(kind, sector);
        let data = if kind == T_OUT {
            Buffer::readable(BODY, room)
        } else {
            Buffer::writable(BODY, room)
        };
        let status = Buffer::writable(STATUS, 1);
        self.driver
            .send(head, &[Buffer::readable(HEADER, 16), data, status]);
        let _ = self.engine.kick(0);
        settle(&mut self.engine)
    }

    pub fn host_fault(&mut self) -> Option<HostFault> {
        self.engine.take_host_fault()
    }

    /// Reads bytes of the configuration space.
    pub fn config<const L: usize>(&mut self, offset: u32) -> [u8; L] {
        std::array::from_fn(|at| {
            let access = virtside::mmio::Access::Read {
                offset: reg::CONFIG + offset + at as u32,
                width: 1,
            };
            self.engine.reach(access).value().expect("a reply") as u8
        })
    }

    /// Writes a byte of the configuration space.
    pub fn set_config(&mut self, offset: u32, value: u8) -> Option<virtside::Refusal> {
        let access = virtside::mmio::Access::Write {
            offset: reg::CONFIG + offset,
            width: 1,
            value: value.into(),
        };
        self.engine.reach(access).refusal()
    }
}

/// A range of DISCARD or WRITE_ZEROES, as the driver writes it.
pub fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [
        &sector.to_le_bytes()[..],
        &sectors.to_le_bytes(),
        &flags.to_le_bytes(),
    ]
    .concat()
}

/// Limits that differ from the RAM disk's.
pub fn limits(max_sectors: u32, max_ranges: u32, alignment: u32) -> RangeLimits {
    RangeLimits {
        max_sectors,
        max_ranges,
        alignment,
    }
}
