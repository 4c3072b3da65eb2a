//! The chains of a packed queue that the device has: their buffer ids and lengths.
//!
//! Any 16-bit id is legal, so an id cannot be an index. It is looked for from `id % N` on, as far as
//! any id ever had to go since nothing was in flight: one step for drivers that count their ids from
//! 0, at most `N` for any other.

/// A chain in flight.
#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u16,
    /// Slots of the ring that it takes.
    len: u16,
    /// Which of those that had this id it is; an odd number, or [`FREE`].
    serial: u32,
}

/// In place of a serial number: no chain. No chain of any queue has it.
const FREE: u32 = u32::MAX - 3;

/// Up to `N` of them, a power of two.
#[derive(Debug)]
pub(super) struct Flights<const N: usize> {
    flights: [Flight; N],
    count: u16,
    /// The farthest that an id is from its place.
    farthest: u16,
    /// What that is when nothing is in flight.
    least: u16,
}

impl<const N: usize> Flights<N> {
    /// None. If `far`, no chain is ever put in by [`insert_near`](Self::insert_near).
    pub(super) fn new(far: bool) -> Self {
        Self {
            flights: [Flight {
                id: 0,
                len: 0,
                serial: FREE,
            }; N],
            count: 0,
            farthest: far.into(),
            least: far.into(),
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

    /// Adds a chain of `len` slots if all are in their places; else false, and [`insert`](Self::insert)
    /// is to be asked.
    #[inline(always)]
    pub(super) fn insert_near(&mut self, id: u16, len: u16, serial: u32) -> bool {
        if self.farthest == 0
            && let Some(place) = self.at(id, 0)
            && place.serial == FREE
        {
            *place = Flight { id, len, serial };
            self.count = self.count.wrapping_add(1);
            return true;
        }
        false
    }

    /// Adds a chain of `len` slots; false if its id is in flight already.
    pub(super) fn insert(&mut self, id: u16, len: u16, serial: u32) -> bool {
        let mut free = None;
        // Once nothing is in flight, all is near again.
        let farthest = if self.count == 0 {
            self.least
        } else {
            self.farthest
        };
        for step in 0..crate::num::clamp_u16(N) {
            match self.at(id, step) {
                Some(flight) if flight.serial == FREE => free = free.or(Some(step)),
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
        // Odd, so it is not `FREE`.
        let mut steps = (0..=self.farthest).filter(|_| serial & 1 != 0);
        steps.find_map(|step| self.remove_at(id, serial, step))
    }

    #[inline(always)]
    fn remove_at(&mut self, id: u16, serial: u32, step: u16) -> Option<u16> {
        // No two chains in flight have one serial number, so it says which it is.
        let place = self.at(id, step)?;
        if place.serial != serial {
            return None;
        }
        let len = place.len;
        place.serial = FREE;
        self.count = self.count.wrapping_sub(1);
        Some(len)
    }

    /// The slots that a chain takes, if it is in flight.
    pub(super) fn get(&self, id: u16, serial: u32) -> Option<u16> {
        let there =
            |flight: &&Flight| flight.serial != FREE && flight.id == id && flight.serial == serial;
        self.flights.iter().find(there).map(|flight| flight.len)
    }

    /// Whether a chain of this name is in flight.
    pub(super) fn has(&self, id: u16) -> bool {
        let there = |flight: &Flight| flight.serial != FREE && flight.id == id;
        self.flights.iter().any(there)
    }

    /// The slots of all together.
    pub(super) fn slots(&self) -> u16 {
        let there = self.flights.iter().filter(|flight| flight.serial != FREE);
        there.fold(0, |sum, flight| sum.wrapping_add(flight.len))
    }

    pub(super) fn clear(&mut self) {
        for flight in &mut self.flights {
            flight.serial = FREE;
        }
        self.count = 0;
        self.farthest = self.least;
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
        fn flights_are_a_map_of_ids(far in any::<bool>(), steps in vec((any::<bool>(), 0u16..40, 1u16..4, 0u32..2), 0..200)) {
            let mut flights = Flights::<8>::new(far);
            let mut model = HashMap::new();
            for (insert, id, len, serial) in steps {
                let serial = serial << 1 | 1;
                // Ids that collide, and far apart.
                let id = id.wrapping_mul(0x0803);
                if insert && model.len() < 8 {
                    let fresh = !model.contains_key(&id);
                    let near = flights.insert_near(id, len, serial);
                    prop_assert!(!(near && far));
                    prop_assert_eq!(near || flights.insert(id, len, serial), fresh);
                    model.entry(id).or_insert((len, serial));
                } else {
                    let there = model.get(&id).filter(|there| there.1 == serial).map(|there| there.0);
                    if there.is_some() {
                        model.remove(&id);
                    }
                    let len = flights.remove_near(id, serial).or_else(|| flights.remove(id, serial));
                    prop_assert_eq!(len, there);
                }
                prop_assert_eq!(flights.has(id), model.contains_key(&id));
                prop_assert_eq!(usize::from(flights.count()), model.len());
            }
        }
    }
}
