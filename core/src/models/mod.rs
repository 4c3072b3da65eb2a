//! Ready-made devices, generic over their back ends.

pub mod blk;
pub mod console;
pub mod entropy;
#[cfg(feature = "embedded-hal")]
pub mod gpio;
#[cfg(feature = "embedded-hal")]
pub mod i2c;
#[cfg(feature = "embedded-hal")]
pub mod spi;

pub use blk::{Block, BlockBackend, BlockError, BlockFeatures, BlockOptions};
pub use console::{Console, ConsoleError, ConsolePort};
pub use entropy::{Entropy, EntropyError, EntropySource};
#[cfg(feature = "embedded-hal")]
pub use gpio::{Gpio, GpioError, GpioLine, GpioLines};
#[cfg(feature = "embedded-hal")]
pub use i2c::{I2c, I2cAddress, I2cBus, I2cTransfer, TenBit};
#[cfg(feature = "embedded-hal")]
pub use spi::{Spi, SpiController, SpiDevices, SpiLines};
