//! Drives the i2c adapter with virtside's fake driver, because there is no third-party driver.

use virtio_drivers::{BufferDirection, Hal};
use virtside::{
    Features, FlatMem,
    memory::Ram,
    mmio::{Access, Reply},
    models::i2c::ZERO_LENGTH_REQUEST,
    testing::{Buffer, FakeDriver, Layout, Registers},
};

use super::{Failure, MailPort, Outcome, SharedHal, expect, interrupts};
use crate::{
    platform,
    shared::{BASE, BYTES, COMMON},
};

/// Address of the sensor.
const SENSOR: u16 = 0x48;
/// Address without a chip.
const NOBODY: u16 = 0x49;

const FAIL_NEXT: u32 = 1;
const M_RD: u32 = 2;

impl Registers for MailPort {
    fn reach(&mut self, access: Access) -> Reply {
        Reply::Done(self.access(access))
    }
}

/// Bytes of each request. Requests start at the beginning of a page.
const REQUEST: u64 = 64;
/// Offset of the data in a request; the status follows at its own offset.
const DATA: u64 = 16;
const STATUS: u64 = 48;

struct Bus {
    port: MailPort,
    rings: FakeDriver<FlatMem>,
    page: u64,
    head: u16,
}

/// A request that is in the queue.
struct Sent {
    at: u64,
    len: usize,
}

impl Bus {
    fn bring_up(mut port: MailPort) -> Outcome<Self> {
        let ram: &'static Ram<BYTES> = &COMMON.ram;
        let (start, _) = SharedHal::dma_alloc(1, BufferDirection::Both);
        let rings = FakeDriver::new(ram.flat(BASE), Layout::packed_at(start, 8));
        let wanted = Features::VERSION_1.union(ZERO_LENGTH_REQUEST);
        expect(
            port.offered().contains(wanted),
            "zero-length requests are offered",
        )?;
        expect(
            port.bring_up(wanted, &[rings.config(0)]),
            "the adapter goes live",
        )?;
        let page = (rings.layout().end() | (REQUEST - 1)) + 1;
        Ok(Self {
            port,
            rings,
            page,
            head: 0,
        })
    }

    /// Puts a request into the queue: a write of `data`, or a read of the same length.
    fn put(&mut self, address: u16, flags: u32, data: &[u8]) -> Sent {
        let head = self.head;
        self.head = (head + 3) % 6;
        let at = self.page + u64::from(head) * REQUEST;
        let [a, b] = (address << 1).to_le_bytes();
        let [f, g, h, i] = flags.to_le_bytes();
        self.rings.write(at, &[a, b, 0, 0, f, g, h, i]);
        self.rings.write(at + DATA, data);
        self.rings.write(at + STATUS, &[0xff]);
        let len = data.len() as u32;
        let header = Buffer::readable(at, 8);
        let status = Buffer::writable(at + STATUS, 1);
        let body = if flags & M_RD == 0 {
            Buffer::readable(at + DATA, len)
        } else {
            Buffer::writable(at + DATA, len)
        };
        if len == 0 {
            self.rings.write_chain(head, &[header, status]);
        } else {
            self.rings.write_chain(head, &[header, body, status]);
        }
        self.rings.offer(head);
        Sent {
            at,
            len: data.len(),
        }
    }

    /// Kicks, and waits for the interrupt.
    fn go(&mut self) {
        let before = interrupts();
        self.rings.publish();
        let _ = self.port.kick(0);
        platform::wait_until(|| interrupts() != before);
        let pending = self.port.load(0x60);
        let _ = self.port.store(0x64, pending);
        while self.rings.take_used().is_some() {}
    }

    /// Returns the bytes of a successful read.
    fn answer(&self, sent: &Sent) -> Option<[u8; 2]> {
        let mut status = [0xff];
        self.rings.read(sent.at + STATUS, &mut status);
        let mut data = [0; 2];
        if let Some(data) = data.get_mut(..sent.len) {
            self.rings.read(sent.at + DATA, data);
        }
        (status == [0]).then_some(data)
    }

    fn write(&mut self, address: u16, data: &[u8]) -> bool {
        let sent = self.put(address, 0, data);
        self.go();
        self.answer(&sent).is_some()
    }

    /// Sends a group of two requests: the register's number and a read.
    fn read(&mut self, address: u16, register: u8) -> Option<u16> {
        let pointer = self.put(address, FAIL_NEXT, &[register]);
        let value = self.put(address, M_RD, &[0; 2]);
        self.go();
        self.answer(&pointer)?;
        self.answer(&value).map(u16::from_be_bytes)
    }
}

pub(super) fn run(port: MailPort) -> Outcome {
    let mut bus = Bus::bring_up(port)?;
    let raw = bus
        .read(SENSOR, 0)
        .ok_or(Failure::Wrong("the sensor answers"))?;
    defmt::info!(
        "driver i2c: {=u16}.{=u16:02} degrees",
        raw >> 8,
        (raw & 0xff) * 100 / 256
    );
    expect(bus.write(SENSOR, &[3, 0x55, 0x80]), "a limit can be set")?;
    let limit = bus.read(SENSOR, 3);
    defmt::info!("driver i2c: limit {=u16:#06x}", limit.unwrap_or(0));
    expect(limit == Some(0x5580), "the limit reads as it was set")?;
    let (here, there) = (bus.write(SENSOR, &[]), bus.write(NOBODY, &[]));
    let failed = bus.read(NOBODY, 0).is_none();
    defmt::info!("driver i2c: {=bool} at 0x48, {=bool} at 0x49", here, there);
    expect(here && !there && failed, "only the sensor answers")?;
    let _ = bus.port.store(0x70, 0);
    Ok(())
}
