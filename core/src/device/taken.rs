//! A queue that another thread, core or interrupt handler serves.

mod serve;

use core::fmt;

use crate::{
    error::{DeviceError, DriverFault, FaultPolicy, HostFault, Refusal},
    interrupt::DriverNotify,
    memory::{DriverMem, RingWindow},
    num,
    queue::{Chain, Popped, Virtqueue},
    shared::{InterruptStatus, Shared, SharedHandle},
};

/// Why a taken queue returns no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Stop {
    /// The driver stops, resets or suspends the queue or the device, the host quiets the queue, or
    /// the memory has changed. The device has also rung the queue's doorbell, because the owner may be waiting for a kick.
    ///
    /// Give back or [`abandon`](TakenQueue::abandon) the chains in flight: the driver's write
    /// completes only then. Then put the queue back or drop it.
    Asked,
    /// The driver broke the protocol, and the queue has stopped. DEVICE_NEEDS_RESET is set if the
    /// device's [`FaultPolicy`] asks for it.
    Driver(DriverFault),
    /// The driver broke the protocol with one chain. That chain was given back with nothing written
    /// ([`FaultPolicy::Reject`]), and the queue goes on.
    Rejected(DriverFault),
}

/// Why a taken queue `T` was not put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PutBackError<T> {
    /// Chains of the queue are in flight, or the queue was taken from another device. The caller
    /// gets the queue again.
    Returned(T),
    /// The queue was discarded, for one of these reasons:
    ///
    /// * The queue was stopped or reset since it was taken.
    /// * The driver broke the protocol in this queue.
    /// * With IN_ORDER, one of its chains was abandoned. This sets DEVICE_NEEDS_RESET, unless the
    ///   driver is stopping the queue.
    Discarded,
}

impl<T> fmt::Display for PutBackError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Returned(_) => "the queue has chains in flight, or belongs to another device",
            Self::Discarded => "the queue was stopped since it was taken, and is discarded",
        })
    }
}

impl<T: fmt::Debug> core::error::Error for PutBackError<T> {}

/// A queue moved out of its device with `take_queue`.
///
/// A taken queue is `Send`. [`pop`](Self::pop) and [`complete`](Self::complete) take no lock.
/// Until the queue is asked to stop, they share one atomic word with the device, which `pop` loads.
///
/// While the queue is taken, the device completes a reset, SUSPEND, QueueReset, QueueReady = 0,
/// `memory_changed` and `quiesce` only when the queue is *quiet*. A taken queue becomes quiet
///
/// * when no chain is in flight, after `pop` or [`enable_kicks`](Self::enable_kicks) has returned
///   [`Stop::Asked`] or [`Stop::Driver`],
/// * when it is put back, or
/// * when it is dropped. The queue has then failed, until a reset of the queue or of the device.
///
/// A quiet queue never touches the driver's memory again. Chains that were popped from it must not
/// be read or written either. `core/examples/taken_queue.rs` serves a queue on another thread.
// With `queue` first, one pointer serves for the whole value and for `queue`.
#[derive(Debug)]
#[repr(C)]
pub struct TakenQueue<W, I, const Q: usize = 1, const N: usize = 16, H = &'static Shared<Q>>
where
    H: SharedHandle<Q>,
{
    queue: Virtqueue<W, N>,
    /// Epoch of the device and generation of the queue when the queue was taken. A device that is
    /// built anew over the same shared block counts generations from 0 again, while the block goes
    /// on counting epochs.
    taken_in: (u32, u32),
    /// The queue's number until the queue is asked to stop or breaks the protocol; then `u16::MAX`,
    /// which is no queue.
    watched: u16,
    /// Whether [`complete`](Self::complete) has more to do than to mark a chain as used: with
    /// IN_ORDER, and after the queue was asked to stop or broke the protocol. One flag, because the
    /// hot path should make one test.
    completes_slowly: bool,
    fault: Option<DriverFault>,
    rejected: u32,
    last_rejected: Option<DriverFault>,
    host_fault: Option<HostFault>,
    policy: FaultPolicy,
    notify: I,
    quiet: Quiet<H, Q>,
}

#[cold]
#[inline(never)]
fn too_much(written: u32, writable: u64) -> DeviceError {
    // `writable` is less than `written`, so it fits in 32 bits.
    let writable = num::low(writable);
    HostFault::WrittenTooMuch { written, writable }.into()
}

#[cold]
#[inline(never)]
fn stale() -> DeviceError {
    Refusal::StaleToken.into()
}

/// Tells the device once that the queue is quiet, at the latest when the queue is dropped.
#[derive(Debug)]
struct Quiet<H, const Q: usize>
where
    H: SharedHandle<Q>,
{
    shared: H,
    number: u16,
    /// Distinguishes this take from earlier ones.
    take: u32,
    /// The device was told. Another taken queue may have this number since.
    told: bool,
}

impl<H: SharedHandle<Q>, const Q: usize> Quiet<H, Q> {
    fn tell(&mut self) {
        if !self.told {
            self.told = true;
            self.shared.quiet(self.number, self.take);
        }
    }
}

impl<H: SharedHandle<Q>, const Q: usize> Drop for Quiet<H, Q> {
    fn drop(&mut self) {
        self.shared.dropped(self.number, self.take, self.told);
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
        taken_in: (u32, u32),
        policy: FaultPolicy,
        shared: H,
        notify: I,
    ) -> Self {
        let take = shared.start(number);
        let completes_slowly = queue.is_in_order();
        let quiet = Quiet {
            shared,
            number,
            take,
            told: false,
        };
        Self {
            queue,
            taken_in,
            watched: number,
            completes_slowly,
            fault: None,
            rejected: 0,
            last_rejected: None,
            host_fault: None,
            policy,
            notify,
            quiet,
        }
    }

    /// Returns the queue number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.quiet.number
    }

    /// Returns the number of chains that were popped and neither given back nor abandoned.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.queue.in_flight()
    }

    /// Returns the number of rejected chains, modulo 2^32, and the fault of the last one
    /// ([`Stop::Rejected`]). The device takes over both when the queue is put back.
    #[must_use]
    pub const fn rejections(&self) -> (u32, Option<DriverFault>) {
        (self.rejected, self.last_rejected)
    }

    /// Returns whether the queue was asked to stop.
    #[inline(always)]
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.quiet.shared.must_stop(self.watched)
    }

    /// Pops the next available chain into `chain`. Returns false if the ring is empty.
    ///
    /// Worst case: `N + 2` ring accesses and `N` descriptors of an indirect table, and in addition
    ///
    /// * one more of each if the chain is too long or loops,
    /// * one load if the queue stops, to notify the driver of chains that were given back before,
    /// * two stores if the chain is rejected,
    /// * two stores with IN_ORDER.
    ///
    /// # Errors
    /// [`Stop`]. The queue returns no more chains, except after [`Stop::Rejected`].
    #[inline]
    pub fn pop<M: DriverMem>(&mut self, mem: &M, chain: &mut Chain<N>) -> Result<bool, Stop> {
        if self.is_stopped() {
            return Err(self.stop());
        }
        let found = self.queue.pop(mem, chain);
        match found {
            Popped::Chain => Ok(true),
            Popped::Empty => Ok(false),
            Popped::Broken | Popped::Fault if self.policy.rejects() => {
                Err(self.rejected(found, chain))
            }
            Popped::Broken | Popped::Fault => Err(self.broken(chain)),
        }
    }

    /// Gives a chain back whose first `written` device-writable bytes hold the answer. The driver
    /// is notified by [`flush`](Self::flush).
    ///
    /// Worst case: two stores, and one load for the last chain of a queue that was asked to stop.
    ///
    /// # Errors
    /// * [`Refusal::StaleToken`] if the chain is not in flight: it was given back or abandoned, or
    ///   it comes from another queue. A stale chain is recognised even if a newer chain with the
    ///   same head is in flight. Discard every clone when the queue stops: a queue that is set up
    ///   again may repeat serial numbers.
    /// * [`HostFault::WrittenTooMuch`] if the chain has fewer writable bytes. It stays in flight.
    /// * [`Refusal::OutOfOrder`] if IN_ORDER was negotiated and an older chain is in flight or was
    ///   abandoned. The chain stays in flight.
    #[inline]
    pub fn complete(&mut self, chain: &Chain<N>, written: u32) -> Result<(), DeviceError> {
        let writable = chain.writable_len();
        if u64::from(written) > writable {
            return Err(too_much(written, writable));
        }
        // A queue with a chain in flight is not quiet, so the device may still use its rings, even
        // if the queue was asked to stop. A quiet queue has no chain in flight.
        if self.completes_slowly {
            return self.complete_slowly(chain, written);
        }
        if self.queue.push_used(chain, written) {
            Ok(())
        } else {
            Err(stale())
        }
    }

    /// Gives a chain back in its turn (IN_ORDER), and makes a queue quiet that was asked to stop.
    #[cold]
    #[inline(never)]
    fn complete_slowly(&mut self, chain: &Chain<N>, written: u32) -> Result<(), DeviceError> {
        let given = if self.queue.is_in_order() {
            self.queue.is_next(chain) && self.queue.push_in_order(chain, written)
        } else {
            self.queue.push_used(chain, written)
        };
        if !given {
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

    /// Notifies the driver of the chains that were given back since the last flush, if the driver
    /// wants an interrupt. Returns whether an interrupt was sent.
    ///
    /// With IN_ORDER, the chains may not be in the used ring before `flush` stores them. If the
    /// queue is dropped without a `flush`, the driver may never see these chains.
    ///
    /// Worst case: one load; with IN_ORDER also two stores.
    #[inline(always)]
    pub fn flush(&mut self) -> bool {
        let wanted = self.queue.needs_interrupt();
        if wanted {
            self.notify.used(self.quiet.number);
            self.quiet
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

    /// Asks the driver for a kick with the next chain. Returns true if chains have arrived in the
    /// meantime: then pop again, since no kick may follow. Worst case: two ring accesses.
    ///
    /// # Errors
    /// As for [`pop`](Self::pop).
    pub fn enable_kicks(&mut self) -> Result<bool, Stop> {
        if self.is_stopped() {
            return Err(self.stop());
        }
        self.queue.enable_kicks().map_err(|fault| self.fault(fault))
    }

    /// Returns whether the driver has kicked this queue since the last call. The device does not
    /// wake the owner: the host wakes it after a QueueNotify, or the owner polls.
    #[must_use]
    pub fn was_kicked(&self) -> bool {
        // Once the queue is quiet, kicks are for the next queue with this number.
        !self.quiet.told && self.quiet.shared.doorbell().take(self.quiet.number)
    }

    /// Stops the queue for a protocol violation that the owner found in a request.
    ///
    /// The queue stops under every [`FaultPolicy`], because the call does not name a chain. To go
    /// on under [`FaultPolicy::Reject`], give the chain back with 0 bytes instead.
    pub fn report(&mut self, fault: DriverFault) {
        self.fault(fault);
    }

    /// Abandons a chain in flight: it will not be given back. Does nothing if the chain is not in
    /// flight.
    ///
    /// With IN_ORDER no younger chain can be given back afterwards, and the queue fails when it is
    /// put back. Prefer to give the chain back with 0 bytes.
    pub fn abandon(&mut self, chain: &Chain<N>) {
        self.queue.abandon(chain);
        if self.is_stopped() {
            self.stop();
        }
    }

    /// Abandons every chain in flight.
    pub fn abandon_all(&mut self) {
        self.queue.abandon_all();
        if self.is_stopped() {
            self.stop();
        }
    }

    fn stop_watching(&mut self) {
        self.watched = u16::MAX;
        self.completes_slowly = true;
    }

    /// Makes the queue quiet as soon as no chain is in flight.
    #[cold]
    #[inline(never)]
    fn stop(&mut self) -> Stop {
        self.stop_watching();
        self.quiet_if_done();
        Stop::Asked
    }

    #[cold]
    #[inline(never)]
    fn rejected(&mut self, found: Popped, chain: &mut Chain<N>) -> Stop {
        if found == Popped::Broken
            && self.queue.reject(chain)
            && let Some(fault) = chain.take_fault()
        {
            self.count_rejected(fault);
            return Stop::Rejected(fault);
        }
        self.broken(chain)
    }

    fn count_rejected(&mut self, fault: DriverFault) {
        self.rejected = self.rejected.wrapping_add(1);
        self.last_rejected = Some(fault);
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
        self.stop_watching();
        self.fault = self.fault.or(Some(fault));
        // Once the queue is quiet, the device may be in a later epoch. `put_back` decides then.
        if !self.quiet.told && self.policy.needs_reset() {
            let shared = &self.quiet.shared;
            shared.fail(shared.is_live(), &self.notify);
        }
        self.quiet_if_done();
        Stop::Driver(fault)
    }

    /// Returns whether the queue was taken from a device with this shared block.
    pub(crate) fn shares(&self, shared: &Shared<Q>) -> bool {
        core::ptr::eq::<Shared<Q>>(&*self.quiet.shared, shared)
    }

    fn quiet_if_done(&mut self) {
        if self.queue.in_flight() == 0 {
            // The last chance to notify the driver: the rings must not be read later.
            self.flush();
            self.queue.set_quiet(true);
            self.quiet.tell();
        }
    }

    /// Returns the parts of the queue to the device: the queue or the fault that stopped it, the
    /// number and the generation.
    #[allow(clippy::type_complexity, reason = "either the queue or the fault")]
    pub(crate) fn dissolve(mut self) -> (Result<Virtqueue<W, N>, DriverFault>, u16, (u32, u32)) {
        // Notifies the driver now, since the device does not know which chains were given back.
        self.flush();
        self.quiet.tell();
        self.queue.set_quiet(false);
        let queue = match self.fault {
            None => Ok(self.queue),
            Some(fault) => Err(fault),
        };
        (queue, self.quiet.number, self.taken_in)
    }
}
