//! The chains of a packed queue that the device has: their buffer ids and lengths.
//!
//! Any 16-bit id is legal, so an id cannot be an index. It is looked for from `id % N` on, as far as
//! any id ever had to go since nothing was in flight: one step for drivers that count their ids from
//! 0, at most `N` for any other.

/// A chain in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u16,
    /// Slots of the ring that it takes; 0 if this is no chain.
    len: u16,
    /// Which of those that had this id it is.
    serial: u32,
}

/// Up to `N` of them, a power of two.
#[derive(Debug)]
pub(super) struct Flights<const N: usize> {
    flights: [Flight; N],
    count: u16,
    /// The farthest that an id is from its place.
    farthest: u16,
}

impl<const N: usize> Flights<N> {
    pub(super) const fn new() -> Self {
        Self {
            flights: [Flight {
                id: 0,
                len: 0,
                serial: 0,
            }; N],
            count: 0,
            farthest: 0,
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

    /// Adds a chain of `len` slots; false if its id is in flight already.
    #[inline(always)]
    pub(super) fn insert(&mut self, id: u16, len: u16, serial: u32) -> bool {
        if self.farthest == 0
            && let Some(place) = self.at(id, 0)
            && place.len == 0
        {
            *place = Flight { id, len, serial };
            self.count = self.count.wrapping_add(1);
            return true;
        }
        self.insert_far(id, len, serial)
    }

    #[cold]
    #[inline(never)]
    fn insert_far(&mut self, id: u16, len: u16, serial: u32) -> bool {
        let mut free = None;
        // Once nothing is in flight, all is near again.
        let farthest = if self.count == 0 { 0 } else { self.farthest };
        for step in 0..crate::num::clamp_u16(N) {
            match self.at(id, step) {
                Some(flight) if flight.len == 0 => free = free.or(Some(step)),
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
        if let Some(place) = self.at(id, step) {
            *place = Flight { id, len, serial };
        }
        self.farthest = farthest.max(step);
        self.count = self.count.wrapping_add(1);
        true
    }

    /// Takes a chain out that is in its place; the slots that it takes.
    #[inline(always)]
    pub(super) fn remove_near(&mut self, id: u16, serial: u32) -> Option<u16> {
        self.remove_at(id, serial, 0)
    }

    /// Takes a chain out; the slots that it takes, or `None` if it is not in flight with this serial.
    pub(super) fn remove(&mut self, id: u16, serial: u32) -> Option<u16> {
        (0..=self.farthest).find_map(|step| self.remove_at(id, serial, step))
    }

    #[inline(always)]
    fn remove_at(&mut self, id: u16, serial: u32, step: u16) -> Option<u16> {
        let place = self.at(id, step)?;
        if place.id != id || place.serial != serial || place.len == 0 {
            return None;
        }
        let len = core::mem::take(&mut place.len);
        self.count = self.count.wrapping_sub(1);
        Some(len)
    }

    /// The slots that a chain takes, if it is in flight.
    pub(super) fn get(&self, id: u16, serial: u32) -> Option<u16> {
        let there =
            |flight: &&Flight| flight.len != 0 && flight.id == id && flight.serial == serial;
        self.flights.iter().find(there).map(|flight| flight.len)
    }

    /// Whether a chain of this name is in flight.
    pub(super) fn has(&self, id: u16) -> bool {
        let there = |flight: &Flight| flight.len != 0 && flight.id == id;
        self.flights.iter().any(there)
    }

    /// The slots of all together.
    pub(super) fn slots(&self) -> u16 {
        let sum = |sum: u16, flight: &Flight| sum.wrapping_add(flight.len);
        self.flights.iter().fold(0, sum)
    }

    pub(super) fn clear(&mut self) {
        for flight in &mut self.flights {
            flight.len = 0;
        }
        self.count = 0;
        self.farthest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Flights;
    use proptest::{collection::vec, prelude::*};
    use std::collections::HashMap;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn flights_are_a_map_of_ids(steps in vec((any::<bool>(), 0u16..40, 1u16..4, 0u32..2), 0..200)) {
            let mut flights = Flights::<8>::new();
            let mut model = HashMap::new();
            for (insert, id, len, serial) in steps {
                // Ids that collide, and far apart.
                let id = id.wrapping_mul(0x0803);
                if insert && model.len() < 8 {
                    let fresh = !model.contains_key(&id);
                    prop_assert_eq!(flights.insert(id, len, serial), fresh);
                    model.entry(id).or_insert((len, serial));
                } else {
                    let there = model.get(&id).filter(|there| there.1 == serial).map(|there| there.0);
                    if there.is_some() {
                        model.remove(&id);
                    }
                    let len = flights.remove_near(id, serial).or_else(|| flights.remove(id, serial));
                    prop_assert_eq!(len, there);
                }
                prop_assert_eq!(usize::from(flights.count()), model.len());
            }
        }
    }
}
