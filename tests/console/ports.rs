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
    let mut desk = Desk::three_open();
    for port in 0..3 {
        let text = [b'0' + port as u8; 5];
        desk.send(transmitq(port), &text);
        assert!(desk.sent(transmitq(port)));
        assert_eq!(desk.written(port), text);
        desk.offer(receiveq(port), 16);
    }
    for port in [2, 0, 1] {
        let text = [b'a' + port as u8; 3];
        desk.arrive(port, &text);
        assert_eq!(desk.got(receiveq(port)).as_deref(), Some(&text[..]));
    }
    for queue in [0, 1, 4, 5, 6, 7] {
        assert_eq!(desk.queues[queue].take_used(), None);
    }
}

#[test]
fn a_port_that_waits_does_not_stop_the_others() {
    let mut desk = Desk::three_open();
    for port in 0..3 {
        desk.tape(port).room = 1;
        desk.tape(port).claims = Some(true);
        desk.send(transmitq(port), b"hello");
        desk.offer(receiveq(port), 16);
    }
    // All six data queues hold a buffer, and a slot is left for control messages.
    desk.tell(0, DEVICE_READY, 1);
    desk.port(1).set_open(false);
    assert_eq!(desk.news(), [(1, OPEN, 0)]);
    for port in [2, 0] {
        desk.drain(port, 99);
        assert_eq!(desk.written(port), b"hello");
        desk.arrive(port, b"in");
        assert_eq!(desk.got(receiveq(port)).as_deref(), Some(&b"in"[..]));
    }
}

#[test]
fn a_port_that_the_driver_has_not_opened_gets_no_input() {
    let mut desk = Desk::three_open();
    desk.tell(1, OPEN, 0);
    desk.offer(4, 16);
    assert_eq!(desk.arrive(1, b"hello"), Step::Blocked);
    assert_eq!(desk.got(4), None);
    assert_eq!(desk.tape(1).input, b"hello", "the input is kept");
    desk.tell(1, OPEN, 1);
    assert_eq!(desk.got(4).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_port_that_is_closed_while_its_buffer_waits_keeps_it() {
    let mut desk = Desk::three_open();
    desk.tape(1).claims = Some(true);
    desk.offer(4, 16);
    desk.tape(1).claims = None;
    desk.tell(1, OPEN, 0);
    desk.arrive(1, b"hello");
    assert_eq!(desk.got(4), None);
    desk.tell(1, OPEN, 1);
    desk.machine.backend_ready(4);
    desk.settle();
    assert_eq!(desk.got(4).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_kept_buffer_gets_its_input_when_the_port_reopens() {
    for by_host in [false, true] {
        for trouble in [ConsoleError::NotReady, ConsoleError::Failed] {
            let mut desk = Desk::three_open();
            desk.offer(receiveq(1), 16);
            desk.tape(1).trouble = vec![Some(trouble)];
            desk.arrive(1, b"hello");
            let turn = |desk: &mut Desk<3>, open: bool| {
                if by_host {
                    desk.port(1).set_open(open);
                } else {
                    desk.tell(1, OPEN, open.into());
                }
                desk.settle()
            };
            assert_eq!(turn(&mut desk, false), Step::Blocked);
            assert_eq!(desk.got(receiveq(1)), None);
            turn(&mut desk, true);
            assert_eq!(desk.got(receiveq(1)).as_deref(), Some(&b"hello"[..]));
        }
    }
}

#[test]
fn a_port_that_was_opened_again_and_gives_nothing_is_asked_once() {
    let mut desk = Desk::three_open();
    desk.tape(1).claims = Some(true);
    desk.offer(receiveq(1), 16);
    desk.tell(1, OPEN, 0);
    desk.tape(1).trouble = vec![Some(ConsoleError::NotReady); 2];
    desk.tell(1, OPEN, 1);
    assert_eq!(desk.settle(), Step::Blocked);
    assert_eq!(desk.tape(1).trouble.len(), 1);
    assert_eq!(desk.got(receiveq(1)), None);
}

#[test]
fn output_to_a_port_that_the_host_closed_is_dropped() {
    let mut desk = Desk::three_open();
    desk.tape(1).room = 2;
    desk.send(5, b"hello");
    assert!(!desk.sent(5));
    desk.port(1).set_open(false);
    desk.drain(1, 99);
    assert!(desk.sent(5), "the waiting buffer comes back");
    desk.send(5, b"more");
    assert!(desk.sent(5));
    assert_eq!(desk.written(1), b"he");
    desk.offer(4, 16);
    desk.arrive(1, b"in");
    assert_eq!(desk.got(4), None, "there is no input either");
    desk.port(1).set_open(true);
    desk.send(5, b"again");
    assert_eq!(desk.written(1), b"again");
    assert_eq!(desk.got(4).as_deref(), Some(&b"in"[..]));
}

#[test]
fn an_unplugged_port_is_not_announced() {
    let ports = [Port::new(Tape::new()), Port::new(Tape::new()).unplugged()];
    let mut desk = Desk::over(Console::with_ports(ports));
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), [(0, ADD, 0)]);
    assert!(!desk.port(1).is_plugged());
    // The device ignores the driver's messages about the port.
    desk.tell(1, PORT_READY, 1);
    desk.tell(1, OPEN, 1);
    assert_eq!(desk.machine.model().ignored(), 2);
    desk.send(5, b"hello");
    assert!(desk.sent(5), "output to the port is dropped");
    assert_eq!(desk.written(1), b"");
    assert_eq!(
        desk.config(4),
        [2, 0, 0, 0],
        "the configuration counts the port"
    );
    // Once it is plugged in, the port is announced.
    desk.port(1).plug();
    assert_eq!(desk.news(), [(1, ADD, 0)]);
    desk.tell(1, PORT_READY, 1);
    desk.tell(1, OPEN, 1);
    assert_eq!(desk.news(), [(1, OPEN, 1)]);
    desk.send(5, b"hello");
    assert_eq!(desk.written(1), b"hello");
}

#[test]
fn a_port_that_is_unplugged_is_removed_once() {
    let mut desk = Desk::three_open();
    desk.port(1).unplug();
    desk.port(1).unplug();
    assert_eq!(desk.news(), [(1, REMOVE, 0)]);
    assert_eq!(desk.tape(1).opened, [true, false]);
    assert!(!desk.port(1).is_ready() && !desk.port(1).is_driver_open());
    // The device sends no other message about the port.
    desk.port(1).set_open(false);
    desk.port(1).set_open(true);
    assert_eq!(desk.news(), []);
}

#[test]
fn a_port_that_was_never_announced_is_not_removed() {
    let mut desk = Desk::over(three());
    desk.port(1).unplug();
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), [(0, ADD, 0), (2, ADD, 0)]);
    // The port is plugged in and out while the driver has no control buffer.
    desk.port(1).plug();
    desk.port(1).unplug();
    assert_eq!(desk.news(), []);
    desk.port(1).plug();
    assert_eq!(desk.news(), [(1, ADD, 0)]);
}

#[test]
fn a_port_is_removed_before_it_is_added_again() {
    let mut desk = Desk::three_open();
    desk.port(1).unplug();
    desk.port(1).plug();
    desk.port(1).plug();
    // The driver's messages still concern the removed port.
    desk.tell(1, OPEN, 0);
    desk.tell(1, PORT_READY, 1);
    assert_eq!(desk.machine.model().ignored(), 2);
    assert_eq!(desk.got(2), Some(control(1, REMOVE, 0)));
    assert_eq!(desk.news(), [(1, ADD, 0)]);
    desk.tell(1, PORT_READY, 1);
    assert_eq!(desk.news(), [(1, NAME, 0), (1, OPEN, 1)]);
    // Any number of changes is reported as one removal and one addition.
    for _ in 0..3 {
        desk.port(1).unplug();
        desk.port(1).plug();
    }
    assert_eq!(desk.news(), [(1, REMOVE, 0), (1, ADD, 0)]);
}

#[test]
fn output_that_waits_for_a_port_that_is_unplugged_comes_back() {
    let mut desk = Desk::three_open();
    desk.tape(1).room = 2;
    desk.send(5, b"hello");
    desk.send(5, b"world");
    desk.port(1).unplug();
    desk.drain(1, 99);
    assert!(desk.sent(5) && desk.sent(5));
    assert_eq!(desk.written(1), b"he");
    // After it is plugged in again, the port gets only new output.
    desk.port(1).plug();
    desk.send(5, b"again");
    assert_eq!(desk.written(1), b"again");
}

#[test]
fn port_0_may_be_unplugged_too() {
    let mut desk = Desk::three_open();
    desk.port(0).unplug();
    assert_eq!(desk.news(), [(0, REMOVE, 0)]);
    desk.send(1, b"hello");
    assert!(desk.sent(1));
    assert_eq!(desk.written(0), b"");
    desk.offer(0, 16);
    desk.arrive(0, b"in");
    assert_eq!(desk.got(0), None);
    // This also holds for a driver with only this port.
    let mut desk = Desk::with(three(), Features::RING);
    desk.port(0).unplug();
    desk.send(1, b"hello");
    assert!(desk.sent(1));
    assert_eq!(desk.written(0), b"");
}

#[test]
fn a_port_that_was_unplugged_stays_so_over_a_reset() {
    let mut desk = Desk::three_open();
    desk.port(1).unplug();
    desk.port(2).unplug();
    desk.restart();
    desk.port(2).plug();
    desk.tell(0, DEVICE_READY, 1);
    assert_eq!(desk.news(), [(0, ADD, 0), (2, ADD, 0)]);
}

#[test]
fn a_stopped_queue_concerns_its_port_only() {
    let mut desk = Desk::three_open();
    for port in 0..3 {
        desk.tape(port).room = 1;
        desk.send(transmitq(port), b"hello");
    }
    let _ = desk.machine.store(reg::QUEUE_SEL, 5);
    let _ = desk.machine.store(reg::QUEUE_READY, 0);
    for port in 0..3 {
        desk.drain(port, 99);
    }
    assert_eq!(desk.written(0), b"hello");
    assert_eq!(desk.written(1), b"h");
    assert_eq!(desk.written(2), b"hello");
    // Control queues keep no buffer that could be abandoned.
    for queue in [2, 3] {
        let _ = desk.machine.store(reg::QUEUE_SEL, queue);
        let _ = desk.machine.store(reg::QUEUE_READY, 0);
    }
    desk.send(1, b"still");
    assert_eq!(desk.written(0), b"still");
}
