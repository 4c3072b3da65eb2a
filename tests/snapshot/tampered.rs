//! Many snapshots with every small change of each field: a change is refused, or gives a device
//! that harms nothing.
//!
//! The tests change a snapshot as text, so that they also change fields that are added later.

use std::collections::HashMap;

use serde_json::Value;
use virtside::{
    Features, Step,
    device::QueueState,
    mmio::{Phase, Reply},
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, BYTES, TestEngine, TestRam, config,
    hooks::{Log, Touch},
    probe::Probe,
    random::Random,
    reg,
};

use crate::support::{Client, SLOTS, State, assert_in_reset, fresh, live, model, rings, save};

/// A snapshot, the memory that belongs to it, and what it contains.
struct Seed {
    name: String,
    state: State,
    ram: TestRam,
    rings: Vec<u8>,
    features: Features,
}

impl Seed {
    fn new(name: &str, mut engine: TestEngine<Probe>, ram: TestRam, features: Features) -> Self {
        Self {
            name: format!("{name}, {features:?}"),
            state: save(&mut engine),
            ram,
            rings: virtside_tests::rings::shot(ram)[..RINGS].to_vec(),
            features,
        }
    }
}

/// All rings are within this many bytes.
const RINGS: usize = 0x3000;

/// Snapshots of each kind.
fn seeds(features: Features) -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |name: &str, engine, ram| seeds.push(Seed::new(name, engine, ram, features));
    let new = || {
        let ram = virtside_tests::ram();
        (fresh(ram, model(features)), ram)
    };

    let (engine, ram) = new();
    add("reset", engine, ram);

    let (mut engine, ram) = new();
    assert!(engine.negotiate(features));
    let clients = [0, 1].map(|queue| Client::new(ram, queue, features));
    for client in &clients {
        assert_eq!(engine.configure(&client.config()), Reply::Done(0));
    }
    engine.lay_out(&config(2));
    engine.update_config(|_| ());
    add("setting up", engine, ram);

    let (mut engine, ram) = new();
    let mut clients = [0, 1].map(|queue| Client::new(ram, queue, features));
    let configs = clients.each_ref().map(Client::config);
    assert!(engine.bring_up(features, &configs));
    for client in &mut clients {
        client.assert_works(&mut engine);
    }
    engine.model_mut().holds = true;
    for (client, queue) in clients.iter_mut().zip(0..) {
        assert!(client.send(false) && client.send(true) && client.send(false));
        let _ = engine.kick(queue);
    }
    let _ = engine.poll(BUDGET);
    let held = engine.model().held.clone();
    assert_eq!(held.len(), 6);
    if features.contains(Features::IN_ORDER) {
        // The second chain of the first queue, in round-robin order.
        engine.complete(held[2]).expect("the chain is pending");
        assert!(engine.counters().chains == 2, "the answer waits");
    }
    add("in hand", engine, ram);

    let (mut engine, mut client, ram) = live(features);
    engine.model_mut().holds = true;
    assert!(client.send(false));
    let _ = engine.poll(BUDGET);
    let status = engine.load(reg::STATUS);
    assert_eq!(engine.store(reg::STATUS, status | 16), Reply::Done(0));
    add("suspending", engine, ram);

    let (mut engine, mut client, ram) = live(features);
    client.assert_works(&mut engine);
    assert_eq!(engine.store(reg::STATUS, 15 | 16), Reply::Done(0));
    let _ = engine.load(reg::STATUS);
    engine.update_config(|_| ());
    add("suspended", engine, ram);

    let (mut engine, mut client, ram) = live(features);
    client.assert_works(&mut engine);
    assert_eq!(engine.store(reg::STATUS, 15 | 128), Reply::Done(0));
    add("failed", engine, ram);

    let (mut engine, mut client, ram) = live(features);
    client.assert_works(&mut engine);
    let _ = engine.store(reg::QUEUE_SEL, 0);
    assert_eq!(engine.store(reg::QUEUE_RESET, 1), Reply::Done(0));
    add("queue reset", engine, ram);
    seeds
}

/// Bits that are changed in every number; the other bits only in the plainest rings.
const BITS: [u32; 6] = [1, 2, 4, 15, 31, 63];

/// The changes of one number.
pub fn numbers(value: u64, all: bool) -> Vec<u64> {
    let mut changed = vec![0, 1, value.wrapping_add(1), value.wrapping_sub(1), u64::MAX];
    changed.extend([0xff, 0xffff, 0xffff_ffff]);
    changed.extend(
        (0..64)
            .filter(|bit| all || BITS.contains(bit))
            .map(|bit| value ^ 1 << bit),
    );
    changed.sort_unstable();
    changed.dedup();
    changed.retain(|it| *it != value);
    changed
}

fn plain(features: Features) -> bool {
    !features.contains(Features::IN_ORDER) && !features.contains(Features::EVENT_IDX)
}

/// Calls `each` with every snapshot in which one field is changed, and a name for the change.
fn mutants(valid: &Value, all: bool, each: impl FnMut(String, Value)) {
    chosen(valid, all, |_| true, each);
}

/// A random one of these changes.
fn one(valid: &Value, random: &mut Random) -> (String, Value) {
    let mut count = 0;
    chosen(
        valid,
        false,
        |_| {
            count += 1;
            false
        },
        |_, _| {},
    );
    let (at, mut found) = (random.index(count), None);
    chosen(
        valid,
        false,
        |it| it == at,
        |name, mutant| found = Some((name, mutant)),
    );
    found.expect("the index exists")
}

/// The changes whose number `want` accepts.
fn chosen(
    valid: &Value,
    all: bool,
    mut want: impl FnMut(usize) -> bool,
    mut each: impl FnMut(String, Value),
) {
    let mut paths = Vec::new();
    walk(valid, String::new(), &mut paths);
    let mut number = 0;
    for path in paths {
        let mut change = |what: &dyn Fn() -> String, value: Value| {
            number += 1;
            if !want(number - 1) {
                return;
            }
            let mut mutant = valid.clone();
            *mutant.pointer_mut(&path).expect("the path exists") = value;
            each(format!("{path}: {}", what()), mutant);
        };
        match valid.pointer(&path).expect("the path exists") {
            Value::Number(number) => {
                for value in numbers(number.as_u64().expect("unsigned"), all) {
                    change(&|| format!("{number} to {value}"), value.into());
                }
            }
            Value::Bool(value) => change(&|| format!("not {value}"), (!value).into()),
            Value::Null => {
                change(&|| "an answer".into(), 0.into());
                let ring = serde_json::json!({"next_avail": 0, "next_used": 0, "unsignalled": 0,
                    "abandoned": 0, "kicks_off": false, "in_order": false});
                change(&|| "a ring".into(), ring);
            }
            Value::String(text) => {
                let others = [
                    "Awake",
                    "Suspending",
                    "Suspended",
                    "Off",
                    "Ready",
                    "Resetting",
                    "WasReset",
                ];
                for other in others.iter().filter(|other| *other != text) {
                    change(&|| format!("{text} to {other}"), (*other).into());
                }
            }
            Value::Array(values) => {
                for at in 0..values.len() {
                    let mut less = values.clone();
                    less.remove(at);
                    change(&|| format!("without {at}"), less.into());
                    let mut more = values.clone();
                    more.push(values[at].clone());
                    change(&|| format!("{at} twice"), more.into());
                    for other in 0..at {
                        let mut swapped = values.clone();
                        swapped.swap(at, other);
                        change(&|| format!("{at} and {other} swapped"), swapped.into());
                    }
                }
                change(&|| "empty".into(), Vec::<Value>::new().into());
            }
            Value::Object(_) if path.ends_with("/ring") => change(&|| "none".into(), Value::Null),
            Value::Object(_) => {}
        }
    }
}

pub fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                walk(value, format!("{path}/{at}"), paths);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                walk(value, format!("{path}/{name}"), paths);
            }
        }
        _ => {}
    }
    if !path.is_empty() {
        paths.push(path);
    }
}

/// How many changed snapshots were refused and how many restored.
#[derive(Debug, Default)]
struct Tally {
    not_a_state: u32,
    refused: u32,
    taken: u32,
}

/// Restores a changed snapshot: it is refused, or gives a device that works as any other.
fn check(seed: &Seed, name: &str, mutant: Value, tally: &mut Tally) {
    let Ok(state) = serde_json::from_value::<State>(mutant) else {
        tally.not_a_state += 1;
        return;
    };
    let touches = Log::default();
    let mem = seed.ram.flat(BASE).with_hooks(touches.hook());
    let mut engine = virtside_tests::engine_over(model(seed.features), mem, SLOTS);
    let restored = engine.restore(&state);
    assert_eq!(touches.take(), [], "{}: {name}", seed.name);
    if restored.is_err() {
        tally.refused += 1;
        assert_eq!(engine.load(reg::STATUS), 0);
        assert_eq!(engine.configured_queues().count(), 0);
        // A full check of some refused devices only, because it is slow.
        if tally.refused.is_multiple_of(64) {
            let mut engine = fresh(seed.ram, model(seed.features));
            assert_eq!(engine.restore(&state), restored);
            assert_in_reset(&mut engine);
            assert_reset_cures(&mut engine, seed);
            seed.ram.write(0, &seed.rings);
        }
        return;
    }
    tally.taken += 1;
    assert!(state.device.version == virtside::snapshot::SNAPSHOT_VERSION);
    let again = engine.save::<8>();
    let mut again = again.expect("a restored device can be saved");
    again.registers.generation = state.registers.generation;
    assert_eq!(normal(&again), normal(&state), "{}: {name}", seed.name);
    // No more chains are given back than were in hand or available.
    for _ in 0..50 {
        if engine.poll(BUDGET) != Step::More {
            break;
        }
    }
    for touch in touches.take() {
        let (Touch::Read(start, len) | Touch::Write(start, len)) = touch;
        let end = start + u64::from(len);
        assert!(
            start >= BASE && end <= BASE + BYTES as u64,
            "outside the memory"
        );
    }
    let step = engine.poll(BUDGET);
    assert_ne!(
        step,
        Step::More,
        "{}: {name}: the polls do not end",
        seed.name
    );
    let most: u32 = state.device.chains.len() as u32 + 4 * 16;
    assert!(engine.counters().chains <= most, "{}: {name}", seed.name);
    assert_eq!(engine.take_host_fault(), None, "{}: {name}", seed.name);
    let status = engine.load(reg::STATUS);
    for queue in 0..4 {
        let failed = engine.queue_state(queue) == QueueState::Failed;
        assert!(!failed || status & (64 | 128) != 0 || had_failed(&state, queue));
        let live = engine.queue_state(queue) == QueueState::Live;
        assert!(!live || engine.phase() != Phase::Reset);
    }
    let line = engine.device().notify().is_high();
    // A device that was suspended sends no interrupt.
    let tells = state.device.suspension != virtside::snapshot::Suspension::Suspended;
    assert_eq!(line, engine.load(reg::INTERRUPT_STATUS) != 0 && tells);
    assert_eq!(engine.store(reg::STATUS, 0), Reply::Done(0));
    assert_eq!(engine.load(reg::STATUS), 0);
    if engine.counters().chains != 0 {
        seed.ram.write(0, &seed.rings);
    }
}

fn had_failed(state: &State, queue: u16) -> bool {
    let of_it = |it: &&virtside::snapshot::QueueSnapshot| it.config.queue == queue;
    let queue = state.device.queues.iter().find(of_it);
    queue.is_some_and(|queue| queue.ring.is_none())
}

/// The common form of snapshots with the same meaning: queues, and chains of different queues, have
/// no order, and an omitted register has the value 0.
fn normal(state: &State) -> Value {
    let mut state = state.clone();
    let queues = &mut state.device.queues;
    queues.sort_unstable_by_key(|queue| queue.config.queue);
    let mut chains: Vec<_> = state.device.chains.iter().cloned().collect();
    chains.sort_by_key(|chain| chain.queue);
    state.device.chains = chains.into_iter().collect();
    while state.registers.queues.len() < virtside_tests::Q {
        let _ = state
            .registers
            .queues
            .push(virtside::snapshot::QueueRegisters::default());
    }
    serde_json::to_value(state).expect("the snapshot is serialized")
}

fn assert_reset_cures(engine: &mut TestEngine<Probe>, seed: &Seed) {
    let mut client = Client::new(seed.ram, 0, seed.features);
    assert!(
        engine.bring_up(seed.features, &[client.config()]),
        "{}",
        seed.name
    );
    client.assert_works(engine);
}

#[test]
fn each_field_changed_in_each_way() {
    let mut kinds: HashMap<String, Tally> = HashMap::new();
    for features in rings() {
        for seed in seeds(features) {
            let valid = serde_json::to_value(&seed.state).expect("the snapshot is serialized");
            let tally = kinds.entry(seed.name.clone()).or_default();
            let all = plain(features) && seed.name.starts_with("in hand");
            mutants(&valid, all, |name, mutant| {
                check(&seed, &name, mutant, tally)
            });
            assert!(
                tally.refused > 20 && tally.taken > 10,
                "{}: {tally:?}",
                seed.name
            );
        }
    }
}

#[test]
fn registers_of_one_device_and_rings_of_another() {
    let mut tally = Tally::default();
    for features in rings() {
        let seeds = seeds(features);
        for one in &seeds {
            for two in &seeds {
                let state = State {
                    registers: one.state.registers.clone(),
                    device: two.state.device.clone(),
                    model: (),
                };
                let value = serde_json::to_value(&state).expect("the snapshot is serialized");
                let name = format!("with the rings of {}", two.name);
                check(two, &name, value, &mut tally);
            }
        }
    }
    assert!(tally.refused > tally.taken && tally.taken > 0, "{tally:?}");
}

#[test]
fn two_fields_changed_at_once() {
    // A fixed seed.
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let mut tally = Tally::default();
    for features in rings() {
        for seed in seeds(features) {
            let valid = serde_json::to_value(&seed.state).expect("the snapshot is serialized");
            for _ in 0..40 {
                let (first, mutant) = one(&valid, &mut random);
                let (second, mutant) = one(&mutant, &mut random);
                check(&seed, &format!("{first}, {second}"), mutant, &mut tally);
            }
        }
    }
    assert!(tally.refused > 500 && tally.taken > 50, "{tally:?}");
}
