//! The device's thread. It sleeps until a kick, and stops when it is told to.

use std::{
    os::fd::AsRawFd,
    sync::{Arc, Mutex, mpsc::Sender},
};

use virtside::{ChainSlot, Device, DriverNotify, Features, Shared, Step, device::Counters};
use virtside_std::{EventFdNotify, VmMem};
use vmm_sys_util::{
    epoll::{ControlOperation, Epoll, EpollEvent, EventSet},
    eventfd::EventFd,
};

use crate::{
    elements::Elements,
    net::{N, Net},
};

/// Milliseconds without progress after which the test fails.
const PATIENCE: i32 = 20_000;
/// Chains that may be in flight.
const SLOTS: usize = 64;

/// One interrupt for all queues. This driver has an eventfd for each queue.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<Vec<EventFdNotify>>>);

impl Calls {
    pub fn add(&self, call: EventFd) {
        self.0
            .lock()
            .expect("the thread does not panic")
            .push(call.into());
    }
}

impl DriverNotify for Calls {
    fn assert(&self) {
        for call in &*self.0.lock().expect("the thread does not panic") {
            call.assert();
        }
    }
}

pub type NetDevice = Device<VmMem<Elements>, Calls, 2, N, Arc<Shared<2>>>;

/// The results of a run.
pub struct Outcome {
    pub features: Features,
    pub counters: Counters,
    pub net: Net,
    /// Used elements of the transmit queue.
    pub elements: u64,
}

/// Serves until `stop`. Sends on `done` when the model is done.
pub fn run(
    mut device: NetDevice,
    mut net: Net,
    kicks: &[EventFd],
    stop: &EventFd,
    done: &Sender<()>,
) -> (NetDevice, Net) {
    let mut slots = [const { ChainSlot::new() }; SLOTS];
    let epoll = Epoll::new().expect("an epoll descriptor");
    for (at, event) in kicks.iter().chain([stop]).enumerate() {
        let wanted = EpollEvent::new(EventSet::IN, at as u64);
        epoll
            .ctl(ControlOperation::Add, event.as_raw_fd(), wanted)
            .expect("epoll accepts the descriptor");
    }
    let (mut told, mut stopping) = (false, false);
    loop {
        let step = device.poll(&mut net, &mut slots, 64);
        if net.is_done() && !told {
            told = true;
            done.send(()).expect("the test waits");
        }
        match step {
            Step::More => continue,
            Step::Blocked if net.kept() != 0 => {
                net.release(usize::MAX);
                continue;
            }
            Step::Blocked | Step::Idle => {}
        }
        for queue in 0..2 {
            assert_eq!(device.driver_fault(queue), None);
        }
        assert_eq!(device.take_host_fault(), None);
        if stopping {
            return (device, net);
        }
        // Once the model is done the driver has to stop. That takes as long as its process needs.
        let mut events = [EpollEvent::default(); 4];
        let count = epoll.wait(PATIENCE, &mut events).expect("epoll waits");
        assert_ne!(
            count, 0,
            "neither side makes progress: a wake-up or a used element is missing; sent {}, received {}",
            net.sent, net.received
        );
        for event in &events[..count] {
            match kicks.get(event.data() as usize) {
                Some(kick) => {
                    kick.read().expect("a kick");
                    let queue = event.data() as u16;
                    device.notify_queue(queue).expect("a queue");
                }
                None => {
                    stop.read().expect("a stop");
                    stopping = true;
                    // The device still serves the chains that the driver made available before.
                    for queue in 0..2 {
                        device.notify_queue(queue).expect("a queue");
                    }
                }
            }
        }
    }
}
