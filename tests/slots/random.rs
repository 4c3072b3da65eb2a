//! Chains that come, are kept and are answered in any order, against a count of slots.

use proptest::prelude::*;
use virtside::{Features, Step};
use virtside_tests::{
    Q, SIZE,
    in_order::{FORMATS, HolderRig},
};

#[derive(Clone, Debug)]
enum Act {
    /// So many chains of a queue.
    Send(u16, usize),
    /// The chain in hand of this place among those of all queues.
    Answer(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..Q as u16, 1..5_usize).prop_map(|(queue, chains)| Act::Send(queue, chains)),
        (0..16_usize).prop_map(Act::Answer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_queue_with_chains_has_one_in_hand(
        at in 0..FORMATS.len(),
        slots in Q..12,
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut rig = HolderRig::with(FORMATS[at], Features::empty(), Q as u16, SIZE, slots);
        let mut sent = [0; Q];
        // Queue and number of what is in hand.
        let mut hand: Vec<(u16, usize)> = Vec::new();
        let mut seen = 0;
        for act in acts {
            let step = match act {
                Act::Send(queue, chains) => {
                    let driver = &mut rig.drivers[usize::from(queue)];
                    for _ in 0..chains.min(driver.free().into()) {
                        driver.room(4);
                        sent[usize::from(queue)] += 1;
                    }
                    rig.kick(queue)
                }
                Act::Answer(at) if !hand.is_empty() => {
                    let (queue, number) = hand.remove(at % hand.len());
                    prop_assert_eq!(rig.answer_of(queue, number, 4), Ok(()));
                    rig.kick(queue)
                }
                Act::Answer(_) => continue,
            };
            let asked = &rig.engine.model().asked;
            hand.extend(asked[seen..].iter().map(|asked| (asked.queue, asked.number)));
            seen = asked.len();
            prop_assert!(hand.len() <= slots);
            prop_assert_eq!(step == Step::Idle, hand.is_empty());
            let held = |queue: usize| hand.iter().filter(|(of, _)| usize::from(*of) == queue).count();
            let came = |queue: usize| asked.iter().filter(|asked| usize::from(asked.queue) == queue).count();
            let idle = (0..Q).filter(|queue| held(*queue) == 0).count();
            let free = slots - hand.len();
            prop_assert!(free >= idle, "{} slots for {} queues", free, idle);
            for (queue, sent) in sent.iter().enumerate() {
                let waits = *sent > came(queue);
                prop_assert!(!waits || held(queue) > 0, "queue {} starves", queue);
                prop_assert!(!waits || free == idle, "queue {} could have a slot", queue);
            }
        }
    }
}
