//! Rows with Debian's Linux in QEMU as the guest.

use std::{thread, time::Duration};

use crate::{
    image,
    outcome::{Outcome, check},
    qemu::Machine,
    rows::{Bench, Initrd, LIMIT, Ring, Verified, device},
    service::Service,
};

/// How often the service is killed.
const KILLS: u32 = 3;

/// A service that is killed in the middle of writes and started again.
pub fn reconnect(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    /// Bytes of a copy that the guest writes.
    const COPY: u64 = 12 << 20;
    let folder = &bench.folder;
    let image = image::make(folder)?.display().to_string();
    let virtside = &bench.tools.virtside;
    let mut blk = Service::start(virtside, folder, &["blk", "--disk", &image])?;
    let machine = Machine {
        folder: folder.clone(),
        initrd: bench.tools.initrd(Initrd::Qemu)?.to_owned(),
        packed: ring.is_packed(),
        devices: vec![("blk", blk.socket().to_owned())],
        suspends: false,
        reconnects: true,
        checks: "long",
    };
    let (mut guest, _monitor) = machine.boot()?;
    guest.wait_for("long.data", LIMIT)?;
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(300));
        blk.kill();
        thread::sleep(Duration::from_millis(100));
        blk.start_again()?;
    }
    // The copies take longer than the kills, or the kills were not in the middle of writes.
    let written = guest.report().all("long.written").next().is_some();
    check(!written, || {
        "the guest was done before the last kill".into()
    })?;
    let report = guest.finish(LIMIT)?;
    blk.stop()?;
    report.check_ring(ring.is_packed(), &[device::BLK])?;
    report.expect("long.verified", "4")?;
    report.expect("long.errors", "0")?;
    image::check_copies(folder, report.value("long.data")?, COPY, 4)?;
    Verified::by(format!(
        "sha256 of 48 MiB, there and here; {KILLS} kills of the service"
    ))
}
