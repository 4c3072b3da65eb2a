//! Driver memory that disappears while a request is served: the request fails, but neither the
//! queue nor the device stops.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use virtside::{
    ChainSlot, Engine, Features, FlatMem, HostFault, QueueConfig, Shared, Step, testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, Line, N, TestRam,
    differential::{Chain, Form, Given, Ring, given, line, slots},
    hooks::{Hook, Touch},
    in_order::Format,
    ram,
    rings::GuardedMem,
};

use crate::{case::Q, *};

type Mem = GuardedMem<FlatMem<Hook>>;
type Device<D> = Engine<D, Mem, Line, Q, N, Vec<ChainSlot<N>>, Arc<Shared<Q>>>;

/// A device that serves chains whose buffers disappear after a given access.
struct Vanishing<C: ModelCase> {
    device: Device<C::Model>,
    mem: Mem,
    /// Accesses that still succeed.
    left: Arc<AtomicU32>,
    /// The range from the first to the last buffer of the chain that was sent.
    buffers: Arc<Mutex<Range<u64>>>,
    ram: TestRam,
    wanted: Features,
    format: Format,
}

impl<C: ModelCase> Vanishing<C> {
    fn new(case: &C, format: Format, ram: TestRam, left: u32) -> Self {
        let guard = Arc::new(OnceLock::<Mem>::new());
        let left = Arc::new(AtomicU32::new(left));
        let buffers = Arc::new(Mutex::new(0..0));
        let hook = Hook::new({
            let (guard, left, buffers) = (guard.clone(), left.clone(), buffers.clone());
            move |touch| {
                let (Touch::Read(start, _) | Touch::Write(start, _)) = touch;
                let buffers = buffers.lock().expect("no panic").clone();
                if buffers.contains(&start)
                    && left.fetch_sub(1, Ordering::SeqCst) == 0
                    && let Some(mem) = guard.get()
                {
                    mem.deny(buffers.start, (buffers.end - buffers.start) as u32);
                }
            }
        });
        let mem = GuardedMem::new(ram.flat(BASE).with_hooks(hook));
        guard.set(mem.clone()).expect("once");
        let model = case.scenario_model();
        Self {
            device: Engine::new(model, mem.clone(), line(), slots(), Arc::new(Shared::new()))
                .with_offer(virtside_tests::differential::offer()),
            mem,
            left,
            buffers,
            ram,
            wanted: case.features() | Features::VERSION_1 | format.features(),
            format,
        }
    }

    /// Sends the chains one after the other, each with its memory present; returns what came back.
    fn play(&mut self, queues: u16, scenario: &[Chain]) -> Vec<Given> {
        let ring = |queue| Ring::new(self.ram, self.format, queue, false);
        let mut rings: Vec<Ring> = (0..queues).map(ring).collect();
        let configs: Vec<QueueConfig> = rings.iter().map(Ring::config).collect();
        let offered = self.device.offered();
        let features = offered.intersection(self.wanted);
        assert!(self.device.bring_up(features, &configs));
        for (queue, buffers, bytes) in scenario {
            for (addr, bytes) in bytes {
                self.ram.write((addr - BASE) as usize, bytes);
            }
            let starts = buffers.iter().map(|buffer| buffer.addr);
            let ends = buffers
                .iter()
                .map(|buffer| buffer.addr + u64::from(buffer.len));
            *self.buffers.lock().expect("no panic") =
                starts.min().expect("a buffer")..ends.max().expect("a buffer");
            rings[usize::from(*queue)].send(buffers, Form::Direct, 0);
            let _ = self.device.kick(*queue);
            for _ in 0..4 {
                while self.device.poll(BUDGET) == Step::More {}
            }
            self.mem.allow_all();
        }
        given(&mut rings)
    }
}

fn buffers_gone_at_any_access_fail_only_their_request<C: ModelCase>() {
    for (case, _) in C::all() {
        let (scenario, queues, ram) = (case.scenario(), case.queues(), ram());
        for format in [Format::Split, Format::Packed] {
            let mut going = Vanishing::new(&case, format, ram, u32::MAX);
            let undisturbed = going.play(queues, &scenario);
            let accesses = u32::MAX - going.left.load(Ordering::SeqCst);
            assert!(accesses as usize >= scenario.len());
            let mut gone = 0;
            for access in 0..accesses {
                let mut going = Vanishing::new(&case, format, ram, access);
                going.play(queues, &scenario);
                let faults = (0..queues).filter_map(|queue| going.device.driver_fault(queue));
                assert_eq!(
                    faults.count(),
                    0,
                    "access {access}: the driver is not at fault"
                );
                match going.device.take_host_fault() {
                    None => {}
                    Some(HostFault::MemoryGone { .. }) => gone += 1,
                    other => panic!("access {access}: {other:?}"),
                }
                going.left.store(u32::MAX, Ordering::SeqCst);
                let cured = going.play(queues, &scenario);
                assert_eq!(cured, undisturbed, "access {access}");
            }
            assert!(gone > 0, "no request failed in {accesses} accesses");
        }
    }
}

over_models! {
    blk console entropy gpio i2c spi: { buffers_gone_at_any_access_fail_only_their_request }
}
