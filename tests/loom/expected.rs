//! The explorations detect errors: if one memory order of the device is weakened, they fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    Kind, PACKED, PACKED_EVENT_IDX, SPLIT, SPLIT_EVENT_IDX, in_order,
    memory::Flaw::{self, NoFence, RelaxedLook, RelaxedUsed},
    scenario::{Scenario, batch_comes_back, device_is_woken, driver_is_woken, explore},
};

/// Loom's message for a buffer that one side writes while the other may access it.
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
        "loom found another error: {text}"
    );
}

#[test]
fn a_device_needs_a_fence_before_its_second_look() {
    for kind in [SPLIT, SPLIT_EVENT_IDX, PACKED, PACKED_EVENT_IDX] {
        finds(
            device_is_woken,
            kind,
            NoFence,
            &["lost wake-up of the device"],
        );
    }
}

#[test]
fn a_driver_needs_a_fence_before_it_reads_suppression() {
    for kind in [SPLIT, SPLIT_EVENT_IDX, PACKED, PACKED_EVENT_IDX] {
        finds(
            driver_is_woken,
            kind,
            NoFence,
            &["lost wake-up of the driver"],
        );
    }
}

#[test]
fn a_relaxed_load_of_the_available_index_tears_chains() {
    for kind in [SPLIT, PACKED] {
        finds(device_is_woken, kind, RelaxedLook, &[RACE, "torn chain"]);
    }
}

#[test]
fn a_relaxed_store_of_the_used_index_tears_elements() {
    for kind in [SPLIT, PACKED] {
        finds(driver_is_woken, kind, RelaxedUsed, &[RACE, "torn element"]);
    }
}

#[test]
fn a_relaxed_store_of_the_used_index_tears_batches() {
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
