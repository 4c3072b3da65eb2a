//! The packed ring as the device uses it: chains, used descriptors, event suppression, and drivers
//! that violate the protocol.

mod chains;
mod faults;
mod largest;
mod lifecycle;
mod model;
mod moved;
mod random;
mod setup;
mod suppression;
mod untouched;
mod used;

use std::sync::Arc;

use virtside::{
    Configuring, DeviceBuilder, DriverMem, Features, FlatMem, Message, Shared,
    device::{Stop, TakenQueue},
    interrupt::CountingNotify,
    queue::Chain,
    setup::Progress,
    testing::PackedDriver,
};
use virtside_tests::{BASE, N, TestRam, ram};

/// Features that every driver in these tests accepts.
const PACKED: Features = Features::VERSION_1.union(Features::RING_PACKED);

type Queue<M = FlatMem> =
    TakenQueue<<M as DriverMem>::Window, &'static CountingNotify, 1, N, Arc<Shared<1>>>;

/// A taken packed queue, and the driver of its ring.
struct PackedRig<M: DriverMem = FlatMem> {
    queue: Queue<M>,
    driver: PackedDriver<FlatMem>,
    mem: M,
    chain: Chain<N>,
    ram: TestRam,
    line: &'static CountingNotify,
}

/// A rig with these features in addition to those of every test.
fn rig(features: Features, size: u16) -> PackedRig {
    let ram = ram();
    over(ram.flat(BASE), ram, features, size)
}

/// Like `rig`; the device accesses memory through `mem`.
fn over<M: DriverMem + Clone>(mem: M, ram: TestRam, features: Features, size: u16) -> PackedRig<M> {
    let features = features | PACKED;
    let driver = PackedDriver::new(ram.flat(BASE), BASE, size);
    let line: &'static CountingNotify = Box::leak(Box::default());
    let builder = DeviceBuilder::new(Arc::new(Shared::new()))
        .map_notify(|()| Ok(line))
        .expect("an interrupt");
    let mut configuring =
        Configuring::<_, _, _, 1, N, _>::new(builder, &(0..1), mem.clone()).with_features(features);
    let configured = configuring.step(Message::ConfigureQueue(driver.config(0)));
    assert!(matches!(configured, Ok(Progress::Configured(0))));
    let Ok(Progress::Ready(mut device, responder)) = configuring.step(Message::Ready { features })
    else {
        panic!("the device is ready");
    };
    responder.accept();
    PackedRig {
        queue: device.take_queue(0).expect("the queue is live"),
        driver,
        mem,
        chain: Chain::new(),
        ram,
        line,
    }
}

impl<M: DriverMem> PackedRig<M> {
    /// Pops the next chain; returns its id.
    fn pop(&mut self) -> Option<u16> {
        match self.queue.pop(&self.mem, &mut self.chain) {
            Ok(there) => there.then(|| self.chain.head()),
            Err(stop) => panic!("{stop:?}"),
        }
    }

    /// Pops the next chain, which has a fault; returns the fault.
    #[track_caller]
    fn fault(&mut self) -> virtside::DriverFault {
        match self.queue.pop(&self.mem, &mut self.chain) {
            Err(Stop::Driver(fault)) => fault,
            other => panic!("{other:?} instead of a fault"),
        }
    }

    /// Gives the chain back that was popped last.
    fn complete(&mut self, written: u32) {
        assert_eq!(self.queue.complete(&self.chain, written), Ok(()));
    }
}
