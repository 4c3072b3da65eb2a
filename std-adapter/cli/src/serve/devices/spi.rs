//! The SPI controller, over a device of the host or a simulated one.

#[cfg(feature = "hardware")]
mod hardware;

use embedded_hal::spi::{MODE_0, MODE_1, MODE_2, MODE_3, SpiDevice};
use virtside::models::{
    Spi,
    spi::{SpiChip, SpiDevices},
};

use super::simulated::Wire;
use crate::{
    failure::{Failure, Result},
    serve::{
        hosted::{Context, Hosted, Plan},
        options::SpiOptions,
        watched::Watch,
    },
};

/// Most bytes of a transfer: as many as spidev allows.
const BYTES: usize = 4096;

type Model<S> = Spi<SpiDevices<S, 1>, BYTES>;

/// Opens the device.
///
/// # Errors
/// The device cannot be opened.
pub(in crate::serve) fn hosted(context: Context, options: &SpiOptions) -> Result<Box<dyn Hosted>> {
    let mode = match options.mode.get() {
        0 => MODE_0,
        1 => MODE_1,
        2 => MODE_2,
        _ => MODE_3,
    };
    match (&options.device, options.simulate) {
        #[cfg(feature = "hardware")]
        (Some(path), false) => hardware::hosted(context, path, mode, options),
        #[cfg(not(feature = "hardware"))]
        (Some(_), false) => Err(super::without_hardware()),
        (None, true) => {
            let chips = SpiDevices::new([SpiChip::new(Wire, mode, options.hz)]);
            Ok(served(context, chips.with_split_messages()))
        }
        _ => Err(Failure::Usage(
            "spi: give either a device or simulate".into(),
        )),
    }
}

fn served<S>(context: Context, chips: SpiDevices<S, 1>) -> Box<dyn Hosted>
where
    S: SpiDevice + Send + 'static,
    Model<S>: Watch,
{
    Plan::new(context, Model::new(chips)).sized::<1, 256>()
}

impl Watch for Model<Wire> {}
