//! Messages that are wrong, or come at the wrong time. The connection ends with an error, and nothing
//! else happens.

use std::{io::Write, time::Instant};

use super::*;

/// Asserts that the device has refused something and has closed the connection.
#[track_caller]
fn refused<T>(front_end: FrontEnd, result: vhost::Result<T>) {
    assert!(result.is_err(), "the front end was told that it is fine");
    let error = front_end.close().expect_err("the device has seen an error");
    assert!(matches!(error, VhostUserError::Message(_)), "{error:?}");
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let mut front_end = connected();
    let result = front_end.accept(Features::VERSION_1 | Features::SUSPEND);
    refused(front_end, result);
}

#[test]
fn a_driver_without_version_1_is_refused() {
    let mut front_end = connected();
    let result = front_end.accept(Features::empty());
    refused(front_end, result);
}

#[test]
fn a_queue_without_memory_is_refused() {
    let mut front_end = connected();
    front_end.accept(Features::VERSION_1).expect("features");
    let result = front_end.start(0);
    refused(front_end, result);
}

#[test]
fn a_queue_that_does_not_exist_is_refused() {
    // The front end's own library checks the number, so a bare message is sent.
    let (mut raw, device_end) = UnixStream::pair().expect("two sockets");
    let device = serve(device(entropy()), device_end);
    let message: Vec<u8> = [8_u32, 1, 8, 77, 16]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    raw.write_all(&message).expect("sent");
    let (_, result) = device.join().expect("no panic in the device");
    assert!(
        matches!(result, Err(VhostUserError::Message(_))),
        "{result:?}"
    );
}

#[test]
fn a_queue_size_that_is_no_power_of_two_is_refused() {
    let mut front_end = sharing();
    front_end.place().expect("rings");
    front_end.wire.set_vring_num(0, 12).expect("a number");
    front_end
        .wire
        .set_vring_kick(0, &front_end.kick)
        .expect("a kick");
    let result = front_end.wire.set_vring_enable(0, true);
    refused(front_end, result);
}

#[test]
fn rings_outside_the_shared_memory_are_refused() {
    let mut front_end = sharing();
    front_end.place().expect("rings");
    let rings = VringConfigData {
        queue_max_size: SIZE,
        queue_size: SIZE,
        flags: 0,
        desc_table_addr: front_end.user(BASE) + LEN as u64 - 16,
        used_ring_addr: front_end.user(BASE),
        avail_ring_addr: front_end.user(BASE + 0x1000),
        log_addr: None,
    };
    front_end.wire.set_vring_addr(0, &rings).expect("addresses");
    front_end
        .wire
        .set_vring_kick(0, &front_end.kick)
        .expect("a kick");
    let result = front_end.wire.set_vring_enable(0, true);
    refused(front_end, result);
}

#[test]
fn a_started_queue_cannot_be_moved() {
    let front_end = started();
    let result = front_end.wire.set_vring_base(0, 3);
    refused(front_end, result);
    let mut front_end = started();
    let result = front_end.place();
    refused(front_end, result);
}

#[test]
fn features_are_fixed_while_a_queue_runs() {
    let mut front_end = started();
    let result = front_end.accept(Features::VERSION_1 | Features::EVENT_IDX);
    refused(front_end, result);
}

#[test]
fn regions_that_overlap_are_refused() {
    let mut front_end = started();
    let second = shared_memory(BASE + LEN as u64 / 2);
    let result = front_end.wire.add_mem_region(&info(&second));
    refused(front_end, result);
}

#[test]
fn a_region_that_is_longer_than_its_file_is_refused() {
    let mut front_end = connected();
    let region = shared_memory(0x9000_0000);
    let mut lie = info(&region);
    lie.memory_size *= 2;
    let result = front_end.wire.add_mem_region(&lie);
    refused(front_end, result);
}

#[test]
fn a_region_that_was_not_added_is_not_removed() {
    let mut front_end = started();
    let other = shared_memory(0x9000_0000);
    let result = front_end.wire.remove_mem_region(&info(&other));
    refused(front_end, result);
}

#[test]
fn half_a_message_does_not_stop_the_queues_for_ever() {
    let (mut raw, device_end) = UnixStream::pair().expect("two sockets");
    let device = serve(device(entropy()), device_end);
    raw.write_all(&[1, 0, 0]).expect("sent");
    let begun = Instant::now();
    drop(raw);
    let (_, result) = device.join().expect("no panic in the device");
    assert!(result.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "the end was seen");
}

#[test]
fn garbage_ends_the_connection() {
    let mut random = virtside_tests::random::Random::new(7);
    for _ in 0..200 {
        let (mut raw, device_end) = UnixStream::pair().expect("two sockets");
        let device = serve(device(entropy()), device_end);
        let mut bytes = vec![0_u8; 64];
        for byte in &mut bytes {
            *byte = random.below(256) as u8;
        }
        // A known message, with random contents.
        bytes[..4].copy_from_slice(&(random.below(48) as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&1_u32.to_ne_bytes());
        let len = random.below(52) as u32;
        bytes[8..12].copy_from_slice(&len.to_ne_bytes());
        let _ = raw.write_all(&bytes);
        drop(raw);
        let _ = device.join().expect("no panic in the device");
    }
}

#[test]
fn kicks_that_are_no_eventfds_do_no_harm() {
    let mut front_end = started();
    let (mut one, other) = UnixStream::pair().expect("two sockets");
    front_end.wire.set_vring_enable(0, false).expect("disabled");
    let stopped = front_end.wire.get_vring_base(0).expect("a base");
    front_end.place().expect("rings");
    front_end
        .wire
        .set_vring_base(0, stopped as u16)
        .expect("a base");
    // SAFETY: the socket gives up its descriptor.
    let odd =
        unsafe { std::os::fd::FromRawFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(other)) };
    front_end
        .wire
        .set_vring_kick(0, &odd)
        .expect("it can be waited for");
    front_end.wire.set_vring_enable(0, true).expect("enabled");
    front_end.ask();
    one.write_all(&[1; 100]).expect("sent");
    front_end.wait(1);
    drop(one);
    a_while();
    assert!(front_end.close().is_ok());
}

#[test]
fn a_position_far_from_the_used_ring_is_refused() {
    let mut front_end = sharing();
    let result = front_end.start(SIZE + 1);
    refused(front_end, result);
}

#[test]
fn a_long_table_without_its_descriptor_is_refused() {
    let mut front_end = connected();
    let mut body = [0; 72];
    body[0] = 1;
    front_end.send(5, &body, &[]);
    assert_eq!(front_end.reply(5), 1);
    assert!(front_end.close().is_err());
}

#[test]
fn a_long_table_that_does_not_come_ends_with_its_front_end() {
    let (mut raw, device_end) = UnixStream::pair().expect("two sockets");
    let device = serve(device(entropy()), device_end);
    let words = [5_u32, 1, 72, 1, 0];
    for word in words {
        raw.write_all(&word.to_ne_bytes()).expect("sent");
    }
    drop(raw);
    let (_, result) = device.join().expect("no panic in the device");
    assert!(result.is_err());
}

#[test]
fn a_status_that_was_not_negotiated_ends_the_connection() {
    let (mut raw, device_end) = UnixStream::pair().expect("two sockets");
    let device = serve(device(entropy()), device_end);
    for word in [40_u32, 1, 0] {
        raw.write_all(&word.to_ne_bytes()).expect("sent");
    }
    let (_, result) = device.join().expect("no panic in the device");
    assert!(result.is_err());
}
