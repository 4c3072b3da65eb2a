//! The cost of completing chains later.

use super::*;

#[test]
fn completing_a_chain_costs_at_most_four_accesses() {
    for features in [Features::VERSION_1, Features::RING] {
        for plan in [
            Plan::Fill(1),
            Plan::Claim(9),
            Plan::Wait,
            Plan::Blame(DriverFault::BadRequest { head: 0 }),
        ] {
            let (mut engine, counts, ram) = counted(RecordingModel::new(Plan::Wait), 2);
            assert!(engine.bring_up(features, &[config(0)]));
            let mut driver = driver(ram, 0);
            write_longest(&driver, 0);
            driver.offer(0);
            driver.publish();
            let _ = engine.kick(0);
            assert_eq!(settle(&mut engine), Step::Blocked);
            let token = engine.model().seen[0].token;
            engine.model_mut().plan = plan;
            counts.clear();
            assert_eq!(engine.complete(token), Ok(()));
            let done = matches!(plan, Plan::Fill(_) | Plan::Claim(_));
            assert_eq!(counts.rings(), if done { 3 } else { 0 });
            counts.clear();
            let _ = engine.complete(token);
            assert!(counts.rings() <= 4);
        }
    }
}

#[test]
fn chains_that_waited_for_their_turn_cost_two_accesses_each() {
    for features in [Features::empty(), Features::EVENT_IDX] {
        for chains in [1, 2, 8, 16] {
            let elements = 2 * u32::from(chains);
            let (mut engine, counts) = waiting(features, chains, 0);
            let _ = engine.poll(1);
            // No chain is full. Each costs a used element and an index; the suppression field is
            // read once.
            assert_eq!(counts.rings(), elements + 1);
            assert!(counts.rings() <= poll_bound(1) + elements);
            let (mut engine, counts) = waiting(features, chains, 0);
            let token = engine.model().chain(0, 0).token;
            assert_eq!(engine.complete(token), Ok(()));
            assert_eq!(counts.rings(), elements + 1);
            // All chains are full. One used element serves all.
            let (mut engine, counts) = waiting(features, chains, 1);
            assert_eq!(engine.complete(token), Ok(()));
            assert_eq!(counts.rings(), 3);
        }
    }
}
