//! The driver's side of one queue.

use super::*;

/// The driver's side of a ring.
pub(super) enum Ring<M> {
    Split(FakeDriver<M>, u16),
    #[cfg(feature = "packed")]
    Packed(PackedDriver<M>),
}

/// The driver's side of a queue, with its requests in flight, oldest first.
pub(super) struct Lane<M> {
    pub(super) queue: u16,
    pub(super) ring: Ring<M>,
    pub(super) in_order: bool,
    pub(super) sent: VecDeque<(u16, u32)>,
    pub(super) answered: u32,
}

impl<M: DriverMem + Clone> Lane<M> {
    pub(super) fn new(mem: &M, queue: u16, features: Features) -> Self {
        let start = BASE + 0x1000 * u64::from(queue);
        let split = FakeDriver::new(mem.clone(), Layout::packed_at(start, SIZE));
        let ring = Ring::Split(split, 0);
        #[cfg(feature = "packed")]
        let ring = if features.contains(Features::RING_PACKED) {
            Ring::Packed(PackedDriver::new(mem.clone(), start, SIZE))
        } else {
            ring
        };
        Self {
            queue,
            ring,
            in_order: features.contains(Features::IN_ORDER),
            sent: VecDeque::new(),
            answered: 0,
        }
    }

    pub(super) fn config(&self) -> virtside::QueueConfig {
        match &self.ring {
            Ring::Split(driver, _) => driver.config(self.queue),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.config(self.queue),
        }
    }

    pub(super) fn buffer(&self, id: u16) -> u64 {
        DATA + 0x1000 * u64::from(self.queue) + 0x40 * u64::from(id)
    }

    pub(super) fn areas(&self) -> [u64; 2] {
        [BASE + 0x1000 * u64::from(self.queue), self.buffer(0)]
    }

    /// Sends a number that must come back, or a malformed chain; false if there is no room.
    pub(super) fn send(&mut self, number: u32, good: bool) -> bool {
        let is_free = |id: &u16| self.sent.iter().all(|(other, _)| other != id);
        let Some(id) = (0..CHAINS).find(is_free) else {
            return false;
        };
        let at = self.buffer(id);
        let from = if good { at } else { NOTHING };
        let buffers = [Buffer::readable(from, 4), Buffer::writable(at + 0x20, 4)];
        let (first, second) = (number.to_le_bytes(), [0; 4]);
        match &mut self.ring {
            Ring::Split(driver, _) => {
                driver.write(at, &first);
                driver.write(at + 0x20, &second);
                driver.write_chain(id * 2, &buffers);
                driver.offer(id * 2);
                fence(Ordering::SeqCst);
                driver.publish();
            }
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => {
                driver.write(at, &first);
                driver.write(at + 0x20, &second);
                fence(Ordering::SeqCst);
                driver.send(id, &buffers);
            }
        }
        fence(Ordering::SeqCst);
        self.sent.push_back((id, number));
        true
    }

    /// Takes used elements: each request once, and only requests that were sent.
    pub(super) fn collect(&mut self) {
        loop {
            let (id, len) = match &mut self.ring {
                Ring::Split(driver, seen) => {
                    let ahead = driver.used_idx().wrapping_sub(*seen);
                    fence(Ordering::SeqCst);
                    assert!(
                        usize::from(ahead) <= self.sent.len(),
                        "more came back than was sent"
                    );
                    if ahead == 0 {
                        return;
                    }
                    let (head, len) = driver.used_entry(*seen);
                    assert_eq!(head % 2, 0);
                    (head as u16 / 2, len)
                }
                #[cfg(feature = "packed")]
                Ring::Packed(driver) => {
                    let Some((id, len, _)) = driver.clone().take_used(0) else {
                        return;
                    };
                    fence(Ordering::SeqCst);
                    (id, len)
                }
            };
            let at = self.place(id);
            // With IN_ORDER, all chains before the last of a batch are skipped.
            let first = if self.in_order { 0 } else { at };
            let count = (at - first) as u16 + 1;
            match &mut self.ring {
                Ring::Split(_, seen) => *seen = seen.wrapping_add(count),
                #[cfg(feature = "packed")]
                Ring::Packed(driver) => {
                    driver.take_used(2 * count);
                }
            }
            for (sent, number) in self.sent.range(first..=at) {
                self.check(*sent, *number, if *sent == id { len } else { 4 });
            }
            self.answered += u32::from(count);
            self.sent.drain(first..=at);
        }
    }

    #[track_caller]
    pub(super) fn place(&self, id: u16) -> usize {
        let place = self.sent.iter().position(|(sent, _)| *sent == id);
        place.expect("answered twice, or never sent")
    }

    pub(super) fn check(&self, id: u16, number: u32, len: u32) {
        let mut bytes = [0; 4];
        let at = self.buffer(id) + 0x20;
        match &self.ring {
            Ring::Split(driver, _) => driver.read(at, &mut bytes),
            #[cfg(feature = "packed")]
            Ring::Packed(driver) => driver.read(at, &mut bytes),
        };
        match len {
            0 => {}
            4 => assert_eq!(u32::from_le_bytes(bytes), number),
            len => panic!("{len} bytes came back"),
        }
    }
}
