//! Memory that becomes unmapped between a chain and its use.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use virtio_spec::console::F;
use virtside::{
    ChainSlot, Engine, Features, FlatMem, HostFault, Shared, Step,
    models::Console,
    testing::{Buffer, FakeDriver, Registers},
};
use virtside_tests::{
    BASE, BUDGET, DATA, Line, N, config, driver,
    hooks::{Hook, Touch},
    models::console::*,
    ram,
    rings::GuardedMem,
};

type Mem = GuardedMem<FlatMem<Hook>>;
type Gone<const P: usize> =
    Engine<Console<RecordingPort, P>, Mem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// A live device. Once it has accessed the address in `at`, the buffer at [`SECOND`] is unmapped.
struct GoneRig<const P: usize> {
    device: Gone<P>,
    queues: Vec<FakeDriver<FlatMem>>,
    mem: Mem,
    at: Arc<AtomicU64>,
}

const FIRST: u64 = DATA;
const SECOND: u64 = DATA + 0x1000;

impl<const P: usize> GoneRig<P> {
    fn new(console: Console<RecordingPort, P>) -> Self {
        let ram = ram();
        let guard = Arc::new(OnceLock::<Mem>::new());
        let at = Arc::new(AtomicU64::new(0));
        let hook = Hook::new({
            let (guard, at) = (Arc::clone(&guard), Arc::clone(&at));
            move |touch| {
                let (Touch::Read(start, _) | Touch::Write(start, _)) = touch;
                if let (true, Some(guard)) = (start == at.load(Ordering::SeqCst), guard.get()) {
                    guard.deny(SECOND, 64);
                }
            }
        });
        let mem = GuardedMem::new(ram.flat(BASE).with_hooks(hook));
        guard.set(mem.clone()).expect("once");
        let line: Line = Box::leak(Box::default());
        let slots = vec![ChainSlot::new(); 4];
        let mut device = Engine::new(console, mem.clone(), line, slots, Arc::new(Shared::new()));
        let count = if P == 1 { 2 } else { 4 };
        let configs: Vec<_> = (0..count).map(config).collect();
        let features = if P == 1 {
            Features::RING
        } else {
            Features::RING | feature(F::MULTIPORT)
        };
        assert!(device.bring_up(features, &configs));
        let queues = (0..count).map(|queue| driver(ram, queue)).collect();
        Self {
            device,
            queues,
            mem,
            at,
        }
    }

    /// Sends a chain. The second buffer becomes unmapped while the first is used. Returns the used
    /// entry and the host fault.
    fn send(&mut self, queue: u16, buffers: &[Buffer]) -> (Option<(u32, u32)>, Option<HostFault>) {
        self.at.store(FIRST, Ordering::SeqCst);
        self.queues[usize::from(queue)].send(0, buffers);
        let _ = self.device.kick(queue);
        while self.device.poll(BUDGET) == Step::More {}
        let _ = self.device.poll(BUDGET);
        assert_eq!(
            self.device.driver_fault(queue),
            None,
            "the device continues"
        );
        self.at.store(0, Ordering::SeqCst);
        self.mem.allow_all();
        let used = self.queues[usize::from(queue)].take_used();
        (used, self.device.take_host_fault())
    }

    fn io(&mut self, port: u16) -> &mut RecordingPort {
        self.device
            .model_mut()
            .port_mut(port)
            .expect("a port")
            .io_mut()
    }
}

const GONE: Option<HostFault> = Some(HostFault::MemoryGone { addr: SECOND });

#[test]
fn input_for_an_unmapped_buffer_stays_at_the_port() {
    let mut rig = GoneRig::new(Console::new(RecordingPort::new()));
    rig.io(0).input.extend(b"0123456789");
    let buffers = [Buffer::writable(FIRST, 4), Buffer::writable(SECOND, 16)];
    assert_eq!(rig.send(0, &buffers), (Some((0, 4)), GONE));
    assert_eq!(rig.io(0).input, b"456789");
    assert_eq!(
        rig.send(0, &[Buffer::writable(FIRST, 16)]),
        (Some((0, 6)), None)
    );
    let mut bytes = [0; 6];
    rig.queues[0].read(FIRST, &mut bytes);
    assert_eq!(&bytes, b"456789");
}

#[test]
fn output_is_written_up_to_its_unmapped_end() {
    let mut rig = GoneRig::new(Console::new(RecordingPort::new()));
    rig.queues[1].write(FIRST, b"hello");
    let buffers = [Buffer::readable(FIRST, 5), Buffer::readable(SECOND, 5)];
    assert_eq!(rig.send(1, &buffers), (Some((0, 0)), GONE));
    assert_eq!(rig.io(0).output, b"hello");
}

#[test]
fn an_unmapped_control_message_is_ignored() {
    let mut rig = GoneRig::new(three());
    let ready = control(0, DEVICE_READY, 1);
    rig.queues[3].write(FIRST, &ready);
    let buffers = [Buffer::readable(FIRST, 4), Buffer::readable(SECOND, 4)];
    assert_eq!(rig.send(3, &buffers), (Some((0, 0)), GONE));
    assert_eq!(rig.device.model().ignored(), 0);
    assert_eq!(rig.send(2, &[Buffer::writable(FIRST, 16)]), (None, None));
}

#[test]
fn a_control_message_without_room_goes_with_the_next_buffer() {
    let mut rig = GoneRig::new(three());
    rig.queues[3].write(FIRST, &control(0, DEVICE_READY, 1));
    assert_eq!(
        rig.send(3, &[Buffer::readable(FIRST, 8)]),
        (Some((0, 0)), None)
    );
    let buffers = [Buffer::writable(FIRST, 3), Buffer::writable(SECOND, 16)];
    assert_eq!(rig.send(2, &buffers), (Some((0, 3)), GONE));
    assert_eq!(
        rig.send(2, &[Buffer::writable(FIRST, 16)]),
        (Some((0, 8)), None)
    );
    let mut bytes = [0; 8];
    rig.queues[2].read(FIRST, &mut bytes);
    assert_eq!(bytes[..], control(0, ADD, 0), "port 0 is not announced yet");
}
