//! The driver's side, after the specification ("Supplying Buffers to The Device", "Receiving Used
//! Buffers From The Device", of split and of packed virtqueues), with every memory order that it
//! requires.

use std::collections::VecDeque;

use loom::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};
use virtside::testing::{Buffer, NEXT, WRITE};

use crate::{
    Kind,
    memory::{Memory, SIZE},
};

/// `VIRTQ_DESC_F_AVAIL` and `VIRTQ_DESC_F_USED` in a descriptor's last word.
const AVAIL: u32 = 1 << 23;
const USED: u32 = 1 << 31;
/// `RING_EVENT_FLAGS_DISABLE` and `RING_EVENT_FLAGS_DESC` in an event suppression structure.
const DISABLE: u32 = 1 << 16;
const DESC: u32 = 2 << 16;

/// The driver's side of one queue.
#[derive(Debug)]
pub struct Driver {
    mem: Memory,
    kind: Kind,
    /// Free-running counts of ring entries (split ring) or descriptors (packed ring).
    next_avail: u16,
    next_used: u16,
    /// With IN_ORDER: ids in the device's hand, oldest first.
    sent: VecDeque<u16>,
}

/// Whether this round of a packed ring has wrap counter 1.
fn wrap(position: u16) -> bool {
    (position / SIZE).is_multiple_of(2)
}

/// A position with its wrap bit, in the form of event suppression structures.
fn word(position: u16) -> u32 {
    u32::from(position % SIZE) | u32::from(wrap(position)) << 15
}

/// `vring_need_event`
fn is_passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

impl Driver {
    pub fn new(mem: Memory, kind: Kind) -> Self {
        Self {
            mem,
            kind,
            next_avail: 0,
            next_used: 0,
            sent: VecDeque::new(),
        }
    }

    fn describe(&self, slot: u16, buffer: &Buffer) {
        let desc = &self.mem.words().desc[usize::from(slot)];
        desc.addr.store(buffer.addr, Relaxed);
        desc.len.store(buffer.len, Relaxed);
    }

    fn flags(&self, at: usize, buffers: &[Buffer]) -> u32 {
        let next = if at + 1 < buffers.len() { NEXT } else { 0 };
        let write = if buffers[at].writable { WRITE } else { 0 };
        (next | write).into()
    }

    /// Makes a chain available; returns whether the device asks for a kick. In a split ring the
    /// chain's descriptors start at `id`.
    pub fn publish(&mut self, id: u16, buffers: &[Buffer]) -> bool {
        let old = self.next_avail;
        if self.kind.in_order {
            self.sent.push_back(id);
        }
        if self.kind.packed {
            self.publish_packed(id, buffers);
        } else {
            self.publish_split(id, buffers);
        }
        fence(SeqCst);
        self.wants_kick(old)
    }

    fn publish_split(&mut self, head: u16, buffers: &[Buffer]) {
        let words = self.mem.words();
        for (at, buffer) in buffers.iter().enumerate() {
            let slot = head + at as u16;
            self.describe(slot, buffer);
            let rest = self.flags(at, buffers) | u32::from(slot + 1) << 16;
            words.desc[usize::from(slot)].rest.store(rest, Relaxed);
        }
        words.avail[usize::from(self.next_avail % SIZE)].store(head, Relaxed);
        self.next_avail += 1;
        words.avail_idx.store(self.next_avail, Release);
    }

    fn publish_packed(&mut self, id: u16, buffers: &[Buffer]) {
        // The first descriptor is written last, because it makes the whole chain available.
        for (at, buffer) in buffers.iter().enumerate().rev() {
            let position = self.next_avail + at as u16;
            let slot = position % SIZE;
            self.describe(slot, buffer);
            let round = if wrap(position) { AVAIL } else { USED };
            let rest = u32::from(id) | self.flags(at, buffers) << 16 | round;
            let order = if at == 0 { Release } else { Relaxed };
            self.mem.words().desc[usize::from(slot)]
                .rest
                .store(rest, order);
        }
        self.next_avail += buffers.len() as u16;
    }

    fn wants_kick(&self, old: u16) -> bool {
        let words = self.mem.words();
        let new = self.next_avail;
        if self.kind.packed {
            let event = words.device_event.load(Relaxed);
            return match event & (DISABLE | DESC) {
                0 => true,
                DISABLE => false,
                _ => (old..new).any(|position| event & 0xffff == word(position)),
            };
        }
        if self.kind.event_idx {
            is_passed(words.avail_event.load(Relaxed), new, old)
        } else {
            words.used_flags.load(Relaxed) & 1 == 0
        }
    }

    /// Takes the next used element; returns ids and written lengths. Each chain has `slots`
    /// descriptors. With IN_ORDER the element names the last chain of a batch; the others are full.
    pub fn take_used(&mut self, slots: u16) -> Option<Vec<(u32, u32)>> {
        let (id, len, ahead) = self.look()?;
        let mut chains = Vec::new();
        while let Some(skipped) = self.sent.pop_front().map(u32::from)
            && skipped != id
        {
            chains.push((skipped, 1));
        }
        chains.push((id, len));
        let count = chains.len() as u16;
        assert!(count <= ahead, "torn element: {count} of {ahead}");
        self.next_used += if self.kind.packed {
            count * slots
        } else {
            count
        };
        Some(chains)
    }

    /// The next used element, and the number of chains that it may stand for.
    fn look(&self) -> Option<(u32, u32, u16)> {
        let words = self.mem.words();
        if self.kind.packed {
            let desc = &words.desc[usize::from(self.next_used % SIZE)];
            let rest = desc.rest.load(Acquire);
            if !self.is_used(rest) {
                return None;
            }
            return Some((rest & 0xffff, desc.len.load(Relaxed), SIZE));
        }
        let ahead = words.used_idx.load(Acquire) - self.next_used;
        if ahead == 0 {
            return None;
        }
        let [id, len] = &words.used[usize::from(self.next_used % SIZE)];
        Some((id.load(Relaxed), len.load(Relaxed), ahead))
    }

    fn is_used(&self, rest: u32) -> bool {
        let both = if wrap(self.next_used) {
            AVAIL | USED
        } else {
            0
        };
        rest & (AVAIL | USED) == both
    }

    /// Disables interrupts; with EVENT_IDX, by leaving the event index in the past.
    pub fn disable_interrupts(&self) {
        let words = self.mem.words();
        if self.kind.event_idx {
        } else if self.kind.packed {
            words.driver_event.store(DISABLE, Relaxed);
        } else {
            words.avail_flags.store(1, Relaxed);
        }
    }

    /// Asks for an interrupt for the next used chain; returns true if a chain was used meanwhile.
    pub fn enable_interrupts(&self) -> bool {
        let words = self.mem.words();
        match (self.kind.packed, self.kind.event_idx) {
            (false, false) => words.avail_flags.store(0, Relaxed),
            (false, true) => words.used_event.store(self.next_used, Relaxed),
            (true, false) => words.driver_event.store(0, Relaxed),
            (true, true) => words
                .driver_event
                .store(DESC | word(self.next_used), Relaxed),
        }
        fence(SeqCst);
        if self.kind.packed {
            let desc = &words.desc[usize::from(self.next_used % SIZE)];
            self.is_used(desc.rest.load(Acquire))
        } else {
            words.used_idx.load(Acquire) != self.next_used
        }
    }
}
