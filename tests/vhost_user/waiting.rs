//! How a device waits for work, and how it ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use virtside::models::EntropyError;

/// An entropy source that has bytes once the flag is set.
fn gated(open: &Arc<AtomicBool>) -> impl FnMut(&mut [u8]) -> Result<usize, EntropyError> + use<> {
    let open = Arc::clone(open);
    move |bytes: &mut [u8]| {
        if open.load(Ordering::Acquire) {
            Ok(bytes.len())
        } else {
            Err(EntropyError::NotReady)
        }
    }
}

#[test]
fn a_device_that_is_told_to_stop_leaves() {
    let stop = EventFd::new(0).expect("an eventfd");
    let ours = stop.try_clone().expect("a clone");
    let mut front_end = started_with(device(entropy()).with_stop(ours));
    front_end.ask();
    front_end.answers(1);
    stop.write(1).expect("a stop");
    let (_, ended) = front_end.device.join().expect("no panic in the device");
    assert_eq!(ended.expect("no error"), Ended::Left);
}

#[test]
fn a_device_that_was_told_to_stop_serves_nobody() {
    let stop = EventFd::new(0).expect("an eventfd");
    stop.write(1).expect("a stop");
    let (_front_end, device_end) = UnixStream::pair().expect("two sockets");
    let served = serve(device(entropy()).with_stop(stop), device_end);
    let (_, ended) = served.join().expect("no panic in the device");
    assert_eq!(ended.expect("no error"), Ended::Left);
}

#[test]
fn a_front_end_that_leaves_ends_its_stream() {
    assert_eq!(started().close().expect("no error"), Ended::Stream);
}

#[test]
fn a_wake_lets_the_back_end_answer() {
    let open = Arc::new(AtomicBool::new(false));
    let wake = EventFd::new(0).expect("an eventfd");
    let ours = wake.try_clone().expect("a clone");
    let model = Entropy::new(gated(&open));
    let mut front_end = started_with(device(model).with_wake(ours));
    for _ in 0..3 {
        open.store(false, Ordering::Release);
        front_end.ask();
        front_end.kick.write(1).expect("a kick");
        a_while();
        open.store(true, Ordering::Release);
        a_while();
        assert_eq!(front_end.take(), 0, "nobody has woken the device");
        wake.write(1).expect("a wake");
        front_end.wait(1);
    }
}

#[test]
fn a_device_without_a_wake_looks_again_by_itself() {
    let open = Arc::new(AtomicBool::new(false));
    let mut front_end = started_with(device(Entropy::new(gated(&open))));
    front_end.ask();
    front_end.kick.write(1).expect("a kick");
    a_while();
    assert_eq!(front_end.take(), 0);
    open.store(true, Ordering::Release);
    front_end.wait(1);
}

#[test]
fn a_device_that_looks_before_it_sleeps_misses_no_kick() {
    let spin = Duration::from_micros(200);
    let mut front_end = started_with(device(entropy()).with_spin(spin));
    for round in 0..2000_u64 {
        // Some kicks come while the device looks, some when it is about to sleep, some later.
        thread::sleep(Duration::from_micros(round * 7 % 500));
        front_end.ask();
        front_end.answers(1);
    }
    assert!(front_end.close().is_ok());
}
