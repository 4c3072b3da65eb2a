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
    let mut desk = Desk::over(three());
    assert_eq!(desk.hear(), None);
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), ADDED);
}

#[test]
fn every_port_is_announced_once() {
    let mut desk = Desk::three();
    assert_eq!(desk.news(), ADDED);
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), [], "the driver knows them already");
    for port in 0..3 {
        desk.tell(port, PORT_READY, 1);
    }
    assert!(desk.news().iter().all(|(_, event, _)| *event != ADD));
}

#[test]
fn a_driver_that_fails_gets_no_messages() {
    let mut desk = Desk::over(three());
    desk.tell(0, DEVICE_READY, 0);
    assert_eq!(desk.news(), []);
    desk.tell(7, DEVICE_READY, 1);
    assert_eq!(desk.news(), ADDED, "its port number does not matter");
    desk.tell(0, PORT_READY, 1);
    assert_eq!(desk.got(2), Some(control(0, CONSOLE, 1)));
    desk.tell(0, DEVICE_READY, 0);
    assert_eq!(desk.news(), []);
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), [(0, OPEN, 1)]);
    assert_eq!(desk.machine.model().ignored(), 0);
}

#[test]
fn a_port_is_described_when_the_driver_is_ready_for_it() {
    let size = ConsoleSize {
        cols: 0x1234,
        rows: 0x5678,
    };
    let ports = [
        Port::new(Tape::new())
            .console()
            .with_name("tty")
            .with_size(size),
        Port::new(Tape::new())
            .with_name("org.example.ü")
            .with_size(size),
        Port::new(Tape::new()).closed(),
    ];
    let mut desk = Desk::over(Console::with_ports(ports));
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), ADDED);
    desk.tell(0, PORT_READY, 1);
    assert!(desk.port(0).is_ready());
    assert_eq!(desk.hear(), Some((0, CONSOLE, 1, vec![])));
    assert_eq!(desk.hear(), Some((0, NAME, 0, b"tty".to_vec())));
    let tail = vec![0x34, 0x12, 0x78, 0x56];
    assert_eq!(desk.hear(), Some((0, RESIZE, 0, tail)));
    assert_eq!(desk.hear(), Some((0, OPEN, 1, vec![])));
    assert_eq!(desk.hear(), None);
    // Port 1 is no console, so no size is sent.
    desk.tell(1, PORT_READY, 1);
    let name = "org.example.ü".as_bytes().to_vec();
    assert_eq!(desk.hear(), Some((1, NAME, 0, name)));
    assert_eq!(desk.hear(), Some((1, OPEN, 1, vec![])));
    assert_eq!(desk.hear(), None);
    // A closed port has no OPEN message.
    desk.tell(2, PORT_READY, 1);
    assert!(desk.port(2).is_ready());
    assert_eq!(desk.hear(), None);
    // A repeated PORT_READY has no answer.
    desk.tell(0, PORT_READY, 1);
    assert_eq!(desk.hear(), None);
}

#[test]
fn several_ports_may_be_consoles() {
    let ports = [(); 2].map(|()| Port::new(Tape::new()).console());
    let mut desk = Desk::over(Console::with_ports(ports));
    desk.tell(0, DEVICE_READY, 1);
    desk.news();
    for port in [0, 1] {
        desk.tell(port, PORT_READY, 1);
        assert_eq!(desk.news(), [(port, CONSOLE, 1), (port, OPEN, 1)]);
    }
}

#[test]
fn a_port_that_the_driver_cannot_use_is_not_described() {
    let mut desk = Desk::three();
    desk.news();
    desk.tell(0, PORT_READY, 0);
    assert_eq!(desk.news(), []);
    assert!(!desk.port(0).is_ready());
    assert_eq!(desk.machine.model().ignored(), 0);
    // The messages that were still to be sent are dropped.
    desk.tell(1, PORT_READY, 1);
    assert_eq!(desk.hear(), Some((1, NAME, 0, b"org.example.a".to_vec())));
    desk.tell(1, PORT_READY, 0);
    assert_eq!(desk.news(), []);
    // The driver may report the port ready later.
    desk.tell(1, PORT_READY, 1);
    assert_eq!(desk.news(), [(1, NAME, 0), (1, OPEN, 1)]);
}

#[test]
fn messages_wait_for_buffers() {
    let mut desk = Desk::over(three());
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.settle(), Step::Blocked);
    assert_eq!(desk.news(), ADDED);
    for port in 0..3 {
        desk.tell(port, PORT_READY, 1);
    }
    assert_eq!(
        desk.news(),
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
    let mut desk = Desk::three();
    desk.news();
    desk.tell(0, PORT_READY, 1);
    desk.tell(1, PORT_READY, 1);
    desk.news();
    let size = ConsoleSize {
        cols: 132,
        rows: 50,
    };
    desk.port(0).resize(size);
    assert_eq!(desk.hear(), Some((0, RESIZE, 0, vec![132, 0, 50, 0])));
    assert_eq!(desk.port(0).size(), Some(size));
    // Of several sizes, only the last is sent.
    desk.port(0).resize(ConsoleSize { cols: 1, rows: 1 });
    desk.port(0).resize(ConsoleSize { cols: 40, rows: 12 });
    assert_eq!(desk.hear(), Some((0, RESIZE, 0, vec![40, 0, 12, 0])));
    assert_eq!(desk.hear(), None);
    // The size of another port is not sent.
    desk.port(1).resize(size);
    assert_eq!(desk.hear(), None);
}

#[test]
fn a_size_set_early_is_sent_when_the_driver_is_ready() {
    let mut desk = Desk::three();
    desk.port(0).resize(ConsoleSize {
        cols: 132,
        rows: 50,
    });
    desk.port(0).set_open(false);
    assert_eq!(desk.news(), ADDED);
    desk.tell(0, PORT_READY, 1);
    assert_eq!(desk.news(), [(0, CONSOLE, 1), (0, RESIZE, 0)]);
}

#[test]
fn closing_and_opening_the_hosts_end_is_sent() {
    let mut desk = Desk::three();
    desk.news();
    desk.tell(1, PORT_READY, 1);
    desk.news();
    desk.port(1).set_open(false);
    assert!(!desk.port(1).is_open());
    assert_eq!(desk.news(), [(1, OPEN, 0)]);
    desk.port(1).set_open(true);
    assert_eq!(desk.news(), [(1, OPEN, 1)]);
    // An unchanged state is not sent again.
    desk.port(1).set_open(true);
    assert_eq!(desk.news(), []);
}

#[test]
fn the_driver_opens_and_closes_its_end() {
    let mut desk = Desk::three();
    desk.news();
    desk.tell(1, PORT_READY, 1);
    for open in [true, false, true] {
        desk.tell(1, OPEN, open.into());
        assert_eq!(desk.port(1).is_driver_open(), open);
    }
    desk.tell(1, OPEN, 1);
    assert_eq!(
        desk.tape(1).opened,
        [true, false, true],
        "an unchanged state is no message"
    );
    assert_eq!(desk.tape(0).opened, []);
    desk.restart();
    assert!(!desk.port(1).is_driver_open());
    assert_eq!(desk.tape(1).opened, [true, false, true, false]);
}

#[test]
fn messages_that_make_no_sense_are_counted_and_change_nothing() {
    let mut desk = Desk::three();
    desk.news();
    desk.tell(0, PORT_READY, 1);
    desk.tell(0, OPEN, 1);
    let news = desk.news();
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
        desk.tell(port, event, value);
        ignored += 1;
        assert_eq!(
            desk.machine.model().ignored(),
            ignored,
            "{port} {event} {value}"
        );
        assert_eq!(desk.news(), []);
    }
    assert!(desk.port(0).is_ready() && desk.port(0).is_driver_open());
}

#[test]
fn bytes_after_a_message_are_ignored() {
    let mut desk = Desk::over(three());
    let message = [&control(0, DEVICE_READY, 1)[..], b"and more"].concat();
    desk.send(CONTROL_TRANSMITQ, &message);
    assert!(desk.sent(CONTROL_TRANSMITQ));
    assert_eq!(desk.news(), ADDED);
}

#[test]
fn a_message_may_be_split_over_buffers() {
    for place in 0..=8u32 {
        let mut desk = Desk::over(three());
        let at = Desk::<3>::at(3, 0);
        desk.queues[3].write(at, &control(0, DEVICE_READY, 1));
        desk.queues[3].send(0, &cut(at, 8, &[place], false));
        desk.kick(3);
        assert!(desk.sent(3));
        let at = Desk::<3>::at(2, 0);
        desk.queues[2].write(at, &[UNTOUCHED; 16]);
        desk.queues[2].send(0, &cut(at, 12, &[place], true));
        desk.kick(2);
        assert_eq!(desk.got(2), Some(control(0, ADD, 0)));
    }
}

#[test]
fn a_message_that_is_too_short_stops_the_queue() {
    for len in [0, 1, 7] {
        let mut desk = Desk::three();
        desk.send(CONTROL_TRANSMITQ, &vec![0; len]);
        assert!(!desk.sent(CONTROL_TRANSMITQ));
        let fault = desk.machine.driver_fault(CONTROL_TRANSMITQ);
        assert!(matches!(fault, Some(DriverFault::BadRequest { .. })));
        assert_eq!(
            desk.machine.queue_state(CONTROL_TRANSMITQ),
            QueueState::Failed
        );
        assert_eq!(
            desk.machine.status().bits() & 0x40,
            0x40,
            "it needs a reset"
        );
        desk.restart();
        desk.tell(0, DEVICE_READY, 1);
        assert_eq!(desk.news(), ADDED);
    }
}

#[test]
fn a_control_buffer_that_is_too_short_stops_the_queue() {
    for room in [0, 1, 7] {
        let mut desk = Desk::three();
        desk.offer(CONTROL_RECEIVEQ, room);
        let fault = desk.machine.driver_fault(CONTROL_RECEIVEQ);
        assert!(matches!(fault, Some(DriverFault::BadRequest { .. })));
        assert_eq!(desk.got(CONTROL_RECEIVEQ), None);
    }
    // A size needs four more bytes.
    for room in [8, 11] {
        let mut desk = Desk::three();
        desk.news();
        desk.port(0).resize(ConsoleSize { cols: 1, rows: 1 });
        // One buffer is left. The CONSOLE message takes it, and the size gets this new one.
        desk.tell(0, PORT_READY, 1);
        assert_eq!(desk.got(2), Some(control(0, CONSOLE, 1)));
        desk.offer(CONTROL_RECEIVEQ, room);
        let fault = desk.machine.driver_fault(CONTROL_RECEIVEQ);
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
        let ports = [Port::new(Tape::new()).with_name(name)];
        let mut desk = Desk::over(Console::with_ports(ports));
        desk.tell(0, DEVICE_READY, 1);
        desk.offer(CONTROL_RECEIVEQ, 8);
        assert_eq!(desk.got(CONTROL_RECEIVEQ), Some(control(0, ADD, 0)));
        desk.tell(0, PORT_READY, 1);
        desk.offer(CONTROL_RECEIVEQ, room);
        let expected = [&control(0, NAME, 0)[..], expected].concat();
        assert_eq!(desk.got(CONTROL_RECEIVEQ), Some(expected));
    }
}

#[test]
fn a_control_buffer_waits_for_a_message() {
    let mut desk = Desk::three();
    desk.news();
    // The device takes none of the buffers, so requests continue.
    for _ in 0..7 {
        assert_eq!(desk.offer(CONTROL_RECEIVEQ, 16), Step::Blocked);
    }
    desk.tell(2, PORT_READY, 1);
    assert_eq!(desk.got(CONTROL_RECEIVEQ), Some(control(2, OPEN, 1)));
    assert_eq!(desk.got(CONTROL_RECEIVEQ), None);
}

#[test]
fn every_message_is_announced() {
    // Without EVENT_IDX, because the tests' driver does not move its event index.
    let features = Features::VERSION_1 | feature(F::MULTIPORT);
    let mut desk = Desk::with(three(), features);
    desk.tell(0, DEVICE_READY, 1);
    desk.news();
    desk.tell(1, PORT_READY, 1);
    desk.news();
    let line = desk.machine.device().notify().asserted();
    desk.port(1).set_open(false);
    assert_eq!(desk.hear(), Some((1, OPEN, 0, vec![])));
    assert_eq!(desk.machine.device().notify().asserted(), line + 1);
}

#[test]
fn after_a_reset_every_message_is_sent_again() {
    let mut desk = Desk::three();
    desk.news();
    desk.tell(0, PORT_READY, 1);
    desk.news();
    desk.restart();
    assert!(!desk.port(0).is_ready());
    assert_eq!(desk.news(), [], "the driver has to send DEVICE_READY again");
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), ADDED);
    desk.tell(0, PORT_READY, 1);
    assert_eq!(desk.news(), [(0, CONSOLE, 1), (0, OPEN, 1)]);
}

#[test]
fn a_driver_without_multiport_gets_no_messages() {
    let mut desk = Desk::with(three(), Features::RING | feature(F::EMERG_WRITE));
    assert_eq!(desk.machine.configured_queues().collect::<Vec<_>>(), [0, 1]);
    desk.port(0).resize(ConsoleSize { cols: 1, rows: 1 });
    desk.port(1).unplug();
    let chains = desk.machine.counters().chains;
    desk.settle();
    assert_eq!(desk.machine.counters().chains, chains);
}

#[test]
fn a_message_that_unblocks_another_queue_is_served_at_once() {
    let mut desk = Desk::over(three());
    desk.offer(CONTROL_RECEIVEQ, 16);
    let at = Desk::<3>::at(3, 0);
    desk.queues[3].write(at, &control(0, DEVICE_READY, 1));
    desk.queues[3].send(0, &[Buffer::readable(at, 8)]);
    let _ = desk.machine.kick(3);
    while desk.machine.poll(8) == Step::More {}
    assert_eq!(desk.got(CONTROL_RECEIVEQ), Some(control(0, ADD, 0)));
}
