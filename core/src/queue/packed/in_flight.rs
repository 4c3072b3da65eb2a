//! The chains of a packed queue that are in flight, by buffer id.
//!
//! A driver may use any 16-bit number as a buffer id, so an id cannot be an index. The table is an
//! open-addressing hash table with linear probing. The home entry of an id is entry `id % N`. A
//! search starts at the home entry. It ends at the longest distance at which an id was stored since
//! the table was last empty. A search takes one step if the driver counts its ids from 0, and at
//! most `N` steps otherwise.
//!
//! # Fast path and slow path
//!
//! While every id is in its home entry, a lookup is one comparison of serial numbers:
//! [`insert_fast`](InFlight::insert_fast) and [`remove_fast`](InFlight::remove_fast). After the
//! first collision every entry is XORed with
//! [`PACKED_SLOW_XOR`](crate::queue::serial::PACKED_SLOW_XOR), free entries included, so that the
//! fast path finds nothing and the caller takes the slow path, [`insert`](InFlight::insert) and
//! [`remove`](InFlight::remove). The first insertion into an empty table undoes the XOR. Each
//! switch costs `N` steps. The module `serial` says why there is an XOR and not a flag.

use crate::queue::serial::{FREE, PACKED_SLOW_XOR};

/// An entry of the table: a chain in flight, or free.
#[derive(Clone, Copy, Debug)]
struct TableEntry {
    id: u16,
    /// Ring slots that the chain occupies.
    slots: u16,
    /// Serial number of the chain, XORed with [`InFlight::xor`]. Odd if there is a chain, even if
    /// the entry is free.
    serial: u32,
}

/// Table of up to `N` chains in flight. `N` is a power of two.
#[derive(Debug)]
pub(super) struct InFlight<const N: usize> {
    entries: [TableEntry; N],
    count: u16,
    /// Longest distance between an id and its home entry since the table was last empty, in
    /// entries.
    farthest: u16,
    /// [`PACKED_SLOW_XOR`] while chains have to take the slow path, else 0.
    xor: u32,
}

impl<const N: usize> InFlight<N> {
    /// Creates an empty table.
    pub(super) const fn new() -> Self {
        Self {
            entries: [TableEntry {
                id: 0,
                slots: 0,
                serial: FREE,
            }; N],
            count: 0,
            farthest: 0,
            xor: 0,
        }
    }

    /// Returns the number of chains in flight.
    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// Returns the entry that is `step` entries after the home entry of an id.
    #[inline(always)]
    fn at(&mut self, id: u16, step: u16) -> Option<&mut TableEntry> {
        let mask = N.wrapping_sub(1);
        let at = usize::from(id).wrapping_add(usize::from(step)) & mask;
        self.entries.get_mut(at)
    }

    /// Adds a chain of `slots` slots on the fast path. Returns false and adds nothing if the home
    /// entry is occupied or the table is on the slow path. The caller then calls
    /// [`insert`](Self::insert).
    #[inline(always)]
    pub(super) fn insert_fast(&mut self, id: u16, slots: u16, serial: u32) -> bool {
        match self.at(id, 0) {
            Some(entry) if entry.serial == FREE => {
                *entry = TableEntry { id, slots, serial };
                self.count = self.count.wrapping_add(1);
                true
            }
            _ => false,
        }
    }

    /// Adds a chain of `slots` slots on the slow path. Returns false if its id is in flight
    /// already.
    pub(super) fn insert(&mut self, id: u16, slots: u16, serial: u32) -> bool {
        // In an empty table no id is displaced.
        if self.count == 0 {
            self.set_xor(0);
            self.farthest = 0;
        }
        let mut free = None;
        for step in 0..crate::num::clamp_u16(N) {
            let farthest = self.farthest;
            match self.at(id, step) {
                Some(entry) if entry.is_free() => free = free.or(Some(step)),
                Some(entry) if entry.id == id => return false,
                _ => {}
            }
            // No id is displaced farther, so this id is not in flight, and a free entry was found.
            if step >= farthest && free.is_some() {
                break;
            }
        }
        let Some(step) = free else {
            return false;
        };
        if step != 0 {
            self.set_xor(PACKED_SLOW_XOR);
            self.farthest = self.farthest.max(step);
        }
        let serial = serial ^ self.xor;
        if let Some(entry) = self.at(id, step) {
            *entry = TableEntry { id, slots, serial };
        }
        self.count = self.count.wrapping_add(1);
        true
    }

    /// Changes the XOR constant, and with it every entry.
    fn set_xor(&mut self, xor: u32) {
        let change = self.xor ^ xor;
        if change != 0 {
            self.xor = xor;
            for entry in &mut self.entries {
                entry.serial ^= change;
            }
        }
    }

    /// Removes a chain on the fast path and returns its number of slots. Returns `None` and removes
    /// nothing if the chain is not in flight or the table is on the slow path. The caller then
    /// calls [`remove`](Self::remove).
    #[inline(always)]
    pub(super) fn remove_fast(&mut self, id: u16, serial: u32) -> Option<u16> {
        self.remove_at(id, 0, serial, FREE)
    }

    /// Removes a chain on the slow path and returns its number of slots. Returns `None` if the
    /// chain is not in flight with this serial number.
    pub(super) fn remove(&mut self, id: u16, serial: u32) -> Option<u16> {
        let xor = self.xor;
        // An even number is no serial number, but may equal the word of a free entry.
        let mut steps = (0..=self.farthest).filter(|_| serial & 1 != 0);
        steps.find_map(|step| self.remove_at(id, step, serial ^ xor, FREE ^ xor))
    }

    /// Removes the chain in one entry if the entry has this serial number, and stores `free` there.
    /// Both words are as the table stores them, after the XOR.
    #[inline(always)]
    fn remove_at(&mut self, id: u16, step: u16, serial: u32, free: u32) -> Option<u16> {
        // The serial number alone identifies the chain: no two chains in flight share one.
        let entry = self.at(id, step)?;
        if entry.serial != serial {
            return None;
        }
        let slots = entry.slots;
        entry.serial = free;
        self.count = self.count.wrapping_sub(1);
        Some(slots)
    }

    fn in_flight(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.iter().filter(|entry| !entry.is_free())
    }

    /// Returns the number of slots of a chain, or `None` if the chain is not in flight.
    pub(super) fn get(&self, id: u16, serial: u32) -> Option<u16> {
        let serial = serial ^ self.xor;
        let is_chain = |entry: &&TableEntry| entry.id == id && entry.serial == serial;
        self.in_flight().find(is_chain).map(|entry| entry.slots)
    }

    /// Returns whether a chain with this buffer id is in flight.
    pub(super) fn has(&self, id: u16) -> bool {
        self.in_flight().any(|entry| entry.id == id)
    }

    /// Returns the number of slots of all chains in flight together.
    pub(super) fn slots(&self) -> u16 {
        let sum = |sum: u16, entry: &TableEntry| sum.wrapping_add(entry.slots);
        self.in_flight().fold(0, sum)
    }

    /// Removes every chain.
    pub(super) fn clear(&mut self) {
        self.xor = 0;
        for entry in &mut self.entries {
            entry.serial = FREE;
        }
        self.count = 0;
        self.farthest = 0;
    }
}

impl TableEntry {
    fn is_free(&self) -> bool {
        self.serial & 1 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::InFlight;
    use proptest::{collection::vec, prelude::*};
    use std::{collections::HashMap, vec};

    #[test]
    fn a_serial_of_a_split_queue_or_of_no_chain_is_not_in_flight() {
        let xor = super::FREE ^ super::PACKED_SLOW_XOR;
        // Some of these serial numbers of split queues differ in one bit from a reserved value.
        let split = [
            0x3fff_fffc,
            0x7fff_fffc,
            0x7fff_ffff,
            0x8000_7fff,
            0x4000_0000,
        ];
        for collides in [false, true] {
            let mut table = InFlight::<8>::new();
            if collides {
                assert!(table.insert_fast(1, 1, 1) && table.insert(9, 1, 3));
            }
            for serial in split.into_iter().chain([u32::MAX - 1]) {
                assert_eq!(table.remove_fast(0, serial), None, "{serial:#x}");
                assert_eq!(table.remove(0, serial), None, "{serial:#x}");
                assert!(serial != super::FREE && serial != xor);
            }
            assert_eq!(table.count(), if collides { 2 } else { 0 });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_table_behaves_like_a_hash_map(steps in vec((any::<bool>(), 0u16..40, 1u16..4, 0usize..12), 0..200)) {
            let mut table = InFlight::<8>::new();
            let mut model = HashMap::new();
            // Serial numbers count up as in a queue. Old ones are tried too, and `NO_CHAIN`.
            let (mut serials, mut next) = (vec![u32::MAX - 1], 1_u32);
            for (insert, id, slots, back) in steps {
                // Ids that collide, and ids far apart.
                let id = id.wrapping_mul(0x0803);
                if insert && model.len() < 8 {
                    let serial = next;
                    next = next.wrapping_add(2);
                    serials.push(serial);
                    let fresh = !model.contains_key(&id);
                    let fast = table.insert_fast(id, slots, serial);
                    prop_assert_eq!(fast || table.insert(id, slots, serial), fresh);
                    model.entry(id).or_insert((slots, serial));
                } else {
                    let current = model.get(&id).map(|there| there.1);
                    let serial = match (current, serials.iter().nth_back(back)) {
                        (Some(serial), _) if back < 6 => serial,
                        (_, Some(serial)) if !model.iter().any(|(_, there)| there.1 == *serial) => *serial,
                        _ => continue,
                    };
                    let there = model.get(&id).filter(|there| there.1 == serial).map(|there| there.0);
                    prop_assert_eq!(table.get(id, serial), there);
                    if there.is_some() {
                        model.remove(&id);
                    }
                    let fast = table.remove_fast(id, serial);
                    prop_assert_eq!(fast.or_else(|| table.remove(id, serial)), there);
                }
                prop_assert_eq!(table.has(id), model.contains_key(&id));
                prop_assert_eq!(usize::from(table.count()), model.len());
                prop_assert_eq!(table.slots(), model.values().map(|there| there.0).sum::<u16>());
            }
        }
    }
}
