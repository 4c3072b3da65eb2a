//! Driver and device in one thread, in random steps.

use std::{cell::RefCell, rc::Rc, time::Instant};

use virtside::Features;

use crate::{
    board::Board,
    traffic::{PIECES, Request, Traffic},
};

/// A foreign driver.
pub trait Driver {
    /// How many data pieces a request may have now; 0 if there is no room for a request.
    fn room(&self) -> usize;
    /// Makes a request available.
    fn submit(&mut self, request: Request, traffic: &Traffic);
    /// Kicks the device if the driver's own rules ask for a kick for the requests submitted since
    /// the last call.
    fn kick_if_wanted(&mut self);
    /// Takes all requests from the used ring; returns their number.
    fn reap(&mut self, traffic: &mut Traffic) -> usize;
    /// Tells the device whether interrupts are wanted.
    fn want_interrupts(&mut self, wanted: bool);
}

/// Submits a few requests if there is room for one; returns whether there was.
pub fn submit(driver: &mut impl Driver, traffic: &mut Traffic) -> bool {
    let mut some = false;
    for _ in 0..=traffic.random.index(4) {
        let pieces = driver.room().min(PIECES);
        if pieces == 0 {
            break;
        }
        let Some(request) = traffic.next(pieces) else {
            break;
        };
        driver.submit(request, traffic);
        some = true;
    }
    if some {
        driver.kick_if_wanted();
    }
    some
}

/// Takes all used requests, sometimes with interrupts disabled. `meanwhile` is what the device does
/// during that time.
fn take_all(driver: &mut impl Driver, traffic: &mut Traffic, meanwhile: impl Fn(&mut Traffic)) {
    if traffic.random.index(2) == 0 {
        while driver.reap(traffic) != 0 {}
        return;
    }
    driver.want_interrupts(false);
    driver.reap(traffic);
    meanwhile(traffic);
    driver.reap(traffic);
    meanwhile(traffic);
    loop {
        driver.want_interrupts(true);
        if driver.reap(traffic) == 0 {
            return;
        }
    }
}

/// Runs all of the traffic. Panics if requests are in flight and neither side has a reason to run.
pub fn run(driver: &mut impl Driver, board: &Rc<RefCell<Board>>, mut traffic: Traffic) {
    let start = Instant::now();
    let requests = traffic.left;
    let device = |traffic: &mut Traffic| board.borrow_mut().step(&mut traffic.random);
    driver.want_interrupts(true);
    while traffic.left != 0 || traffic.in_flight() != 0 {
        // Submits up to `limit` requests, then nothing until all of them are done.
        let limit = 1 + traffic.random.index(16);
        let mut filling = true;
        while filling || traffic.in_flight() != 0 {
            let interrupted = board.borrow().line.is_high();
            let runnable = board.borrow().is_runnable();
            match traffic.random.index(3) {
                0 if filling => {
                    filling = submit(driver, &mut traffic) && traffic.in_flight() < limit;
                }
                1 if runnable => device(&mut traffic),
                2 if interrupted => {
                    board.borrow_mut().acknowledge();
                    take_all(driver, &mut traffic, device);
                }
                _ => assert!(
                    filling || runnable || interrupted,
                    "a wake-up was lost: {} requests are in flight after {}",
                    traffic.in_flight(),
                    traffic.finished
                ),
            }
        }
    }
    assert_eq!(traffic.finished, requests);
    let mut board = board.borrow_mut();
    let overtook = board.overtook(requests);
    let in_order = board.engine.features().contains(Features::IN_ORDER);
    let expected = if in_order { 0 } else { overtook };
    assert_eq!(
        traffic.overtook, expected,
        "requests that came back before an older one"
    );
    board.check(requests, traffic.disk());
    println!(
        "{:?}: {requests} requests, {overtook} answered before older ones, {} kicks, {} interrupts, {:.1?}",
        board.engine.features(),
        board.kicks,
        board.line.raised(),
        start.elapsed()
    );
}
