//! The driver side: `main`, and the driver's interrupt.

use core::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
};

use virtio_drivers::transport::Transport;
use virtside::mmio::{Access, mailbox::Mailbox};

use crate::{
    measure::{self, Scale},
    platform,
    shared::COMMON,
};

mod blk;
mod console;
mod hal;
mod heap;
mod i2c;
mod rng;
#[path = "../../../std-adapter/src/guest/transport.rs"]
mod transport;

use hal::SharedHal;
use transport::{Port, PortTransport, ProbeError};

/// Interrupts of the driver so far.
static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

/// The driver's interrupt handler.
pub fn interrupt() {
    INTERRUPTS.store(interrupts().wrapping_add(1), Ordering::Release);
}

fn interrupts() -> u32 {
    INTERRUPTS.load(Ordering::Acquire)
}

/// Why the run failed.
#[derive(Clone, Copy, Debug, defmt::Format)]
pub enum Failure {
    /// There is no device of this kind.
    Probe(#[defmt(Debug2Format)] ProbeError<Infallible>),
    /// The driver reported this error.
    Driver(#[defmt(Debug2Format)] virtio_drivers::Error),
    /// The device did not meet this expectation.
    Wrong(&'static str),
}

impl From<ProbeError<Infallible>> for Failure {
    fn from(error: ProbeError<Infallible>) -> Self {
        Self::Probe(error)
    }
}

impl From<virtio_drivers::Error> for Failure {
    fn from(error: virtio_drivers::Error) -> Self {
        Self::Driver(error)
    }
}

type Outcome<T = ()> = Result<T, Failure>;

fn expect(truth: bool, what: &'static str) -> Outcome {
    truth.then_some(()).ok_or(Failure::Wrong(what))
}

/// Register accesses through a mailbox.
#[derive(Clone, Copy, Debug)]
struct MailPort(&'static Mailbox);

impl MailPort {
    fn access(self, access: Access) -> u64 {
        let request = self.0.ask(access);
        measure::rang();
        platform::ring_doorbell();
        loop {
            if let Some(value) = self.0.answer(request) {
                return value;
            }
            platform::wait_until(|| self.0.answer(request).is_some());
        }
    }
}

impl Port for MailPort {
    type Closed = Infallible;

    fn read(&self, offset: u32, width: u8) -> Result<u64, Infallible> {
        Ok(self.access(Access::Read { offset, width }))
    }

    fn write(&self, offset: u32, width: u8, value: u64) -> Result<(), Infallible> {
        self.access(Access::Write {
            offset,
            width,
            value,
        });
        Ok(())
    }
}

fn probe(mailbox: &'static Mailbox) -> Outcome<PortTransport<MailPort>> {
    let transport = PortTransport::new(MailPort(mailbox))?;
    defmt::info!(
        "driver: found {}, vendor {=u32:08x}",
        defmt::Debug2Format(&transport.device_type()),
        transport.vendor_id()
    );
    Ok(transport)
}

/// The Adler-32 checksum, which takes a few lines of code.
fn checksum(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (a + b) % 65521)
    });
    b << 16 | a
}

/// Drives every device in turn.
///
/// # Errors
/// The first [`Failure`].
pub fn run() -> Outcome {
    let scale = Scale::measure();
    defmt::info!(
        "1000 instructions take {=u32} ticks",
        scale.ticks_of_a_thousand()
    );
    heap::init();
    measure::paint(true);
    rng::run(probe(&COMMON.entropy)?, scale)?;
    blk::run(probe(&COMMON.block)?, scale)?;
    console::run(probe(&COMMON.console)?)?;
    i2c::run(MailPort(&COMMON.i2c))?;
    defmt::info!("driver: {=u32} interrupts", interrupts());
    Ok(())
}
