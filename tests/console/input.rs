//! Input: bytes from the port to the driver.

use virtside::{
    Features, HostFault, Step,
    models::{Console, ConsoleError},
    testing::Buffer,
};
use virtside_tests::{models::console::*, reg};

#[test]
fn input_goes_into_the_buffer_that_waits_for_it() {
    let mut rig = ConsoleRig::new();
    assert_eq!(rig.offer(0, 64), Step::Blocked);
    assert_eq!(rig.got(0), None, "an empty buffer returns no input");
    let line = rig.machine.device().notify().asserted();
    rig.arrive(0, b"hello");
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
    assert_eq!(rig.got(0), None);
    assert_eq!(rig.machine.device().notify().asserted(), line + 1);
}

#[test]
fn input_waits_for_a_buffer() {
    let mut rig = ConsoleRig::new();
    rig.arrive(0, b"hel");
    rig.arrive(0, b"lo");
    rig.offer(0, 64);
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn input_fills_one_buffer_after_the_other() {
    let mut rig = ConsoleRig::new();
    for room in [4, 3, 10] {
        rig.offer(0, room);
    }
    rig.arrive(0, b"0123456789");
    for part in [&b"0123"[..], b"456", b"789"] {
        assert_eq!(rig.got(0).as_deref(), Some(part));
    }
}

#[test]
fn buffers_without_input_stay_with_the_driver() {
    let mut rig = ConsoleRig::new();
    // The driver offers more buffers than there are slots. The device takes none of them.
    for _ in 0..8 {
        assert_eq!(rig.offer(0, 16), Step::Blocked);
    }
    assert_eq!(rig.send(1, b"output goes on"), Step::Blocked);
    assert!(rig.sent(1));
    assert_eq!(rig.written(0), b"output goes on");
    rig.arrive(0, b"x");
    assert_eq!(rig.got(0).as_deref(), Some(&b"x"[..]));
    assert_eq!(rig.got(0), None);
}

#[test]
fn a_port_that_gives_little_at_a_time_fills_the_buffer() {
    let mut rig = ConsoleRig::new();
    rig.io(0).piece = 3;
    rig.offer(0, 64);
    rig.arrive(0, b"0123456789");
    assert_eq!(rig.got(0).as_deref(), Some(&b"0123456789"[..]));
}

#[test]
fn a_long_input_is_cut_at_the_limit() {
    let bytes: Vec<u8> = (0..1000).map(|at| at as u8).collect();
    for limit in [1, 63, 64, 65, 200] {
        let console = Console::new(RecordingPort::new()).with_limit(limit);
        let mut rig: ConsoleRig = ConsoleRig::over(console);
        rig.io(0).input.extend(&bytes);
        rig.offer(0, 1000);
        assert_eq!(rig.got(0).as_deref(), Some(&bytes[..limit as usize]));
        rig.offer(0, 1000);
        assert_eq!(
            rig.got(0).as_deref(),
            Some(&bytes[limit as usize..2 * limit as usize])
        );
    }
    // A limit of 0 is a limit of one byte.
    let mut rig: ConsoleRig = ConsoleRig::over(Console::new(RecordingPort::new()).with_limit(0));
    rig.io(0).input.extend(&bytes);
    rig.offer(0, 1000);
    assert_eq!(rig.got(0).as_deref(), Some(&bytes[..1]));
}

#[test]
fn by_default_a_buffer_gets_up_to_4096_bytes() {
    let mut rig = ConsoleRig::new();
    rig.io(0).input.extend([7; 5000]);
    rig.queues[0].send(0, &[Buffer::writable(virtside_tests::DATA, 5000)]);
    rig.kick(0);
    assert_eq!(rig.queues[0].take_used(), Some((0, 4096)));
}

#[test]
fn a_buffer_without_room_comes_back_and_no_input_is_lost() {
    let mut rig = ConsoleRig::new();
    rig.offer(0, 0);
    assert_eq!(rig.got(0), None);
    rig.arrive(0, b"hello");
    assert_eq!(rig.got(0).as_deref(), Some(&b""[..]));
    rig.offer(0, 16);
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn the_readable_part_of_an_input_buffer_is_left_alone() {
    let mut rig = ConsoleRig::new();
    let at = ConsoleRig::<1>::at(0, 0);
    rig.queues[0].write(at, &[UNTOUCHED; 64]);
    let buffers = [Buffer::readable(at + 32, 16), Buffer::writable(at, 16)];
    rig.queues[0].send(0, &buffers);
    rig.kick(0);
    rig.arrive(0, b"hello");
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
    assert_eq!(rig.bytes(at + 32, 16), [UNTOUCHED; 16]);
    // A chain with only a readable part has no room for input.
    rig.queues[0].send(0, &[Buffer::readable(at, 16)]);
    rig.kick(0);
    rig.arrive(0, b"x");
    assert_eq!(rig.queues[0].take_used(), Some((0, 0)));
    assert_eq!(rig.io(0).input, b"x");
}

#[test]
fn a_port_that_read_nothing_keeps_one_buffer() {
    for trouble in [Some(ConsoleError::NotReady), None] {
        let mut rig = ConsoleRig::new();
        rig.io(0).claims = Some(true);
        rig.io(0).trouble.extend(trouble.map(Some));
        assert_eq!(rig.offer(0, 16), Step::Blocked);
        assert_eq!(rig.offer(0, 16), Step::Blocked);
        assert_eq!(rig.offer(0, 16), Step::Blocked);
        assert_eq!(rig.got(0), None);
        // Output continues meanwhile.
        rig.send(1, b"output");
        assert!(rig.sent(1));
        assert_eq!(rig.host_fault(), None);
        rig.io(0).claims = None;
        rig.arrive(0, b"hello");
        assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
        assert_eq!(rig.got(0), None);
        rig.arrive(0, b"again");
        assert_eq!(rig.got(0).as_deref(), Some(&b"again"[..]));
    }
}

#[test]
fn a_port_failure_is_a_host_fault_and_the_buffer_waits() {
    let mut rig = ConsoleRig::new();
    rig.offer(0, 16);
    rig.io(0).trouble = vec![Some(ConsoleError::Failed)];
    assert_eq!(rig.arrive(0, b"hello"), Step::Blocked);
    assert_eq!(rig.got(0), None);
    assert_eq!(rig.host_fault(), Some(HostFault::Backend));
    assert_eq!(rig.machine.driver_fault(0), None);
    rig.machine.backend_ready(0);
    rig.settle();
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
    assert_eq!(rig.host_fault(), None);
}

#[test]
fn input_before_a_failure_is_delivered() {
    for (trouble, fault) in [
        (ConsoleError::Failed, Some(HostFault::Backend)),
        (ConsoleError::NotReady, None),
    ] {
        let mut rig = ConsoleRig::new();
        rig.io(0).piece = 3;
        rig.io(0).trouble = vec![None, Some(trouble)];
        rig.offer(0, 16);
        rig.offer(0, 16);
        rig.arrive(0, b"hello");
        assert_eq!(rig.got(0).as_deref(), Some(&b"hel"[..]));
        assert_eq!(rig.got(0).as_deref(), Some(&b"lo"[..]));
        assert_eq!(rig.host_fault(), fault);
    }
}

#[test]
fn a_port_that_reports_no_input_is_not_read() {
    let mut rig = ConsoleRig::new();
    rig.io(0).claims = Some(false);
    rig.offer(0, 16);
    assert_eq!(rig.arrive(0, b"hello"), Step::Blocked);
    assert_eq!(rig.got(0), None);
}

#[test]
fn a_stopped_queue_abandons_its_buffer() {
    use virtside::testing::Registers;
    let mut rig = ConsoleRig::new();
    rig.io(0).claims = Some(true);
    rig.offer(0, 16);
    let _ = rig.machine.store(reg::QUEUE_SEL, 0);
    let _ = rig.machine.store(reg::QUEUE_READY, 0);
    rig.io(0).claims = None;
    rig.arrive(0, b"hello");
    assert_eq!(rig.queues[0].used_idx(), 0);
    assert_eq!(rig.io(0).input, b"hello", "the input is kept");
    rig.restart();
    rig.offer(0, 16);
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_reset_abandons_a_waiting_buffer() {
    let mut rig = ConsoleRig::new();
    rig.io(0).claims = Some(true);
    rig.offer(0, 16);
    rig.restart();
    rig.io(0).claims = None;
    rig.arrive(0, b"hello");
    rig.offer(0, 16);
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
}

#[test]
fn without_multiport_port_0_is_open() {
    let mut rig = ConsoleRig::with(three(), Features::RING);
    rig.offer(0, 16);
    rig.arrive(0, b"hello");
    assert_eq!(rig.got(0).as_deref(), Some(&b"hello"[..]));
    rig.send(1, b"output");
    assert_eq!(rig.written(0), b"output");
}
