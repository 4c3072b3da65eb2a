//! A device that was set up by messages, with the source of its driver's accesses.

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
/// [`MmioMessages::start`] creates the device after a conversation.
/// [`into_messages`](Self::into_messages) returns the register block for the next conversation.
///
/// A saved device needs no conversation. Restore an [`Engine`] with [`Engine::restore`], and serve
/// it with [`serve`](crate::serve). Use an `MmioDevice` instead if the driver's next set-up must be
/// a conversation again.
#[derive(Debug)]
pub struct MmioDevice<S, E> {
    source: S,
    engine: E,
}

impl<S, E> MmioDevice<S, E> {
    /// Creates a device without a conversation, from a restored engine.
    pub const fn new(source: S, engine: E) -> Self {
        Self { source, engine }
    }

    /// Returns the engine.
    pub const fn engine(&self) -> &E {
        &self.engine
    }

    /// Returns the engine mutably, for instance to take a queue or to save the device.
    pub const fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Returns the source and the engine.
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
    /// Completes the driver's write of DRIVER_OK, then serves the device.
    ///
    /// The write is completed as soon as the [`ReadyResponder`](virtside::ReadyResponder) has
    /// answered. The device is then served as by [`serve`](crate::serve), until the driver resets
    /// the device, the stream ends, or [`Observer::stops`] returns true. After [`Ended::Left`],
    /// `run` can be called again.
    ///
    /// The observer is not called before the write of DRIVER_OK is complete.
    ///
    /// # Errors
    /// The error of the source.
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

    /// Returns the register block for the next conversation. Call this after [`Ended::Reset`]: the
    /// device is dropped, with everything that the driver has set up.
    pub fn into_messages(self) -> MmioMessages<S, D, I, H, Q> {
        let (model, device, transport, _) = self.engine.into_parts();
        let (notify, shared) = (device.notify().clone(), device.shared().clone());
        MmioMessages::from_transport(self.source, model, notify, shared, transport)
    }
}
