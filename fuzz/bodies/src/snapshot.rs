//! Fuzzes `Engine::restore`: restores a changed state, then runs the device with any driver.

use crate::{
    BASE, BUDGET, FuzzRam, Fuzzed, Input, N, Q, digest, engine, layout, random_access,
    reset_and_work, zero,
};
use virtside::{
    Features, FlatMem, QueueConfig, Shared, Step,
    device::QueueState,
    features::Offer,
    interrupt::CountingNotify,
    message::RingPosition,
    mmio::Access,
    models::blk::BlockSnapshot,
    queue::Segment,
    snapshot::{ChainSnapshot, EngineSnapshot, QueueRegisters, QueueSnapshot, Stage, Suspension},
    testing::Registers,
    transport::Phase,
};

/// Maximum number of chains in a state: more than the device has slots.
const P: usize = 3;

type State = EngineSnapshot<BlockSnapshot, Q, N, P>;

/// Sets the device up as far as the input says.
fn set_up(engine: &mut Fuzzed<'_, FlatMem>, input: &mut Input<'_>) {
    let wanted = input.byte();
    let mut features = Features::VERSION_1;
    for (bit, feature) in [
        (1, Features::EVENT_IDX),
        (2, Features::INDIRECT_DESC),
        (4, Features::IN_ORDER),
        (8, Features::SUSPEND.union(Features::RING_RESET)),
    ] {
        if wanted & bit != 0 {
            features = features.union(feature);
        }
    }
    let configs = [layout(0).config(0), layout(1).config(1)];
    // Bit 12 is MQ: the disk then has both queues.
    let features = features.union(Features::from_bits(1 << 12));
    // Bits 9 and 11 are FLUSH and CONFIG_WCE: the driver then chooses the cache mode.
    let has_cache_mode = wanted >= 0x80;
    let features = if has_cache_mode {
        features.union(Features::from_bits(1 << 9 | 1 << 11))
    } else {
        features
    };
    match wanted >> 4 {
        0 => {}
        1 => {
            let _ = engine.negotiate(features);
            let _ = engine.configure(&layout(0).config(0));
            engine.lay_out(&layout(1).config(1));
        }
        2 => {
            let _ = engine.bring_up(features, &configs);
            let _ = engine.store(0x70, 0x1f);
        }
        3 => {
            let _ = engine.bring_up(features, &configs);
            let _ = engine.store(0x70, 0x8f);
        }
        _ => {
            let _ = engine.bring_up(features, &configs);
        }
    }
    let _ = engine.poll(BUDGET);
}

/// Returns the element of `all` that the input selects.
fn pick<'s, T>(all: &'s mut [T], input: &mut Input<'_>) -> Option<&'s mut T> {
    let at = usize::from(input.byte());
    all.get_mut(at.checked_rem(all.len())?)
}

/// Returns a chain from the input.
fn chain(input: &mut Input<'_>) -> ChainSnapshot<N> {
    let mut chain = ChainSnapshot {
        queue: u16::from(input.byte() & 1),
        head: u16::from(input.byte() & 11),
        slots: 1,
        answered: None,
        readable: u16::from(input.byte() & 1),
        segments: Default::default(),
    };
    let kind = input.byte();
    if kind & 0xc0 == 0xc0 {
        chain.answered = Some(u32::from(kind & 15));
    }
    for _ in 0..kind >> 4 & 3 {
        let segment = Segment {
            addr: BASE.wrapping_add(u64::from(input.half() & 0x4fff)),
            len: u32::from(input.byte()),
        };
        let _ = chain.segments.push(segment);
    }
    chain
}

/// Makes one change to the state.
fn change(state: &mut State, input: &mut Input<'_>) {
    let EngineSnapshot {
        registers,
        device,
        model,
    } = state;
    match input.byte() & 31 {
        0 => match input.byte() & 3 {
            0 => device.version = input.half(),
            1 => model.version = input.half(),
            _ => model.write_back = !model.write_back,
        },
        1 => device.live = !device.live,
        2 => device.needs_reset = !device.needs_reset,
        3 => device.interrupt = input.word(),
        4 => device.interrupt = u32::from(input.byte() & 3),
        5 => device.config_changed = !device.config_changed,
        6 => {
            device.suspension = match input.byte() & 3 {
                0 => Suspension::Awake,
                1 => Suspension::Suspending,
                _ => Suspension::Suspended,
            }
        }
        7 => {
            if let Some(half) = pick(&mut device.features, input) {
                *half ^= 1_u64.wrapping_shl(u32::from(input.byte()));
            }
        }
        8 => {
            if let Some(half) = pick(&mut registers.driver_features, input) {
                *half ^= 1_u64.wrapping_shl(u32::from(input.byte()));
            }
        }
        9 => registers.status = input.byte(),
        10 => registers.queue_sel = input.word(),
        11 => registers.generation = input.word(),
        12 => registers.refused_beyond = !registers.refused_beyond,
        13 => {
            let _ = registers.queues.pop();
        }
        14 | 15 => {
            if let Some(queue) = pick(&mut registers.queues, input) {
                change_registers(queue, input);
            }
        }
        16 => {
            let _ = device.queues.pop();
        }
        17 => {
            let config = QueueConfig {
                queue: u16::from(input.byte() & 3),
                ..layout(u16::from(input.byte() & 7)).config(0)
            };
            let ring = Some(RingPosition::default());
            let checked = match input.byte() & 1 {
                0 => device.features,
                _ => registers.driver_features,
            };
            let _ = device.queues.push(QueueSnapshot {
                config,
                ring,
                checked,
            });
        }
        18 => {
            if let Some(queue) = pick(&mut device.queues, input) {
                let config = &mut queue.config;
                match input.byte() & 3 {
                    0 => config.size = input.word(),
                    1 => config.desc = u64::from(input.word()),
                    2 => config.driver = BASE.wrapping_add(u64::from(input.half())),
                    _ => config.device = BASE.wrapping_add(u64::from(input.half())),
                }
            }
        }
        19 => {
            if let Some(queue) = pick(&mut device.queues, input) {
                queue.ring = None;
            }
        }
        20..24 => {
            let queue = pick(&mut device.queues, input);
            if let Some(ring) = queue.and_then(|queue| queue.ring.as_mut()) {
                change_ring(ring, input);
            }
        }
        24 => {
            let _ = device.chains.pop();
        }
        25 => {
            let _ = device.chains.push(chain(input));
        }
        // A chain that the ring position accounts for: valid if its buffers and its head are.
        26..30 => {
            let chain = chain(input);
            let same_queue = |queue: &&mut QueueSnapshot| queue.config.queue == chain.queue;
            let queue = device.queues.iter_mut().find(same_queue);
            if let Some(ring) = queue.and_then(|queue| queue.ring.as_mut())
                && device.chains.push(chain).is_ok()
            {
                ring.next_avail = ring.next_avail.wrapping_add(1);
            }
        }
        _ => {
            if let Some(chain) = pick(&mut device.chains, input) {
                match input.byte() & 7 {
                    0 => chain.queue = input.half(),
                    1 => chain.head = input.half(),
                    2 => chain.slots = input.half(),
                    3 => chain.readable = input.half(),
                    4 => chain.answered = Some(input.word()),
                    5 => {
                        let _ = chain.segments.pop();
                    }
                    _ => {
                        if let Some(segment) = pick(&mut chain.segments, input) {
                            segment.addr = segment.addr.wrapping_add(u64::from(input.word()));
                            segment.len = input.word();
                        }
                    }
                }
            }
        }
    }
}

/// Makes one change to the registers of a queue.
fn change_registers(queue: &mut QueueRegisters, input: &mut Input<'_>) {
    match input.byte() & 7 {
        0 => queue.size = input.word(),
        1 => queue.desc = u64::from(input.word()),
        2 => queue.driver = u64::from(input.word()),
        3 => queue.device = u64::from(input.word()),
        4 => queue.refused = !queue.refused,
        5 => queue.stage = Stage::WasReset,
        6 => queue.stage = Stage::Resetting,
        _ => queue.stage = Stage::Off,
    }
}

/// Makes one change to a ring position.
fn change_ring(ring: &mut RingPosition, input: &mut Input<'_>) {
    let value = match input.byte() {
        byte @ 0..64 => u16::from(byte),
        _ => input.half(),
    };
    match input.byte() & 7 {
        0 => ring.next_avail = value,
        1 => ring.next_used = value,
        2 => ring.unsignalled = value,
        3 => ring.abandoned = value,
        4 => ring.kicks_off = !ring.kicks_off,
        5 => ring.in_order = !ring.in_order,
        // Advance both alike: the position of a ring that has been in use.
        _ => {
            ring.next_avail = ring.next_avail.wrapping_add(value);
            ring.next_used = ring.next_used.wrapping_add(value);
        }
    }
}

/// Asserts the invariants of a device after a restore, whatever the state contains. `is_silent` is
/// true while the device has been suspended since the restore.
fn check(engine: &mut Fuzzed<'_, FlatMem>, shared: &Shared<Q>, is_silent: bool) {
    let phase = engine.phase();
    let is_running = matches!(phase, Phase::Live | Phase::Suspending | Phase::Suspended);
    assert!(!shared.is_live() || is_running);
    // See the table in the documentation of `DriverNotify`.
    let line = engine.device().notify();
    if is_silent {
        assert_eq!((line.is_high(), line.asserted()), (false, 0));
    } else {
        assert_eq!(line.is_high(), !shared.interrupt_status().is_empty());
    }
    // Every buffer was checked, so no access can fail.
    assert_eq!(engine.take_host_fault(), None);
    for queue in 0..Q as u16 {
        let is_live = engine.queue_state(queue) == QueueState::Live;
        assert!(!is_live || is_running || phase == Phase::Failed);
        if let Some(config) = engine.queue_config(queue) {
            assert!(config.size.is_power_of_two() && config.size <= 8);
        }
        if engine.driver_fault(queue).is_some() {
            assert!(!is_live && shared.needs_reset());
        }
    }
}

/// Asserts that the chains of an accepted state could have been taken from the rings.
fn check_accepted(state: &State) {
    let mut seen = [[false; N]; Q];
    for chain in &state.device.chains {
        assert!(chain.slots == 1 && !chain.segments.is_empty());
        for segment in chain.segments.iter().filter(|segment| segment.len != 0) {
            let end = segment.addr.checked_add(segment.len.into());
            assert!(segment.addr >= BASE && end.is_some_and(|end| end <= BASE.wrapping_add(16384)));
        }
        let place = seen.get_mut(usize::from(chain.queue));
        let place = place.and_then(|heads| heads.get_mut(usize::from(chain.head)));
        // No head is beyond the queue or occurs twice.
        assert!(place.is_some_and(|seen| !core::mem::replace(seen, true)));
    }
    for queue in &state.device.queues {
        let same_queue = |chain: &&ChainSnapshot<N>| chain.queue == queue.config.queue;
        let chains = state.device.chains.iter().filter(same_queue).count() as u16;
        if let Some(ring) = &queue.ring {
            let taken = ring.next_avail.wrapping_sub(ring.next_used);
            assert!(taken <= 8 && taken == ring.abandoned.wrapping_add(chains));
        }
    }
}

/// Restores a changed state, then makes any accesses and changes any memory.
///
/// # Panics
/// If an invariant does not hold.
pub fn snapshot(ram: &'static FuzzRam, data: &[u8]) {
    zero(ram);
    let mut input = Input(data);
    let offer = Offer::AS_IS.with(Features::IN_ORDER);
    let (line, shared) = (CountingNotify::new(), Shared::new());
    let mut first = engine(ram.flat(BASE), &line, &shared).with_offer(offer);
    set_up(&mut first, &mut input);
    let Ok(mut state) = first.save::<P>() else {
        return;
    };
    for _ in 0..input.byte() & 31 {
        change(&mut state, &mut input);
    }
    let (line, shared) = (CountingNotify::new(), Shared::new());
    let mut engine = engine(ram.flat(BASE), &line, &shared).with_offer(offer);
    let before = digest(ram, 16384);
    let restored = engine.restore(&state);
    assert_eq!(digest(ram, 16384), before);
    let mut is_silent = engine.phase() == Phase::Suspended;
    check(&mut engine, &shared, is_silent);
    if restored.is_err() {
        assert_eq!((engine.phase(), engine.load(0x70)), (Phase::Reset, 0));
        assert!(engine.configured_queues().next().is_none());
        assert!(shared.interrupt_status().is_empty() && !shared.needs_reset());
        reset_and_work(&mut engine, ram);
        return;
    }
    check_accepted(&state);
    assert_eq!(engine.model().is_write_back(), state.model.write_back);
    // A restored device can be saved again.
    let again = engine.save::<P>();
    assert!(again.is_ok_and(|again| again.model == state.model
        && again.device.chains.len() == state.device.chains.len()
        && again.registers.status == state.registers.status
        && again.device.queues == state.device.queues));
    let mut most = state.device.chains.len() as u16;
    loop {
        let step = engine.poll(BUDGET);
        // At most the pending chains and one budget for each poll.
        most = most.wrapping_add(BUDGET);
        assert!(engine.counters().chains <= u32::from(most));
        is_silent &= engine.phase() == Phase::Suspended;
        check(&mut engine, &shared, is_silent);
        if input.is_empty() {
            assert!(
                step != Step::More || most < 0x400,
                "poll always returns More"
            );
            if step != Step::More {
                break;
            }
            continue;
        }
        match input.byte() & 3 {
            0 => {
                let at = usize::from(input.half()) % 16384;
                ram.write(at, &input.word().to_le_bytes());
            }
            1 => {
                let _ = engine.kick(u16::from(input.byte() & 1));
            }
            2 => {
                let _ = engine.access(Access::read(0x70));
            }
            _ => {
                let _ = engine.access(random_access(&mut input));
            }
        }
    }
    reset_and_work(&mut engine, ram);
}
