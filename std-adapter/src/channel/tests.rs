use super::*;
use crate::access::Next;

fn echo(mut source: ChannelSource) -> io::Result<u32> {
    let mut count = 0;
    while let Next::Access(access) = source.next(None)? {
        let value = match access.access() {
            Access::Read { offset, .. } => u64::from(offset),
            Access::Write { .. } => 0,
        };
        access.complete(value)?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn every_access_of_every_port_is_answered_once() {
    let (port, source) = channel();
    let device = thread::spawn(|| echo(source));
    let drivers: Vec<_> = (0..4u32)
        .map(|base| {
            let port = port.clone();
            thread::spawn(move || {
                (0..500).all(|at| port.read(base * 1000 + at, 4) == Ok(u64::from(base * 1000 + at)))
            })
        })
        .collect();
    drop(port);
    assert!(drivers.into_iter().all(|driver| driver.join().unwrap()));
    assert_eq!(device.join().unwrap().unwrap(), 2000);
}

#[test]
fn the_stream_ends_with_the_last_port() {
    let (port, mut source) = channel();
    let other = port.clone();
    drop(port);
    assert_eq!(
        source.wait(Some(Duration::from_millis(1))).unwrap(),
        Event::Woken
    );
    drop(other);
    assert_eq!(source.wait(None).unwrap(), Event::End);
    assert_eq!(source.wait(None).unwrap(), Event::End);
}

#[test]
fn a_wake_before_the_wait_is_not_lost() {
    let (_port, mut source) = channel();
    source.waker().wake();
    assert_eq!(source.wait(None).unwrap(), Event::Woken);
    let waker = source.waker();
    let sleeper = thread::spawn(move || source.wait(None).unwrap());
    thread::sleep(Duration::from_millis(5));
    waker.wake();
    assert_eq!(sleeper.join().unwrap(), Event::Woken);
}

#[test]
fn a_dropped_source_unblocks_the_waiting_driver() {
    let (port, mut source) = channel();
    let driver = thread::spawn(move || (port.read(0, 4), port.read(0, 4)));
    assert_eq!(source.wait(None).unwrap(), Event::Access(Access::read(0)));
    drop(source);
    assert_eq!(driver.join().unwrap(), (Err(Closed), Err(Closed)));
}

#[test]
fn nothing_can_be_completed_without_an_access() {
    let (_port, mut source) = channel();
    assert!(source.complete(1).is_err());
}

/// Creates a channel with an access that waits for its reply.
fn with_waiting_access() -> (ChannelSource, thread::JoinHandle<Result<u64, Closed>>) {
    let (port, source) = channel();
    let link = Arc::clone(&source.link);
    let driver = thread::spawn(move || port.read(8, 4));
    while link.lock().request.is_none() {
        thread::yield_now();
    }
    (source, driver)
}

const TIMEOUTS: [Option<Duration>; 3] =
    [Some(Duration::ZERO), Some(Duration::from_secs(3600)), None];

#[test]
fn a_zero_timeout_returns_what_is_there_and_never_waits() {
    let zero = Some(Duration::ZERO);
    let (port, mut source) = channel();
    for _ in 0..3 {
        assert_eq!(source.wait(zero).unwrap(), Event::Woken);
    }
    drop(port);
    assert_eq!(source.wait(zero).unwrap(), Event::End);
    let (mut source, driver) = with_waiting_access();
    assert_eq!(source.wait(zero).unwrap(), Event::Access(Access::read(8)));
    source.complete(1).unwrap();
    assert_eq!(driver.join().unwrap(), Ok(1));
}

#[test]
fn a_time_that_has_passed_is_a_wake() {
    let (_port, mut source) = channel();
    let start = Instant::now();
    let time = Duration::from_millis(20);
    assert_eq!(source.wait(Some(time)).unwrap(), Event::Woken);
    assert!(start.elapsed() >= time);
}

#[test]
fn an_access_comes_before_a_wake_and_a_wake_before_the_end() {
    for timeout in TIMEOUTS {
        let (mut source, driver) = with_waiting_access();
        source.waker().wake();
        source.waker().wake();
        assert_eq!(
            source.wait(timeout).unwrap(),
            Event::Access(Access::read(8))
        );
        // A wake during an outstanding access is merged with the earlier wakes.
        source.waker().wake();
        source.complete(1).unwrap();
        assert_eq!(driver.join().unwrap(), Ok(1));
        assert_eq!(source.wait(timeout).unwrap(), Event::Woken);
        assert_eq!(source.wait(timeout).unwrap(), Event::End);
        assert_eq!(source.wait(timeout).unwrap(), Event::End);
    }
}
