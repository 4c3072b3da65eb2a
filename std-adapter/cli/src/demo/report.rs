//! The printed report: what was set up, the traffic of each device, and the verdict.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{
    device::{DeviceReport, SetUp},
    disk::Traffic,
    files::FileSummary,
    guest::Outcome,
    image::Image,
};
use crate::{
    failure::{Failure, Result},
    output::{columns, print_line},
    words,
};

/// Prints the disk image and the driver.
pub(crate) fn begin(image: &Image) -> Result<()> {
    print_line(format_args!("host    {image}"))?;
    print_line("driver  the unmodified crate virtio-drivers, in its own thread")
}

/// Prints the features and queues that a driver has set up.
pub(crate) fn set_up(set_up: &SetUp) -> Result<()> {
    let SetUp {
        name,
        id,
        features,
        queues,
    } = set_up;
    let names = words::negotiated(*id, *features);
    print_line(format_args!("{name:6}  {names}"))?;
    for queue in queues {
        let (number, size, desc) = (queue.queue, queue.size, queue.desc);
        print_line(format_args!(
            "{name:6}  queue {number} checked and live: {size} elements at {desc:#x}"
        ))?;
    }
    Ok(())
}

/// Prints a table of the traffic of each device.
pub(crate) fn table(traffic: &[&Traffic], served: &[DeviceReport]) -> Result<()> {
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
    for (traffic, served) in traffic.iter().zip(served) {
        #[allow(clippy::cast_precision_loss, reason = "printed with one digit at most")]
        let [requests, bytes] = [traffic.requests, traffic.bytes].map(|count| count as f64);
        let seconds = traffic.time.as_secs_f64();
        table.add_row([
            served.name.to_owned(),
            traffic.requests.to_string(),
            format!("{:.1}", bytes / 1e6),
            format!("{:.0}", bytes / seconds / 1e6),
            format!("{:.1}", seconds * 1e6 / requests),
            served.accesses.to_string(),
            served.counters.interrupts.to_string(),
            served.counters.suppressed.to_string(),
        ]);
    }
    print_line(format_args!("\n{table}"))
}

/// Compares the written files with the files that the guest read back and the files that the host
/// sees. Prints the verdict.
///
/// # Errors
/// The files differ; the text lists each difference.
pub(crate) fn verdict(outcome: &Outcome, host: &[FileSummary]) -> Result<()> {
    let directory = &outcome.directory;
    let sides = [("guest", outcome.read.as_slice()), ("host", host)];
    let mut wrong = Vec::new();
    for (side, seen) in sides {
        for written in &outcome.written {
            match seen.iter().find(|seen| seen.name == written.name) {
                None => wrong.push(format!("{}: the {side} does not find it", written.name)),
                Some(seen) if seen != written => wrong.push(format!(
                    "{}: wrote {} bytes with CRC {:08x}, the {side} reads {} bytes with CRC {:08x}",
                    written.name, written.len, written.checksum, seen.len, seen.checksum
                )),
                Some(_) => {}
            }
        }
        let more = seen.len().saturating_sub(outcome.written.len());
        if more != 0 {
            wrong.push(format!(
                "the {side} finds {more} more files than were written"
            ));
        }
    }
    if !wrong.is_empty() {
        let wrong = wrong.join("\n  ");
        return Err(Failure::Work(format!(
            "guest and host do not see the same files in /{directory}:\n  {wrong}"
        )));
    }
    let count = outcome.written.len();
    let bytes: u64 = outcome.written.iter().map(|seen| seen.len).sum();
    let seconds = outcome.time.as_secs_f64();
    print_line(format_args!(
        "\n{count} files, {bytes} bytes in /{directory}: guest and host see the same ({seconds:.2} s)"
    ))
}
