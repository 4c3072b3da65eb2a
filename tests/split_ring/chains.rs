//! Chains of every legal shape are served.

use proptest::{collection::vec, prelude::*};
use virtside::{
    Features, Step,
    testing::{Buffer, NEXT, WRITE},
};
use virtside_tests::{BASE, BYTES, DATA, SIZE, rings::RecordingRig};

/// An address that is not mapped.
const NOWHERE: u64 = 0x10;

#[test]
fn a_readable_buffer_arrives_as_it_was_sent() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write(DATA, b"hello, device");
    rig.driver.send(0, &[Buffer::readable(DATA, 13)]);
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.last().sent, b"hello, device");
    assert_eq!(rig.last().room, 0);
    assert_eq!(rig.driver.take_used(), Some((0, 0)));
}

#[test]
fn a_writable_buffer_is_filled() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.send(0, &[Buffer::writable(DATA, 40)]);
    rig.kick();
    assert_eq!((rig.last().sent.len(), rig.last().room), (0, 40));
    assert_eq!(rig.driver.take_used(), Some((0, 40)));
    let mut bytes = [0; 41];
    rig.driver.read(DATA, &mut bytes);
    assert_eq!((&bytes[..40], bytes[40]), (&[0xa5; 40][..], 0));
}

#[test]
fn readable_buffers_come_before_writable_ones_and_each_in_order() {
    let mut rig = RecordingRig::new(Features::empty());
    for (at, part) in [b"one", b"two", b"six"].iter().enumerate() {
        rig.driver.write(DATA + 0x100 * at as u64, *part);
    }
    let sent = [0x200, 0, 0x100].map(|at| Buffer::readable(DATA + at, 3));
    let room = [0x400, 0x300].map(|at| Buffer::writable(DATA + at, 2));
    rig.driver
        .send(4, &[sent.as_slice(), room.as_slice()].concat());
    rig.kick();
    assert_eq!(
        (rig.last().sent.as_slice(), rig.last().room),
        (&b"sixonetwo"[..], 4)
    );
    assert_eq!(rig.driver.take_used(), Some((4, 4)));
}

#[test]
fn buffers_need_no_alignment() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write(DATA + 3, &[1, 2, 3, 4, 5, 6, 7]);
    rig.driver.send(
        0,
        &[
            Buffer::readable(DATA + 3, 7),
            Buffer::writable(DATA + 0x101, 33),
        ],
    );
    rig.kick();
    assert_eq!(rig.last().sent, [1, 2, 3, 4, 5, 6, 7]);
    let mut bytes = [0; 35];
    rig.driver.read(DATA + 0x100, &mut bytes);
    assert_eq!(
        (bytes[0], &bytes[1..34], bytes[34]),
        (0, &[0xa5; 33][..], 0)
    );
}

#[test]
fn a_chain_may_fill_the_whole_queue() {
    for size in [1, 2, 4, 8, 16] {
        for writable in 0..=size {
            let mut rig = RecordingRig::sized(Features::empty(), size);
            let buffers: Vec<Buffer> = (0..size)
                .map(|at| Buffer {
                    addr: DATA + 8 * u64::from(at),
                    len: 8,
                    writable: at >= size - writable,
                })
                .collect();
            rig.driver.write(DATA, &[7; 256]);
            rig.driver.send(0, &buffers);
            assert_eq!(rig.kick(), Step::Idle);
            assert_eq!(rig.last().sent, vec![7; 8 * usize::from(size - writable)]);
            assert_eq!(rig.driver.take_used(), Some((0, 8 * u32::from(writable))));
        }
    }
}

#[test]
fn a_chain_may_start_and_continue_at_any_descriptor() {
    for head in 0..SIZE {
        // 5 and 16 have no common divisor, so this visits every descriptor.
        let way: Vec<u16> = (0..SIZE).map(|step| (head + 5 * step) % SIZE).collect();
        let mut rig = RecordingRig::new(Features::empty());
        for (at, pair) in way.windows(2).enumerate() {
            rig.driver.write(DATA + at as u64, &[at as u8]);
            rig.driver
                .write_desc(pair[0], (DATA + at as u64, 1), NEXT, pair[1]);
        }
        rig.driver
            .write_desc(way[15], (DATA + 0x100, 9), WRITE, 0xffff);
        rig.driver.offer(head);
        rig.driver.publish();
        rig.kick();
        assert_eq!(rig.last().sent, (0..15).collect::<Vec<u8>>());
        assert_eq!(rig.driver.take_used(), Some((head.into(), 9)));
    }
}

#[test]
fn the_next_field_of_the_last_descriptor_means_nothing() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write_desc(2, (DATA, 4), WRITE, 2);
    rig.driver.offer(2);
    rig.driver.publish();
    assert_eq!(rig.kick(), Step::Idle);
    assert_eq!(rig.driver.take_used(), Some((2, 4)));
}

#[test]
fn unknown_descriptor_flags_mean_nothing() {
    let mut rig = RecordingRig::new(Features::empty());
    rig.driver.write(DATA, &[9]);
    rig.driver.write_desc(0, (DATA, 1), 0xfff0 | NEXT, 1);
    rig.driver.write_desc(1, (DATA + 8, 2), 0xfff0 | WRITE, 0);
    rig.driver.offer(0);
    rig.driver.publish();
    rig.kick();
    assert_eq!(rig.last().sent, [9]);
    assert_eq!(rig.driver.take_used(), Some((0, 2)));
}

#[test]
fn a_zero_length_descriptor_may_be_anywhere_and_point_anywhere() {
    let real = [
        Buffer::readable(DATA, 2),
        Buffer::readable(DATA + 2, 2),
        Buffer::writable(DATA + 0x100, 3),
        Buffer::writable(DATA + 0x200, 3),
    ];
    for place in 0..=real.len() {
        for addr in [0, NOWHERE, DATA, BASE + BYTES as u64, u64::MAX] {
            for writable in [false, true] {
                // An empty buffer among the readable ones is readable, too: the order still
                // applies.
                if writable != (place > 2) && place != 2 {
                    continue;
                }
                let mut buffers = real.to_vec();
                buffers.insert(
                    place,
                    Buffer {
                        addr,
                        len: 0,
                        writable,
                    },
                );
                let mut rig = RecordingRig::new(Features::empty());
                rig.driver.write(DATA, b"abcd");
                rig.driver.send(0, &buffers);
                assert_eq!(rig.kick(), Step::Idle, "{buffers:?}");
                assert_eq!(
                    (rig.last().sent.as_slice(), rig.last().room),
                    (&b"abcd"[..], 6)
                );
                assert_eq!(rig.driver.take_used(), Some((0, 6)));
            }
        }
    }
}

#[test]
fn a_chain_without_a_single_byte_is_served_too() {
    for buffers in [
        vec![Buffer::readable(NOWHERE, 0)],
        vec![Buffer::writable(NOWHERE, 0)],
        [
            vec![Buffer::readable(0, 0); 8],
            vec![Buffer::writable(u64::MAX, 0); 8],
        ]
        .concat(),
    ] {
        let mut rig = RecordingRig::new(Features::empty());
        rig.driver.send(0, &buffers);
        assert_eq!(rig.kick(), Step::Idle);
        assert_eq!((rig.last().sent.len(), rig.last().room), (0, 0));
        assert_eq!(rig.driver.take_used(), Some((0, 0)));
    }
}

/// A message in one descriptor for each piece between these cuts; some are empty.
fn cut(addr: u64, len: u32, cuts: &[u32], writable: bool) -> Vec<Buffer> {
    let mut ends: Vec<u32> = cuts.iter().map(|cut| cut % (len + 1)).collect();
    ends.push(len);
    ends.sort_unstable();
    let mut start = 0;
    let mut buffers = Vec::new();
    for end in ends {
        let addr = if end == start {
            NOWHERE
        } else {
            addr + u64::from(start)
        };
        buffers.push(Buffer {
            addr,
            len: end - start,
            writable,
        });
        start = end;
    }
    buffers
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_a_message_is_split_over_descriptors_does_not_show(
        message in vec(any::<u8>(), 0..200),
        room in 0u32..200,
        cuts in (vec(any::<u32>(), 0..7), vec(any::<u32>(), 0..7)),
        order in Just((0..SIZE).collect::<Vec<u16>>()).prop_shuffle(),
        indirect: bool,
    ) {
        let mut rig = RecordingRig::new(Features::INDIRECT_DESC);
        rig.driver.write(DATA, &message);
        let mut buffers = cut(DATA, message.len() as u32, &cuts.0, false);
        buffers.extend(cut(DATA + 0x1000, room, &cuts.1, true));
        let head = order[0];
        if indirect {
            rig.driver.write_indirect(head, DATA + 0x2000, &buffers);
        } else {
            for (at, buffer) in buffers.iter().enumerate() {
                let more = at + 1 < buffers.len();
                let flags = if buffer.writable { WRITE } else { 0 } | if more { NEXT } else { 0 };
                let next = if more { order[at + 1] } else { 0xdead };
                rig.driver.write_desc(order[at], (buffer.addr, buffer.len), flags, next);
            }
        }
        rig.driver.offer(head);
        rig.driver.publish();
        prop_assert_eq!(rig.kick(), Step::Idle);
        prop_assert_eq!(&rig.last().sent, &message);
        prop_assert_eq!(rig.last().room, u64::from(room));
        prop_assert_eq!(rig.driver.take_used(), Some((head.into(), room)));
        let mut bytes = vec![0; 201];
        rig.driver.read(DATA + 0x1000, &mut bytes);
        let filled = bytes.iter().take_while(|byte| **byte == 0xa5).count();
        prop_assert_eq!(filled, room as usize);
    }
}
