//! Suspending and resuming.

use super::Device;
use crate::{
    device::{ChainSlot, Quiesce},
    features::built,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::DeviceModel,
    shared::SharedHandle,
    snapshot::Suspension,
    trace::Trace,
};

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Suspends the device for the driver ([`Message::Suspend`](crate::Message)). The device takes
    /// no more chains. Returns [`Quiesce::Done`] when the device is suspended:
    ///
    /// * every chain in hand is answered, except chains of queues for which
    ///   [`may_sleep`](DeviceModel::may_sleep) returns true,
    /// * the driver was notified of the answers, and
    /// * taken queues are quiet.
    ///
    /// Until then the call returns [`Quiesce::Pending`]. It asks the owners of taken queues to
    /// stop. Call again after `complete`, and when an owner has stopped.
    ///
    /// A taken queue that was asked to stop serves no chain after a resume either. Put it back, and
    /// take it again after the resume.
    pub fn suspend<D: DeviceModel>(
        &mut self,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Quiesce {
        if !self.start_if_live() {
            return Quiesce::Pending;
        }
        if self.suspension == Suspension::Awake {
            self.suspension = Suspension::Suspending;
        }
        let mut done = self.shared.stop_all();
        for slot in slots.iter().filter(|slot| !slot.is_free()) {
            // No chain of this queue follows until the driver resumes.
            model.drained(slot.queue());
            done &= model.may_sleep(slot.queue());
        }
        if done {
            self.suspension = Suspension::Suspended;
        }
        done.into()
    }

    /// Resumes a suspended device for the driver ([`Message::Resume`](crate::Message)). Every queue
    /// that is not taken counts as kicked.
    ///
    /// One interrupt is sent if the configuration changed during the suspension, or if an interrupt
    /// was held back and is still pending. The device also holds back bits of InterruptStatus that
    /// an InterruptACK left set during the suspension (suspend-07).
    ///
    /// Worst case: one step for each queue. The driver's memory is not accessed.
    pub fn resume(&mut self) {
        if self.suspension == Suspension::Awake {
            return;
        }
        self.suspension = Suspension::Awake;
        for queue in self.table.configured() {
            self.mark_notified(queue);
        }
        let held = self.shared.take_held();
        self.shared.used_anywhere(held, &self.notify);
        if core::mem::take(&mut self.changed) {
            self.config_changed(true);
        } else if !held.is_empty() {
            self.interrupt(held);
        }
    }

    pub(super) fn is_suspended(&self) -> bool {
        built::SUSPEND && self.suspension == Suspension::Suspended
    }

    /// Returns whether the device is suspended or being suspended, and so takes no chains.
    pub(super) fn is_suspending(&self) -> bool {
        built::SUSPEND && self.suspension != Suspension::Awake
    }
}
