//! A device of every kind, reachable from one function. If any of its code can panic, the panic
//! handler is linked, and with it a symbol that is defined nowhere.
#![no_std]

mod buses;

use core::{hint::black_box, ptr::NonNull};

use virtside::{ChainSlot, Configuring, Device, DeviceBuilder, DriverMem, Engine, Features, FlatMem, Message, QueueSet, Shared, Step, mmio::{Access, Reply}, models::{
        Block, BlockOptions, Console, Entropy, EntropyError, Gpio, I2c, Spi, SpiDevices, SpiLines,
        TenBit,
        blk::RamDisk,
        console::Port,
        gpio::{GpioLine, InputLine, OpenDrainLine, OutputLine},
        spi::{FixedClock, SpiChip},
    }, interrupt::CountingNotify, snapshot::{DeviceSnapshot, EngineSnapshot}, doorbell::Doorbell, memory::{Permission, Ram, Region, RegionMem}, setup::Progress, model::SaveModel, device::TakenQueue};

unsafe extern "C" {
    safe fn virtside_must_not_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    virtside_must_not_panic()
}

static LINE: CountingNotify = CountingNotify::new();
static RAM: Ram<65536> = Ram::new();
static SHARED: Shared<2> = Shared::new();
static BELL: Doorbell<2> = Doorbell::new();

type Chains = [ChainSlot<16>; 2];

/// Calls everything that a driver and a host can do with a device.
fn exercise<D: SaveModel, M: DriverMem>(model: D, mem: M, input: &mut dyn FnMut() -> u64)
where
    M: Clone,
{
    let slots: Chains = [const { ChainSlot::new() }; 2];
    let mut engine: Engine<D, M, &CountingNotify, 2, 16, Chains, &Shared<2>> =
        Engine::new(model, mem, &LINE, slots, &SHARED);
    loop {
        let offset = u32::from_le_bytes(*black_box(
            &input()
                .to_le_bytes()
                .first_chunk()
                .copied()
                .unwrap_or_default(),
        ));
        let width = input().to_le_bytes()[0];
        let access = match input() & 31 {
            0..6 => Access::Read { offset, width },
            6..12 => Access::Write {
                offset,
                width,
                value: input(),
            },
            12 => {
                match engine.poll(8) {
                    Step::Idle | Step::More | Step::Blocked => {}
                }
                engine.backend_ready(1);
                continue;
            }
            13 => {
                let _ = engine.memory_changed();
                black_box(engine.take_host_fault());
                black_box(engine.driver_fault(0));
                black_box(engine.counters());
                engine.update_config(|model| {
                    black_box(model.features());
                });
                continue;
            }
            15 => {
                let Ok(mut state) = engine.save::<2>() else {
                    continue;
                };
                scramble(&mut state, input);
                black_box(&mut state.model);
                let _ = black_box(engine.restore(&state).is_ok());
                continue;
            }
            14 => {
                if let Ok(taken) = engine.take_queue(0) {
                    use_taken_queue(taken, engine.device().memory());
                }
                continue;
            }
            _ => return,
        };
        match engine.access(access) {
            Reply::Pending(ticket) => {
                if let Some(responder) = engine.responder() {
                    responder.accept();
                }
                black_box(engine.finish(ticket).value());
            }
            reply => {
                black_box(reply.value());
            }
        }
    }
}

/// A snapshot with arbitrary contents.
fn scramble<S>(state: &mut EngineSnapshot<S, 2, 16, 2>, input: &mut dyn FnMut() -> u64) {
    black_box(&mut state.registers);
    scramble_device(&mut state.device, input);
}

fn scramble_device(state: &mut DeviceSnapshot<2, 16, 2>, input: &mut dyn FnMut() -> u64) {
    black_box(&mut *state);
    for chain in &mut state.chains {
        black_box(&mut chain.segments).truncate(usize::try_from(input()).unwrap_or(0));
    }
    black_box(state);
}

fn use_taken_queue<M: DriverMem>(mut taken: TakenQueue<<M as DriverMem>::Window, &CountingNotify, 2, 16, &Shared<2>>, mem: &M) {
    let mut slot = virtside::queue::Chain::new();
    while let Ok(true) = TakenQueue::pop(&mut taken, mem, &mut slot) {
        let _ = taken.complete(&slot, 0);
    }
    taken.disable_kicks();
    let _ = taken.enable_kicks();
    black_box(taken.flush());
}

fn converse(input: &mut dyn FnMut() -> u64) {
    let builder = DeviceBuilder::new(&SHARED);
    let mut configuring = Configuring::new(builder, &(0..2), RAM.flat(0));
    loop {
        let message = match input() {
            0 => Message::ConfigureQueue(virtside::QueueConfig {
                queue: 1,
                size: 8,
                desc: input(),
                driver: input(),
                device: input(),
            }),
            1 => Message::ResetQueue(1),
            2 => Message::Reset,
            _ => Message::Ready {
                features: Features::RING,
            },
        };
        let step: Result<Progress<Device<FlatMem, (), 2, 16, &Shared<2>>, _>, _> =
            configuring.step(message);
        match step {
            Ok(Progress::Ready(mut device, responder)) => {
                responder.accept();
                black_box(device.notify_queue(1).is_ok());
                let mut slots: Chains = [const { ChainSlot::new() }; 2];
                if let Ok(mut state) = device.save(&slots) {
                    scramble_device(&mut state, input);
                    let mut model = Entropy::new(|_: &mut [u8]| Err(EntropyError::NotReady));
                    black_box(device.restore(&state, &mut model, &mut slots).is_ok());
                }
                return;
            }
            Ok(_) => {}
            Err(error) => {
                black_box(error);
                return;
            }
        }
    }
}

/// The root of the search.
#[unsafe(no_mangle)]
pub extern "C" fn virtside_entry(next: extern "C" fn() -> u64) {
    #[cfg(feature = "control")]
    assert!(next() != 7, "on purpose");
    let mut input = || next();
    let source = |bytes: &mut [u8]| match next() {
        0 => Err(EntropyError::NotReady),
        count => {
            bytes.fill(1);
            Ok(usize::try_from(count).unwrap_or(0))
        }
    };
    exercise(Entropy::new(source), RAM.flat(0x1000), &mut input);
    let disk = || {
        Block::new(
            RamDisk::new([0u8; 4096]),
            BlockOptions::new(16).with_queues(2).with_id("disk"),
        )
    };
    exercise(disk(), RAM.flat(0x1000), &mut input);
    let mut regions = RegionMem::<4>::new();
    for _ in 0..4 {
        let base = next();
        // SAFETY: nothing is ever accessed through it: this function is linked, not run.
        let region = unsafe { Region::new(base, NonNull::dangling(), 4096, Permission::Write) };
        let _ = regions.add(region);
    }
    exercise(disk(), &regions, &mut input);
    let any = buses::Any(next);
    let adapter = I2c::<_, 64>::new(any);
    exercise(adapter.clone(), RAM.flat(0x1000), &mut input);
    exercise(adapter.with_combining(), &regions, &mut input);
    let adapter = I2c::<_, 64>::new(TenBit(any)).with_combining();
    exercise(adapter, RAM.flat(0x1000), &mut input);
    let mode = embedded_hal::spi::MODE_3;
    let lines = SpiLines::new(any, [any; 3], any, FixedClock::new(mode, 1_000_000));
    exercise(
        Spi::<_, 64>::new(lines.clone().with_split_messages()),
        &regions,
        &mut input,
    );
    let lines = lines.with_delays(1000);
    exercise(Spi::<_, 64>::new(lines), RAM.flat(0x1000), &mut input);
    let chips = [SpiChip::new(buses::AnyDevice(any), mode, 0); 2];
    let chips = SpiDevices::new(chips);
    exercise(
        Spi::<_, 64>::new(chips.clone().with_split_messages()),
        &regions,
        &mut input,
    );
    exercise(Spi::<_, 64>::new(chips), RAM.flat(0x1000), &mut input);
    let mut led = OutputLine::new(any);
    let mut button = InputLine::new(any).with_interrupt();
    let mut wire = OpenDrainLine::new(any).with_interrupt();
    let lines: [&mut dyn GpioLine; 3] = [&mut led, &mut button, &mut wire];
    exercise(Gpio::<_, 3>::new(lines), RAM.flat(0x1000), &mut input);
    exercise(
        Console::new(any).with_size(80, 25),
        RAM.flat(0x1000),
        &mut input,
    );
    let ports = [Port::new(any).console(), Port::new(any).with_name("any")];
    exercise(Console::with_ports(ports), &regions, &mut input);
    converse(&mut input);
    let mut set = QueueSet::<2>::new();
    let _ = set.insert(u16::from_le_bytes([next().to_le_bytes()[0], 1]));
    for queue in set.union(&BELL.drain()) {
        black_box(queue);
    }
}
