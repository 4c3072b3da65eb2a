//! Headers, data and status may be cut at any byte and may share buffers.

use proptest::{collection::vec, prelude::*};
use virtside::testing::Buffer;
use virtside_tests::{cut, models::i2c::*};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_a_request_is_split_over_buffers_does_not_matter(
        is_read: bool,
        len in 0u32..=32,
        cuts in (vec(any::<u32>(), 0..6), vec(any::<u32>(), 0..6)),
    ) {
        let mut rig = I2cRig::new();
        let at = I2cRig::<Recorder>::place(0);
        let data: Vec<u8> = (0..len as u8).map(|byte| byte ^ 0x5a).collect();
        let message = if is_read { read(0x50, len) } else { write(0x50, &data) };
        rig.put(0, &message);
        // The readable bytes in one piece of memory, the writable bytes in another.
        rig.driver.write(at + 8, &data);
        rig.driver.write(at + 0x100, &[UNTOUCHED; 40]);
        let (readable, writable) = if is_read { (8, len + 1) } else { (8 + len, 1) };
        let mut buffers = cut(at, readable, &cuts.0, false);
        buffers.extend(cut(at + 0x100, writable, &cuts.1, true));
        prop_assert_eq!(rig.send(&buffers), Some(writable));
        let end = rig.bytes(at + 0x100, 40);
        prop_assert_eq!(end[writable as usize - 1], OK);
        prop_assert_eq!(end[writable as usize], UNTOUCHED);
        if is_read {
            prop_assert_eq!(&end[..len as usize], (1..=len as u8).collect::<Vec<u8>>());
            prop_assert_eq!(rig.calls(), [Read(0x50, len as usize)]);
        } else {
            prop_assert_eq!(rig.calls(), [Write(0x50, data)]);
        }
    }

    /// A write and a read are combined wherever their chains are cut.
    #[test]
    fn how_a_combined_pair_is_split_over_buffers_does_not_matter(
        lens in (0u32..=16, 0u32..=16),
        cuts in (vec(any::<u32>(), 0..4), vec(any::<u32>(), 0..4)),
    ) {
        let mut rig = I2cRig::with_combining(2);
        let data: Vec<u8> = (0..lens.0 as u8).map(|byte| byte ^ 0x5a).collect();
        let at = [0, 1].map(I2cRig::<Recorder>::place);
        rig.put(0, &write(0x50, &data).and());
        rig.put(1, &read(0x50, lens.1));
        rig.driver.write(at[0] + 8, &data);
        rig.driver.write(at[1] + 0x100, &[UNTOUCHED; 40]);
        let mut first = cut(at[0], 8 + lens.0, &cuts.0, false);
        first.push(Buffer::writable(at[0] + 0x200, 1));
        let mut second = vec![Buffer::readable(at[1], 8)];
        second.extend(cut(at[1] + 0x100, lens.1 + 1, &cuts.1, true));
        rig.driver.write_chain(0, &first);
        rig.driver.write_chain(8, &second);
        rig.driver.offer(0);
        rig.driver.offer(8);
        rig.run();
        let mut used = rig.take_used();
        used.sort_unstable();
        prop_assert_eq!(used, [(0, 1), (8, lens.1 + 1)]);
        prop_assert_eq!(rig.status(0), OK);
        let end = rig.bytes(at[1] + 0x100, lens.1 as usize + 1);
        let expected: Vec<u8> = (1..=lens.1 as u8).chain([OK]).collect();
        prop_assert_eq!(end, expected);
        prop_assert_eq!(rig.calls(), [WriteRead(0x50, data, lens.1 as usize)]);
    }
}
