//! Where queue areas may lie: in mapped memory with the right access, in one piece, at any 64-bit
//! address.

use virtside::{
    DriverMem, Features, QueueConfig, Refusal,
    error::Area,
    memory::{Permission, RegionMem},
    mmio::Reply,
    testing::{FakeDriver, Layout, Registers},
};
use virtside_tests::{
    BASE, BYTES, SIZE, TestEngine, TestRam, config, engine_over,
    probe::{Probe, assert_works, probe},
    ram, reg,
    rings::region,
};

use crate::{assert_accepted, assert_refused};

/// Area, alignment, and length for 16 elements.
const AREAS: [(Area, u64, u64); 3] = [
    (Area::Descriptor, 16, 16 * 16),
    (Area::Driver, 2, 6 + 2 * 16),
    (Area::Device, 4, 6 + 8 * 16),
];

/// A layout behind the start of memory, with one area at `start`.
fn with(area: Area, start: u64) -> QueueConfig {
    let mut config = QueueConfig {
        queue: 0,
        ..config(1)
    };
    match area {
        Area::Descriptor => config.desc = start,
        Area::Driver => config.driver = start,
        Area::Device => config.device = start,
    }
    config
}

fn unmapped(area: Area, start: u64, len: u64) -> Refusal {
    Refusal::Unmapped {
        queue: 0,
        area,
        start,
        len: len as u32,
    }
}

/// A device over this memory, during set-up.
fn over<M: DriverMem>(mem: M) -> TestEngine<Probe, M> {
    let mut engine = engine_over(Probe::default(), mem, 1);
    assert!(engine.negotiate(Features::VERSION_1));
    engine
}

/// Memory from these parts of `ram`: driver address, offset, length and access.
fn regions(ram: TestRam, parts: &[(u64, usize, usize, Permission)]) -> RegionMem<4> {
    let mut mem = RegionMem::new();
    for &(base, at, len, permission) in parts {
        assert!(mem.add(region(base, ram, at, len, permission)).is_ok());
    }
    mem
}

#[test]
fn an_area_outside_memory_is_refused() {
    let (mut engine, _) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    let end = BASE + BYTES as u64;
    for (area, align, len) in AREAS {
        let last = (end - len) / align * align;
        for start in [
            0,
            BASE - 0x1000,
            // Only the last bytes of the area are mapped, or only its first bytes.
            BASE - align,
            last + align,
            end - align,
            end,
            u64::MAX / 16 * 16 - 0x1000,
        ] {
            assert_refused(&mut engine, &with(area, start), unmapped(area, start, len));
        }
    }
}

#[test]
fn an_area_may_begin_or_end_where_memory_does() {
    for (area, align, len) in AREAS {
        // The memory's size is chosen so that the area ends with it.
        let ram = ram();
        let bytes = 0x1_0000 + len as usize % align as usize;
        let everything = [(BASE, 0, bytes, Permission::Write)];
        let mut engine = over(regions(ram, &everything));
        let last = BASE + bytes as u64 - len;
        assert_eq!(last % align, 0);
        assert_accepted(&mut engine, &with(area, last));
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        let beyond = last + align;
        assert_refused(
            &mut engine,
            &with(area, beyond),
            unmapped(area, beyond, len),
        );
    }
    let (mut engine, ram) = probe();
    let mut first = FakeDriver::new(ram.flat(BASE), Layout::packed_at(BASE, SIZE));
    assert!(engine.bring_up(Features::VERSION_1, &[first.config(0)]));
    assert_works(&mut engine, &mut first, 0);
}

#[test]
fn an_area_may_end_with_the_address_space() {
    // 6 + 8 * 16 is no multiple of 4, so only the descriptor area can end exactly there.
    let ram = ram();
    let top = 0u64.wrapping_sub(BYTES as u64);
    let mem = ram.flat(top);
    let layout = Layout {
        desc: 0u64.wrapping_sub(256),
        driver: top,
        device: top + 0x1000,
        size: SIZE,
    };
    let driver = FakeDriver::new(mem.clone(), layout);
    let mut engine = over(mem);
    assert_accepted(&mut engine, &driver.config(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    // The answer has one byte, so that the chain can use the last descriptor.
    let mut driver = driver;
    driver.send(15, &[virtside::testing::Buffer::writable(top + 0x2000, 1)]);
    engine.poll(1);
    assert_eq!(driver.take_used(), Some((15, 0)));
}

#[test]
fn an_area_over_a_hole_is_refused() {
    let ram = ram();
    // A hole of 32 bytes in the middle of the area.
    let mem = regions(
        ram,
        &[
            (BASE, 0, 0x8000, Permission::Write),
            (BASE + 0x8020, 0x8020, 0x7fe0, Permission::Write),
        ],
    );
    let mut engine = over(mem);
    for (area, align, len) in AREAS {
        for start in [
            BASE + 0x8000 - align,
            BASE + 0x8000,
            BASE + 0x8010,
            (BASE + 0x8020 - len).next_multiple_of(align),
        ] {
            assert_refused(&mut engine, &with(area, start), unmapped(area, start, len));
        }
        for start in [(BASE + 0x8000 - len) / align * align, BASE + 0x8020] {
            assert_accepted(&mut engine, &with(area, start));
            assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
        }
    }
}

#[test]
fn an_area_that_is_not_in_one_piece_is_refused() {
    // Two regions that are adjacent in driver memory and apart in host memory.
    let ram = ram();
    let mem = regions(
        ram,
        &[
            (BASE, 0, 0x8000, Permission::Write),
            (BASE + 0x8000, 0x1_8000, 0x8000, Permission::Write),
        ],
    );
    let mut engine = over(mem);
    for (area, align, len) in AREAS {
        let start = BASE + 0x8000 - align;
        assert_refused(&mut engine, &with(area, start), unmapped(area, start, len));
    }
}

#[test]
fn rings_in_three_regions_work() {
    let ram = ram();
    let mem = regions(
        ram,
        &[
            (BASE, 0, 0x1000, Permission::Read),
            (BASE + 0x4000, 0x4000, 0x1000, Permission::Read),
            (BASE + 0x8000, 0x8000, 0x1000, Permission::Write),
            // The buffers.
            (BASE + 0x1_0000, 0x1_0000, 0x1_0000, Permission::Write),
        ],
    );
    let layout = Layout {
        size: SIZE,
        desc: BASE,
        driver: BASE + 0x4000,
        device: BASE + 0x8000,
    };
    let mut driver = FakeDriver::new(ram.flat(BASE), layout);
    let mut engine = over(mem);
    assert_accepted(&mut engine, &driver.config(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
}

#[test]
fn read_only_memory_is_no_place_for_the_device_area() {
    let ram = ram();
    let mem = regions(
        ram,
        &[
            (BASE, 0, 0x1_0000, Permission::Write),
            (BASE + 0x1_0000, 0x1_0000, 0x1_0000, Permission::Read),
        ],
    );
    let mut engine = over(mem);
    let read_only = BASE + 0x1_1000;
    let refusal = unmapped(Area::Device, read_only, 134);
    assert_refused(&mut engine, &with(Area::Device, read_only), refusal);
    // The driver's areas may be there: the device never writes to them.
    for area in [Area::Descriptor, Area::Driver] {
        assert_accepted(&mut engine, &with(area, read_only));
        assert_eq!(engine.store(reg::QUEUE_READY, 0), Reply::Done(0));
    }
    assert_accepted(&mut engine, &config(0));
}

#[test]
fn the_high_halves_of_addresses_count() {
    let base = 0x0123_4567_8000_0000;
    let ram = ram();
    let mut engine = engine_over(Probe::default(), ram.flat(base), 1);
    let layout = Layout::packed_at(base + 0x1000, SIZE);
    let mut driver = FakeDriver::new(ram.flat(base), layout);
    assert!(engine.negotiate(Features::VERSION_1));
    let low = |address: u64| address & 0xffff_ffff;
    for area in 0..3 {
        // Neither the right low half nor a wrong high half suffices.
        for high in [0, 0x0123_4566_0000_0000, 0x8123_4567_0000_0000] {
            let mut bad = layout.config(0);
            let (area, start, len) = match area {
                0 => (Area::Descriptor, &mut bad.desc, 256),
                1 => (Area::Driver, &mut bad.driver, 38),
                _ => (Area::Device, &mut bad.device, 134),
            };
            *start = low(*start) | high;
            let start = *start;
            assert_refused(&mut engine, &bad, unmapped(area, start, len));
        }
    }
    assert_accepted(&mut engine, &layout.config(0));
    assert_eq!(engine.go_live(), Reply::Done(0));
    let data = base + 0x2000;
    driver.send(0, &[virtside::testing::Buffer::writable(data, 4)]);
    engine.poll(1);
    assert_eq!(driver.take_used(), Some((0, 0)));
}

#[test]
fn halves_of_an_address_may_be_written_in_either_order() {
    let base = 0x1_0000_0000;
    let ram = ram();
    let mut engine = over(ram.flat(base));
    let config = Layout::packed_at(base + 0x1000, SIZE).config(0);
    engine.lay_out(&QueueConfig {
        desc: u64::MAX,
        driver: u64::MAX,
        device: u64::MAX,
        ..config
    });
    for (offset, area) in [
        (reg::QUEUE_DESC_LOW, config.desc),
        (reg::QUEUE_DRIVER_LOW, config.driver),
        (reg::QUEUE_DEVICE_LOW, config.device),
    ] {
        // High half first, and the low half twice: each write leaves the other half unchanged.
        assert_eq!(engine.store(offset + 4, 1), Reply::Done(0));
        assert_eq!(engine.store(offset, 0xdead_bee0), Reply::Done(0));
        assert_eq!(engine.store(offset, area as u32), Reply::Done(0));
    }
    assert_eq!(engine.store(reg::QUEUE_READY, 1), Reply::Done(0));
    assert_eq!(engine.queue_config(0), Some(&config));
}

#[test]
fn a_queue_moves_with_its_memory_before_the_driver_is_live() {
    let (mut engine, old) = probe();
    assert!(engine.negotiate(Features::VERSION_1));
    assert_accepted(&mut engine, &config(0));
    let new = ram();
    *engine.memory_mut() = new.flat(BASE);
    assert!(engine.memory_changed().is_done());
    let mut driver = FakeDriver::new(new.flat(BASE), virtside_tests::layout(0));
    old.write(0, &[0x77; 0x1000]);
    assert_eq!(engine.go_live(), Reply::Done(0));
    assert_works(&mut engine, &mut driver, 0);
    let mut bytes = [0; 0x1000];
    old.read(0, &mut bytes);
    assert_eq!(bytes, [0x77; 0x1000], "the old memory was touched");
}
