//! A queue that lives elsewhere: on another thread or core, in another interrupt's context.

use crate::{
    error::{DeviceError, DriverFault, HostFault, Refusal},
    memory::{DriverMem, RingWindow},
    notify::DriverNotify,
    queue::{Chain, Popped, SplitQueue},
    shared::{InterruptStatus, SharedHandle},
};

/// Why a taken queue gives no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Stop {
    /// The driver stopped or reset the queue, or the memory changed. Give back or
    /// [`abandon`](TakenQueue::abandon) what is in flight and put the queue back or drop it: the
    /// driver's write is not answered before.
    Asked,
    /// The driver broke the protocol. DEVICE_NEEDS_RESET is set; the queue is of no more use.
    Driver(DriverFault),
}

/// A queue moved out of its device with `take_queue`.
///
/// It is `Send`; its hot path takes no lock and shares one atomic load with the device. While it
/// is out, the device answers Status = 0, QueueReady = 0 and `memory_changed` only when the queue
/// is quiet, that is, when it was asked to stop and has nothing in flight, was put back, or was
/// dropped. Dropping it marks it dead until reset.
///
/// A quiet queue never touches the driver's memory again; neither may chains that were popped
/// from it.
#[derive(Debug)]
pub struct TakenQueue<W, I, H, const Q: usize, const N: usize>
where
    H: SharedHandle<Q>,
{
    /// `None` once put back.
    queue: Option<SplitQueue<W, N>>,
    number: u16,
    generation: u32,
    in_flight: u16,
    /// Asked to stop, or at fault.
    stopped: bool,
    /// Said to be quiet, once: the next user of this number may be running.
    silent: bool,
    faulted: bool,
    shared: H,
    notify: I,
}

impl<W, I, H, const Q: usize, const N: usize> TakenQueue<W, I, H, Q, N>
where
    W: RingWindow,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    pub(crate) fn new(
        queue: SplitQueue<W, N>,
        number: u16,
        generation: u32,
        shared: H,
        notify: I,
    ) -> Self {
        shared.start(number);
        Self {
            queue: Some(queue),
            number,
            generation,
            in_flight: 0,
            stopped: false,
            silent: false,
            faulted: false,
            shared,
            notify,
        }
    }

    /// Queue number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Chains popped and not yet given back.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Whether the queue was asked to stop.
    #[inline(always)]
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped || self.shared.must_stop(self.number)
    }

    /// Takes the next available chain into `chain`; false if there is none.
    ///
    /// At most `N + 3` ring accesses and `N` descriptors of an indirect table.
    ///
    /// # Errors
    /// [`Stop`]: nothing more will come from this queue.
    #[inline]
    pub fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Result<bool, Stop> {
        if self.is_stopped() {
            return Err(self.stop());
        }
        let Some(queue) = &mut self.queue else {
            return Err(Stop::Asked);
        };
        match queue.pop(mem, chain) {
            Ok(Popped::Chain) => {
                self.in_flight = self.in_flight.wrapping_add(1);
                Ok(true)
            }
            Ok(Popped::Empty) => Ok(false),
            Err(fault) => Err(self.fault(fault)),
        }
    }

    /// Gives a chain back with `written` bytes from its first writable byte on. It is not announced
    /// before [`flush`](Self::flush). Three stores.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] if the chain is not in flight, or the queue was asked to stop (the
    /// chain is forgotten then). [`HostFault::WrittenTooMuch`] if the chain has less room; it is
    /// then still in flight.
    #[inline]
    pub fn complete(&mut self, chain: &Chain<N>, written: u32) -> Result<(), DeviceError> {
        if self.is_stopped() {
            self.abandon(1);
            return Err(Refusal::StaleToken.into());
        }
        let writable = chain.writable_len();
        if written > writable {
            return Err(HostFault::WrittenTooMuch { written, writable }.into());
        }
        match &mut self.queue {
            Some(queue) if queue.is_in_flight(chain.head()) => {
                queue.push_used(chain.head(), written);
                self.in_flight = self.in_flight.saturating_sub(1);
                Ok(())
            }
            _ => Err(Refusal::StaleToken.into()),
        }
    }

    /// Announces what was given back since the last flush, if the driver wants to hear of it; says
    /// whether an interrupt was sent. One load.
    #[inline]
    pub fn flush(&mut self) -> bool {
        if self.is_stopped() {
            return false;
        }
        let wanted = self.queue.as_mut().is_some_and(SplitQueue::needs_interrupt);
        if wanted {
            self.shared
                .raise(InterruptStatus::USED_BUFFER, &self.notify);
        }
        wanted
    }

    /// Tells the driver that kicks are not needed until [`enable_kicks`](Self::enable_kicks).
    pub fn disable_kicks(&mut self) {
        let stopped = self.is_stopped();
        if let Some(queue) = self.queue.as_mut().filter(|_| !stopped) {
            queue.disable_kicks();
        }
    }

    /// Asks for a kick with the next buffer; true if buffers came meanwhile and no kick will.
    ///
    /// # Errors
    /// As for [`pop`](Self::pop).
    pub fn enable_kicks(&mut self) -> Result<bool, Stop> {
        if self.is_stopped() {
            return Err(self.stop());
        }
        match self.queue.as_mut().map(SplitQueue::enable_kicks) {
            Some(Ok(more)) => Ok(more),
            Some(Err(fault)) => Err(self.fault(fault)),
            None => Err(Stop::Asked),
        }
    }

    /// Whether the driver kicked this queue since this was last asked. (The owner is woken by
    /// whatever rings the doorbell, or polls.)
    #[must_use]
    pub fn was_kicked(&self) -> bool {
        self.shared.doorbell().take(self.number)
    }

    /// Stops the queue for a violation that the owner found in a request, as if
    /// [`pop`](Self::pop) had found it.
    pub fn report(&mut self, fault: DriverFault) {
        self.fault(fault);
    }

    /// Forgets `count` chains in flight that will not be given back.
    pub fn abandon(&mut self, count: u16) {
        self.in_flight = self.in_flight.saturating_sub(count);
        if self.is_stopped() {
            self.stop();
        }
    }

    /// Asked to stop: quiet as soon as nothing is in flight.
    #[cold]
    fn stop(&mut self) -> Stop {
        self.stopped = true;
        self.quiet_if_done();
        Stop::Asked
    }

    #[cold]
    fn fault(&mut self, fault: DriverFault) -> Stop {
        self.stopped = true;
        self.faulted = true;
        self.shared.fail(self.shared.is_live(), &self.notify);
        self.quiet_if_done();
        Stop::Driver(fault)
    }
}

impl<W, I, H, const Q: usize, const N: usize> TakenQueue<W, I, H, Q, N>
where
    H: SharedHandle<Q>,
{
    fn quiet_if_done(&mut self) {
        if self.in_flight == 0 {
            self.quiet();
        }
    }

    fn quiet(&mut self) {
        if !self.silent {
            self.silent = true;
            self.shared.quiet(self.number);
        }
    }

    /// Takes the queue apart for the device, which decides whether it may go on.
    pub(crate) fn dissolve(mut self) -> (Option<SplitQueue<W, N>>, u16, u32) {
        // A queue that was at fault is not to be used again.
        let queue = if self.faulted {
            None
        } else {
            self.queue.take()
        };
        self.quiet();
        (queue, self.number, self.generation)
    }
}

impl<W, I, H, const Q: usize, const N: usize> Drop for TakenQueue<W, I, H, Q, N>
where
    H: SharedHandle<Q>,
{
    fn drop(&mut self) {
        self.quiet();
    }
}
