//! Messages on stderr. The target of a message is the name of its device.

use std::{io::Write, time::SystemTime};

/// Sends the messages to stderr from now on.
pub(super) fn init() {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .format(|out, record| {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            let (level, device, text) = (record.level(), record.target(), record.args());
            writeln!(out, "{time} {level:5} {device}: {text}")
        })
        .init();
}
