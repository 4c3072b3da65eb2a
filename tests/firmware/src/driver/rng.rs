//! Drives the entropy device.

use virtio_drivers::device::rng::VirtIORng;

use super::{MailPort, Outcome, PortTransport, SharedHal, checksum, expect, interrupts};
use crate::measure::{self, Scale};

pub(super) fn run(transport: PortTransport<MailPort>, scale: Scale) -> Outcome {
    let mut driver = VirtIORng::<SharedHal, _>::new(transport)?;
    let before = interrupts();
    let mut bytes = [0; 64];
    let mut total = 0;
    for _ in 0..16 {
        total += driver.request_entropy(&mut bytes)?;
        expect(
            !driver.ack_interrupt().is_empty(),
            "an interrupt is pending",
        )?;
    }
    defmt::info!(
        "driver entropy: {=usize} bytes, the last 64 sum to {=u32:08x}, {=u32} interrupts",
        total,
        checksum(&bytes),
        interrupts().wrapping_sub(before)
    );
    expect(total == 16 * 64, "the device fills each request")?;

    measure::paint(false);
    driver.request_entropy(&mut bytes)?;
    defmt::info!(
        "measured: entropy, 64 bytes: doorbell to used index {=u32} instructions, to interrupt {=u32}",
        scale.to_publish(),
        scale.to_interrupt()
    );
    measure::paint(true);
    Ok(())
}
