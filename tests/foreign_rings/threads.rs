//! Driver and device in one thread each: kicks and interrupts are eventfds, and both sides sleep.

use std::{
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread,
};

use ::virtio_driver::{EventFd as CallFd, VirtioTransport};
use embedded_io::{Read, Write};
use virtside::{DriverMem, Features, queue::Chain};
use virtside_std::EventFdNotify;
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::EventFd,
};

use crate::{
    board::{Answers, Board, N},
    requests,
    stepped::{Driver, submit},
    subsets,
    traffic::{SECTORS, Traffic},
    vhost_user::Connected,
    virtio_driver::{BlkQueue, VARIED, start},
};

/// Milliseconds without an interrupt after which the test reports a lost wake-up.
const PATIENCE: i32 = 20_000;

/// Waits for interrupts of the driver.
struct Calls {
    call: Arc<CallFd>,
    epoll: Epoll,
}

impl Calls {
    fn new(call: Arc<CallFd>) -> Self {
        let epoll = Epoll::new().expect("an epoll descriptor");
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll
            .ctl(ControlOperation::Add, call.as_raw_fd(), event)
            .expect("epoll takes the eventfd");
        Self { call, epoll }
    }

    fn wait(&self, traffic: &Traffic) {
        let events = self.epoll.wait(PATIENCE, &mut [EpollEvent::default()]);
        assert_eq!(
            events.expect("epoll waits"),
            1,
            "a wake-up was lost: {} requests are in flight after {}",
            traffic.in_flight(),
            traffic.finished
        );
        self.call.read().expect("a count");
    }
}

/// Runs all of the traffic from this thread; returns the expected contents of the disk.
fn drive(driver: &mut BlkQueue, mut traffic: Traffic) -> Vec<u8> {
    let calls = Calls::new(driver.transport.get_completion_fd(0));
    let notifier = driver.transport.get_submission_notifier(0);
    driver.on_kick(move || notifier.notify().expect("a kick"));
    driver.want_interrupts(true);
    while traffic.left != 0 || traffic.in_flight() != 0 {
        let limit = 1 + traffic.random.index(16);
        while submit(driver, &mut traffic) && traffic.in_flight() < limit {}
        // Waits until few requests are in flight, or none.
        let rest = traffic.in_flight() / (1 + traffic.random.index(3));
        let rest = if traffic.left == 0 {
            0
        } else {
            traffic.in_flight() - rest
        };
        while traffic.in_flight() > rest {
            calls.wait(&traffic);
            loop {
                driver.reap(&mut traffic);
                driver.want_interrupts(true);
                // The driver does not order its request for an interrupt before its read of the
                // used ring in either format.
                fence(Ordering::SeqCst);
                if driver.reap(&mut traffic) == 0 {
                    break;
                }
            }
        }
    }
    traffic.disk().to_vec()
}

/// Whether the driver's thread has finished.
struct Finish(Arc<AtomicBool>);

impl Finish {
    /// Waits for a kick; returns false after the last one.
    fn wait(&self, kick: &EventFd) -> bool {
        kick.read().expect("a kick");
        !self.0.load(Ordering::Acquire)
    }
}

/// Runs `device` in a thread beside a driver with a queue of `size` elements.
fn beside<T: Send + 'static>(
    ring: Features,
    size: u16,
    requests: usize,
    device: impl FnOnce(Board, EventFd, Finish) -> T + Send + 'static,
) -> (T, Vec<u8>) {
    let (mut driver, connected) = start(ring, Answers::AtOnce, size);
    let Connected { board, kick, call } = connected;
    board.line.connect(EventFdNotify::from(call));
    let over = Arc::new(AtomicBool::new(false));
    let finish = Finish(Arc::clone(&over));
    let device = thread::spawn(move || device(board, kick, finish));
    let disk = drive(&mut driver, Traffic::new(requests, true));
    over.store(true, Ordering::Release);
    let notifier = driver.transport.get_submission_notifier(0);
    notifier.notify().expect("a last kick");
    (device.join().expect("no panic"), disk)
}

/// Each subset of features in each format.
fn runs() -> Vec<(Features, u16)> {
    let split = subsets(Features::VERSION_1, VARIED);
    let runs = split.into_iter().map(|ring| (ring, 32));
    #[cfg(feature = "packed")]
    let runs = runs.chain(
        subsets(Features::VERSION_1 | Features::RING_PACKED, VARIED)
            .into_iter()
            .map(|ring| (ring, 37)),
    );
    runs.collect()
}

#[test]
fn a_device_in_a_thread_and_a_foreign_driver_lose_no_wake_up() {
    let requests = requests();
    for (ring, size) in runs() {
        let (mut board, disk) = beside(ring, size, requests, |mut board, kick, finish| {
            loop {
                while board.is_runnable() {
                    board.run(8);
                }
                if !finish.wait(&kick) {
                    return board;
                }
                board.write(0x50, 0);
            }
        });
        board.check(requests, &disk);
        println!(
            "{ring:?}: {requests} requests, {} kicks, {} interrupts",
            board.kicks,
            board.line.raised()
        );
    }
}

/// Serves one request of a disk on a chain, without a model; returns the bytes written.
fn serve<M: DriverMem>(mem: &M, chain: &Chain<N>, disk: &mut [u8]) -> u32 {
    let mut header = [0; 16];
    let mut readable = chain.readable(mem);
    readable.read_exact(&mut header).expect("a header");
    let (kind, sector) = header.split_at(8);
    let start = 512 * u64::from_le_bytes(sector.try_into().expect("eight bytes")) as usize;
    let mut writable = chain.writable(mem);
    match kind[0] {
        0 => {
            let len = writable.remaining() as usize - 1;
            writable
                .write_all(&disk[start..start + len])
                .expect("room for the sectors");
        }
        1 => {
            let len = readable.remaining() as usize;
            readable
                .read_exact(&mut disk[start..start + len])
                .expect("the sectors");
        }
        4 => {}
        kind => panic!("request {kind} was not made"),
    }
    writable.write_all(&[0]).expect("room for the status");
    writable.written()
}

#[test]
fn a_taken_queue_and_a_foreign_driver_lose_no_wake_up() {
    let requests = requests();
    for (ring, size) in runs() {
        let (served, disk) = beside(ring, size, requests, move |mut board, kick, finish| {
            let mem = board.engine.device().memory().clone();
            let mut queue = board.engine.take_queue(0).expect("a live queue");
            let mut disk = vec![0; SECTORS * 512];
            let (mut chain, mut chains) = (Chain::new(), 0);
            loop {
                queue.disable_kicks();
                while queue.pop(&mem, &mut chain).expect("a driver without fault") {
                    let written = serve(&mem, &chain, &mut disk);
                    queue.complete(&chain, written).expect("in flight");
                    chains += 1;
                    // Notifies the driver after every third chain, and when no chain is left.
                    if chains % 3 == 0 {
                        queue.flush();
                    }
                }
                queue.flush();
                if queue.enable_kicks().expect("a driver without fault") {
                    continue;
                }
                if !finish.wait(&kick) {
                    break;
                }
            }
            assert!(board.engine.put_back(queue).is_ok());
            assert_eq!(chains, requests);
            disk
        });
        assert!(served == disk, "the disk holds what the driver wrote");
    }
}
