//! For tests of the rings: a device that records its requests, and several kinds of memory.

use std::sync::{Arc, Mutex};

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, FlatMem, HostFault,
    Request, Step, Token,
    memory::{DeviceRange, DriverRange, MemFault, Permission, Region},
    shared::InterruptStatus,
    testing::{FakeDriver, Layout, Registers},
};

use crate::{BASE, BUDGET, BYTES, Q, SIZE, TestEngine, TestRam, engine_over, ram, reg};

/// One request of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Queue number.
    pub queue: u16,
    /// Head descriptor.
    pub head: u16,
    /// The readable bytes: at most [`PLENTY`].
    pub sent: Vec<u8>,
    /// Writable bytes.
    pub room: u64,
    /// The chain's token while it is pending.
    pub token: Token,
}

/// What the device does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Fills the writable buffers with this byte: at most [`PLENTY`] bytes.
    Fill(u8),
    /// Writes nothing, and claims this used length.
    Claim(u32),
    /// Keeps the chain pending.
    Wait,
    /// Reports this driver fault.
    Blame(DriverFault),
    /// Reports this host fault, and writes nothing.
    Fail(HostFault),
}

/// A device of [`Q`] queues that records its requests.
#[derive(Debug)]
pub struct RecordingModel {
    /// Its requests, one entry for each time it was asked to serve.
    pub seen: Vec<Seen>,
    /// What it does with a request.
    pub plan: Plan,
    /// Queues that it cannot serve at present.
    pub busy: Vec<u16>,
    /// Queues that it was told were stopped.
    pub stopped: Vec<u16>,
    /// Resets that it was told of.
    pub resets: u32,
}

impl RecordingModel {
    /// Makes a device that does this with every request.
    pub fn new(plan: Plan) -> Self {
        Self {
            seen: Vec::new(),
            plan,
            busy: Vec::new(),
            stopped: Vec::new(),
            resets: 0,
        }
    }

    /// The heads of its requests, in order.
    pub fn heads(&self) -> Vec<u16> {
        self.seen.iter().map(|seen| seen.head).collect()
    }

    /// The queues of its requests, in order.
    pub fn queues(&self) -> Vec<u16> {
        self.seen.iter().map(|seen| seen.queue).collect()
    }
}

/// The most bytes that the device reads or fills: some tests send 4 GiB.
pub const PLENTY: usize = BYTES;

impl DeviceConfig for RecordingModel {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if usize::from(queue) < Q { u16::MAX } else { 0 }
    }
}

crate::keeps_nothing!(RecordingModel);

impl DeviceModel for RecordingModel {
    fn reset(&mut self) {
        self.resets += 1;
    }
    fn queue_stopped(&mut self, queue: u16) {
        self.stopped.push(queue);
    }
    fn can_serve(&self, queue: u16) -> bool {
        !self.busy.contains(&queue)
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let room = request.writable.remaining();
        let mut sent = Vec::new();
        while let Ok(Some(view)) = request.readable.view(u32::MAX) {
            let mut bytes = vec![0; view.len().min(PLENTY)];
            view.copy_to(&mut bytes);
            sent.extend_from_slice(&bytes);
            request.readable.skip(bytes.len() as u32);
            if sent.len() >= PLENTY {
                break;
            }
        }
        let (queue, head, token) = (request.queue, request.head, request.token);
        self.seen.push(Seen {
            queue,
            head,
            sent,
            room,
            token,
        });
        match self.plan {
            Plan::Fill(byte) => {
                while (request.writable.written() as usize) < PLENTY
                    && let Ok(Some(view)) = request.writable.view(PLENTY as u32)
                {
                    view.fill(byte);
                    request.writable.commit(view.len() as u32);
                }
                Ok(Answer::Done {
                    written: request.writable.written(),
                })
            }
            Plan::Claim(written) => Ok(Answer::Done { written }),
            Plan::Wait => Ok(Answer::Pending),
            Plan::Blame(fault) => Err(fault),
            Plan::Fail(fault) => {
                request.report(fault);
                Ok(Answer::Done { written: 0 })
            }
        }
    }
}

/// A live [`RecordingModel`] and the driver of its queue 0.
#[derive(Debug)]
pub struct RecordingRig<M: DriverMem = FlatMem> {
    /// The device.
    pub engine: TestEngine<RecordingModel, M>,
    /// The driver at queue 0.
    pub driver: FakeDriver<FlatMem>,
    /// All memory, from [`BASE`] on.
    pub ram: TestRam,
}

impl RecordingRig {
    /// Makes a rig with VERSION_1 and these features, a queue of 16, and all memory filled with
    /// 0xa5. It uses [`scratch`] memory, so a test has one rig at a time.
    pub fn new(features: Features) -> Self {
        Self::sized(features, SIZE)
    }

    /// Like [`new`](Self::new), with a queue of this size.
    pub fn sized(features: Features, size: u16) -> Self {
        let ram = scratch();
        Self::over(ram.flat(BASE), ram, features, size)
    }
}

impl<M: DriverMem> RecordingRig<M> {
    /// Like [`sized`](Self::sized); the device sees memory through `mem`.
    pub fn over(mem: M, ram: TestRam, features: Features, size: u16) -> Self {
        Self::at(mem, ram, features, Layout::packed_at(BASE, size))
    }

    /// Like [`over`](Self::over), with rings at this layout. The driver sees `ram` at [`BASE`].
    pub fn at(mem: M, ram: TestRam, features: Features, layout: Layout) -> Self {
        let driver = FakeDriver::new(ram.flat(BASE), layout);
        let mut engine = engine_over(RecordingModel::new(Plan::Fill(0xa5)), mem, 4);
        let features = features | Features::VERSION_1;
        assert!(
            engine.bring_up(features, &[layout.config(0)]),
            "the driver went live"
        );
        Self {
            engine,
            driver,
            ram,
        }
    }

    /// Kicks queue 0, and polls until nothing is left to do.
    pub fn kick(&mut self) -> Step {
        let _ = self.engine.kick(0);
        self.poll()
    }

    /// Polls until nothing is left to do.
    pub fn poll(&mut self) -> Step {
        settle(&mut self.engine)
    }

    /// Copies all memory.
    pub fn shot(&self) -> Vec<u8> {
        shot(self.ram)
    }

    /// Returns the fault that stopped queue 0.
    pub fn fault(&self) -> Option<DriverFault> {
        self.engine.driver_fault(0)
    }

    /// Returns the last request of the device.
    pub fn last(&self) -> &Seen {
        self.engine
            .model()
            .seen
            .last()
            .expect("the device was sent a request")
    }

    /// Counts the interrupts since the device was made.
    pub fn interrupts(&self) -> u32 {
        self.engine.device().notify().asserted()
    }

    /// Returns InterruptStatus, and acknowledges all of it.
    pub fn acknowledge(&mut self) -> InterruptStatus {
        let bits = self.engine.load(reg::INTERRUPT_STATUS);
        let _ = self.engine.store(reg::INTERRUPT_ACK, bits);
        InterruptStatus::from_bits_truncate(bits)
    }

    /// Resets the device, and brings it up again with clean rings.
    pub fn restart(&mut self, features: Features) {
        let layout = *self.driver.layout();
        assert!(self.engine.negotiate(features | Features::VERSION_1));
        self.driver = FakeDriver::new(self.ram.flat(BASE), layout);
        assert_eq!(self.engine.configure(&layout.config(0)).refusal(), None);
        assert_eq!(self.engine.go_live().value(), Some(0));
    }
}

/// Polls until the step is not [`Step::More`]. Panics if that takes forever.
pub fn settle<D: DeviceModel, M: DriverMem>(engine: &mut TestEngine<D, M>) -> Step {
    for _ in 0..10_000 {
        match engine.poll(BUDGET) {
            Step::More => {}
            step => return step,
        }
    }
    panic!("the device always finds more to do");
}

/// Returns zeroed memory, the same in each call of a thread, for tests that need memory often.
pub fn scratch() -> TestRam {
    thread_local! {
        static SCRATCH: TestRam = ram();
    }
    SCRATCH.with(|ram| {
        ram.write(0, &[0; BYTES]);
        *ram
    })
}

/// Copies all memory.
pub fn shot(ram: TestRam) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    ram.read(0, &mut bytes);
    bytes
}

/// Returns the offsets at which two copies differ.
pub fn changes(before: &[u8], after: &[u8]) -> Vec<usize> {
    if before == after {
        return Vec::new();
    }
    (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect()
}

/// Makes a region of the driver's memory at `base` from `len` bytes of `ram` at offset `from`.
pub fn region(base: u64, ram: TestRam, from: usize, len: usize, permission: Permission) -> Region {
    let region = ram
        .part(from..from + len, base)
        .expect("the region is inside the memory");
    match permission {
        Permission::Read => region.read_only(),
        Permission::Write => region,
    }
}

/// Memory that repeats every [`BYTES`] bytes of driver address, so that no address is out of range.
#[derive(Clone, Debug)]
pub struct EchoMem(pub FlatMem);

impl DriverMem for EchoMem {
    type Window = <FlatMem as DriverMem>::Window;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<Self::Window, MemFault> {
        self.0.window(range, permission)
    }

    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        let offset = range.start() % BYTES as u64;
        let here = u64::from(range.len()).min(BYTES as u64 - offset);
        let part = DriverRange::new(BASE + offset, here as u32).ok_or(MemFault::Unmapped)?;
        self.0.translate(part, permission)
    }
}

/// Memory like that behind an IOMMU: a test can deny a part of it at any time.
#[derive(Clone, Debug)]
pub struct GuardedMem<M> {
    inner: M,
    denied: Arc<Mutex<Option<DriverRange>>>,
}

impl<M> GuardedMem<M> {
    /// Makes a guard that denies nothing.
    pub fn new(inner: M) -> Self {
        Self {
            inner,
            denied: Arc::default(),
        }
    }

    /// Denies this range and no other. All clones share the guard.
    pub fn deny(&self, start: u64, len: u32) {
        *self.denied.lock().unwrap() = DriverRange::new(start, len);
    }

    /// Denies nothing from now on.
    pub fn allow_all(&self) {
        *self.denied.lock().unwrap() = None;
    }

    fn denied(&self) -> Option<DriverRange> {
        *self.denied.lock().unwrap()
    }
}

impl<M: DriverMem> DriverMem for GuardedMem<M> {
    type Window = M::Window;

    fn window(&self, range: DriverRange, permission: Permission) -> Result<M::Window, MemFault> {
        match self.denied() {
            Some(denied) if denied.overlaps(&range) => Err(MemFault::Denied),
            _ => self.inner.window(range, permission),
        }
    }

    fn translate(
        &self,
        range: DriverRange,
        permission: Permission,
    ) -> Result<DeviceRange<'_>, MemFault> {
        let view = self.inner.translate(range, permission)?;
        match self.denied() {
            Some(denied) if denied.overlaps(&range) => {
                let before = denied.start().saturating_sub(range.start());
                if before == 0 {
                    Err(MemFault::Denied)
                } else {
                    Ok(view.take(before as usize))
                }
            }
            _ => Ok(view),
        }
    }

    fn before_read(&self, range: DriverRange) {
        self.inner.before_read(range);
    }

    fn after_write(&self, range: DriverRange) {
        self.inner.after_write(range);
    }
}
