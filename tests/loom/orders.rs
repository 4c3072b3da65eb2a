//! Core as it is: no wake-up is lost, and no chain or used element is torn.

use crate::{
    PACKED, PACKED_EVENT_IDX, SPLIT, SPLIT_EVENT_IDX, in_order,
    memory::Flaw::None,
    scenario::{
        batch_comes_back, both_come_back, device_is_woken, driver_is_woken, explore, round_trip,
    },
};

#[test]
fn a_split_device_misses_no_chain() {
    explore(device_is_woken, SPLIT, None);
}

#[test]
fn a_split_device_misses_no_chain_with_event_idx() {
    explore(device_is_woken, SPLIT_EVENT_IDX, None);
}

#[test]
fn a_packed_device_misses_no_chain() {
    explore(device_is_woken, PACKED, None);
}

#[test]
fn a_packed_device_misses_no_chain_with_event_idx() {
    explore(device_is_woken, PACKED_EVENT_IDX, None);
}

#[test]
fn a_split_driver_misses_no_used_element() {
    explore(driver_is_woken, SPLIT, None);
}

#[test]
fn a_split_driver_misses_no_used_element_with_event_idx() {
    explore(driver_is_woken, SPLIT_EVENT_IDX, None);
}

#[test]
fn a_packed_driver_misses_no_used_descriptor() {
    explore(driver_is_woken, PACKED, None);
}

#[test]
fn a_packed_driver_misses_no_used_descriptor_with_event_idx() {
    explore(driver_is_woken, PACKED_EVENT_IDX, None);
}

#[test]
fn two_chains_come_back_through_a_split_ring() {
    explore(both_come_back, SPLIT, None);
}

#[test]
fn two_chains_come_back_through_a_split_ring_with_event_idx() {
    explore(both_come_back, SPLIT_EVENT_IDX, None);
}

#[test]
fn two_chains_come_back_through_a_packed_ring() {
    explore(both_come_back, PACKED, None);
}

#[test]
fn two_chains_come_back_through_a_packed_ring_with_event_idx() {
    explore(both_come_back, PACKED_EVENT_IDX, None);
}

#[test]
fn a_request_comes_back_through_a_split_ring() {
    explore(round_trip, SPLIT, None);
}

#[test]
fn a_request_comes_back_through_a_split_ring_with_event_idx() {
    explore(round_trip, SPLIT_EVENT_IDX, None);
}

#[test]
fn a_request_comes_back_through_a_packed_ring() {
    explore(round_trip, PACKED, None);
}

#[test]
fn a_request_comes_back_through_a_packed_ring_with_event_idx() {
    explore(round_trip, PACKED_EVENT_IDX, None);
}

#[test]
fn a_batch_comes_back_through_a_split_ring() {
    explore(batch_comes_back, in_order(SPLIT), None);
}

#[test]
fn a_batch_comes_back_through_a_split_ring_with_event_idx() {
    explore(batch_comes_back, in_order(SPLIT_EVENT_IDX), None);
}

#[test]
fn a_batch_comes_back_through_a_packed_ring() {
    explore(batch_comes_back, in_order(PACKED), None);
}

#[test]
fn a_batch_comes_back_through_a_packed_ring_with_event_idx() {
    explore(batch_comes_back, in_order(PACKED_EVENT_IDX), None);
}
