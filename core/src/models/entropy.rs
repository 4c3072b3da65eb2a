//! The entropy device, which fills the buffers of the driver with random bytes.
//!
//! Clauses: entropy-01, entropy-02.

use embedded_io::Write;

use crate::{
    error::{DriverFault, HostFault},
    features::Features,
    memory::DriverMem,
    model::{Answer, DeviceConfig, DeviceModel, Request, SaveModel, SavedWith},
    num,
    snapshot::SnapshotError,
};

/// Size in bytes of the buffer on the stack through which random bytes are copied.
const CHUNK: usize = 64;

/// Error of an [`EntropySource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EntropyError {
    /// The source has no bytes now. Call `backend_ready(0)` when it has some.
    NotReady,
    /// The source failed. The device reports [`HostFault::Backend`], and otherwise does the same as
    /// for [`NotReady`](Self::NotReady).
    Failed,
}

/// A source of random bytes. Closures with the signature of [`fill`](Self::fill) implement it.
pub trait EntropySource {
    /// Fills the start of `bytes`, and returns the number of filled bytes, at least 1. `Ok(0)` is
    /// handled as [`EntropyError::Failed`].
    ///
    /// # Errors
    /// [`EntropyError`]; the device then ignores the contents of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError>;
}

impl<F: FnMut(&mut [u8]) -> Result<usize, EntropyError>> EntropySource for F {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        self(bytes)
    }
}

/// The entropy device, over a source of random bytes.
///
/// The device writes at most [`limit`](Self::with_limit) bytes into a buffer, 4096 by default. A
/// driver may supply a buffer of 4 GiB, and the specification allows the device to fill a part of
/// it. A buffer without writable bytes is returned with a used length of 0.
///
/// If the source has no more bytes, the device returns the buffer with the bytes written so far. If
/// no byte was written, the buffer stays pending.
///
/// ```
/// use virtside::models::Entropy;
/// let device = Entropy::new(|bytes: &mut [u8]| { bytes.fill(7); Ok(bytes.len()) }).with_limit(256);
/// # let _ = device;
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Entropy<E> {
    source: E,
    limit: u32,
}

impl<E: EntropySource> Entropy<E> {
    /// Creates an entropy device over this source.
    pub const fn new(source: E) -> Self {
        Self {
            source,
            limit: 4096,
        }
    }

    /// Sets the largest number of bytes, at least 1, that the device writes into one buffer.
    #[must_use]
    pub fn with_limit(self, bytes: u32) -> Self {
        Self {
            limit: bytes.max(1),
            ..self
        }
    }

    /// Returns the source for changes.
    pub const fn source_mut(&mut self) -> &mut E {
        &mut self.source
    }
}

impl<E: EntropySource> DeviceConfig for Entropy<E> {
    fn device_id(&self) -> u32 {
        u32::from(u8::from(virtio_spec::Id::Rng))
    }

    fn features(&self) -> Features {
        Features::ALL_RINGS
    }

    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue == 0 { u16::MAX } else { 0 }
    }
}

impl<E: EntropySource> DeviceModel for Entropy<E> {
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let mut chunk = [0; CHUNK];
        loop {
            let written = request.writable.written();
            let room = num::clamp_index(request.writable.remaining())
                .min(num::index(self.limit.saturating_sub(written)))
                .min(CHUNK);
            let Some(chunk) = chunk.get_mut(..room).filter(|chunk| !chunk.is_empty()) else {
                return Ok(Answer::Done { written });
            };
            match self.source.fill(chunk) {
                Ok(count) if count > 0 => {
                    let given = chunk.get(..count).unwrap_or(chunk);
                    if let Err(error) = request.writable.write_all(given) {
                        request.report(error.into());
                        return Ok(Answer::Done {
                            written: request.writable.written(),
                        });
                    }
                }
                other => {
                    if other != Err(EntropyError::NotReady) {
                        request.report(HostFault::Backend);
                    }
                    // A buffer is returned with at least one byte (entropy-01).
                    return Ok(match written {
                        0 => Answer::Pending,
                        written => Answer::Done { written },
                    });
                }
            }
        }
    }
}

/// The snapshot is empty: the device keeps no state between two requests.
impl<E: EntropySource> SaveModel for Entropy<E> {
    type Snapshot = ();

    fn save(&self) {}

    fn restore(&mut self, (): &(), _: SavedWith) -> Result<(), SnapshotError> {
        Ok(())
    }
}
