//! A saved and restored gpio device: the lines are set up again as the driver left them, and each
//! eventq buffer in hand is given back once, with the right status.

use proptest::{collection::vec, prelude::*};
use virtside::{
    model::SaveModel,
    models::gpio::{Direction, EventBuffer, Gpio, GpioError, GpioSnapshot, LineSnapshot, Trigger},
    snapshot::{EngineSnapshot, SnapshotError},
    testing::{Buffer, Registers},
};
use virtside_tests::{BASE, BUDGET, N, Q, engine_over, models::gpio::*, reg};

type State = EngineSnapshot<GpioSnapshot<L>, Q, N, 8>;

/// A device in reset over other hardware, whose inputs have the same levels.
fn other_hardware(board: &Board) -> virtside_tests::TestEngine<Gpio<Bank, L>> {
    let mut bank = Bank::new();
    bank.levels = board.engine.model().lines().levels;
    for (line, level) in board
        .engine
        .model()
        .save()
        .lines
        .iter()
        .zip(&mut bank.levels)
    {
        if line.direction == Direction::Output && line.value.is_some() {
            *level = false;
        }
    }
    engine_over(Gpio::new(bank), board.ram.flat(BASE), 8)
}

/// Moves the device to other hardware; the driver does not notice.
#[track_caller]
fn move_device(board: &mut Board) -> Vec<Call> {
    let state: State = board.engine.save().expect("the device can be saved");
    let mut engine = other_hardware(board);
    engine.restore(&state).expect("the snapshot is valid");
    let mut again: State = engine.save().expect("the device can be saved");
    again.registers.generation = state.registers.generation;
    assert_eq!(again, state);
    board.engine = engine;
    board.calls()
}

#[test]
fn lines_are_put_back_as_the_driver_left_them() {
    let mut board = Board::new();
    board.does(SET_VALUE, LED, 1);
    board.does(SET_DIRECTION, LED, OUT);
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, FALLING);
    // The line was driven and is an input now: the value waits until the line is an output again.
    board.does(SET_VALUE, WIRE, 1);
    board.does(SET_DIRECTION, WIRE, IN);
    let calls = move_device(&mut board);
    assert_eq!(
        calls,
        [
            Call::Direction(LED, Direction::Output, Some(true)),
            Call::Direction(BUTTON, Direction::Input, None),
            Call::Trigger(BUTTON, Some(Trigger::FallingEdge)),
            Call::Direction(WIRE, Direction::Input, None),
        ]
    );
    assert_eq!(board.does(GET_DIRECTION, LED, 0), OUT as u8);
    assert_eq!(board.does(GET_VALUE, LED, 0), 1);
    assert_eq!(board.does(GET_DIRECTION, BUTTON, 0), IN as u8);
    assert_eq!(board.does(GET_DIRECTION, JUMPER, 0), NONE as u8);
    board.calls();
    board.does(IRQ_TYPE, BUTTON, FALLING);
    assert_eq!(board.calls(), [], "the trigger is enabled already");
    board.does(SET_DIRECTION, WIRE, OUT);
    assert_eq!(
        board.calls(),
        [Call::Direction(WIRE, Direction::Output, Some(true))]
    );
}

#[test]
fn lines_that_no_driver_used_are_left_alone() {
    let mut board = Board::new();
    assert_eq!(move_device(&mut board), []);
}

#[test]
fn a_waiting_buffer_keeps_waiting_and_is_given_back_once() {
    for (kind, _, edge) in TYPES {
        let mut board = Board::new();
        board.set_level(BUTTON, kind == FALLING || kind == LOW);
        board.does(SET_DIRECTION, BUTTON, IN);
        board.does(IRQ_TYPE, BUTTON, kind);
        board.listen(BUTTON);
        move_device(&mut board);
        board.settle();
        assert_eq!(board.event(), None);
        board.set_level(BUTTON, !(kind == FALLING || kind == LOW));
        board.fire(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID), "{kind}");
        board.settle();
        assert_eq!(board.event(), None);
        // An edge is latched for the next buffer, and no buffer comes back as a second one.
        if edge {
            board.fire(BUTTON);
        }
        board.listen(BUTTON);
        assert_eq!(board.heard(BUTTON), Some(VALID), "{kind}");
    }
}

#[test]
fn an_interrupt_between_restore_and_first_poll_is_delivered() {
    // A level that has ended when the poll senses it: the buffer waited while it was active.
    for kind in [RISING, HIGH] {
        let mut board = Board::new();
        board.does(SET_DIRECTION, BUTTON, IN);
        board.does(IRQ_TYPE, BUTTON, kind);
        board.listen(BUTTON);
        move_device(&mut board);
        assert_eq!(
            board.engine.model_mut().interrupt(BUTTON),
            None,
            "the buffer has no token yet"
        );
        board.settle();
        assert_eq!(board.heard(BUTTON), Some(VALID));
        assert_eq!(board.event(), None);
    }
}

#[test]
fn an_undelivered_interrupt_is_delivered_after_the_restore() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    // With a buffer in hand.
    board.listen(BUTTON);
    board.engine.model_mut().interrupt(BUTTON);
    move_device(&mut board);
    board.settle();
    assert_eq!(board.heard(BUTTON), Some(VALID));
    // Without a buffer in hand.
    board.fire(BUTTON);
    move_device(&mut board);
    board.settle();
    assert_eq!(board.event(), None);
    board.listen(BUTTON);
    assert_eq!(board.heard(BUTTON), Some(VALID));
    board.listen(BUTTON);
    assert_eq!(board.event(), None, "the edge is delivered once");
}

#[test]
fn a_change_of_level_while_saved_is_sensed() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    move_device(&mut board);
    board.settle();
    board.set_level(BUTTON, true);
    move_device(&mut board);
    let _ = board.engine.model_mut().sense(BUTTON);
    board.settle();
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn the_buffer_of_a_disabled_interrupt_comes_back_as_invalid() {
    // Whether or not the interrupt was enabled again, the buffer belongs to the time before.
    for enabled_again in [false, true] {
        let mut board = Board::new();
        board.does(SET_DIRECTION, BUTTON, IN);
        board.does(IRQ_TYPE, BUTTON, RISING);
        board.listen(BUTTON);
        board.write_request(IRQ_TYPE, BUTTON, NONE);
        let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 2)];
        board.requests.send(0, &buffers);
        let _ = board.engine.kick(0);
        // The buffer is returned by the next poll.
        let _ = board.engine.poll(1);
        assert!(board.requests.take_used().is_some());
        assert_eq!(board.event(), None);
        let mut state: State = board.engine.save().expect("the device can be saved");
        let line = &mut state.model.lines[usize::from(BUTTON)];
        assert_eq!(line.buffer, EventBuffer::Void);
        if enabled_again {
            line.trigger = Some(Trigger::RisingEdge);
        }
        let mut engine = other_hardware(&board);
        engine.restore(&state).expect("the snapshot is valid");
        board.engine = engine;
        move_device(&mut board);
        board.settle();
        assert_eq!(board.heard(BUTTON), Some(INVALID));
        assert_eq!(board.event(), None);
        if enabled_again {
            board.listen(BUTTON);
            board.fire(BUTTON);
            assert_eq!(board.heard(BUTTON), Some(VALID));
        }
    }
}

#[test]
fn a_suspended_device_continues_where_it_is_restored() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, HIGH);
    board.listen(BUTTON);
    let _ = board.engine.store(reg::STATUS, 0x1f);
    assert_eq!(board.engine.load(reg::STATUS), 0x1b);
    move_device(&mut board);
    board.fire(BUTTON);
    assert_eq!(board.event(), None);
    let _ = board.engine.store(reg::STATUS, 0x1f);
    board.settle();
    assert_eq!(board.heard(BUTTON), Some(VALID));
}

#[test]
fn an_eventq_that_is_reset_has_no_buffer_left() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    move_device(&mut board);
    // Before the first poll.
    let _ = board.engine.store(reg::QUEUE_SEL, 1);
    let _ = board.engine.store(reg::QUEUE_RESET, 1);
    board.fire(BUTTON);
    assert_eq!(board.event(), None);
    let state: State = board.engine.save().expect("the device can be saved");
    let line = state.model.lines[usize::from(BUTTON)];
    assert_eq!((line.buffer, line.fired), (EventBuffer::None, true));
}

#[test]
fn a_reset_releases_restored_lines() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.does(SET_DIRECTION, LED, OUT);
    board.listen(BUTTON);
    move_device(&mut board);
    board.restart();
    let mut calls = board.calls();
    calls.retain(|call| !matches!(call, Call::Level(_)));
    assert_eq!(
        calls,
        [
            Call::Direction(LED, Direction::None, None),
            Call::Trigger(BUTTON, None),
            Call::Direction(BUTTON, Direction::None, None),
        ]
    );
    assert_eq!(
        board.engine.model().save().lines,
        [LineSnapshot::default(); L]
    );
}

#[test]
fn lines_that_cannot_be_put_back_leave_the_device_in_reset() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, LED, OUT);
    board.does(SET_DIRECTION, BUTTON, IN);
    board.does(IRQ_TYPE, BUTTON, RISING);
    board.listen(BUTTON);
    let state: State = board.engine.save().expect("the device can be saved");
    // The LED, the button, or the button's trigger fails.
    for (good, at) in [(0, LED), (1, BUTTON), (2, BUTTON)] {
        let mut engine = other_hardware(&board);
        let trouble = &mut engine.model_mut().lines_mut().trouble;
        trouble.extend(std::iter::repeat_n(None, good));
        trouble.push(Some(GpioError::Failed));
        assert_eq!(engine.restore(&state), Err(SnapshotError::Backend { at }));
        assert_eq!(engine.load(reg::STATUS), 0);
        let model = engine.model();
        assert_eq!(model.save().lines, [LineSnapshot::default(); L]);
        // No line stays driven or armed.
        for line in [LED, BUTTON] {
            let calls = model.lines().calls.iter().rev();
            let mut of_it = calls.filter(|call| match call {
                Call::Direction(at, ..) | Call::Trigger(at, _) => *at == line,
                _ => false,
            });
            let last = of_it.next();
            let untouched = last.is_none();
            assert!(untouched || last == Some(&Call::Direction(line, Direction::None, None)));
        }
        // A bank that works accepts the same snapshot.
        assert_eq!(engine.restore(&state), Ok(()));
    }
}

#[test]
fn lines_are_not_touched_before_a_driver_used_them() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, LED, OUT);
    let mut state: State = other_hardware(&board)
        .save()
        .expect("the device can be saved");
    state.model = board.engine.model().save();
    let mut engine = other_hardware(&board);
    let refused = Err(SnapshotError::Model { at: LED });
    assert_eq!(engine.restore(&state), refused);
    assert_eq!(engine.model().lines().calls, []);
}

#[test]
fn a_model_in_use_refuses_a_restore() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, BUTTON, IN);
    let state = board.engine.model().save();
    assert_eq!(
        board
            .engine
            .model_mut()
            .restore(&state, virtside::model::SavedWith { started: true }),
        Err(SnapshotError::NotInReset)
    );
    assert_eq!(board.engine.model().save(), state);
}

/// What is wrong, with which line, and the change that makes it so.
type Case = (&'static str, u16, fn(&mut LineSnapshot));

#[test]
fn an_impossible_state_of_a_line_is_refused() {
    let mut board = Board::new();
    board.does(SET_DIRECTION, WIRE, IN);
    board.does(IRQ_TYPE, WIRE, RISING);
    board.listen(WIRE);
    let valid: State = board.engine.save().expect("the device can be saved");
    let wire = valid.model.lines[usize::from(WIRE)];
    let cases: [Case; 8] = [
        ("an output that cannot be driven", JUMPER, |line| {
            line.direction = Direction::Output;
        }),
        ("an input that cannot be sensed", LED, |line| {
            line.direction = Direction::Input;
        }),
        ("a value that cannot be driven", BUTTON, |line| {
            line.value = Some(true);
        }),
        ("an interrupt of a line without", JUMPER, |line| {
            line.trigger = Some(Trigger::HighLevel);
        }),
        ("an interrupt of an output", WIRE, |line| {
            line.direction = Direction::Output;
        }),
        ("a buffer without an interrupt", WIRE, |line| {
            line.trigger = None;
        }),
        ("an edge without an interrupt", BUTTON, |line| {
            line.fired = true;
        }),
        ("a level without a buffer", WIRE, |line| {
            line.trigger = Some(Trigger::HighLevel);
            line.fired = true;
            line.buffer = EventBuffer::None;
        }),
    ];
    for (what, at, change) in cases {
        let mut state = valid.clone();
        change(&mut state.model.lines[usize::from(at)]);
        let mut engine = other_hardware(&board);
        assert_eq!(
            engine.restore(&state),
            Err(SnapshotError::Model { at }),
            "{what}"
        );
        assert_eq!(engine.load(reg::STATUS), 0);
        assert_eq!(engine.model().lines().calls, [], "{what}");
    }
    assert_eq!(wire.buffer, EventBuffer::Kept);

    let mut state = valid.clone();
    let _ = state.model.lines.pop();
    assert_eq!(
        other_hardware(&board).restore(&state),
        Err(SnapshotError::Model { at: L as u16 - 1 })
    );
    // The snapshot has a line that the bank does not have.
    let mut engine = other_hardware(&board);
    engine.model_mut().lines_mut().count = WIRE;
    assert_eq!(
        engine.restore(&valid),
        Err(SnapshotError::Model { at: WIRE })
    );
    // The snapshot has interrupts that this driver did not negotiate.
    let mut other = Board::with(Gpio::new(Bank::new()), virtside::Features::RING);
    let mut state: State = other.engine.save().expect("the device can be saved");
    state.model = valid.model.clone();
    assert_eq!(
        other_hardware(&other).restore(&state),
        Err(SnapshotError::Model { at: WIRE })
    );
    other.settle();
}

/// What happens to a line.
#[derive(Clone, Copy, Debug)]
enum Event {
    Direction(u16, u32),
    Value(u16, u32),
    Trigger(u16, u32),
    Listens(u16),
    Level(u16, bool),
    Edge(u16),
    EventqReset,
}

fn event() -> impl Strategy<Value = Event> {
    let line = || 0..L as u16;
    prop_oneof![
        (line(), 0..4u32).prop_map(|(line, value)| Event::Direction(line, value)),
        (line(), 0..2u32).prop_map(|(line, value)| Event::Value(line, value)),
        (
            line(),
            prop::sample::select(vec![NONE, RISING, FALLING, BOTH, HIGH, LOW])
        )
            .prop_map(|(line, kind)| Event::Trigger(line, kind)),
        line().prop_map(Event::Listens),
        (line(), any::<bool>()).prop_map(|(line, high)| Event::Level(line, high)),
        line().prop_map(Event::Edge),
        Just(Event::EventqReset),
    ]
}

/// A board and what its driver saw: each answer, and each buffer that came back.
struct Watched {
    board: Board,
    in_hand: [bool; L],
    seen: Vec<(u16, u8, u8)>,
}

impl Watched {
    fn new() -> Self {
        Self {
            board: Board::new(),
            in_hand: [false; L],
            seen: Vec::new(),
        }
    }

    fn ask(&mut self, kind: u16, line: u16, value: u32) {
        let (status, value) = self.board.ask(kind, line, value);
        self.seen.push((kind, status, value));
    }

    fn reap(&mut self) {
        while let Some((head, status)) = self.board.event() {
            let line = usize::from(head / 2);
            assert!(
                std::mem::take(&mut self.in_hand[line]),
                "a buffer came back twice"
            );
            self.seen.push((100 + head, status, 0));
        }
    }

    fn event(&mut self, what: Event) {
        match what {
            Event::Direction(line, value) => self.ask(SET_DIRECTION, line, value),
            Event::Value(line, value) => self.ask(SET_VALUE, line, value),
            Event::Trigger(line, kind) => self.ask(IRQ_TYPE, line, kind),
            Event::Listens(line) => {
                if !std::mem::replace(&mut self.in_hand[usize::from(line)], true) {
                    self.board.listen(line);
                }
            }
            Event::Level(line, high) => {
                // The host reports each change of an input.
                if self.board.engine.model().direction(line) != Direction::Output {
                    self.board.set_level(line, high);
                    let _ = self.board.engine.model_mut().sense(line);
                }
            }
            Event::Edge(line) => {
                if self
                    .board
                    .engine
                    .model()
                    .trigger(line)
                    .is_some_and(Trigger::is_edge)
                {
                    self.board.engine.model_mut().interrupt(line);
                }
            }
            Event::EventqReset => {
                let _ = self.board.engine.store(reg::QUEUE_SEL, 1);
                let _ = self.board.engine.store(reg::QUEUE_RESET, 1);
                self.reap();
                self.in_hand = [false; L];
                self.board.events = virtside_tests::driver(self.board.ram, 1);
                assert_eq!(
                    self.board.engine.configure(&virtside_tests::config(1)),
                    virtside::mmio::Reply::Done(0)
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn a_driver_does_not_notice_where_its_device_is(
        script in vec((event(), any::<bool>(), 0..3u16), 1..60)
    ) {
        let mut stays = Watched::new();
        let mut moves = Watched::new();
        for (what, carried, polls) in script {
            for (watched, carried) in [(&mut stays, false), (&mut moves, carried)] {
                watched.event(what);
                // Saves before all due buffers are given back.
                for _ in 0..polls {
                    if carried {
                        move_device(&mut watched.board);
                    }
                    let _ = watched.board.engine.poll(1);
                }
                if carried {
                    move_device(&mut watched.board);
                }
                let _ = watched.board.engine.poll(BUDGET);
                watched.board.settle();
                watched.reap();
            }
            prop_assert_eq!(&moves.seen, &stays.seen);
            prop_assert_eq!(moves.in_hand, stays.in_hand);
            prop_assert_eq!(moves.board.engine.model().save(), stays.board.engine.model().save());
            let levels = |it: &Watched| it.board.engine.model().lines().levels;
            prop_assert_eq!(levels(&moves), levels(&stays));
        }
    }
}
