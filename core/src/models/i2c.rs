//! The I2C adapter, over an embedded-hal bus.
//!
//! Each request is one segment: a read, a write, or a transfer of nothing but the address. A
//! request that fails makes the rest of its group (FAIL_NEXT) fail without a try. A read that fails
//! reads as zeros, of which at most `BYTES` are written; the used length counts them and the status.
//!
//! # Combined transactions
//!
//! A driver asks for a write and the read that follows it as a group of two requests, and many
//! chips want no STOP between them. embedded-hal has that as one call, so the write has to wait for
//! the read: [`combining`](I2c::combining) makes the device keep a write that is not the last of
//! its group. If the next request reads from the same address, both are carried out by one
//! [`write_read`](embedded_hal::i2c::I2c::write_read), with a repeated START. Any other segment gets
//! a START and a STOP of its own: embedded-hal would run two segments of one direction together, and
//! has nothing for two addresses.
//!
//! A kept write is answered later, so the engine needs two chain slots; with one, nothing is ever
//! combined. A write whose read is not there when the queue is found empty is carried out on its own,
//! so a driver that makes the two available one by one while the device looks gets a STOP between
//! them: poll on kicks, which drivers send once the whole group is there. Without `combining`, every request is
//! answered at once, and one slot is enough.
//!
//! # Worst case
//!
//! One request takes at most two transfers on the bus of at most `BYTES` bytes each (without
//! `combining` one), and copies the header, the data or as many zeros, and the status once. A poll makes one transfer
//! more if it ends with a kept write.
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

/// `VIRTIO_I2C_F_ZERO_LENGTH_REQUEST`: the driver marks reads with M_RD, and may send no data.
pub const ZERO_LENGTH_REQUEST: Features = Features::from_bits(1);

const MSG_OK: u8 = 0;
const MSG_ERR: u8 = 1;

/// Bytes of a request's header: addr, padding, flags.
const HEADER: usize = 8;

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug)]
    struct Flags: u32 {
        /// The next request belongs to the same group.
        const FAIL_NEXT = 1;
        /// A read.
        const M_RD = 2;
    }
}

/// The address of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum I2cAddress {
    /// 7 bits, right-aligned.
    Seven(u8),
    /// 10 bits.
    Ten(u16),
}

impl I2cAddress {
    /// From a request's `addr`; `None` if it has neither format.
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
        // The pattern of 10-bit addresses is reserved among those of 7 bits.
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

/// One call of a bus, from START to STOP. Slices may be empty: then only the address is sent, as
/// for the SMBus command "Quick".
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum I2cTransfer<'a> {
    /// Fills all of it.
    Read(&'a mut [u8]),
    /// Sends all of it.
    Write(&'a [u8]),
    /// Sends all of the first, and after a repeated START fills all of the second.
    WriteRead(&'a [u8], &'a mut [u8]),
}

/// What a bus is to the adapter.
///
/// Every `embedded_hal::i2c::I2c` is one with 7-bit addresses; [`TenBit`] adds the others. A host
/// that lets its driver reach only some of the chips implements this around a bus, and answers for
/// the others as if nobody were there.
pub trait I2cBus {
    /// Does it.
    ///
    /// # Errors
    /// [`ErrorKind::NoAcknowledge`] is an everyday answer of a bus: the request fails, and that is
    /// all. Every other kind fails it too, and is reported as [`HostFault::Backend`].
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

/// A bus with both kinds of address.
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

/// The I2C adapter over a bus, with room for `BYTES` bytes.
///
/// embedded-hal wants a segment in one piece, so the data goes through a buffer of `BYTES` bytes. A
/// request that is longer fails; a write and a read that together are longer are not combined.
///
/// ```
/// use embedded_hal::i2c::{ErrorKind, ErrorType, Operation};
/// use virtside::models::I2c;
///
/// /// A bus on which everyone reads 7.
/// struct Sevens;
///
/// impl ErrorType for Sevens {
///     type Error = ErrorKind;
/// }
///
/// impl embedded_hal::i2c::I2c for Sevens {
///     fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
///         for operation in operations {
///             if let Operation::Read(bytes) = operation { bytes.fill(7); }
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
    /// The last request of this group failed, and this one has to.
    failing: bool,
    /// A write that waits for the next request. Its data is the start of the buffer.
    held: Option<Held>,
    /// A write that was held, is carried out, and is not answered yet. Without a token it is the first
    /// request that a restored adapter is shown.
    settled: Option<(Option<Token>, Outcome)>,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Held {
    token: Token,
    address: I2cAddress,
    len: usize,
}

/// Why a request is not answered with MSG_OK; and whether that is a fault of ours.
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

/// A header, as it is sent.
#[derive(Clone, Copy, Debug)]
struct Header {
    addr: u16,
    flags: Flags,
}

/// A request that makes sense.
#[derive(Clone, Copy, Debug)]
struct Segment {
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

    fn segment<M>(self, request: &Request<'_, M>) -> Result<Segment, Failed>
    where
        M: DriverMem,
    {
        let read = self.flags.contains(Flags::M_RD);
        let (sent, room) = (request.readable.remaining(), request.writable.remaining());
        let (len, other) = if read { (room, sent) } else { (sent, room) };
        // What reserved flags would mean is not known, and a buffer of the other direction makes no
        // sense: better no transfer than another one than was meant.
        if !Flags::all().contains(self.flags) || other != 0 {
            return Err(FAILED);
        }
        Ok(Segment {
            address: I2cAddress::from_request(self.addr).ok_or(FAILED)?,
            read,
            len: num::clamp_index(len),
        })
    }
}

impl<B: I2cBus, const BYTES: usize> I2c<B, BYTES> {
    /// The adapter of this bus.
    pub const fn new(bus: B) -> Self {
        Self {
            bus,
            buffer: [0; BYTES],
            combining: false,
            failing: false,
            held: None,
            settled: None,
        }
    }

    /// Carries out a write and the read that follows it as one transaction: see
    /// [the module](self#combined-transactions).
    #[must_use]
    pub fn combining(self) -> Self {
        Self {
            combining: true,
            ..self
        }
    }

    /// The bus.
    pub const fn bus(&self) -> &B {
        &self.bus
    }

    /// The bus.
    pub const fn bus_mut(&mut self) -> &mut B {
        &mut self.bus
    }

    /// A request; `None` if it is to be answered later.
    fn attend<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Option<Outcome> {
        let token = request.token;
        let is_it = |settled: Option<Token>| settled.is_none_or(|settled| settled == token);
        if let Some((_, done)) = self.settled.take_if(|(settled, _)| is_it(*settled)) {
            return Some(done);
        }
        if self.held.is_some_and(|held| held.token == token) {
            return Some(self.write_held());
        }
        self.attend_new(request)
    }

    fn attend_new<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Option<Outcome> {
        let header = Header::read(request);
        let more = header.is_ok_and(|header| header.flags.contains(Flags::FAIL_NEXT));
        let segment = header.and_then(|header| header.segment(request));
        if let Some(held) = self.held {
            if let Ok(segment) = segment
                && segment.read
                && segment.address == held.address
                && segment.len <= BYTES.saturating_sub(held.len)
            {
                let done = self.write_read(held, segment.len, request);
                self.failing = more && done.is_err();
                return Some(done);
            }
            self.settle_held();
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

    /// Carries out a segment on its own; false if it is kept for later.
    fn execute<M: DriverMem>(
        &mut self,
        segment: Segment,
        more: bool,
        request: &mut Request<'_, M>,
    ) -> Result<bool, Failed> {
        let Segment { address, read, len } = segment;
        let bytes = self.buffer.get_mut(..len).ok_or(FAILED)?;
        if read {
            bytes.fill(0);
            self.bus.transfer(address, I2cTransfer::Read(bytes))?;
            request.writable.write_all(bytes)?;
            return Ok(true);
        }
        request.readable.read_exact(bytes)?;
        if self.combining && more {
            self.held = Some(Held {
                token: request.token,
                address,
                len,
            });
            return Ok(false);
        }
        self.bus.transfer(address, I2cTransfer::Write(bytes))?;
        Ok(true)
    }

    /// Carries out the kept write on its own.
    fn write_held(&mut self) -> Outcome {
        let held = self.held.take().ok_or(FAILED)?;
        let bytes = self.buffer.get(..held.len).ok_or(FAILED)?;
        let done = self.bus.transfer(held.address, I2cTransfer::Write(bytes));
        // Only a request that is not the last of its group is ever held.
        self.failing = done.is_err();
        Ok(done?)
    }

    /// The same; the answer waits for its request to be served.
    fn settle_held(&mut self) {
        if let Some(held) = self.held {
            self.settled = Some((Some(held.token), self.write_held()));
        }
    }

    /// Carries out the kept write and this read.
    fn write_read<M: DriverMem>(
        &mut self,
        held: Held,
        len: usize,
        request: &mut Request<'_, M>,
    ) -> Outcome {
        self.held = None;
        let split = self.buffer.split_at_mut_checked(held.len);
        let (sent, room) = split.ok_or(FAILED)?;
        let bytes = room.get_mut(..len).ok_or(FAILED)?;
        bytes.fill(0);
        let transfer = I2cTransfer::WriteRead(sent, bytes);
        let done = self.bus.transfer(held.address, transfer);
        // Which of the two failed is not known, and the first one that did has to say so (i2c-09).
        self.settled = Some((Some(held.token), done.map_err(|_| FAILED)));
        done?;
        Ok(request.writable.write_all(bytes)?)
    }

    fn discard_group(&mut self) {
        self.failing = false;
        self.held = None;
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
            self.settle_held();
        }
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        // Without a byte for the status there is no way to answer.
        let Some(end) = request.writable.split_end(1) else {
            return Err(DriverFault::BadRequest { head: request.head });
        };
        let status = match self.attend(request) {
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
