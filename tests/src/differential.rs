//! Sends the same chains over both ring formats and several transports, and compares the results.
//! The model and memory must end up the same on each, and the device must write nothing but the
//! buffers that the driver gave.

mod machine;
mod ring;
mod shifted;

pub use machine::{
    Machine, MailboxMachine, MessageDevice, MessageMachine, direct, line, offer, slots,
};
pub use ring::{Form, Given, Ring};
pub use shifted::{Chain, REQUESTS, given, play_scenario, shift_each_load};

use std::fmt::Debug;

use virtside::{
    DeviceModel, DriverFault, Features, HostFault, error::FaultPolicy, testing::Buffer,
    testing::Registers,
};

use crate::{BASE, DATA, TestRam, cut, in_order::Format, ram, random::Random, rings::changes};

/// Bytes from [`DATA`] on that requests use. Indirect tables follow.
pub const ROOM: usize = 0x1000;
/// Address of the indirect tables, one for each chain.
const TABLES: u64 = DATA + ROOM as u64;
/// Bytes that the rings of one queue occupy, from their first byte on.
const RINGS: usize = 0x200;

impl Random {
    /// Cuts `len` bytes from `addr` on into up to three buffers. Few of them are empty.
    pub fn cut(&mut self, addr: u64, len: u32, writable: bool) -> Vec<Buffer> {
        let cuts: Vec<u32> = (0..self.below(3))
            .map(|_| self.below(1000) as u32)
            .collect();
        let mut buffers = cut(addr, len, &cuts, writable);
        if !self.once_in(4) {
            buffers.retain(|buffer| buffer.len != 0);
        }
        buffers
    }

    /// Changes a valid chain to one that a driver should not send. The chain keeps at least one
    /// buffer.
    pub fn spoil(&mut self, buffers: &mut Vec<Buffer>) {
        let count = buffers.len();
        let at = self.below(count.max(1) as u64) as usize;
        let Some(buffer) = buffers.get_mut(at) else {
            buffers.push(Buffer::readable(DATA, 0));
            return;
        };
        match self.below(9) {
            0 => buffer.writable = !buffer.writable,
            1 => buffer.addr = u64::MAX - self.below(600),
            2 => buffer.addr = self.of(&[0, BASE - 1, BASE - 600, u64::MAX / 2, 1 << 32]),
            3 => buffer.len = self.of(&[u32::MAX, u32::MAX - 15, 1 << 31, 1 << 20]),
            4 => buffer.len = self.below(u64::from(buffer.len) + 1) as u32,
            5 if at + 1 < count => buffers.swap(at, at + 1),
            6 if count > 1 => drop(buffers.pop()),
            7 if count > 1 => drop(buffers.remove(0)),
            // An empty buffer at an unmapped address is no protocol violation.
            _ => {
                let (addr, writable) = (u64::MAX, buffer.writable);
                buffers.insert(
                    at,
                    Buffer {
                        addr,
                        len: 0,
                        writable,
                    },
                );
            }
        }
    }

    /// Chooses a form for a chain of these buffers. Few forms are invalid under these features.
    pub fn form(&mut self, features: Features, buffers: &[Buffer]) -> Form {
        if !features.contains(Features::INDIRECT_DESC) && !self.once_in(40) {
            return Form::Direct;
        }
        match self.below(60) {
            0 => Form::OddTable(self.of(&[0, 1, 15, 17, 16 * 17, u32::MAX, u32::MAX - 15])),
            1 => Form::TableAt(self.of(&[0, BASE - 16, u64::MAX - 15, u64::MAX, BASE - 1])),
            2 => Form::TableWithNext,
            // With one buffer the table would be empty, which is invalid.
            3..6 if buffers.len() > 1 => Form::Table(1),
            6..20 => Form::Table(0),
            _ => Form::Direct,
        }
    }
}

/// Returns each set of ring features that changes how chains are processed.
pub fn mixes() -> impl Iterator<Item = Features> {
    let features = [
        Features::EVENT_IDX,
        Features::INDIRECT_DESC,
        Features::IN_ORDER,
    ];
    (0..8).map(move |mix: usize| {
        let chosen = features.iter().enumerate();
        let chosen = chosen.filter(|(bit, _)| mix >> bit & 1 != 0);
        chosen.fold(Features::empty(), |sum, (_, feature)| sum.union(*feature))
    })
}

struct Member<D> {
    name: &'static str,
    format: Format,
    ram: TestRam,
    machine: Box<dyn Machine<D>>,
    rings: Vec<Ring>,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These chains were returned.
    Given(Vec<Given>),
    /// The device found the driver at fault in this queue. All machines were reset and set up
    /// again.
    Fault(u16, DriverFault),
}

/// One model on several machines. Each machine has its own drivers, and all drivers do the same.
pub struct DifferentialRig<D, T> {
    members: Vec<Member<D>>,
    features: Features,
    queues: u16,
    /// Takes what was done with a model since the last call.
    log: fn(&mut D) -> T,
    /// Driver faults so far.
    pub faults: u32,
    /// Chains that were returned so far.
    pub given: u32,
    sent: u64,
}

impl<D, T> Debug for DifferentialRig<D, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DifferentialRig").finish_non_exhaustive()
    }
}

impl<D: DeviceModel + 'static, T: PartialEq + Debug> DifferentialRig<D, T> {
    /// Makes a live rig of at most `Q` queues. The drivers accept the offered features that are
    /// in `wanted`.
    pub fn new<const Q: usize>(
        model: impl Fn() -> D,
        wanted: Features,
        queues: u16,
        log: fn(&mut D) -> T,
    ) -> Self {
        let mut rig = Self::alone::<Q>(&model, wanted, queues, log);
        let policy = FaultPolicy::default();
        rig.add("packed", Format::Packed, |ram| {
            Box::new(direct::<D, Q>(model(), ram, policy))
        });
        rig.add("packed, behind a mailbox", Format::Packed, |ram| {
            Box::new(MailboxMachine::<D, Q>::new(model(), ram))
        });
        rig.add("split, set up by messages", Format::Split, |ram| {
            Box::new(MessageMachine::<D, Q>::new(model(), ram))
        });
        rig.restart();
        rig
    }

    /// Makes a rig with only one machine, with split rings behind registers. The test adds others
    /// with [`join`](Self::join).
    pub fn alone<const Q: usize>(
        model: impl Fn() -> D,
        wanted: Features,
        queues: u16,
        log: fn(&mut D) -> T,
    ) -> Self {
        let policy = FaultPolicy::default();
        let offered = direct::<D, Q>(model(), ram(), policy).offered();
        let wanted = wanted.union(Features::VERSION_1);
        let mut rig = Self {
            members: Vec::new(),
            features: offered.intersection(wanted),
            queues,
            log,
            faults: 0,
            given: 0,
            sent: 0,
        };
        rig.join("split", Format::Split, |ram| {
            Box::new(direct::<D, Q>(model(), ram, policy))
        });
        rig
    }

    /// Adds a machine, and sets up all machines again.
    pub fn join(
        &mut self,
        name: &'static str,
        format: Format,
        make: impl FnOnce(TestRam) -> Box<dyn Machine<D>>,
    ) {
        self.add(name, format, make);
        self.restart();
    }

    fn add(
        &mut self,
        name: &'static str,
        format: Format,
        make: impl FnOnce(TestRam) -> Box<dyn Machine<D>>,
    ) {
        let ram = ram();
        self.members.push(Member {
            name,
            format,
            ram,
            machine: make(ram),
            rings: Vec::new(),
        });
    }

    /// Brings all machines from reset to live, with fresh rings.
    pub fn restart(&mut self) {
        for member in &mut self.members {
            let mut features = self.features.difference(Features::RING_PACKED);
            if member.format != Format::Split {
                features = features | Features::RING_PACKED;
            }
            let in_order = features.contains(Features::IN_ORDER);
            let ring = |queue| Ring::new(member.ram, member.format, queue, in_order);
            member.rings = (0..self.queues).map(ring).collect();
            let configs: Vec<_> = member.rings.iter().map(Ring::config).collect();
            member.machine.bring_up(features, &configs);
            member
                .machine
                .act(&mut |model| drop((self.log)(model)), &[]);
        }
        self.sent = 0;
    }

    /// The negotiated features without RING_PACKED.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Writes these bytes into the memory of every machine.
    pub fn write(&self, addr: u64, bytes: &[u8]) {
        for member in &self.members {
            member.ram.write((addr - BASE) as usize, bytes);
        }
    }

    /// Reads a byte of the first machine's memory.
    pub fn byte(&self, addr: u64) -> u8 {
        let mut byte = [0];
        self.members[0].ram.read((addr - BASE) as usize, &mut byte);
        byte[0]
    }

    /// Free descriptors of a queue.
    pub fn room(&self, queue: u16) -> usize {
        let rooms = self
            .members
            .iter()
            .map(|member| member.rings[usize::from(queue)].room());
        rooms.min().unwrap_or(0)
    }

    /// Makes a chain available on every machine, without a kick. The queue must have room.
    pub fn send(&mut self, queue: u16, buffers: &[Buffer], form: Form) {
        let table = TABLES + 0x200 * (self.sent % 128);
        self.sent += 1;
        for member in &mut self.members {
            member.rings[usize::from(queue)].send(buffers, form, table);
        }
    }

    /// Makes a chain available if the queue has room; returns whether it had.
    pub fn offer(&mut self, queue: u16, buffers: &[Buffer], form: Form) -> bool {
        let room = self.room(queue) >= buffers.len().max(1);
        if room {
            self.send(queue, buffers, form);
        }
        room
    }

    /// Kicks queues, and compares the results.
    #[track_caller]
    pub fn kick(&mut self, queues: &[u16]) -> Outcome {
        self.compare(&mut |machine| machine.kick(queues))
    }

    /// Changes the model, reports these queues ready, and compares the results.
    #[track_caller]
    pub fn act(&mut self, mut act: impl FnMut(&mut D), ready: &[u16]) -> Outcome {
        self.compare(&mut |machine| machine.act(&mut act, ready))
    }

    #[track_caller]
    fn compare(&mut self, step: &mut dyn FnMut(&mut dyn Machine<D>)) -> Outcome {
        let mut first: Option<(_, Outcome, Vec<u8>, Option<HostFault>)> = None;
        for member in &mut self.members {
            let before = shot(member.ram, self.queues);
            step(&mut *member.machine);
            let after = shot(member.ram, self.queues);
            for addr in touched(&before, &after) {
                let mut rings = member.rings.iter();
                let given = rings.any(|ring| ring.may_write(addr) || ring.is_device_area(addr));
                assert!(given, "{}: {addr:#x} was written", member.name);
            }
            let fault = (0..self.queues).find_map(|queue| {
                let fault = member.machine.fault(queue)?;
                Some((queue, fault))
            });
            let mut given: Vec<_> = member.rings.iter_mut().flat_map(Ring::take).collect();
            given.sort_unstable();
            let outcome = match fault {
                Some((queue, fault)) => Outcome::Fault(queue, fault),
                None => Outcome::Given(given),
            };
            let mut log = None;
            member
                .machine
                .act(&mut |model| log = Some((self.log)(model)), &[]);
            let (data, host) = (after[..ROOM].to_vec(), member.machine.host_fault());
            let Some(first) = &first else {
                first = Some((log, outcome, data, host));
                continue;
            };
            let name = member.name;
            assert!(
                is_same(&first.1, &outcome),
                "{name}: {outcome:?}, not {:?}",
                first.1
            );
            assert_eq!(first.0, log, "{name}");
            assert_eq!(first.3, host, "{name}");
            let where_else = changes(&first.2, &data);
            assert!(where_else.is_empty(), "{name}: {where_else:x?} differ");
        }
        let (_, outcome, ..) = first.expect("there is a member");
        match &outcome {
            Outcome::Given(given) => self.given += given.len() as u32,
            Outcome::Fault(..) => {
                self.faults += 1;
                self.restart();
            }
        }
        outcome
    }
}

/// Compares faults without chain identifiers, which differ between ring formats.
fn is_same(a: &Outcome, b: &Outcome) -> bool {
    match (a, b) {
        (Outcome::Fault(at, a), Outcome::Fault(also, b)) => {
            at == also && std::mem::discriminant(a) == std::mem::discriminant(b)
        }
        _ => a == b,
    }
}

/// Copies the memory of requests and of the rings behind it.
fn shot(ram: TestRam, queues: u16) -> Vec<u8> {
    let mut bytes = vec![0; ROOM + RINGS * usize::from(queues)];
    let (data, rings) = bytes.split_at_mut(ROOM);
    ram.read((DATA - BASE) as usize, data);
    for (queue, rings) in rings.chunks_mut(RINGS).enumerate() {
        ram.read(0x1000 * queue, rings);
    }
    bytes
}

/// Returns the addresses at which two copies differ.
fn touched(before: &[u8], after: &[u8]) -> impl Iterator<Item = u64> {
    changes(before, after)
        .into_iter()
        .map(|at| match at.checked_sub(ROOM) {
            None => DATA + at as u64,
            Some(at) => BASE + (0x1000 * (at / RINGS) + at % RINGS) as u64,
        })
}
