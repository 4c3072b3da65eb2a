//! Pins of embedded-hal as gpio lines.

use embedded_hal_mock::eh1::{
    MockError,
    digital::{Mock, State, Transaction},
};
use std::io::ErrorKind;
use virtside::{
    HostFault,
    models::gpio::{
        Abilities, Direction, Gpio, GpioError, GpioLine, GpioLines, InputLine, OpenDrainLine,
        OutputLine, StatefulLine,
    },
    testing::Registers,
};
use virtside_tests::models::gpio::*;

fn get(high: bool) -> Transaction {
    Transaction::get(state(high))
}

fn set(high: bool) -> Transaction {
    Transaction::set(state(high))
}

fn state(high: bool) -> State {
    if high { State::High } else { State::Low }
}

fn error() -> MockError {
    MockError::Io(ErrorKind::NotConnected)
}

/// A board of one line, over a mock pin that expects these transactions.
fn board<T: GpioLine>(pin: &Mock, line: impl FnOnce(Mock) -> T) -> Board<[T; 1], 1> {
    Board::over(Gpio::new([line(pin.clone())]))
}

#[test]
fn an_input_pin_is_an_input() {
    let mut pin = Mock::new(&[get(true), get(false), get(true).with_error(error())]);
    let mut board = board(&pin, InputLine::new);
    assert!(!board.engine.offered().contains(IRQ));
    board.does(SET_DIRECTION, 0, IN);
    board.refuses(SET_DIRECTION, 0, OUT);
    board.refuses(SET_VALUE, 0, 1);
    assert_eq!(board.does(GET_VALUE, 0, 0), 1);
    assert_eq!(board.does(GET_VALUE, 0, 0), 0);
    assert_eq!(board.ask(GET_VALUE, 0, 0), (ERR, 0));
    assert_eq!(board.host_fault(), Some(HostFault::Backend));
    board.does(SET_DIRECTION, 0, NONE);
    pin.done();
}

#[test]
fn an_output_pin_is_driven_and_remembered() {
    let mut pin = Mock::new(&[
        set(true),
        set(false),
        set(true).with_error(error()),
        set(true),
    ]);
    let mut board = board(&pin, OutputLine::new);
    board.refuses(GET_VALUE, 0, 0);
    board.refuses(SET_DIRECTION, 0, IN);
    board.does(SET_VALUE, 0, 1);
    board.does(SET_DIRECTION, 0, OUT);
    assert_eq!(board.does(GET_VALUE, 0, 0), 1);
    board.does(SET_VALUE, 0, 0);
    assert_eq!(board.does(GET_VALUE, 0, 0), 0);
    assert_eq!(board.ask(SET_VALUE, 0, 1), (ERR, 0));
    assert_eq!(board.host_fault(), Some(HostFault::Backend));
    assert_eq!(board.does(GET_VALUE, 0, 0), 0, "the pin was not driven");
    board.does(SET_DIRECTION, 0, NONE);
    board.refuses(GET_VALUE, 0, 0);
    // Without a new value the pin keeps its level.
    board.does(SET_DIRECTION, 0, OUT);
    board.refuses(GET_VALUE, 0, 0);
    board.does(SET_VALUE, 0, 1);
    pin.done();
}

#[test]
fn a_stateful_pin_says_how_it_is_driven() {
    let mut pin = Mock::new(&[
        Transaction::get_state(State::High),
        set(false),
        Transaction::get_state(State::Low),
        set(true),
        Transaction::get_state(State::High).with_error(error()),
        set(true).with_error(error()),
    ]);
    let mut board = board(&pin, StatefulLine::new);
    assert_eq!(board.does(GET_VALUE, 0, 0), 1, "the value from before");
    board.refuses(SET_DIRECTION, 0, IN);
    board.does(SET_VALUE, 0, 0);
    board.does(SET_DIRECTION, 0, OUT);
    assert_eq!(board.does(GET_VALUE, 0, 0), 0);
    board.does(SET_VALUE, 0, 1);
    assert_eq!(board.ask(GET_VALUE, 0, 0), (ERR, 0));
    assert_eq!(board.host_fault(), Some(HostFault::Backend));
    board.does(SET_DIRECTION, 0, NONE);
    board.does(SET_DIRECTION, 0, OUT);
    assert_eq!(board.ask(SET_VALUE, 0, 1), (ERR, 0));
    pin.done();
}

#[test]
fn an_open_drain_is_released_to_be_an_input() {
    let mut pin = Mock::new(&[
        set(true),
        get(false),
        set(false),
        get(false),
        set(true),
        set(true).with_error(error()),
        set(true),
        get(true).with_error(error()),
    ]);
    let mut board = board(&pin, OpenDrainLine::new);
    board.does(SET_DIRECTION, 0, IN);
    assert_eq!(
        board.does(GET_VALUE, 0, 0),
        0,
        "another device pulls the line down"
    );
    board.does(SET_VALUE, 0, 0);
    board.does(SET_DIRECTION, 0, OUT);
    assert_eq!(board.does(GET_VALUE, 0, 0), 0);
    board.does(SET_DIRECTION, 0, NONE);
    assert_eq!(board.ask(SET_DIRECTION, 0, IN), (ERR, 0));
    assert_eq!(board.host_fault(), Some(HostFault::Backend));
    // Without a value the pin is not driven.
    board.does(SET_DIRECTION, 0, OUT);
    board.does(SET_VALUE, 0, 1);
    assert_eq!(board.ask(GET_VALUE, 0, 0), (ERR, 0));
    pin.done();
}

#[test]
fn pins_have_interrupts_if_the_host_adds_them() {
    let mut pin = Mock::new(&[get(false), get(true)]);
    let mut input = board(&pin, |pin| InputLine::new(pin).with_interrupt());
    assert!(input.engine.offered().contains(IRQ));
    input.does(IRQ_TYPE, 0, RISING);
    input.listen(0);
    assert!(input.engine.model_mut().sense(0).unwrap().is_some());
    input.settle();
    assert_eq!(input.heard(0), Some(VALID));
    pin.done();

    let mut pin = Mock::new(&[get(true), get(true), get(false)]);
    let mut drain = board(&pin, |pin| OpenDrainLine::new(pin).with_interrupt());
    drain.does(IRQ_TYPE, 0, LOW);
    drain.listen(0);
    assert!(drain.engine.model_mut().sense(0).unwrap().is_some());
    drain.settle();
    assert_eq!(drain.heard(0), Some(VALID));
    pin.done();

    let mut pin = Mock::new(&[]);
    assert!(!board(&pin, InputLine::new).engine.offered().contains(IRQ));
    assert!(
        !board(&pin, OpenDrainLine::new)
            .engine
            .offered()
            .contains(IRQ)
    );
    pin.done();
}

#[test]
fn pins_of_all_kinds_share_a_bank() {
    let mut pins = [
        Mock::new(&[set(true)]),
        Mock::new(&[get(false), get(true)]),
        Mock::new(&[Transaction::get_state(State::Low)]),
        Mock::new(&[set(true), get(true)]),
    ];
    {
        let mut led = OutputLine::new(pins[0].clone());
        let mut button = InputLine::new(pins[1].clone()).with_interrupt();
        let mut relay = StatefulLine::new(pins[2].clone());
        let mut wire = OpenDrainLine::new(pins[3].clone());
        let lines: [&mut dyn GpioLine; 4] = [&mut led, &mut button, &mut relay, &mut wire];
        let mut board: Board<_, 4> = Board::over(Gpio::new(lines));
        board.does(SET_DIRECTION, 0, OUT);
        board.does(SET_VALUE, 0, 1);
        board.does(SET_DIRECTION, 1, IN);
        board.does(IRQ_TYPE, 1, BOTH);
        assert_eq!(board.does(GET_VALUE, 1, 0), 1);
        assert_eq!(board.does(GET_VALUE, 2, 0), 0);
        board.does(SET_DIRECTION, 3, IN);
        assert_eq!(board.does(GET_VALUE, 3, 0), 1);
        board.refuses(GET_DIRECTION, 4, 0);
        board.listen(1);
        board.fire(1);
        assert_eq!(board.heard(1), Some(VALID));
    }
    for pin in &mut pins {
        pin.done();
    }
}

#[test]
fn an_array_is_a_bank_of_as_many_lines() {
    let mut pin = Mock::new(&[]);
    let mut bank = [InputLine::new(pin.clone())];
    assert_eq!(bank.count(), 1);
    assert_eq!(GpioLines::abilities(&bank, 0), Abilities::INPUT);
    for line in [1, 0xffff] {
        assert_eq!(GpioLines::abilities(&bank, line), Abilities::empty());
        let missing = Err(GpioError::Unsupported);
        assert_eq!(
            GpioLines::level(&mut bank, line),
            Err(GpioError::Unsupported)
        );
        assert_eq!(GpioLines::drive(&mut bank, line, true), missing);
        assert_eq!(GpioLines::set_trigger(&mut bank, line, None), missing);
        assert_eq!(
            GpioLines::set_direction(&mut bank, line, Direction::Input, None),
            missing
        );
    }
    assert_eq!(
        GpioLines::drive(&mut bank, 0, true),
        Err(GpioError::Unsupported)
    );
    pin.done();
}
