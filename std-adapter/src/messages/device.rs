//! A device that came of a conversation, and the source of its driver's accesses.

use std::io;

use virtside::{
    ChainSlot, DeviceModel, DriverMem, DriverNotify, Engine,
    mmio::{Phase, Reply},
    shared::SharedHandle,
    trace::Trace,
};

use super::MmioMessages;
use crate::{
    access::AccessSource,
    serve::{Ended, Observer, Pause, serve_until},
};

/// An [`Engine`] that was set up by messages, with the source of its driver's accesses.
///
/// [`MmioMessages::start`] makes one of a conversation. [`into_messages`](Self::into_messages) gives
/// the register block back for the next conversation.
///
/// A saved device needs no conversation: restore an [`Engine`] with
/// [`Engine::restore`], and serve it with [`serve`](crate::serve), or as an `MmioDevice` if the
/// driver's next set-up shall be a conversation again.
#[derive(Debug)]
pub struct MmioDevice<S, E> {
    source: S,
    engine: E,
}

impl<S, E> MmioDevice<S, E> {
    /// A device that needs no conversation: one that was restored.
    pub const fn new(source: S, engine: E) -> Self {
        Self { source, engine }
    }

    /// The device.
    pub const fn engine(&self) -> &E {
        &self.engine
    }

    /// The device, to take a queue or to save it.
    pub const fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The source and the device.
    pub fn into_parts(self) -> (S, E) {
        (self.source, self.engine)
    }
}

impl<S, D, M, I, C, H, const Q: usize, const N: usize, T>
    MmioDevice<S, Engine<D, M, I, Q, N, C, H, T>>
where
    S: AccessSource,
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    C: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Completes the driver's DRIVER_OK as soon as the
    /// [`ReadyResponder`](virtside::ReadyResponder) has answered, then serves the device as
    /// [`serve`](crate::serve) does, until the driver resets it, the stream ends or the observer
    /// leaves.
    ///
    /// The observer is not called before DRIVER_OK is complete. It can be called again after
    /// [`Ended::Left`].
    ///
    /// # Errors
    /// What the source says.
    pub fn run<O>(&mut self, observer: &mut O) -> io::Result<Ended>
    where
        O: Observer<Engine<D, M, I, Q, N, C, H, T>> + ?Sized,
    {
        let Self { source, engine } = self;
        if engine.transport().message().is_some() {
            let ticket = engine.transport().ticket();
            let mut pause = Pause::default();
            let mut reply = engine.finish(ticket);
            while let Reply::Pending(ticket) = reply {
                pause.take();
                reply = engine.finish(ticket);
            }
            source.complete(reply.bus_value().unwrap_or(0))?;
        }
        serve_until(engine, source, observer, |engine| {
            engine.phase() == Phase::Reset
        })
    }

    /// The register block for the next conversation. The device is dropped, with whatever the driver
    /// had set up: call this after [`Ended::Reset`].
    pub fn into_messages(self) -> MmioMessages<S, D, I, H, Q> {
        let (model, device, transport, _) = self.engine.into_parts();
        let (notify, shared) = (device.notify().clone(), device.shared().clone());
        MmioMessages::of(self.source, model, notify, shared, transport)
    }
}
