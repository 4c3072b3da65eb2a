//! Device type, offer, queues and the configuration space.

use virtio_spec::console::F;
use virtside::{
    Features, Refusal,
    mmio::Access,
    models::{
        Console,
        console::{ConsoleSize, Port, receiveq, transmitq},
    },
    shared::InterruptStatus,
    testing::Registers,
};
use virtside_tests::{config, models::console::*, ram, reg};

#[test]
fn it_is_device_3() {
    assert_eq!(ConsoleRig::new().machine.load(reg::DEVICE_ID), 3);
}

#[test]
fn it_offers_what_its_ports_have() {
    let offer = |console| machine(console, ram()).offered();
    let emergency = feature(F::EMERG_WRITE);
    assert_eq!(
        offer(Console::new(RecordingPort::new())),
        Features::ALL_RINGS | emergency
    );
    assert_eq!(
        offer(Console::new(RecordingPort::new()).with_size(80, 25)),
        Features::ALL_RINGS | emergency | feature(F::SIZE)
    );
    let multiport = Features::ALL_RINGS | emergency | feature(F::MULTIPORT);
    assert_eq!(machine(three(), ram()).offered(), multiport);
    let size = ConsoleSize { cols: 80, rows: 25 };
    let ports = [
        Port::new(RecordingPort::new()).with_size(size),
        Port::new(RecordingPort::new()),
    ];
    let mut device = machine(Console::with_ports(ports), ram());
    assert_eq!(device.offered(), multiport | feature(F::SIZE));
    // The configuration has the size of port 0.
    let ports = [
        Port::new(RecordingPort::new()),
        Port::new(RecordingPort::new()).with_size(size),
    ];
    let mut device = machine(Console::with_ports(ports), ram());
    assert_eq!(device.offered(), multiport);
}

/// QueueSizeMax of the first nine queues.
fn queues(engine: &mut impl Registers) -> [bool; 9] {
    std::array::from_fn(|queue| {
        let _ = engine.store(reg::QUEUE_SEL, queue as u32);
        engine.load(reg::QUEUE_SIZE_MAX) != 0
    })
}

#[test]
fn one_port_has_two_queues() {
    let mut device = machine(Console::new(RecordingPort::new()), ram());
    let two = [true, true, false, false, false, false, false, false, false];
    assert_eq!(queues(&mut device), two);
    assert!(device.negotiate(Features::ALL_RINGS | feature(F::EMERG_WRITE)));
    assert_eq!(queues(&mut device), two);
}

#[test]
fn other_queues_exist_only_with_multiport() {
    let mut device = machine(three(), ram());
    let all = [true, true, true, true, true, true, true, true, false];
    let two = [true, true, false, false, false, false, false, false, false];
    assert_eq!(queues(&mut device), all, "before negotiation");
    assert!(device.negotiate(Features::RING));
    assert_eq!(queues(&mut device), two);
    assert!(device.configure(&config(2)).refusal().is_some());
    assert!(device.negotiate(Features::ALL_RINGS | feature(F::MULTIPORT)));
    assert_eq!(queues(&mut device), all);
    assert_eq!(device.configure(&config(7)).refusal(), None);
    // A device of one port may have control queues, too.
    let mut device = machine(
        Console::with_ports([Port::new(RecordingPort::new())]),
        ram(),
    );
    assert!(device.negotiate(Features::ALL_RINGS | feature(F::MULTIPORT)));
    let four = [true, true, true, true, false, false, false, false, false];
    assert_eq!(queues(&mut device), four);
}

#[test]
fn a_port_has_the_queues_that_the_specification_says() {
    assert_eq!([0, 1, 2, 3].map(receiveq), [0, 4, 6, 8]);
    assert_eq!([0, 1, 2, 3].map(transmitq), [1, 5, 7, 9]);
}

#[test]
fn the_configuration_shows_the_size_and_the_number_of_ports() {
    let mut rig = ConsoleRig::over(Console::new(RecordingPort::new()).with_size(80, 25));
    assert_eq!(rig.config(0), [80, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.machine.load(reg::CONFIG), 25 << 16 | 80);
    let mut rig = ConsoleRig::over(Console::new(RecordingPort::new()).with_size(0x1234, 0x5678));
    assert_eq!(rig.config(0), [0x34, 0x12, 0x78, 0x56]);
    let mut rig = ConsoleRig::over(three());
    assert_eq!(rig.config(0), [0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    let mut rig = ConsoleRig::new();
    assert_eq!(
        rig.config(0),
        [0; 12],
        "a field without its feature is zero"
    );
}

#[test]
fn the_configuration_is_of_12_bytes() {
    let mut rig = ConsoleRig::new();
    for (offset, width) in [(12, 1), (12, 4), (10, 4), (8, 8)] {
        let access = Access::Read {
            offset: reg::CONFIG + offset,
            width,
        };
        let refusal = Refusal::OutsideConfig {
            offset: reg::CONFIG + offset,
            width,
        };
        assert_eq!(rig.machine.reach(access).refusal(), Some(refusal));
    }
}

#[test]
fn a_new_size_is_shown_and_announced() {
    let mut rig = ConsoleRig::over(Console::new(RecordingPort::new()).with_size(80, 25));
    let generation = rig.machine.load(reg::CONFIG_GENERATION);
    let line = rig.machine.device().notify().asserted();
    rig.machine.update_config(|console| {
        let port = console.port_mut(0).expect("port 0");
        port.resize(ConsoleSize {
            cols: 132,
            rows: 50,
        });
    });
    assert_eq!(rig.config(0), [132, 0, 50, 0]);
    assert_ne!(rig.machine.load(reg::CONFIG_GENERATION), generation);
    assert_eq!(
        rig.machine.load(reg::INTERRUPT_STATUS),
        InterruptStatus::CONFIG_CHANGE.bits()
    );
    assert_eq!(rig.machine.device().notify().asserted(), line + 1);
}

#[test]
fn the_size_of_another_port_is_not_shown() {
    let size = ConsoleSize { cols: 80, rows: 25 };
    let ports = [
        Port::new(RecordingPort::new()).with_size(size),
        Port::new(RecordingPort::new()).console(),
    ];
    let mut rig = ConsoleRig::over(Console::with_ports(ports));
    let before: [u8; 12] = rig.config(0);
    rig.port(1).resize(ConsoleSize {
        cols: 132,
        rows: 50,
    });
    assert_eq!(rig.config(0), before);
    assert_eq!(
        rig.port(1).size(),
        Some(ConsoleSize {
            cols: 132,
            rows: 50
        })
    );
    assert_eq!(rig.machine.load(reg::INTERRUPT_STATUS), 0);
}

#[test]
fn there_is_no_port_beyond_the_last() {
    let mut rig = ConsoleRig::over(three());
    let console = rig.machine.model_mut();
    assert!(console.port(2).is_some());
    for port in [3, 0xffff] {
        assert!(console.port(port).is_none());
        assert!(console.port_mut(port).is_none());
    }
}
