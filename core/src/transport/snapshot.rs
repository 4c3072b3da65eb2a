//! Saving and restoring a register block.

use virtio_spec::DeviceStatus;

use super::{Phase, Transport, status::Handshake};
use crate::{
    features::Features,
    message::QueueConfig,
    model::DeviceConfig,
    num,
    snapshot::{DeviceSnapshot, RegisterSnapshot, SnapshotError, Stage, Suspension},
};

impl<const Q: usize> Transport<Q> {
    /// Returns the registers and the phase as a plain value, or `None` while an access is
    /// outstanding.
    #[must_use]
    pub(crate) fn save(&self) -> Option<RegisterSnapshot<Q>> {
        if self.outstanding().is_some() {
            return None;
        }
        let Handshake {
            status,
            device_features_sel,
            driver_features_sel,
            driver_features,
            beyond,
            ..
        } = self.handshake;
        let mut queues = heapless::Vec::new();
        for queue in 0..num::clamp_u16(Q) {
            // The vector has room for `Q` entries.
            let _ = queues.push(self.queues.registers(queue));
        }
        Some(RegisterSnapshot {
            status: status.bits(),
            device_features_sel,
            driver_features_sel,
            driver_features: driver_features.halves(),
            beyond,
            queue_sel: self.queues.sel,
            shm_sel: self.shm_sel,
            generation: self.generation,
            refused_beyond: self.queues.refused_beyond,
            queues,
        })
    }

    /// Restores the registers and the phase that [`save`](Self::save) returned. `device` is the
    /// state of the device that was saved together with them.
    ///
    /// [`Engine::restore`](crate::Engine::restore) calls this method, and also restores the device.
    ///
    /// # Errors
    /// [`SnapshotError`]. The register block must then be reset before it is used.
    pub(crate) fn restore<C: DeviceConfig, const N: usize, const P: usize>(
        &mut self,
        snapshot: &RegisterSnapshot<Q>,
        device: &DeviceSnapshot<Q, N, P>,
        config: &mut C,
    ) -> Result<(), SnapshotError> {
        let (live, failed, suspension) = (device.live, device.needs_reset, device.suspension);
        self.abandon();
        self.set_capacity(config);
        let bad = SnapshotError::Status;
        let phase = phase(snapshot.status, suspension).ok_or(bad)?;
        // DRIVER_OK without a live device means that the start was refused.
        let is_live = matches!(phase, Phase::Live | Phase::Suspending | Phase::Suspended);
        if live && !is_live || !live && is_live && !failed {
            return Err(bad);
        }
        let features = Features::from_halves(snapshot.driver_features);
        self.handshake = Handshake {
            status: DeviceStatus::from_bits_retain(snapshot.status),
            phase,
            device_features_sel: snapshot.device_features_sel,
            driver_features_sel: snapshot.driver_features_sel,
            driver_features: features,
            beyond: snapshot.beyond,
        };
        if self.has_negotiated(Features::empty()) {
            self.negotiate(config)
                .map_err(|_| SnapshotError::Features)?;
            self.queues.negotiated(features);
        }
        let has_suspend = self.handshake.status.contains(DeviceStatus::SUSPEND);
        if (has_suspend || suspension != Suspension::Awake)
            && !self.has_negotiated(Features::SUSPEND)
        {
            return Err(bad);
        }
        let resets = self.has_negotiated(Features::RING_RESET);
        for (registers, queue) in snapshot.queues.iter().zip(0u16..) {
            let possible = match registers.stage {
                Stage::Off => true,
                Stage::Ready => !registers.refused,
                // Only a queue of a started device can be busy during its reset.
                Stage::Resetting => resets && self.was_started() && !registers.refused,
                Stage::WasReset => resets,
            };
            if !possible {
                return Err(SnapshotError::Positions { queue });
            }
            self.queues.restore(queue, registers);
        }
        self.queues.sel = snapshot.queue_sel;
        self.queues.refused_beyond = snapshot.refused_beyond;
        self.shm_sel = snapshot.shm_sel;
        // Later than every value that the driver can have read from either device.
        self.generation = self.generation.max(snapshot.generation).wrapping_add(1);
        Ok(())
    }

    /// Returns whether DRIVER_OK was set since the reset.
    pub(crate) const fn was_started(&self) -> bool {
        // A suspended device shows DRIVER_OK as 0.
        let either = DeviceStatus::DRIVER_OK.union(DeviceStatus::SUSPEND);
        self.handshake.status.intersects(either)
    }

    /// Resets the register block and abandons an outstanding access.
    pub(crate) fn abandon(&mut self) {
        self.handshake = Handshake::NEW;
        self.queues.reset();
        self.shm_sel = 0;
    }

    /// Returns the layout of a queue whose QueueReady is 1, and whether the queue is being reset.
    pub(crate) fn ready(&self, queue: u16) -> Option<(QueueConfig, bool)> {
        let resetting = match self.queues.registers(queue).stage {
            Stage::Ready => false,
            Stage::Resetting => true,
            Stage::Off | Stage::WasReset => return None,
        };
        Some((self.queues.config(queue)?, resetting))
    }
}

/// Returns the phase that matches a value of Status.
fn phase(status: u8, suspension: Suspension) -> Option<Phase> {
    let status = DeviceStatus::from_bits_retain(status);
    // Neither DEVICE_NEEDS_RESET, which is a separate field of the snapshot, nor unknown bits.
    let known = DeviceStatus::ACKNOWLEDGE
        | DeviceStatus::DRIVER
        | DeviceStatus::FEATURES_OK
        | DeviceStatus::DRIVER_OK
        | DeviceStatus::SUSPEND
        | DeviceStatus::FAILED;
    if !known.contains(status) {
        return None;
    }
    let has = |flag| status.contains(flag);
    let phase = match (
        has(DeviceStatus::FEATURES_OK),
        has(DeviceStatus::DRIVER_OK),
        has(DeviceStatus::SUSPEND),
        suspension,
    ) {
        (false, false, false, Suspension::Awake) if status.is_empty() => Phase::Reset,
        (false, false, false, Suspension::Awake) => Phase::Negotiating,
        (true, false, false, Suspension::Awake) => Phase::SettingUp,
        (true, true, false, Suspension::Awake) => Phase::Live,
        (true, true, false, Suspension::Suspending) => Phase::Suspending,
        (true, false, true, Suspension::Suspended) => Phase::Suspended,
        // The device was suspended when the driver set FAILED.
        (true, false, true, Suspension::Awake) if has(DeviceStatus::FAILED) => Phase::Suspended,
        _ => return None,
    };
    Some(if has(DeviceStatus::FAILED) {
        Phase::Failed
    } else {
        phase
    })
}
