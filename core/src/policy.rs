//! What becomes of a driver that breaks the protocol.

/// What becomes of a driver that breaks the protocol: the same on every transport.
///
/// | | a queue that does not pass | a chain that cannot be taken | other faults of a ring |
/// |---|---|---|---|
/// | [`Refuse`](Self::Refuse) | is not there | is given back, the queue goes on | the queue stops |
/// | [`StopQueue`](Self::StopQueue) | is not there | the queue stops | the queue stops |
/// | [`NeedsReset`](Self::NeedsReset) | DEVICE_NEEDS_RESET at DRIVER_OK | the queue stops, DEVICE_NEEDS_RESET | the same |
///
/// In each case the others go on, and a queue that stopped comes back with a queue
/// reset (RING_RESET) or a device reset. What it was, a [`Trace`](crate::Trace) hears as
/// [`DriverFault`](crate::DriverFault) or [`Refusal`](crate::Refusal); a queue that stopped says it by
/// [`driver_fault`](crate::Device::driver_fault), a taken one by [`Stop`](crate::Stop). Of chains that
/// were refused, `Counters::refused` is the number and
/// [`last_refused`](crate::Device::last_refused) the last reason. A driver is told of DEVICE_NEEDS_RESET by a configuration
/// interrupt, and of the rest by silence: it may wait for ever for a queue that has stopped.
///
/// ```
/// use virtside::{models::Entropy, ChainSlot, Engine, FaultPolicy, Ram, Shared};
/// static RAM: Ram<65536> = Ram::new();
/// static SHARED: Shared<1> = Shared::new();
/// let source = |bytes: &mut [u8]| { bytes.fill(4); Ok(bytes.len()) };
/// let engine: Engine<_, _, _, _, _, 1, 16> =
///     Engine::new(Entropy::new(source), RAM.flat(0), (), [ChainSlot::<16>::new()], &SHARED)
///         .with_policy(FaultPolicy::StopQueue);
/// # let _ = engine;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FaultPolicy {
    /// What was asked for is refused, and that is all: a chain that cannot be taken, or that the model
    /// finds fault with, is given back with nothing written in it. Where there is no chain to give
    /// back (an available index too far ahead, a head that is none or in flight; with IN_ORDER, while
    /// older ones are in flight; in a packed ring, a chain without an end) the queue stops. So it does
    /// for what the owner of a taken queue [reports](crate::TakenQueue::report): it can give the chain
    /// back with nothing written itself.
    ///
    /// In a packed ring the end of such a chain is looked for once more, so a call that refuses one
    /// takes up to `N` ring accesses more than its documentation says.
    Refuse,
    /// The queue stops.
    StopQueue,
    /// The queue stops, and DEVICE_NEEDS_RESET is set.
    #[default]
    NeedsReset,
}

impl FaultPolicy {
    pub(crate) fn refuses(self) -> bool {
        self == Self::Refuse
    }

    pub(crate) fn needs_reset(self) -> bool {
        self == Self::NeedsReset
    }
}
