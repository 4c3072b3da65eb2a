//! Real guests and clients against the devices that `virtside serve` serves.
//!
//! Run it by `tests/run guests`. Arguments choose the rows that have one of them in their name. The
//! exit code is 1 if a row fails.
//!
//! ```text
//! outcome                               why a row fails
//! process                               programs that end with the test
//! tools                                 scripts and commands
//! guest, uml, qemu                      guests
//! service, image                        the command, and a disk image
//! with_uml, with_qemu, with_driver      what the rows do
//! without_guest                         the rest of them
//! readme                                the commands of the README
//! rows                                  the table
//! null                                  a server without a disk
//! bench                                 the benchmark (argument `--bench`)
//! ```

mod bench;
mod guest;
mod image;
mod null;
mod outcome;
mod process;
mod qemu;
mod readme;
mod rows;
mod service;
mod tools;
mod uml;
mod with_driver;
mod with_qemu;
mod with_uml;
mod without_guest;

use std::{env, fs, panic, path::Path, process::ExitCode, thread, time::Instant};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use outcome::{Outcome, check, failure};
use rows::{Bench, Ring, Row, Tools, Verified};
use tools::Folder;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == null::ARGUMENT => null::run(rest).map(|()| true),
        Some((first, rest)) if first == BENCH => run_bench(rest).map(|()| true),
        Some((first, _)) if first.starts_with('-') => {
            eprintln!("unknown option {first}: arguments are parts of the names of rows");
            return ExitCode::from(2);
        }
        _ => run(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The argument that asks for the benchmark instead of the rows.
const BENCH: &str = "--bench";

/// Fails without root.
fn check_root() -> Outcome<()> {
    check(rustix::process::geteuid().is_root(), || {
        "guests need root: QEMU runs in a chroot".into()
    })
}

/// Runs the chosen rows. Returns whether none failed.
fn run(chosen: &[String]) -> Outcome<bool> {
    let rows: Vec<Row> = rows::all()
        .into_iter()
        .filter(|row| chosen.is_empty() || chosen.iter().any(|part| name(row).contains(part)))
        .collect();
    if rows.is_empty() {
        return Err(failure("no row has such a name"));
    }
    check_root()?;
    end_on_signals()?;
    let folder = Folder::new()?;
    let tools = Tools::new(folder.path())?;
    println!(
        "{:<8} {:<11} {:<7} {:>7}  result",
        "guest", "device", "ring", "seconds"
    );
    let (mut failed, mut skipped) = (0, 0);
    for (number, row) in rows.iter().enumerate() {
        let bench = Bench {
            tools: &tools,
            folder: folder.inside(&number.to_string())?,
        };
        let begin = Instant::now();
        let result = run_row(row, &bench);
        let seconds = begin.elapsed().as_secs_f64();
        let result_text = match &result {
            Ok(Verified::By(how)) => format!("pass: {how}"),
            Ok(Verified::Skipped(why)) => {
                skipped += 1;
                format!("SKIPPED: {why}")
            }
            Err(error) => {
                failed += 1;
                format!("FAIL: {error}")
            }
        };
        let ring = row.ring.map_or("-", Ring::name);
        println!(
            "{:<8} {:<11} {ring:<7} {seconds:>7.1}  {result_text}",
            row.guest, row.device
        );
        if result.is_err() {
            show_logs(&bench.folder);
        }
        fs::remove_dir_all(&bench.folder)?;
    }
    let passed = rows.len() - failed - skipped;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

fn run_bench(chosen: &[String]) -> Outcome<()> {
    check_root()?;
    end_on_signals()?;
    let folder = Folder::new()?;
    bench::run(&Tools::new(folder.path())?, chosen)
}

fn name(row: &Row) -> String {
    let ring = row.ring.map_or("", Ring::name);
    format!("{} {} {ring}", row.guest, row.device)
}

/// Runs a row. A panic fails only this row.
fn run_row(row: &Row, bench: &Bench<'_>) -> Outcome<Verified> {
    let ring = row.ring.unwrap_or(Ring::Split);
    panic::catch_unwind(panic::AssertUnwindSafe(|| (row.run)(bench, ring)))
        .unwrap_or_else(|_| Err(failure("panicked")))
}

/// Prints the end of each log in a folder.
fn show_logs(folder: &Path) {
    const LINES: usize = 40;
    let Ok(files) = fs::read_dir(folder) else {
        return;
    };
    let mut logs: Vec<_> = files.flatten().map(|file| file.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    for log in logs {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        println!("    --- {}", log.file_name().unwrap_or_default().display());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            println!("    {line}");
        }
    }
}

/// Ends everything at a signal.
fn end_on_signals() -> Outcome<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            process::kill_all();
            tools::remove_folders();
            std::process::exit(130);
        }
    });
    Ok(())
}
