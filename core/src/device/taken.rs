//! A queue that lives elsewhere: on another thread or core, in another interrupt's context.

use crate::{
    error::{DeviceError, DriverFault, FaultPolicy, HostFault, Refusal},
    interrupt::DriverNotify,
    memory::{DriverMem, RingWindow},
    num,
    queue::{Chain, Popped, Virtqueue},
    shared::{InterruptStatus, Shared, SharedHandle},
};

/// Why a taken queue gives no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Stop {
    /// The driver stopped or reset the queue, or the memory changed (its doorbell rang, too). Give back or
    /// [`abandon`](TakenQueue::abandon) what is in flight and put the queue back or drop it: the
    /// driver's write is not answered before.
    Asked,
    /// The driver broke the protocol. DEVICE_NEEDS_RESET is set, unless the device's
    /// [`FaultPolicy`] is another; the queue is of no more use.
    Driver(DriverFault),
    /// The driver broke the protocol, and that one chain was given back with nothing written in it
    /// ([`FaultPolicy::Refuse`]): go on.
    Refused(DriverFault),
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
// The queue is first, so that both are at one address.
#[derive(Debug)]
#[repr(C)]
pub struct TakenQueue<W, I, const Q: usize = 1, const N: usize = 16, H = &'static Shared<Q>>
where
    H: SharedHandle<Q>,
{
    queue: Virtqueue<W, N>,
    generation: u32,
    /// The queue's number; one that there is not, once it was asked to stop or was at fault.
    watched: u16,
    fault: Option<DriverFault>,
    refused: u32,
    last_refused: Option<DriverFault>,
    policy: FaultPolicy,
    notify: I,
    life: Life<H, Q>,
}

#[cold]
#[inline(never)]
fn too_much(written: u32, writable: u64) -> DeviceError {
    // Less than `written`, so none of it is cut off.
    let writable = num::low(writable);
    HostFault::WrittenTooMuch { written, writable }.into()
}

#[cold]
#[inline(never)]
fn stale() -> DeviceError {
    Refusal::StaleToken.into()
}

/// Tells the device, once, that the queue is quiet: at the latest when it is dropped.
#[derive(Debug)]
struct Life<H, const Q: usize>
where
    H: SharedHandle<Q>,
{
    shared: H,
    number: u16,
    /// Which take of it this is.
    take: u32,
    /// Told already: the next user of this number may be running.
    silent: bool,
}

impl<H: SharedHandle<Q>, const Q: usize> Life<H, Q> {
    fn end(&mut self) {
        if !self.silent {
            self.silent = true;
            self.shared.quiet(self.number, self.take);
        }
    }
}

impl<H: SharedHandle<Q>, const Q: usize> Drop for Life<H, Q> {
    fn drop(&mut self) {
        self.shared.dropped(self.number, self.take, self.silent);
    }
}

impl<W, I, H, const Q: usize, const N: usize> TakenQueue<W, I, Q, N, H>
where
    W: RingWindow,
    I: DriverNotify,
    H: SharedHandle<Q>,
{
    pub(crate) fn new(
        queue: Virtqueue<W, N>,
        number: u16,
        generation: u32,
        policy: FaultPolicy,
        shared: H,
        notify: I,
    ) -> Self {
        let take = shared.start(number);
        let watched = number;
        let life = Life {
            shared,
            number,
            take,
            silent: false,
        };
        Self {
            queue,
            generation,
            watched,
            fault: None,
            refused: 0,
            last_refused: None,
            policy,
            notify,
            life,
        }
    }

    /// Queue number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.life.number
    }

    /// Chains popped that are neither given back nor abandoned.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.queue.in_flight()
    }

    /// How many chains were given back unserved, modulo 2^32, and why the last one was
    /// ([`Stop::Refused`]). The device hears of both when the queue is put back.
    #[must_use]
    pub const fn refusals(&self) -> (u32, Option<DriverFault>) {
        (self.refused, self.last_refused)
    }

    /// Whether the queue was asked to stop.
    #[inline(always)]
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.life.shared.must_stop(self.watched)
    }

    /// Takes the next available chain into `chain`; false if there is none.
    ///
    /// At most `N + 2` ring accesses and `N` descriptors of an indirect table; one more of each if
    /// the chain has no end, and a load to announce what was given back before, or two stores if it
    /// is refused; with IN_ORDER two more stores.
    ///
    /// # Errors
    /// [`Stop`]: nothing more will come from this queue, but after [`Stop::Refused`].
    #[inline]
    pub fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Result<bool, Stop> {
        if self.is_stopped() {
            return Err(self.stop());
        }
        let found = self.queue.pop(mem, chain);
        match found {
            Popped::Chain => Ok(true),
            Popped::Empty => Ok(false),
            Popped::Broken | Popped::Fault if self.policy.refuses() => {
                Err(self.refused(found, chain))
            }
            Popped::Broken | Popped::Fault => Err(self.broken(chain)),
        }
    }

    /// Gives a chain back with `written` bytes from its first writable byte on. It is not announced
    /// before [`flush`](Self::flush). Two stores, one of an element; and the load of `flush`, if
    /// this was the last one of a queue that was asked to stop.
    ///
    /// # Errors
    /// [`Refusal::StaleToken`] if the chain is not in flight: it was given back or abandoned, even if
    /// another with its head was popped since, or it is of another queue of the device or of another
    /// life of this one. [`HostFault::WrittenTooMuch`] if it
    /// has less room, [`Refusal::OutOfOrder`] if IN_ORDER was negotiated and an older one is in flight
    /// or was abandoned; it is then still in flight.
    #[inline]
    pub fn complete(&mut self, chain: &Chain<N>, written: u32) -> Result<(), DeviceError> {
        let writable = chain.writable_len();
        if u64::from(written) > writable {
            return Err(too_much(written, writable));
        }
        // While a chain is in flight the queue is not quiet, so its rings are still the device's
        // even if it was asked to stop; once it is quiet, no chain is in flight.
        if !self.queue.push_used(chain, written) {
            return self.complete_in_order(chain, written);
        }
        if self.watched == u16::MAX {
            self.stop();
        }
        Ok(())
    }

    /// What is not to be given back as it comes: with IN_ORDER, or not in flight.
    #[cold]
    #[inline(never)]
    fn complete_in_order(&mut self, chain: &Chain<N>, written: u32) -> Result<(), DeviceError> {
        if !self.queue.is_in_order() {
            return Err(stale());
        }
        if !self.queue.is_next(chain) || !self.queue.push_in_order(chain, written) {
            return Err(if self.queue.is_in_flight(chain) {
                Refusal::OutOfOrder { head: chain.head() }.into()
            } else {
                stale()
            });
        }
        if self.watched == u16::MAX {
            self.stop();
        }
        Ok(())
    }

    /// Announces what was given back since the last flush, if the driver wants to hear of it; says
    /// whether an interrupt was sent. With IN_ORDER the ring may hear of it no earlier (and not at all
    /// if the queue is dropped before). One load; two stores with IN_ORDER.
    #[inline(always)]
    pub fn flush(&mut self) -> bool {
        let wanted = self.queue.needs_interrupt();
        if wanted {
            self.life
                .shared
                .raise(InterruptStatus::USED_BUFFER, &self.notify);
        }
        wanted
    }

    /// Tells the driver that kicks are not needed until [`enable_kicks`](Self::enable_kicks).
    pub fn disable_kicks(&mut self) {
        if !self.is_stopped() {
            self.queue.disable_kicks();
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
        self.queue.enable_kicks().map_err(|fault| self.fault(fault))
    }

    /// Whether the driver kicked this queue since this was last asked. (The owner is woken by
    /// whatever rings the doorbell, or polls.)
    #[must_use]
    pub fn was_kicked(&self) -> bool {
        // Once it is quiet, kicks are for the next user of this number.
        !self.life.silent && self.life.shared.doorbell().take(self.life.number)
    }

    /// Stops the queue for a violation that the owner found in a request, as if
    /// [`pop`](Self::pop) had found it: under every [`FaultPolicy`], for it is not said of which chain
    /// it is. To go on under [`FaultPolicy::Refuse`], give the chain back with nothing written instead.
    pub fn report(&mut self, fault: DriverFault) {
        self.fault(fault);
    }

    /// Forgets a chain in flight that will not be given back. One that is not in flight is left
    /// alone, as in [`complete`](Self::complete). With IN_ORDER no younger chain can be given back
    /// then, and a queue that is put back is of no more use: give it back with 0 bytes where you can.
    pub fn abandon(&mut self, chain: &Chain<N>) {
        self.queue.abandon(chain);
        if self.is_stopped() {
            self.stop();
        }
    }

    /// Forgets every chain in flight.
    pub fn abandon_all(&mut self) {
        self.queue.abandon_all();
        if self.is_stopped() {
            self.stop();
        }
    }

    /// Asked to stop: quiet as soon as nothing is in flight.
    #[cold]
    #[inline(never)]
    fn stop(&mut self) -> Stop {
        self.watched = u16::MAX;
        self.quiet_if_done();
        Stop::Asked
    }

    #[cold]
    #[inline(never)]
    fn refused(&mut self, found: Popped, chain: &mut Chain<N>) -> Stop {
        if found == Popped::Broken
            && self.queue.reject(chain)
            && let Some(fault) = chain.take_fault()
        {
            self.refused = self.refused.wrapping_add(1);
            self.last_refused = Some(fault);
            return Stop::Refused(fault);
        }
        self.broken(chain)
    }

    #[cold]
    #[inline(never)]
    fn broken(&mut self, chain: &mut Chain<N>) -> Stop {
        match chain.take_fault() {
            Some(fault) => self.fault(fault),
            None => self.stop(),
        }
    }

    #[cold]
    #[inline(never)]
    fn fault(&mut self, fault: DriverFault) -> Stop {
        self.watched = u16::MAX;
        self.fault = self.fault.or(Some(fault));
        // Once it is quiet, the device may be in another life: then `put_back` decides.
        if !self.life.silent && self.policy.needs_reset() {
            let shared = &self.life.shared;
            shared.fail(shared.is_live(), &self.notify);
        }
        self.quiet_if_done();
        Stop::Driver(fault)
    }

    /// Whether it was taken from a device with this block.
    pub(crate) fn shares(&self, shared: &Shared<Q>) -> bool {
        core::ptr::eq::<Shared<Q>>(&*self.life.shared, shared)
    }

    fn quiet_if_done(&mut self) {
        if self.queue.in_flight() == 0 {
            // The driver hears of what was given back: its rings cannot be looked at later.
            self.flush();
            self.queue.set_quiet(true);
            self.life.end();
        }
    }

    /// Takes the queue apart for the device, which decides whether it may go on. One whose driver
    /// was at fault may not.
    #[allow(clippy::type_complexity, reason = "either the queue or the fault")]
    pub(crate) fn dissolve(mut self) -> (Result<Virtqueue<W, N>, DriverFault>, u16, u32) {
        // The driver hears of what was given back: nobody looks at it later.
        self.flush();
        self.life.end();
        self.queue.set_quiet(false);
        let queue = match self.fault {
            None => Ok(self.queue),
            Some(fault) => Err(fault),
        };
        (queue, self.life.number, self.generation)
    }
}
