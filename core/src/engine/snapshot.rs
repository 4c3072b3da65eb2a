//! Saving an engine and its model as a plain value, and restoring them.

use super::Engine;
use crate::{
    device::{ChainSlot, Device, QueueState, RestoreFrom},
    error::Refusal,
    features::Features,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::{DeviceModel, SaveModel, SavedWith},
    num,
    shared::SharedHandle,
    snapshot::{EngineSnapshot, SnapshotError},
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
    /// Returns the state of the device and of its model as a plain value, with up to `P` chains in
    /// hand.
    ///
    /// `save` may be called between any two calls of the engine. The value is returned on the
    /// stack; [`EngineSnapshot`] states its size.
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
    /// // The driver accepts VERSION_1, FLUSH and CONFIG_WCE, and turns the write cache off.
    /// for (offset, value) in [(0x70, 3), (0x20, 1 << 9 | 1 << 11), (0x24, 1), (0x20, 1), (0x70, 11)] {
    ///     let _ = old.access(Access::write(offset, value));
    /// }
    /// let _ = old.access(Access::Write { offset: 0x120, width: 1, value: 0 });
    /// let state: EngineSnapshot<BlockSnapshot, 1, 16, 1> = old.save()?;
    ///
    /// let mut new = disk(here);
    /// new.restore(&state).expect("the state was saved by an equal device");
    /// assert_eq!(new.access(Access::read(0x70)).value(), Some(11));
    /// assert!(!new.model().is_write_back());
    /// # Ok::<(), virtside::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// As [`Device::save`](crate::Device::save), and [`Refusal::WrongPhase`] while a reply is
    /// [`Reply::Pending`](crate::mmio::Reply::Pending).
    pub fn save<const P: usize>(
        &mut self,
    ) -> Result<EngineSnapshot<D::Snapshot, Q, N, P>, Refusal> {
        let registers = self.transport.save().ok_or(Refusal::WrongPhase)?;
        let device = self.device.save(self.slots.as_mut())?;
        Ok(EngineSnapshot {
            registers,
            device,
            model: self.model.save(),
        })
    }

    /// Restores a state that [`save`](Self::save) returned, entirely or not at all. See
    /// [`Device::restore`](crate::Device::restore).
    ///
    /// # Errors
    /// [`SnapshotError`], including those of [`SaveModel::restore`]. Device and model are then in
    /// reset. After [`SnapshotError::NotInReset`] both are unchanged.
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
        if !fresh || !device.is_fresh(slots) || !model.is_reset() {
            return Err(SnapshotError::NotInReset);
        }
        let restored = snapshot.try_restore(transport, device, model, slots);
        let restored = restored.and_then(|()| {
            let started = transport.was_started();
            model.restore(&snapshot.model, SavedWith { started })
        });
        if restored.is_err() {
            transport.abandon();
            // A fresh device has no taken queue, so the reset completes.
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
        target: &mut Device<M, I, Q, N, H, T>,
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
        // No interrupt is sent before DRIVER_OK, and in reset no change is held back.
        if !started && device.interrupt != 0 || phase == Phase::Reset && device.config_changed {
            return Err(SnapshotError::Status);
        }
        let mut queues = device.queues.iter();
        let stopped = queues.find(|queue| queue.ring.is_none());
        if let Some(stopped) = stopped.filter(|_| !started && !device.needs_reset) {
            // A queue that stops before DRIVER_OK sets DEVICE_NEEDS_RESET, or the driver would not
            // learn of it.
            let queue = stopped.config.queue;
            return Err(SnapshotError::Positions { queue });
        }
        target.try_restore(device, features, RestoreFrom::Registers, model, slots)?;
        // The registers and the device must agree on the ready queues.
        for queue in 0..num::clamp_u16(Q) {
            let laid_out = target.queue_config(queue).copied();
            let ready = transport.ready(queue);
            // A queue that is being reset serves no chain.
            let serves_in_reset = target.queue_state(queue) == QueueState::Live
                && ready.is_some_and(|(_, resetting)| resetting);
            if ready.map(|(config, _)| config) != laid_out || serves_in_reset {
                return Err(SnapshotError::Positions { queue });
            }
        }
        // The host refused DRIVER_OK, or the driver set FAILED.
        if !device.live && matches!(phase, Phase::Live | Phase::Failed) {
            target.shared.give_up();
        }
        Ok(())
    }
}
