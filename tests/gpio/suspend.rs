//! Suspension with eventq buffers in hand. An interrupt may never occur, so these buffers do not
//! delay the suspension.

use virtside::{Step, testing::Registers};
use virtside_tests::{
    models::gpio::*,
    reg,
    status::{LIVE, LIVE_SUSPEND, SUSPENDED},
};

/// A suspended device with the button's interrupt enabled and unmasked.
fn suspended() -> Board {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    assert_eq!(board.listen(BUTTON), Step::Blocked);
    let _ = board.engine.store(reg::STATUS, LIVE_SUSPEND);
    assert_eq!(board.engine.load(reg::STATUS), SUSPENDED);
    board
}

#[test]
fn buffers_that_wait_for_interrupts_allow_a_suspension() {
    let mut board = suspended();
    assert_eq!(board.event(), None);
    let _ = board.engine.store(reg::STATUS, LIVE_SUSPEND);
    assert_eq!(board.engine.load(reg::STATUS), LIVE);
    assert_eq!(board.settle(), Step::Blocked);
    board.set_level(BUTTON, true);
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn an_interrupt_during_suspension_is_delivered_after_resume() {
    let mut board = suspended();
    let raised = board.engine.device().notify().asserted();
    board.set_level(BUTTON, true);
    board.fire(BUTTON);
    assert_eq!(board.event(), None);
    assert_eq!(board.engine.device().notify().asserted(), raised);
    let _ = board.engine.store(reg::STATUS, LIVE_SUSPEND);
    board.settle();
    assert_eq!(board.heard(BUTTON), Some(VALID));
    assert_eq!(board.engine.device().notify().asserted(), raised + 1);
}

#[test]
fn an_eventq_that_is_reset_has_new_buffers_only() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    assert_eq!(board.listen(BUTTON), Step::Blocked);
    let _ = board.engine.store(reg::QUEUE_SEL, 1);
    let _ = board.engine.store(reg::QUEUE_RESET, 1);
    assert_eq!(board.engine.load(reg::QUEUE_RESET), 0);
    board.fire(BUTTON);
    assert_eq!(board.event(), None);
    board.events = virtside_tests::driver(board.ram, 1);
    let config = virtside_tests::config(1);
    assert_eq!(board.engine.configure(&config).refusal(), None);
    board.listen(BUTTON);
    // The edge during the suspension was latched, as if the interrupt were masked.
    assert_eq!(board.heard(BUTTON), Some(VALID));
    assert_eq!(board.event(), None);
}
