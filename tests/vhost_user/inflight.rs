//! A device that is killed, and another that goes on with its requests.

use std::{
    fs::File,
    os::fd::AsRawFd,
    panic::{self, AssertUnwindSafe},
};

use super::*;
use vhost::vhost_user::message::VhostUserInflight;
use virtside::{models::EntropyError, testing::PackedDriver};

type Source = Box<dyn FnMut(&mut [u8]) -> Result<usize, EntropyError> + Send>;
type Fragile = Entropy<Source>;

/// An entropy device that is killed at this request, counted from 0.
fn fragile(last: usize) -> TestDevice<Fragile> {
    let mut asked = 0;
    let source = move |bytes: &mut [u8]| {
        if asked == last {
            panic::resume_unwind(Box::new("killed"));
        }
        asked += 1;
        bytes.fill(asked as u8);
        Ok(bytes.len())
    };
    device(Entropy::new(Box::new(source) as Source))
}

/// The driver of a queue in either format.
enum Ring {
    Split,
    Packed(PackedDriver<VmMem>, u16),
}

/// A front end that keeps the memory of the requests in flight.
struct Keeper {
    front_end: FrontEnd<Fragile>,
    ring: Ring,
    area: (VhostUserInflight, File),
    answered: Vec<u16>,
}

impl Keeper {
    fn new(packed: bool, last: usize) -> Self {
        let mut front_end = connected_to(fragile(last));
        let ring = if packed {
            let driver = PackedDriver::new(VmMem::new(&front_end.memory), BASE, SIZE);
            front_end.config = driver.config(0);
            Ring::Packed(driver, 0)
        } else {
            Ring::Split
        };
        let wanted = VhostUserInflight::new(0, 0, 1, SIZE);
        let area = front_end.wire.get_inflight_fd(&wanted).expect("memory");
        let mut keeper = Self {
            front_end,
            ring,
            area,
            answered: Vec::new(),
        };
        keeper.start();
        keeper
    }

    /// Starts the queue, with a position that the device knows better.
    fn start(&mut self) {
        let front_end = &mut self.front_end;
        let packed = matches!(self.ring, Ring::Packed(..));
        let format = if packed {
            Features::RING_PACKED
        } else {
            Features::empty()
        };
        front_end
            .accept(Features::VERSION_1 | format)
            .expect("features");
        let (area, file) = &self.area;
        front_end
            .wire
            .set_inflight_fd(area, file.as_raw_fd())
            .expect("the memory of the last device");
        front_end.share_memory().expect("memory");
        front_end.start(0).expect("a valid queue");
    }

    /// Connects to the next device, after the last one was killed.
    fn reconnect(self, last: usize) -> Self {
        self.renew(last, true)
    }

    /// Connects to the next device, after the last one has left or was killed.
    fn renew(mut self, last: usize, killed: bool) -> Self {
        let (memory, driver, config) = (
            self.front_end.memory.clone(),
            self.front_end.driver,
            self.front_end.config,
        );
        if !killed {
            let _ = self.front_end.raw.shutdown(std::net::Shutdown::Both);
        }
        let ended = panic::catch_unwind(AssertUnwindSafe(|| self.front_end.device.join()));
        assert!(ended.is_ok_and(|ended| ended.is_err() == killed));
        drop((self.front_end.wire, self.front_end.raw));
        self.front_end = FrontEnd {
            driver,
            config,
            memory,
            ..connected_to(fragile(last))
        };
        self.start();
        self
    }

    fn ask(&mut self) {
        match &mut self.ring {
            Ring::Split => self.front_end.ask(),
            Ring::Packed(driver, id) => {
                let at = BASE + 0x8000 + 64 * u64::from(*id);
                // Chains of one to three slots.
                let parts = u32::from(*id % 3) + 1;
                let buffers: Vec<_> = (0..parts)
                    .map(|part| Buffer::writable(at + 8 * u64::from(part), 8))
                    .collect();
                driver.send(*id, &buffers);
                *id = (*id + 1) % 5;
            }
        }
    }

    fn take(&mut self) -> Option<u16> {
        match &mut self.ring {
            Ring::Split => self.front_end.driver.take_used().map(|used| used.0 as u16),
            Ring::Packed(driver, _) => {
                let expected = self.answered.len() as u16 % 5;
                let (id, _, _) = driver.take_used(expected % 3 + 1)?;
                Some(id)
            }
        }
    }

    /// Waits until this many requests are answered.
    fn wait(&mut self, count: usize) {
        while self.answered.len() < count {
            match self.take() {
                Some(id) => self.answered.push(id),
                None => _ = self.front_end.call.read().expect("an interrupt"),
            }
        }
    }
}

/// Kills a device at each of its requests in turn, with this many requests in the ring.
fn killed_again_and_again(packed: bool, requests: usize) {
    let mut keeper = Keeper::new(packed, 1);
    let mut asked = 0;
    let mut answers = 1;
    for life in 1..30 {
        while asked < keeper.answered.len() + requests {
            keeper.ask();
            asked += 1;
        }
        let before = keeper.answered.len();
        keeper.front_end.kick.write(1).expect("a kick");
        keeper = keeper.reconnect(life % requests);
        // The device was killed before it sent an interrupt.
        while keeper.answered.len() < before + answers {
            let id = keeper.take().expect("an answer of the last device");
            keeper.answered.push(id);
        }
        answers = life % requests;
    }
    let modulus = if packed { 5 } else { SIZE };
    let expected: Vec<u16> = (0..keeper.answered.len() as u16)
        .map(|number| number % modulus)
        .collect();
    assert_eq!(keeper.answered, expected, "each once, and in order");
}

#[test]
fn no_request_of_a_split_ring_is_lost_or_done_twice() {
    killed_again_and_again(false, 5);
}

#[test]
fn no_request_of_a_packed_ring_is_lost_or_done_twice() {
    killed_again_and_again(true, 4);
}

/// Exchanges a device that has no request in hand, again and again.
fn exchanged_while_idle(packed: bool) {
    let mut keeper = Keeper::new(packed, usize::MAX);
    for round in 0..20 {
        let before = keeper.answered.len();
        for _ in 0..round % 4 {
            keeper.ask();
        }
        keeper.front_end.kick.write(1).expect("a kick");
        keeper.wait(before + round % 4);
        keeper = keeper.renew(usize::MAX, false);
    }
    assert_eq!(keeper.answered.len(), 30);
}

#[test]
fn an_idle_split_queue_goes_on_where_it_was() {
    exchanged_while_idle(false);
}

#[test]
fn an_idle_packed_queue_goes_on_where_it_was() {
    exchanged_while_idle(true);
}

#[test]
fn a_queue_that_is_larger_than_its_record_is_refused() {
    let mut front_end = connected();
    front_end.accept(Features::VERSION_1).expect("features");
    let wanted = VhostUserInflight::new(0, 0, 1, SIZE / 2);
    let (area, file) = front_end.wire.get_inflight_fd(&wanted).expect("memory");
    front_end
        .wire
        .set_inflight_fd(&area, file.as_raw_fd())
        .expect("the same memory");
    front_end.share_memory().expect("memory");
    assert!(front_end.start(0).is_err());
}

#[test]
fn a_queue_that_was_stopped_begins_where_the_front_end_says() {
    let mut keeper = Keeper::new(true, usize::MAX);
    for _ in 0..3 {
        keeper.ask();
    }
    keeper.front_end.kick.write(1).expect("a kick");
    keeper.wait(3);
    let base = keeper.front_end.wire.get_vring_base(0).expect("a base");
    // The record ends with the queue, so the ring may begin anew.
    assert_eq!(base & 0xffff, 0x8000 | 6);
    let memory = VmMem::new(&keeper.front_end.memory);
    keeper.ring = Ring::Packed(PackedDriver::new(memory, BASE, SIZE), 0);
    keeper.answered.clear();
    keeper.front_end.start(0x8000).expect("a valid queue");
    keeper.ask();
    keeper.front_end.kick.write(1).expect("a kick");
    keeper.wait(1);
}

#[test]
fn memory_of_another_kind_of_device_is_refused() {
    let mut front_end = sharing();
    let wanted = VhostUserInflight::new(0, 0, 1, SIZE);
    let (area, file) = front_end.wire.get_inflight_fd(&wanted).expect("memory");
    std::os::unix::fs::FileExt::write_all_at(&file, b"abcd", 0).expect("written");
    let set = front_end.wire.set_inflight_fd(&area, file.as_raw_fd());
    assert!(set.is_err());
    assert!(front_end.close().is_err());
}

#[test]
fn memory_that_is_too_short_is_refused() {
    let mut front_end = sharing();
    let wanted = VhostUserInflight::new(0, 0, 1, SIZE);
    let (mut area, file) = front_end.wire.get_inflight_fd(&wanted).expect("memory");
    area.num_queues = 2;
    let set = front_end.wire.set_inflight_fd(&area, file.as_raw_fd());
    assert!(set.is_err());
    assert!(front_end.close().is_err());
}

#[test]
fn more_queues_than_the_device_has_are_refused() {
    let mut front_end = sharing();
    let wanted = VhostUserInflight::new(0, 0, 5, SIZE);
    assert!(front_end.wire.get_inflight_fd(&wanted).is_err());
}
