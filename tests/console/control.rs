//! Control messages: which messages each side sends, and when.

use virtio_spec::console::F;
use virtside::{
    DriverFault, Features, Step,
    device::QueueState,
    models::{
        Console,
        console::{CONTROL_RECEIVEQ, CONTROL_TRANSMITQ, ConsoleSize, Port},
    },
    testing::{Buffer, Registers},
};
use virtside_tests::{cut, models::console::*};

const ADDED: [(u32, u16, u16); 3] = [(0, ADD, 0), (1, ADD, 0), (2, ADD, 0)];

#[test]
fn no_message_is_sent_before_the_driver_is_ready() {
    let mut rig = ConsoleRig::over(three());
    assert_eq!(rig.next_message(), None);
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), ADDED);
}

#[test]
fn every_port_is_announced_once() {
    let mut rig = ConsoleRig::three();
    assert_eq!(rig.messages(), ADDED);
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [], "the driver knows the ports already");
    for port in 0..3 {
        rig.tell(port, PORT_READY, 1);
    }
    assert!(rig.messages().iter().all(|(_, event, _)| *event != ADD));
}

#[test]
fn a_driver_that_fails_gets_no_messages() {
    let mut rig = ConsoleRig::over(three());
    rig.tell(0, DEVICE_READY, 0);
    assert_eq!(rig.messages(), []);
    rig.tell(7, DEVICE_READY, 1);
    assert_eq!(rig.messages(), ADDED, "the port number is ignored");
    rig.tell(0, PORT_READY, 1);
    assert_eq!(rig.got(2), Some(control(0, CONSOLE, 1)));
    rig.tell(0, DEVICE_READY, 0);
    assert_eq!(rig.messages(), []);
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, OPEN, 1)]);
    assert_eq!(rig.machine.model().ignored(), 0);
}

#[test]
fn a_port_is_described_when_the_driver_is_ready_for_it() {
    let size = ConsoleSize {
        cols: 0x1234,
        rows: 0x5678,
    };
    let ports = [
        Port::new(RecordingPort::new())
            .console()
            .with_name("tty")
            .with_size(size),
        Port::new(RecordingPort::new())
            .with_name("org.example.ü")
            .with_size(size),
        Port::new(RecordingPort::new()).closed(),
    ];
    let mut rig = ConsoleRig::over(Console::with_ports(ports));
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), ADDED);
    rig.tell(0, PORT_READY, 1);
    assert!(rig.port(0).is_ready());
    assert_eq!(rig.next_message(), Some((0, CONSOLE, 1, vec![])));
    assert_eq!(rig.next_message(), Some((0, NAME, 0, b"tty".to_vec())));
    let tail = vec![0x34, 0x12, 0x78, 0x56];
    assert_eq!(rig.next_message(), Some((0, RESIZE, 0, tail)));
    assert_eq!(rig.next_message(), Some((0, OPEN, 1, vec![])));
    assert_eq!(rig.next_message(), None);
    // Port 1 is no console, so no size is sent.
    rig.tell(1, PORT_READY, 1);
    let name = "org.example.ü".as_bytes().to_vec();
    assert_eq!(rig.next_message(), Some((1, NAME, 0, name)));
    assert_eq!(rig.next_message(), Some((1, OPEN, 1, vec![])));
    assert_eq!(rig.next_message(), None);
    // A closed port has no OPEN message.
    rig.tell(2, PORT_READY, 1);
    assert!(rig.port(2).is_ready());
    assert_eq!(rig.next_message(), None);
    // A repeated PORT_READY has no answer.
    rig.tell(0, PORT_READY, 1);
    assert_eq!(rig.next_message(), None);
}

#[test]
fn several_ports_may_be_consoles() {
    let ports = [(); 2].map(|()| Port::new(RecordingPort::new()).console());
    let mut rig = ConsoleRig::over(Console::with_ports(ports));
    rig.tell(0, DEVICE_READY, 1);
    rig.messages();
    for port in [0, 1] {
        rig.tell(port, PORT_READY, 1);
        assert_eq!(rig.messages(), [(port, CONSOLE, 1), (port, OPEN, 1)]);
    }
}

#[test]
fn a_port_that_the_driver_cannot_use_is_not_described() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(0, PORT_READY, 0);
    assert_eq!(rig.messages(), []);
    assert!(!rig.port(0).is_ready());
    assert_eq!(rig.machine.model().ignored(), 0);
    // The messages that were still to be sent are dropped.
    rig.tell(1, PORT_READY, 1);
    assert_eq!(
        rig.next_message(),
        Some((1, NAME, 0, b"org.example.a".to_vec()))
    );
    rig.tell(1, PORT_READY, 0);
    assert_eq!(rig.messages(), []);
    // The driver may report the port ready later.
    rig.tell(1, PORT_READY, 1);
    assert_eq!(rig.messages(), [(1, NAME, 0), (1, OPEN, 1)]);
}

#[test]
fn messages_wait_for_buffers() {
    let mut rig = ConsoleRig::over(three());
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.settle(), Step::Blocked);
    assert_eq!(rig.messages(), ADDED);
    for port in 0..3 {
        rig.tell(port, PORT_READY, 1);
    }
    assert_eq!(
        rig.messages(),
        [
            (0, CONSOLE, 1),
            (0, OPEN, 1),
            (1, NAME, 0),
            (1, OPEN, 1),
            (2, OPEN, 1)
        ]
    );
}

#[test]
fn a_new_size_of_a_console_is_sent() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(0, PORT_READY, 1);
    rig.tell(1, PORT_READY, 1);
    rig.messages();
    let size = ConsoleSize {
        cols: 132,
        rows: 50,
    };
    rig.port(0).resize(size);
    assert_eq!(
        rig.next_message(),
        Some((0, RESIZE, 0, vec![132, 0, 50, 0]))
    );
    assert_eq!(rig.port(0).size(), Some(size));
    // Of several sizes, only the last is sent.
    rig.port(0).resize(ConsoleSize { cols: 1, rows: 1 });
    rig.port(0).resize(ConsoleSize { cols: 40, rows: 12 });
    assert_eq!(rig.next_message(), Some((0, RESIZE, 0, vec![40, 0, 12, 0])));
    assert_eq!(rig.next_message(), None);
    // The size of another port is not sent.
    rig.port(1).resize(size);
    assert_eq!(rig.next_message(), None);
}

#[test]
fn a_size_set_early_is_sent_when_the_driver_is_ready() {
    let mut rig = ConsoleRig::three();
    rig.port(0).resize(ConsoleSize {
        cols: 132,
        rows: 50,
    });
    rig.port(0).set_open(false);
    assert_eq!(rig.messages(), ADDED);
    rig.tell(0, PORT_READY, 1);
    assert_eq!(rig.messages(), [(0, CONSOLE, 1), (0, RESIZE, 0)]);
}

#[test]
fn closing_and_opening_the_hosts_end_is_sent() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(1, PORT_READY, 1);
    rig.messages();
    rig.port(1).set_open(false);
    assert!(!rig.port(1).is_open());
    assert_eq!(rig.messages(), [(1, OPEN, 0)]);
    rig.port(1).set_open(true);
    assert_eq!(rig.messages(), [(1, OPEN, 1)]);
    // An unchanged state is not sent again.
    rig.port(1).set_open(true);
    assert_eq!(rig.messages(), []);
}

#[test]
fn the_driver_opens_and_closes_its_end() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(1, PORT_READY, 1);
    for open in [true, false, true] {
        rig.tell(1, OPEN, open.into());
        assert_eq!(rig.port(1).is_driver_open(), open);
    }
    rig.tell(1, OPEN, 1);
    assert_eq!(
        rig.io(1).opened,
        [true, false, true],
        "an unchanged state is no message"
    );
    assert_eq!(rig.io(0).opened, []);
    rig.restart();
    assert!(!rig.port(1).is_driver_open());
    assert_eq!(rig.io(1).opened, [true, false, true, false]);
}

#[test]
fn messages_that_make_no_sense_are_counted_and_change_nothing() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(0, PORT_READY, 1);
    rig.tell(0, OPEN, 1);
    let news = rig.messages();
    assert_eq!(news, [(0, CONSOLE, 1), (0, OPEN, 1)]);
    let mut ignored = 0;
    for (port, event, value) in [
        // This port does not exist.
        (3, PORT_READY, 1),
        (3, OPEN, 1),
        (0x1_0000, OPEN, 0),
        (0x8000_0000, OPEN, 0),
        (u32::MAX, PORT_READY, 1),
        // Only the device sends these events.
        (0, ADD, 0),
        (0, REMOVE, 0),
        (0, CONSOLE, 1),
        (0, RESIZE, 0),
        (0, NAME, 0),
        // These events are unknown.
        (0, 8, 0),
        (0, 0x100, 1),
        (0, 0xffff, 1),
        // The value is neither 0 nor 1.
        (0, DEVICE_READY, 2),
        (0, PORT_READY, 0x100),
        (0, OPEN, 0xffff),
    ] {
        rig.tell(port, event, value);
        ignored += 1;
        assert_eq!(
            rig.machine.model().ignored(),
            ignored,
            "{port} {event} {value}"
        );
        assert_eq!(rig.messages(), []);
    }
    assert!(rig.port(0).is_ready() && rig.port(0).is_driver_open());
}

#[test]
fn bytes_after_a_message_are_ignored() {
    let mut rig = ConsoleRig::over(three());
    let message = [&control(0, DEVICE_READY, 1)[..], b"and more"].concat();
    rig.send(CONTROL_TRANSMITQ, &message);
    assert!(rig.sent(CONTROL_TRANSMITQ));
    assert_eq!(rig.messages(), ADDED);
}

#[test]
fn a_message_may_be_split_over_buffers() {
    for place in 0..=8u32 {
        let mut rig = ConsoleRig::over(three());
        let at = ConsoleRig::<3>::at(3, 0);
        rig.queues[3].write(at, &control(0, DEVICE_READY, 1));
        rig.queues[3].send(0, &cut(at, 8, &[place], false));
        rig.kick(3);
        assert!(rig.sent(3));
        let at = ConsoleRig::<3>::at(2, 0);
        rig.queues[2].write(at, &[UNTOUCHED; 16]);
        rig.queues[2].send(0, &cut(at, 12, &[place], true));
        rig.kick(2);
        assert_eq!(rig.got(2), Some(control(0, ADD, 0)));
    }
}

#[test]
fn a_message_that_is_too_short_stops_the_queue() {
    for len in [0, 1, 7] {
        let mut rig = ConsoleRig::three();
        rig.send(CONTROL_TRANSMITQ, &vec![0; len]);
        assert!(!rig.sent(CONTROL_TRANSMITQ));
        let fault = rig.machine.driver_fault(CONTROL_TRANSMITQ);
        assert!(matches!(fault, Some(DriverFault::BadRequest { .. })));
        assert_eq!(
            rig.machine.queue_state(CONTROL_TRANSMITQ),
            QueueState::Failed
        );
        assert_eq!(
            rig.machine.status().bits() & 0x40,
            0x40,
            "the device needs a reset"
        );
        rig.restart();
        rig.tell(0, DEVICE_READY, 1);
        assert_eq!(rig.messages(), ADDED);
    }
}

#[test]
fn a_control_buffer_that_is_too_short_stops_the_queue() {
    for room in [0, 1, 7] {
        let mut rig = ConsoleRig::three();
        rig.offer(CONTROL_RECEIVEQ, room);
        let fault = rig.machine.driver_fault(CONTROL_RECEIVEQ);
        assert!(matches!(fault, Some(DriverFault::BadRequest { .. })));
        assert_eq!(rig.got(CONTROL_RECEIVEQ), None);
    }
    // A size needs four more bytes.
    for room in [8, 11] {
        let mut rig = ConsoleRig::three();
        rig.messages();
        rig.port(0).resize(ConsoleSize { cols: 1, rows: 1 });
        // One buffer is left. The CONSOLE message takes it, and the size gets this new one.
        rig.tell(0, PORT_READY, 1);
        assert_eq!(rig.got(2), Some(control(0, CONSOLE, 1)));
        rig.offer(CONTROL_RECEIVEQ, room);
        let fault = rig.machine.driver_fault(CONTROL_RECEIVEQ);
        assert!(matches!(fault, Some(DriverFault::BadRequest { .. })));
    }
}

#[test]
fn a_name_that_does_not_fit_is_cut_between_characters() {
    let name = "aüb"; // 61 c3 bc 62
    for (room, expected) in [
        (8, &b""[..]),
        (9, b"a"),
        (10, b"a"),
        (11, "aü".as_bytes()),
        (12, name.as_bytes()),
        (13, name.as_bytes()),
    ] {
        let ports = [Port::new(RecordingPort::new()).with_name(name)];
        let mut rig = ConsoleRig::over(Console::with_ports(ports));
        rig.tell(0, DEVICE_READY, 1);
        rig.offer(CONTROL_RECEIVEQ, 8);
        assert_eq!(rig.got(CONTROL_RECEIVEQ), Some(control(0, ADD, 0)));
        rig.tell(0, PORT_READY, 1);
        rig.offer(CONTROL_RECEIVEQ, room);
        let expected = [&control(0, NAME, 0)[..], expected].concat();
        assert_eq!(rig.got(CONTROL_RECEIVEQ), Some(expected));
    }
}

#[test]
fn a_control_buffer_waits_for_a_message() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    // The device takes none of the buffers, so requests continue.
    for _ in 0..7 {
        assert_eq!(rig.offer(CONTROL_RECEIVEQ, 16), Step::Blocked);
    }
    rig.tell(2, PORT_READY, 1);
    assert_eq!(rig.got(CONTROL_RECEIVEQ), Some(control(2, OPEN, 1)));
    assert_eq!(rig.got(CONTROL_RECEIVEQ), None);
}

#[test]
fn every_message_is_announced() {
    // Without EVENT_IDX, because the tests' driver does not move its event index.
    let features = Features::VERSION_1 | feature(F::MULTIPORT);
    let mut rig = ConsoleRig::with(three(), features);
    rig.tell(0, DEVICE_READY, 1);
    rig.messages();
    rig.tell(1, PORT_READY, 1);
    rig.messages();
    let line = rig.machine.device().notify().asserted();
    rig.port(1).set_open(false);
    assert_eq!(rig.next_message(), Some((1, OPEN, 0, vec![])));
    assert_eq!(rig.machine.device().notify().asserted(), line + 1);
}

#[test]
fn after_a_reset_every_message_is_sent_again() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(0, PORT_READY, 1);
    rig.messages();
    rig.restart();
    assert!(!rig.port(0).is_ready());
    assert_eq!(
        rig.messages(),
        [],
        "the driver has to send DEVICE_READY again"
    );
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), ADDED);
    rig.tell(0, PORT_READY, 1);
    assert_eq!(rig.messages(), [(0, CONSOLE, 1), (0, OPEN, 1)]);
}

#[test]
fn a_driver_without_multiport_gets_no_messages() {
    let mut rig = ConsoleRig::with(three(), Features::RING | feature(F::EMERG_WRITE));
    assert_eq!(rig.machine.configured_queues().collect::<Vec<_>>(), [0, 1]);
    rig.port(0).resize(ConsoleSize { cols: 1, rows: 1 });
    rig.port(1).unplug();
    let chains = rig.machine.counters().chains;
    rig.settle();
    assert_eq!(rig.machine.counters().chains, chains);
}

#[test]
fn a_message_that_unblocks_another_queue_is_served_at_once() {
    let mut rig = ConsoleRig::over(three());
    rig.offer(CONTROL_RECEIVEQ, 16);
    let at = ConsoleRig::<3>::at(3, 0);
    rig.queues[3].write(at, &control(0, DEVICE_READY, 1));
    rig.queues[3].send(0, &[Buffer::readable(at, 8)]);
    let _ = rig.machine.kick(3);
    while rig.machine.poll(8) == Step::More {}
    assert_eq!(rig.got(CONTROL_RECEIVEQ), Some(control(0, ADD, 0)));
}
