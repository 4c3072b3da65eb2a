//! Driver memory that disappears while the device serves a chain.

use std::sync::{Arc, OnceLock};

use virtside::{
    Features, FlatMem, HostFault,
    models::gpio::Gpio,
    testing::{Buffer, Registers},
};
use virtside_tests::{
    BASE, config, driver, engine_over,
    hooks::{Hook, Touch},
    models::gpio::*,
    ram,
    rings::{GuardedMem, settle},
};

/// Sends a chain with this message on a queue. When the device accesses the buffer at `at`, the 8
/// bytes from `gone` on disappear. Returns the used length and 64 bytes from [`ANSWER`] on.
fn goes(queue: u16, message: &[u8], buffers: &[Buffer], at: u64, gone: u64) -> (u64, u32, Vec<u8>) {
    let ram = ram();
    let guard = Arc::new(OnceLock::<GuardedMem<FlatMem<Hook>>>::new());
    let hook = Hook::new({
        let guard = Arc::clone(&guard);
        move |touch| {
            let (Touch::Read(start, _) | Touch::Write(start, _)) = touch;
            if let (true, Some(guard)) = (start == at, guard.get()) {
                guard.deny(gone, 8);
            }
        }
    });
    let mem = GuardedMem::new(ram.flat(BASE).with_hooks(hook));
    guard.set(mem.clone()).expect("once");
    let names = ["ab", "cd", "ef", "gh"];
    let gpio = Gpio::<_, L>::new(Bank::new()).with_names(names).unwrap();
    let mut device = engine_over(gpio, mem, 2);
    assert!(device.bring_up(Features::RING | IRQ, &[config(0), config(1)]));
    let mut queues = [driver(ram, 0), driver(ram, 1)];
    let driver = &mut queues[usize::from(queue)];
    driver.write(REQUEST, message);
    driver.write(ANSWER, &[UNTOUCHED; 64]);
    driver.send(0, buffers);
    let _ = device.kick(queue);
    settle(&mut device);
    let (_, used) = driver.take_used().expect("the request was given back");
    let mut answer = vec![0; 64];
    driver.read(ANSWER, &mut answer);
    let Some(HostFault::MemoryGone { addr }) = device.take_host_fault() else {
        panic!("the memory is gone");
    };
    assert_eq!(device.driver_fault(queue), None, "the queue works");
    (addr, used, answer)
}

#[test]
fn a_request_whose_end_is_gone_is_an_error() {
    let buffers = [
        Buffer::readable(REQUEST, 4),
        Buffer::readable(REQUEST + 8, 4),
        Buffer::writable(ANSWER, 2),
    ];
    let message = request(SET_DIRECTION, WIRE, OUT);
    let (addr, used, answer) = goes(0, &message, &buffers, REQUEST, REQUEST + 8);
    assert_eq!((addr, used), (REQUEST + 8, 2));
    assert_eq!(answer[..3], [ERR, 0, UNTOUCHED]);
}

#[test]
fn an_answer_whose_memory_is_gone_is_empty() {
    let buffers = [Buffer::readable(REQUEST, 8), Buffer::writable(ANSWER, 2)];
    let message = request(GET_DIRECTION, WIRE, 0);
    let (addr, used, answer) = goes(0, &message, &buffers, REQUEST, ANSWER);
    assert_eq!((addr, used), (ANSWER, 0));
    assert_eq!(answer[..3], [UNTOUCHED; 3]);
}

#[test]
fn names_whose_memory_is_gone_end_where_it_ends() {
    let buffers = [
        Buffer::readable(REQUEST, 8),
        Buffer::writable(ANSWER, 5),
        Buffer::writable(ANSWER + 16, 8),
    ];
    let message = request(NAMES, 0, 0);
    let (addr, used, answer) = goes(0, &message, &buffers, ANSWER, ANSWER + 16);
    assert_eq!((addr, used), (ANSWER + 16, 5));
    assert_eq!(answer[..6], *b"\0ab\0c\xee");
    assert_eq!(answer[16..24], [UNTOUCHED; 8]);
}

#[test]
fn an_event_whose_line_is_gone_comes_back_as_invalid() {
    let buffers = [
        Buffer::readable(REQUEST, 1),
        Buffer::readable(REQUEST + 8, 1),
        Buffer::writable(ANSWER, 1),
    ];
    let (addr, used, answer) = goes(1, &[1], &buffers, REQUEST, REQUEST + 8);
    assert_eq!((addr, used), (REQUEST + 8, 1));
    assert_eq!(answer[..2], [INVALID, UNTOUCHED]);
}

#[test]
fn an_event_whose_status_is_gone_comes_back_empty() {
    let buffers = [Buffer::readable(REQUEST, 2), Buffer::writable(ANSWER, 1)];
    let (addr, used, answer) = goes(1, &[1, 0], &buffers, REQUEST, ANSWER);
    assert_eq!((addr, used), (ANSWER, 0));
    assert_eq!(answer[..2], [UNTOUCHED; 2]);
}
