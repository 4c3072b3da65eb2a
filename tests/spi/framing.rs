//! Heads, data and results may be cut at any byte and may share buffers.

use proptest::{collection::vec, prelude::*};
use virtside_tests::{cut, models::spi::*};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_a_request_is_split_over_buffers_does_not_matter(
        sends: bool,
        receives: bool,
        len in 1u32..=32,
        cuts in (vec(any::<u32>(), 0..6), vec(any::<u32>(), 0..6)),
    ) {
        prop_assume!(sends || receives);
        let mut rig = SpiRig::new();
        let all: Vec<u8> = (0..len as u8).map(|byte| byte ^ 0x5a).collect();
        let (tx, room) = (if sends { &all[..] } else { &[] }, if receives { len } else { 0 });
        rig.put(&PLAIN, &[], 0);
        // The readable bytes in one piece of memory, the writable bytes in another.
        rig.driver.write(HEAD + 32, tx);
        rig.driver.write(RX, &[UNTOUCHED; 40]);
        let mut buffers = cut(HEAD, 32 + tx.len() as u32, &cuts.0, false);
        buffers.extend(cut(RX, room + 1, &cuts.1, true));
        prop_assert_eq!(rig.send(&buffers), Some(room + 1));
        let end = rig.bytes(RX, 40);
        let room = room as usize;
        prop_assert_eq!((end[room], end[room + 1]), (OK, UNTOUCHED));
        let received: Vec<u8> = match (sends, receives) {
            (_, false) => vec![],
            (false, true) => vec![1; room],
            (true, true) => all.iter().map(|byte| byte + 1).collect(),
        };
        prop_assert_eq!(&end[..room], received);
        let expected = match (sends, receives) {
            (true, true) => Data::Exchange(all),
            (true, false) => Data::Write(all),
            _ => Data::Read(room),
        };
        prop_assert_eq!(&rig.calls()[0].1, &expected);
    }
}
