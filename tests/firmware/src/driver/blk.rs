//! Drives the block device.

use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};

use super::{MailPort, Outcome, PortTransport, SharedHal, checksum, expect, interrupts};
use crate::{
    measure::{self, Scale},
    platform,
};

pub(super) fn run(transport: PortTransport<MailPort>, scale: Scale) -> Outcome {
    let mut driver = VirtIOBlk::<SharedHal, _>::new(transport)?;
    let sectors = usize::try_from(driver.capacity()).unwrap_or(0);
    defmt::info!("driver block: {=usize} sectors", sectors);

    let mut sector = [0; SECTOR_SIZE];
    let mut sum = 0u32;
    for at in 0..sectors {
        for (place, value) in sector.iter_mut().zip(at..) {
            [*place, ..] = (value * 7).to_le_bytes();
        }
        sum = sum.rotate_left(1) ^ checksum(&sector);
        driver.write_blocks(at, &sector)?;
    }
    driver.flush()?;
    defmt::info!(
        "driver block: wrote {=usize} sectors, sum {=u32:08x}",
        sectors,
        sum
    );

    let mut read = 0u32;
    for at in 0..sectors {
        driver.read_blocks(at, &mut sector)?;
        read = read.rotate_left(1) ^ checksum(&sector);
    }
    defmt::info!(
        "driver block: read {=usize} sectors, sum {=u32:08x}",
        sectors,
        read
    );
    expect(read == sum, "the data that was written is read")?;
    expect(
        driver.read_blocks(sectors, &mut sector).is_err(),
        "a read behind the end fails",
    )?;
    driver.ack_interrupt();

    by_interrupt(&mut driver, &mut sector)?;

    measure::paint(false);
    driver.read_blocks(3, &mut sector)?;
    defmt::info!(
        "measured: block, read of 512 bytes: doorbell to used index {=u32} instructions, to interrupt {=u32}",
        scale.to_publish(),
        scale.to_interrupt()
    );
    measure::paint(true);
    Ok(())
}

/// Does two reads at once, which the driver's interrupt completes.
fn by_interrupt(
    driver: &mut VirtIOBlk<SharedHal, PortTransport<MailPort>>,
    first: &mut [u8; SECTOR_SIZE],
) -> Outcome {
    let mut second = [0; SECTOR_SIZE];
    let mut requests = [BlkReq::default(), BlkReq::default()];
    let mut answers = [BlkResp::default(), BlkResp::default()];
    let before = interrupts();
    let [request, other_request] = &mut requests;
    let [answer, other_answer] = &mut answers;
    // SAFETY: request, buffer and answer stay alive and untouched until the completion below.
    let token = unsafe { driver.read_blocks_nb(1, request, first, answer) }?;
    // SAFETY: see above.
    let other = unsafe { driver.read_blocks_nb(2, other_request, &mut second, other_answer) }?;
    let mut left = 2;
    while left > 0 {
        platform::wait_until(|| interrupts() != before);
        driver.ack_interrupt();
        while let Some(used) = driver.peek_used() {
            if used == token {
                // SAFETY: these are the arguments of the request.
                unsafe { driver.complete_read_blocks(token, request, first, answer) }?;
            } else {
                // SAFETY: see above.
                unsafe {
                    driver.complete_read_blocks(other, other_request, &mut second, other_answer)
                }?;
            }
            left -= 1;
        }
    }
    defmt::info!(
        "driver block: two reads by interrupt, sums {=u32:08x} {=u32:08x}, {=u32} interrupts",
        checksum(first),
        checksum(&second),
        interrupts().wrapping_sub(before)
    );
    Ok(())
}
