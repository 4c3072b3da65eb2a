//! A vhost-user back end, which turns vhost-user messages into those of `virtside`.

use std::{
    fs::File,
    os::{
        fd::{FromRawFd, IntoRawFd},
        unix::net::UnixListener,
    },
    path::Path,
    sync::{Arc, Mutex, mpsc::Sender},
    thread::{self, JoinHandle},
};

use vhost::vhost_user::{
    Backend as Requests, BackendReqHandler, Error, GpuBackend, Result,
    VhostUserBackendReqHandlerMut,
    message::{
        VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags,
        VhostUserInflight, VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures,
        VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion,
        VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
    },
};
use virtside::{
    Configuring, DeviceBuilder, Features, Message, QueueConfig, Shared, setup::Progress,
};
use virtside_std::VmMem;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    device::{Calls, NetDevice, Outcome, run},
    elements::Elements,
    net::{N, Net},
};

const TRANSMIT: u16 = 1;

type Conversation =
    Configuring<'static, std::ops::Range<u16>, VmMem<Elements>, Calls, 2, N, Arc<Shared<2>>>;

/// The back end of one driver.
struct Backend {
    offered: Features,
    accepted: Features,
    memory: GuestMemoryMmap<Elements>,
    /// Addresses of each region for the driver and for the device.
    regions: Vec<VhostUserMemoryRegion>,
    queues: [QueueConfig; 2],
    kicks: Vec<EventFd>,
    calls: Calls,
    enabled: [bool; 2],
    conversation: Option<Conversation>,
    net: Option<Net>,
    elements: Elements,
    running: Option<(EventFd, JoinHandle<(NetDevice, Net)>)>,
    /// The device's thread gets this sender, and drops it if it panics.
    done: Option<Sender<()>>,
    outcome: Option<Outcome>,
}

/// Serves one driver at this socket, until the driver disconnects.
pub fn serve(listener: &UnixListener, offered: Features, net: Net, done: Sender<()>) -> Outcome {
    let (stream, _) = listener.accept().expect("a connection");
    let backend = Arc::new(Mutex::new(Backend {
        offered,
        accepted: Features::empty(),
        memory: GuestMemoryMmap::new(),
        regions: Vec::new(),
        queues: [0, 1].map(|queue| QueueConfig {
            queue,
            ..QueueConfig::default()
        }),
        kicks: Vec::new(),
        calls: Calls::default(),
        enabled: [false; 2],
        conversation: None,
        net: Some(net),
        elements: Elements::default(),
        running: None,
        done: Some(done),
        outcome: None,
    }));
    let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&backend));
    let end = loop {
        if let Err(error) = handler.handle_request() {
            break error;
        }
    };
    let outcome = backend
        .lock()
        .expect("the thread does not panic")
        .outcome
        .take();
    outcome.unwrap_or_else(|| panic!("the driver disconnected too early: {end:?}"))
}

/// Listens at this path.
pub fn listen(path: &Path) -> UnixListener {
    UnixListener::bind(path).expect("a socket")
}

fn event(file: File) -> EventFd {
    // SAFETY: the file gave up this descriptor, and nothing else owns it.
    unsafe { EventFd::from_raw_fd(file.into_raw_fd()) }
}

/// The answer to requests that need a feature which is not offered.
fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl Backend {
    fn queue(&mut self, index: u32) -> Result<&mut QueueConfig> {
        self.queues
            .get_mut(index as usize)
            .ok_or(Error::InvalidParam)
    }

    /// The device's address for an address of the driver.
    fn address(&self, user: u64) -> Result<u64> {
        let inside = |region: &&VhostUserMemoryRegion| {
            user.wrapping_sub(region.user_addr) < region.memory_size
        };
        let region = self.regions.iter().find(inside);
        let region = region.ok_or(Error::InvalidParam)?;
        Ok(user - region.user_addr + region.guest_phys_addr)
    }

    /// Counts the used elements of the transmit queue: used descriptors if the ring is packed.
    fn watch(&mut self) {
        let queue = self.queues[usize::from(TRANSMIT)];
        let (area, len) = if self.accepted.contains(Features::RING_PACKED) {
            (queue.desc, 16 * queue.size)
        } else {
            (queue.device, 4 + 8 * queue.size)
        };
        let region = self.memory.find_region(GuestAddress(area));
        let region = region.expect("a region");
        let start = area - region.start_addr().0;
        self.elements = region.get_mmap().bitmap().clone();
        self.elements.watch(start as usize, len as usize);
    }

    fn go_live(&mut self) {
        let mut conversation = self.conversation.take().expect("queues");
        let features = self.accepted;
        let progress = conversation.step(Message::Ready { features });
        let Progress::Ready(device, responder) = progress.expect("a device") else {
            panic!("no device");
        };
        self.watch();
        assert!(responder.accept());
        let stop = EventFd::new(0).expect("an eventfd");
        let stopped = stop.try_clone().expect("a second handle");
        let net = self.net.take().expect("a driver starts it once");
        let kicks = std::mem::take(&mut self.kicks);
        let done = self.done.take().expect("the device is started once");
        let thread = thread::spawn(move || run(device, net, &kicks, &stopped, &done));
        self.running = Some((stop, thread));
    }

    fn stop(&mut self) {
        let Some((stop, thread)) = self.running.take() else {
            return;
        };
        stop.write(1).expect("the thread gets the stop");
        let (device, net) = thread.join().expect("no panic in the device");
        self.outcome = Some(Outcome {
            features: device.features(),
            counters: device.counters(),
            net,
            elements: self.elements.stored(),
        });
    }
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }
    fn get_features(&mut self) -> Result<u64> {
        let offered = u64::try_from(self.offered.bits()).expect("features of vhost-user");
        Ok(offered | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }
    fn set_features(&mut self, features: u64) -> Result<()> {
        let features = features & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.accepted = Features::from_bits(features.into());
        assert!(self.offered.contains(self.accepted), "{:?}", self.accepted);
        Ok(())
    }
    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::REPLY_ACK)
    }
    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let mut mapped = Vec::new();
        for (region, file) in regions.iter().zip(files) {
            let file = FileOffset::new(file, region.mmap_offset);
            let len = region.memory_size as usize;
            let mapping = MmapRegion::from_file(file, len).expect("the interrupt is mapped");
            let start = GuestAddress(region.guest_phys_addr);
            mapped.push(GuestRegionMmap::new(mapping, start).expect("the region fits"));
        }
        mapped.sort_by_key(GuestMemoryRegion::start_addr);
        self.memory = GuestMemoryMmap::from_regions(mapped).expect("no overlap");
        self.regions = regions.to_vec();
        assert!(
            self.running.is_none(),
            "memory changes while the device runs"
        );
        Ok(None)
    }
    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.queue(index)?.size = num;
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
        let desc = self.address(descriptor)?;
        let (driver, device) = (self.address(available)?, self.address(used)?);
        let queue = self.queue(index)?;
        *queue = QueueConfig {
            desc,
            driver,
            device,
            ..*queue
        };
        Ok(())
    }
    fn set_vring_base(&mut self, _: u32, base: u32) -> Result<()> {
        // In a packed ring the upper bit is the wrap counter.
        let packed = self.accepted.contains(Features::RING_PACKED);
        assert_eq!(
            base,
            if packed { 1 << 15 } else { 0 },
            "a queue at its start"
        );
        Ok(())
    }
    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.stop();
        // The queue is not started again.
        Ok(VhostUserVringState::new(index, 0))
    }
    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        // The queue's configuration is complete at this point.
        let queue = *self.queue(index.into())?;
        assert_eq!(
            self.kicks.len(),
            usize::from(index),
            "queues are set up in order"
        );
        self.kicks.push(event(fd.ok_or(Error::IncorrectFds)?));
        if self.conversation.is_none() {
            let builder = DeviceBuilder::new(Arc::new(Shared::new()));
            let calls = self.calls.clone();
            let builder = builder.map_notify(|()| Ok(calls)).expect("an interrupt");
            let memory = VmMem::new(&self.memory);
            let conversation = Configuring::new(builder, &(0..2), memory);
            self.conversation = Some(conversation.with_features(self.accepted));
        }
        let conversation = self
            .conversation
            .as_mut()
            .expect("the conversation was just made");
        let progress = conversation.step(Message::ConfigureQueue(queue));
        assert!(
            matches!(progress, Ok(Progress::Configured(at)) if at == queue.queue),
            "{queue:?}"
        );
        Ok(())
    }
    fn set_vring_call(&mut self, _: u8, fd: Option<File>) -> Result<()> {
        if let Some(file) = fd {
            self.calls.add(event(file));
        }
        Ok(())
    }
    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let index = usize::from(self.queue(index)?.queue);
        self.enabled[index] = enable;
        if self.enabled == [true; 2] && self.outcome.is_none() && self.running.is_none() {
            self.go_live();
        }
        Ok(())
    }

    fn set_vring_err(&mut self, _: u8, _: Option<File>) -> Result<()> {
        Ok(())
    }
    fn reset_owner(&mut self) -> Result<()> {
        not_offered()
    }
    fn reset_device(&mut self) -> Result<()> {
        not_offered()
    }
    fn get_queue_num(&mut self) -> Result<u64> {
        not_offered()
    }
    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        not_offered()
    }
    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        not_offered()
    }
    fn set_backend_req_fd(&mut self, _: Requests) {}
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
    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_offered()
    }
    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        not_offered()
    }
    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
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
