//! Messages of a well-behaved front end.

use super::*;
use vhost::vhost_user::message::VhostUserConfigFlags;

#[test]
fn requests_are_answered_by_kick_and_call() {
    let mut front_end = started();
    for count in 1..40 {
        let count = count % 8 + 1;
        for _ in 0..count {
            front_end.ask();
        }
        front_end.answers(count);
    }
    assert!(front_end.close().is_ok());
}

#[test]
fn a_stopped_queue_says_where_it_is_and_goes_on_there() {
    let mut front_end = started();
    let mut base = 0;
    for round in 0..5 {
        for _ in 0..round {
            front_end.ask();
        }
        front_end.answers(round);
        base += round as u32;
        assert_eq!(front_end.wire.get_vring_base(0).expect("a base"), base);
        front_end.ask();
        front_end.kick.write(1).expect("a kick");
        a_while();
        assert_eq!(front_end.take(), 0, "a stopped queue is not served");
        front_end.start(base as u16).expect("a valid queue");
        front_end.wait(1);
        base += 1;
    }
    assert!(front_end.close().is_ok());
}

#[test]
fn a_disabled_queue_waits_until_it_is_enabled() {
    let mut front_end = started();
    front_end.wire.set_vring_enable(0, false).expect("disabled");
    front_end.ask();
    front_end.kick.write(1).expect("a kick");
    a_while();
    assert_eq!(front_end.take(), 0);
    front_end.wire.set_vring_enable(0, true).expect("enabled");
    front_end.wait(1);
}

#[test]
fn another_call_descriptor_gets_the_next_interrupt() {
    let mut front_end = started();
    front_end.ask();
    front_end.answers(1);
    front_end.call = EventFd::new(0).expect("an eventfd");
    front_end
        .wire
        .set_vring_call(0, &front_end.call)
        .expect("a call");
    front_end.ask();
    front_end.answers(1);
}

#[test]
fn memory_is_added_and_removed_while_a_queue_runs() {
    let mut front_end = started();
    let far = shared_memory(0x9000_0000);
    front_end.wire.add_mem_region(&info(&far)).expect("added");
    let mapping = GuestMemoryMmap::from_regions(vec![far]).expect("memory");
    let region = mapping.iter().next().expect("a region");
    let send = |front_end: &mut FrontEnd| {
        let head = front_end.driver.next_avail() % SIZE;
        let buffer = Buffer::writable(0x9000_0000, 16);
        front_end.driver.send(head, &[buffer]);
    };
    send(&mut front_end);
    front_end.answers(1);
    let mut bytes = [0; 16];
    vm_memory::Bytes::read_slice(&mapping, &mut bytes, GuestAddress(0x9000_0000)).expect("bytes");
    assert_ne!(bytes, [0; 16]);
    front_end.ask();
    front_end.answers(1);
    front_end
        .wire
        .remove_mem_region(&info(region))
        .expect("removed");
    front_end.ask();
    front_end.answers(1);
    send(&mut front_end);
    front_end.kick.write(1).expect("a kick");
    a_while();
    assert_eq!(
        front_end.take(),
        0,
        "a buffer outside the memory stops the queue"
    );
    assert!(front_end.close().is_ok());
}

#[test]
fn the_queues_and_the_configuration_can_be_read() {
    let mut front_end = connected();
    assert_eq!(front_end.wire.get_queue_num().expect("a number"), 1);
    assert!(front_end.wire.get_max_mem_slots().expect("a number") >= 8);
    // An entropy device has no configuration. A front end that reads one anyway gets zeros.
    let flags = VhostUserConfigFlags::WRITABLE;
    let (_, bytes) = front_end
        .wire
        .get_config(0, 8, flags, &[0; 8])
        .expect("bytes");
    assert_eq!(bytes, [0; 8]);
}

#[test]
fn a_device_is_reset_and_set_up_again() {
    let mut front_end = started();
    front_end.ask();
    front_end.answers(1);
    front_end.wire.reset_device().expect("reset");
    front_end.driver = FakeDriver::new(VmMem::new(&front_end.memory), layout());
    front_end
        .accept(Features::VERSION_1 | Features::EVENT_IDX)
        .expect("features");
    front_end.start(0).expect("a valid queue");
    front_end.ask();
    front_end.answers(1);
}

#[test]
fn what_has_no_message_is_not_offered() {
    let front_end = connected();
    let offered = Features::from_bits(front_end.wire.get_features().expect("features").into());
    assert!(offered.contains(Features::VERSION_1 | Features::INDIRECT_DESC | Features::EVENT_IDX));
    for withheld in [
        Features::RING_RESET,
        Features::SUSPEND,
        Features::NOTIFICATION_DATA,
    ] {
        assert!(!offered.contains(withheld));
    }
}

#[test]
fn the_memory_of_the_rings_may_be_removed_and_added_again() {
    let mut front_end = started();
    front_end.ask();
    front_end.answers(1);
    let region = front_end.memory.iter().next().map(info).expect("a region");
    for _ in 0..3 {
        front_end.wire.remove_mem_region(&region).expect("removed");
        front_end.ask();
        front_end.kick.write(1).expect("a kick");
        a_while();
        assert_eq!(front_end.take(), 0, "the rings are not there");
        front_end.wire.add_mem_region(&region).expect("added");
        front_end.wait(1);
        front_end.ask();
        front_end.answers(1);
    }
    assert!(front_end.close().is_ok());
}

#[test]
fn a_disabled_queue_may_be_set_up_anew_without_a_stop() {
    let mut front_end = started();
    front_end.ask();
    front_end.answers(1);
    front_end.wire.set_vring_enable(0, false).expect("disabled");
    front_end.accept(Features::VERSION_1).expect("features");
    front_end.driver = FakeDriver::new(VmMem::new(&front_end.memory), layout());
    front_end.start(0).expect("a valid queue");
    front_end.ask();
    front_end.answers(1);
}

#[test]
fn a_queue_that_broke_says_how_far_it_came() {
    let mut front_end = started();
    for _ in 0..3 {
        front_end.ask();
        front_end.answers(1);
    }
    front_end.driver.set_avail_idx(1000);
    front_end.kick.write(1).expect("a kick");
    a_while();
    assert_eq!(front_end.wire.get_vring_base(0).expect("a base"), 3);
}

#[test]
fn chains_that_the_last_device_lost_are_skipped() {
    let mut front_end = sharing();
    for _ in 0..2 {
        front_end.ask();
    }
    // The last device took both chains, and gave none back.
    front_end.start(2).expect("a valid queue");
    front_end.ask();
    front_end.answers(1);
    assert_eq!(front_end.driver.used_idx(), 1);
    assert_eq!(front_end.wire.get_vring_base(0).expect("a base"), 3);
}

#[test]
fn features_may_come_after_the_queue() {
    let mut front_end = connected();
    front_end.share_memory().expect("memory");
    front_end.place().expect("rings");
    front_end.wire.set_vring_base(0, 0).expect("a base");
    front_end
        .wire
        .set_vring_call(0, &front_end.call)
        .expect("a call");
    front_end
        .wire
        .set_vring_kick(0, &front_end.kick)
        .expect("a kick");
    front_end.accept(Features::VERSION_1).expect("features");
    front_end.wire.set_vring_enable(0, true).expect("enabled");
    front_end.ask();
    front_end.answers(1);
}

#[test]
fn one_descriptor_may_kick_again_and_again_unread() {
    let mut front_end = started();
    for _ in 0..100 {
        front_end.ask();
        front_end.answers(1);
    }
    assert!(front_end.kick.read().expect("a count") >= 100);
}

#[test]
fn a_table_with_room_for_more_regions_is_accepted() {
    let mut front_end = connected();
    front_end.accept(Features::VERSION_1).expect("features");
    let region = info(front_end.memory.iter().next().expect("a region"));
    let addresses = [region.guest_phys_addr, region.memory_size];
    let places = [region.userspace_addr, region.mmap_offset];
    let words = [&[1][..], &addresses, &places, &[0; 4]].concat();
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    front_end.send(5, &body, &[region.mmap_handle]);
    assert_eq!(front_end.reply(5), 0);
    front_end.start(0).expect("a valid queue");
    front_end.ask();
    front_end.answers(1);
    assert!(front_end.close().is_ok());
}

#[test]
fn the_status_is_what_the_front_end_has_set() {
    let mut front_end = started();
    assert_eq!(front_end.status(), 0);
    front_end.set_status(0b1111);
    assert_eq!(front_end.status(), 0b1111);
    front_end.ask();
    front_end.answers(1);
    assert!(front_end.close().is_ok());
}

#[test]
fn the_status_tells_that_the_driver_broke_the_protocol() {
    let mut front_end = started();
    front_end.set_status(0b1111);
    front_end.driver.set_avail_idx(999);
    front_end.kick.write(1).expect("a kick");
    a_while();
    assert_eq!(front_end.status(), 0b100_1111);
    front_end.set_status(0);
    assert_eq!(front_end.status(), 0);
}

#[test]
fn a_status_of_zero_resets_the_device() {
    let mut front_end = started();
    front_end.ask();
    front_end.answers(1);
    front_end.set_status(0);
    front_end.ask();
    front_end.kick.write(1).expect("a kick");
    a_while();
    assert_eq!(front_end.take(), 0, "the device has no queues");
    front_end.accept(Features::VERSION_1).expect("features");
    front_end.start(1).expect("a valid queue");
    front_end.wait(1);
}
