//! Rows with User Mode Linux as the guest.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
};

use crate::{
    guest::{Guest, Report},
    image,
    outcome::{Outcome, check},
    rows::{Bench, Initrd, LIMIT, Ring, Verified, device},
    service::Service,
    tools::digest,
    uml,
};

/// Serves a device to a guest that runs these checks.
fn start(
    bench: &Bench<'_>,
    ring: Ring,
    number: u32,
    arguments: &[&str],
    checks: &str,
) -> Outcome<(Service, Guest)> {
    let mut arguments = arguments.to_vec();
    // Linux takes a packed ring if the device offers one.
    if ring == Ring::Split {
        arguments.push("--no-packed");
    }
    let initrd = bench.tools.initrd(Initrd::Uml)?;
    let linux = bench.tools.uml()?;
    let folder = &bench.folder;
    let service = Service::start(&bench.tools.virtside, folder, &arguments)?;
    let guest = uml::boot(linux, initrd, folder, service.socket(), number, checks)?;
    Ok((service, guest))
}

/// Waits for the guest and ends the service.
fn finish(ring: Ring, number: u32, service: Service, mut guest: Guest) -> Outcome<Report> {
    // After its last word, this kernel may abort while it ends its processes.
    let report = guest.halt(LIMIT)?;
    service.stop()?;
    report.check_ring(ring.is_packed(), &[number])?;
    Ok(report)
}

/// A file system on the disk.
pub fn blk(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let image = image::make(&bench.folder)?;
    let image = image.display().to_string();
    let arguments = ["blk", "--disk", &image];
    let (service, guest) = start(bench, ring, device::BLK, &arguments, "direct,blk")?;
    let report = finish(ring, device::BLK, service, guest)?;
    report.expect("direct.verified", "4")?;
    image::check_files(&bench.folder, &report)?;
    Verified::by("sha256 of 201 files and of the image, in the guest and here; e2fsck; discard")
}

/// Entropy from `/dev/hwrng`.
pub fn rng(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let (service, guest) = start(bench, ring, device::RNG, &["rng"], "rng")?;
    let report = finish(ring, device::RNG, service, guest)?;
    check_entropy(&report)?;
    Verified::by("two reads of 64 KiB that differ; each byte value occurs")
}

/// Checks what the check `rng` of the guest has seen.
pub fn check_entropy(report: &Report) -> Outcome<()> {
    report.expect("rng.source", "virtio_rng.0")?;
    report.expect("rng.bytes", "131072")?;
    report.expect("rng.values", "256")
}

/// An EEPROM.
pub fn i2c(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let arguments = ["i2c", "--simulate"];
    let (service, guest) = start(bench, ring, device::I2C, &arguments, "i2c")?;
    let report = finish(ring, device::I2C, service, guest)?;
    report.expect("i2c.chips", "50")?;
    report.expect("i2c.read", "0xde 0xad 0xbe 0xef")?;
    report.expect("i2c.next", "0x5a")?;
    report.expect("i2c.verified", "20")?;
    Verified::by("bytes read back by i2ctransfer, i2cset, i2cget; i2cdetect finds 0x50 only")
}

/// Lines that are wired to each other.
pub fn gpio(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let arguments = ["gpio", "--simulate"];
    let (service, guest) = start(bench, ring, device::GPIO, &arguments, "gpio")?;
    let report = finish(ring, device::GPIO, service, guest)?;
    let levels: Vec<_> = report.all("gpio.level").collect();
    check(levels == ["1 1", "0 0", "1 1"], || {
        format!("levels that were set and read: {levels:?}")
    })?;
    report.expect("gpio.edges", "rising falling rising falling rising falling")?;
    Verified::by("levels read back on a wired line; 6 edges by gpiomon")
}

/// A terminal whose bytes the guest sends back.
pub fn console(bench: &Bench<'_>, ring: Ring) -> Outcome<Verified> {
    let host = bench.folder.join("terminal.sock");
    let path = host.display().to_string();
    let arguments = ["console", "--socket", &path];
    let (service, mut guest) = start(bench, ring, device::CONSOLE, &arguments, "console")?;
    guest.wait_for("console.ready", LIMIT)?;
    let mut bytes = Vec::new();
    File::open("/dev/urandom")?
        .take(65536)
        .read_to_end(&mut bytes)?;
    let sent = bench.folder.join("sent");
    fs::write(&sent, &bytes)?;
    let mut terminal = UnixStream::connect(&host)?;
    terminal.set_read_timeout(Some(LIMIT))?;
    terminal.set_write_timeout(Some(LIMIT))?;
    let mut writer = terminal.try_clone()?;
    let outgoing = bytes.clone();
    let writing = thread::spawn(move || writer.write_all(&outgoing));
    let mut echoed = vec![0; bytes.len()];
    terminal.read_exact(&mut echoed)?;
    writing.join().expect("no panic")?;
    check(echoed == bytes, || "the guest sent other bytes back".into())?;
    let report = finish(ring, device::CONSOLE, service, guest)?;
    report.expect("console.digest", &digest(&sent)?)?;
    Verified::by("64 KiB there and back, compared; sha256 in the guest")
}
