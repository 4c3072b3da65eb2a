//! Eventq buffers that the device returns at once: for which reasons, and with which status.

use virtside::{
    DeviceModel, DriverFault, Features, HostFault, Step,
    device::QueueState,
    features::Offer,
    models::gpio::{Abilities, Gpio, GpioError},
    testing::{Buffer, Registers},
};
use virtside_tests::{models::gpio::*, test_engine};

#[test]
fn a_buffer_for_a_disabled_interrupt_comes_back_as_invalid() {
    let mut board = Board::new();
    for line in [LED, BUTTON, WIRE, JUMPER] {
        assert_eq!(board.listen(line), Step::Idle);
        assert_eq!(board.heard(line), Some(INVALID));
    }
    // The buffer does not unmask the interrupt.
    board.does(IRQ_TYPE, BUTTON, HIGH);
    board.fire(BUTTON);
    assert_eq!(board.event(), None);
}

#[test]
fn a_buffer_for_a_line_that_is_not_there_comes_back_as_invalid() {
    let mut board = Board::new();
    for line in [L as u16, 0x100, 0xffff] {
        board.offer(0, line);
        let _ = board.engine.kick(1);
        board.settle();
        assert_eq!(board.event(), Some((0, INVALID)));
    }
}

#[test]
fn a_second_buffer_is_invalid_and_the_first_is_kept() {
    let mut board = Board::new();
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    for head in [4, 6] {
        board.offer(head, BUTTON);
        let _ = board.engine.kick(1);
        board.settle();
        assert_eq!(board.event(), Some((head, INVALID)));
    }
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn a_buffer_that_is_too_short_for_a_line_comes_back_as_invalid() {
    let mut board = Board::new();
    board.does(IRQ_TYPE, 0x0001, RISING);
    for len in [0, 1] {
        board.offer(0, BUTTON);
        board.events.write_chain(
            0,
            &[
                Buffer::readable(EVENTS, len),
                Buffer::writable(EVENTS + 8, 1),
            ],
        );
        let _ = board.engine.kick(1);
        board.settle();
        assert_eq!(board.event(), Some((0, INVALID)));
    }
}

#[test]
fn buffers_that_are_kept_leave_a_slot_for_requests() {
    let all = Features::from_bits(u128::MAX);
    let mut board: Board = Board::with_slots(Gpio::new(Bank::new()), all, 2);
    for line in [BUTTON, WIRE] {
        board.does(IRQ_TYPE, line, RISING);
    }
    for line in [BUTTON, WIRE] {
        assert_eq!(board.listen(line), Step::Blocked);
    }
    assert_eq!(board.does(GET_VALUE, BUTTON, 0), 0);
    // The device takes the other buffer after the first is given back.
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
    board.fire(WIRE);
    assert_eq!(board.heard(WIRE), Some(VALID));
}

#[test]
fn a_buffer_without_room_for_the_status_stops_the_queue() {
    let mut board = Board::new();
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.does(IRQ_TYPE, WIRE, RISING);
    board.listen(WIRE);
    board.events.write(EVENTS, &BUTTON.to_le_bytes());
    board.events.send(0, &[Buffer::readable(EVENTS, 2)]);
    let _ = board.engine.kick(1);
    board.settle();
    assert_eq!(board.fault(1), Some(DriverFault::BadRequest { head: 0 }));
    assert_eq!(board.engine.queue_state(1), QueueState::Failed);
    assert_eq!(
        board.engine.status().bits() & 0x40,
        0x40,
        "the device needs a reset"
    );
    // The device has discarded the buffers that it kept.
    board.fire(WIRE);
    assert_eq!(board.event(), None);
    assert_eq!(board.engine.model().due(), None);
    board.restart();
    board.does(IRQ_TYPE, WIRE, RISING);
    board.listen(WIRE);
    board.fire(WIRE);
    assert_eq!(board.heard(WIRE), Some(VALID));
}

#[test]
fn a_level_that_cannot_be_sensed_counts_as_inactive() {
    for (error, fault) in [
        (GpioError::Failed, Some(HostFault::Backend)),
        (GpioError::Unsupported, None),
    ] {
        let mut board = Board::new();
        board.does(IRQ_TYPE, BUTTON, HIGH);
        board.set_level(BUTTON, true);
        board.bank().trouble = vec![Some(error)];
        assert_eq!(board.listen(BUTTON), Step::Blocked);
        assert_eq!(board.event(), None);
        assert_eq!(board.host_fault(), fault);
        board.fire(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
    }
}

#[test]
fn a_kept_buffer_stays_kept_when_it_is_served_again() {
    let mut board = Board::new();
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    // The driver overwrites the line number; the device has read it once.
    board.events.write(EVENTS + 0x20, &LED.to_le_bytes());
    board.engine.backend_ready(1);
    assert_eq!(board.settle(), Step::Blocked);
    assert_eq!(board.event(), None);
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn kept_buffers_of_all_lines_leave_room_for_requests() {
    // One slot more than lines with interrupts.
    use virtside::models::gpio::{Abilities, Gpio};
    use virtside_tests::{config, driver, rings::settle, test_engine};
    let mut bank = Bank::new();
    bank.abilities = [Abilities::INPUT | Abilities::INTERRUPT; L];
    let (mut device, ram) = test_engine(Gpio::<_, L>::new(bank), L + 1);
    let features = virtside_tests::split_offer(&mut device);
    assert!(device.bring_up(features, &[config(0), config(1)]));
    let mut board = Board {
        requests: driver(ram, 0),
        events: driver(ram, 1),
        engine: device,
        ram,
    };
    for line in 0..L as u16 {
        board.does(IRQ_TYPE, line, RISING);
        board.listen(line);
    }
    // More buffers than the device has room for, in one batch.
    for head in [8, 10, 12] {
        board.offer(head, BUTTON);
    }
    let _ = board.engine.kick(1);
    settle(&mut board.engine);
    assert_eq!(
        [board.event(), board.event(), board.event()],
        [Some((8, INVALID)), Some((10, INVALID)), Some((12, INVALID)),]
    );
    for line in 0..L as u16 {
        assert_eq!(board.does(GET_VALUE, line, 0), 0);
        board.does(IRQ_TYPE, line, NONE);
        assert_eq!(board.heard(line), Some(INVALID));
    }
}

#[test]
fn a_line_without_interrupts_delays_no_other() {
    let asking = Offer::AS_IS.with(Features::IN_ORDER);
    let mut mute = Bank::new();
    mute.abilities = [Abilities::INPUT | Abilities::OUTPUT; L];
    for (bank, offered) in [(Bank::new(), false), (mute, true)] {
        let (engine, _) = test_engine(Gpio::<_, L>::new(bank), 8);
        let mut engine = engine.with_offer(asking);
        assert_eq!(engine.offer().contains(Features::IN_ORDER), offered);
        assert_eq!(engine.offered(), engine.offer());
        let all = engine.offer() | Features::IN_ORDER;
        assert_eq!(engine.negotiate(all), offered);
    }
}
