//! One connected front end: its messages, its queues, and the device that it has set up.

use std::{
    fs::File,
    io::{self, Read},
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
/// Longest that a device sleeps while the model may have an answer without a kick.
const BLOCKED: Duration = Duration::from_millis(1);
/// Most regions of memory.
const MEMORY_SLOTS: u64 = 509;

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
}

impl<'h, D: DeviceModel, const Q: usize, const N: usize> Session<'h, D, Q, N> {
    pub(super) fn new(
        host: &'h mut VhostUserDevice<D, Q, N>,
        front_end: &UnixStream,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let wanted = EpollEvent::new(EventSet::IN, SOCKET);
        epoll.ctl(ControlOperation::Add, front_end.as_raw_fd(), wanted)?;
        // A front end that stops in the middle of a message must not stop the queues for ever.
        front_end.set_read_timeout(Some(PATIENCE))?;
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
        if step != Step::More && !self.host.spin.is_zero() && self.device.is_some() {
            step = self.spin(step)?;
        }
        let timeout = match step {
            Step::More => 0,
            Step::Blocked => i32::try_from(BLOCKED.as_millis()).unwrap_or(1),
            Step::Idle => -1,
        };
        let mut events = [EpollEvent::default(); 16];
        let count = match self.epoll.wait(timeout, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count?,
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
        for queue in (0..self.rings.len()).filter_map(|queue| u16::try_from(queue).ok()) {
            device.backend_ready(queue, &mut self.host.slots);
        }
    }

    fn kicked(&mut self, queue: u16) {
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else {
            return;
        };
        if let Some(kick) = &mut ring.kick
            && !matches!(kick.read(&mut [0; 8]), Ok(1..))
        {
            // The descriptor is of no use, and would wake the device for ever.
            self.forget_kick(queue);
        }
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
        if self.host.model.queue_size_max(queue) == 0 {
            return Err(Error::InvalidParam);
        }
        let ring = self.rings.get_mut(usize::from(queue));
        Ok((queue, ring.ok_or(Error::InvalidParam)?))
    }

    /// The ring of a queue that the device does not have, so that it may be set up.
    fn free_ring(&mut self, index: u32) -> Result<&mut Ring> {
        let (_, ring) = self.ring(index)?;
        if ring.started {
            return Err(Error::InvalidOperation("the queue is started"));
        }
        Ok(ring)
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
        let enabled = ring.enabled || !self.enables;
        if ring.started || ring.kick.is_none() || ring.size == 0 || !enabled {
            return Ok(());
        }
        let model = &mut self.host.model;
        let config = ring
            .config(queue, |user| self.regions.driver_address(user))
            .ok_or(Error::InvalidParam)?;
        let packed = self.features.contains(Features::RING_PACKED);
        let position = ring.position(|| packed && is_fresh(device.memory(), config.desc));
        let max = model.queue_size_max(queue);
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

    /// Stops a queue. Returns its position as the wire has it.
    fn stop(&mut self, queue: u16) -> u32 {
        if self
            .rings
            .get(usize::from(queue))
            .is_some_and(|ring| ring.started)
        {
            self.quiet(queue);
        }
        self.forget_kick(queue);
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else {
            return 0;
        };
        let Some(device) = self.device.as_mut().filter(|_| ring.started) else {
            return ring.base;
        };
        let position = device.ring_position(queue);
        let host = &mut *self.host;
        // Never pending, since no queue is taken.
        let _ = device.stop_queue(queue, &mut host.model, &mut host.slots);
        ring.started = false;
        // A queue that broke has no position. Its driver resets it before it goes on.
        if let Some(position) = position {
            ring.base = base(&position, self.features);
        }
        ring.base
    }

    fn stop_all(&mut self) {
        for queue in (0..self.rings.len()).filter_map(|queue| u16::try_from(queue).ok()) {
            self.stop(queue);
        }
    }

    /// Stops the queues, and returns the model to its state before the front end.
    pub(super) fn end(&mut self) {
        self.stop_all();
        self.device = None;
        self.told = false;
        self.features = Features::empty();
        self.host.model.reset();
    }

    fn memory_changed(&mut self) -> Result<()> {
        let memory = self.regions.map()?;
        let host = &mut *self.host;
        if let Some(device) = &mut self.device {
            *device.memory_mut() = memory;
            // Never pending, since no queue is taken.
            let _ = device.memory_changed(&mut host.model, &mut host.slots);
        }
        Ok(())
    }

    fn offered(&self) -> Features {
        self.host.model.offer(self.host.offer)
    }
}

/// Returns whether the first descriptor of a packed ring was never marked as used: its flag USED is
/// clear. In every later round it is set, before and after the driver makes the slot available
/// again.
fn is_fresh(memory: &VmMem, ring: u64) -> bool {
    let flags = ring.checked_add(14).and_then(|at| DriverRange::new(at, 2));
    let view = flags.and_then(|range| memory.translate(range, Permission::Read).ok());
    view.is_some_and(|view| {
        let mut bytes = [0; 2];
        view.copy_to(&mut bytes) == 2 && u16::from_le_bytes(bytes) & USED == 0
    })
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
        if self.device.is_some() && features == self.features {
            return Ok(());
        }
        if self.rings.iter().any(|ring| ring.started) {
            return Err(Error::InvalidOperation("a queue is started"));
        }
        let required = Features::REQUIRED.union(self.host.model.required());
        if !self.offered().contains(features) || !features.contains(required) {
            return Err(Error::FeatureMismatch);
        }
        if self.device.take().is_some() {
            self.host.model.reset();
            self.told = false;
        }
        self.go_live(features)
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
        Ok(MEMORY_SLOTS)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
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
        let wanted = EpollEvent::new(EventSet::IN, queue.into());
        self.epoll
            .ctl(ControlOperation::Add, kick.as_raw_fd(), wanted)
            .map_err(|_| Error::IncorrectFds)?;
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.kick = Some(kick);
        }
        self.start(queue)
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        let (queue, _) = self.ring(index.into())?;
        self.calls.set(queue, call);
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
        let queues = (0..Q).filter_map(|queue| u16::try_from(queue).ok());
        let there = queues.filter(|&queue| self.host.model.queue_size_max(queue) != 0);
        Ok(there.map(|_| 1).sum())
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
        if self.host.model.write_config(offset, bytes) {
            Ok(())
        } else {
            Err(Error::InvalidParam)
        }
    }

    fn set_backend_req_fd(&mut self, _: Backend) {}

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
