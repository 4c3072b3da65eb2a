//! The tables at the end.

use comfy_table::{CellAlignment, Table, presets};

use super::{device::Served, disk::Work, files::Seen, guest::Outcome};

fn table<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_header(head);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What was written, read back and found; says whether all agree.
pub(crate) fn files(outcome: &Outcome, host: &[Seen]) -> bool {
    let mut table = table(["file", "bytes", "written", "read back", "host", ""]);
    let mut same = host.len() == outcome.written.len();
    let mut of =
        |list: &[Seen], written: &Seen| match list.iter().find(|seen| seen.name == written.name) {
            Some(seen) => {
                same &= seen == written;
                format!("{:08x}", seen.checksum)
            }
            None => {
                same = false;
                "missing".into()
            }
        };
    for written in &outcome.written {
        let sum = format!("{:08x}", written.checksum);
        let read = of(&outcome.read, written);
        let found = of(host, written);
        let equal = if sum == read && sum == found {
            "same"
        } else {
            "DIFFERENT"
        };
        table.add_row([
            written.name.clone(),
            written.len.to_string(),
            sum,
            read,
            found,
            equal.into(),
        ]);
    }
    say!("\n{table}");
    same
}

/// What each device did for its driver.
pub(crate) fn devices(work: &[&Work], served: &[Served]) {
    let mut table = table([
        "device",
        "requests",
        "bytes",
        "MB/s",
        "us/request",
        "register accesses",
        "per request",
        "interrupts",
        "suppressed",
        "sent/request",
    ]);
    for (work, served) in work.iter().zip(served) {
        // Ratios for the screen: rounding does not matter.
        #[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
        let [requests, bytes, accesses] =
            [work.requests, work.bytes, served.accesses].map(|count| count as f64);
        let interrupts = f64::from(served.counters.interrupts);
        let seconds = work.time.as_secs_f64();
        table.add_row([
            served.name.to_owned(),
            work.requests.to_string(),
            work.bytes.to_string(),
            format!("{:.0}", bytes / seconds / 1e6),
            format!("{:.1}", seconds * 1e6 / requests),
            served.accesses.to_string(),
            format!("{:.2}", accesses / requests),
            served.counters.interrupts.to_string(),
            served.counters.suppressed.to_string(),
            format!("{:.2}", interrupts / requests),
        ]);
    }
    say!("\n{table}");
}

pub(crate) fn verdict(outcome: &Outcome, same: bool) {
    let count = outcome.written.len();
    let bytes: u64 = outcome.written.iter().map(|seen| seen.len).sum();
    let seconds = outcome.time.as_secs_f64();
    let directory = &outcome.directory;
    if same {
        say!(
            "\n{count} files, {bytes} bytes in /{directory}: the same from both sides ({seconds:.2} s)"
        );
    } else {
        say!("\nthe files in /{directory} are NOT the same from both sides");
    }
}
