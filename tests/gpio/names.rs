//! The configuration space, the offered features and the names block.

use virtside::{
    Features, Refusal,
    mmio::Access,
    models::gpio::{Abilities, Gpio, NameError},
    testing::{Buffer, Registers},
};
use virtside_tests::{config, models::gpio::*, reg, test_engine};

const NAMED: [&str; L] = ["MMC-CD", "", "ethernet reset", ""];
const BLOCK: &[u8] = b"MMC-CD\0\0ethernet reset\0\0";

fn named() -> Board {
    Board::over(
        Gpio::new(Bank::new())
            .with_names(NAMED)
            .expect("good names"),
    )
}

#[test]
fn it_is_device_41() {
    assert_eq!(Board::new().engine.load(reg::DEVICE_ID), 41);
}

#[test]
fn the_configuration_has_the_lines_and_the_length_of_names() {
    let mut board = named();
    assert_eq!(board.config(0), 4u16.to_le_bytes());
    assert_eq!(board.config(4), (BLOCK.len() as u32).to_le_bytes());
    assert_eq!(board.engine.load(reg::CONFIG), 4);
    assert_eq!(board.engine.load(0x104), BLOCK.len() as u32);
}

#[test]
fn padding_is_zero() {
    assert_eq!(named().config(2), [0, 0]);
    assert_eq!(Board::new().config(2), [0, 0]);
}

#[test]
fn the_configuration_ends_after_the_size_of_the_names() {
    let mut board = Board::new();
    for (offset, width) in [(8, 1), (8, 4), (6, 4), (4, 8), (0x7ff, 1)] {
        let access = Access::Read {
            offset: reg::CONFIG + offset,
            width,
        };
        let refusal = Refusal::OutsideConfig {
            offset: reg::CONFIG + offset,
            width,
        };
        assert_eq!(board.engine.reach(access).refusal(), Some(refusal));
    }
}

#[test]
fn nothing_in_the_configuration_can_be_written() {
    let mut board = named();
    for offset in [0, 2, 4] {
        let access = Access::Write {
            offset: reg::CONFIG + offset,
            width: 2,
            value: 0xffff,
        };
        let refusal = Refusal::ConfigReadOnly {
            offset: reg::CONFIG + offset,
            width: 2,
        };
        assert_eq!(board.engine.reach(access).refusal(), Some(refusal));
    }
    assert_eq!(board.config(0), [4, 0, 0, 0, BLOCK.len() as u8, 0, 0, 0]);
}

#[test]
fn without_names_their_size_is_0_and_asking_is_an_error() {
    let unnamed = Gpio::new(Bank::new())
        .with_names([""; L])
        .expect("good names");
    for mut board in [Board::new(), Board::over(unnamed)] {
        assert_eq!(board.config(4), [0; 4]);
        board.refuses(NAMES, 0, 0);
    }
}

#[test]
fn names_come_in_line_order_and_end_with_a_zero_each() {
    let mut board = named();
    board.write_request(NAMES, 0, 0);
    let len = BLOCK.len() as u32 + 1;
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, len)];
    assert_eq!(
        board.send(&buffers),
        Some(len),
        "the answer is the status and the names"
    );
    let answer = board.bytes(ANSWER, BLOCK.len() + 2);
    assert_eq!(answer[0], OK);
    assert_eq!(&answer[1..=BLOCK.len()], BLOCK);
    assert_eq!(answer[BLOCK.len() + 1], UNTOUCHED);
}

#[test]
fn room_beyond_the_names_is_left_alone() {
    let mut board = named();
    board.write_request(NAMES, 0, 0);
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 60)];
    assert_eq!(board.send(&buffers), Some(BLOCK.len() as u32 + 1));
    let rest = board.bytes(ANSWER + BLOCK.len() as u64 + 1, 20);
    assert_eq!(rest, [UNTOUCHED; 20]);
}

#[test]
fn too_little_room_for_the_names_is_an_error() {
    let len = BLOCK.len() as u32;
    for room in [1, 2, 10, len] {
        let mut board = named();
        board.write_request(NAMES, 0, 0);
        let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, room)];
        assert_eq!(board.send(&buffers), Some(room.min(2)));
        let answer = board.bytes(ANSWER, 4);
        assert_eq!(answer[0], ERR);
        assert_eq!(answer[1], if room > 1 { 0 } else { UNTOUCHED });
        assert_eq!(answer[2..], [UNTOUCHED; 2]);
    }
}

#[test]
fn other_fields_of_a_request_for_names_do_not_matter() {
    let mut board = named();
    board.write_request(NAMES, 0xffff, 7);
    let len = BLOCK.len() as u32 + 1;
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, len)];
    assert_eq!(board.send(&buffers), Some(len));
}

#[test]
fn names_that_are_there_twice_are_not_taken() {
    let gpio = Gpio::new(Bank::new()).with_names(["a", "b", "", "a"]);
    assert_eq!(gpio.unwrap_err(), NameError::Twice { line: 3 });
    let gpio = Gpio::new(Bank::new()).with_names(["", "b", "b", "b"]);
    assert_eq!(gpio.unwrap_err(), NameError::Twice { line: 2 });
}

#[test]
fn names_that_are_not_ascii_are_not_taken() {
    let gpio = Gpio::new(Bank::new()).with_names(["", "ü", "", ""]);
    assert_eq!(gpio.unwrap_err(), NameError::NotAscii { line: 1 });
    let gpio = Gpio::new(Bank::new()).with_names(["a\0b", "", "", ""]);
    let error = gpio.unwrap_err();
    assert_eq!(error, NameError::NotAscii { line: 0 });
    assert_eq!(
        error.to_string(),
        "the name of line 0 is not 7-bit ASCII or contains a zero byte"
    );
    assert_eq!(
        NameError::Twice { line: 2 }.to_string(),
        "line 2 has the same name as an earlier line"
    );
    // Every ASCII character except the zero byte.
    let name: &'static str = String::from_utf8((1..128).collect()).expect("ASCII").leak();
    let mut board = Board::over(
        Gpio::new(Bank::new())
            .with_names(["", name, "", ""])
            .unwrap(),
    );
    assert_eq!(board.config(4), 131u32.to_le_bytes());
}

#[test]
fn a_bank_of_more_lines_than_there_is_room_for_is_cut() {
    let gpio: Gpio<_, 2> = Gpio::new(Bank::new());
    let mut board = Board::over(gpio.with_names(["a", "bc"]).unwrap());
    assert_eq!(board.config(0), [2, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(board.does(GET_DIRECTION, 1, 0), 0);
    board.refuses(GET_DIRECTION, 2, 0);
}

#[test]
fn a_bank_with_fewer_lines_than_room_is_not_filled_up() {
    let bank = Bank {
        count: 2,
        ..Bank::new()
    };
    let names = ["a", "", "not there", ""];
    let mut board = Board::over(Gpio::new(bank).with_names(names).unwrap());
    assert_eq!(board.config(0), [2, 0, 0, 0, 3, 0, 0, 0]);
    board.refuses(GET_DIRECTION, 2, 0);
    board.write_request(NAMES, 0, 0);
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 4)];
    assert_eq!(board.send(&buffers), Some(4));
    assert_eq!(board.bytes(ANSWER, 4), b"\0a\0\0");
    // No line of the bank has a name, so there is no names block.
    let bank = Bank {
        count: 2,
        ..Bank::new()
    };
    let names = ["", "", "not there", ""];
    let mut board = Board::over(Gpio::new(bank).with_names(names).unwrap());
    assert_eq!(board.config(4), [0; 4]);
    board.refuses(NAMES, 0, 0);
}

#[test]
fn interrupts_are_offered_if_a_line_has_them() {
    let mut board = Board::new();
    assert!(board.engine.offered().contains(IRQ));
    let mut bank = Bank::new();
    for abilities in &mut bank.abilities {
        abilities.remove(Abilities::INTERRUPT);
    }
    let mut board: Board = Board::over(Gpio::new(bank));
    assert_eq!(board.engine.offered(), Features::ALL_RINGS);
}

/// QueueSizeMax of both queues and of queue 2, which does not exist.
fn sizes(engine: &mut impl Registers) -> [u32; 3] {
    [0, 1, 2].map(|queue| {
        let _ = engine.store(reg::QUEUE_SEL, queue);
        engine.load(reg::QUEUE_SIZE_MAX)
    })
}

#[test]
fn the_eventq_is_there_only_with_interrupts() {
    let (mut device, _) = test_engine(Gpio::<_, L>::new(Bank::new()), 1);
    assert_eq!(
        sizes(&mut device),
        [16, 16, 0],
        "before the feature negotiation"
    );
    assert!(device.negotiate(Features::RING));
    assert_eq!(sizes(&mut device), [16, 0, 0]);
    assert!(device.configure(&config(1)).refusal().is_some());
    assert!(device.negotiate(Features::RING | IRQ));
    assert_eq!(sizes(&mut device), [16, 16, 0]);
    let _ = device.store(reg::STATUS, 0);
    assert_eq!(sizes(&mut device), [16, 16, 0]);

    let mut bank = Bank::new();
    bank.abilities = [Abilities::OUTPUT; L];
    let (mut device, _) = test_engine(Gpio::<_, L>::new(bank), 1);
    assert_eq!(sizes(&mut device), [16, 0, 0]);
}
