//! A controller and lines that record what the device does, and an spi driver.

use std::{cell::RefCell, rc::Rc};

use crate::{
    BASE, DATA, TestEngine, TestRam, config, driver, engine_over, ram, reg, rings::settle,
};
use embedded_hal::{
    delay::DelayNs,
    digital::{self, OutputPin},
    spi::{self, ErrorKind, SpiBus},
};
use virtside::{
    DriverMem, Features, FlatMem, HostFault, Step,
    mmio::Access,
    models::{
        Spi, SpiController,
        spi::{SpiCapabilities, SpiData, SpiError, SpiFunctions, SpiSettings, SpiWidths},
    },
    testing::{Buffer, FakeDriver, Registers},
};

pub const OK: u8 = 0;
pub const PARAM_ERR: u8 = 1;
pub const TRANS_ERR: u8 = 2;

/// Bytes of the device's buffer.
pub const BYTES: usize = 32;

/// Initial byte of result and buffer. No request may leave it there.
pub const UNTOUCHED: u8 = 0xee;

/// Addresses of a request's parts.
pub const HEAD: u64 = DATA;
pub const TX: u64 = DATA + 0x100;
pub const RX: u64 = DATA + 0x200;
pub const RESULT: u64 = DATA + 0x300;

/// The head of a request, as the driver sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub chip_select: u8,
    pub bits_per_word: u8,
    pub cs_change: u8,
    pub tx_nbits: u8,
    pub rx_nbits: u8,
    pub reserved: [u8; 3],
    pub mode: u32,
    pub freq: u32,
    pub word_delay: u32,
    pub cs_setup: u32,
    pub cs_hold: u32,
    pub cs_inactive: u32,
}

/// A head that every controller accepts: chip 0, 8 bits, mode 0, 1 MHz.
pub const PLAIN: Head = Head {
    chip_select: 0,
    bits_per_word: 8,
    cs_change: 0,
    tx_nbits: 0,
    rx_nbits: 0,
    reserved: [0; 3],
    mode: 0,
    freq: 1_000_000,
    word_delay: 0,
    cs_setup: 0,
    cs_hold: 0,
    cs_inactive: 0,
};

impl Head {
    pub fn bytes(&self) -> Vec<u8> {
        let words = [
            self.mode,
            self.freq,
            self.word_delay,
            self.cs_setup,
            self.cs_hold,
            self.cs_inactive,
        ];
        let first = [
            self.chip_select,
            self.bits_per_word,
            self.cs_change,
            self.tx_nbits,
            self.rx_nbits,
        ];
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        first
            .into_iter()
            .chain(self.reserved)
            .chain(words)
            .collect()
    }
}

/// The data of a transfer, as the controller receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Read(usize),
    Write(Vec<u8>),
    Exchange(Vec<u8>),
}

/// A controller that records transfers. It receives each sent byte plus 1.
#[derive(Debug)]
pub struct Recorder {
    pub capabilities: SpiCapabilities,
    pub calls: Vec<(SpiSettings, Data)>,
    pub trouble: Option<SpiError>,
    pub releases: u32,
}

/// Capabilities that set every field of the configuration space, each to a different number.
pub fn everything() -> SpiCapabilities {
    SpiCapabilities {
        chip_selects: 3,
        cs_change: true,
        tx_widths: SpiWidths::all(),
        rx_widths: SpiWidths::all(),
        bits_per_word_mask: 0x8000_8080,
        functions: SpiFunctions::all(),
        max_freq_hz: 8_000_000,
        max_word_delay_ns: 1000,
        max_cs_setup_ns: 2000,
        max_cs_hold_ns: 3000,
        max_cs_inactive_ns: 4000,
    }
}

impl Recorder {
    pub fn new(capabilities: SpiCapabilities) -> Self {
        Self {
            capabilities,
            calls: Vec::new(),
            trouble: None,
            releases: 0,
        }
    }
}

impl SpiController for Recorder {
    fn capabilities(&self) -> SpiCapabilities {
        self.capabilities
    }
    fn transfer(&mut self, settings: &SpiSettings, data: SpiData<'_>) -> Result<(), SpiError> {
        let (data, received) = match data {
            SpiData::Read(bytes) => (Data::Read(bytes.len()), Some(bytes)),
            SpiData::Write(bytes) => (Data::Write(bytes.to_vec()), None),
            SpiData::Exchange(bytes) => (Data::Exchange(bytes.to_vec()), Some(bytes)),
        };
        for byte in received.into_iter().flatten() {
            *byte = byte.wrapping_add(1);
        }
        self.calls.push((*settings, data));
        self.trouble.map_or(Ok(()), Err)
    }
    fn release(&mut self) {
        self.releases += 1;
    }
}

/// An event on the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Low(usize),
    High(usize),
    Read(usize),
    Write(Vec<u8>),
    Exchange(Vec<u8>),
    Flush,
    Pause(u32),
    Clock(spi::Mode, u32),
}

/// The events of all lines.
#[derive(Clone, Debug, Default)]
pub struct Log {
    events: Rc<RefCell<Vec<Event>>>,
    /// Events that fail, once for each entry.
    trouble: Rc<RefCell<Vec<Event>>>,
}

impl Log {
    pub fn note(&self, event: Event) -> Result<(), ErrorKind> {
        let mut trouble = self.trouble.borrow_mut();
        let fails = trouble.iter().position(|bad| *bad == event);
        self.events.borrow_mut().push(event);
        match fails {
            Some(at) => {
                trouble.remove(at);
                Err(ErrorKind::Other)
            }
            None => Ok(()),
        }
    }

    /// Takes the events since the last call.
    pub fn take(&self) -> Vec<Event> {
        self.events.take()
    }

    /// Lets each of these events fail once.
    pub fn fail(&self, events: impl IntoIterator<Item = Event>) {
        *self.trouble.borrow_mut() = events.into_iter().collect();
    }
}

#[derive(Debug)]
pub struct Wire(pub Log);

impl spi::ErrorType for Wire {
    type Error = ErrorKind;
}

impl SpiBus for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), ErrorKind> {
        bytes.fill(0x77);
        self.0.note(Event::Read(bytes.len()))
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), ErrorKind> {
        self.0.note(Event::Write(bytes.to_vec()))
    }
    fn transfer(&mut self, _: &mut [u8], _: &[u8]) -> Result<(), ErrorKind> {
        panic!("the controller must not call this");
    }
    fn transfer_in_place(&mut self, bytes: &mut [u8]) -> Result<(), ErrorKind> {
        let sent = bytes.to_vec();
        bytes.reverse();
        self.0.note(Event::Exchange(sent))
    }
    fn flush(&mut self) -> Result<(), ErrorKind> {
        self.0.note(Event::Flush)
    }
}

#[derive(Debug)]
pub struct Pin(pub usize, pub Log);

#[derive(Debug)]
pub struct PinError;

impl digital::Error for PinError {
    fn kind(&self) -> digital::ErrorKind {
        digital::ErrorKind::Other
    }
}

impl digital::ErrorType for Pin {
    type Error = PinError;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), PinError> {
        self.1.note(Event::Low(self.0)).map_err(|_| PinError)
    }
    fn set_high(&mut self) -> Result<(), PinError> {
        self.1.note(Event::High(self.0)).map_err(|_| PinError)
    }
}

#[derive(Debug)]
pub struct Timer(pub Log);

impl DelayNs for Timer {
    fn delay_ns(&mut self, ns: u32) {
        let _ = self.0.note(Event::Pause(ns));
    }
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub result: u8,
    pub used: u32,
    /// The bytes of the receive buffer.
    pub rx: Vec<u8>,
}

/// The result of a request without a receive buffer.
pub fn outcome(result: u8) -> Outcome {
    Outcome {
        result,
        used: 1,
        rx: vec![],
    }
}

/// The result of a request that received these bytes.
pub fn got(rx: impl IntoIterator<Item = u8>) -> Outcome {
    let rx: Vec<u8> = rx.into_iter().collect();
    Outcome {
        result: OK,
        used: rx.len() as u32 + 1,
        rx,
    }
}

/// The result of a request with a receive buffer of this length that failed. The device writes as
/// many zeros as a transfer may have, and the result behind them. Zephyr takes a used length of 0
/// for a missing result; Linux ignores the length.
pub fn refused(result: u8, len: usize) -> Outcome {
    let mut rx = vec![0; len.min(BYTES)];
    rx.resize(len, UNTOUCHED);
    Outcome {
        result,
        used: len.min(BYTES) as u32 + u32::from(len <= BYTES),
        rx,
    }
}

/// A live controller, and its driver.
#[derive(Debug)]
pub struct SpiRig<C: SpiController, M: DriverMem = FlatMem> {
    pub engine: TestEngine<Spi<C, BYTES>, M>,
    pub driver: FakeDriver<FlatMem>,
    pub ram: TestRam,
}

impl SpiRig<Recorder> {
    pub fn new() -> Self {
        Self::over(Recorder::new(everything()))
    }

    pub fn recorder(&mut self) -> &mut Recorder {
        self.engine.model_mut().controller_mut()
    }

    /// Takes the calls of the controller since the last call of this function.
    pub fn calls(&mut self) -> Vec<(SpiSettings, Data)> {
        std::mem::take(&mut self.recorder().calls)
    }
}

impl<C: SpiController> SpiRig<C> {
    pub fn over(controller: C) -> Self {
        let ram = ram();
        Self::at(controller, ram.flat(BASE), ram)
    }
}

impl<C: SpiController, M: DriverMem> SpiRig<C, M> {
    /// Like [`over`](Self::over); the device sees memory through `mem`.
    pub fn at(controller: C, mem: M, ram: TestRam) -> Self {
        let mut engine = engine_over(Spi::new(controller), mem, 1);
        assert!(engine.bring_up(Features::RING, &[config(0)]));
        Self {
            engine,
            driver: driver(ram, 0),
            ram,
        }
    }

    /// Writes a request to memory; returns its chain.
    pub fn put(&mut self, head: &Head, tx: &[u8], room: usize) -> Vec<Buffer> {
        self.driver.write(HEAD, &head.bytes());
        self.driver.write(TX, tx);
        self.driver.write(RX, &vec![UNTOUCHED; room]);
        self.driver.write(RESULT, &[UNTOUCHED]);
        let mut buffers = vec![Buffer::readable(HEAD, 32)];
        if !tx.is_empty() {
            buffers.push(Buffer::readable(TX, tx.len() as u32));
        }
        if room > 0 {
            buffers.push(Buffer::writable(RX, room as u32));
        }
        buffers.push(Buffer::writable(RESULT, 1));
        buffers
    }

    /// Sends a chain; returns the used length, if the chain came back.
    pub fn send(&mut self, buffers: &[Buffer]) -> Option<u32> {
        self.driver.send(0, buffers);
        let _ = self.engine.kick(0);
        assert_eq!(
            settle(&mut self.engine),
            Step::Idle,
            "every request is answered at once"
        );
        self.driver.take_used().map(|(head, used)| {
            assert_eq!(head, 0);
            used
        })
    }

    /// Sends `tx`, unless it is empty, with a receive buffer of `room` bytes; returns the result.
    pub fn ask(&mut self, head: Head, tx: &[u8], room: usize) -> Outcome {
        let buffers = self.put(&head, tx, room);
        let used = self.send(&buffers).expect("the request was answered");
        Outcome {
            result: self.bytes(RESULT, 1)[0],
            used,
            rx: self.bytes(RX, room),
        }
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver.read(addr, &mut bytes);
        bytes
    }

    pub fn host_fault(&mut self) -> Option<HostFault> {
        self.engine.take_host_fault()
    }
}

/// Reads the configuration space byte by byte.
pub fn space(engine: &mut impl Registers) -> Vec<u8> {
    (0..32)
        .map(|at| {
            let access = Access::Read {
                offset: reg::CONFIG + at,
                width: 1,
            };
            engine.reach(access).value().expect("a reply") as u8
        })
        .collect()
}
