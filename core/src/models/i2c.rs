//! The I2C adapter device, over an embedded-hal bus.
//!
//! Each request is one segment: a read, a write, or a transfer of only the address. If a request
//! fails, the remaining requests of its group (FAIL_NEXT) fail without a bus access. The device
//! answers a failed read with zeros, at most `BYTES` of them. The used length counts the zeros. It
//! counts the status only if every byte before the status was written.
//!
//! # Combined transactions
//!
//! A driver sends a write and the read that follows it as a group of two requests. Many chips allow
//! no STOP between the write and the read. embedded-hal takes such a write and its read in one
//! call, so the write must wait for the read. [`combining`](I2c::with_combining) makes the device
//! keep a write that is not the last request of its group. If the next request reads from the same
//! address, the device executes the write and the read by one
//! [`write_read`](embedded_hal::i2c::I2c::write_read), with a repeated START.
//!
//! Every other segment gets its own START and STOP, for two reasons: embedded-hal merges adjacent
//! segments of the same direction, and its transactions have only one address.
//!
//! The device answers a kept write later, so combining needs two chain slots in the engine. With
//! one slot, the device never combines. If the queue is empty before the read arrives, the device
//! executes the kept write on its own. The chip then sees a STOP between the write and the read. To
//! avoid this STOP, call `poll` only after a kick: drivers kick after they have made the whole
//! group available. Without `combining`, the device answers every request at once, and one slot is
//! enough.
//!
//! # Worst case
//!
//! One request takes at most two bus transfers of at most `BYTES` bytes each, or one transfer
//! without `combining`. The device copies the header, the data (or as many zeros) and the status
//! once. A poll that ends with a kept write takes one more transfer.
//!
//! Clauses: i2c-01 to i2c-14.

mod snapshot;

pub use snapshot::I2cSnapshot;

use embedded_hal::i2c::{AddressMode, ErrorKind, NoAcknowledgeSource};
use embedded_io::{Read, ReadExactError, Write};

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::DriverMem,
    model::{Answer, DeviceConfig, DeviceModel, Request, Token},
    num,
    queue::ChainError,
};

/// `VIRTIO_I2C_F_ZERO_LENGTH_REQUEST`: the driver marks reads with M_RD, and may send requests
/// without data.
pub const ZERO_LENGTH_REQUEST: Features = Features::from_bits(1);

const MSG_OK: u8 = 0;
const MSG_ERR: u8 = 1;

/// Length of a request's header in bytes: addr, padding, flags.
const HEADER: usize = 8;

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug)]
    struct Flags: u32 {
        /// The next request belongs to the same group.
        const FAIL_NEXT = 1;
        /// The request is a read.
        const M_RD = 2;
    }
}

/// The address of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum I2cAddress {
    /// A 7-bit address, right-aligned.
    Seven(u8),
    /// A 10-bit address.
    Ten(u16),
}

impl I2cAddress {
    /// Decodes the `addr` field of a request. Returns `None` if the field has neither the 7-bit nor
    /// the 10-bit format.
    ///
    /// ```
    /// use virtside::models::I2cAddress;
    /// assert_eq!(I2cAddress::from_request(0x00a0), Some(I2cAddress::Seven(0x50)));
    /// assert_eq!(I2cAddress::from_request(0x23f2), Some(I2cAddress::Ten(0x123)));
    /// assert_eq!(I2cAddress::from_request(0x00a1), None);
    /// ```
    #[must_use]
    pub const fn from_request(addr: u16) -> Option<Self> {
        let [low, high] = addr.to_le_bytes();
        // 7-bit addressing reserves the prefix of 10-bit addresses.
        if low & 0xf9 == 0xf0 {
            return Some(Self::Ten(u16::from_le_bytes([high, (low >> 1) & 3])));
        }
        if high == 0 && low & 1 == 0 {
            Some(Self::Seven(low >> 1))
        } else {
            None
        }
    }
}

/// One bus transfer, from START to STOP.
///
/// A slice may be empty. The bus then sends the address without data, as for the SMBus command
/// "Quick".
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum I2cTransfer<'a> {
    /// Reads until the slice is full.
    Read(&'a mut [u8]),
    /// Writes the whole slice.
    Write(&'a [u8]),
    /// Writes the whole first slice, sends a repeated START, and reads until the second slice is
    /// full.
    WriteRead(&'a [u8], &'a mut [u8]),
}

/// The bus that the adapter drives.
///
/// Every `embedded_hal::i2c::I2c` is an `I2cBus` with 7-bit addresses; [`TenBit`] adds 10-bit
/// addresses. To let the driver reach only some of the chips, implement this trait around a bus,
/// and answer for the other chips with [`ErrorKind::NoAcknowledge`]:
///
/// ```
/// use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
/// use virtside::models::{I2cAddress, I2cBus, I2cTransfer};
///
/// /// Lets the driver reach only the chip at address 0x50.
/// struct Only50<B>(B);
///
/// impl<B: I2cBus> I2cBus for Only50<B> {
///     fn transfer(&mut self, address: I2cAddress, transfer: I2cTransfer<'_>)
///     -> Result<(), ErrorKind> {
///         match address {
///             I2cAddress::Seven(0x50) => self.0.transfer(address, transfer),
///             _ => Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)),
///         }
///     }
/// }
/// ```
pub trait I2cBus {
    /// Executes one transfer.
    ///
    /// # Errors
    /// [`ErrorKind::NoAcknowledge`] is a normal answer of a bus: only the request fails. Every
    /// other kind also fails the request, and is reported as [`HostFault::Backend`].
    fn transfer(&mut self, address: I2cAddress, transfer: I2cTransfer<'_>)
    -> Result<(), ErrorKind>;
}

fn run<A: AddressMode, B: embedded_hal::i2c::I2c<A>>(
    bus: &mut B,
    address: A,
    transfer: I2cTransfer<'_>,
) -> Result<(), ErrorKind> {
    match transfer {
        I2cTransfer::Read(bytes) => bus.read(address, bytes),
        I2cTransfer::Write(bytes) => bus.write(address, bytes),
        I2cTransfer::WriteRead(sent, bytes) => bus.write_read(address, sent, bytes),
    }
    .map_err(|error| embedded_hal::i2c::Error::kind(&error))
}

impl<B: embedded_hal::i2c::I2c> I2cBus for B {
    fn transfer(
        &mut self,
        address: I2cAddress,
        transfer: I2cTransfer<'_>,
    ) -> Result<(), ErrorKind> {
        match address {
            I2cAddress::Seven(address) => run::<u8, B>(self, address, transfer),
            I2cAddress::Ten(_) => Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)),
        }
    }
}

/// A bus with both 7-bit and 10-bit addresses.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TenBit<B>(pub B);

impl<B: embedded_hal::i2c::I2c<u8> + embedded_hal::i2c::I2c<u16>> I2cBus for TenBit<B> {
    fn transfer(
        &mut self,
        address: I2cAddress,
        transfer: I2cTransfer<'_>,
    ) -> Result<(), ErrorKind> {
        match address {
            I2cAddress::Seven(address) => run::<u8, B>(&mut self.0, address, transfer),
            I2cAddress::Ten(address) => run::<u16, B>(&mut self.0, address, transfer),
        }
    }
}

/// The I2C adapter over a bus, with a buffer of `BYTES` bytes.
///
/// embedded-hal needs each segment in contiguous memory, so the data passes through the buffer. A
/// request of more than `BYTES` bytes fails. A write and a read of more than `BYTES` bytes in total
/// are not combined.
///
/// ```
/// use embedded_hal::i2c::{ErrorKind, ErrorType, Operation};
/// use virtside::models::I2c;
///
/// /// A bus on which every chip returns bytes of 7.
/// struct Sevens;
///
/// impl ErrorType for Sevens {
///     type Error = ErrorKind;
/// }
///
/// impl embedded_hal::i2c::I2c for Sevens {
///     fn transaction(&mut self, _: u8, steps: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
///         for step in steps {
///             if let Operation::Read(bytes) = step { bytes.fill(7); }
///         }
///         Ok(())
///     }
/// }
///
/// let adapter = I2c::<_, 64>::new(Sevens);
/// # let _ = adapter;
/// ```
#[derive(Clone, Debug)]
pub struct I2c<B, const BYTES: usize> {
    bus: B,
    buffer: [u8; BYTES],
    combining: bool,
    /// The previous request of the group failed, so the next request must fail.
    failing: bool,
    /// A write that waits for the next request. Its data is at the start of the buffer.
    kept: Option<Kept>,
    /// The result of a kept write that was executed, until the device answers its request. The
    /// token is `None` after a restore: the request is then the first one that the adapter serves.
    settled: Option<(Option<Token>, Outcome)>,
}

/// A write that waits for the read that follows it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Kept {
    token: Token,
    address: I2cAddress,
    len: usize,
    /// A request after the write was rejected, so no read is combined with the write.
    alone: bool,
}

/// Why a request is answered with MSG_ERR, and the host fault to report, if there is one.
#[derive(Clone, Copy, Debug)]
struct Failed(Option<HostFault>);

type Outcome = Result<(), Failed>;

const FAILED: Failed = Failed(None);

impl From<ErrorKind> for Failed {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NoAcknowledge(_) => FAILED,
            _ => Self(Some(HostFault::Backend)),
        }
    }
}

impl From<ChainError> for Failed {
    fn from(error: ChainError) -> Self {
        Self(Some(error.into()))
    }
}

impl From<ReadExactError<ChainError>> for Failed {
    fn from(error: ReadExactError<ChainError>) -> Self {
        match error {
            ReadExactError::UnexpectedEof => FAILED,
            ReadExactError::Other(error) => error.into(),
        }
    }
}

/// A request's header as the driver sent it.
#[derive(Clone, Copy, Debug)]
struct Header {
    addr: u16,
    flags: Flags,
}

/// A request that passed all checks.
#[derive(Clone, Copy, Debug)]
struct CheckedRequest {
    address: I2cAddress,
    read: bool,
    len: usize,
}

impl Header {
    fn read<M: DriverMem>(request: &mut Request<'_, M>) -> Result<Self, Failed> {
        let mut bytes = [0; HEADER];
        request.readable.read_exact(&mut bytes)?;
        let [a, b, _, _, flags @ ..] = bytes;
        Ok(Self {
            addr: u16::from_le_bytes([a, b]),
            flags: Flags::from_bits_retain(u32::from_le_bytes(flags)),
        })
    }

    fn segment<M>(self, request: &Request<'_, M>) -> Result<CheckedRequest, Failed>
    where
        M: DriverMem,
    {
        let read = self.flags.contains(Flags::M_RD);
        let (sent, room) = (request.readable.remaining(), request.writable.remaining());
        let (len, other) = if read { (room, sent) } else { (sent, room) };
        // The meaning of reserved flags is unknown, and data in the other direction is invalid. The
        // device fails such a request instead of guessing a transfer.
        if !Flags::all().contains(self.flags) || other != 0 {
            return Err(FAILED);
        }
        Ok(CheckedRequest {
            address: I2cAddress::from_request(self.addr).ok_or(FAILED)?,
            read,
            len: num::clamp_index(len),
        })
    }
}

impl<B: I2cBus, const BYTES: usize> I2c<B, BYTES> {
    /// Creates the adapter of this bus.
    pub const fn new(bus: B) -> Self {
        Self {
            bus,
            buffer: [0; BYTES],
            combining: false,
            failing: false,
            kept: None,
            settled: None,
        }
    }

    /// Makes the device combine a write and the read that follows it into one transaction.
    ///
    /// See [Combined transactions](self#combined-transactions).
    #[must_use]
    pub fn with_combining(self) -> Self {
        Self {
            combining: true,
            ..self
        }
    }

    /// Returns the bus.
    pub const fn bus(&self) -> &B {
        &self.bus
    }

    /// Returns the bus for changes.
    pub const fn bus_mut(&mut self) -> &mut B {
        &mut self.bus
    }

    /// Handles a request. Returns `None` if the device answers the request later.
    fn handle<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Option<Outcome> {
        let token = request.token;
        let matches = |settled: Option<Token>| settled.is_none_or(|settled| settled == token);
        if let Some((_, done)) = self.settled.take_if(|(settled, _)| matches(*settled)) {
            return Some(done);
        }
        if self.kept.is_some_and(|kept| kept.token == token) {
            return Some(self.execute_kept());
        }
        self.handle_new(request)
    }

    fn handle_new<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Option<Outcome> {
        let header = Header::read(request);
        let more = header.is_ok_and(|header| header.flags.contains(Flags::FAIL_NEXT));
        let segment = header.and_then(|header| header.segment(request));
        if let Some(kept) = self.kept {
            if let Ok(segment) = segment
                && !kept.alone
                && segment.read
                && segment.address == kept.address
                && segment.len <= BYTES.saturating_sub(kept.len)
            {
                let done = self.write_read(kept, segment.len, request);
                self.failing = more && done.is_err();
                return Some(done);
            }
            self.settle_kept();
        }
        let done = if self.failing {
            Err(FAILED)
        } else {
            match segment.and_then(|segment| self.execute(segment, more, request)) {
                Ok(true) => Ok(()),
                Ok(false) => return None,
                Err(failed) => Err(failed),
            }
        };
        self.failing = more && done.is_err();
        Some(done)
    }

    /// Executes a segment on its own, or keeps a write for the next request. Returns false if the
    /// write is kept.
    fn execute<M: DriverMem>(
        &mut self,
        segment: CheckedRequest,
        more: bool,
        request: &mut Request<'_, M>,
    ) -> Result<bool, Failed> {
        let CheckedRequest { address, read, len } = segment;
        let bytes = self.buffer.get_mut(..len).ok_or(FAILED)?;
        if read {
            bytes.fill(0);
            self.bus.transfer(address, I2cTransfer::Read(bytes))?;
            request.writable.write_all(bytes)?;
            return Ok(true);
        }
        request.readable.read_exact(bytes)?;
        if self.combining && more {
            self.kept = Some(Kept {
                token: request.token,
                address,
                len,
                alone: false,
            });
            return Ok(false);
        }
        self.bus.transfer(address, I2cTransfer::Write(bytes))?;
        Ok(true)
    }

    /// Executes the kept write on its own.
    fn execute_kept(&mut self) -> Outcome {
        let kept = self.kept.take().ok_or(FAILED)?;
        let bytes = self.buffer.get(..kept.len).ok_or(FAILED)?;
        let done = self.bus.transfer(kept.address, I2cTransfer::Write(bytes));
        // The device keeps only requests that are not the last of their group.
        self.failing |= done.is_err();
        Ok(done?)
    }

    /// Executes the kept write on its own, and stores the result until its request is served.
    fn settle_kept(&mut self) {
        if let Some(kept) = self.kept {
            self.settled = Some((Some(kept.token), self.execute_kept()));
        }
    }

    /// Executes the kept write and this read as one transfer.
    fn write_read<M: DriverMem>(
        &mut self,
        kept: Kept,
        len: usize,
        request: &mut Request<'_, M>,
    ) -> Outcome {
        self.kept = None;
        let split = self.buffer.split_at_mut_checked(kept.len);
        let (sent, room) = split.ok_or(FAILED)?;
        let bytes = room.get_mut(..len).ok_or(FAILED)?;
        bytes.fill(0);
        let transfer = I2cTransfer::WriteRead(sent, bytes);
        let done = self.bus.transfer(kept.address, transfer);
        // embedded-hal does not say which of the two segments failed. The first failed request of a
        // group must report the failure (i2c-09), so the write fails with the read.
        self.settled = Some((Some(kept.token), done.map_err(|_| FAILED)));
        done?;
        Ok(request.writable.write_all(bytes)?)
    }

    fn discard_group(&mut self) {
        self.failing = false;
        self.kept = None;
        self.settled = None;
    }
}

impl<B: I2cBus, const BYTES: usize> DeviceConfig for I2c<B, BYTES> {
    fn device_id(&self) -> u32 {
        u32::from(u8::from(virtio_spec::Id::I2cAdapter))
    }

    fn features(&self) -> Features {
        ZERO_LENGTH_REQUEST.union(Features::ALL_RINGS)
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue == 0 { u16::MAX } else { 0 }
    }

    fn required(&self) -> Features {
        ZERO_LENGTH_REQUEST
    }
}

impl<B: I2cBus, const BYTES: usize> DeviceModel for I2c<B, BYTES> {
    fn reset(&mut self) {
        self.discard_group();
    }

    fn queue_stopped(&mut self, queue: u16) {
        if queue == 0 {
            self.discard_group();
        }
    }

    fn can_serve(&self, _queue: u16) -> bool {
        self.due().is_none()
    }

    fn due(&self) -> Option<Token> {
        self.settled.and_then(|(token, _)| token)
    }

    fn drained(&mut self, queue: u16) {
        if queue == 0 && self.settled.is_none() {
            self.settle_kept();
        }
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        // A request without a byte for the status cannot be answered.
        let Some(end) = request.writable.split_end(1) else {
            // The device may only reject the chain. Then the rest of the group fails, and the next
            // read is not combined with a write before this request.
            let header = Header::read(request);
            self.failing = header.is_ok_and(|header| header.flags.contains(Flags::FAIL_NEXT));
            if let Some(kept) = &mut self.kept {
                kept.alone = true;
            }
            return Err(DriverFault::BadRequest { head: request.head });
        };
        let status = match self.handle(request) {
            None => return Ok(Answer::Pending),
            Some(Ok(())) => MSG_OK,
            Some(Err(Failed(fault))) => {
                if let Some(fault) = fault {
                    request.report(fault);
                }
                MSG_ERR
            }
        };
        let zeros = if status == MSG_OK {
            0
        } else {
            num::clamp_u32(BYTES)
        };
        Ok(super::answer(request, end, status, zeros))
    }
}
