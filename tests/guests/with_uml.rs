//! Rows with User Mode Linux as the guest.

use crate::{
    guest::{Guest, Report},
    image,
    outcome::Outcome,
    rows::{Bench, Initrd, LIMIT, Ring, Verified, device},
    service::Service,
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
    let report = guest.finish(LIMIT)?;
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
