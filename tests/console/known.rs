//! Drivers that know their ports although this device has not announced them.
//!
//! After a hibernation, Linux sends PORT_READY and PORT_OPEN of every port that it had, and no
//! DEVICE_READY. From the answer it learns whether the host's end is open. Windows' vioserial does
//! not answer a repeated DEVICE_ADD. QEMU accepts PORT_READY and PORT_OPEN of any port at any time.

use virtside::{
    models::{
        Console,
        console::{CONTROL_TRANSMITQ, ConsoleSize, Port, receiveq, transmitq},
    },
    testing::Buffer,
};
use virtside_tests::models::console::*;

/// Sends these control messages. All are in the ring before the device polls.
fn tell_at_once(rig: &mut ConsoleRig<3>, messages: &[(u32, u16, u16)]) {
    for (&(port, event, value), head) in messages.iter().zip(0..) {
        let at = ConsoleRig::<3>::at(CONTROL_TRANSMITQ, head);
        rig.queues[3].write(at, &control(port, event, value));
        rig.queues[3].send(head, &[Buffer::readable(at, 8)]);
    }
    rig.kick(CONTROL_TRANSMITQ);
    for _ in messages {
        assert!(rig.sent(CONTROL_TRANSMITQ));
    }
}

/// A device after a reset and a new bring-up. Its driver had opened all three ports before.
fn resumed() -> ConsoleRig<3> {
    let mut rig = ConsoleRig::three_open();
    rig.restart();
    rig
}

#[test]
fn a_resumed_driver_gets_input_without_device_ready() {
    let mut rig = resumed();
    tell_at_once(&mut rig, &[(0, PORT_READY, 1), (0, OPEN, 1)]);
    rig.offer(receiveq(0), 16);
    rig.arrive(0, b"hello");
    assert_eq!(rig.got(receiveq(0)).as_deref(), Some(&b"hello"[..]));
    rig.send(transmitq(0), b"there");
    assert_eq!(rig.written(0), b"there");
    assert_eq!(rig.machine.model().ignored(), 0);
}

#[test]
fn a_resumed_driver_gets_the_state_of_its_ports() {
    let mut rig = resumed();
    rig.port(1).set_open(false);
    let all: Vec<_> = (0..3)
        .flat_map(|port| [(port, PORT_READY, 1), (port, OPEN, 1)])
        .collect();
    tell_at_once(&mut rig, &all);
    assert_eq!(
        rig.messages(),
        [(0, CONSOLE, 1), (0, OPEN, 1), (1, NAME, 0), (2, OPEN, 1)]
    );
    // From here on the driver works like any other.
    rig.port(1).set_open(true);
    rig.port(2).unplug();
    assert_eq!(rig.messages(), [(1, OPEN, 1), (2, REMOVE, 0)]);
    rig.port(2).plug();
    assert_eq!(rig.messages(), [(2, ADD, 0)]);
}

#[test]
fn a_port_added_during_hibernation_is_announced() {
    let mut rig = resumed();
    rig.port(2).unplug();
    rig.tell(0, PORT_READY, 1);
    assert_eq!(
        rig.messages(),
        [(0, CONSOLE, 1), (0, OPEN, 1), (1, ADD, 0)],
        "PORT_READY of one port counts as DEVICE_READY"
    );
    rig.port(2).plug();
    assert_eq!(rig.messages(), [(2, ADD, 0)]);
}

#[test]
fn ready_before_add_is_taken_and_nothing_is_added() {
    // All messages are in one batch: the device has not sent ADD when it reads the last two.
    for any in [0, 7, u32::MAX] {
        let mut rig = ConsoleRig::over(three());
        let batch = [(any, DEVICE_READY, 1), (0, PORT_READY, 1), (0, OPEN, 1)];
        tell_at_once(&mut rig, &batch);
        assert_eq!(rig.machine.model().ignored(), 0);
        assert!(rig.port(0).is_ready() && rig.port(0).is_driver_open());
        assert_eq!(
            rig.messages(),
            [(0, CONSOLE, 1), (0, OPEN, 1), (1, ADD, 0), (2, ADD, 0)]
        );
        rig.offer(receiveq(0), 16);
        rig.arrive(0, b"hello");
        assert_eq!(rig.got(receiveq(0)).as_deref(), Some(&b"hello"[..]));
    }
}

#[test]
fn a_port_is_described_in_order_to_a_driver_that_knew_it() {
    let size = ConsoleSize { cols: 80, rows: 25 };
    let ports = [Port::new(RecordingPort::new())
        .console()
        .with_name("tty")
        .with_size(size)];
    let mut rig = ConsoleRig::over(Console::with_ports(ports));
    rig.tell(0, PORT_READY, 1);
    assert_eq!(
        rig.messages(),
        [(0, CONSOLE, 1), (0, NAME, 0), (0, RESIZE, 0), (0, OPEN, 1)]
    );
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [], "the driver knows the port");
}

#[test]
fn a_port_opened_before_it_is_ready_is_still_announced() {
    let mut rig = ConsoleRig::over(three());
    rig.tell(1, OPEN, 1);
    assert_eq!(rig.io(1).opened, [true]);
    rig.offer(receiveq(1), 16);
    rig.arrive(1, b"hello");
    assert_eq!(rig.got(receiveq(1)).as_deref(), Some(&b"hello"[..]));
    assert_eq!(rig.messages(), [], "the port is not ready yet");
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0), (1, ADD, 0), (2, ADD, 0)]);
    // A port that is unplugged before it was announced is closed, and not removed.
    rig.restart();
    rig.tell(1, OPEN, 1);
    rig.port(1).unplug();
    assert_eq!(rig.io(1).opened, [true, false, true, false]);
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0), (2, ADD, 0)]);
}

#[test]
fn a_failure_before_the_announcement_does_not_prevent_it() {
    let mut rig = ConsoleRig::over(three());
    rig.tell(0, PORT_READY, 0);
    assert_eq!(rig.messages(), [], "a failure does not count as ready");
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0), (1, ADD, 0), (2, ADD, 0)]);
}

#[test]
fn messages_between_remove_and_add_concern_the_old_port() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.port(1).unplug();
    rig.port(1).plug();
    // The remaining buffer takes the removal. No buffer is left for the announcement.
    rig.machine.backend_ready(2);
    rig.settle();
    assert_eq!(rig.got(2), Some(control(1, REMOVE, 0)));
    rig.tell(1, PORT_READY, 1);
    rig.tell(1, OPEN, 1);
    assert_eq!(rig.machine.model().ignored(), 2);
    assert!(!rig.port(1).is_ready() && !rig.port(1).is_driver_open());
    assert_eq!(rig.messages(), [(1, ADD, 0)]);
    rig.tell(1, PORT_READY, 1);
    assert_eq!(rig.messages(), [(1, NAME, 0), (1, OPEN, 1)]);
}

#[test]
fn a_reset_discards_which_ports_were_removed() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.port(1).unplug();
    assert_eq!(rig.messages(), [(1, REMOVE, 0)]);
    rig.port(1).plug();
    rig.restart();
    rig.tell(1, PORT_READY, 1);
    assert!(rig.port(1).is_ready());
}

#[test]
fn closing_and_reopening_at_once_sends_both() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(1, PORT_READY, 1);
    rig.messages();
    // Linux and QEMU pass each change on, so that a program behind the driver sees the old peer
    // disconnect.
    rig.port(1).set_open(false);
    rig.port(1).set_open(true);
    assert_eq!(rig.messages(), [(1, OPEN, 0), (1, OPEN, 1)]);
    // The device does so each time.
    for _ in 0..3 {
        rig.port(1).set_open(false);
        rig.port(1).set_open(true);
    }
    assert_eq!(rig.messages(), [(1, OPEN, 0), (1, OPEN, 1)]);
    // A port that stays closed is reported once. The driver does not learn of an opening in
    // between.
    rig.port(1).set_open(false);
    rig.port(1).set_open(true);
    rig.port(1).set_open(false);
    assert_eq!(rig.messages(), [(1, OPEN, 0)]);
    rig.port(1).set_open(true);
    assert_eq!(rig.messages(), [(1, OPEN, 1)]);
}

#[test]
fn closing_between_two_messages_sends_both() {
    let mut rig = ConsoleRig::three();
    rig.messages();
    rig.tell(1, PORT_READY, 1);
    rig.messages();
    rig.port(1).set_open(false);
    rig.machine.backend_ready(2);
    rig.settle();
    assert_eq!(rig.got(2), Some(control(1, OPEN, 0)));
    rig.port(1).set_open(true);
    rig.port(1).set_open(false);
    rig.port(1).set_open(true);
    assert_eq!(rig.messages().last(), Some(&(1, OPEN, 1)));
}
