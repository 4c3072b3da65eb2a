//! Messages on stderr, as text or as JSON. The target of a message is the name of its device.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use clap::ValueEnum;
use env_logger::fmt::Formatter;
use indicatif::MultiProgress;
use log::{
    LevelFilter, Record,
    kv::{self, Key, Value, VisitSource},
};
use serde_json::Map;

/// How a message looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// A line of text
    #[default]
    Text,
    /// A JSON object a line: time, level, device, message, and numbers of their own
    Json,
}

/// Sends the messages to stderr from now on. The live lines `bars` stay below the messages.
pub(super) fn init(format: LogFormat, traced: bool, bars: MultiProgress) {
    let level = if traced {
        LevelFilter::Trace
    } else {
        LevelFilter::Info
    };
    env_logger::Builder::new()
        .filter_level(LevelFilter::Off)
        .filter_level(level)
        .format(move |out, record| match format {
            LogFormat::Text => text(out, record),
            LogFormat::Json => json(out, record),
        })
        .target(env_logger::Target::Pipe(Box::new(AboveBars(bars))))
        .init();
}

fn now() -> impl std::fmt::Display {
    humantime::format_rfc3339_millis(SystemTime::now())
}

fn text(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let (level, device, text) = (record.level(), record.target(), record.args());
    writeln!(out, "{} {level:5} {device}: {text}", now())
}

fn json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut object = Object(Map::new());
    object.put("time", now().to_string());
    object.put("level", record.level().as_str().to_lowercase());
    object.put("device", record.target());
    object.put("message", record.args().to_string());
    // The visitor never fails.
    let _ = record.key_values().visit(&mut object);
    writeln!(out, "{}", serde_json::Value::from(object.0))
}

/// The members of a JSON object.
struct Object(Map<String, serde_json::Value>);

impl Object {
    fn put(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.0.insert(key.to_owned(), value.into());
    }
}

impl<'v> VisitSource<'v> for Object {
    fn visit_pair(&mut self, key: Key<'v>, value: Value<'v>) -> Result<(), kv::Error> {
        match (value.to_u64(), value.to_f64()) {
            (Some(number), _) => self.put(key.as_str(), number),
            (None, Some(number)) => self.put(key.as_str(), number),
            (None, None) => self.put(key.as_str(), value.to_string()),
        }
        Ok(())
    }
}

/// Stderr, where the live lines stay below what is written.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
