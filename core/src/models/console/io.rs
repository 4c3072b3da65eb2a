//! What a port is to the console device.

use core::cell::RefCell;

use embedded_io::{Read, ReadReady, Write, WriteReady};

/// Why a port did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConsoleError {
    /// Not now: call `backend_ready` for the queue when it can.
    NotReady,
    /// It failed: [`HostFault::Backend`](crate::HostFault) is reported. What it was to be given is
    /// lost; what it was asked for is waited for.
    Failed,
}

/// The host's end of a port: what the driver writes goes in, what the driver reads comes out.
///
/// An `embedded_io` stream becomes one as an [`IoPort`], two halves as a [`SplitPort`]. Ports of
/// several kinds share an array as `&mut dyn ConsolePort`.
pub trait ConsolePort {
    /// Whether [`read`](Self::read) has something to give. Buffers stay with the driver while not.
    fn has_input(&self) -> bool;

    /// Fills the start of `bytes`; says how many, at least one.
    ///
    /// # Errors
    /// [`ConsoleError`]; no byte of `bytes` is used then. `Ok(0)` is taken for
    /// [`ConsoleError::NotReady`].
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError>;

    /// Takes the start of `bytes`; says how many, at least one. The rest is offered again, so that
    /// nothing is written twice. A port that takes only so much at a time, and is
    /// [`ConsoleError::NotReady`] then, bounds the time that one of the driver's buffers takes.
    ///
    /// # Errors
    /// [`ConsoleError`]; no byte of `bytes` was taken then. `Ok(0)` is taken for
    /// [`ConsoleError::NotReady`].
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError>;

    /// An emergency write of the driver, maybe of one that never got further. By default it is
    /// written like any other byte, and lost if the port is not ready.
    fn emergency(&mut self, byte: u8) {
        let _ = self.write(&[byte]);
    }

    /// The driver opened (true) or closed its end; with `VIRTIO_CONSOLE_F_MULTIPORT` only.
    fn driver_open(&mut self, open: bool) {
        let _ = open;
    }
}

impl<T: ConsolePort + ?Sized> ConsolePort for &mut T {
    fn has_input(&self) -> bool {
        (**self).has_input()
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        (**self).read(bytes)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        (**self).write(bytes)
    }
    fn emergency(&mut self, byte: u8) {
        (**self).emergency(byte);
    }
    fn driver_open(&mut self, open: bool) {
        (**self).driver_open(open);
    }
}

/// A port that cannot tell counts as ready: the next call finds out.
fn readable(io: &RefCell<impl ReadReady>) -> bool {
    io.try_borrow_mut()
        .is_ok_and(|mut io| io.read_ready().unwrap_or(true))
}

fn read(io: &mut (impl Read + ReadReady), bytes: &mut [u8]) -> Result<usize, ConsoleError> {
    match io.read_ready() {
        Ok(true) => io.read(bytes).map_err(|_| ConsoleError::Failed),
        Ok(false) => Err(ConsoleError::NotReady),
        Err(_) => Err(ConsoleError::Failed),
    }
}

fn write(io: &mut (impl Write + WriteReady), bytes: &[u8]) -> Result<usize, ConsoleError> {
    match io.write_ready() {
        Ok(true) => io.write(bytes).map_err(|_| ConsoleError::Failed),
        Ok(false) => Err(ConsoleError::NotReady),
        Err(_) => Err(ConsoleError::Failed),
    }
}

/// A stream of `embedded_io` as a port. It is only read and written while it says that it is ready,
/// so it never blocks; it is never flushed.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IoPort<T> {
    /// To be asked whether it is ready, a stream has to be borrowed mutably.
    io: RefCell<T>,
}

impl<T> IoPort<T> {
    /// The port of this stream.
    pub const fn new(io: T) -> Self {
        Self {
            io: RefCell::new(io),
        }
    }

    /// The stream.
    pub fn io_mut(&mut self) -> &mut T {
        self.io.get_mut()
    }
}

impl<T: Read + ReadReady + Write + WriteReady> ConsolePort for IoPort<T> {
    fn has_input(&self) -> bool {
        readable(&self.io)
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        read(self.io.get_mut(), bytes)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        write(self.io.get_mut(), bytes)
    }
}

/// Two halves of `embedded_io`, such as of a UART, as a port; else like [`IoPort`].
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SplitPort<R, W> {
    reader: RefCell<R>,
    writer: W,
}

impl<R, W> SplitPort<R, W> {
    /// The port of these halves.
    pub const fn new(reader: R, writer: W) -> Self {
        Self {
            reader: RefCell::new(reader),
            writer,
        }
    }

    /// The half that the driver reads from.
    pub fn reader_mut(&mut self) -> &mut R {
        self.reader.get_mut()
    }

    /// The half that the driver writes to.
    pub const fn writer_mut(&mut self) -> &mut W {
        &mut self.writer
    }
}

impl<R: Read + ReadReady, W: Write + WriteReady> ConsolePort for SplitPort<R, W> {
    fn has_input(&self) -> bool {
        readable(&self.reader)
    }
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError> {
        read(self.reader.get_mut(), bytes)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        write(&mut self.writer, bytes)
    }
}
