//! What this machine sees of a guest's disk.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    guest::Report,
    outcome::{Outcome, check},
    tools::{digest, in_debian, quiet},
};

/// Bytes of an image.
const SIZE: u64 = 64 << 20;
/// The guest writes 24 MiB of zeros to a file, removes it and discards its space. What stays is
/// about 13 MiB.
const MOST_ALLOCATED: u64 = 20 << 20;

/// Makes an empty image in this folder.
pub fn make(folder: &Path) -> Outcome<PathBuf> {
    let path = folder.join("disk");
    File::create(&path)?.set_len(SIZE)?;
    Ok(path)
}

/// Checks that the image has what the check `blk` of the guest has seen.
pub fn check_files(folder: &Path, report: &Report) -> Outcome<()> {
    let path = folder.join("disk");
    report.expect("blk.files", "201")?;
    report.expect("blk.disk", &digest(&path)?)?;
    let image = path.display().to_string();
    quiet(in_debian(folder, "e2fsck").args(["-fn", &image]))?;
    let copy = folder.join("random");
    let dump = format!("dump /random {}", copy.display());
    quiet(in_debian(folder, "debugfs").args(["-R", &dump, &image]))?;
    report.expect("blk.random", &digest(&copy)?)?;
    let allocated = fs::metadata(&path)?.blocks() * 512;
    check(allocated < MOST_ALLOCATED, || {
        format!("the image has {allocated} bytes after a discard")
    })
}

/// Checks that the image begins with what the check `direct` of the guest has written: `copies`
/// copies of `bytes` bytes.
pub fn check_copies(folder: &Path, digest: &str, bytes: u64, copies: u64) -> Outcome<()> {
    for copy in 0..copies {
        let script = r#"tail -c "+$2" "$1" | head -c "$3" | sha256sum"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(folder.join("disk"));
        shell.args([(copy * bytes + 1).to_string(), bytes.to_string()]);
        let found = quiet(&mut shell)?;
        check(found.starts_with(digest), || {
            format!("copy {copy} in the image differs from the guest's data")
        })?;
    }
    Ok(())
}
