//! Answering pending chains: with the model, or without it.

use super::{
    Device,
    serve::{Round, host_failed, limited},
};
use crate::{
    device::ChainSlot,
    error::Refusal,
    interrupt::DriverNotify,
    memory::DriverMem,
    model::{DeviceModel, Token},
    shared::SharedHandle,
    trace::Trace,
};

impl<M, I, H, const Q: usize, const N: usize, T> Device<M, I, Q, N, H, T>
where
    M: DriverMem,
    I: DriverNotify,
    H: SharedHandle<Q>,
    T: Trace,
{
    /// Serves a pending chain again, because its back end has finished with the chain.
    ///
    /// The call serves the chain at once, and notifies the driver if the model answers. If the
    /// device is suspended, the first poll after it resumes serves the chain.
    ///
    /// Worst case: four ring accesses; with IN_ORDER two more for each chain that waited for this
    /// chain, for at most as many chains as there are slots.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] if the chain is not pending: it was answered, its queue was stopped
    /// or reset, or the driver set FAILED.
    pub fn complete<D: DeviceModel>(
        &mut self,
        token: Token,
        model: &mut D,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Refusal> {
        let (at, _) = self.pending(token, slots)?;
        if let Some(slot) = slots.get_mut(at) {
            slot.again();
        }
        if self.is_suspended() {
            // The first poll after the resume serves the chain.
            return Ok(());
        }
        let mut round = Round::of_slot(at);
        self.work(model, slots, &mut round);
        self.notify_driver(&round.touched);
        Ok(())
    }

    /// Answers a pending chain without asking the model. The chain's first `written`
    /// device-writable bytes hold the answer. Use this method for a back end that stores the answer
    /// itself, such as a host thread or a DMA controller.
    ///
    /// The model is not told of the answer, so it must not keep state for this token. If `written`
    /// is larger than the chain's writable length, the chain is given back with 0 bytes and
    /// [`WrittenTooMuch`](crate::HostFault::WrittenTooMuch) is recorded. Worst case: the ring
    /// accesses of [`complete`](Self::complete).
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] as for [`complete`](Self::complete). [`Refusal::WrongPhase`] while
    /// the device is suspended: the chain stays pending, so answer it after the device has resumed.
    pub fn complete_with(
        &mut self,
        token: Token,
        written: u32,
        slots: &mut [ChainSlot<N>],
    ) -> Result<(), Refusal> {
        let (at, queue) = self.pending(token, slots)?;
        if self.is_suspended() {
            return Err(Refusal::WrongPhase);
        }
        let mut round = Round::of_slot(at);
        self.settle(at, queue, written, slots, &mut round);
        self.notify_driver(&round.touched);
        Ok(())
    }

    /// Returns the slot and the queue of a pending chain.
    fn pending(&self, token: Token, slots: &[ChainSlot<N>]) -> Result<(usize, u16), Refusal> {
        let at = usize::from(token.slot());
        match slots.get(at) {
            Some(slot) if self.shared.is_live() && slot.holds(token) => Ok((at, slot.queue())),
            _ => Err(Refusal::StaleToken),
        }
    }

    /// Gives the chain in a slot back with the length that the model states, or keeps the answer
    /// until the chain's turn (IN_ORDER).
    fn settle(
        &mut self,
        at: usize,
        queue: u16,
        written: u32,
        slots: &mut [ChainSlot<N>],
        round: &mut Round<Q>,
    ) {
        let Some(slot) = slots.get_mut(at) else {
            return;
        };
        let Some(virtqueue) = self.table.virtqueue(queue) else {
            slot.release();
            return;
        };
        let written = limited(written, slot.chain()).unwrap_or_else(|fault| {
            host_failed(&mut self.host_fault, &mut self.trace, fault);
            0
        });
        if virtqueue.is_in_order() {
            slot.answer(written);
            self.give_in_order(queue, slots, round);
        } else {
            let head = slot.chain().head();
            let given = virtqueue.push_used(slot.chain(), written);
            slot.release();
            self.slot_freed(queue, round);
            if given {
                self.given(queue, head, written, round);
            }
        }
    }
}
