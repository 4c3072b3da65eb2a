//! One connected front end: its queues, and the device that it has set up.

use std::{
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use vhost::vhost_user::{Backend, Error, Result, message::VhostUserProtocolFeatures};
use virtside::{
    Configuring, Device, DeviceBuilder, DeviceModel, DriverNotify, Features, Message, QueueCheck,
    QueueConfig, Shared, Step, error::FaultPolicy, message::RingPosition, model::Start,
    queue::translate_queue, setup::Progress,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::{
    VhostUserDevice,
    calls::Calls,
    dirty::Dirty,
    inflight::Inflight,
    memory::Regions,
    rings::{Ring, base, is_available, is_fresh, used_index},
    spin::Spin,
};
use crate::{BUDGET, VmMem};

/// Data of the socket's events. The data of a kick is its queue number.
const SOCKET: u64 = u64::MAX;
/// Data of the event that stops the device.
const STOP: u64 = u64::MAX - 1;
/// Data of the events of the back end.
const WAKE: u64 = u64::MAX - 2;
/// How long a queue that stops waits for its chains in hand.
const PATIENCE: Duration = Duration::from_secs(5);
/// The device sleeps for at most 2 to this power milliseconds while the model may have an answer
/// without a kick.
const LONGEST_SLEEP: u32 = 4;
/// DEVICE_NEEDS_RESET
const NEEDS_RESET: u8 = 64;
/// How many looks for chains there are between two looks for events.
const ROUNDS: u32 = 8;

/// Why [`Session::work`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The front end has sent a message, or has closed the connection.
    ByMessage,
    /// The device is told to stop.
    ToStop,
    /// Something else happened. Call again.
    Otherwise,
}

/// Why looking for chains ended.
enum Spun {
    /// The result of the last poll.
    Step(Step),
    /// There was an event.
    Woken(Woken),
}

type Hosted<const Q: usize, const N: usize> =
    Device<VmMem<Dirty>, Calls, Q, N, Arc<Shared<Q>>, Inflight<Q>>;

/// The queue checks of a model. The set of queues is not checked, because a front end starts one
/// queue after the other and does not say which is the last.
struct OneByOne<C>(C);

impl<C: QueueCheck> QueueCheck for OneByOne<C> {
    type Error = C::Error;

    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> std::result::Result<(), Self::Error> {
        self.0.check_queue(queue, existing)
    }

    fn check_config<'a>(
        &self,
        config: &QueueConfig,
        features: Features,
        existing: impl Iterator<Item = &'a QueueConfig> + Clone,
    ) -> std::result::Result<(), Self::Error> {
        self.0.check_config(config, features, existing)
    }
}

pub(super) struct Session<'h, D, const Q: usize, const N: usize> {
    pub(super) host: &'h mut VhostUserDevice<D, Q, N>,
    pub(super) epoll: Epoll,
    pub(super) regions: Regions,
    pub(super) rings: [Ring; Q],
    pub(super) calls: Calls,
    pub(super) features: Features,
    pub(super) device: Option<Hosted<Q, N>>,
    /// The log of the pages that the device has written.
    pub(super) dirty: Dirty,
    /// When the queues that stop must have stopped, if not each has its own time.
    deadline: Option<Instant>,
    /// What is recorded for the next device, if this one is killed.
    pub(super) inflight: Inflight<Q>,
    /// State that the device shares.
    shared: Arc<Shared<Q>>,
    /// The model has been told that its driver is live.
    pub(super) told: bool,
    /// The front end speaks protocol features, so it enables queues itself.
    pub(super) enables: bool,
    /// The protocol features that the front end has chosen.
    pub(super) protocol: VhostUserProtocolFeatures,
    /// The status that the front end has set last.
    status: u8,
    /// Number of queues before any negotiation.
    pub(super) queues: u64,
    spin: Spin,
    /// How often the device was blocked without an event in between.
    blocked: u32,
    /// Kept open, because a front end may take its end for a broken device.
    pub(super) requests: Option<Backend>,
}

impl<'h, D: DeviceModel, const Q: usize, const N: usize> Session<'h, D, Q, N> {
    pub(super) fn new(
        host: &'h mut VhostUserDevice<D, Q, N>,
        front_end: &UnixStream,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let wanted = EpollEvent::new(EventSet::IN, SOCKET);
        epoll.ctl(ControlOperation::Add, front_end.as_raw_fd(), wanted)?;
        if let Some(stop) = &host.stop {
            let wanted = EpollEvent::new(EventSet::IN, STOP);
            epoll.ctl(ControlOperation::Add, stop.as_raw_fd(), wanted)?;
        }
        for wake in &host.wakes {
            let wanted = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, WAKE);
            epoll.ctl(ControlOperation::Add, wake.0.as_raw_fd(), wanted)?;
        }
        let there = |queue: &u16| host.model.queue_size_max(*queue) != 0;
        let queues = numbers::<Q>().filter(there).map(|_| 1).sum();
        Ok(Self {
            spin: Spin::new(host.spin),
            host,
            epoll,
            regions: Regions::default(),
            rings: std::array::from_fn(|_| Ring::default()),
            calls: Calls::new(Q),
            features: Features::empty(),
            device: None,
            dirty: Dirty::default(),
            deadline: None,
            inflight: Inflight::none(),
            shared: Arc::default(),
            told: false,
            enables: false,
            protocol: VhostUserProtocolFeatures::empty(),
            status: 0,
            queues,
            blocked: 0,
            requests: None,
        })
    }

    /// Returns whether the front end has chosen a protocol feature.
    pub(super) const fn speaks(&self, feature: VhostUserProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }

    /// Returns the status that the front end has set, and DEVICE_NEEDS_RESET.
    pub(super) fn status(&self) -> Result<u8> {
        if !self.speaks(VhostUserProtocolFeatures::STATUS) {
            return Err(Error::InvalidOperation("STATUS was not negotiated"));
        }
        let broken = self.device.is_some() && self.shared.needs_reset();
        Ok(self.status | if broken { NEEDS_RESET } else { 0 })
    }

    /// Sets the status. 0 resets the device.
    pub(super) fn set_status(&mut self, status: u8) -> Result<()> {
        if !self.speaks(VhostUserProtocolFeatures::STATUS) {
            return Err(Error::InvalidOperation("STATUS was not negotiated"));
        }
        if status == 0 {
            self.end();
        }
        self.status = status & !NEEDS_RESET;
        Ok(())
    }

    fn poll(&mut self) -> Step {
        let host = &mut *self.host;
        self.device.as_mut().map_or(Step::Idle, |device| {
            device.poll(&mut host.model, &mut host.slots, BUDGET)
        })
    }

    /// Serves chains, and then waits for the next event, if nothing is left to do.
    ///
    /// # Errors
    /// The error of epoll.
    pub(super) fn work(&mut self) -> io::Result<Woken> {
        let spins = self.device.is_some() && !self.spin.window().is_zero();
        self.set_polling(spins);
        let mut step = self.poll();
        if step != Step::More && spins {
            match self.poll_for_a_while()? {
                Spun::Step(last) => step = last,
                Spun::Woken(woken) => return Ok(woken),
            }
        }
        let timed = step == Step::Blocked && self.host.wakes.is_empty();
        let timeout = match step {
            Step::More => 0,
            Step::Blocked if timed => 1 << self.blocked.min(LONGEST_SLEEP),
            Step::Blocked | Step::Idle => -1,
        };
        let asleep = Instant::now();
        let (count, woken) = self.take_events(timeout)?;
        if step != Step::More {
            self.spin.slept(asleep.elapsed());
        }
        self.blocked = if timed && count == 0 {
            self.blocked.saturating_add(1)
        } else {
            0
        };
        if timed {
            self.look_again();
        }
        Ok(woken)
    }

    /// Looks for chains without a kick, until a chain or an event is there, or the time is over.
    fn poll_for_a_while(&mut self) -> io::Result<Spun> {
        let begun = Instant::now();
        let mut rounds: u32 = 0;
        for queue in numbers::<Q>().filter(|&queue| self.is_started(queue)) {
            self.kicked(queue);
        }
        while begun.elapsed() < self.spin.window() {
            let before = self.chains();
            let step = self.poll();
            if step == Step::More || self.chains() != before {
                self.spin.found();
                return Ok(Spun::Step(Step::More));
            }
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(ROUNDS) {
                let (count, woken) = self.take_events(0)?;
                if count != 0 {
                    return Ok(Spun::Woken(woken));
                }
            }
        }
        self.spin.failed();
        self.set_polling(false);
        Ok(Spun::Step(self.poll()))
    }

    fn set_polling(&mut self, polling: bool) {
        if let Some(device) = &mut self.device {
            device.set_polling(polling);
        }
    }

    /// Returns the number of chains that the device has given back.
    fn chains(&self) -> u32 {
        self.device
            .as_ref()
            .map_or(0, |device| device.counters().chains)
    }

    /// Waits for up to `timeout` milliseconds, or for ever if it is -1. Handles the events of queues
    /// and of the back end. Returns the number of events.
    fn take_events(&mut self, timeout: i32) -> io::Result<(usize, Woken)> {
        let mut events = [EpollEvent::default(); 16];
        let count = match self.epoll.wait(timeout, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count?,
        };
        let mut woken = Woken::Otherwise;
        for event in events.iter().take(count) {
            match event.data() {
                STOP => woken = Woken::ToStop,
                WAKE => self.look_again(),
                SOCKET if woken != Woken::ToStop => woken = Woken::ByMessage,
                queue => {
                    if let Ok(queue) = u16::try_from(queue) {
                        self.kicked(queue);
                    }
                }
            }
        }
        Ok((count, woken))
    }

    /// Lets the model look for answers that came without a kick.
    fn look_again(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        for queue in numbers::<Q>() {
            device.backend_ready(queue, &mut self.host.slots);
        }
    }

    /// Notes a kick. The descriptor is not read: its event is edge-triggered, and a read could block
    /// if another queue has the same descriptor.
    pub(super) fn kicked(&self, queue: u16) {
        if let Some(device) = &self.device {
            let _ = device.notify_queue(queue);
        }
    }

    /// Returns whether the device has the queue.
    pub(super) fn is_started(&self, queue: u16) -> bool {
        let ring = self.rings.get(usize::from(queue));
        ring.is_some_and(|ring| ring.started)
    }

    /// Returns the layout of a queue, if its rings begin in shared memory.
    pub(super) fn config(&self, queue: u16) -> Option<QueueConfig> {
        let ring = self.rings.get(usize::from(queue))?;
        ring.config(queue, |user| self.regions.driver_address(user))
    }

    pub(super) fn forget_kick(&mut self, queue: u16) {
        let ring = self.rings.get_mut(usize::from(queue));
        if let Some(kick) = ring.and_then(|ring| ring.kick.take()) {
            let _ = self.epoll.ctl(
                ControlOperation::Delete,
                kick.as_raw_fd(),
                EpollEvent::default(),
            );
        }
    }

    pub(super) fn ring(&mut self, index: u32) -> Result<(u16, &mut Ring)> {
        let queue = u16::try_from(index).map_err(|_| Error::InvalidParam)?;
        let ring = self.rings.get_mut(usize::from(queue));
        Ok((queue, ring.ok_or(Error::InvalidParam)?))
    }

    /// The ring of a queue that may be set up: it is not started, or the front end has disabled it.
    pub(super) fn free_ring(&mut self, index: u32) -> Result<&mut Ring> {
        let (queue, ring) = self.ring(index)?;
        if ring.started {
            if ring.enabled {
                return Err(Error::InvalidOperation("the queue is started"));
            }
            self.stop(queue);
        }
        Ok(self.ring(index)?.1)
    }

    /// Makes the device live with these features, without queues.
    pub(super) fn go_live(&mut self, features: Features) -> Result<()> {
        let model = &mut self.host.model;
        if !model.negotiate(features) {
            model.reset();
            return Err(Error::FeatureMismatch);
        }
        let calls = self.calls.clone();
        self.shared = Arc::default();
        let builder = DeviceBuilder::new(Arc::clone(&self.shared))
            .with_policy(FaultPolicy::NeedsReset)
            .map_notify(|()| Ok(calls))
            .map_err(|_| Error::BackendInternalError)?;
        let mut configuring =
            Configuring::<_, _, _, Q, N, _>::new(builder, &.., self.regions.map()?);
        let Ok(Progress::Ready(device, responder)) = configuring.step(Message::Ready { features })
        else {
            return Err(Error::FeatureMismatch);
        };
        // Nobody else answers, so the answer counts.
        responder.accept();
        self.device = Some(device.with_trace(self.inflight.clone()));
        self.features = features;
        Ok(())
    }

    /// Starts a queue if the front end has said everything about it.
    pub(super) fn start(&mut self, queue: u16) -> Result<()> {
        let config = self.config(queue);
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else {
            return Err(Error::InvalidParam);
        };
        let Some(device) = &mut self.device else {
            return Ok(());
        };
        let model = &mut self.host.model;
        let max = model.queue_size_max(queue);
        // A front end may speak of queues that the driver's features leave out.
        if ring.started || ring.kick.is_none() || ring.size == 0 || max == 0 {
            return Ok(());
        }
        if self.enables && !ring.enabled {
            return Ok(());
        }
        ring.enabled = true;
        let config = config.ok_or(Error::InvalidParam)?;
        let packed = self.features.contains(Features::RING_PACKED);
        let memory = device.memory();
        let mut position = if packed {
            ring.packed_position(|| is_fresh(memory, config.desc))
        } else {
            ring.split_position(used_index(memory, config.device))
        };
        // Chains that wait for an event are not answered in order. With IN_ORDER, one element of a
        // packed ring answers several chains, so one answer in the ring is not one in the record.
        let batches = packed && self.features.contains(Features::IN_ORDER);
        if self.inflight.has(queue) && !model.may_sleep(queue) && !batches {
            if !self.inflight.has_room(config.size) {
                return Err(Error::InvalidParam);
            }
            if let Some(recorded) = self.inflight.recorded(queue).filter(|_| packed) {
                let available = |at| is_available(memory, config.desc, at);
                position = Ring::recorded_position(recorded, available);
            } else if !packed {
                position = RingPosition::at(position.next_used, position.next_used);
            }
            position = position.in_order();
            let recorder = device.trace_mut();
            recorder.begin(queue, packed, position.next_used);
        }
        let check = OneByOne(model.queue_check());
        device
            .enable_queue_at(&config, &position, max, &check)
            .map_err(|_| Error::InvalidParam)?;
        drop(check);
        ring.started = true;
        // The last device may have left an interrupt unsent.
        self.calls.used(queue);
        if !self.told {
            self.told = true;
            if model.ready(self.features, device.ready_queues()) == Start::Refuse {
                return Err(Error::InvalidOperation("the device does not start"));
            }
        }
        Ok(())
    }

    /// Finishes the chains in hand of a queue, and takes no more of them. Gives up after a while.
    pub(super) fn quiet(&mut self, queue: u16) {
        let end = self
            .deadline
            .or_else(|| Instant::now().checked_add(PATIENCE));
        loop {
            let host = &mut *self.host;
            let Some(device) = &mut self.device else {
                return;
            };
            let quiet = device.quiesce(queue, &mut host.model, &mut host.slots);
            if quiet.is_done() || host.model.may_sleep(queue) {
                return;
            }
            if end.is_none_or(|end| Instant::now() > end) {
                return;
            }
            // Another queue may be busy all the time.
            self.look_again();
            if self.poll() != Step::More {
                thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Stops a queue and forgets its kick. Returns its position as the wire has it.
    pub(super) fn stop(&mut self, queue: u16) -> u32 {
        let started = self.is_started(queue);
        let base = self.pause(queue);
        // The record of a queue that has not started is the last device's.
        if started {
            self.inflight.end(queue);
        }
        self.forget_kick(queue);
        base
    }

    /// Stops a queue, which may start again with the same kick. Returns its position as the wire
    /// has it.
    pub(super) fn pause(&mut self, queue: u16) -> u32 {
        if self.is_started(queue) {
            self.quiet(queue);
        }
        let host = &mut *self.host;
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else {
            return 0;
        };
        let Some(device) = self.device.as_mut().filter(|_| ring.started) else {
            return ring.base;
        };
        if let Some(position) = device.ring_position(queue) {
            ring.base = base(&position, self.features);
        } else if !self.features.contains(Features::RING_PACKED)
            && let Some(config) = device.queue_config(queue)
            && let Some(used) = used_index(device.memory(), config.device)
        {
            // A queue that broke has no position of its own.
            ring.base = used.into();
        }
        // Never pending, since no queue is taken.
        let _ = device.stop_queue(queue, &mut host.model, &mut host.slots);
        ring.started = false;
        ring.base
    }

    /// Sets the memory in which requests are recorded.
    pub(super) fn record_in(&mut self, inflight: Inflight<Q>) {
        let device = self.device.take();
        self.device = device.map(|device| device.with_trace(inflight.clone()));
        self.inflight = inflight;
    }

    /// Ends with the connection. What is recorded stays for the next device.
    pub(super) fn leave(&mut self) {
        self.inflight = Inflight::none();
        self.end();
    }

    /// Stops the queues, and returns the model to its state before the front end.
    pub(super) fn end(&mut self) {
        // All queues together have as long as one.
        self.deadline = Instant::now().checked_add(PATIENCE);
        for queue in numbers::<Q>() {
            self.stop(queue);
            self.inflight.end(queue);
        }
        self.deadline = None;
        self.rings = std::array::from_fn(|_| Ring::default());
        self.device = None;
        self.told = false;
        self.status = 0;
        self.features = Features::empty();
        self.host.model.reset();
    }

    /// Gives the device the current regions.
    ///
    /// A front end changes the bounds of a region by removing and adding it, while its queues run.
    /// A queue whose rings are gone or elsewhere therefore pauses, and starts again once its rings
    /// are there.
    pub(super) fn memory_changed(&mut self) -> Result<()> {
        let memory = self.regions.map()?;
        for queue in numbers::<Q>() {
            // A queue whose driver broke the protocol stays as it is.
            let device = self.device.as_ref();
            if device.is_some_and(|device| device.driver_fault(queue).is_some()) {
                continue;
            }
            let now = device.and_then(|device| device.queue_config(queue));
            let stays = self.config(queue).is_some_and(|config| {
                now == Some(&config) && translate_queue(&memory, &config, self.features).is_ok()
            });
            if !stays {
                self.pause(queue);
            }
        }
        let host = &mut *self.host;
        let Some(device) = &mut self.device else {
            return Ok(());
        };
        *device.memory_mut() = memory.clone();
        // Never pending, since no queue is taken.
        let _ = device.memory_changed(&mut host.model, &mut host.slots);
        for queue in numbers::<Q>() {
            let there = |config| translate_queue(&memory, &config, self.features).is_ok();
            if self.config(queue).is_some_and(there) {
                self.start(queue)?;
            }
        }
        Ok(())
    }

    pub(super) fn offered(&self) -> Features {
        self.host.model.offer(self.host.offer)
    }
}

/// The numbers of all queues.
pub(super) fn numbers<const Q: usize>() -> impl Iterator<Item = u16> {
    (0..Q).filter_map(|queue| u16::try_from(queue).ok())
}
