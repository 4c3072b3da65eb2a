//! Core as it is: no wake-up is lost and nothing is torn.

use crate::{
    PACKED, PACKED_EVENT_IDX, SPLIT, SPLIT_EVENT_IDX, in_order,
    memory::Flaw::None,
    scenario::{batch_comes_back, both_come_back, device_hears, driver_hears, explore, round_trip},
};

#[test]
fn a_device_hears_of_every_chain_of_a_split_ring() {
    explore(device_hears, SPLIT, None);
}

#[test]
fn a_device_hears_of_every_chain_of_a_split_ring_with_event_idx() {
    explore(device_hears, SPLIT_EVENT_IDX, None);
}

#[test]
fn a_device_hears_of_every_chain_of_a_packed_ring() {
    explore(device_hears, PACKED, None);
}

#[test]
fn a_packed_device_misses_no_chain_with_event_idx() {
    explore(device_hears, PACKED_EVENT_IDX, None);
}

#[test]
fn a_driver_hears_of_every_used_element_of_a_split_ring() {
    explore(driver_hears, SPLIT, None);
}

#[test]
fn a_split_driver_misses_no_used_element_with_event_idx() {
    explore(driver_hears, SPLIT_EVENT_IDX, None);
}

#[test]
fn a_driver_hears_of_every_used_descriptor_of_a_packed_ring() {
    explore(driver_hears, PACKED, None);
}

#[test]
fn a_packed_driver_misses_no_used_descriptor_with_event_idx() {
    explore(driver_hears, PACKED_EVENT_IDX, None);
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
