//! Black-box tests of the `virtside` command.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use tempfile::{NamedTempFile, TempDir};

const COMMAND: &str = env!("CARGO_BIN_EXE_virtside");

fn virtside(arguments: &[&str]) -> Output {
    Command::new(COMMAND).args(arguments).output().unwrap()
}

/// Runs the command from a shell script, in which `$0` is the command.
fn from_shell(script: &str, arguments: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, COMMAND]).args(arguments);
    shell.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn with_disk(path: &Path) -> Output {
    virtside(&["--disk", path.to_str().unwrap()])
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts exit code 2, nothing on stdout and one line on stderr. Returns that line.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(stdout(output), "");
    let stderr = stderr(output);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

fn image(len: u64) -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(len).unwrap();
    image
}

#[test]
fn the_main_job_ends_with_the_same_files_on_both_sides() {
    let output = virtside(&["--mib", "8"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("guest and host see the same"), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let begins = ["host ", "driver ", "rng ", "rng ", "blk ", "blk "];
    for (line, begin) in lines.iter().zip(begins) {
        assert!(
            line.starts_with(begin),
            "{line} does not begin with {begin}"
        );
    }
    for line in [
        "rng     INDIRECT_DESC | VERSION_1",
        "blk     queue 0 checked and live: 16 elements",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_eq!(text.matches('┌').count(), 1, "one table");
    assert!(lines.len() <= 20, "{text}");
    let widest = lines.iter().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{text}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_demo_has_a_name_of_its_own() {
    let output = virtside(&["demo", "--mib", "4"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).contains("guest and host see the same"));
    refused(&virtside(&["--mib", "4", "demo"]));
    refused(&virtside(&["--trace", "serve", "rng"]));
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
fn the_help_names_the_limits_of_each_option() {
    let help = stdout(&virtside(&["--help"]));
    for limit in ["from 4 to 4096", "at least 1 MiB", "TMPDIR"] {
        assert!(help.contains(limit), "{limit} is not in {help}");
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
    let path = image.path().with_extension("missing");
    assert!(refused(&with_disk(&path)).contains("No such file"));
    assert!(!path.exists());
}

#[test]
fn a_read_only_image_is_refused_even_to_root() {
    let image = image(8 << 20);
    fs::set_permissions(image.path(), PermissionsExt::from_mode(0o444)).unwrap();
    refused(&with_disk(image.path()));
}

#[test]
fn an_image_without_a_file_system_is_refused_and_unchanged() {
    let image = image(8 << 20);
    let mut bytes = vec![0; 8 << 20];
    bytes[(8 << 20) - 1] = 1;
    fs::write(image.path(), &bytes).unwrap();
    refused(&with_disk(image.path()));
    assert!(fs::read(image.path()).unwrap() == bytes);
}

#[test]
fn an_image_keeps_its_files_and_gets_a_new_directory() {
    let image = image(8 << 20);
    for directory in ["/virtside:", "/virtside-1:"] {
        let output = with_disk(image.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(stdout(&output).contains(directory));
    }
    let disk = fs::File::open(image.path()).unwrap();
    let fs = fatfs::FileSystem::new(disk, fatfs::FsOptions::new()).unwrap();
    let names: Vec<_> = fs
        .root_dir()
        .iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.is_dir())
        .map(|entry| (entry.file_name(), entry.to_dir().iter().count()))
        .collect();
    // Twelve files, and the entries `.` and `..`.
    assert_eq!(names, [("virtside".into(), 14), ("virtside-1".into(), 14)]);
}

#[test]
fn a_missing_image_folder_gives_one_line_and_exit_code_2() {
    let output = from_shell("TMPDIR=/nonexistent exec \"$0\"", &[]);
    let line = refused(&output);
    assert!(line.contains("/nonexistent"), "{line}");
    assert!(line.contains("No such file"), "{line}");
}

#[test]
fn a_file_of_another_type_is_refused_with_its_type() {
    let folder = TempDir::new().unwrap();
    assert!(refused(&with_disk(folder.path())).contains("is a directory"));
    let fifo = folder.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    assert!(refused(&with_disk(&fifo)).contains("is a FIFO"));
    assert!(refused(&with_disk(Path::new("/dev/null"))).contains("is a character device"));
    let small = image((1 << 20) - 512);
    assert!(refused(&with_disk(small.path())).contains("at least 1048576 bytes are needed"));
}

#[test]
fn an_image_of_1_mib_is_used_until_it_is_full() {
    let image = image(1 << 20);
    let first = with_disk(image.path());
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    for _ in 0..6 {
        let output = with_disk(image.path());
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let why = stderr(&output);
            assert!(why.contains("KiB free"), "{why}");
            assert_eq!(why.lines().count(), 1, "{why}");
            return;
        }
    }
    panic!("the image is never full");
}

#[test]
fn an_image_in_use_is_refused_and_unchanged() {
    let image = image(8 << 20);
    image.as_file().lock().unwrap();
    let line = refused(&with_disk(image.path()));
    assert!(line.contains(image.path().to_str().unwrap()), "{line}");
    assert!(line.contains("another process has locked it"), "{line}");
    assert!(
        fs::read(image.path())
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    image.as_file().unlock().unwrap();
    assert_eq!(with_disk(image.path()).status.code(), Some(0));
}

#[test]
fn a_failed_write_is_reported_with_file_offset_and_reason() {
    let image = image(8 << 20);
    // `ulimit` allows no file longer than 2 MiB.
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\"";
    let output = from_shell(script, &["--disk", image.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let line = stderr(&output);
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in [
        image.path().to_str().unwrap(),
        "write of ",
        "at offset ",
        "File too large (os error 27)",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn a_full_output_is_an_error() {
    for script in [
        "exec \"$0\" --mib 4 > /dev/full",
        "exec \"$0\" --help > /dev/full",
        "exec \"$0\" --version > /dev/full",
    ] {
        let output = from_shell(script, &[]);
        assert_eq!(output.status.code(), Some(1), "{script}");
        let line = stderr(&output);
        assert!(line.contains("No space left on device"), "{line}");
    }
    let output = from_shell("exec \"$0\" --mib 4 --trace 2> /dev/full", &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_closed_output_is_a_quiet_failure() {
    for arguments in [&["--mib", "4"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(COMMAND);
        let output = command.args(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(stderr(&output), "");
    }
}

/// Starts the command, with its temporary image in `folder`.
fn running(arguments: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(COMMAND);
    command.args(arguments).env("TMPDIR", folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn no_image_stays_behind_whatever_ends_the_command() {
    let left = |folder: &TempDir| fs::read_dir(folder.path()).unwrap().count();
    let folder = TempDir::new().unwrap();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("KILL", 9)] {
        let mut child = running(&["--mib", "64"], folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("temporary"), "{first}");
        let pid = child.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(kill.unwrap().success());
        assert_eq!(child.wait().unwrap().signal(), Some(number));
        assert_eq!(left(&folder), 0, "SIG{signal}");
    }
    let mut child = running(&["--mib", "4"], folder.path());
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    assert_eq!(left(&folder), 0);
}

#[test]
fn a_narrow_terminal_gets_a_narrow_table() {
    let command = format!("stty rows 24 cols 60; exec {COMMAND} --mib 4");
    let script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .output();
    // Without the tool `script`, the test cannot make a terminal.
    let Ok(output) = script else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let table = text.lines().filter(|line| line.contains('┆'));
    let widths: Vec<_> = table.map(|line| line.trim_end().chars().count()).collect();
    assert!(!widths.is_empty(), "{text}");
    assert!(widths.iter().all(|width| *width <= 60), "{text}");
}
