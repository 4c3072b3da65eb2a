//! The commands of the README that plug a device into QEMU, run as they are written there.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::{
    guest::Guest,
    outcome::{Outcome, failure},
    process::Program,
    rows::{Bench, Initrd, LIMIT, Ring, Verified, device},
    tools::{root, script},
};

/// Returns the commands of the README's example with this word.
fn commands(word: &str) -> Outcome<String> {
    let text = fs::read_to_string(root().join("README.md"))?;
    let mut blocks = text.split("```console\n").skip(1);
    let block = blocks.find_map(|rest| {
        let block = rest.split("```").next()?;
        block.contains(word).then_some(block)
    });
    let block = block.ok_or_else(|| failure(format!("the README has no example with {word}")))?;
    // A command may go on in further lines.
    let lines = block
        .lines()
        .map(|line| line.strip_prefix("$ ").unwrap_or(line));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Makes a program in `folder` that runs this script.
fn make_program(folder: &Path, name: &str, text: &str) -> Outcome<()> {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Serves a disk, and starts a machine with it.
pub fn qemu(bench: &Bench<'_>, _: Ring) -> Outcome<Verified> {
    let (folder, tools) = (&bench.folder, bench.tools);
    fs::copy(tools.debian.join("boot/vmlinuz"), folder.join("vmlinuz"))?;
    fs::copy(tools.initrd(Initrd::Qemu)?, folder.join("initrd.img"))?;
    let programs = folder.join("bin");
    fs::create_dir(&programs)?;
    let virtside = tools.virtside.display();
    make_program(&programs, "virtside", &format!("exec {virtside} \"$@\""))?;
    // This QEMU runs in a chroot, in which only the folder is seen.
    let chroot = format!(
        "exec {} --run {folder} sh -c 'cd {folder} && exec /usr/bin/qemu-system-x86_64 \"$@\"' sh \"$@\"",
        script("qemu-chroot").display(),
        folder = folder.display()
    );
    make_program(&programs, "qemu-system-x86_64", &chroot)?;
    let path = env::var("PATH").unwrap_or_default();
    let text = format!(
        "cd {} && PATH={}:{path}\n{}\nkill %1 && wait %1",
        folder.display(),
        programs.display(),
        commands("virtside serve blk")?
    );
    let mut command = Command::new("bash");
    command.args(["-ec", &text]);
    let log = folder.join("readme.log");
    let program = Program::start("the README's example", &command, &log)?;
    let report = Guest { program }.finish(LIMIT)?;
    let blk = device::BLK.to_string();
    let seen = report
        .all("device")
        .any(|value| value.split(' ').next() == Some(&blk));
    if !seen {
        return Err(failure("the guest has no disk"));
    }
    Verified::by("the commands as written; the guest's driver has the disk")
}
