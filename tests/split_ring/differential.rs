//! Random rings, valid and invalid: the device's effects on memory are exactly those of the
//! reference.

use proptest::{collection::vec, option, prelude::*};
use virtside::{
    Features, Token,
    testing::{Buffer, Layout, NEXT, Registers, WRITE},
};
use virtside_tests::{
    BASE, BYTES, SIZE,
    rings::{Plan, RecordingRig, changes},
};

use super::reference::Reference;

/// Addresses: rings first, then tables, then data.
const TABLES: u64 = BASE + 0x400;
const DATA: u64 = BASE + 0x800;
const END: u64 = BASE + BYTES as u64;

#[derive(Clone, Debug)]
enum Op {
    /// A chain that is well formed if its buffers are: some direct descriptors, and the rest in a
    /// table, if there is one.
    Chain {
        head: u16,
        buffers: Vec<Buffer>,
        table: Option<(u16, usize)>,
        offer: bool,
    },
    /// Writes a descriptor, in the descriptor table or in an indirect table.
    Desc {
        at: u64,
        addr: u64,
        len: u32,
        flags: u16,
        next: u16,
    },
    /// Writes a descriptor with a `next` field, and offers it.
    Link {
        head: u16,
        next: u16,
        flags: u16,
    },
    Offer(u16),
    /// Publishes what was offered.
    Publish,
    /// Publishes an available index at this distance from what the device has seen.
    Jump(i16),
    UsedEvent(u16),
    AvailFlags(u16),
    Byte {
        at: u64,
        value: u8,
    },
    Poll(u16),
    /// Whether the device keeps chains from now on.
    Wait(bool),
    Complete(prop::sample::Index),
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        200 => DATA..DATA + 0x800,
        10 => TABLES..TABLES + 0x400,
        10 => BASE..BASE + 0x200,
        1 => END - 64..END,
        1 => prop_oneof![Just(0), Just(END), Just(u64::MAX), Just(u64::MAX - 7), any::<u64>()],
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![200 => 1u32..48, 30 => Just(0), 10 => 48u32..0x400, 1 => any::<u32>()]
}

fn buffers() -> impl Strategy<Value = Vec<Buffer>> {
    let piece = || (address(), length());
    (vec(piece(), 0..5), vec(piece(), 0..5)).prop_filter_map("no buffer", |(sent, room)| {
        let sent = sent
            .into_iter()
            .map(|(addr, len)| Buffer::readable(addr, len));
        let room = room
            .into_iter()
            .map(|(addr, len)| Buffer::writable(addr, len));
        let all: Vec<Buffer> = sent.chain(room).collect();
        (!all.is_empty()).then_some(all)
    })
}

fn op() -> impl Strategy<Value = Op> {
    let chain = (
        0..SIZE,
        buffers(),
        option::of((0u16..4, 0usize..4)),
        prop::bool::weighted(0.9),
    );
    let place = prop_oneof![
        (0..u64::from(SIZE)).prop_map(|index| BASE + 16 * index),
        (0..64u64).prop_map(|index| TABLES + 16 * index),
    ];
    let flags = prop_oneof![
        Just(0),
        Just(NEXT),
        Just(WRITE),
        Just(NEXT | WRITE),
        0u16..16
    ];
    let next = prop_oneof![6 => 0..SIZE, 1 => any::<u16>()];
    let desc = (place, address(), length(), flags, next);
    let link = (
        0..SIZE,
        0..SIZE,
        prop_oneof![Just(NEXT), Just(NEXT | WRITE)],
    );
    prop_oneof![
        1 => link.prop_map(|(head, next, flags)| Op::Link { head, next, flags }),
        20 => chain.prop_map(|(head, buffers, table, offer)| {
            Op::Chain { head, buffers, table, offer }
        }),
        1 => desc.prop_map(|(at, addr, len, flags, next)| {
            Op::Desc { at, addr, len, flags, next }
        }),
        1 => (0..SIZE + 1).prop_map(Op::Offer),
        12 => Just(Op::Publish),
        1 => (-1i16..20).prop_map(Op::Jump),
        2 => prop_oneof![0u16..32, any::<u16>()].prop_map(Op::UsedEvent),
        2 => (0u16..2).prop_map(Op::AvailFlags),
        1 => (BASE..BASE + 0x500, any::<u8>()).prop_map(|(at, value)| Op::Byte { at, value }),
        16 => (0u16..12).prop_map(Op::Poll),
        2 => any::<bool>().prop_map(Op::Wait),
        6 => any::<prop::sample::Index>().prop_map(Op::Complete),
    ]
}

/// The device and the reference, which should agree.
struct Pair {
    rig: RecordingRig,
    reference: Reference,
    tokens: Vec<(u16, Token)>,
}

impl Pair {
    fn new(features: Features, size: u16) -> Self {
        let layout = Layout::packed_at(BASE, size);
        let rig = RecordingRig::sized(features, size);
        let reference = Reference::new(rig.shot(), layout, features, 4);
        Self {
            rig,
            reference,
            tokens: Vec::new(),
        }
    }

    fn write_chain(&self, head: u16, buffers: &[Buffer], table: Option<(u16, usize)>) {
        let driver = &self.rig.driver;
        let size = driver.layout().size;
        let direct = table.map_or(buffers.len(), |(_, direct)| direct.min(buffers.len()));
        for (at, buffer) in buffers.iter().enumerate().take(direct) {
            let index = (head + at as u16) % size;
            let more = at + 1 < direct || table.is_some();
            let flags = if buffer.writable { WRITE } else { 0 } | if more { NEXT } else { 0 };
            driver.write_desc(index, (buffer.addr, buffer.len), flags, (index + 1) % size);
        }
        if let Some((table, _)) = table {
            let index = (head + direct as u16) % size;
            driver.write_indirect(index, TABLES + 0x100 * u64::from(table), &buffers[direct..]);
        }
    }

    fn step(&mut self, op: Op) {
        let idx = self.rig.driver.next_avail();
        match op {
            Op::Chain {
                head,
                buffers,
                table,
                offer,
            } => {
                let head = head % self.rig.driver.layout().size;
                self.write_chain(head, &buffers, table);
                if offer {
                    self.rig.driver.offer(head);
                }
            }
            Op::Desc {
                at,
                addr,
                len,
                flags,
                next,
            } => {
                self.rig.driver.write_desc_at(at, (addr, len), flags, next);
            }
            Op::Link { head, next, flags } => {
                self.rig.driver.write_desc(head, (DATA, 1), flags, next);
                self.rig.driver.offer(head);
            }
            Op::Offer(head) => self.rig.driver.offer(head),
            Op::Publish => self.rig.driver.publish(),
            Op::Jump(by) => self.rig.driver.set_avail_idx(idx.wrapping_add_signed(by)),
            Op::UsedEvent(event) => self.rig.driver.set_used_event(event),
            Op::AvailFlags(flags) => self.rig.driver.set_avail_flags(flags),
            Op::Byte { at, value } => self.rig.driver.write(at, &[value]),
            Op::Wait(wait) => {
                self.rig.engine.model_mut().plan = if wait { Plan::Wait } else { Plan::Fill(7) };
                self.reference.fill = if wait { None } else { Some(7) };
            }
            Op::Poll(budget) => {
                self.reference.mem = self.rig.shot();
                let _ = self.rig.engine.kick(0);
                let step = self.rig.engine.poll(budget);
                // Without a budget there is nothing to compare.
                let expected = self.reference.poll(budget);
                if budget > 0 {
                    assert_eq!(step, expected);
                }
                self.compare();
            }
            Op::Complete(which) => {
                if self.tokens.is_empty() {
                    return;
                }
                self.reference.mem = self.rig.shot();
                let at = which.index(self.tokens.len());
                let (head, token) = self.tokens[at];
                assert_eq!(self.rig.engine.complete(token), Ok(()));
                let at = self
                    .reference
                    .pending
                    .iter()
                    .position(|taken| taken.head == head);
                self.reference
                    .complete(at.expect("the reference has it pending too"));
                self.compare();
            }
        }
    }

    fn compare(&mut self) {
        let Self {
            rig,
            reference,
            tokens,
        } = self;
        assert_eq!(rig.fault(), reference.fault);
        let seen = rig.engine.model().seen.iter();
        let seen: Vec<_> = seen
            .map(|seen| (seen.head, seen.sent.clone(), seen.room))
            .collect();
        assert_eq!(seen, reference.seen);
        // The token of a pending chain is the last one that the model saw with its head.
        for seen in &rig.engine.model().seen {
            tokens.retain(|(head, _)| *head != seen.head);
            tokens.push((seen.head, seen.token));
        }
        tokens.retain(|(head, _)| reference.pending.iter().any(|taken| taken.head == *head));
        rig.engine.model_mut().seen.clear();
        reference.seen.clear();
        assert_eq!(rig.interrupts(), reference.interrupts);
        let after = rig.shot();
        // The fields that suppress kicks are only advice; other tests check them.
        for field in reference.advice() {
            let at = (field - BASE) as usize;
            reference.mem[at..at + 2].copy_from_slice(&after[at..at + 2]);
        }
        let differ = changes(&reference.mem, &after);
        assert!(differ.is_empty(), "memory differs at {differ:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_device_does_what_the_reference_does(
        ops in vec(op(), 1..60),
        size in prop_oneof![4 => Just(SIZE), 1 => Just(1u16), 1 => Just(4u16)],
        event_idx: bool,
        indirect in prop::bool::weighted(0.9),
    ) {
        let mut features = Features::empty();
        if event_idx {
            features = features | Features::EVENT_IDX;
        }
        if indirect {
            features = features | Features::INDIRECT_DESC;
        }
        let mut pair = Pair::new(features, size);
        for op in ops {
            pair.step(op);
        }
        pair.step(Op::Poll(99));
    }
}

/// Checks that the random sequences reach chains and faults; without that the comparison could pass
/// without any.
#[test]
fn random_rings_reach_chains_and_faults_of_every_kind() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut chains, mut pending, mut faults) = (0, 0, std::collections::BTreeMap::new());
    for case in 0..400 {
        let indirect = if case % 8 == 0 {
            Features::empty()
        } else {
            Features::INDIRECT_DESC
        };
        let mut pair = Pair::new(indirect, SIZE);
        for op in vec(op(), 1..60)
            .new_tree(&mut runner)
            .expect("a value")
            .current()
        {
            pair.step(op);
            pending = pending.max(pair.tokens.len());
        }
        pair.step(Op::Poll(99));
        chains += pair.rig.engine.counters().chains;
        if let Some(fault) = pair.rig.fault() {
            let name = format!("{fault:?}");
            *faults
                .entry(name.split(' ').next().unwrap_or("").to_owned())
                .or_insert(0) += 1;
        }
    }
    // All faults except LengthOverflow, for which this memory is too small, and a model's own
    // BadRequest.
    assert!(
        chains > 500 && pending == 4 && faults.len() >= 8,
        "{chains} {pending} {faults:?}"
    );
}
