//! Rows with a client that has no guest.

use std::process::Command;

use crate::{
    image,
    outcome::{Outcome, check, failure},
    process::Program,
    rows::{Bench, LIMIT, Ring, Verified},
    service::Service,
    tools::{in_debian, script},
};

/// What `qemu-io` does. A read with `-P` fails if it finds other bytes.
const STEPS: &[&str] = &[
    "write -P 0xa5 0 1M",
    "write -P 0x5a 1M 64k",
    "read -P 0xa5 0 1M",
    "read -P 0x5a 1M 64k",
    "write -P 0x11 3M 512",
    "read -P 0x11 3M 512",
    "read -P 0 3146240 512",
    "flush",
    "discard 0 64k",
    "read -P 0 0 64k",
    "read -P 0xa5 64k 64k",
    "write -z 128k 64k",
    "read -P 0 128k 64k",
    "write -z -u 256k 64k",
    "read -P 0 256k 64k",
    "read -P 0xa5 320k 64k",
    "aio_write -P 1 4M 256k",
    "aio_write -P 2 5M 256k",
    "aio_write -P 3 6M 256k",
    "aio_write -P 4 7M 256k",
    "aio_flush",
    "read -P 1 4M 256k",
    "read -P 2 5M 256k",
    "read -P 3 6M 256k",
    "read -P 4 7M 256k",
];

/// QEMU's own block driver for vhost-user devices.
pub fn qemu_io(bench: &Bench<'_>, _: Ring) -> Outcome<Verified> {
    let folder = &bench.folder;
    let image = image::make(folder)?;
    let disk = image.display().to_string();
    let service = Service::start(&bench.tools.virtside, folder, &["blk", "--disk", &disk])?;
    let target = format!(
        "driver=virtio-blk-vhost-user,path={},cache.direct=on",
        service.socket().display()
    );
    let mut command = in_debian(folder, "qemu-io");
    command.args(["--image-opts", &target]);
    for step in STEPS {
        command.args(["-c", step]);
    }
    let mut program = Program::start("qemu-io", &command, &folder.join("qemu-io.log"))?;
    program.succeed(LIMIT)?;
    // It goes on after an error.
    let said = program.said();
    for word in ["failed", "error", "rror:"] {
        check(!said.contains(word), || said.clone())?;
    }
    service.stop()?;
    Verified::by("patterns")
}

/// The guest program of the KVM example. `tests/tools/kvm` says whether this machine can run it.
pub fn kvm(bench: &Bench<'_>, _: Ring) -> Outcome<Verified> {
    /// The script's exit code if the machine cannot run the guest.
    const CANNOT: i32 = 75;
    let command = Command::new(script("kvm"));
    let mut program = Program::start("tests/tools/kvm", &command, &bench.folder.join("kvm.log"))?;
    let status = program.wait(LIMIT * 5)?;
    let said = program.said();
    let last = said.trim().lines().last().unwrap_or("no reason given");
    match status.code() {
        Some(0) => {
            let lines = said.lines();
            let about = lines.filter_map(|line| line.strip_prefix("guest: blk: "));
            Verified::by(about.collect::<Vec<_>>().join("; "))
        }
        Some(CANNOT) => Ok(Verified::Skipped(last.to_owned())),
        _ => Err(failure(format!("tests/tools/kvm: {status}: {last}"))),
    }
}
