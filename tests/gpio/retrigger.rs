//! A second trigger for an interrupt that is already enabled.
//!
//! A driver must disable the interrupt first, but Linux's `irq_set_type` does not, and ignores the
//! answer: if the device rejected the request, the line would keep the wrong trigger. A kept buffer
//! stays kept.

use virtside::models::gpio::Trigger;
use virtside_tests::models::gpio::*;

/// All pairs of two triggers, and the model's trigger for the second.
fn pairs() -> impl Iterator<Item = (u32, u32, Trigger)> {
    TYPES.into_iter().flat_map(|(first, ..)| {
        let others = TYPES.into_iter().filter(move |other| other.0 != first);
        others.map(move |(second, trigger, _)| (first, second, trigger))
    })
}

/// Enables the button's interrupt, at a level at which `next` is not active.
fn enabled(kind: u32, next: u32) -> Board {
    let mut board = Board::new();
    board.set_level(BUTTON, next == LOW);
    board.does(IRQ_TYPE, BUTTON, kind);
    board.calls();
    board
}

#[test]
fn the_second_trigger_is_the_one_that_counts() {
    for (first, second, trigger) in pairs() {
        let mut board = enabled(first, second);
        board.does(IRQ_TYPE, BUTTON, second);
        assert_eq!(
            board.calls(),
            [Call::Level(BUTTON), Call::Trigger(BUTTON, Some(trigger))]
        );
        assert_eq!(board.engine.model().trigger(BUTTON), Some(trigger));
        // Repeating the request changes nothing.
        board.does(IRQ_TYPE, BUTTON, second);
        assert_eq!(board.calls(), []);
        board.listen(BUTTON);
        assert_eq!(board.event(), None);
        board.fire(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
    }
}

#[test]
fn a_kept_buffer_waits_for_the_second_trigger() {
    for (first, second, _) in pairs() {
        let mut board = Board::new();
        // The line is at neither trigger's level when the buffer arrives.
        let active = first == LOW;
        board.set_level(BUTTON, active);
        board.does(IRQ_TYPE, BUTTON, first);
        board.listen(BUTTON);
        assert_eq!(board.event(), None);
        board.does(IRQ_TYPE, BUTTON, second);
        let there = (second == HIGH && active) || (second == LOW && !active);
        if !there {
            assert_eq!(board.event(), None);
            board.fire(BUTTON);
        }
        assert_eq!(board.heard(BUTTON), Some(VALID));
        assert_eq!(board.event(), None, "the buffer comes back once");
    }
}

#[test]
fn an_edge_before_the_second_trigger_does_not_count() {
    for (first, second, _) in pairs() {
        let mut board = enabled(first, second);
        board.fire(BUTTON);
        board.does(IRQ_TYPE, BUTTON, second);
        board.listen(BUTTON);
        assert_eq!(board.event(), None);
    }
}

#[test]
fn levels_are_sensed_from_the_change_on() {
    let mut board = Board::new();
    board.set_level(BUTTON, false);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    board.set_level(BUTTON, true);
    // The rise was not sensed before the change; the fall after it is sensed.
    board.does(IRQ_TYPE, BUTTON, FALLING);
    assert_eq!(board.engine.model_mut().sense(BUTTON), Ok(None));
    board.set_level(BUTTON, false);
    assert!(
        board
            .engine
            .model_mut()
            .sense(BUTTON)
            .is_ok_and(|token| token.is_some())
    );
    board.settle();
    assert_eq!(board.heard(BUTTON), Some(VALID));
}
