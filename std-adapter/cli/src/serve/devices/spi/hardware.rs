//! An SPI device of the host.

use std::path::Path;

use embedded_hal::spi::{Mode, Phase, Polarity};
use linux_embedded_hal::{
    SpidevDevice,
    spidev::{SpiModeFlags, SpidevOptions},
};
use virtside::models::spi::{SpiChip, SpiDevices};

use super::{Model, served};
use crate::{
    failure::{Failure, Result},
    serve::{
        hosted::{Context, Hosted},
        options::SpiOptions,
        watched::Watch,
    },
};

/// Opens the device.
///
/// # Errors
/// The device cannot be opened, or does not have the clock.
pub(super) fn hosted(
    context: Context,
    path: &Path,
    mode: Mode,
    options: &SpiOptions,
) -> Result<Box<dyn Hosted>> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("SPI device {}: {error}", path.display()))
    };
    let mut device = SpidevDevice::open(path).map_err(|error| refused(&error))?;
    let mut flags = SpiModeFlags::empty();
    flags.set(
        SpiModeFlags::SPI_CPHA,
        mode.phase == Phase::CaptureOnSecondTransition,
    );
    flags.set(SpiModeFlags::SPI_CPOL, mode.polarity == Polarity::IdleHigh);
    let clock = SpidevOptions::new()
        .bits_per_word(8)
        .max_speed_hz(options.hz)
        .mode(flags)
        .build();
    device.configure(&clock).map_err(|error| refused(&error))?;
    let chips = SpiDevices::new([SpiChip::new(device, mode, options.hz)]);
    Ok(if options.split_messages {
        served(context, chips.with_split_messages())
    } else {
        served(context, chips)
    })
}

impl Watch for Model<SpidevDevice> {}
