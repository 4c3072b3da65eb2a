//! A whole device as a plain value, and back.

use super::Engine;
use crate::{
    device::QueueState,
    device::{ChainSlot, Device},
    error::Refusal,
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::{DeviceModel, SaveModel, SavedWith},
    num,
    shared::SharedHandle,
    snapshot::{EngineSnapshot, QueueSnapshot, SnapshotError},
    trace::Trace,
    transport::{Phase, Transport},
};

impl<D, M, I, S, H, const Q: usize, const N: usize, T> Engine<D, M, I, Q, N, S, H, T>
where
    D: SaveModel,
    M: DriverMem,
    I: DriverNotify + Clone,
    S: AsMut<[ChainSlot<N>]>,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// The state of the device and of its model as a plain value, with up to `P` chains in hand:
    /// between two calls of this engine, whatever they are. See [`EngineSnapshot`], also for its size:
    /// it is returned by value.
    ///
    /// ```
    /// use virtside::{
    ///     ChainSlot, Engine, FlatMem, Shared, memory::Ram, mmio::Access,
    ///     models::{blk::{BlockSnapshot, RamDisk}, Block, BlockOptions},
    ///     snapshot::EngineSnapshot,
    /// };
    /// static RAM: Ram<65536> = Ram::new();
    /// static SHARED: [Shared<1>; 2] = [Shared::new(), Shared::new()];
    /// type Disk<'a> = Engine<Block<RamDisk<[u8; 512]>>, FlatMem, (), 1, 16, [ChainSlot<16>; 1], &'a Shared<1>>;
    /// fn disk(shared: &Shared<1>) -> Disk<'_> {
    ///     let model = Block::new(RamDisk::new([0; 512]), BlockOptions::new(16));
    ///     Engine::new(model, RAM.flat(0), (), [ChainSlot::new()], shared)
    /// }
    /// let [there, here] = &SHARED;
    /// let mut old = disk(there);
    /// // The driver takes VERSION_1, FLUSH and CONFIG_WCE, and turns the write cache off.
    /// for (offset, value) in [(0x70, 3), (0x20, 1 << 9 | 1 << 11), (0x24, 1), (0x20, 1), (0x70, 11)] {
    ///     let _ = old.access(Access::write(offset, value));
    /// }
    /// let _ = old.access(Access::Write { offset: 0x120, width: 1, value: 0 });
    /// let state: EngineSnapshot<BlockSnapshot, 1, 16, 1> = old.save()?;
    ///
    /// let mut new = disk(here);
    /// new.restore(&state).expect("what was saved is whole");
    /// assert_eq!(new.access(Access::read(0x70)).value(), Some(11));
    /// assert!(!new.model().is_write_back());
    /// # Ok::<(), virtside::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// As [`Device::save`](crate::Device::save), and [`Refusal::WrongPhase`] while an access is
    /// [`Reply::Pending`](crate::mmio::Reply::Pending).
    pub fn save<const P: usize>(
        &mut self,
    ) -> Result<EngineSnapshot<D::Snapshot, Q, N, P>, Refusal> {
        let registers = self.transport.save().ok_or(Refusal::WrongPhase)?;
        // The model may still be told here that the driver is ready.
        let device = self.device.save(self.slots.as_mut())?;
        Ok(EngineSnapshot {
            registers,
            device,
            model: self.model.save(),
        })
    }

    /// Takes a state that [`save`](Self::save) gave: all of it, or nothing. See
    /// [`Device::restore`](crate::Device::restore).
    ///
    /// # Errors
    /// [`SnapshotError`], also what [`SaveModel::restore`] says: device and model are in reset then.
    /// After [`SnapshotError::NotInReset`] they are as they were.
    pub fn restore<const P: usize>(
        &mut self,
        snapshot: &EngineSnapshot<D::Snapshot, Q, N, P>,
    ) -> Result<(), SnapshotError> {
        let from = self.phase();
        let Self {
            transport,
            device,
            model,
            slots,
            ..
        } = self;
        let slots = slots.as_mut();
        let fresh = transport.phase() == Phase::Reset && transport.outstanding().is_none();
        if !fresh || !device.is_fresh(slots) {
            return Err(SnapshotError::NotInReset);
        }
        let restored = snapshot.try_restore(transport, device, model, slots);
        let restored = restored.and_then(|()| {
            let started = transport.was_started();
            model.restore(&snapshot.model, SavedWith { started })
        });
        if restored.is_err() {
            transport.abandon();
            // It is quiet: no queue was taken.
            let _ = device.reset_all(model, slots);
        }
        self.trace_phase(from);
        restored
    }
}

impl<S, const Q: usize, const N: usize, const P: usize> EngineSnapshot<S, Q, N, P> {
    fn try_restore<D, M, I, H, T>(
        &self,
        transport: &mut Transport<Q>,
        there: &mut Device<M, I, Q, N, H, T>,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), SnapshotError>
    where
        D: DeviceModel,
        M: DriverMem,
        I: DriverNotify,
        H: SharedHandle<Q>,
        T: Trace,
    {
        let Self {
            registers, device, ..
        } = self;
        device.check_version()?;
        transport.restore(registers, device, model)?;
        let features = transport.driver_features();
        let (phase, started) = (transport.phase(), transport.was_started());
        let agreed = Features::from_halves(device.features);
        let none = !device.live && agreed == Features::empty();
        if !(none || started && agreed == features) {
            return Err(SnapshotError::Features);
        }
        // Nothing is announced before DRIVER_OK, and no change matters to a driver that is not there.
        if !started && device.interrupt != 0 || phase == Phase::Reset && device.config_changed {
            return Err(SnapshotError::Status);
        }
        let silent = |queue: &&QueueSnapshot| queue.ring.is_none();
        let silent = device.queues.iter().find(silent);
        if let Some(queue) = silent.filter(|_| !started && !device.needs_reset) {
            // One that stopped, of which the driver would not hear.
            let queue = queue.config.queue;
            return Err(SnapshotError::Positions { queue });
        }
        there.try_restore(device, features, true, model, slots)?;
        // The registers and the device have to agree on what is ready.
        for queue in 0..num::clamp_u16(Q) {
            let laid_out = there.queue_config(queue).copied();
            let ready = transport.ready(queue);
            // One that is being reset serves nothing any more.
            let goes_on = there.queue_state(queue) == QueueState::Live
                && ready.is_some_and(|(_, resetting)| resetting);
            if ready.map(|(config, _)| config) != laid_out || goes_on {
                return Err(SnapshotError::Positions { queue });
            }
        }
        // DRIVER_OK was refused, or the driver gave up.
        if !device.live && matches!(phase, Phase::Live | Phase::Failed) {
            there.shared.give_up();
        }
        Ok(())
    }
}
