//! A whole device as a plain value, and back.

use super::Engine;
use crate::{
    error::Refusal,
    features::Features,
    memory::DriverMem,
    mmio::Phase,
    model::DeviceModel,
    notify::DriverNotify,
    num,
    shared::SharedHandle,
    slots::ChainSlot,
    snapshot::{EngineSnapshot, QueueSnapshot, SnapshotError},
    table::QueueState,
    trace::Trace,
};

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, S, H, Q, N, T>
where
    D: DeviceModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// The whole state as a plain value, with up to `P` chains in hand; see [`EngineSnapshot`] and
    /// [`Device::save`](crate::Device::save). For its size see there: it is returned by value.
    ///
    /// # Errors
    /// As there, and [`Refusal::WrongPhase`] while an access is [`Reply::Pending`](crate::mmio::Reply::Pending).
    pub fn save<const P: usize>(&mut self) -> Result<EngineSnapshot<Q, N, P>, Refusal> {
        let registers = self.transport.save().ok_or(Refusal::WrongPhase)?;
        let device = self.device.save(self.slots.as_mut())?;
        Ok(EngineSnapshot { registers, device })
    }

    /// Takes a state that [`save`](Self::save) gave; see [`Device::restore`](crate::Device::restore).
    ///
    /// ```
    /// use virtside::{models::Entropy, mmio::Access, ChainSlot, Engine, EngineSnapshot, Ram, Shared};
    /// static RAM: Ram<65536> = Ram::new();
    /// static SHARED: [Shared<1>; 2] = [Shared::new(), Shared::new()];
    /// let source = |bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) };
    /// let [there, here] = &SHARED;
    /// let mut old: Engine<_, _, _, _, _, 1, 16> =
    ///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::<16>::new()], there);
    /// let _ = old.access(Access::write(0x70, 3));
    /// let state: EngineSnapshot<1, 16, 1> = old.save()?;
    ///
    /// let mut new: Engine<_, _, _, _, _, 1, 16> =
    ///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::<16>::new()], here);
    /// new.restore(&state).expect("what was saved is whole");
    /// assert_eq!(new.access(Access::read(0x70)).value(), Some(3));
    /// # Ok::<(), virtside::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// [`SnapshotError`]: the device is in reset then. After [`SnapshotError::NotInReset`] it is as
    /// it was.
    pub fn restore<const P: usize>(
        &mut self,
        snapshot: &EngineSnapshot<Q, N, P>,
    ) -> Result<(), SnapshotError> {
        let fresh = self.phase() == Phase::Reset && self.transport.outstanding().is_none();
        if !fresh || !self.device.is_fresh(self.slots.as_mut()) {
            return Err(SnapshotError::NotInReset);
        }
        let from = self.phase();
        let restored = self.try_restore(snapshot);
        if restored.is_err() {
            self.transport.abandon();
            // It is quiet: no queue was taken.
            let _ = self.device.reset_all(&mut self.model, self.slots.as_mut());
        }
        self.trace_phase(from);
        restored
    }

    fn try_restore<const P: usize>(
        &mut self,
        snapshot: &EngineSnapshot<Q, N, P>,
    ) -> Result<(), SnapshotError> {
        let EngineSnapshot { registers, device } = snapshot;
        device.check_version()?;
        self.transport.restore(registers, device, &mut self.model)?;
        let features = self.transport.driver_features();
        let started = self.transport.was_started();
        let agreed = Features::from_halves(device.features);
        let none = !device.live && agreed == Features::empty();
        if !(none || started && agreed == features) {
            return Err(SnapshotError::Features);
        }
        // Nothing is announced before DRIVER_OK, and no change matters to a driver that is not there.
        if !started && device.interrupt != 0
            || self.phase() == Phase::Reset && device.config_changed
        {
            return Err(SnapshotError::Status);
        }
        let silent = |queue: &&QueueSnapshot| queue.ring.is_none();
        let silent = device.queues.iter().find(silent);
        if let Some(queue) = silent.filter(|_| !started && !device.needs_reset) {
            // One that stopped, of which the driver would not hear.
            let queue = queue.config.queue;
            return Err(SnapshotError::Positions { queue });
        }
        self.device
            .try_restore(device, features, true, &mut self.model, self.slots.as_mut())?;
        // The registers and the device have to agree on what is ready.
        for queue in 0..num::clamp_u16(Q) {
            let there = self.device.queue_config(queue).copied();
            let ready = self.transport.ready(queue);
            // One that is being reset serves nothing any more.
            let goes_on = self.queue_state(queue) == QueueState::Live
                && ready.is_some_and(|(_, resetting)| resetting);
            if ready.map(|(config, _)| config) != there || goes_on {
                return Err(SnapshotError::Positions { queue });
            }
        }
        if !device.live && self.phase() != Phase::Reset && self.status_is_over() {
            self.device.shared.give_up();
        }
        Ok(())
    }

    /// DRIVER_OK was refused, or the driver gave up.
    fn status_is_over(&self) -> bool {
        matches!(self.phase(), Phase::Live | Phase::Failed)
    }
}
