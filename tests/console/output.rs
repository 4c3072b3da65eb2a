//! Output: bytes from the driver to the port.

use virtside::{
    HostFault, Step,
    models::ConsoleError,
    testing::{Buffer, Registers},
};
use virtside_tests::{models::console::*, reg};

#[test]
fn output_reaches_the_port_and_the_buffer_comes_back() {
    let mut rig = ConsoleRig::new();
    let line = rig.machine.device().notify().asserted();
    rig.send(1, b"hello");
    assert!(rig.sent(1));
    assert!(!rig.sent(1));
    assert_eq!(rig.written(0), b"hello");
    assert_eq!(rig.machine.device().notify().asserted(), line + 1);
}

#[test]
fn output_of_several_buffers_keeps_its_order() {
    let mut rig = ConsoleRig::new();
    for (head, text) in [(3, b"one "), (1, b"two "), (2, b"tri ")] {
        let at = ConsoleRig::<1>::at(1, head);
        rig.queues[1].write(at, text);
        rig.queues[1].write_chain(head, &[Buffer::readable(at, 4)]);
        rig.queues[1].offer(head);
    }
    rig.queues[1].publish();
    rig.kick(1);
    assert_eq!(rig.written(0), b"one two tri ");
    for head in [3, 1, 2] {
        assert_eq!(rig.queues[1].take_used(), Some((head, 0)));
    }
}

#[test]
fn a_long_buffer_is_written_whole() {
    let bytes: Vec<u8> = (0..1000).map(|at| (at * 7) as u8).collect();
    let mut rig = ConsoleRig::new();
    rig.send(1, &bytes);
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), bytes);
}

#[test]
fn a_port_that_takes_little_at_a_time_gets_it_all() {
    let bytes: Vec<u8> = (0..200).collect();
    let mut rig = ConsoleRig::new();
    rig.io(0).piece = 7;
    rig.send(1, &bytes);
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), bytes);
}

#[test]
fn an_empty_buffer_comes_back() {
    let mut rig = ConsoleRig::new();
    rig.send(1, b"");
    assert!(rig.sent(1));
    // A full port does not keep it either.
    rig.io(0).room = 0;
    rig.send(1, b"");
    assert!(rig.sent(1));
}

#[test]
fn the_writable_part_of_an_output_buffer_is_left_alone() {
    let mut rig = ConsoleRig::new();
    let at = ConsoleRig::<1>::at(1, 0);
    rig.queues[1].write(at, b"hello");
    rig.queues[1].write(at + 16, &[UNTOUCHED; 16]);
    let buffers = [Buffer::readable(at, 5), Buffer::writable(at + 16, 16)];
    rig.queues[1].send(0, &buffers);
    rig.kick(1);
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"hello");
    assert_eq!(rig.bytes(at + 16, 16), [UNTOUCHED; 16]);
    rig.queues[1].send(0, &[Buffer::writable(at, 16)]);
    rig.kick(1);
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"");
}

#[test]
fn output_that_waits_for_the_port_is_not_written_twice() {
    let bytes: Vec<u8> = (0..200).collect();
    let mut rig = ConsoleRig::new();
    rig.io(0).room = 0;
    assert_eq!(rig.send(1, &bytes), Step::Blocked);
    assert_eq!(rig.written(0), []);
    let mut done = 0;
    for room in [1, 63, 64, 2, 69] {
        assert_eq!(rig.drain(0, room), Step::Blocked);
        assert_eq!(rig.written(0), bytes[done..done + room]);
        assert!(!rig.sent(1));
        done += room;
    }
    rig.drain(0, 1000);
    assert_eq!(rig.written(0), bytes[done..]);
    assert!(rig.sent(1));
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn a_port_that_is_asked_again_too_early_loses_nothing() {
    let mut rig = ConsoleRig::new();
    rig.io(0).room = 2;
    rig.send(1, b"hello");
    for _ in 0..3 {
        rig.machine.backend_ready(1);
        assert_eq!(rig.settle(), Step::Blocked);
    }
    rig.drain(0, 9);
    assert_eq!(rig.written(0), b"hello");
}

#[test]
fn later_buffers_wait_behind_the_one_that_waits() {
    let mut rig = ConsoleRig::new();
    rig.io(0).room = 2;
    for text in [&b"one "[..], b"two ", b"three"] {
        assert_eq!(rig.send(1, text), Step::Blocked);
    }
    assert_eq!(rig.written(0), b"on");
    rig.io(0).room = 4;
    // A kick does not let later buffers overtake.
    rig.kick(1);
    assert_eq!(rig.written(0), b"");
    assert_eq!(rig.drain(0, 4), Step::Blocked);
    assert_eq!(rig.written(0), b"e tw");
    assert!(rig.sent(1));
    assert!(!rig.sent(1));
    // Input continues meanwhile.
    rig.offer(0, 16);
    rig.arrive(0, b"in");
    assert_eq!(rig.got(0).as_deref(), Some(&b"in"[..]));
    rig.drain(0, 99);
    assert_eq!(rig.written(0), b"o three");
    assert!(rig.sent(1) && rig.sent(1));
}

#[test]
fn a_port_that_takes_nothing_is_not_ready() {
    // The port reports that it is not ready, or takes no bytes.
    let mut rig = ConsoleRig::new();
    rig.io(0).piece = 0;
    assert_eq!(rig.send(1, b"hello"), Step::Blocked);
    assert!(!rig.sent(1));
    rig.io(0).piece = 9;
    rig.machine.backend_ready(1);
    rig.settle();
    assert_eq!(rig.written(0), b"hello");
}

#[test]
fn a_port_failure_is_a_host_fault_and_returns_the_buffer() {
    let mut rig = ConsoleRig::new();
    rig.io(0).piece = 3;
    rig.io(0).trouble = vec![None, Some(ConsoleError::Failed)];
    rig.send(1, b"hello");
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"hel", "the rest is dropped");
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    assert_eq!(rig.machine.driver_fault(1), None);
    rig.send(1, b"again");
    assert_eq!(rig.written(0), b"again");
}

#[test]
fn a_stopped_queue_abandons_waiting_output() {
    let mut rig = ConsoleRig::new();
    rig.io(0).room = 2;
    rig.send(1, b"hello");
    let _ = rig.machine.store(reg::QUEUE_SEL, 1);
    let _ = rig.machine.store(reg::QUEUE_READY, 0);
    rig.drain(0, 99);
    assert_eq!(rig.written(0), b"he");
    assert_eq!(rig.queues[1].used_idx(), 0);
}

#[test]
fn a_reset_discards_the_progress_of_a_buffer() {
    let mut rig = ConsoleRig::new();
    rig.io(0).room = 2;
    rig.send(1, b"hello");
    rig.restart();
    rig.drain(0, 99);
    assert_eq!(rig.written(0), b"he");
    rig.send(1, b"again");
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"again");
}
