//! A device of your own: it returns the bytes that the driver sends.
//!
//! `cargo run -p virtside --features testing --example echo`

use embedded_io::{Read, Write};
use virtside::{
    Answer, ChainSlot, DeviceConfig, DeviceModel, DriverFault, DriverMem, Engine, Features,
    HostFault, Request, Shared, Step,
    memory::Ram,
    testing::{Buffer, Registers, fake_queue},
};

struct Echo;

impl DeviceConfig for Echo {
    fn device_id(&self) -> u32 {
        63
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue == 0 { 16 } else { 0 }
    }
}

impl DeviceModel for Echo {
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let mut bytes = [0; 64];
        while request.writable.remaining() > 0 {
            let copied = match request.readable.read(&mut bytes) {
                Ok(0) => break,
                Ok(len) => request.writable.write(bytes.get(..len).unwrap_or(&[])),
                Err(error) => Err(error),
            };
            if let Err(error) = copied {
                // The memory of the chain is gone: this is the host's fault, not the driver's.
                request.report(HostFault::from(error));
                break;
            }
        }
        let written = request.writable.written();
        Ok(Answer::Done { written })
    }
}

static RAM: Ram<8192> = Ram::new();
static SHARED: Shared<1> = Shared::new();

fn main() {
    let mut device: Engine<_, _, _> =
        Engine::new(Echo, RAM.flat(0), (), [ChainSlot::new()], &SHARED);

    // The driver sets the device up, sends a chain, and kicks.
    let mut driver = fake_queue(RAM.flat(0), 0, 8);
    assert!(device.bring_up(Features::VERSION_1, &[driver.config(0)]));
    driver.write(0x1000, b"hello");
    driver.send(
        0,
        &[Buffer::readable(0x1000, 5), Buffer::writable(0x1100, 16)],
    );
    let _ = device.kick(0);

    assert_eq!(device.poll(4), Step::Idle);
    assert_eq!(driver.take_used(), Some((0, 5)));
    let mut answer = [0; 5];
    driver.read(0x1100, &mut answer);
    assert_eq!(&answer, b"hello");
    println!(
        "the device sent back {:?}",
        String::from_utf8_lossy(&answer)
    );
}
