//! A device behind a Unix socket. Each register access of the driver is a message; each reply is 8
//! bytes. Driver and device share memory. In this example both run in one process.
//!
//! `cargo run -p virtside-std --features guest --example unix_socket`

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::{thread, time::Duration};

use virtio_drivers::device::rng::VirtIORng;
use virtside::{ChainSlot, Engine, Shared, mmio::Access, models::Entropy};
use virtside_std::guest::{GuestHal, Port, PortTransport};
use virtside_std::{AccessSource, Ended, Event, OsEntropy, VmMem, serve};

/// Offset, width, and the value of a store; no value for a load.
type Message = (u32, u8, Option<u64>);

/// The device's end. A thread reads the socket, so that `wait` supports any timeout.
struct Server {
    accesses: mpsc::Receiver<Access>,
    socket: UnixStream,
}

fn read_messages(mut socket: UnixStream, accesses: &mpsc::Sender<Access>) {
    let mut buffer = [0; 32];
    while let Ok((message, _)) = postcard::from_io((&mut socket, &mut buffer)) {
        let access = match message {
            (offset, width, None) => Access::Read { offset, width },
            (offset, width, Some(value)) => Access::Write {
                offset,
                width,
                value,
            },
        };
        let _ = accesses.send(access);
    }
}

impl AccessSource for Server {
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        match self.accesses.recv_timeout(timeout.unwrap_or(Duration::MAX)) {
            Ok(access) => Ok(Event::Access(access)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(Event::Woken),
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(Event::End),
        }
    }
    fn complete(&mut self, value: u64) -> io::Result<()> {
        self.socket.write_all(&value.to_le_bytes())
    }
}

/// The driver's end.
struct Client(UnixStream);

impl Client {
    fn request(&self, message: Message) -> io::Result<u64> {
        postcard::to_io(&message, &self.0).map_err(io::Error::other)?;
        let mut reply = [0; 8];
        (&self.0).read_exact(&mut reply)?;
        Ok(u64::from_le_bytes(reply))
    }
}

impl Port for Client {
    type Closed = io::Error;
    fn read(&self, offset: u32, width: u8) -> io::Result<u64> {
        self.request((offset, width, None))
    }
    fn write(&self, offset: u32, width: u8, value: u64) -> io::Result<()> {
        self.request((offset, width, Some(value))).map(drop)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (server, client) = UnixStream::pair()?;
    let memory = VmMem::new(GuestHal::memory()?);
    let device = thread::spawn(move || {
        let (slots, shared) = ([ChainSlot::new()], Arc::new(Shared::<1>::new()));
        let mut engine: Engine<_, _, _, 1, 16, _, _> =
            Engine::new(Entropy::new(OsEntropy), memory, (), slots, shared);
        let (sender, accesses) = mpsc::channel();
        let socket = server.try_clone()?;
        thread::spawn(move || read_messages(server, &sender));
        serve(&mut engine, &mut Server { accesses, socket }, &mut ())
    });
    let mut driver = VirtIORng::<GuestHal, _>::new(PortTransport::new(Client(client))?)?;
    let mut bytes = [0; 64];
    assert_eq!(driver.request_entropy(&mut bytes)?, 64);
    assert!(bytes.iter().any(|byte| *byte != 0));
    drop(driver);
    let ended = device.join().expect("the loop does not panic")?;
    assert_eq!(ended, Ended::Stream);
    println!("64 random bytes through a socket: {:02x?} ..", &bytes[..8]);
    Ok(())
}
