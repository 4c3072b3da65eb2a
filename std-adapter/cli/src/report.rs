//! The story: what was set up, what was done, and the verdict.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::{
    device::{Served, SetUp},
    disk::Work,
    failure::{Failure, Result},
    files::Seen,
    guest::Outcome,
    image::Image,
    output::{columns, say},
    words,
};

/// What the driver's side is, and on what.
pub(crate) fn begin(image: &Image) -> Result<()> {
    say(format_args!("host    {image}"))?;
    say("driver  the crate virtio-drivers, unmodified, in a thread of its own")
}

/// What a driver set up.
pub(crate) fn set_up(set_up: &SetUp) -> Result<()> {
    let SetUp {
        name,
        id,
        features,
        queues,
    } = set_up;
    let names = words::negotiated(*id, *features);
    say(format_args!("{name:6}  {names}"))?;
    for queue in queues {
        let (number, size, desc) = (queue.queue, queue.size, queue.desc);
        say(format_args!(
            "{name:6}  queue {number} checked and live: {size} elements at {desc:#x}"
        ))?;
    }
    Ok(())
}

/// What each device did for its driver.
pub(crate) fn table(work: &[&Work], served: &[Served]) -> Result<()> {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(columns())
        .set_header([
            "device",
            "requests",
            "MB",
            "MB/s",
            "us/req",
            "accesses",
            "irqs",
            "suppressed",
        ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (work, served) in work.iter().zip(served) {
        // For the screen: rounding does not matter.
        #[allow(clippy::cast_precision_loss, reason = "shown with a digit or two")]
        let [requests, bytes] = [work.requests, work.bytes].map(|count| count as f64);
        let seconds = work.time.as_secs_f64();
        table.add_row([
            served.name.to_owned(),
            work.requests.to_string(),
            format!("{:.1}", bytes / 1e6),
            format!("{:.0}", bytes / seconds / 1e6),
            format!("{:.1}", seconds * 1e6 / requests),
            served.accesses.to_string(),
            served.counters.interrupts.to_string(),
            served.counters.suppressed.to_string(),
        ]);
    }
    say(format_args!("\n{table}"))
}

/// Whether the files that were written are those that were read back, and those that the host sees.
pub(crate) fn verdict(outcome: &Outcome, host: &[Seen]) -> Result<()> {
    let directory = &outcome.directory;
    let sides = [("guest", outcome.read.as_slice()), ("host", host)];
    let mut wrong = Vec::new();
    for (side, seen) in sides {
        for written in &outcome.written {
            match seen.iter().find(|seen| seen.name == written.name) {
                None => wrong.push(format!("{} is missing for the {side}", written.name)),
                Some(seen) if seen != written => wrong.push(format!(
                    "{}: {} bytes with CRC {:08x} were written, and the {side} sees {} with {:08x}",
                    written.name, written.len, written.checksum, seen.len, seen.checksum
                )),
                Some(_) => {}
            }
        }
        let more = seen.len().saturating_sub(outcome.written.len());
        if more != 0 {
            wrong.push(format!(
                "the {side} sees {more} more files than were written"
            ));
        }
    }
    if !wrong.is_empty() {
        let wrong = wrong.join("\n  ");
        return Err(Failure::Work(format!(
            "the files in /{directory} are not the same from both sides:\n  {wrong}"
        )));
    }
    let count = outcome.written.len();
    let bytes: u64 = outcome.written.iter().map(|seen| seen.len).sum();
    let seconds = outcome.time.as_secs_f64();
    say(format_args!(
        "\n{count} files, {bytes} bytes in /{directory}: the same from both sides ({seconds:.2} s)"
    ))
}
