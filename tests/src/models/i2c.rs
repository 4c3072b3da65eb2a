//! A bus that records its calls, and an i2c driver.

use std::collections::VecDeque;

use crate::{BASE, BUDGET, DATA, TestEngine, TestRam, config, driver, engine_over, ram};
use embedded_hal::i2c::{AddressMode, ErrorKind, ErrorType, I2c as Bus, Operation};
use virtside::{
    DriverMem, Features, FlatMem, HostFault, Step,
    models::{I2c, I2cBus, TenBit, i2c::ZERO_LENGTH_REQUEST},
    testing::{Buffer, FakeDriver, Registers},
};

pub const OK: u8 = 0;
pub const ERR: u8 = 1;

pub const FAIL_NEXT: u32 = 1;
pub const M_RD: u32 = 2;

/// Bytes of the adapter's buffer.
pub const BYTES: usize = 32;

/// Initial byte of status and buffer. No request may leave it there.
pub const UNTOUCHED: u8 = 0xee;

/// A call of the bus. 10-bit addresses are counted from 0x1000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Read(u16, usize),
    Write(u16, Vec<u8>),
    WriteRead(u16, Vec<u8>, usize),
}

pub use Call::{Read, Write, WriteRead};

/// A bus that records its calls. A read returns 1, 2, 3 and so on.
#[derive(Debug, Default)]
pub struct Recorder {
    pub calls: Vec<Call>,
    /// Errors for the next calls, one each; `None` lets a call succeed.
    pub trouble: VecDeque<Option<ErrorKind>>,
    /// An address at which no chip answers.
    pub hole: Option<u16>,
    next: u8,
}

impl Recorder {
    fn called(&mut self, call: Call) -> Result<(), ErrorKind> {
        let (Read(addr, _) | Write(addr, _) | WriteRead(addr, ..)) = call;
        self.calls.push(call);
        if self.hole == Some(addr) {
            return Err(NAK);
        }
        self.trouble.pop_front().flatten().map_or(Ok(()), Err)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.next = self.next.wrapping_add(1);
            *byte = self.next;
        }
    }
}

pub const NAK: ErrorKind =
    ErrorKind::NoAcknowledge(embedded_hal::i2c::NoAcknowledgeSource::Address);

impl ErrorType for Recorder {
    type Error = ErrorKind;
}

/// An address, as [`Call`] records it.
pub trait Recorded: AddressMode {
    fn recorded(self) -> u16;
}

impl Recorded for u8 {
    fn recorded(self) -> u16 {
        self.into()
    }
}

impl Recorded for u16 {
    fn recorded(self) -> u16 {
        self + 0x1000
    }
}

impl<A: Recorded> Bus<A> for Recorder {
    fn read(&mut self, address: A, bytes: &mut [u8]) -> Result<(), ErrorKind> {
        self.called(Read(address.recorded(), bytes.len()))?;
        self.fill(bytes);
        Ok(())
    }
    fn write(&mut self, address: A, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.called(Write(address.recorded(), bytes.to_vec()))
    }
    fn write_read(&mut self, address: A, sent: &[u8], bytes: &mut [u8]) -> Result<(), ErrorKind> {
        self.called(WriteRead(address.recorded(), sent.to_vec(), bytes.len()))?;
        self.fill(bytes);
        Ok(())
    }
    fn transaction(&mut self, _: A, _: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        panic!("the adapter must not call this");
    }
}

/// A request with one buffer of data.
#[derive(Clone, Debug)]
pub struct Message {
    pub addr: u16,
    pub flags: u32,
    pub data: Data,
}

#[derive(Clone, Debug)]
pub enum Data {
    Sent(Vec<u8>),
    Room(u32),
}

/// A write to the chip at this 7-bit address.
pub fn write(chip: u8, bytes: &[u8]) -> Message {
    Message {
        addr: u16::from(chip) << 1,
        flags: 0,
        data: Data::Sent(bytes.to_vec()),
    }
}

/// A read of this many bytes from the chip at this 7-bit address.
pub fn read(chip: u8, len: u32) -> Message {
    Message {
        addr: u16::from(chip) << 1,
        flags: M_RD,
        data: Data::Room(len),
    }
}

impl Message {
    /// Marks this request as one that another of its group follows.
    pub fn and(mut self) -> Self {
        self.flags |= FAIL_NEXT;
        self
    }
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: u8,
    pub used: u32,
    /// The bytes of the buffer.
    pub data: Vec<u8>,
}

/// A write that succeeded, or a read of no bytes.
pub fn done() -> Outcome {
    Outcome {
        status: OK,
        used: 1,
        data: vec![],
    }
}

/// A read that returned these bytes.
pub fn got(data: impl IntoIterator<Item = u8>) -> Outcome {
    let data: Vec<u8> = data.into_iter().collect();
    Outcome {
        status: OK,
        used: data.len() as u32 + 1,
        data,
    }
}

/// A write that failed, or a read of no bytes.
pub fn failed() -> Outcome {
    Outcome {
        status: ERR,
        used: 1,
        data: vec![],
    }
}

/// A read of this many bytes that failed. The device writes as many zeros as a read may have, and
/// the status behind them. Zephyr calls a used length of 0 a short response; Linux and QEMU ignore
/// the length.
pub fn failed_read(len: usize) -> Outcome {
    let mut data = vec![0; len.min(BYTES)];
    data.resize(len, UNTOUCHED);
    Outcome {
        status: ERR,
        used: len.min(BYTES) as u32 + u32::from(len <= BYTES),
        data,
    }
}

/// A live adapter, and its driver.
#[derive(Debug)]
pub struct I2cRig<B: I2cBus, M: DriverMem = FlatMem> {
    pub engine: TestEngine<I2c<B, BYTES>, M>,
    pub driver: FakeDriver<FlatMem>,
    pub ram: TestRam,
    /// Heads, in the order in which the device returned them.
    pub order: Vec<u16>,
}

/// The features that every driver negotiates.
pub fn features() -> Features {
    Features::RING | ZERO_LENGTH_REQUEST
}

impl I2cRig<Recorder> {
    /// Makes an adapter that answers every request at once.
    pub fn new() -> Self {
        Self::over(Recorder::default())
    }

    /// Makes an adapter that combines requests, with this number of chain slots.
    pub fn with_combining(slots: usize) -> Self {
        I2cRig::with(I2c::new(Recorder::default()).with_combining(), slots)
    }

    /// Sets errors for the next calls of the bus.
    pub fn trouble(&mut self, trouble: impl IntoIterator<Item = Option<ErrorKind>>) {
        self.engine.model_mut().bus_mut().trouble = trouble.into_iter().collect();
    }

    /// Takes the calls of the bus since the last call of this function.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.engine.model_mut().bus_mut().calls)
    }
}

impl I2cRig<TenBit<Recorder>> {
    /// Takes the calls of the bus since the last call of this function.
    pub fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.engine.model_mut().bus_mut().0.calls)
    }
}

impl<B: I2cBus> I2cRig<B> {
    /// Makes an adapter over this bus. It has one slot, because every request is answered at once.
    pub fn over(bus: B) -> Self {
        Self::with(I2c::new(bus), 1)
    }

    pub fn with(model: I2c<B, BYTES>, slots: usize) -> Self {
        let ram = ram();
        Self::at(model, ram.flat(BASE), ram, slots)
    }
}

impl<B: I2cBus, M: DriverMem> I2cRig<B, M> {
    /// Like [`with`](Self::with); the device sees memory through `mem`.
    pub fn at(model: I2c<B, BYTES>, mem: M, ram: TestRam, slots: usize) -> Self {
        let mut engine = engine_over(model, mem, slots);
        assert!(engine.bring_up(features(), &[config(0)]));
        Self {
            engine,
            driver: driver(ram, 0),
            ram,
            order: Vec::new(),
        }
    }

    /// Address of request `index`: the header. The data is at offset 0x10, the status at 0x200.
    pub fn place(index: usize) -> u64 {
        DATA + 0x400 * index as u64
    }

    /// Writes a request to memory; returns its chain.
    pub fn put(&mut self, index: usize, message: &Message) -> Vec<Buffer> {
        let at = Self::place(index);
        self.driver.write(at, &message.addr.to_le_bytes());
        self.driver.write(at + 2, &[0; 2]);
        self.driver.write(at + 4, &message.flags.to_le_bytes());
        self.driver.write(at + 0x200, &[UNTOUCHED]);
        let mut buffers = vec![Buffer::readable(at, 8)];
        match &message.data {
            Data::Sent(bytes) if bytes.is_empty() => {}
            Data::Sent(bytes) => {
                self.driver.write(at + 0x10, bytes);
                buffers.push(Buffer::readable(at + 0x10, bytes.len() as u32));
            }
            Data::Room(0) => {}
            Data::Room(len) => {
                self.driver
                    .write(at + 0x10, &vec![UNTOUCHED; *len as usize]);
                buffers.push(Buffer::writable(at + 0x10, *len));
            }
        }
        buffers.push(Buffer::writable(at + 0x200, 1));
        buffers
    }

    /// Writes a request to memory and offers its chain. There is room for five requests at a time.
    pub fn offer(&mut self, index: usize, message: &Message) {
        let buffers = self.put(index, message);
        let head = 3 * index as u16;
        self.driver.write_chain(head, &buffers);
        self.driver.offer(head);
    }

    /// Publishes the offered chains, kicks, and polls until nothing is left; returns the last step.
    pub fn run(&mut self) -> Step {
        self.driver.publish();
        let _ = self.engine.kick(0);
        self.poll()
    }

    /// Polls until nothing is left to do.
    pub fn poll(&mut self) -> Step {
        for _ in 0..100 {
            match self.engine.poll(BUDGET) {
                Step::More => {}
                step => return step,
            }
        }
        panic!("the device always finds more to do");
    }

    /// Takes the heads and lengths of the returned chains.
    pub fn take_used(&mut self) -> Vec<(u16, u32)> {
        std::iter::from_fn(|| self.driver.take_used())
            .map(|(head, used)| (head as u16, used))
            .collect()
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver.read(addr, &mut bytes);
        bytes
    }

    pub fn status(&self, index: usize) -> u8 {
        self.bytes(Self::place(index) + 0x200, 1)[0]
    }

    pub fn outcome(&self, index: usize, message: &Message, used: u32) -> Outcome {
        let len = match message.data {
            Data::Sent(_) => 0,
            Data::Room(len) => len as usize,
        };
        let data = self.bytes(Self::place(index) + 0x10, len);
        Outcome {
            status: self.status(index),
            used,
            data,
        }
    }

    /// Sends these requests at once; returns their results. Each request must be answered once.
    pub fn ask(&mut self, messages: &[Message]) -> Vec<Outcome> {
        for (index, message) in messages.iter().enumerate() {
            self.offer(index, message);
        }
        assert_eq!(self.run(), Step::Idle);
        let used = self.take_used();
        self.order = used.iter().map(|(head, _)| *head).collect();
        assert_eq!(used.len(), messages.len());
        let outcome = |(index, message): (usize, &Message)| {
            let head = 3 * index as u16;
            let len = used
                .iter()
                .find(|used| used.0 == head)
                .expect("an answer")
                .1;
            self.outcome(index, message, len)
        };
        messages.iter().enumerate().map(outcome).collect()
    }

    /// Sends one request; returns its result.
    pub fn one(&mut self, message: Message) -> Outcome {
        self.ask(&[message]).remove(0)
    }

    /// Sends a chain of any buffers at head 0; returns the used length, if the chain came back.
    pub fn send(&mut self, buffers: &[Buffer]) -> Option<u32> {
        self.driver.write_chain(0, buffers);
        self.driver.offer(0);
        self.run();
        self.take_used().first().map(|used| used.1)
    }

    pub fn host_fault(&mut self) -> Option<HostFault> {
        self.engine.take_host_fault()
    }
}
