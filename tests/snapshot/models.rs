//! Snapshots of each ready-made model with every small change: a change is refused and changes
//! nothing, or gives a device that harms nothing and works again after a reset.
//!
//! Tests that restore unchanged snapshots of a model are in its suite, in `saved.rs`.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use virtside::{
    Step,
    model::SaveModel,
    models::{
        Block, BlockOptions, Entropy, I2c, Spi,
        blk::RamDisk,
        console::{Console, Port},
        gpio::{Direction, Gpio},
    },
    snapshot::{EngineSnapshot, SnapshotError},
    testing::Registers,
};
use virtside_tests::{
    BASE, BUDGET, CountingSource, N, Q, engine_over,
    models::{console, gpio, i2c, spi},
    random::Random,
    reg, test_engine,
};

use super::tampered::{numbers, walk};

/// Chains that a snapshot has room for.
const P: usize = 16;

type State<S, const QUEUES: usize = Q> = EngineSnapshot<S, QUEUES, N, P>;

/// Other values for one field.
fn others(value: &Value) -> Vec<Value> {
    let names = [
        "None",
        "Output",
        "Input",
        "RisingEdge",
        "BothEdges",
        "HighLevel",
        "LowLevel",
        "Kept",
        "Void",
    ];
    let mut others = match value {
        Value::Number(number) => {
            let number = number.as_u64().expect("unsigned");
            numbers(number, true).into_iter().map(Value::from).collect()
        }
        Value::Bool(value) => vec![(!value).into()],
        Value::String(_) => names.map(Value::from).to_vec(),
        Value::Null => vec![
            true.into(),
            false.into(),
            0.into(),
            u32::MAX.into(),
            "RisingEdge".into(),
            "HighLevel".into(),
            json!({"cols": 1, "rows": 1}),
            vec![0; 32].into(),
        ],
        Value::Array(values) => {
            let mut others = vec![Value::Array(vec![])];
            for at in 0..values.len() {
                let mut changed = values.clone();
                changed.remove(at);
                others.push(changed.into());
                let mut changed = values.clone();
                changed.swap(0, at);
                others.push(changed.into());
            }
            others
        }
        Value::Object(_) => vec![],
    };
    others.push(Value::Null);
    others.retain(|other| other != value);
    others
}

/// Every snapshot with one changed field, and `many` with several.
fn mutants(valid: &Value, many: usize) -> Vec<Value> {
    let mut paths = Vec::new();
    walk(valid, String::new(), &mut paths);
    let mut mutants = Vec::new();
    for path in &paths {
        for other in others(valid.pointer(path).expect("the path exists")) {
            let mut mutant = valid.clone();
            *mutant.pointer_mut(path).expect("the path exists") = other;
            mutants.push(mutant);
        }
    }
    // A fixed seed.
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..many {
        let mut mutant = valid.clone();
        for _ in 0..2 + random.index(3) {
            let path = &paths[random.index(paths.len())];
            // An earlier change may have removed the field.
            if let Some(place) = mutant.pointer_mut(path) {
                let others = others(place);
                *place = others[random.index(others.len())].clone();
            }
        }
        mutants.push(mutant);
    }
    mutants
}

/// How many changed snapshots were refused and how many restored.
#[derive(Debug, Default)]
struct Tally {
    not_a_state: u32,
    refused: u32,
    taken: u32,
}

impl Tally {
    #[track_caller]
    fn assert_some_of_each(&self) {
        assert!(self.refused > 10 && self.taken > 3, "{self:?}");
    }
}

/// Tries each changed snapshot. `check` gets it and returns whether it was restored.
#[track_caller]
fn tamper<S, const QUEUES: usize>(
    valid: &State<S, QUEUES>,
    mut check: impl FnMut(&State<S, QUEUES>) -> Result<(), SnapshotError>,
) -> Tally
where
    S: Clone + Serialize + DeserializeOwned,
{
    let mut tally = Tally::default();
    let model = serde_json::to_value(&valid.model).expect("text");
    for mutant in mutants(&model, 3000) {
        let Ok(model) = serde_json::from_value::<S>(mutant) else {
            tally.not_a_state += 1;
            continue;
        };
        let state = EngineSnapshot {
            registers: valid.registers.clone(),
            device: valid.device.clone(),
            model,
        };
        match check(&state) {
            Ok(()) => tally.taken += 1,
            Err(
                SnapshotError::Model { .. }
                | SnapshotError::Version { .. }
                | SnapshotError::Backend { .. },
            ) => tally.refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    tally
}

#[test]
fn lines_of_gpio() {
    use gpio::*;
    // One line of each kind: driven, armed with a buffer, with a latched edge, and unused.
    let mut board = Board::new();
    board.does(SET_VALUE, LED, 1);
    board.does(SET_DIRECTION, LED, OUT);
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    board.does(IRQ_TYPE, WIRE, BOTH);
    board.fire(WIRE);
    let valid: State<_> = board.engine.save().expect("the device can be saved");
    let rings = virtside_tests::rings::shot(board.ram);
    let fresh = Gpio::<_, L>::new(Bank::new()).save();
    let ram = board.ram;
    let tally = tamper(&valid, |state| {
        ram.write(0, &rings);
        let mut engine = engine_over(Gpio::new(Bank::new()), ram.flat(BASE), 8);
        let restored = engine.restore(state);
        let calls = engine.model().lines().calls.clone();
        if restored.is_err() {
            assert_eq!(engine.load(reg::STATUS), 0);
            assert_eq!(engine.model().save(), fresh);
            assert_eq!(calls, [], "no line was touched");
        } else {
            assert_eq!(engine.model().save(), state.model);
            // No line is used in a way that it does not support.
            for call in &calls {
                let good = match *call {
                    Call::Direction(LED, way, _) => way != Direction::Input,
                    Call::Direction(WIRE, ..) => true,
                    Call::Direction(_, way, high) => way != Direction::Output && high.is_none(),
                    Call::Trigger(line, _) => [BUTTON, WIRE].contains(&line),
                    _ => false,
                };
                assert!(good, "{call:?}");
            }
        }
        let mut after = Board {
            events: board.events.clone(),
            requests: board.requests.clone(),
            engine,
            ram,
        };
        if restored.is_ok() {
            after.settle();
            for line in 0..L as u16 {
                after.engine.model_mut().interrupt(line);
            }
            after.settle();
            let mut given = 0;
            while after.event().is_some() {
                given += 1;
            }
            assert!(given <= 1, "one buffer was in hand");
            assert_eq!(after.engine.take_host_fault(), None);
        }
        after.restart();
        assert_eq!(after.engine.model().save(), fresh);
        assert_eq!(after.does(GET_DIRECTION, LED, 0), 0);
        restored
    });
    tally.assert_some_of_each();
}

#[test]
fn ports_of_a_console() {
    use console::*;
    let ports = || {
        Console::<_, 3>::with_ports([
            Port::new(RecordingPort::new()).console(),
            Port::new(RecordingPort::new()).with_name("org.example.a"),
            Port::new(RecordingPort::new()),
        ])
    };
    let mut rig = ConsoleRig::over(ports());
    rig.tell(0, DEVICE_READY, 1);
    rig.messages();
    for port in 0..2 {
        rig.tell(port, PORT_READY, 1);
    }
    rig.tell(1, OPEN, 1);
    rig.messages();
    rig.io(1).room = 3;
    rig.send(5, b"output");
    rig.port(0).set_open(false);
    rig.port(2).unplug();
    let valid: State<_, { console::Q }> = rig.machine.save().expect("the device can be saved");
    let rings = virtside_tests::rings::shot(rig.ram);
    let fresh = ports().save();
    let ram = rig.ram;
    let used = rig.queues[5].used_idx();
    let tally = tamper(&valid, |state| {
        ram.write(0, &rings);
        let mut there = machine(ports(), ram);
        let restored = there.restore(state);
        if restored.is_err() {
            assert_eq!(there.load(reg::STATUS), 0);
            assert_eq!(there.model().save(), fresh);
            let heard = |port| !there.model().port(port).unwrap().io().opened.is_empty();
            assert!(!(0..3).any(heard), "no port was opened");
            return restored;
        }
        // The restored device can be saved and restored again.
        let again: State<_, { console::Q }> = there.save().expect("the device can be saved");
        let mut twice = machine(ports(), ram);
        assert_eq!(twice.restore(&again), Ok(()));
        for _ in 0..100 {
            if there.poll(BUDGET) != Step::More {
                break;
            }
        }
        assert_ne!(there.poll(BUDGET), Step::More, "the polls do not end");
        let given = rig.queues[5].used_idx().wrapping_sub(used);
        assert!(given <= 1, "one buffer was in hand");
        let written = |port| there.model().port(port).unwrap().io().output.len();
        assert!((0..3).map(written).sum::<usize>() <= 6);
        let _ = there.store(reg::STATUS, 0);
        assert_eq!(there.model().save(), fresh);
        assert_eq!(there.take_host_fault(), None);
        restored
    });
    tally.assert_some_of_each();
}

#[test]
fn groups_of_i2c() {
    use i2c::*;
    for combining in [false, true] {
        let model = || {
            let model = I2c::<_, BYTES>::new(Recorder::default());
            if combining {
                model.with_combining()
            } else {
                model
            }
        };
        let mut rig = I2cRig::with(model(), 2);
        rig.trouble([Some(NAK)]);
        assert_eq!(rig.one(read(0x50, 1).and()).status, ERR);
        let valid: State<_> = rig.engine.save().expect("the device can be saved");
        let fresh = model().save();
        let tally = tamper(&valid, |state| {
            rig.engine = engine_over(model(), rig.ram.flat(BASE), 2);
            let restored = rig.engine.restore(state);
            if restored.is_err() {
                assert_eq!(rig.engine.load(reg::STATUS), 0);
                assert_eq!(rig.engine.model().save(), fresh);
            } else {
                assert_eq!(rig.engine.model().save(), state.model);
                // At most one request gets an answer to a transfer that was not made, and at most
                // one fails for it.
                let before = rig.driver.clone();
                let rings = virtside_tests::rings::shot(rig.ram);
                let first = rig.one(read(0x50, 1));
                assert!(first.used <= 2);
                let _ = rig.one(read(0x50, 1));
                assert_eq!(rig.one(read(0x50, 1)).status, OK);
                rig.driver = before;
                rig.ram.write(0, &rings);
            }
            restored
        });
        assert!(tally.taken > 3 && tally.refused > 3, "{tally:?}");
    }
}

#[test]
fn the_chip_of_an_spi_controller() {
    use embedded_hal::spi::MODE_0;
    use spi::*;
    use virtside::models::spi::{FixedClock, SpiLines};
    let lines = || {
        let log = Log::default();
        let pins = [0, 1].map(|at| Pin(at, log.clone()));
        let clock = FixedClock::new(MODE_0, 1_000_000);
        let lines = SpiLines::new(Wire(log.clone()), pins, Timer(log.clone()), clock);
        (Spi::<_, BYTES>::new(lines.with_delays(100)), log)
    };
    let mut rig = SpiRig::over({
        let log = Log::default();
        let pins = [0, 1].map(|at| Pin(at, log.clone()));
        let clock = FixedClock::new(MODE_0, 1_000_000);
        SpiLines::new(Wire(log.clone()), pins, Timer(log), clock).with_delays(100)
    });
    assert_eq!(rig.ask(PLAIN, &[1], 0), outcome(OK));
    let valid: State<_> = rig.engine.save().expect("the device can be saved");
    let ram = rig.ram;
    let tally = tamper(&valid, |state| {
        let (model, log) = lines();
        let mut there = engine_over(model, ram.flat(BASE), 1);
        let restored = there.restore(state);
        let before = log.take();
        let _ = there.store(reg::STATUS, 0);
        assert_eq!(there.model().save().selected, None);
        let lows = |events: &[Event]| {
            let low = |event: &&Event| matches!(event, Event::Low(_));
            events.iter().filter(low).count()
        };
        let highs = |events: &[Event]| {
            let high = |event: &&Event| matches!(event, Event::High(_));
            events.iter().filter(high).count()
        };
        let after = log.take();
        assert!(lows(&before) <= 1 && lows(&after) == 0);
        assert_eq!(highs(&before) + highs(&after), lows(&before));
        restored
    });
    tally.assert_some_of_each();
}

#[test]
fn the_cache_mode_of_a_block_device_and_no_entropy_state() {
    use virtio_spec::blk::F;
    use virtside::Features;
    let model = || Block::new(RamDisk::new(vec![0; 512]), BlockOptions::new(16));
    for choice in [Features::empty(), Features::from_spec(F::CONFIG_WCE.bits())] {
        let (mut there, ram) = test_engine(model(), 1);
        let config = virtside_tests::config(0);
        assert!(there.bring_up(Features::VERSION_1 | choice, &[config]));
        let valid: State<_> = there.save().expect("the device can be saved");
        let tally = tamper(&valid, |state| {
            let mut there = engine_over(model(), ram.flat(BASE), 1);
            let restored = there.restore(state);
            assert_eq!(restored.is_err(), there.load(reg::STATUS) == 0);
            let chosen = choice != Features::empty() && state.model.version == 1;
            assert_eq!(restored.is_ok(), chosen || *state == valid);
            restored
        });
        assert!(tally.refused > 0, "{tally:?}");
    }
    let (mut there, ram) = test_engine(Entropy::new(CountingSource::default()), 1);
    assert!(there.negotiate(Features::VERSION_1));
    let valid: State<()> = there.save().expect("the device can be saved");
    let mut here = engine_over(Entropy::new(CountingSource::default()), ram.flat(BASE), 1);
    assert_eq!(here.restore(&valid), Ok(()));
}

#[test]
fn each_state_is_the_same_after_bytes() {
    use gpio::{BUTTON, Board, IN, IRQ_TYPE, RISING, SET_DIRECTION};
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    let valid: State<_> = board.engine.save().expect("the device can be saved");
    let bytes = postcard::to_stdvec(&valid).expect("bytes");
    assert_eq!(postcard::from_bytes(&bytes), Ok(valid));
    let mut rig = console::ConsoleRig::three();
    rig.messages();
    let valid: State<_, { console::Q }> = rig.machine.save().expect("the device can be saved");
    let bytes = postcard::to_stdvec(&valid).expect("bytes");
    assert_eq!(postcard::from_bytes(&bytes), Ok(valid));
}
