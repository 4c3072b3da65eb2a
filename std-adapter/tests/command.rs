//! The `virtside` command, from outside.
#![cfg(feature = "cli")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use vmm_sys_util::tempfile::TempFile;

fn virtside(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtside"));
    command.args(arguments).output().unwrap()
}

fn with_disk(path: &Path) -> Output {
    virtside(&["--disk", path.to_str().unwrap()])
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Exit code 2, nothing on stdout, and one line on stderr, which is returned.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(stdout(output), "");
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

fn image(len: u64) -> TempFile {
    let image = TempFile::new().unwrap();
    image.as_file().set_len(len).unwrap();
    image
}

#[test]
fn the_main_job_ends_with_the_same_files_on_both_sides() {
    let output = virtside(&["--mib", "8"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("the same from both sides"), "{text}");
    for line in [
        "blk    Status             = ACKNOWLEDGE | DRIVER\n",
        "blk    QueueReady         = 1\n",
        "queue 0 accepted: 16 elements, descriptors at 0x1",
        "rng    DriverFeatures     = VERSION_1\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn wrong_arguments_give_one_line_and_exit_code_2() {
    for arguments in [
        &["--mib", "3"][..],
        &["--mib", "4097"],
        &["--mib", "many"],
        &["--mib"],
        &["--nonsense"],
        &["image"],
        &["--disk", "a", "--mib", "8"],
    ] {
        refused(&virtside(arguments));
    }
}

#[test]
fn help_and_version_are_not_errors() {
    for argument in ["--help", "--version"] {
        let output = virtside(&[argument]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("virtside"));
    }
}

#[test]
fn the_trace_shows_every_access_on_stderr() {
    let output = virtside(&["--mib", "4", "--trace"]);
    assert_eq!(output.status.code(), Some(0));
    let trace = String::from_utf8(output.stderr).unwrap();
    assert!(trace.contains("blk  QueueNotify        = 0\n"));
    assert!(trace.contains("rng  MagicValue        -> 0x74726976\n"));
}

#[test]
fn a_missing_image_is_refused_and_not_created() {
    let image = image(0);
    let path = image.as_path().with_extension("missing");
    assert!(refused(&with_disk(&path)).contains("No such file"));
    assert!(!path.exists());
}

#[test]
fn a_read_only_image_is_refused_even_to_root() {
    let image = image(8 << 20);
    fs::set_permissions(image.as_path(), PermissionsExt::from_mode(0o444)).unwrap();
    refused(&with_disk(image.as_path()));
}

#[test]
fn an_image_with_anything_but_a_file_system_is_left_alone() {
    let image = image(8 << 20);
    let mut bytes = vec![0; 8 << 20];
    bytes[(8 << 20) - 1] = 1;
    fs::write(image.as_path(), &bytes).unwrap();
    refused(&with_disk(image.as_path()));
    assert!(fs::read(image.as_path()).unwrap() == bytes);
}

#[test]
fn an_image_keeps_its_files_and_gets_a_new_directory() {
    let image = image(8 << 20);
    for directory in ["/virtside:", "/virtside-1:"] {
        let output = with_disk(image.as_path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout(&output).contains(directory));
    }
    let disk = fs::File::open(image.as_path()).unwrap();
    let fs = fatfs::FileSystem::new(disk, fatfs::FsOptions::new()).unwrap();
    let names: Vec<_> = fs
        .root_dir()
        .iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.is_dir())
        .map(|entry| (entry.file_name(), entry.to_dir().iter().count()))
        .collect();
    // Twelve files, and the two links of a directory.
    assert_eq!(names, [("virtside".into(), 14), ("virtside-1".into(), 14)]);
}
