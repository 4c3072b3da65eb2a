//! Ready-made devices, generic over their back ends.

pub mod blk;
pub mod console;
mod display;
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

use embedded_io::Write;

use crate::{
    memory::DriverMem,
    model::{Answer, Request},
    num,
    queue::WritableChain,
};

/// Answers a request whose status is the last byte of the chain, which `end` writes to.
///
/// The used length counts from the first writable byte on, so it counts the status only if all before
/// the status was written. With `zeros`, up to that many bytes in all are made so by zeros: a driver
/// may take a used length without the status for a broken answer, and finds nothing stale in the buffer
/// of a read that failed. What a request that succeeds may write is a good bound.
fn answer<M: DriverMem>(
    request: &mut Request<'_, M>,
    mut end: WritableChain<'_, M>,
    status: u8,
    zeros: u32,
) -> Answer {
    let mut left = zeros.saturating_sub(request.writable.written());
    while left != 0 {
        // Memory that is gone was reported, or is reported with the status.
        let Ok(Some(view)) = request.writable.view(left) else {
            break;
        };
        let count = num::clamp_u32(view.fill(0));
        if count == 0 {
            break;
        }
        request.writable.commit(count);
        left = left.saturating_sub(count);
    }
    let mut whole = request.writable.remaining() == 0;
    if let Err(error) = end.write_all(&[status]) {
        request.report(error.into());
        whole = false;
    }
    let written = request.writable.written();
    Answer::Done {
        written: written.saturating_add(u32::from(whole)),
    }
}
