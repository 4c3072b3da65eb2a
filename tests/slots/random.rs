//! Chains that arrive, are kept and are answered in any order, compared with a count of slots.

use std::collections::BTreeMap;

use proptest::prelude::*;
use virtside::{Features, Step, testing::Registers};
use virtside_tests::{
    Q, SIZE,
    in_order::{FORMATS, HolderRig},
    reg,
};

#[derive(Clone, Debug)]
enum Act {
    /// The driver sends this many chains on a queue.
    Send(u16, usize),
    /// Answers the chain at this index among all unanswered chains in hand.
    Answer(usize),
    /// The driver stops a queue.
    Stop(u16),
}

fn act() -> impl Strategy<Value = Act> {
    let queue = 0..Q as u16;
    prop_oneof![
        10 => (queue.clone(), 1..5_usize).prop_map(|(queue, chains)| Act::Send(queue, chains)),
        10 => (0..16_usize).prop_map(Act::Answer),
        1 => queue.prop_map(Act::Stop),
    ]
}

/// The expected state of a queue.
#[derive(Clone, Debug, Default)]
struct Queue {
    sent: usize,
    came: usize,
    /// Chains in hand, by number, and whether each is answered.
    hand: BTreeMap<usize, bool>,
    stopped: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_queue_with_chains_has_one_in_hand(
        at in 0..FORMATS.len(),
        in_order in any::<bool>(),
        slots in Q..12,
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let features = if in_order { Features::IN_ORDER } else { Features::empty() };
        let mut rig = HolderRig::with(FORMATS[at], features, Q as u16, SIZE, slots);
        let mut queues: [Queue; Q] = Default::default();
        for act in acts {
            let step = match act {
                Act::Send(queue, chains) => {
                    let driver = &mut rig.drivers[usize::from(queue)];
                    for _ in 0..chains.min(driver.free().into()) {
                        driver.room(4);
                        queues[usize::from(queue)].sent += 1;
                    }
                    rig.kick(queue)
                }
                Act::Answer(at) => {
                    let open = (0..).zip(&queues).flat_map(|(queue, of)| {
                        let open = of.hand.iter().filter(|(_, answered)| !**answered);
                        open.map(move |(number, _)| (queue, *number))
                    });
                    let open: Vec<(u16, usize)> = open.collect();
                    if open.is_empty() {
                        continue;
                    }
                    let (queue, number) = open[at % open.len()];
                    // Uses both ways to answer.
                    let answered = if at % 2 == 0 {
                        rig.answer_of(queue, number, 4)
                    } else {
                        let token = rig.engine.model().chain(queue, number).token;
                        rig.engine.complete_with(token, 4)
                    };
                    prop_assert_eq!(answered, Ok(()));
                    let hand = &mut queues[usize::from(queue)].hand;
                    hand.insert(number, true);
                    if in_order {
                        while hand.first_key_value().is_some_and(|(_, answered)| *answered) {
                            hand.pop_first();
                        }
                    } else {
                        hand.remove(&number);
                    }
                    rig.kick(queue)
                }
                Act::Stop(queue) => {
                    let _ = rig.engine.store(reg::QUEUE_SEL, queue.into());
                    let _ = rig.engine.store(reg::QUEUE_READY, 0);
                    queues[usize::from(queue)] = Queue { stopped: true, ..Queue::default() };
                    rig.kick(0)
                }
            };
            for (queue, of) in (0..).zip(&mut queues).filter(|(_, of)| !of.stopped) {
                let asked = rig.engine.model().asked.iter().filter(|asked| asked.queue == queue);
                for asked in asked.skip(of.came) {
                    of.hand.insert(asked.number, false);
                    of.came += 1;
                }
            }
            let held: usize = queues.iter().map(|of| of.hand.len()).sum();
            prop_assert!(held <= slots);
            prop_assert_eq!(step == Step::Idle, held == 0);
            // A stopped queue also keeps its reserved slot.
            let idle = queues.iter().filter(|of| of.hand.is_empty()).count();
            let free = slots - held;
            prop_assert!(free >= idle, "{} slots for {} queues", free, idle);
            for of in queues.iter().filter(|of| of.sent > of.came && !of.stopped) {
                prop_assert!(!of.hand.is_empty(), "a queue starves: {:?}", of);
                prop_assert!(free == idle, "a queue could have a slot: {:?}", of);
            }
        }
    }
}
