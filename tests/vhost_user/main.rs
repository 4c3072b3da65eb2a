//! A device behind a vhost-user socket: a third-party driver's I/O, and a front end's messages, good
//! and hostile.

mod blk;
mod dirty;
mod hostile;
mod inflight;
mod messages;
mod waiting;

use std::{
    io::Read,
    os::{fd::RawFd, unix::net::UnixStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use vhost::{
    VhostBackend, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend,
        message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures},
    },
};
use virtside::{
    DeviceModel, Features, QueueConfig,
    models::Entropy,
    testing::{Buffer, FakeDriver, Layout},
};
use virtside_std::{
    Ended, VmMem,
    vhost_user::{VhostUserDevice, VhostUserError},
};
use virtside_tests::CountingSource;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
};
use vmm_sys_util::{eventfd::EventFd, sock_ctrl_msg::ScmSocket, tempfile::TempFile};

/// Address of the driver's memory.
const BASE: u64 = 0x4000_0000;
const LEN: usize = 0x10_0000;
const SIZE: u16 = 16;

type Model = Entropy<CountingSource>;
type TestDevice<D> = VhostUserDevice<D, 4, 64>;
type Served<D> = JoinHandle<(D, Result<Ended, VhostUserError>)>;

fn entropy() -> Model {
    Entropy::new(CountingSource::default())
}

fn device<D: DeviceModel>(model: D) -> TestDevice<D> {
    VhostUserDevice::new(model, 8)
}

/// Serves one connection on a thread. Returns the model afterwards.
fn serve<D>(mut device: TestDevice<D>, device_end: UnixStream) -> Served<D>
where
    D: DeviceModel + Send + 'static,
{
    thread::spawn(move || {
        let result = device.serve(device_end);
        (device.into_model(), result)
    })
}

/// A front end with a driver of queue 0, connected to an entropy device.
struct FrontEnd<D = Model> {
    wire: Frontend,
    /// The same socket, for messages that `wire` does not send.
    raw: UnixStream,
    memory: GuestMemoryMmap,
    /// The layout of queue 0.
    config: QueueConfig,
    driver: FakeDriver<VmMem>,
    kick: EventFd,
    call: EventFd,
    device: Served<D>,
}

/// Memory that can be shared, at this address.
fn shared_memory(start: u64) -> GuestRegionMmap {
    let file = TempFile::new().expect("a temporary file").into_file();
    file.set_len(LEN as u64).expect("the file is extended");
    let mapping = MmapRegion::from_file(FileOffset::new(file, 0), LEN).expect("it is mapped");
    GuestRegionMmap::new(mapping, GuestAddress(start)).expect("a region")
}

fn info(region: &GuestRegionMmap) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo::from_guest_region(region).expect("a region with a file")
}

fn layout() -> Layout {
    Layout::packed_at(BASE, SIZE)
}

/// Connects, and negotiates features and protocol features.
fn connected() -> FrontEnd {
    connected_to(device(entropy()))
}

/// Connects to this device, and negotiates features and protocol features.
fn connected_to<D>(device: TestDevice<D>) -> FrontEnd<D>
where
    D: DeviceModel + Send + 'static,
{
    let (front_end, device_end) = UnixStream::pair().expect("two sockets");
    let device = serve(device, device_end);
    let raw = front_end.try_clone().expect("a clone");
    let mut wire = Frontend::from_stream(front_end, 1);
    wire.set_owner().expect("set_owner");
    let offered = wire.get_features().expect("get_features");
    assert_ne!(
        offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(),
        0
    );
    let protocol = wire.get_protocol_features().expect("get_protocol_features");
    assert!(protocol.contains(VhostUserProtocolFeatures::REPLY_ACK));
    wire.set_protocol_features(protocol)
        .expect("set_protocol_features");
    wire.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    let memory = GuestMemoryMmap::from_regions(vec![shared_memory(BASE)]).expect("memory");
    let driver = FakeDriver::new(VmMem::new(&memory), layout());
    FrontEnd {
        wire,
        raw,
        memory,
        config: layout().config(0),
        driver,
        kick: EventFd::new(0).expect("an eventfd"),
        call: EventFd::new(0).expect("an eventfd"),
        device,
    }
}

impl<D> FrontEnd<D> {
    /// The address of a driver's address in this process.
    fn user(&self, address: u64) -> u64 {
        let host = self.memory.get_host_address(GuestAddress(address));
        host.expect("shared memory") as u64
    }

    fn accept(&mut self, features: Features) -> vhost::Result<()> {
        let features = u64::try_from(features.bits()).expect("features of vhost-user");
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.wire.set_features(features | protocol)
    }

    fn share(&mut self) {
        self.accept(Features::VERSION_1).expect("features");
        self.share_memory().expect("memory");
    }

    fn share_memory(&mut self) -> vhost::Result<()> {
        let regions: Vec<_> = self.memory.iter().map(info).collect();
        self.wire.set_mem_table(&regions).map(|_| ())
    }

    /// Says where the rings of queue 0 are, and how large they are.
    fn place(&mut self) -> vhost::Result<()> {
        self.wire.set_vring_num(0, SIZE)?;
        self.place_rings()
    }

    /// Says where the rings of a running queue are, as before.
    fn place_again(&mut self) {
        self.place_rings().expect("the same addresses");
    }

    fn place_rings(&mut self) -> vhost::Result<()> {
        let config = self.config;
        let rings = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: self.user(config.desc),
            used_ring_addr: self.user(config.device),
            avail_ring_addr: self.user(config.driver),
            log_addr: None,
        };
        self.wire.set_vring_addr(0, &rings)
    }

    /// Starts queue 0 at this position.
    fn start(&mut self, base: u16) -> vhost::Result<()> {
        self.place()?;
        self.wire.set_vring_base(0, base)?;
        self.wire.set_vring_call(0, &self.call)?;
        self.wire.set_vring_kick(0, &self.kick)?;
        self.wire.set_vring_enable(0, true)
    }

    /// Sends a message that wants a reply.
    fn send(&self, request: u32, body: &[u8], files: &[RawFd]) {
        let words = [request, 0b1001, body.len() as u32];
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.raw
            .send_with_fds(&[&header[..], body], files)
            .expect("sent");
    }

    /// Receives a reply with a number.
    fn reply(&mut self, request: u32) -> u64 {
        let mut bytes = [0; 20];
        self.raw.read_exact(&mut bytes).expect("a reply");
        let words = bytes.as_chunks::<4>().0;
        assert_eq!(
            [words[0], words[1], words[2]].map(u32::from_ne_bytes),
            [request, 0b101, 8]
        );
        u64::from_ne_bytes(*bytes.last_chunk().expect("a number"))
    }

    fn status(&mut self) -> u64 {
        self.send(40, &[], &[]);
        self.reply(40)
    }

    fn set_status(&mut self, status: u64) {
        self.send(39, &status.to_ne_bytes(), &[]);
        assert_eq!(self.reply(39), 0);
    }

    /// Asks for 16 random bytes, without a kick.
    fn ask(&mut self) {
        let head = self.driver.next_avail() % SIZE;
        let at = BASE + 0x8000 + 64 * u64::from(head);
        self.driver.write(at, &[0; 16]);
        self.driver.send(head, &[Buffer::writable(at, 16)]);
    }

    /// Kicks, and waits for this many answers. An interrupt may come without an answer.
    fn answers(&mut self, count: usize) {
        self.kick.write(1).expect("a kick");
        self.wait(count);
    }

    fn wait(&mut self, count: usize) {
        let mut answered = self.take();
        while answered < count {
            self.call.read().expect("an interrupt");
            answered += self.take();
        }
        assert_eq!(answered, count);
    }

    fn take(&mut self) -> usize {
        let mut count = 0;
        while let Some((_, len)) = self.driver.take_used() {
            assert_eq!(len, 16);
            count += 1;
        }
        count
    }

    /// Closes the connection. Returns how the device saw it.
    fn close(self) -> Result<Ended, VhostUserError> {
        drop((self.wire, self.raw));
        self.device.join().expect("no panic in the device").1
    }
}

/// A connected front end that has accepted features and shared its memory.
fn sharing() -> FrontEnd {
    let mut front_end = connected();
    front_end.share();
    front_end
}

/// A connected front end with a started queue.
fn started() -> FrontEnd {
    started_with(device(entropy()))
}

/// A front end with a started queue of this device.
fn started_with<D>(device: TestDevice<D>) -> FrontEnd<D>
where
    D: DeviceModel + Send + 'static,
{
    let mut front_end = connected_to(device);
    front_end.share();
    front_end.start(0).expect("a valid queue");
    front_end
}

/// Long enough for a device that would wrongly do something.
fn a_while() {
    thread::sleep(Duration::from_millis(50));
}
