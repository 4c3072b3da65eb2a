//! The explorations find what they are for: with one order of the device's weakened, they fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    Kind, PACKED, PACKED_EVENT_IDX, SPLIT, SPLIT_EVENT_IDX, in_order,
    memory::Flaw::{self, NoFence, RelaxedLook, RelaxedUsed},
    scenario::{Scenario, batch_comes_back, device_hears, driver_hears, explore},
};

/// What loom says of a buffer that one side writes while the other may use it.
const RACE: &str = "Causality violation";

#[track_caller]
fn finds(scenario: Scenario, kind: Kind, flaw: Flaw, any_of: &[&str]) {
    let explored = catch_unwind(AssertUnwindSafe(|| explore(scenario, kind, flaw)));
    let what = explored.expect_err("the flaw was not found");
    let text = what
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| what.downcast_ref::<&str>().copied())
        .unwrap_or_default();
    assert!(
        any_of.iter().any(|one| text.contains(one)),
        "found something else: {text}"
    );
}

#[test]
fn without_a_fence_before_it_looks_again_a_device_oversleeps() {
    for kind in [SPLIT, SPLIT_EVENT_IDX, PACKED, PACKED_EVENT_IDX] {
        finds(device_hears, kind, NoFence, &["lost wake-up of the device"]);
    }
}

#[test]
fn a_driver_needs_a_fence_before_it_reads_suppression() {
    for kind in [SPLIT, SPLIT_EVENT_IDX, PACKED, PACKED_EVENT_IDX] {
        finds(driver_hears, kind, NoFence, &["lost wake-up of the driver"]);
    }
}

#[test]
fn a_relaxed_look_at_what_is_available_tears_chains() {
    for kind in [SPLIT, PACKED] {
        finds(device_hears, kind, RelaxedLook, &[RACE, "torn chain"]);
    }
}

#[test]
fn a_relaxed_store_of_what_is_used_tears_elements() {
    for kind in [SPLIT, PACKED] {
        finds(driver_hears, kind, RelaxedUsed, &[RACE, "torn element"]);
    }
}

#[test]
fn a_relaxed_store_of_what_is_used_tears_batches() {
    for kind in [SPLIT, PACKED].map(in_order) {
        finds(batch_comes_back, kind, RelaxedUsed, &[RACE, "torn element"]);
    }
}

#[test]
fn a_driver_needs_a_fence_between_batch_and_suppression() {
    for kind in [SPLIT, SPLIT_EVENT_IDX, PACKED, PACKED_EVENT_IDX].map(in_order) {
        let what = &["lost wake-up of the driver"];
        finds(batch_comes_back, kind, NoFence, what);
    }
}
