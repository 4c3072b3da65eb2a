//! A server whose disk does nothing: it measures the device alone.

use std::{fs, os::unix::net::UnixListener, path::Path, time::Duration};

use virtside::{
    memory::DeviceRange,
    models::{Block, BlockBackend, BlockError, BlockFeatures, BlockOptions},
};
use virtside_std::vhost_user::VhostUserDevice;

use crate::outcome::{Outcome, failure};

/// The first argument of this program as a server. Path of the socket, bytes of the disk and
/// microseconds follow.
pub const ARGUMENT: &str = "--serve-null";

/// A disk whose reads leave the buffer as it is.
#[derive(Debug)]
struct Null {
    sectors: u64,
}

impl BlockBackend for Null {
    fn capacity(&self) -> u64 {
        self.sectors
    }
    fn features(&self) -> BlockFeatures {
        BlockFeatures {
            read_only: false,
            flush: true,
            discard: None,
            write_zeroes: None,
        }
    }
    fn read(&mut self, _: u64, _: &DeviceRange<'_>) -> Result<(), BlockError> {
        Ok(())
    }
    fn write(&mut self, _: u64, _: &DeviceRange<'_>) -> Result<(), BlockError> {
        Ok(())
    }
    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// Runs the program as a server with these arguments.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let [socket, bytes, spin] = arguments else {
        return Err(failure("a socket, bytes and microseconds are needed"));
    };
    let spin = Duration::from_micros(spin.parse()?);
    serve(Path::new(socket), bytes.parse()?, spin)
}

/// Serves a disk of `bytes` bytes at this socket, to one front end after the other.
fn serve(socket: &Path, bytes: u64, spin: Duration) -> Outcome<()> {
    let disk = Null {
        sectors: bytes / 512,
    };
    let model = Block::new(disk, BlockOptions::new(256));
    let mut device: VhostUserDevice<_, 1, 256> = VhostUserDevice::new(model, 1).with_spin(spin);
    // The client waits for this name, and finds a socket that listens.
    let early = socket.with_extension("early");
    let listener = UnixListener::bind(&early)?;
    fs::rename(&early, socket)?;
    loop {
        let (front_end, _) = listener.accept()?;
        device.serve(front_end)?;
    }
}
