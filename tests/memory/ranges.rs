//! `DriverRange`: address ranges that do not wrap.

use proptest::prelude::*;
use virtside::memory::DriverRange;

fn range(start: u64, len: u32) -> DriverRange {
    DriverRange::new(start, len).expect("the range does not wrap")
}

#[test]
fn a_range_may_end_with_the_address_space_but_not_beyond_it() {
    for (start, len) in [
        (u64::MAX, 1),
        (u64::MAX - 1, 2),
        (u64::MAX - u64::from(u32::MAX) + 1, u32::MAX),
        (0, u32::MAX),
    ] {
        let range = range(start, len);
        assert_eq!(
            (range.start(), range.len(), range.is_empty()),
            (start, len, false)
        );
        if let Some(next) = start.checked_add(1).filter(|next| *next > 1) {
            assert_eq!(DriverRange::new(next, len), None);
        }
    }
    assert_eq!(DriverRange::new(u64::MAX, 2), None);
    assert_eq!(DriverRange::new(u64::MAX - 0xfffe, 0x1_0000), None);
    assert_eq!(
        DriverRange::new(u64::MAX - u64::from(u32::MAX) + 2, u32::MAX),
        None
    );
}

#[test]
fn an_empty_range_may_be_anywhere() {
    for start in [0, 1, u64::MAX] {
        let empty = range(start, 0);
        assert!(empty.is_empty());
        assert_eq!(empty.skip(5), empty);
        assert!(!empty.overlaps(&empty) && !empty.overlaps(&range(0, u32::MAX)));
    }
}

#[test]
fn skipping_leaves_the_rest() {
    let range = range(u64::MAX - 9, 10);
    for count in 0..=12u32 {
        let rest = range.skip(count);
        let gone = count.min(10);
        assert_eq!(rest.len(), 10 - gone);
        if gone < 10 {
            assert_eq!(rest.start(), u64::MAX - 9 + u64::from(gone));
        }
    }
}

#[test]
fn ranges_at_both_ends_of_the_address_space_are_apart() {
    let (low, high) = (range(0, 16), range(u64::MAX - 15, 16));
    assert!(!low.overlaps(&high) && !high.overlaps(&low));
    assert!(high.overlaps(&range(u64::MAX, 1)) && range(u64::MAX, 1).overlaps(&high));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_ranges_overlap_exactly_if_they_share_a_byte(
        base in prop_oneof![Just(0u64), Just(u64::MAX - 80), any::<u64>()],
        one in (0u64..40, 0u32..40),
        two in (0u64..40, 0u32..40),
    ) {
        let base = base.min(u64::MAX - 80);
        let bytes = |(start, len): (u64, u32)| base + start..base + start + u64::from(len);
        let shared = bytes(one).any(|byte| bytes(two).contains(&byte));
        let (one, two) = (range(base + one.0, one.1), range(base + two.0, two.1));
        prop_assert_eq!(one.overlaps(&two), shared);
        prop_assert_eq!(two.overlaps(&one), shared);
    }
}
