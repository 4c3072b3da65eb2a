//! Suspending and resuming.

use super::Device;
use crate::{
    device::ChainSlot, features::built, interrupt::DriverNotify, memory::DriverMem,
    model::DeviceModel, shared::SharedHandle, snapshot::Suspension, trace::Trace,
};

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// The driver suspends the device ([`Message::Suspend`](crate::Message)): from now on no chain is
    /// taken. True when it is suspended: every chain in hand was answered (but those that
    /// [`may_sleep`](DeviceModel::may_sleep)), the driver was told, and taken queues are quiet. False
    /// until then: they were asked to stop; call again after `complete`, or when an owner heard.
    ///
    /// A taken queue that was not put back stays out, quiet, and serves nothing after a resume.
    #[must_use = "false means: call again"]
    pub fn suspend<D: DeviceModel>(&mut self, model: &mut D, slots: &mut [ChainSlot<N>]) -> bool {
        if !self.start_if_live() {
            return false;
        }
        if self.suspension == Suspension::Awake {
            self.suspension = Suspension::Suspending;
        }
        let mut done = self.shared.stop_all();
        for slot in slots.iter().filter(|slot| !slot.is_free()) {
            // It will not be followed by another one.
            model.drained(slot.queue());
            done &= model.may_sleep(slot.queue());
        }
        if done {
            self.suspension = Suspension::Suspended;
        }
        done
    }

    /// The driver resumes a suspended device ([`Message::Resume`](crate::Message)): every queue
    /// that is here counts as notified, and what was held back is announced (suspend-07), what an
    /// acknowledgement left pending too. At most `Q` steps.
    pub fn resume(&mut self) {
        if self.suspension == Suspension::Awake {
            return;
        }
        self.suspension = Suspension::Awake;
        for queue in self.table.configured() {
            self.mark_notified(queue);
        }
        let held = self.shared.take_held();
        if core::mem::take(&mut self.changed) {
            self.config_changed(true);
        } else if !held.is_empty() {
            self.interrupt(held);
        }
    }

    pub(super) fn is_suspended(&self) -> bool {
        built::SUSPEND && self.suspension == Suspension::Suspended
    }

    /// Whether no chain is to be taken.
    pub(super) fn is_suspending(&self) -> bool {
        built::SUSPEND && self.suspension != Suspension::Awake
    }
}
