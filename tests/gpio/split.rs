//! How a message is cut into buffers makes no difference, nor do earlier requests.

use proptest::{collection::vec, prelude::*};
use virtside::{
    models::gpio::{Abilities, Direction, Gpio},
    testing::Registers,
};
use virtside_tests::{cut, models::gpio::*};

/// What the driver does, and how the line's level changes.
#[derive(Clone, Debug)]
enum Act {
    Ask(u16, u16, u32),
    Listen(u16),
    Fire(u16),
    Level(u16, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let line = 0..L as u16 + 1;
    let value = prop_oneof![0u32..5, Just(8)];
    prop_oneof![
        4 => (2u16..7, line.clone(), value).prop_map(|(kind, line, value)| Act::Ask(kind, line, value)),
        2 => line.clone().prop_map(Act::Listen),
        2 => line.prop_map(Act::Fire),
        1 => (0..L as u16, any::<bool>()).prop_map(|(line, high)| Act::Level(line, high)),
    ]
}

/// The state that a line should have, according to the specification.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    direction: u32,
    value: Option<bool>,
    level: bool,
    enabled: u32,
    latched: bool,
    unmasked: bool,
}

impl Line {
    fn is_edge(&self) -> bool {
        (1..=3).contains(&self.enabled)
    }
    fn is_active(&self) -> bool {
        (self.enabled == HIGH && self.level) || (self.enabled == LOW && !self.level)
    }
}

/// The expected result of a request: its answer, and the status of the line's buffer if it comes
/// back.
fn expect(lines: &mut [Line; L], kind: u16, line: u16, value: u32) -> (Option<u8>, Option<u8>) {
    let bank = Bank::new();
    let Some(state) = lines.get_mut(usize::from(line)) else {
        return (None, None);
    };
    let can = |ability| bank.abilities[usize::from(line)].contains(ability);
    let returned = |state: &mut Line| std::mem::take(&mut state.unmasked).then_some(INVALID);
    match (kind, value) {
        (GET_DIRECTION, _) => (Some(state.direction as u8), None),
        (SET_DIRECTION, NONE) => {
            let level = state.level;
            let back = returned(state);
            *state = Line {
                level,
                ..Line::default()
            };
            (Some(0), back)
        }
        (SET_DIRECTION, OUT) if can(Abilities::OUTPUT) && state.enabled == 0 => {
            state.direction = OUT;
            state.level = state.value.unwrap_or(state.level);
            (Some(0), None)
        }
        (SET_DIRECTION, IN) if can(Abilities::INPUT) => {
            state.direction = IN;
            (Some(0), None)
        }
        (GET_VALUE, _) => (Some(state.level.into()), None),
        (SET_VALUE, 0 | 1) if can(Abilities::OUTPUT) => {
            state.value = Some(value == 1);
            if state.direction == OUT {
                state.level = value == 1;
            }
            (Some(0), None)
        }
        (IRQ_TYPE, 1..) if state.direction == OUT => (None, None),
        (IRQ_TYPE, NONE) => {
            state.enabled = 0;
            state.latched = false;
            (Some(0), returned(state))
        }
        (IRQ_TYPE, RISING | FALLING | BOTH | HIGH | LOW) => {
            if state.enabled != value {
                if !can(Abilities::INTERRUPT) {
                    return (None, None);
                }
                state.enabled = value;
                state.latched = false;
                if state.unmasked && state.is_active() {
                    state.unmasked = false;
                    return (Some(0), Some(VALID));
                }
            }
            (Some(0), None)
        }
        _ => (None, None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_a_request_is_split_over_descriptors_does_not_matter(
        names: bool,
        extra in 0u32..4,
        cuts in (vec(any::<u32>(), 0..6), vec(any::<u32>(), 0..6)),
    ) {
        let gpio = Gpio::new(Bank::new()).with_names(["a", "", "bcd", ""]).unwrap();
        let mut board = Board::over(gpio);
        board.set_level(WIRE, true);
        let (kind, answer): (_, &[u8]) = if names { (NAMES, b"\0a\0\0bcd\0\0") } else { (GET_VALUE, &[OK, 1]) };
        board.write_request(kind, WIRE, 0);
        let len = answer.len() as u32;
        let mut buffers = cut(REQUEST, 8 + extra, &cuts.0, false);
        buffers.extend(cut(ANSWER, len + extra, &cuts.1, true));
        prop_assert_eq!(board.send(&buffers), Some(len));
        prop_assert_eq!(board.bytes(ANSWER, answer.len()), answer);
        prop_assert_eq!(board.bytes(ANSWER + u64::from(len), 1), [UNTOUCHED]);
    }

    #[test]
    fn how_an_event_is_split_over_descriptors_does_not_matter(
        cuts in (vec(any::<u32>(), 0..4), vec(any::<u32>(), 0..4)),
        room in 1u32..4,
    ) {
        let mut board = Board::new();
        board.does(IRQ_TYPE, BUTTON, RISING);
        board.events.write(EVENTS, &BUTTON.to_le_bytes());
        board.events.write(EVENTS + 8, &[UNTOUCHED; 4]);
        let mut buffers = cut(EVENTS, 2, &cuts.0, false);
        buffers.extend(cut(EVENTS + 8, room, &cuts.1, true));
        board.events.send(0, &buffers);
        let _ = board.engine.kick(1);
        board.settle();
        prop_assert_eq!(board.events.used_idx(), 0);
        board.fire(BUTTON);
        prop_assert_eq!(board.event(), Some((0, VALID)));
    }

    /// Compares every step with the specification.
    #[test]
    fn a_line_follows_its_driver_and_its_level(acts in vec(act(), 1..60)) {
        let mut board = Board::new();
        let mut lines = [Line::default(); L];
        for act in acts {
            let mut expected = None;
            match act {
                Act::Ask(kind, line, value) => {
                    let (answer, back) = expect(&mut lines, kind, line, value);
                    let answer = answer.map_or((ERR, 0), |value| (OK, value));
                    prop_assert_eq!(board.ask(kind, line, value), answer);
                    expected = back.map(|status| (2 * line, status));
                }
                Act::Listen(line) => {
                    board.listen(line);
                    expected = match lines.get_mut(usize::from(line)) {
                        // A driver must not offer a second buffer for a line; its first one uses
                        // that head.
                        Some(state) if state.unmasked => {
                            prop_assert_eq!(board.fault(1).is_some(), true);
                            return Ok(());
                        }
                        Some(state) if state.enabled != 0 => {
                            if state.latched || state.is_active() {
                                state.latched = false;
                                Some((2 * line, VALID))
                            } else {
                                state.unmasked = true;
                                None
                            }
                        }
                        _ => Some((2 * line, INVALID)),
                    };
                }
                Act::Fire(line) => {
                    board.fire(line);
                    if let Some(state) = lines.get_mut(usize::from(line)) && state.enabled != 0 {
                        if std::mem::take(&mut state.unmasked) {
                            expected = Some((2 * line, VALID));
                        } else {
                            state.latched = state.is_edge();
                        }
                    }
                }
                Act::Level(line, high) => {
                    lines[usize::from(line)].level = high;
                    board.set_level(line, high);
                }
            }
            prop_assert_eq!(board.event(), expected);
            prop_assert_eq!(board.event(), None);
            prop_assert_eq!(board.host_fault(), None);
            for (line, state) in (0..).zip(lines) {
                let direction = match state.direction {
                    OUT => Direction::Output,
                    IN => Direction::Input,
                    _ => Direction::None,
                };
                prop_assert_eq!(board.engine.model().direction(line), direction);
                prop_assert_eq!(board.engine.model().trigger(line).is_some(), state.enabled != 0);
            }
        }
    }
}
