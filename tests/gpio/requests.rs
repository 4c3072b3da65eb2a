//! Requests for directions and values.

use virtside::{models::gpio::Direction, testing::Buffer};
use virtside_tests::models::gpio::*;

#[test]
fn every_line_starts_without_a_direction() {
    let mut board = Board::new();
    for line in 0..L as u16 {
        assert_eq!(board.does(GET_DIRECTION, line, 0), 0);
        assert_eq!(board.engine.model().direction(line), Direction::None);
    }
    assert_eq!(board.calls(), [], "the bank is not called");
}

#[test]
fn the_direction_that_was_set_is_the_one_that_is_got() {
    let mut board = Board::new();
    for (wanted, direction) in [
        (IN, Direction::Input),
        (OUT, Direction::Output),
        (IN, Direction::Input),
        (NONE, Direction::None),
        (OUT, Direction::Output),
        (OUT, Direction::Output),
        (NONE, Direction::None),
        (NONE, Direction::None),
    ] {
        assert_eq!(board.does(SET_DIRECTION, WIRE, wanted), 0);
        assert_eq!(board.calls(), [Call::Direction(WIRE, direction, None)]);
        assert_eq!(u32::from(board.does(GET_DIRECTION, WIRE, 0)), wanted);
        assert_eq!(board.engine.model().direction(WIRE), direction);
    }
    // The other lines have no direction.
    for line in [LED, BUTTON, JUMPER] {
        assert_eq!(board.does(GET_DIRECTION, line, 0), 0);
    }
}

#[test]
fn the_value_is_the_level_of_the_line() {
    let mut board = Board::new();
    for line in [BUTTON, JUMPER, WIRE] {
        board.does(SET_DIRECTION, line, IN);
        for high in [true, false, true] {
            board.set_level(line, high);
            board.calls();
            assert_eq!(board.does(GET_VALUE, line, 0), u8::from(high));
            assert_eq!(board.calls(), [Call::Level(line)]);
        }
    }
}

#[test]
fn the_value_of_a_line_without_a_direction_is_sensed() {
    let mut board = Board::new();
    board.set_level(JUMPER, true);
    assert_eq!(board.does(GET_VALUE, JUMPER, 0), 1);
}

#[test]
fn an_output_is_driven_at_once() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, LED, OUT);
    board.calls();
    for high in [true, false, false, true] {
        assert_eq!(board.does(SET_VALUE, LED, high.into()), 0);
        assert_eq!(board.calls(), [Call::Drive(LED, high)]);
        assert_eq!(board.does(GET_VALUE, LED, 0), u8::from(high));
        board.calls();
    }
}

#[test]
fn a_value_set_before_is_driven_once_the_line_is_an_output() {
    for high in [true, false] {
        let mut board = Board::new();
        board.does(SET_VALUE, WIRE, (!high).into());
        board.does(SET_VALUE, WIRE, high.into());
        assert_eq!(board.calls(), [], "the line is no output yet");
        board.does(SET_DIRECTION, WIRE, OUT);
        assert_eq!(
            board.calls(),
            [Call::Direction(WIRE, Direction::Output, Some(high))]
        );
    }
}

#[test]
fn a_value_set_on_an_input_waits_until_it_is_an_output() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, IN);
    board.calls();
    board.does(SET_VALUE, WIRE, 1);
    assert_eq!(board.calls(), []);
    assert_eq!(
        board.does(GET_VALUE, WIRE, 0),
        0,
        "an input reads its own level"
    );
    board.calls();
    board.does(SET_DIRECTION, WIRE, OUT);
    assert_eq!(
        board.calls(),
        [Call::Direction(WIRE, Direction::Output, Some(true))]
    );
}

#[test]
fn an_output_that_was_an_input_meanwhile_is_driven_as_before() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, OUT);
    board.does(SET_VALUE, WIRE, 1);
    board.does(SET_DIRECTION, WIRE, IN);
    board.calls();
    board.does(SET_DIRECTION, WIRE, OUT);
    assert_eq!(
        board.calls(),
        [Call::Direction(WIRE, Direction::Output, Some(true))]
    );
}

#[test]
fn a_line_without_a_direction_keeps_no_value() {
    let mut board = Board::new();
    board.does(SET_VALUE, WIRE, 1);
    board.does(SET_DIRECTION, WIRE, OUT);
    board.does(SET_DIRECTION, WIRE, NONE);
    assert_eq!(board.does(GET_DIRECTION, WIRE, 0), 0);
    board.calls();
    board.does(SET_DIRECTION, WIRE, OUT);
    assert_eq!(
        board.calls(),
        [Call::Direction(WIRE, Direction::Output, None)],
        "the value is discarded"
    );
    // A value that was never driven is discarded, too.
    board.does(SET_DIRECTION, WIRE, NONE);
    board.does(SET_VALUE, WIRE, 1);
    board.does(SET_DIRECTION, WIRE, NONE);
    board.does(SET_DIRECTION, WIRE, OUT);
    assert_eq!(
        board.calls().last(),
        Some(&Call::Direction(WIRE, Direction::Output, None))
    );
}

#[test]
fn a_reset_releases_every_line() {
    let mut board = Board::new();
    board.does(SET_VALUE, WIRE, 1);
    board.does(SET_DIRECTION, WIRE, OUT);
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.does(SET_VALUE, LED, 1);
    board.calls();
    board.restart();
    assert_eq!(
        board.calls(),
        [
            Call::Trigger(BUTTON, None),
            Call::Direction(BUTTON, Direction::None, None),
            Call::Direction(WIRE, Direction::None, None),
        ],
        "unused lines are not touched"
    );
    for line in 0..L as u16 {
        assert_eq!(board.does(GET_DIRECTION, line, 0), 0);
        assert_eq!(board.engine.model().trigger(line), None);
    }
    for line in [LED, WIRE] {
        board.does(SET_DIRECTION, line, OUT);
        assert_eq!(
            board.calls(),
            [Call::Direction(line, Direction::Output, None)]
        );
    }
}

#[test]
fn lines_do_not_affect_each_other() {
    let mut board = Board::new();
    board.does(SET_VALUE, LED, 1);
    board.does(SET_DIRECTION, WIRE, OUT);
    board.does(SET_VALUE, WIRE, 0);
    board.does(SET_DIRECTION, WIRE, NONE);
    board.calls();
    board.does(SET_DIRECTION, LED, OUT);
    assert_eq!(
        board.calls(),
        [Call::Direction(LED, Direction::Output, Some(true))]
    );
}

#[test]
fn requests_of_one_batch_are_executed_and_answered_in_order() {
    let mut board = Board::new();
    let batch = [
        (SET_VALUE, WIRE, 1),
        (SET_DIRECTION, WIRE, OUT),
        (SET_VALUE, LED, 0),
        (GET_VALUE, WIRE, 0),
        (SET_VALUE, WIRE, 0),
        (GET_VALUE, WIRE, 0),
        (SET_DIRECTION, LED, OUT),
    ];
    for (at, (kind, line, value)) in batch.into_iter().enumerate() {
        let (from, to) = (REQUEST + 16 * at as u64, ANSWER + 16 * at as u64);
        board.requests.write(from, &request(kind, line, value));
        let buffers = [Buffer::readable(from, 8), Buffer::writable(to, 2)];
        board.requests.write_chain(2 * at as u16, &buffers);
        board.requests.offer(2 * at as u16);
    }
    board.requests.publish();
    let _ = virtside::testing::Registers::kick(&mut board.engine, 0);
    board.settle();
    let heads: Vec<u32> = std::iter::from_fn(|| board.requests.take_used())
        .map(|(head, used)| {
            assert_eq!(used, 2);
            head
        })
        .collect();
    assert_eq!(heads, [0, 2, 4, 6, 8, 10, 12]);
    let values: Vec<Vec<u8>> = (0..7).map(|at| board.bytes(ANSWER + 16 * at, 2)).collect();
    let expected = [
        [OK, 0],
        [OK, 0],
        [OK, 0],
        [OK, 1],
        [OK, 0],
        [OK, 0],
        [OK, 0],
    ];
    assert_eq!(values, expected);
    assert_eq!(
        board.calls(),
        [
            Call::Direction(WIRE, Direction::Output, Some(true)),
            Call::Level(WIRE),
            Call::Drive(WIRE, false),
            Call::Level(WIRE),
            Call::Direction(LED, Direction::Output, Some(false)),
        ]
    );
}
