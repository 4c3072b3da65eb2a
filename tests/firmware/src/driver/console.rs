//! Drives the console.

use core::fmt::Write;

use virtio_drivers::device::console::VirtIOConsole;

use super::{Failure, MailPort, Outcome, PortTransport, SharedHal, expect, interrupts};
use crate::platform;

pub(super) fn run(transport: PortTransport<MailPort>) -> Outcome {
    let mut driver = VirtIOConsole::<SharedHal, _>::new(transport)?;
    let size = driver
        .size()?
        .ok_or(Failure::Wrong("the device offers a size"))?;
    defmt::info!("driver console: {=u16}x{=u16}", size.columns, size.rows);

    let sent = "who is there?";
    let before = interrupts();
    write!(driver, "{sent}").map_err(|_| Failure::Wrong("the device takes the output"))?;
    platform::wait_until(|| interrupts() != before);
    driver.ack_interrupt()?;
    let mut bytes = [0; 32];
    let mut count = 0;
    while let Some(byte) = driver.recv(true)? {
        if let Some(place) = bytes.get_mut(count) {
            *place = byte;
        }
        count += 1;
    }
    let answer = bytes
        .get(..count)
        .and_then(|bytes| core::str::from_utf8(bytes).ok());
    let answer = answer.ok_or(Failure::Wrong("the answer has the length of the output"))?;
    defmt::info!("driver console: sent {=str}, received {=str}", sent, answer);
    expect(
        answer.eq_ignore_ascii_case(sent) && answer != sent,
        "the answer is in upper case",
    )?;

    driver.emergency_write(b'!')?;
    Ok(())
}
