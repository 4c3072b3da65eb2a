//! What the driver finds in the used ring, and the order in which it is written.

use virtside::{
    Features, Step,
    testing::{Buffer, NEXT, WRITE},
};
use virtside_tests::{
    BASE, DATA, SIZE,
    hooks::{Log, Touch},
    ram,
    rings::{Plan, RecordingRig},
};

#[test]
fn data_comes_before_the_element_and_that_before_the_index() {
    let (ram, log) = (ram(), Log::default());
    let mut rig = RecordingRig::over(
        ram.flat(BASE).with_hooks(log.hook()),
        ram,
        Features::empty(),
        SIZE,
    );
    let ring = rig.driver.layout().device;
    for turn in 0..20u16 {
        let buffers = [
            Buffer::readable(DATA, 5),
            Buffer::writable(DATA + 0x100, 6),
            Buffer::writable(DATA + 0x200, 7),
        ];
        rig.driver.send(0, &buffers);
        log.take();
        assert_eq!(rig.kick(), Step::Idle);
        let touches = log.take();
        let when = |touch| {
            touches
                .iter()
                .position(|seen| *seen == touch)
                .expect("the address was accessed")
        };
        let element = ring + 4 + 8 * u64::from(turn % SIZE);
        let data = [Touch::Write(DATA + 0x100, 6), Touch::Write(DATA + 0x200, 7)].map(when);
        let (element, index) = (
            when(Touch::Write(element, 8)),
            when(Touch::Write(ring + 2, 2)),
        );
        assert!(
            data[0] < data[1] && data[1] < element && element < index,
            "{touches:x?}"
        );
        // Only then does the device read whether the driver wants an interrupt.
        let flags = when(Touch::Read(rig.driver.layout().driver, 2));
        assert!(index < flags, "{touches:x?}");
        let last = rig.driver.used_entry(turn);
        assert_eq!((last, rig.driver.used_idx()), ((0, 13), turn + 1));
    }
}

#[test]
fn with_event_idx_used_event_is_read_after_the_index_moved() {
    let (ram, log) = (ram(), Log::default());
    let mem = ram.flat(BASE).with_hooks(log.hook());
    let mut rig = RecordingRig::over(mem, ram, Features::EVENT_IDX, SIZE);
    rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
    log.take();
    rig.kick();
    let touches = log.take();
    let when = |touch| touches.iter().rposition(|seen| *seen == touch);
    let layout = *rig.driver.layout();
    let event = when(Touch::Read(layout.driver + 4 + 2 * u64::from(SIZE), 2));
    let index = when(Touch::Write(layout.device + 2, 2));
    assert!(index.is_some() && index < event, "{touches:x?}");
}

#[test]
fn the_id_is_the_head_that_the_driver_offered() {
    let mut rig = RecordingRig::new(Features::empty());
    for head in [15, 0, 7] {
        // The chain continues at other descriptors; only the head identifies it.
        rig.driver
            .write_desc(head, (DATA, 1), NEXT | WRITE, (head + 3) % SIZE);
        rig.driver
            .write_desc((head + 3) % SIZE, (DATA, 1), WRITE, 0);
        rig.driver.offer(head);
        rig.driver.publish();
        rig.kick();
        assert_eq!(rig.driver.take_used(), Some((head.into(), 2)));
    }
}

#[test]
fn an_element_is_written_whole() {
    let mut rig = RecordingRig::new(Features::empty());
    let ring = rig.driver.layout().device;
    for at in 0..8 * u64::from(SIZE) {
        rig.driver.write(ring + 4 + at, &[0xee]);
    }
    rig.driver.send(3, &[Buffer::writable(DATA, 0x0102)]);
    rig.kick();
    let mut bytes = [0; 10];
    rig.driver.read(ring + 2, &mut bytes);
    assert_eq!(bytes, [1, 0, 3, 0, 0, 0, 2, 1, 0, 0]);
    assert_eq!(
        rig.driver.used_entry(1),
        (0xeeee_eeee, 0xeeee_eeee),
        "nothing else is written"
    );
}

#[test]
fn the_device_counts_the_used_index_itself() {
    let mut rig = RecordingRig::new(Features::empty());
    let index = rig.driver.layout().device + 2;
    // Only the device may write the index; it does not read what the driver writes there.
    rig.driver.write(index, &[0x55, 0x55]);
    for turn in 1..4 {
        rig.driver.send(0, &[Buffer::writable(DATA, 1)]);
        rig.kick();
        assert_eq!(rig.driver.used_idx(), turn);
        rig.driver.write(index, &[0x55, 0x55]);
    }
}

#[test]
fn readable_bytes_do_not_count_in_the_length() {
    let mut rig = RecordingRig::new(Features::empty());
    for readable in [0, 1, 500] {
        for writable in [0, 1, 700] {
            let sent = Buffer::readable(DATA, readable);
            rig.driver
                .send(0, &[sent, Buffer::writable(DATA + 0x1000, writable)]);
            rig.kick();
            assert_eq!(rig.driver.take_used(), Some((0, writable)));
        }
    }
}

#[test]
fn less_than_the_room_may_be_written() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.engine.model_mut().plan = Plan::Claim(3);
    rig.driver.send(
        0,
        &[Buffer::writable(DATA, 2), Buffer::writable(DATA + 64, 2)],
    );
    rig.kick();
    assert_eq!(rig.driver.take_used(), Some((0, 3)));
}

#[test]
fn every_chain_gets_an_entry_of_its_own() {
    let mut rig = RecordingRig::new(Features::empty());
    let heads = [4, 2, 11];
    for head in heads {
        rig.driver
            .write_chain(head, &[Buffer::writable(DATA, head.into())]);
        rig.driver.offer(head);
    }
    rig.driver.publish();
    rig.kick();
    assert_eq!(rig.driver.used_idx(), 3);
    for (at, head) in (0..).zip(heads) {
        assert_eq!(rig.driver.used_entry(at), (head.into(), head.into()));
    }
}
