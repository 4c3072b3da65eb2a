//! The back end of a console port: the [`ConsolePort`] trait, and ports over `embedded_io` streams.

use core::cell::RefCell;

use embedded_io::{Read, ReadReady, Write, WriteReady};

/// Error of a [`ConsolePort`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConsoleError {
    /// The port cannot read or write a byte now. Call `backend_ready` for the queue when it can.
    NotReady,
    /// The port failed, and the device reports [`HostFault::Backend`](crate::HostFault).
    ///
    /// After a failed write, the device discards the unwritten bytes of the buffer. After a failed
    /// read, the device does the same as for [`NotReady`](Self::NotReady).
    Failed,
}

/// The host's end of a port. The device writes the driver's output to it, and reads the driver's
/// input from it.
///
/// An [`IoPort`] is a port over one `embedded_io` stream. A [`SplitPort`] is a port over a reader
/// and a writer. To put ports of several types into one array, use `&mut dyn ConsolePort`.
pub trait ConsolePort {
    /// Returns whether [`read`](Self::read) has input. If false, the driver's buffers stay in the
    /// ring.
    fn has_input(&self) -> bool;

    /// Fills the start of `bytes` with input for the driver, and returns the number of filled
    /// bytes, at least 1.
    ///
    /// # Errors
    /// [`ConsoleError`]; the device then ignores the contents of `bytes`. `Ok(0)` is handled as
    /// [`ConsoleError::NotReady`].
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ConsoleError>;

    /// Writes the start of `bytes`, and returns the number of written bytes, at least 1. The device
    /// passes the remaining bytes in a later call, so no byte is written twice.
    ///
    /// To limit the time that one buffer of the driver takes, a port may accept a limited number of
    /// bytes and then return [`ConsoleError::NotReady`].
    ///
    /// # Errors
    /// [`ConsoleError`]; the port must then have written no byte of `bytes`. `Ok(0)` is handled as
    /// [`ConsoleError::NotReady`].
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError>;

    /// Writes a byte that the driver sent by an emergency write. The driver may do that before it
    /// sets up the device.
    ///
    /// The default calls [`write`](Self::write), and discards the byte if the port is not ready.
    fn emergency(&mut self, byte: u8) {
        let _ = self.write(&[byte]);
    }

    /// Called when the driver's end of the port opens (true) or closes (false). Only a driver with
    /// `VIRTIO_CONSOLE_F_MULTIPORT` opens its end. A reset of the device and
    /// [`unplug`](super::Port::unplug) close the driver's end if it is open. The default does
    /// nothing.
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

/// Returns whether the stream has bytes to read. A stream that fails to answer counts as ready,
/// because the next read then reports the error.
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

/// A port over an `embedded_io` stream.
///
/// The port reads and writes the stream only while the stream is ready, so no call blocks. The port
/// never flushes the stream.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct IoPort<T> {
    /// In a cell, because `ReadReady::read_ready` needs a mutable borrow.
    io: RefCell<T>,
}

impl<T> IoPort<T> {
    /// Creates a port over this stream.
    pub const fn new(io: T) -> Self {
        Self {
            io: RefCell::new(io),
        }
    }

    /// Returns the stream for changes.
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

/// A port over an `embedded_io` reader and writer, such as the two halves of a UART. It works like
/// an [`IoPort`].
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SplitPort<R, W> {
    reader: RefCell<R>,
    writer: W,
}

impl<R, W> SplitPort<R, W> {
    /// Creates a port over this reader and this writer.
    pub const fn new(reader: R, writer: W) -> Self {
        Self {
            reader: RefCell::new(reader),
            writer,
        }
    }

    /// Returns the reader, which supplies the input of the driver.
    pub fn reader_mut(&mut self) -> &mut R {
        self.reader.get_mut()
    }

    /// Returns the writer, which receives the output of the driver.
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
