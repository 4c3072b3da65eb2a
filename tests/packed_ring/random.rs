//! Random drivers, correct and faulty, at a packed ring.

use std::collections::VecDeque;

use proptest::{collection::vec, prelude::*};
use virtside::{
    Features,
    device::Stop,
    testing::{Buffer, Shift, ShiftingMem},
};
use virtside_tests::{BASE, DATA, ram};

use crate::{over, rig};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each chain of a correct driver is popped once and in order, and is given back once, in the
    /// order of completion.
    #[test]
    fn each_chain_is_popped_once_and_given_back_once(
        size in 1u16..=16,
        steps in vec((any::<u8>(), any::<u16>(), 1u16..=5), 1..300),
    ) {
        let mut rig = rig(Features::empty(), size);
        let mut free = size;
        let mut sent = VecDeque::new();
        let mut held: Vec<(virtside::queue::Chain<16>, u16)> = Vec::new();
        let mut given = VecDeque::new();
        let mut busy: Vec<u16> = Vec::new();
        for (what, number, slots) in steps {
            match what % 4 {
                0 if slots <= free && !busy.contains(&number) => {
                    rig.driver.send(number, &vec![Buffer::writable(DATA, 9); usize::from(slots)]);
                    sent.push_back((number, slots));
                    busy.push(number);
                    free -= slots;
                }
                1 => {
                    let expected = sent.pop_front();
                    prop_assert_eq!(rig.pop(), expected.map(|(id, _)| id));
                    if let Some((_, slots)) = expected {
                        prop_assert_eq!(rig.chain.segments().len(), usize::from(slots));
                        held.push((rig.chain.clone(), slots));
                    }
                }
                2 if !held.is_empty() => {
                    let (chain, slots) = held.swap_remove(usize::from(number) % held.len());
                    let written = u32::from(number % 5);
                    prop_assert_eq!(rig.queue.complete(&chain, written), Ok(()));
                    given.push_back((chain.head(), slots, written));
                }
                3 => match given.pop_front() {
                    None => prop_assert_eq!(rig.driver.take_used(1), None),
                    Some((id, slots, written)) => {
                        let expected = Some((id, written, written != 0));
                        prop_assert_eq!(rig.driver.take_used(slots), expected);
                        busy.retain(|other| *other != id);
                        free += slots;
                    }
                },
                _ => {}
            }
        }
    }

    /// Random bytes in a ring, which change while the device reads them, end in a fault or in no
    /// chain. Memory outside the ring and the buffers is unchanged.
    #[test]
    fn random_bytes_never_panic_or_spoil_memory(
        size in 1u16..=16,
        noise in vec(any::<[u8; 16]>(), 16),
        script in vec(any::<u8>(), 0..300),
        features in prop::sample::select(vec![
            Features::empty(), Features::INDIRECT_DESC, Features::EVENT_IDX, Features::RING,
        ]),
    ) {
        let script: &'static [u8] = script.leak();
        let shift: &'static Shift<'_> = Box::leak(Box::new(Shift::new(script, BASE)));
        let ram = ram();
        let mut rig = over(ShiftingMem::new(ram.flat(BASE), shift), ram, features, size);
        for (slot, words) in noise.iter().enumerate().take(usize::from(size)) {
            ram.write(16 * slot, words);
            // Addresses and lengths that are often valid, and flags that often make a descriptor
            // available.
            let addr = DATA + u64::from(words[0]);
            let len = u32::from(words[8]);
            ram.write(16 * slot, &addr.to_le_bytes());
            ram.write(16 * slot + 8, &len.to_le_bytes());
            ram.write(16 * slot + 14, &[words[14] | 0x80, words[15] & 0x7f]);
        }
        for _ in 0..40 {
            match rig.queue.pop(&rig.mem, &mut rig.chain) {
                Ok(true) => {
                    prop_assert!(rig.chain.segments().len() <= 16);
                    let written = rig.chain.writable_len() as u32;
                    let _ = rig.queue.complete(&rig.chain, written);
                    rig.queue.flush();
                }
                Ok(false) => {
                    let _ = rig.queue.enable_kicks();
                }
                Err(Stop::Asked | Stop::Driver(_)) => break,
                Err(_) => unreachable!("nothing else stops a queue"),
            }
            prop_assert!(rig.queue.in_flight() <= size);
        }
    }
}
