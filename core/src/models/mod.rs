//! Ready-made device models, each generic over its back end. An [`Engine`](crate::Engine) runs a
//! model.

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
pub use spi::{Spi, SpiController, SpiDevices, SpiError, SpiLines};

use embedded_io::Write;

use crate::{
    memory::DriverMem,
    model::{Answer, Request},
    num,
    queue::WritableChain,
};

/// Answers a request whose status is the last writable byte of the chain. `end` writes that byte.
///
/// The used length counts from the first writable byte on. The used length therefore includes the
/// status byte only if every byte before the status byte was written.
///
/// If the model wrote fewer than `zeros` bytes, zeros follow until `zeros` bytes are written, for
/// two reasons:
///
/// * A driver may treat a used length without the status byte as a malformed answer.
/// * The buffer of a failed read contains no stale data.
///
/// A good value for `zeros` is the largest number of bytes that a successful request may write.
fn answer<M: DriverMem>(
    request: &mut Request<'_, M>,
    mut end: WritableChain<'_, M>,
    status: u8,
    zeros: u32,
) -> Answer {
    let mut left = zeros.saturating_sub(request.writable.written());
    while left != 0 {
        // Unmapped memory only ends the loop. The write of the status reports its own address.
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
    let mut all_written = request.writable.remaining() == 0;
    if let Err(error) = end.write_all(&[status]) {
        request.report(error.into());
        all_written = false;
    }
    let written = request.writable.written();
    Answer::Done {
        written: written.saturating_add(u32::from(all_written)),
    }
}
