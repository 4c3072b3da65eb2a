//! `Ram` as driver memory without unsafe: several with holes between them, and one that is not
//! static.
#![forbid(unsafe_code)]

use virtside::{
    ChainSlot, DriverFault, DriverMem, Engine, Features, Shared, Step,
    memory::{Permission, Ram, RegionMem},
    models::Entropy,
    testing::{Buffer, Registers, fake_queue},
};
use virtside_tests::CountingSource;

const LOW: u64 = 0x1000;
const HIGH: u64 = 0x8000_0000;

#[test]
fn a_device_works_over_two_rams_and_faults_in_the_hole() {
    static RINGS: Ram<4096> = Ram::new();
    static BUFFERS: Ram<8192> = Ram::new();
    static SHARED: Shared<1> = Shared::new();
    let mut mem = RegionMem::<2>::new();
    assert!(mem.add(RINGS.region(LOW)).is_ok());
    assert!(mem.add(BUFFERS.region(HIGH)).is_ok());
    let mut engine: Engine<_, _, _, 1, 8, _, _> = Engine::new(
        Entropy::new(CountingSource::default()),
        mem,
        (),
        [ChainSlot::new()],
        &SHARED,
    );
    let mut driver = fake_queue(RINGS.flat(LOW), LOW, 8);
    assert!(engine.bring_up(Features::VERSION_1, &[driver.config(0)]));

    BUFFERS.write(0x1ff0, &[0xff; 16]);
    driver.send(0, &[Buffer::writable(HIGH + 0x1ff0, 16)]);
    let _ = engine.kick(0);
    assert_eq!(engine.poll(4), Step::Idle);
    assert_eq!(driver.take_used(), Some((0, 16)));
    let mut bytes = [0xff; 16];
    BUFFERS.read(0x1ff0, &mut bytes);
    assert_ne!(bytes, [0xff; 16]);

    let (addr, len) = (LOW + 4096, 16);
    driver.send(1, &[Buffer::writable(addr, len)]);
    let _ = engine.kick(0);
    assert_eq!(engine.poll(4), Step::Idle);
    let writable = true;
    let fault = DriverFault::BufferUnmapped {
        addr,
        len,
        writable,
    };
    assert_eq!(engine.driver_fault(0), Some(fault));
}

#[test]
fn a_device_works_over_ram_that_is_lent() {
    let ram = Box::new(Ram::<8192>::new());
    let shared = Shared::<1>::new();
    let mut engine: Engine<_, _, _, 1, 8, _, _> = Engine::new(
        Entropy::new(CountingSource::default()),
        ram.lend(HIGH),
        (),
        [ChainSlot::new()],
        &shared,
    );
    let mut driver = fake_queue(ram.lend(HIGH), HIGH, 8);
    assert!(engine.bring_up(Features::VERSION_1, &[driver.config(0)]));
    driver.send(0, &[Buffer::writable(HIGH + 0x1ffc, 4)]);
    let _ = engine.kick(0);
    assert_eq!(engine.poll(4), Step::Idle);
    assert_eq!(driver.take_used(), Some((0, 4)));
    let mut bytes = [0; 5];
    assert_eq!(ram.read(0x1ffb, &mut bytes), 5);
    assert!(bytes[0] == 0 && bytes[1..] != [0; 4]);
}

#[test]
fn a_part_ends_where_its_range_or_the_ram_ends() {
    static RAM: Ram<4096> = Ram::new();
    let mut mem = RegionMem::<1>::new();
    let part = RAM.part(0x100..0x180, HIGH).expect("a part");
    assert!(mem.add(part.read_only()).is_ok());
    assert!(mem.is_mapped(HIGH, 0x80, Permission::Read));
    assert!(!mem.is_mapped(HIGH, 0x81, Permission::Read));
    assert!(!mem.is_mapped(HIGH, 1, Permission::Write));
    assert!(RAM.part(0..4096, HIGH).is_some());
    assert!(RAM.part(4096..4096, HIGH).is_some());
    #[allow(clippy::reversed_empty_ranges, reason = "an inverted range")]
    let none = [1..4097, 4097..4097, 2..1, 0..usize::MAX];
    for bytes in none {
        assert!(RAM.part(bytes.clone(), HIGH).is_none(), "{bytes:?}");
    }
}
