//! A device in a `static`, shared by two interrupt handlers. One handler serves the register
//! accesses of the driver's core. The other is a timer handler that polls the device.
//!
//! `cargo run -p virtside --features testing,critical-section --example interrupt_handler`

use core::sync::atomic::{AtomicBool, Ordering};

use virtside::{
    ChainSlot, DriverNotify, Engine, EngineCell, Features, FlatMem, Shared, Step,
    memory::Ram,
    mmio::Access,
    models::{Entropy, EntropyError},
    testing::{Buffer, Registers, fake_queue},
    transport::Reply,
};

/// The driver's interrupt: a flag in this example, the line to the other core on a board.
static PENDED: AtomicBool = AtomicBool::new(false);
struct Irq;
impl DriverNotify for Irq {
    fn assert(&self) {
        PENDED.store(true, Ordering::Release);
    }
    fn deassert(&self) {
        PENDED.store(false, Ordering::Release);
    }
}

type Source = fn(&mut [u8]) -> Result<usize, EntropyError>;
type Device = Engine<Entropy<Source>, FlatMem, &'static Irq>;

static RAM: Ram<8192> = Ram::new();
static SHARED: Shared<1> = Shared::new();
static DEVICE: EngineCell<Device> = EngineCell::new(Engine::new(
    Entropy::new(random),
    RAM.flat(0),
    &Irq,
    [ChainSlot::new()],
    &SHARED,
));

fn random(bytes: &mut [u8]) -> Result<usize, EntropyError> {
    bytes.fill(4); // a board reads its hardware generator here
    Ok(bytes.len())
}

/// Handles the interrupt for a register access of the driver.
fn on_access(access: Access) -> Reply {
    DEVICE
        .with(|device| device.access(access))
        .unwrap_or(Reply::Busy)
}

/// Whether the last poll left work behind. The driver does not kick for that work.
static MORE: AtomicBool = AtomicBool::new(true);

/// Handles the timer interrupt: up to four requests.
fn on_timer() {
    // These two flags need no engine, and therefore no critical section.
    if SHARED.doorbell().is_silent() && !MORE.load(Ordering::Acquire) {
        return;
    }
    let step = DEVICE.with(|device| device.poll(4));
    MORE.store(step != Some(Step::Idle), Ordering::Release);
}

/// The driver's side of the bus.
struct Bus;
impl Registers for Bus {
    fn reach(&mut self, access: Access) -> Reply {
        on_access(access)
    }
}

fn main() {
    let mut driver = fake_queue(RAM.flat(0), 0, 8);
    assert!(Bus.bring_up(Features::VERSION_1, &[driver.config(0)]));
    on_timer();

    for head in 0..8 {
        driver.send(head, &[Buffer::writable(0x1000, 32)]);
    }
    let _ = Bus.kick(0);
    assert!(
        !PENDED.load(Ordering::Acquire),
        "a kick only rings the doorbell"
    );
    for _ in 0..3 {
        on_timer();
    }

    assert!(PENDED.load(Ordering::Acquire));
    for head in 0..8 {
        assert_eq!(driver.take_used(), Some((head, 32)));
    }
    let _ = Bus.store(0x64, 1); // InterruptACK
    assert!(!PENDED.load(Ordering::Acquire));
    println!("eight requests of 32 random bytes, one kick");
}
