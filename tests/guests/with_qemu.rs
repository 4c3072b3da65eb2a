//! Rows with Debian's Linux in QEMU as the guest.

use std::{thread, time::Duration};

use crate::{
    image,
    outcome::{Outcome, check},
    qemu::Machine,
    rows::{Bench, Initrd, LIMIT, Ring, Verified, device},
    service::Service,
    with_uml,
};

/// How often the service is killed.
const KILLS: u32 = 3;

/// Serves a source of entropy with this ring format. QEMU's device of this kind passes the offer of
/// the service on, whatever its option `packed` says.
fn serve_rng(bench: &Bench<'_>, ring: Ring) -> Outcome<Service> {
    let mut arguments = vec!["rng"];
    if ring == Ring::Split {
        arguments.push("--no-packed");
    }
    Service::start(&bench.tools.virtside, &bench.folder, &arguments)
}

/// Serves a new disk image.
fn serve_blk(bench: &Bench<'_>) -> Outcome<Service> {
    let image = image::make(&bench.folder)?.display().to_string();
    let arguments = ["blk", "--disk", &image];
    Service::start(&bench.tools.virtside, &bench.folder, &arguments)
}

/// A machine with these devices.
fn machine(
    bench: &Bench<'_>,
    ring: Ring,
    devices: &[(&'static str, &Service)],
    checks: &'static str,
) -> Outcome<Machine> {
    let sockets = devices
        .iter()
        .map(|(kind, service)| (*kind, service.socket().to_owned()));
    Ok(Machine {
        folder: bench.folder.clone(),
        initrd: bench.tools.initrd(Initrd::Qemu)?.to_owned(),
        packed: ring.is_packed(),
        devices: sockets.collect(),
        suspends: false,
        reconnects: false,
        checks,
    })
}

/// A disk and a source of entropy. The machine is stopped in the middle of writes.
pub fn devices(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let folder = &bench.folder;
    let blk = serve_blk(bench)?;
    let rng = serve_rng(bench, ring)?;
    let machine = machine(
        bench,
        ring,
        &[("blk", &blk), ("rng", &rng)],
        "direct,blk,rng",
    )?;
    let (mut guest, mut monitor) = machine.boot()?;
    guest.wait_for("direct.data", LIMIT)?;
    for _ in 0..5 {
        monitor.execute("stop")?;
        thread::sleep(Duration::from_millis(50));
        monitor.execute("cont")?;
        thread::sleep(Duration::from_millis(50));
    }
    let report = guest.finish(LIMIT)?;
    blk.stop()?;
    rng.stop()?;
    report.check_ring(ring.is_packed(), &[device::BLK, device::RNG])?;
    report.expect("direct.verified", "4")?;
    image::check_files(folder, &report)?;
    with_uml::check_entropy(&report)?;
    Verified::by("as uml; 128 KiB of entropy; 5 stops of the machine")
}

/// A guest that suspends to RAM and wakes up, twice.
pub fn suspend(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    /// Bytes of a copy that the guest writes: one before, and one after each time.
    const COPY: u64 = 4 << 20;
    let folder = &bench.folder;
    let blk = serve_blk(bench)?;
    let rng = serve_rng(bench, ring)?;
    let machine = Machine {
        suspends: true,
        ..machine(bench, ring, &[("blk", &blk), ("rng", &rng)], "suspend")?
    };
    let (mut guest, mut monitor) = machine.boot()?;
    for _ in 0..2 {
        monitor.wait_for("SUSPEND")?;
        thread::sleep(Duration::from_millis(100));
        monitor.execute("system_wakeup")?;
    }
    let report = guest.finish(LIMIT)?;
    blk.stop()?;
    rng.stop()?;
    report.check_ring(ring.is_packed(), &[device::BLK, device::RNG])?;
    check(report.all("suspend.awake").count() == 2, || {
        "the guest did not wake up twice".into()
    })?;
    report.value("suspend.verified")?;
    image::check_copies(folder, report.value("suspend.data")?, COPY, 3)?;
    Verified::by("sha256 of 12 MiB, in the guest and here; two times asleep")
}

/// A service that is killed in the middle of writes and started again.
pub fn reconnect(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    /// Bytes of a copy that the guest writes.
    const COPY: u64 = 12 << 20;
    let folder = &bench.folder;
    let mut blk = serve_blk(bench)?;
    let machine = Machine {
        reconnects: true,
        ..machine(bench, ring, &[("blk", &blk)], "long")?
    };
    let (mut guest, _monitor) = machine.boot()?;
    guest.wait_for("long.data", LIMIT)?;
    let mut kills = 0;
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(300));
        // A kill counts if it came in the middle of writes.
        if guest.report().all("long.written").next().is_some() {
            break;
        }
        kills += 1;
        blk.kill();
        thread::sleep(Duration::from_millis(100));
        blk.start_again()?;
    }
    check(kills != 0, || "the guest was done before the kill".into())?;
    let report = guest.finish(LIMIT)?;
    blk.stop()?;
    report.check_ring(ring.is_packed(), &[device::BLK])?;
    report.expect("long.verified", "4")?;
    report.expect("long.errors", "0")?;
    image::check_copies(folder, report.value("long.data")?, COPY, 4)?;
    Verified::by(format!(
        "sha256 of 48 MiB, there and here; {kills} kills of the service"
    ))
}
