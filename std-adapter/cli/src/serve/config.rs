//! The configuration file: several devices in TOML.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::device::{Common, Described, Device};
use crate::failure::{Failure, Result};

/// Reads the devices of a file.
///
/// ```toml
/// [[device]]
/// kind = "blk"
/// vhost-user = "disk.sock"
/// disk = "disk.img"
/// ```
///
/// # Errors
/// The file cannot be read, or has an error.
pub(super) fn read(path: &Path) -> Result<Vec<Device>> {
    let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    devices(&text).map_err(refused)
}

fn devices(text: &str) -> std::result::Result<Vec<Device>, String> {
    let file = text.parse();
    let mut file: Table = file.map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            let before = text.get(..span.start).unwrap_or(text);
            before.matches('\n').count().saturating_add(1)
        });
        format!("line {line}: {}", one_line(error.message()))
    })?;
    let devices = file.remove("device");
    if let Some(key) = file.keys().next() {
        return Err(format!("unknown key `{key}`, expected `device`"));
    }
    let Some(Value::Array(devices)) = devices else {
        return Err("it has no `[[device]]`".into());
    };
    let numbered = devices.into_iter().zip(1_u32..);
    let devices = numbered.map(|(device, number)| {
        let Value::Table(table) = device else {
            return Err(format!("device {number} is no table"));
        };
        device_of(table).map_err(|why| format!("device {number}: {why}"))
    });
    let devices = devices.collect::<std::result::Result<Vec<_>, String>>()?;
    if devices.is_empty() {
        return Err("it has no `[[device]]`".into());
    }
    Ok(devices)
}

/// Returns the device of a table.
fn device_of(mut table: Table) -> std::result::Result<Device, String> {
    let mut text = |key: &str| match table.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!(
            "`{key}` is {}, expected a string",
            other.type_str()
        )),
    };
    let kind = text("kind")?.ok_or("missing field `kind`")?;
    let common = Common {
        vhost_user: text("vhost-user")?.map(Into::into),
        name: text("name")?,
        no_packed: match table.remove("no-packed") {
            None => false,
            Some(Value::Boolean(value)) => value,
            Some(other) => {
                let found = other.type_str();
                return Err(format!("`no-packed` is {found}, expected a boolean"));
            }
        },
    };
    Ok(match kind.as_str() {
        "blk" => Device::Blk(described(common, table)?),
        "rng" => Device::Rng(described(common, table)?),
        "console" => Device::Console(described(common, table)?),
        "i2c" => Device::I2c(described(common, table)?),
        "gpio" => Device::Gpio(described(common, table)?),
        "spi" => Device::Spi(described(common, table)?),
        _ => {
            let kinds = "`blk`, `rng`, `console`, `i2c`, `gpio` or `spi`";
            return Err(format!("unknown kind `{kind}`, expected {kinds}"));
        }
    })
}

fn described<T>(common: Common, table: Table) -> std::result::Result<Described<T>, String>
where
    T: DeserializeOwned + clap::Args,
{
    let options = table.try_into::<T>();
    // The text names the key.
    let options = options.map_err(|error| one_line(&error.to_string()))?;
    Ok(Described { options, common })
}

/// Joins lines.
fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}
