//! The I2C adapter, over a bus of the host or a simulated one.

#[cfg(feature = "hardware")]
mod hardware;

use embedded_hal::i2c::ErrorKind;
use virtside::models::{I2c, I2cAddress, I2cBus, I2cTransfer};

use super::simulated::Eeprom;
use crate::{
    failure::{Failure, Result},
    serve::{
        complaints::Complaints,
        hosted::{Context, Hosted, Plan},
        options::I2cOptions,
        watched::Watch,
    },
};

/// Most bytes of a transfer. An SMBus block has up to 34 bytes, and drivers of EEPROMs and displays
/// send more.
const BYTES: usize = 4096;

/// Opens the bus.
///
/// # Errors
/// The bus cannot be opened.
pub(in crate::serve) fn hosted(context: Context, options: &I2cOptions) -> Result<Box<dyn Hosted>> {
    let bus: Box<dyn Bus> = match (&options.bus, options.simulate) {
        #[cfg(feature = "hardware")]
        (Some(path), false) => hardware::open(path)?,
        #[cfg(not(feature = "hardware"))]
        (Some(_), false) => return Err(super::without_hardware()),
        (None, true) => Box::new(Eeprom::new()),
        _ => return Err(Failure::Usage("i2c: give either a bus or simulate".into())),
    };
    let bus = WatchedBus {
        bus,
        complaints: Complaints::new(&context.name),
    };
    let model = I2c::<_, BYTES>::new(bus).with_combining();
    // One for a write that waits for its read.
    Ok(Plan::new(context, model).with_slots(2).sized::<1, 256>())
}

/// Any bus.
trait Bus: Send {
    fn execute(
        &mut self,
        address: I2cAddress,
        transfer: I2cTransfer<'_>,
    ) -> std::result::Result<(), ErrorKind>;
}

impl<B: I2cBus + Send> Bus for B {
    fn execute(
        &mut self,
        address: I2cAddress,
        transfer: I2cTransfer<'_>,
    ) -> std::result::Result<(), ErrorKind> {
        self.transfer(address, transfer)
    }
}

/// A bus whose errors go to the log.
struct WatchedBus {
    bus: Box<dyn Bus>,
    complaints: Complaints,
}

impl I2cBus for WatchedBus {
    fn transfer(
        &mut self,
        address: I2cAddress,
        transfer: I2cTransfer<'_>,
    ) -> std::result::Result<(), ErrorKind> {
        let result = self.bus.execute(address, transfer);
        match result {
            // A chip that is not there is a normal answer of a bus.
            Ok(()) | Err(ErrorKind::NoAcknowledge(_)) => {}
            Err(error) => self.complaints.report(format_args!("bus: {error}")),
        }
        result
    }
}

impl Watch for I2c<WatchedBus, BYTES> {
    fn front_end_left(&mut self) {
        self.bus_mut().complaints.tell_unsaid();
    }
}
