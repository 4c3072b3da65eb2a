//! Ports that are plugged, unplugged, opened and closed; each has bytes of its own.

use virtside::{
    Features, Step,
    models::{
        Console, ConsoleError,
        console::{Port, receiveq, transmitq},
    },
    testing::Registers,
};
use virtside_tests::{models::console::*, reg};

#[test]
fn every_port_has_bytes_of_its_own() {
    let mut rig = ConsoleRig::three_open();
    for port in 0..3 {
        let text = [b'0' + port as u8; 5];
        rig.send(transmitq(port), &text);
        assert!(rig.sent(transmitq(port)));
        assert_eq!(rig.written(port), text);
        rig.offer(receiveq(port), 16);
    }
    for port in [2, 0, 1] {
        let text = [b'a' + port as u8; 3];
        rig.arrive(port, &text);
        assert_eq!(rig.got(receiveq(port)).as_deref(), Some(&text[..]));
    }
    for queue in [0, 1, 4, 5, 6, 7] {
        assert_eq!(rig.queues[queue].take_used(), None);
    }
}

#[test]
fn a_port_that_waits_does_not_stop_the_others() {
    let mut rig = ConsoleRig::three_open();
    for port in 0..3 {
        rig.io(port).room = 1;
        rig.io(port).claims = Some(true);
        rig.send(transmitq(port), b"hello");
        rig.offer(receiveq(port), 16);
    }
    // All six data queues hold a buffer, and a slot is left for control messages.
    rig.tell(0, DEVICE_READY, 1);
    rig.port(1).set_open(false);
    assert_eq!(rig.messages(), [(1, OPEN, 0)]);
    for port in [2, 0] {
        rig.drain(port, 99);
        assert_eq!(rig.written(port), b"hello");
        rig.arrive(port, b"in");
        assert_eq!(rig.got(receiveq(port)).as_deref(), Some(&b"in"[..]));
    }
}

#[test]
fn a_port_that_the_driver_has_not_opened_gets_no_input() {
    let mut rig = ConsoleRig::three_open();
    rig.tell(1, OPEN, 0);
    rig.offer(4, 16);
    assert_eq!(rig.arrive(1, b"hello"), Step::Blocked);
    assert_eq!(rig.got(4), None);
    assert_eq!(rig.io(1).input, b"hello", "the input is kept");
    rig.tell(1, OPEN, 1);
    assert_eq!(rig.got(4).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_port_that_is_closed_while_its_buffer_waits_keeps_it() {
    let mut rig = ConsoleRig::three_open();
    rig.io(1).claims = Some(true);
    rig.offer(4, 16);
    rig.io(1).claims = None;
    rig.tell(1, OPEN, 0);
    rig.arrive(1, b"hello");
    assert_eq!(rig.got(4), None);
    rig.tell(1, OPEN, 1);
    rig.machine.backend_ready(4);
    rig.settle();
    assert_eq!(rig.got(4).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_kept_buffer_gets_its_input_when_the_port_reopens() {
    for by_host in [false, true] {
        for trouble in [ConsoleError::NotReady, ConsoleError::Failed] {
            let mut rig = ConsoleRig::three_open();
            rig.offer(receiveq(1), 16);
            rig.io(1).trouble = vec![Some(trouble)];
            rig.arrive(1, b"hello");
            let turn = |rig: &mut ConsoleRig<3>, open: bool| {
                if by_host {
                    rig.port(1).set_open(open);
                } else {
                    rig.tell(1, OPEN, open.into());
                }
                rig.settle()
            };
            assert_eq!(turn(&mut rig, false), Step::Blocked);
            assert_eq!(rig.got(receiveq(1)), None);
            turn(&mut rig, true);
            assert_eq!(rig.got(receiveq(1)).as_deref(), Some(&b"hello"[..]));
        }
    }
}

#[test]
fn a_port_that_was_opened_again_and_gives_nothing_is_asked_once() {
    let mut rig = ConsoleRig::three_open();
    rig.io(1).claims = Some(true);
    rig.offer(receiveq(1), 16);
    rig.tell(1, OPEN, 0);
    rig.io(1).trouble = vec![Some(ConsoleError::NotReady); 2];
    rig.tell(1, OPEN, 1);
    assert_eq!(rig.settle(), Step::Blocked);
    assert_eq!(rig.io(1).trouble.len(), 1);
    assert_eq!(rig.got(receiveq(1)), None);
}

#[test]
fn output_to_a_port_that_the_host_closed_is_dropped() {
    let mut rig = ConsoleRig::three_open();
    rig.io(1).room = 2;
    rig.send(5, b"hello");
    assert!(!rig.sent(5));
    rig.port(1).set_open(false);
    rig.drain(1, 99);
    assert!(rig.sent(5), "the waiting buffer comes back");
    rig.send(5, b"more");
    assert!(rig.sent(5));
    assert_eq!(rig.written(1), b"he");
    rig.offer(4, 16);
    rig.arrive(1, b"in");
    assert_eq!(rig.got(4), None, "there is no input either");
    rig.port(1).set_open(true);
    rig.send(5, b"again");
    assert_eq!(rig.written(1), b"again");
    assert_eq!(rig.got(4).as_deref(), Some(&b"in"[..]));
}

#[test]
fn an_unplugged_port_is_not_announced() {
    let ports = [
        Port::new(RecordingPort::new()),
        Port::new(RecordingPort::new()).unplugged(),
    ];
    let mut rig = ConsoleRig::over(Console::with_ports(ports));
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0)]);
    assert!(!rig.port(1).is_plugged());
    // The device ignores the driver's messages about the port.
    rig.tell(1, PORT_READY, 1);
    rig.tell(1, OPEN, 1);
    assert_eq!(rig.machine.model().ignored(), 2);
    rig.send(5, b"hello");
    assert!(rig.sent(5), "output to the port is dropped");
    assert_eq!(rig.written(1), b"");
    assert_eq!(
        rig.config(4),
        [2, 0, 0, 0],
        "the configuration counts the port"
    );
    // Once it is plugged in, the port is announced.
    rig.port(1).plug();
    assert_eq!(rig.messages(), [(1, ADD, 0)]);
    rig.tell(1, PORT_READY, 1);
    rig.tell(1, OPEN, 1);
    assert_eq!(rig.messages(), [(1, OPEN, 1)]);
    rig.send(5, b"hello");
    assert_eq!(rig.written(1), b"hello");
}

#[test]
fn a_port_that_is_unplugged_is_removed_once() {
    let mut rig = ConsoleRig::three_open();
    rig.port(1).unplug();
    rig.port(1).unplug();
    assert_eq!(rig.messages(), [(1, REMOVE, 0)]);
    assert_eq!(rig.io(1).opened, [true, false]);
    assert!(!rig.port(1).is_ready() && !rig.port(1).is_driver_open());
    // The device sends no other message about the port.
    rig.port(1).set_open(false);
    rig.port(1).set_open(true);
    assert_eq!(rig.messages(), []);
}

#[test]
fn a_port_that_was_never_announced_is_not_removed() {
    let mut rig = ConsoleRig::over(three());
    rig.port(1).unplug();
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0), (2, ADD, 0)]);
    // The port is plugged in and out while the driver has no control buffer.
    rig.port(1).plug();
    rig.port(1).unplug();
    assert_eq!(rig.messages(), []);
    rig.port(1).plug();
    assert_eq!(rig.messages(), [(1, ADD, 0)]);
}

#[test]
fn a_port_is_removed_before_it_is_added_again() {
    let mut rig = ConsoleRig::three_open();
    rig.port(1).unplug();
    rig.port(1).plug();
    rig.port(1).plug();
    // The driver's messages still concern the removed port.
    rig.tell(1, OPEN, 0);
    rig.tell(1, PORT_READY, 1);
    assert_eq!(rig.machine.model().ignored(), 2);
    assert_eq!(rig.got(2), Some(control(1, REMOVE, 0)));
    assert_eq!(rig.messages(), [(1, ADD, 0)]);
    rig.tell(1, PORT_READY, 1);
    assert_eq!(rig.messages(), [(1, NAME, 0), (1, OPEN, 1)]);
    // Any number of changes is reported as one removal and one addition.
    for _ in 0..3 {
        rig.port(1).unplug();
        rig.port(1).plug();
    }
    assert_eq!(rig.messages(), [(1, REMOVE, 0), (1, ADD, 0)]);
}

#[test]
fn output_that_waits_for_a_port_that_is_unplugged_comes_back() {
    let mut rig = ConsoleRig::three_open();
    rig.io(1).room = 2;
    rig.send(5, b"hello");
    rig.send(5, b"world");
    rig.port(1).unplug();
    rig.drain(1, 99);
    assert!(rig.sent(5) && rig.sent(5));
    assert_eq!(rig.written(1), b"he");
    // After it is plugged in again, the port gets only new output.
    rig.port(1).plug();
    rig.send(5, b"again");
    assert_eq!(rig.written(1), b"again");
}

#[test]
fn port_0_may_be_unplugged_too() {
    let mut rig = ConsoleRig::three_open();
    rig.port(0).unplug();
    assert_eq!(rig.messages(), [(0, REMOVE, 0)]);
    rig.send(1, b"hello");
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"");
    rig.offer(0, 16);
    rig.arrive(0, b"in");
    assert_eq!(rig.got(0), None);
    // This also holds for a driver with only this port.
    let mut rig = ConsoleRig::with(three(), Features::RING);
    rig.port(0).unplug();
    rig.send(1, b"hello");
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"");
}

#[test]
fn a_port_that_was_unplugged_stays_so_over_a_reset() {
    let mut rig = ConsoleRig::three_open();
    rig.port(1).unplug();
    rig.port(2).unplug();
    rig.restart();
    rig.port(2).plug();
    rig.tell(0, DEVICE_READY, 1);
    assert_eq!(rig.messages(), [(0, ADD, 0), (2, ADD, 0)]);
}

#[test]
fn a_stopped_queue_concerns_its_port_only() {
    let mut rig = ConsoleRig::three_open();
    for port in 0..3 {
        rig.io(port).room = 1;
        rig.send(transmitq(port), b"hello");
    }
    let _ = rig.machine.store(reg::QUEUE_SEL, 5);
    let _ = rig.machine.store(reg::QUEUE_READY, 0);
    for port in 0..3 {
        rig.drain(port, 99);
    }
    assert_eq!(rig.written(0), b"hello");
    assert_eq!(rig.written(1), b"h");
    assert_eq!(rig.written(2), b"hello");
    // Control queues keep no buffer that could be abandoned.
    for queue in [2, 3] {
        let _ = rig.machine.store(reg::QUEUE_SEL, queue);
        let _ = rig.machine.store(reg::QUEUE_READY, 0);
    }
    rig.send(1, b"still");
    assert_eq!(rig.written(0), b"still");
}
