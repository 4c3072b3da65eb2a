//! Requests that fail: what the driver is answered and what the host is told.

use virtside::{
    DriverFault, Features, HostFault,
    device::QueueState,
    models::gpio::{Direction, Gpio, GpioError, Trigger},
    testing::{Buffer, Registers},
};
use virtside_tests::models::gpio::*;

#[test]
fn a_line_that_is_not_there_is_an_error() {
    let mut board = Board::new();
    for line in [L as u16, L as u16 + 1, 0x100, 0x7fff, 0xffff] {
        for (kind, value) in [
            (GET_DIRECTION, 0),
            (SET_DIRECTION, NONE),
            (SET_DIRECTION, OUT),
            (GET_VALUE, 0),
            (SET_VALUE, 1),
            (IRQ_TYPE, NONE),
            (IRQ_TYPE, RISING),
        ] {
            // The bank of the tests panics if it is called for such a line.
            board
                .bank()
                .abilities
                .fill(virtside::models::gpio::Abilities::all());
            board.refuses(kind, line, value);
        }
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn a_message_that_is_not_known_is_an_error() {
    let mut board = Board::new();
    for kind in [0, 7, 8, 0x100, 0x0200, 0xffff] {
        board.refuses(kind, WIRE, 1);
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn a_direction_that_is_not_known_is_an_error() {
    let mut board = Board::new();
    for direction in [3, 4, 0x100, 0x0001_0001, u32::MAX] {
        board.refuses(SET_DIRECTION, WIRE, direction);
    }
    assert_eq!(board.calls(), []);
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), 0);
}

#[test]
fn a_direction_that_the_line_cannot_have_is_an_error() {
    let mut board = Board::new();
    for (line, direction) in [(LED, IN), (BUTTON, OUT), (JUMPER, OUT)] {
        board.refuses(SET_DIRECTION, line, direction);
        assert_eq!(board.does(GET_DIRECTION, line, 0), 0);
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn a_value_that_is_neither_low_nor_high_is_an_error() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, OUT);
    board.calls();
    for value in [2, 0x100, 0x8000_0000, u32::MAX] {
        board.refuses(SET_VALUE, WIRE, value);
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn a_value_for_a_line_that_is_never_an_output_is_an_error() {
    let mut board = Board::new();
    for line in [BUTTON, JUMPER] {
        board.refuses(SET_VALUE, line, 1);
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn a_trigger_that_is_not_known_is_an_error() {
    let mut board = Board::new();
    for trigger in [5, 6, 7, 9, 12, 15, 16, 0x0001_0001, u32::MAX] {
        board.refuses(IRQ_TYPE, BUTTON, trigger);
    }
    assert_eq!(board.calls(), []);
    assert_eq!(board.engine.model().trigger(BUTTON), None);
}

#[test]
fn an_interrupt_without_the_feature_is_an_error() {
    let mut board = Board::<Bank, L>::with(Gpio::new(Bank::new()), Features::RING);
    for trigger in [NONE, RISING, LOW] {
        board.refuses(IRQ_TYPE, BUTTON, trigger);
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn an_interrupt_of_a_line_that_has_none_is_an_error() {
    let mut board = Board::new();
    board.refuses(IRQ_TYPE, JUMPER, RISING);
    board.refuses(IRQ_TYPE, LED, HIGH);
    assert_eq!(board.calls(), []);
    // Disabling an interrupt that was never enabled is no error.
    board.does(IRQ_TYPE, JUMPER, NONE);
}

#[test]
fn an_interrupt_of_an_output_is_an_error() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, OUT);
    board.calls();
    for (trigger, ..) in TYPES {
        board.refuses(IRQ_TYPE, WIRE, trigger);
    }
    assert_eq!(board.calls(), []);
}

#[test]
fn an_output_has_no_interrupt_to_disable() {
    // Linux disables the interrupt of a line that it no longer uses, whatever the line is now, and
    // ignores the answer.
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, OUT);
    board.calls();
    assert_eq!(board.does(IRQ_TYPE, WIRE, NONE), 0);
    assert_eq!(board.calls(), []);
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), OUT as u8);
}

#[test]
fn an_output_is_not_made_of_a_line_whose_interrupt_is_enabled() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, IN);
    board.does(IRQ_TYPE, WIRE, RISING);
    board.refuses(SET_DIRECTION, WIRE, OUT);
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), IN as u8);
    // The line may become an input again, and an output after its interrupt is disabled.
    board.does(SET_DIRECTION, WIRE, IN);
    board.does(IRQ_TYPE, WIRE, NONE);
    board.does(SET_DIRECTION, WIRE, OUT);
}

#[test]
fn a_trigger_that_cannot_be_changed_is_an_error() {
    // Sensing the level fails, so nothing changes.
    let mut board = Board::new();
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    board.bank().trouble = vec![Some(GpioError::Failed)];
    assert_eq!(board.ask(IRQ_TYPE, BUTTON, FALLING), (ERR, 0));
    assert_eq!(
        board.engine.model().trigger(BUTTON),
        Some(Trigger::RisingEdge)
    );
    assert_eq!(board.event(), None);
    // Arming the new trigger fails, so the interrupt is disabled.
    board.bank().trouble = vec![None, Some(GpioError::Failed)];
    assert_eq!(board.ask(IRQ_TYPE, BUTTON, FALLING), (ERR, 0));
    assert_eq!(board.engine.model().trigger(BUTTON), None);
    assert_eq!(board.heard(BUTTON), Some(INVALID));
    assert_eq!(board.host_fault(), Some(HostFault::Backend));
}

#[test]
fn a_line_that_fails_is_an_error_and_our_fault() {
    type Case = (u16, u16, u32, usize);
    let cases: [Case; 6] = [
        (SET_DIRECTION, WIRE, IN, 0),
        (SET_DIRECTION, WIRE, NONE, 0),
        (GET_VALUE, WIRE, 0, 0),
        (SET_VALUE, WIRE, 0, 0),
        // The model senses the level before it sets the interrupt up.
        (IRQ_TYPE, BUTTON, RISING, 0),
        (IRQ_TYPE, BUTTON, RISING, 1),
    ];
    for (kind, line, value, good) in cases {
        for (error, fault) in [
            (GpioError::Failed, Some(HostFault::Backend)),
            (GpioError::Unsupported, None),
        ] {
            let mut board = Board::new();
            board.does(SET_DIRECTION, WIRE, OUT);
            let mut trouble = vec![None; good];
            trouble.push(Some(error));
            board.bank().trouble = trouble;
            assert_eq!(board.ask(kind, line, value), (ERR, 0));
            assert_eq!(board.host_fault(), fault);
            assert_eq!(board.engine.model().trigger(BUTTON), None);
            assert_eq!(board.fault(0), None, "the queue works");
            board.does(GET_VALUE, WIRE, 0);
        }
    }
}

#[test]
fn a_direction_that_fails_is_not_taken() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, OUT);
    board.bank().trouble = vec![Some(GpioError::Failed)];
    assert_eq!(board.ask(SET_DIRECTION, WIRE, IN), (ERR, 0));
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), OUT as u8);
    // Setting no direction succeeds even if the line fails.
    board.bank().trouble = vec![Some(GpioError::Failed)];
    assert_eq!(board.ask(SET_DIRECTION, WIRE, NONE), (ERR, 0));
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), 0);
}

#[test]
fn a_value_that_cannot_be_driven_is_not_kept() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, OUT);
    board.does(SET_VALUE, WIRE, 0);
    board.bank().trouble = vec![Some(GpioError::Failed)];
    assert_eq!(board.ask(SET_VALUE, WIRE, 1), (ERR, 0));
    board.does(SET_DIRECTION, WIRE, IN);
    board.calls();
    board.does(SET_DIRECTION, WIRE, OUT);
    assert_eq!(
        board.calls(),
        [Call::Direction(WIRE, Direction::Output, Some(false))]
    );
}

#[test]
fn an_interrupt_that_cannot_be_switched_off_counts_as_disabled() {
    for message in [(IRQ_TYPE, NONE), (SET_DIRECTION, NONE)] {
        let mut board = Board::new();
        board.does(IRQ_TYPE, BUTTON, RISING);
        board.listen(BUTTON);
        board.bank().trouble = vec![Some(GpioError::Failed)];
        let (kind, value) = message;
        assert_eq!(board.ask(kind, BUTTON, value), (ERR, 0));
        assert_eq!(board.host_fault(), Some(HostFault::Backend));
        assert_eq!(board.engine.model().trigger(BUTTON), None);
        assert_eq!(board.heard(BUTTON), Some(INVALID));
    }
}

#[test]
fn a_reset_continues_if_a_line_fails() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, LOW);
    board.does(SET_DIRECTION, WIRE, OUT);
    board.calls();
    board.bank().trouble = vec![Some(GpioError::Failed); 3];
    board.restart();
    assert_eq!(
        board.calls(),
        [
            Call::Trigger(BUTTON, None),
            Call::Direction(BUTTON, Direction::None, None),
            Call::Direction(WIRE, Direction::None, None),
        ]
    );
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), 0);
    board.does(IRQ_TYPE, BUTTON, RISING);
    assert_eq!(
        board.engine.model().trigger(BUTTON),
        Some(Trigger::RisingEdge)
    );
}

#[test]
fn a_request_that_is_too_short_is_an_error() {
    let mut board = Board::new();
    board.set_level(WIRE, true);
    for len in 0..8 {
        board.write_request(GET_VALUE, WIRE, 0);
        let buffers = [Buffer::readable(REQUEST, len), Buffer::writable(ANSWER, 2)];
        assert_eq!(board.send(&buffers), Some(2));
        assert_eq!(board.bytes(ANSWER, 3), [ERR, 0, UNTOUCHED]);
    }
    board.write_request(GET_VALUE, WIRE, 0);
    assert_eq!(board.send(&[Buffer::writable(ANSWER, 2)]), Some(2));
    assert_eq!(board.bytes(ANSWER, 3), [ERR, 0, UNTOUCHED]);
    assert_eq!(board.calls(), []);
}

#[test]
fn what_follows_a_request_does_not_matter() {
    let mut board = Board::new();
    board.set_level(WIRE, true);
    board.write_request(GET_VALUE, WIRE, 0);
    let buffers = [Buffer::readable(REQUEST, 60), Buffer::writable(ANSWER, 2)];
    assert_eq!(board.send(&buffers), Some(2));
    assert_eq!(board.bytes(ANSWER, 3), [OK, 1, UNTOUCHED]);
}

#[test]
fn room_beyond_the_answer_is_left_alone() {
    let mut board = Board::new();
    board.set_level(WIRE, true);
    board.write_request(GET_VALUE, WIRE, 0);
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 60)];
    assert_eq!(board.send(&buffers), Some(2));
    assert_eq!(board.bytes(ANSWER, 3), [OK, 1, UNTOUCHED]);
}

#[test]
fn what_cannot_be_answered_whole_is_not_done() {
    let mut board = Board::new();
    board.write_request(SET_DIRECTION, WIRE, OUT);
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 1)];
    assert_eq!(board.send(&buffers), Some(1));
    assert_eq!(board.bytes(ANSWER, 2), [ERR, UNTOUCHED]);
    assert_eq!(board.calls(), []);
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), 0);
}

#[test]
fn a_request_without_room_for_the_status_stops_the_queue() {
    for buffers in [
        vec![Buffer::readable(REQUEST, 8)],
        vec![Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 0)],
    ] {
        let mut board = Board::new();
        board.write_request(SET_DIRECTION, WIRE, OUT);
        assert_eq!(board.send(&buffers), None);
        assert_eq!(board.fault(0), Some(DriverFault::BadRequest { head: 0 }));
        assert_eq!(board.engine.queue_state(0), QueueState::Failed);
        assert_eq!(
            board.engine.status().bits() & 0x40,
            0x40,
            "the device needs a reset"
        );
        assert_eq!(board.calls(), []);
        board.restart();
        board.does(SET_DIRECTION, WIRE, OUT);
    }
}
