//! A front end of any device: messages of the crate `vhost`, and the fake driver for each queue.

use std::{
    collections::HashMap,
    os::fd::AsRawFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tempfile::tempfile;
use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend,
        message::{VhostUserInflight, VhostUserProtocolFeatures, VhostUserVirtioFeatures},
    },
};
use virtside::{
    Features,
    testing::{Buffer, FakeDriver, Layout},
};
use virtside_std::VmMem;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
};
use vmm_sys_util::eventfd::EventFd;

use crate::service::PATIENCE;

const BASE: u64 = 0x4000_0000;
const LEN: usize = 0x10_0000;
/// Bytes of shared memory for the rings of a queue, and for each of its buffers.
const RINGS: u64 = 0x1_0000;
const BUFFER: u64 = 0x1000;
/// Elements of a queue.
const SIZE: u16 = 16;

/// A driver of several queues.
pub struct FrontEnd {
    wire: Frontend,
    memory: GuestMemoryMmap,
    queues: Vec<Queue>,
}

struct Queue {
    driver: FakeDriver<VmMem>,
    kick: EventFd,
    call: EventFd,
    /// Address of the answer, by head.
    sent: HashMap<u16, u64>,
    next: u16,
}

impl FrontEnd {
    /// Connects, and starts this many queues with these features of the device type.
    pub fn connect(socket: &Path, queues: usize, features: u64) -> Self {
        let mut wire = Frontend::connect(socket, queues as u64).unwrap();
        wire.set_owner().unwrap();
        let offered = wire.get_features().unwrap();
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let version_1 = u64::try_from(Features::VERSION_1.bits()).unwrap();
        let wanted = features | version_1 | protocol;
        assert_eq!(offered & wanted, wanted, "the device offers {offered:#x}");
        wire.get_protocol_features().unwrap();
        wire.set_protocol_features(
            VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ,
        )
        .unwrap();
        wire.set_features(wanted).unwrap();
        let file = tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        let mapping = MmapRegion::from_file(FileOffset::new(file, 0), LEN).unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(BASE)).unwrap();
        let info = VhostUserMemoryRegionInfo::from_guest_region(&region).unwrap();
        let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
        wire.set_mem_table(&[info]).unwrap();
        let mut front_end = Self {
            wire,
            memory,
            queues: Vec::new(),
        };
        for queue in 0..queues {
            front_end.start(queue);
        }
        front_end
    }

    fn start(&mut self, queue: usize) {
        let layout = Layout::packed_at(BASE + RINGS * 2 * queue as u64, SIZE);
        let config = layout.config(queue as u16);
        let user = |address| {
            let host = self.memory.get_host_address(GuestAddress(address));
            host.unwrap() as u64
        };
        let rings = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: user(config.desc),
            used_ring_addr: user(config.device),
            avail_ring_addr: user(config.driver),
            log_addr: None,
        };
        let (kick, call) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        self.wire.set_vring_num(queue, SIZE).unwrap();
        self.wire.set_vring_addr(queue, &rings).unwrap();
        self.wire.set_vring_base(queue, 0).unwrap();
        self.wire.set_vring_call(queue, &call).unwrap();
        self.wire.set_vring_kick(queue, &kick).unwrap();
        self.wire.set_vring_enable(queue, true).unwrap();
        self.queues.push(Queue {
            driver: FakeDriver::new(VmMem::new(&self.memory), layout),
            kick,
            call,
            sent: HashMap::new(),
            next: 0,
        });
    }

    /// Makes the device share the region of its requests in flight. Returns the length of the region.
    pub fn in_flight_region(socket: &Path) -> u64 {
        let mut wire = Frontend::connect(socket, 1).unwrap();
        wire.set_owner().unwrap();
        wire.get_features().unwrap();
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let version_1 = u64::try_from(Features::VERSION_1.bits()).unwrap();
        wire.set_features(version_1 | protocol).unwrap();
        wire.get_protocol_features().unwrap();
        wire.set_protocol_features(VhostUserProtocolFeatures::INFLIGHT_SHMFD)
            .unwrap();
        let wanted = VhostUserInflight {
            num_queues: 1,
            queue_size: SIZE,
            ..Default::default()
        };
        let (region, file) = wire.get_inflight_fd(&wanted).unwrap();
        wire.set_inflight_fd(&region, file.as_raw_fd()).unwrap();
        region.mmap_size
    }

    /// Sends a request with room for an answer, and kicks.
    pub fn send(&mut self, queue: usize, bytes: &[u8], room: u32) {
        let Queue {
            driver,
            kick,
            sent,
            next,
            ..
        } = &mut self.queues[queue];
        let slot = u64::from(*next % 4);
        let head = *next % 4 * 4;
        *next += 1;
        let rings = BASE + RINGS * 2 * queue as u64;
        let readable = rings + RINGS + slot * 2 * BUFFER;
        let writable = readable + BUFFER;
        driver.write(readable, bytes);
        let mut buffers = Vec::new();
        if !bytes.is_empty() {
            buffers.push(Buffer::readable(readable, bytes.len() as u32));
        }
        if room != 0 {
            buffers.push(Buffer::writable(writable, room));
        }
        driver.send(head, &buffers);
        sent.insert(head, writable);
        kick.write(1).unwrap();
    }

    /// Returns the next answer that is there.
    pub fn answer(&mut self, queue: usize) -> Option<Vec<u8>> {
        let Queue { driver, sent, .. } = &mut self.queues[queue];
        let (head, len) = driver.take_used()?;
        let mut bytes = vec![0; len as usize];
        driver.read(sent[&(head as u16)], &mut bytes);
        Some(bytes)
    }

    /// Waits for the next answer.
    #[track_caller]
    pub fn wait(&mut self, queue: usize) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answer(queue) {
                // Each answer comes with an interrupt.
                assert!(self.queues[queue].call.read().unwrap() > 0);
                self.queues[queue].call.write(1).unwrap();
                return answer;
            }
            assert!(Instant::now() < end, "the device does not answer");
            thread::sleep(Duration::from_micros(100));
        }
    }

    #[track_caller]
    pub fn ask(&mut self, queue: usize, bytes: &[u8], room: u32) -> Vec<u8> {
        self.send(queue, bytes, room);
        self.wait(queue)
    }
}
