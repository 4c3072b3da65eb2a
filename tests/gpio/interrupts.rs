//! Interrupts from the line to the driver: enabled over the requestq, unmasked over the eventq.

use virtside::{
    DeviceModel, Step,
    models::gpio::{Direction, GpioError, Trigger},
    testing::{Buffer, Registers},
};
use virtside_tests::{models::gpio::*, reg};

fn edges() -> impl Iterator<Item = u32> {
    TYPES.into_iter().filter(|kind| kind.2).map(|kind| kind.0)
}

/// The level triggers, each with the level that it waits for.
fn levels() -> impl Iterator<Item = (u32, bool)> {
    [(HIGH, true), (LOW, false)].into_iter()
}

/// Enables the button's interrupt while its trigger is not active.
fn enabled(kind: u32) -> Board {
    let mut board = Board::new();
    board.set_level(BUTTON, kind == LOW);
    board.does(IRQ_TYPE, BUTTON, kind);
    board
}

#[test]
fn the_bank_is_told_what_the_driver_waits_for() {
    for (kind, trigger, _) in TYPES {
        let mut board = Board::new();
        assert_eq!(board.does(IRQ_TYPE, BUTTON, kind), 0);
        assert_eq!(
            board.calls(),
            [Call::Level(BUTTON), Call::Trigger(BUTTON, Some(trigger))]
        );
        assert_eq!(board.engine.model().trigger(BUTTON), Some(trigger));
        assert_eq!(board.does(IRQ_TYPE, BUTTON, NONE), 0);
        assert_eq!(board.calls(), [Call::Trigger(BUTTON, None)]);
        assert_eq!(board.engine.model().trigger(BUTTON), None);
        assert_eq!(board.does(IRQ_TYPE, BUTTON, NONE), 0);
        assert_eq!(board.calls(), [], "the interrupt is disabled already");
    }
}

#[test]
fn an_interrupt_that_is_enabled_and_unmasked_is_delivered() {
    for (kind, ..) in TYPES {
        let mut board = enabled(kind);
        assert_eq!(board.listen(BUTTON), Step::Blocked, "the buffer is kept");
        assert_eq!(board.event(), None);
        let line = board.engine.device().notify().asserted();
        board.fire(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
        assert_eq!(board.event(), None);
        assert_eq!(board.engine.device().notify().asserted(), line + 1);
        assert_eq!(board.settle(), Step::Idle);
    }
}

#[test]
fn the_host_gets_the_buffer_to_complete_from_the_handler() {
    let mut board = enabled(RISING);
    assert_eq!(
        board.engine.model_mut().interrupt(BUTTON),
        None,
        "the interrupt is masked"
    );
    board.does(IRQ_TYPE, BUTTON, NONE);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    let token = board
        .engine
        .model_mut()
        .interrupt(BUTTON)
        .expect("the interrupt is unmasked");
    assert_eq!(board.engine.model().due(), Some(token));
    assert_eq!(board.engine.complete(token), Ok(()));
    assert_eq!(board.heard(BUTTON), Some(VALID));
    assert_eq!(board.engine.model().due(), None);
}

#[test]
fn an_interrupt_that_is_not_enabled_is_not_delivered() {
    let mut board = Board::new();
    board.fire(BUTTON);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    assert_eq!(
        board.event(),
        None,
        "an edge before the enable does not count"
    );
    // Neither another line's interrupt nor an unknown line's has an effect.
    for line in [WIRE, JUMPER, L as u16, 0xffff] {
        board.fire(line);
        assert_eq!(board.event(), None);
    }
}

#[test]
fn an_interrupt_that_is_masked_is_not_delivered() {
    for (kind, ..) in TYPES {
        let mut board = enabled(kind);
        board.fire(BUTTON);
        assert_eq!(board.event(), None);
        assert_eq!(board.events.used_idx(), 0);
    }
}

#[test]
fn an_edge_while_masked_is_latched_and_delivered_once() {
    for kind in edges() {
        let mut board = enabled(kind);
        // Any number of edges count as one.
        board.fire(BUTTON);
        board.fire(BUTTON);
        board.listen(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
        board.listen(BUTTON);
        assert_eq!(board.event(), None);
        // After the delivery the interrupt is masked until the next buffer.
        board.fire(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
        board.fire(BUTTON);
        assert_eq!(board.event(), None);
        board.listen(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
    }
}

#[test]
fn a_level_while_masked_is_not_latched() {
    for (kind, active) in levels() {
        let mut board = enabled(kind);
        board.set_level(BUTTON, active);
        board.fire(BUTTON);
        board.set_level(BUTTON, !active);
        board.listen(BUTTON);
        assert_eq!(board.event(), None, "the level ended before the unmask");
        board.fire(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID));
    }
}

#[test]
fn a_level_that_is_still_active_is_delivered_at_the_unmask() {
    for (kind, active) in levels() {
        let mut board = enabled(kind);
        board.set_level(BUTTON, active);
        for _ in 0..3 {
            board.listen(BUTTON);
            assert_eq!(board.heard(BUTTON), Some(VALID));
        }
        board.set_level(BUTTON, !active);
        board.listen(BUTTON);
        assert_eq!(board.event(), None);
    }
}

#[test]
fn disabling_gives_the_buffer_back_as_invalid() {
    for (kind, ..) in TYPES {
        for message in [(IRQ_TYPE, NONE), (SET_DIRECTION, NONE)] {
            let mut board = enabled(kind);
            board.listen(BUTTON);
            let line = board.engine.device().notify().asserted();
            board.does(message.0, BUTTON, message.1);
            assert_eq!(board.heard(BUTTON), Some(INVALID));
            assert_eq!(board.event(), None);
            assert!(board.engine.device().notify().asserted() > line);
            // Disabling also masks the interrupt.
            board.fire(BUTTON);
            assert_eq!(board.event(), None);
        }
    }
}

#[test]
fn disabling_gives_back_the_buffer_of_this_line_only() {
    let mut board = Board::new();
    for line in [BUTTON, WIRE] {
        board.does(IRQ_TYPE, line, RISING);
        board.listen(line);
    }
    board.does(IRQ_TYPE, WIRE, NONE);
    assert_eq!(board.heard(WIRE), Some(INVALID));
    assert_eq!(board.event(), None);
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn disabling_discards_a_latched_edge() {
    for kind in edges() {
        for message in [(IRQ_TYPE, NONE), (SET_DIRECTION, NONE)] {
            let mut board = enabled(kind);
            board.fire(BUTTON);
            board.does(message.0, BUTTON, message.1);
            board.does(IRQ_TYPE, BUTTON, kind);
            board.listen(BUTTON);
            assert_eq!(board.event(), None);
        }
    }
}

#[test]
fn an_interrupt_disabled_as_it_occurs_gives_one_buffer_back() {
    for (kind, ..) in TYPES {
        let mut board = enabled(kind);
        board.listen(BUTTON);
        // The handler has run, and the driver disables the interrupt before the buffer is given
        // back: the buffer returns once, valid or invalid.
        assert!(board.engine.model_mut().interrupt(BUTTON).is_some());
        board.does(IRQ_TYPE, BUTTON, NONE);
        assert!(board.heard(BUTTON).is_some());
        assert_eq!(board.event(), None);
        board.does(IRQ_TYPE, BUTTON, kind);
        board.listen(BUTTON);
        assert_eq!(board.event(), None);
    }
}

#[test]
fn a_buffer_of_a_disabled_interrupt_comes_back_if_reenabled() {
    let mut board = enabled(RISING);
    board.listen(BUTTON);
    for (head, value) in [(0, NONE), (2, FALLING)] {
        let at = REQUEST + 16 * u64::from(head);
        board.requests.write(at, &request(IRQ_TYPE, BUTTON, value));
        let buffers = [Buffer::readable(at, 8), Buffer::writable(ANSWER, 2)];
        board.requests.write_chain(head, &buffers);
        board.requests.offer(head);
    }
    board.requests.publish();
    let _ = board.engine.kick(0);
    // Only the first request is served.
    assert_eq!(board.engine.poll(1), Step::More);
    let model = board.engine.model_mut();
    let void = model.due();
    assert!(void.is_some());
    model.interrupt(BUTTON);
    assert_eq!(model.due(), void);
    // The buffer is given back before the second request is taken.
    assert_eq!(board.engine.poll(1), Step::More);
    assert_eq!(board.heard(BUTTON), Some(INVALID));
    assert_eq!(board.requests.used_idx(), 2);
    board.settle();
    board.engine.model_mut().interrupt(BUTTON);
    // The edge was latched after the second enable.
    board.listen(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn every_line_has_its_own_interrupt() {
    let mut board = Board::new();
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.does(IRQ_TYPE, WIRE, FALLING);
    board.listen(WIRE);
    board.listen(BUTTON);
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
    board.fire(WIRE);
    assert_eq!(board.heard(WIRE), Some(VALID));
    // Both interrupts at once.
    board.listen(BUTTON);
    board.listen(WIRE);
    board.engine.model_mut().interrupt(WIRE);
    board.engine.model_mut().interrupt(BUTTON);
    board.settle();
    let mut heard = [board.event(), board.event()];
    heard.sort();
    assert_eq!(heard, [Some((2 * BUTTON, VALID)), Some((2 * WIRE, VALID))]);
}

#[test]
fn an_interrupt_does_not_need_a_direction() {
    // Linux enables the interrupt of a line without setting its direction.
    let mut board = enabled(RISING);
    assert_eq!(board.engine.model().direction(BUTTON), Direction::None);
    board.listen(BUTTON);
    board.does(SET_DIRECTION, BUTTON, IN);
    assert_eq!(
        board.event(),
        None,
        "setting a direction does not disable it"
    );
    board.fire(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn a_stopped_eventq_masks_every_interrupt() {
    let mut board = Board::new();
    board.set_level(BUTTON, false);
    board.does(IRQ_TYPE, BUTTON, HIGH);
    board.does(IRQ_TYPE, WIRE, RISING);
    board.listen(BUTTON);
    board.listen(WIRE);
    board.engine.model_mut().interrupt(BUTTON);
    board.engine.model_mut().interrupt(WIRE);
    let _ = board.engine.store(reg::QUEUE_SEL, 1);
    let _ = board.engine.store(reg::QUEUE_READY, 0);
    assert_eq!(board.engine.model().due(), None);
    board.fire(BUTTON);
    assert_eq!(board.events.used_idx(), 0);
    // The requestq still works.
    assert_eq!(board.does(GET_VALUE, BUTTON, 0), 0);
}

#[test]
fn a_reset_disables_every_interrupt() {
    let mut board = Board::new();
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.does(IRQ_TYPE, WIRE, RISING);
    board.listen(BUTTON);
    board.fire(WIRE);
    let token = board
        .engine
        .model_mut()
        .interrupt(BUTTON)
        .expect("the interrupt is unmasked");
    board.restart();
    assert_eq!(board.engine.model().due(), None);
    assert!(board.engine.complete(token).is_err(), "the token is stale");
    for line in [BUTTON, WIRE] {
        assert_eq!(board.engine.model().trigger(line), None);
        board.does(IRQ_TYPE, line, RISING);
        board.listen(line);
        assert_eq!(board.event(), None);
    }
}

#[test]
fn an_edge_is_sensed_between_two_polls_of_a_line() {
    for (kind, _, _) in TYPES.into_iter().filter(|kind| kind.2) {
        let mut board = Board::new();
        board.does(IRQ_TYPE, BUTTON, kind);
        let mut before = false;
        for now in [false, true, true, false, false, true, false] {
            board.listen(BUTTON);
            board.set_level(BUTTON, now);
            let due = board
                .engine
                .model_mut()
                .sense(BUTTON)
                .expect("the edge is sensed");
            board.settle();
            let rises = kind != FALLING && !before && now;
            let falls = kind != RISING && before && !now;
            assert_eq!(due.is_some(), rises || falls);
            let expected = (rises || falls).then_some((2 * BUTTON, VALID));
            assert_eq!(board.event(), expected);
            if expected.is_none() {
                // The line's buffer is still kept; this makes the next one its only buffer.
                board.does(IRQ_TYPE, BUTTON, NONE);
                assert_eq!(board.heard(BUTTON), Some(INVALID));
                board.does(IRQ_TYPE, BUTTON, kind);
            }
            before = now;
        }
    }
}

#[test]
fn a_level_is_sensed_as_long_as_it_is_active() {
    for (kind, active) in levels() {
        let mut board = enabled(kind);
        board.listen(BUTTON);
        assert_eq!(board.engine.model_mut().sense(BUTTON), Ok(None));
        board.set_level(BUTTON, active);
        for _ in 0..3 {
            board
                .engine
                .model_mut()
                .sense(BUTTON)
                .expect("the level is sensed")
                .expect("the buffer is due");
            board.settle();
            assert_eq!(board.heard(BUTTON), Some(VALID));
            board.set_level(BUTTON, !active);
            board.listen(BUTTON);
            board.set_level(BUTTON, active);
        }
    }
}

#[test]
fn a_line_is_only_sensed_if_its_interrupt_is_enabled() {
    let mut board = Board::new();
    for line in [BUTTON, L as u16, 0xffff] {
        assert_eq!(board.engine.model_mut().sense(line), Ok(None));
    }
    assert_eq!(board.calls(), []);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.bank().trouble = vec![Some(GpioError::Failed)];
    assert_eq!(
        board.engine.model_mut().sense(BUTTON),
        Err(GpioError::Failed)
    );
    board.set_level(BUTTON, true);
    board.listen(BUTTON);
    assert!(
        board.engine.model_mut().sense(BUTTON).unwrap().is_some(),
        "the edge was latched"
    );
}

#[test]
fn an_edge_since_the_interrupt_was_enabled_is_sensed() {
    // Enabling the interrupt senses the line, so the first later look finds a change.
    let mut board = Board::new();
    board.set_level(BUTTON, true);
    board.does(IRQ_TYPE, BUTTON, FALLING);
    board.set_level(BUTTON, false);
    assert_eq!(
        board.engine.model_mut().sense(BUTTON),
        Ok(None),
        "the interrupt is masked"
    );
    board.listen(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID), "the edge was latched");
}

#[test]
fn triggers_know_what_makes_them_fire() {
    for (before, now) in [(false, false), (false, true), (true, false), (true, true)] {
        let fires = TYPES.map(|(_, trigger, _)| trigger.fires(before, now));
        let expected = [!before && now, before && !now, before != now, now, !now];
        assert_eq!(fires, expected);
    }
    assert!(
        TYPES
            .into_iter()
            .all(|(_, trigger, edge)| trigger.is_edge() == edge)
    );
    assert!(!Trigger::HighLevel.is_edge());
}

#[test]
fn a_buffer_that_is_due_is_given_back_by_the_next_poll() {
    let mut board = enabled(RISING);
    board.offer(2, BUTTON);
    let _ = board.engine.kick(1);
    assert_eq!(board.engine.poll(8), Step::Blocked);
    board.engine.model_mut().interrupt(BUTTON);
    assert_eq!(board.engine.poll(8), Step::Idle);
    assert_eq!(board.heard(BUTTON), Some(VALID));
    // The next poll also returns a buffer whose interrupt the driver disables.
    board.offer(2, BUTTON);
    let _ = board.engine.kick(1);
    assert_eq!(board.engine.poll(8), Step::Blocked);
    board
        .requests
        .write(REQUEST, &request(IRQ_TYPE, BUTTON, NONE));
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 2)];
    board.requests.send(0, &buffers);
    let _ = board.engine.kick(0);
    while board.engine.poll(8) == Step::More {}
    assert_eq!(board.heard(BUTTON), Some(INVALID));
}
