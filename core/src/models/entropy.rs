//! The entropy device: random bytes on request.
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

/// Bytes that go through the stack at once.
const PIECE: usize = 64;

/// The source has nothing to give now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EntropyError {
    /// Later: call `backend_ready(0)` when there is.
    NotReady,
    /// It failed. The request waits all the same, and [`HostFault::Backend`] is reported.
    Failed,
}

/// Where random bytes come from. Closures are sources.
pub trait EntropySource {
    /// Fills the start of `bytes`; says how many, at least one.
    ///
    /// # Errors
    /// [`EntropyError`]; no byte of `bytes` is used then.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError>;
}

impl<F: FnMut(&mut [u8]) -> Result<usize, EntropyError>> EntropySource for F {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, EntropyError> {
        self(bytes)
    }
}

/// The entropy device over a source.
///
/// A request is filled up to [`limit`](Self::with_limit) bytes, 4096 by default: a driver may ask
/// for 4 GiB, and the specification allows to give less. A request with no room is answered with
/// nothing.
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
    /// The device over this source.
    pub const fn new(source: E) -> Self {
        Self {
            source,
            limit: 4096,
        }
    }

    /// Gives at most this many bytes (at least one) for each request.
    #[must_use]
    pub fn with_limit(self, bytes: u32) -> Self {
        Self {
            limit: bytes.max(1),
            ..self
        }
    }

    /// The source.
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
        let mut piece = [0; PIECE];
        loop {
            let written = request.writable.written();
            let room = num::clamp_index(request.writable.remaining())
                .min(num::index(self.limit.saturating_sub(written)))
                .min(PIECE);
            let Some(piece) = piece.get_mut(..room).filter(|piece| !piece.is_empty()) else {
                return Ok(Answer::Done { written });
            };
            match self.source.fill(piece) {
                Ok(count) if count > 0 => {
                    let given = piece.get(..count).unwrap_or(piece);
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
                    // Some bytes are an answer; none is not (entropy-01).
                    return Ok(match written {
                        0 => Answer::Pending,
                        written => Answer::Done { written },
                    });
                }
            }
        }
    }
}

/// Nothing is kept between two requests.
impl<E: EntropySource> SaveModel for Entropy<E> {
    type Snapshot = ();

    fn save(&self) {}

    fn restore(&mut self, (): &(), _: SavedWith) -> Result<(), SnapshotError> {
        Ok(())
    }
}
