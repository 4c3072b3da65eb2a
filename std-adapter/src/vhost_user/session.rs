//! One connected front end: its messages, its queues, and the device that it has set up.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use vhost::vhost_user::{
    Backend, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
    message::{
        VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags,
        VhostUserInflight, VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures,
        VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion,
        VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
    },
};
use virtside::{
    Configuring, Device, DeviceBuilder, DeviceModel, DriverNotify, Features, Message, QueueCheck,
    QueueConfig, Shared, Step,
    error::FaultPolicy,
    memory::{DriverMem, DriverRange, Permission},
    model::Start,
    queue::translate_queue,
    setup::Progress,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::{
    VhostUserDevice,
    calls::Calls,
    memory::Regions,
    rings::{Ring, base},
};
use crate::{BUDGET, VmMem};

/// The data of the socket's events. A kick has its queue number.
const SOCKET: u64 = u64::MAX;
/// How long a queue that stops waits for its chains in hand.
const PATIENCE: Duration = Duration::from_secs(5);
/// The device sleeps for at most 2 to this power milliseconds while the model may have an answer
/// without a kick.
const LONGEST_SLEEP: u32 = 4;
/// Most regions of memory.
const MEMORY_SLOTS: usize = 509;

/// `VIRTQ_DESC_F_USED`
const USED: u16 = 1 << 15;

const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// Why [`Session::work`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The front end has sent a message, or has closed the connection.
    ByMessage,
    /// Something else happened. Call again.
    Otherwise,
}

type Hosted<const Q: usize, const N: usize> = Device<VmMem, Calls, Q, N, Arc<Shared<Q>>>;

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
    host: &'h mut VhostUserDevice<D, Q, N>,
    epoll: Epoll,
    regions: Regions,
    rings: [Ring; Q],
    calls: Calls,
    features: Features,
    device: Option<Hosted<Q, N>>,
    /// The model has been told that its driver is live.
    told: bool,
    /// The front end speaks protocol features, so it enables queues itself.
    enables: bool,
    /// Number of queues before any negotiation.
    queues: u64,
    /// How often the device was blocked without an event in between.
    blocked: u32,
    /// Kept open, because a front end may take its end for a broken device.
    requests: Option<Backend>,
}

impl<'h, D: DeviceModel, const Q: usize, const N: usize> Session<'h, D, Q, N> {
    pub(super) fn new(
        host: &'h mut VhostUserDevice<D, Q, N>,
        front_end: &UnixStream,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let wanted = EpollEvent::new(EventSet::IN, SOCKET);
        epoll.ctl(ControlOperation::Add, front_end.as_raw_fd(), wanted)?;
        let queues = (0..Q).filter_map(|queue| u16::try_from(queue).ok());
        let queues = queues.filter(|&queue| host.model.queue_size_max(queue) != 0);
        let queues = queues.map(|_| 1).sum();
        Ok(Self {
            host,
            epoll,
            regions: Regions::default(),
            rings: std::array::from_fn(|_| Ring::default()),
            calls: Calls::new(Q),
            features: Features::empty(),
            device: None,
            told: false,
            enables: false,
            queues,
            blocked: 0,
            requests: None,
        })
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
        let mut step = self.poll();
        if step == Step::Idle && !self.host.spin.is_zero() && self.device.is_some() {
            step = self.spin(step)?;
        }
        let timeout = match step {
            Step::More => 0,
            Step::Blocked => 1 << self.blocked.min(LONGEST_SLEEP),
            Step::Idle => -1,
        };
        let mut events = [EpollEvent::default(); 16];
        let count = match self.epoll.wait(timeout, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count?,
        };
        self.blocked = if step == Step::Blocked && count == 0 {
            self.blocked.saturating_add(1)
        } else {
            0
        };
        let mut woken = Woken::Otherwise;
        for event in events.iter().take(count) {
            match u16::try_from(event.data()) {
                Ok(queue) => self.kicked(queue),
                Err(_) => woken = Woken::ByMessage,
            }
        }
        if step == Step::Blocked {
            self.look_again();
        }
        Ok(woken)
    }

    /// Looks for chains without a kick until the time is over.
    fn spin(&mut self, mut step: Step) -> io::Result<Step> {
        let end = Instant::now().checked_add(self.host.spin);
        while step != Step::More && end.is_some_and(|end| Instant::now() < end) {
            for queue in 0..self.rings.len() {
                if self.rings[queue].started
                    && let (Some(device), Ok(queue)) = (&self.device, u16::try_from(queue))
                {
                    let _ = device.notify_queue(queue);
                }
            }
            step = self.poll();
            let mut events = [EpollEvent::default(); 1];
            if self.epoll.wait(0, &mut events)? != 0 {
                break;
            }
        }
        Ok(step)
    }

    /// Lets the model look for answers that came without a kick.
    fn look_again(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        for queue in numbers(self.rings.len()) {
            device.backend_ready(queue, &mut self.host.slots);
        }
    }

    /// Notes a kick. The descriptor is not read: its event is edge-triggered, and a read could block
    /// if another queue has the same descriptor.
    fn kicked(&self, queue: u16) {
        if let Some(device) = &self.device {
            let _ = device.notify_queue(queue);
        }
    }

    fn forget_kick(&mut self, queue: u16) {
        let kick = self
            .rings
            .get_mut(usize::from(queue))
            .and_then(|ring| ring.kick.take());
        if let Some(kick) = kick {
            let _ = self.epoll.ctl(
                ControlOperation::Delete,
                kick.as_raw_fd(),
                EpollEvent::default(),
            );
        }
    }

    fn ring(&mut self, index: u32) -> Result<(u16, &mut Ring)> {
        let queue = u16::try_from(index).map_err(|_| Error::InvalidParam)?;
        let ring = self.rings.get_mut(usize::from(queue));
        Ok((queue, ring.ok_or(Error::InvalidParam)?))
    }

    /// The ring of a queue that may be set up: it is not started, or the front end has disabled it.
    fn free_ring(&mut self, index: u32) -> Result<&mut Ring> {
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
    fn go_live(&mut self, features: Features) -> Result<()> {
        let model = &mut self.host.model;
        if !model.negotiate(features) {
            model.reset();
            return Err(Error::FeatureMismatch);
        }
        let calls = self.calls.clone();
        let builder = DeviceBuilder::new(Arc::new(Shared::<Q>::new()))
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
        self.device = Some(device);
        self.features = features;
        Ok(())
    }

    /// Starts a queue if the front end has said everything about it.
    fn start(&mut self, queue: u16) -> Result<()> {
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
        let config = ring
            .config(queue, |user| self.regions.driver_address(user))
            .ok_or(Error::InvalidParam)?;
        let position = if self.features.contains(Features::RING_PACKED) {
            ring.packed_position(|| is_fresh(device.memory(), config.desc))
        } else {
            ring.split_position(used_index(device.memory(), config.device))
        };
        let check = OneByOne(model.queue_check());
        device
            .enable_queue_at(&config, &position, max, &check)
            .map_err(|_| Error::InvalidParam)?;
        drop(check);
        ring.started = true;
        ring.moved = false;
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

    /// Finishes the chains in hand of a queue, and takes no more of them.
    fn quiet(&mut self, queue: u16) {
        let end = Instant::now().checked_add(PATIENCE);
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
            if self.poll() != Step::More {
                self.look_again();
                thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Stops a queue and forgets its kick. Returns its position as the wire has it.
    fn stop(&mut self, queue: u16) -> u32 {
        let base = self.pause(queue);
        self.forget_kick(queue);
        base
    }

    /// Stops a queue, which may start again with the same kick. Returns its position as the wire
    /// has it.
    fn pause(&mut self, queue: u16) -> u32 {
        if !self
            .rings
            .get(usize::from(queue))
            .is_some_and(|ring| ring.started)
        {
            return self
                .rings
                .get(usize::from(queue))
                .map_or(0, |ring| ring.base);
        }
        self.quiet(queue);
        let host = &mut *self.host;
        let (Some(ring), Some(device)) = (self.rings.get_mut(usize::from(queue)), &mut self.device)
        else {
            return 0;
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

    fn stop_all(&mut self) {
        for queue in numbers(self.rings.len()) {
            self.stop(queue);
        }
    }

    /// Stops the queues, and returns the model to its state before the front end.
    pub(super) fn end(&mut self) {
        self.stop_all();
        self.rings = std::array::from_fn(|_| Ring::default());
        self.device = None;
        self.told = false;
        self.features = Features::empty();
        self.host.model.reset();
    }

    /// Gives the device the current regions.
    ///
    /// A front end changes the bounds of a region by removing and adding it, while its queues run.
    /// A queue whose rings are gone or elsewhere therefore pauses, and starts again once its rings
    /// are there.
    fn memory_changed(&mut self) -> Result<()> {
        let memory = self.regions.map()?;
        for queue in numbers(self.rings.len()) {
            let Some(ring) = self
                .rings
                .get(usize::from(queue))
                .filter(|ring| ring.started)
            else {
                continue;
            };
            let config = ring.config(queue, |user| self.regions.driver_address(user));
            let device = self.device.as_ref();
            let stays = config.is_some_and(|config| {
                device.and_then(|device| device.queue_config(queue)) == Some(&config)
                    && translate_queue(&memory, &config, self.features).is_ok()
            });
            if !stays {
                self.pause(queue);
                if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
                    ring.moved = true;
                }
            }
        }
        let host = &mut *self.host;
        if let Some(device) = &mut self.device {
            *device.memory_mut() = memory;
            // Never pending, since no queue is taken.
            let _ = device.memory_changed(&mut host.model, &mut host.slots);
        }
        for queue in numbers(self.rings.len()) {
            let Some(ring) = self.rings.get(usize::from(queue)).filter(|ring| ring.moved) else {
                continue;
            };
            let config = ring.config(queue, |user| self.regions.driver_address(user));
            let there = config
                .zip(self.device.as_ref())
                .is_some_and(|(config, device)| {
                    translate_queue(device.memory(), &config, self.features).is_ok()
                });
            if there {
                self.start(queue)?;
            }
        }
        Ok(())
    }

    fn offered(&self) -> Features {
        self.host.model.offer(self.host.offer)
    }
}

/// The first queue numbers, this many.
fn numbers(queues: usize) -> impl Iterator<Item = u16> {
    (0..queues).filter_map(|queue| u16::try_from(queue).ok())
}

/// Reads 16 bits of a ring.
fn load(memory: &VmMem, area: u64, offset: u64) -> Option<u16> {
    let range = DriverRange::new(area.checked_add(offset)?, 2)?;
    let mut bytes = [0; 2];
    let view = memory.translate(range, Permission::Read).ok()?;
    (view.copy_to(&mut bytes) == 2).then_some(u16::from_le_bytes(bytes))
}

/// Returns the used index of a split ring.
fn used_index(memory: &VmMem, device_area: u64) -> Option<u16> {
    load(memory, device_area, 2)
}

/// Returns whether the first descriptor of a packed ring was never marked as used: its flag USED is
/// clear. In every later round it is set, before and after the driver makes the slot available
/// again.
fn is_fresh(memory: &VmMem, ring: u64) -> bool {
    load(memory, ring, 14).is_some_and(|flags| flags & USED == 0)
}

/// The answer to messages of protocol features that are not offered.
fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl<D: DeviceModel, const Q: usize, const N: usize> VhostUserBackendReqHandlerMut
    for Session<'_, D, Q, N>
{
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.end();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.end();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        let offered = self.offered();
        let [low, high] = [0, 1].map(|word| u64::from(offered.word(word)));
        Ok(high << 32 | low | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.enables = features & protocol != 0;
        let features = Features::from_bits((features & !protocol).into());
        if self.rings.iter().any(|ring| ring.started && ring.enabled) {
            return if features == self.features {
                Ok(())
            } else {
                Err(Error::InvalidOperation("a queue is started"))
            };
        }
        for queue in numbers(self.rings.len()) {
            self.pause(queue);
        }
        let required = Features::REQUIRED.union(self.host.model.required());
        if !self.offered().contains(features) || !features.contains(required) {
            return Err(Error::FeatureMismatch);
        }
        if self.device.take().is_some() {
            self.host.model.reset();
            self.told = false;
        }
        self.go_live(features)?;
        numbers(self.rings.len()).try_for_each(|queue| {
            // Only a queue that the front end has described completely.
            let ring = self.rings.get(usize::from(queue));
            let config =
                ring.and_then(|ring| ring.config(queue, |user| self.regions.driver_address(user)));
            if config.is_some() {
                self.start(queue)
            } else {
                Ok(())
            }
        })
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        if regions.len() != files.len() {
            return Err(Error::IncorrectFds);
        }
        let mut table = Regions::default();
        for (region, file) in regions.iter().zip(files) {
            table.add(region, file)?;
        }
        self.regions = table;
        self.memory_changed()?;
        Ok(None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        u64::try_from(MEMORY_SLOTS).map_err(|_| Error::BackendInternalError)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        if self.regions.len() >= MEMORY_SLOTS {
            return Err(Error::InvalidOperation("too many regions"));
        }
        self.regions.add(region, file)?;
        self.memory_changed()?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.regions.remove(region)?;
        self.memory_changed()
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.free_ring(index)?.size = num;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        self.free_ring(index)?.areas = [descriptor, available, used];
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.free_ring(index)?.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let (queue, _) = self.ring(index)?;
        Ok(VhostUserVringState::new(index, self.stop(queue)))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        let (queue, _) = self.ring(index.into())?;
        let kick = kick.ok_or(Error::IncorrectFds)?;
        self.forget_kick(queue);
        let wanted = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, queue.into());
        self.epoll
            .ctl(ControlOperation::Add, kick.as_raw_fd(), wanted)
            .map_err(|_| Error::IncorrectFds)?;
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.kick = Some(kick);
        }
        // The earlier descriptor may have had a kick.
        self.kicked(queue);
        self.start(queue)
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        let (queue, _) = self.ring(index.into())?;
        self.calls.set(queue, call);
        if self
            .rings
            .get(usize::from(queue))
            .is_some_and(|ring| ring.started)
        {
            // An interrupt may have gone to no descriptor, or to an earlier one.
            self.calls.used(queue);
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _: Option<File>) -> Result<()> {
        self.ring(index.into()).map(|_| ())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let (queue, ring) = self.ring(index)?;
        ring.enabled = enable;
        if !ring.started {
            return self.start(queue);
        }
        if !enable {
            self.quiet(queue);
        } else if let Some(device) = &mut self.device {
            device.resume_queue(queue);
        }
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(PROTOCOL)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        if features & !PROTOCOL.bits() == 0 {
            Ok(())
        } else {
            Err(Error::FeatureMismatch)
        }
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.queues)
    }

    /// Bytes past the end of the configuration space read 0: a front end may know a longer one.
    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let model = &self.host.model;
        let bytes = (0..size).map(|at| {
            let mut byte = [0];
            let there = offset
                .checked_add(at)
                .is_some_and(|offset| model.read_config(offset, &mut byte));
            if there { byte[0] } else { 0 }
        });
        Ok(bytes.collect())
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        // A guest's write that the model refuses has no effect.
        self.host.model.write_config(offset, bytes);
        Ok(())
    }

    fn set_backend_req_fd(&mut self, requests: Backend) {
        self.requests = Some(requests);
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered()
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }
    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_offered()
    }
    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        not_offered()
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered()
    }
    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }
    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered()
    }
    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_offered()
    }
}
