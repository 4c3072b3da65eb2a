//! The chains of a packed queue that the device has: their buffer ids and lengths.
//!
//! Any 16-bit id is legal, so an id cannot be an index. It is looked for from `id % N` on, as far as
//! any id ever had to go since nothing was in flight: one step for drivers that count their ids from
//! 0, at most `N` for any other.
//!
//! As long as each is in its place, they are near, and what that makes short is asked first. Else
//! they are far: then other words stand in the places, so that what is asked first finds nothing. To
//! turn them is `N` steps, and is due when the first comes that has to go, and when all have gone.

use crate::queue::serial::{FREE, PACKED_FAR_XOR};

/// A chain in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u16,
    /// Slots of the ring that it takes.
    len: u16,
    /// Which of those that had this id it is: an odd number, xor if they are far. Even, there is no
    /// chain.
    serial: u32,
}

/// Up to `N` of them, a power of two.
#[derive(Debug)]
pub(super) struct InFlight<const N: usize> {
    flights: [Flight; N],
    count: u16,
    /// The farthest that an id is from its place.
    farthest: u16,
    /// [`PACKED_FAR_XOR`], or 0 while all are near.
    far: u32,
    /// They never are.
    always_far: bool,
}

impl<const N: usize> InFlight<N> {
    /// None. If `far`, no chain is ever put in by [`insert_near`](Self::insert_near), or taken out by
    /// [`remove_near`](Self::remove_near).
    pub(super) fn new(far: bool) -> Self {
        let xor = if far { PACKED_FAR_XOR } else { 0 };
        Self {
            flights: [Flight {
                id: 0,
                len: 0,
                serial: FREE ^ xor,
            }; N],
            count: 0,
            farthest: 0,
            far: xor,
            always_far: far,
        }
    }

    /// How many.
    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    #[inline(always)]
    fn at(&mut self, id: u16, step: u16) -> Option<&mut Flight> {
        let mask = N.wrapping_sub(1);
        let at = usize::from(id).wrapping_add(usize::from(step)) & mask;
        self.flights.get_mut(at)
    }

    /// Adds a chain of `len` slots if all are near and its place is free; else false, and
    /// [`insert`](Self::insert) is to be asked.
    #[inline(always)]
    pub(super) fn insert_near(&mut self, id: u16, len: u16, serial: u32) -> bool {
        match self.at(id, 0) {
            Some(place) if place.serial == FREE => {
                *place = Flight { id, len, serial };
                self.count = self.count.wrapping_add(1);
                true
            }
            _ => false,
        }
    }

    /// Adds a chain of `len` slots; false if its id is in flight already.
    pub(super) fn insert(&mut self, id: u16, len: u16, serial: u32) -> bool {
        // Once nothing is in flight, all is near again.
        if self.count == 0 {
            self.set_far(self.initial_far());
            self.farthest = 0;
        }
        let mut free = None;
        for step in 0..crate::num::clamp_u16(N) {
            let farthest = self.farthest;
            match self.at(id, step) {
                Some(flight) if flight.is_free() => free = free.or(Some(step)),
                Some(flight) if flight.id == id => return false,
                _ => {}
            }
            // Nothing is farther away, and there is a place.
            if step >= farthest && free.is_some() {
                break;
            }
        }
        let Some(step) = free else {
            return false;
        };
        if step != 0 {
            self.set_far(PACKED_FAR_XOR);
            self.farthest = self.farthest.max(step);
        }
        let serial = serial ^ self.far;
        if let Some(place) = self.at(id, step) {
            *place = Flight { id, len, serial };
        }
        self.count = self.count.wrapping_add(1);
        true
    }

    const fn initial_far(&self) -> u32 {
        if self.always_far { PACKED_FAR_XOR } else { 0 }
    }

    /// Makes them far, or near.
    fn set_far(&mut self, far: u32) {
        let change = self.far ^ far;
        if change != 0 {
            self.far = far;
            for flight in &mut self.flights {
                flight.serial ^= change;
            }
        }
    }

    /// Takes a chain out if all are near; the slots that it takes.
    #[inline(always)]
    pub(super) fn remove_near(&mut self, id: u16, serial: u32) -> Option<u16> {
        self.remove_at(id, 0, serial, FREE)
    }

    /// Takes a chain out; the slots that it takes, or `None` if it is not in flight with this serial.
    pub(super) fn remove(&mut self, id: u16, serial: u32) -> Option<u16> {
        let far = self.far;
        // One that is even is no chain's.
        let mut steps = (0..=self.farthest).filter(|_| serial & 1 != 0);
        steps.find_map(|step| self.remove_at(id, step, serial ^ far, FREE ^ far))
    }

    #[inline(always)]
    fn remove_at(&mut self, id: u16, step: u16, serial: u32, free: u32) -> Option<u16> {
        // No two chains in flight have one serial number, so it says which it is.
        let place = self.at(id, step)?;
        if place.serial != serial {
            return None;
        }
        let len = place.len;
        place.serial = free;
        self.count = self.count.wrapping_sub(1);
        Some(len)
    }

    fn in_flight(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter(|flight| !flight.is_free())
    }

    /// The slots that a chain takes, if it is in flight.
    pub(super) fn get(&self, id: u16, serial: u32) -> Option<u16> {
        let serial = serial ^ self.far;
        let there = |flight: &&Flight| flight.id == id && flight.serial == serial;
        self.in_flight().find(there).map(|flight| flight.len)
    }

    /// Whether a chain of this name is in flight.
    pub(super) fn has(&self, id: u16) -> bool {
        self.in_flight().any(|flight| flight.id == id)
    }

    /// The slots of all together.
    pub(super) fn slots(&self) -> u16 {
        let sum = |sum: u16, flight: &Flight| sum.wrapping_add(flight.len);
        self.in_flight().fold(0, sum)
    }

    pub(super) fn clear(&mut self) {
        self.far = self.initial_far();
        for flight in &mut self.flights {
            flight.serial = FREE ^ self.far;
        }
        self.count = 0;
        self.farthest = 0;
    }
}

impl Flight {
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
    fn a_chain_of_a_split_ring_or_of_none_is_not_in_flight() {
        let xor = super::FREE ^ super::PACKED_FAR_XOR;
        // Some split numbers, plain and xor, are one bit from a word that stands for no chain.
        let split = [
            0x3fff_fffc,
            0x7fff_fffc,
            0x7fff_ffff,
            0x8000_7fff,
            0x4000_0000,
        ];
        for far in [false, true] {
            let mut flights = InFlight::<8>::new(far);
            for serial in split.into_iter().chain([u32::MAX - 1]) {
                assert_eq!(flights.remove_near(0, serial), None, "{serial:#x}");
                assert_eq!(flights.remove(0, serial), None, "{serial:#x}");
                assert!(serial != super::FREE && serial != xor);
            }
            assert_eq!(flights.count(), 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn flights_are_a_map_of_ids(far in any::<bool>(), steps in vec((any::<bool>(), 0u16..40, 1u16..4, 0usize..12), 0..200)) {
            let mut flights = InFlight::<8>::new(far);
            let mut model = HashMap::new();
            // One after the other, as a queue counts them; old ones are tried, too, and that of no chain.
            let (mut serials, mut next) = (vec![u32::MAX - 1], 1_u32);
            for (insert, id, len, back) in steps {
                // Ids that collide, and far apart.
                let id = id.wrapping_mul(0x0803);
                if insert && model.len() < 8 {
                    let serial = next;
                    next = next.wrapping_add(2);
                    serials.push(serial);
                    let fresh = !model.contains_key(&id);
                    let near = flights.insert_near(id, len, serial);
                    prop_assert!(!(near && far));
                    prop_assert_eq!(near || flights.insert(id, len, serial), fresh);
                    model.entry(id).or_insert((len, serial));
                } else {
                    let current = model.get(&id).map(|there| there.1);
                    let serial = match (current, serials.iter().nth_back(back)) {
                        (Some(serial), _) if back < 6 => serial,
                        (_, Some(serial)) if !model.iter().any(|(_, there)| there.1 == *serial) => *serial,
                        _ => continue,
                    };
                    let there = model.get(&id).filter(|there| there.1 == serial).map(|there| there.0);
                    prop_assert_eq!(flights.get(id, serial), there);
                    if there.is_some() {
                        model.remove(&id);
                    }
                    let near = flights.remove_near(id, serial);
                    prop_assert!(!(near.is_some() && far));
                    prop_assert_eq!(near.or_else(|| flights.remove(id, serial)), there);
                }
                prop_assert_eq!(flights.has(id), model.contains_key(&id));
                prop_assert_eq!(usize::from(flights.count()), model.len());
                prop_assert_eq!(flights.slots(), model.values().map(|there| there.0).sum::<u16>());
            }
        }
    }
}
