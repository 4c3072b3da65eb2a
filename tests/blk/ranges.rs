//! DISCARD and WRITE_ZEROES requests.

use virtio_spec::blk::F;
use virtside::{
    Features,
    models::{BlockFeatures, BlockOptions, blk::MAX_RANGES},
    testing::Buffer,
};
use virtside_tests::{SECTORS, SIZE, models::blk::*};

const BOTH: [u32; 2] = [T_DISCARD, T_WRITE_ZEROES];

/// The call of the disk that a range leads to.
fn call(kind: u32, sector: u64, sectors: u64) -> Call {
    if kind == T_DISCARD {
        Call::Discard(512 * sector, 512 * sectors)
    } else {
        Call::WriteZeroes(512 * sector, 512 * sectors, false)
    }
}

fn ask(drive: &mut Drive, kind: u32, ranges: &[(u64, u32, u32)]) -> Outcome {
    let ranges = ranges
        .iter()
        .flat_map(|(sector, sectors, flags)| range(*sector, *sectors, *flags));
    drive.ask(kind, 0, &ranges.collect::<Vec<u8>>(), 0)
}

#[test]
fn write_zeroes_zeroes_exactly_the_range() {
    for flags in [0, 1] {
        let mut drive = Drive::new();
        assert_eq!(
            ask(&mut drive, T_WRITE_ZEROES, &[(3, 2, flags)]),
            outcome(S_OK, 1)
        );
        assert_eq!(
            drive.calls(),
            [Call::WriteZeroes(3 * 512, 1024, flags == 1)]
        );
        for sector in 0..SECTORS {
            let zeroed = (3..5).contains(&sector);
            assert_eq!(
                drive.sector(sector),
                [if zeroed { 0 } else { sector as u8 }; 512]
            );
        }
        // Later reads return zeros.
        assert_eq!(drive.ask(T_IN, 3, &[], 1024), outcome(S_OK, 1025));
        assert_eq!(drive.bytes(BODY, 1024), [0; 1024]);
    }
}

#[test]
fn discard_reaches_the_disk() {
    let mut drive = Drive::new();
    assert_eq!(ask(&mut drive, T_DISCARD, &[(10, 4, 0)]), outcome(S_OK, 1));
    assert_eq!(drive.calls(), [Call::Discard(5120, 2048)]);
    assert_eq!(drive.sector(9), [9; 512]);
    assert_eq!(drive.sector(14), [14; 512]);
}

#[test]
fn several_ranges_are_carried_out_in_order() {
    for kind in BOTH {
        for count in 1..=u64::from(MAX_RANGES) {
            let mut drive = Drive::new();
            let ranges: Vec<_> = (0..count).map(|at| (60 - 5 * at, 2, 0)).collect();
            assert_eq!(ask(&mut drive, kind, &ranges), outcome(S_OK, 1));
            let calls: Vec<_> = (0..count).map(|at| call(kind, 60 - 5 * at, 2)).collect();
            assert_eq!(drive.calls(), calls);
        }
    }
}

#[test]
fn a_range_may_be_split_over_descriptors() {
    for kind in BOTH {
        for at in 0..=32 {
            let mut drive = Drive::new();
            drive.write_header(kind, 0);
            drive
                .driver
                .write(BODY, &[range(1, 1, 0), range(7, 2, 0)].concat());
            let buffers = [
                Buffer::readable(HEADER, 16),
                Buffer::readable(BODY, at),
                Buffer::readable(BODY + u64::from(at), 32 - at),
                Buffer::writable(STATUS, 1),
            ];
            assert_eq!(drive.send(&buffers), Some(outcome(S_OK, 1)));
            assert_eq!(drive.calls(), [call(kind, 1, 1), call(kind, 7, 2)]);
        }
    }
}

#[test]
fn a_range_may_be_empty_and_may_end_with_the_disk() {
    for kind in BOTH {
        for (sector, sectors) in [(0, 0), (64, 0), (63, 1), (0, 64)] {
            let mut drive = Drive::new();
            assert_eq!(
                ask(&mut drive, kind, &[(sector, sectors, 0)]),
                outcome(S_OK, 1)
            );
        }
    }
}

#[test]
fn a_range_beyond_the_end_is_refused() {
    for kind in BOTH {
        for (sector, sectors) in [
            (64, 1),
            (63, 2),
            (65, 0),
            (0, 65),
            (0, u32::MAX),
            (u64::MAX, 1),
            (u64::MAX, u32::MAX),
            (1 << 55, 1),
            ((1 << 55) - 1, 2),
        ] {
            let mut drive = Drive::new();
            assert_eq!(
                ask(&mut drive, kind, &[(sector, sectors, 0)]),
                outcome(S_IOERR, 1)
            );
            assert_eq!(drive.calls(), []);
        }
    }
}

#[test]
fn all_ranges_are_checked_before_the_first_is_carried_out() {
    for kind in BOTH {
        for (bad, status) in [((64, 1, 0), S_IOERR), ((0, 1, 2), S_UNSUPP)] {
            for place in 0..4 {
                let mut ranges = vec![(1, 1, 0); 4];
                ranges[place] = bad;
                let mut drive = Drive::new();
                assert_eq!(ask(&mut drive, kind, &ranges), outcome(status, 1));
                assert_eq!(drive.calls(), []);
                assert!(drive.is_pristine());
            }
        }
    }
}

#[test]
fn unknown_flags_are_unsupported() {
    for kind in BOTH {
        for bit in 1..32 {
            for unmap in [0, 1] {
                let mut drive = Drive::new();
                let flags = 1 << bit | unmap;
                assert_eq!(
                    ask(&mut drive, kind, &[(1, 1, flags)]),
                    outcome(S_UNSUPP, 1)
                );
                assert_eq!(drive.calls(), []);
            }
        }
    }
}

#[test]
fn an_unknown_flag_is_unsupported_whatever_else_is_wrong() {
    let unknown = (0, 1, 4);
    for kind in BOTH {
        for ranges in [
            vec![(64, 1, 0), unknown],
            vec![unknown, (64, 1, 0)],
            vec![(64, 1, 4)],
            vec![(0, u32::MAX, 0), (1, 1, 0), unknown],
        ] {
            let mut drive = Drive::new();
            assert_eq!(
                ask(&mut drive, kind, &ranges),
                outcome(S_UNSUPP, 1),
                "{ranges:?}"
            );
        }
    }
}

#[test]
fn discard_with_unmap_is_unsupported() {
    for ranges in [
        vec![(1, 1, 1)],
        vec![(1, 1, 0), (2, 1, 1)],
        vec![(64, 1, 0), (2, 1, 1)],
    ] {
        let mut drive = Drive::new();
        assert_eq!(
            ask(&mut drive, T_DISCARD, &ranges),
            outcome(S_UNSUPP, 1),
            "{ranges:?}"
        );
        assert_eq!(drive.calls(), []);
    }
}

#[test]
fn a_list_that_is_empty_or_cut_off_is_refused() {
    for kind in BOTH {
        for len in [0, 1, 8, 15, 17, 31] {
            let mut drive = Drive::new();
            let bytes = range(0, 1, 0).repeat(3);
            assert_eq!(
                drive.ask(kind, 0, &bytes[..len], 0),
                outcome(S_IOERR, 1),
                "{len} bytes"
            );
            assert_eq!(drive.calls(), []);
        }
    }
}

#[test]
fn more_ranges_than_the_device_takes_are_refused() {
    for kind in BOTH {
        let mut drive = Drive::new();
        let ranges = vec![(0, 1, 0); MAX_RANGES as usize + 1];
        assert_eq!(ask(&mut drive, kind, &ranges), outcome(S_IOERR, 1));
        assert_eq!(drive.calls(), []);
        // The back end may lower the device's limit, but not raise it.
        for (max, takes) in [(0, 0), (1, 1), (3, 3), (1000, MAX_RANGES as usize)] {
            let limits = Some(limits(100, max, 1));
            let features = BlockFeatures {
                discard: limits,
                write_zeroes: limits,
                ..Disk::new().features
            };
            let mut drive = Drive::over(Disk::with(features));
            if takes > 0 {
                assert_eq!(
                    ask(&mut drive, kind, &vec![(0, 1, 0); takes]),
                    outcome(S_OK, 1)
                );
                assert_eq!(drive.calls().len(), takes);
            }
            assert_eq!(
                ask(&mut drive, kind, &vec![(0, 1, 0); takes + 1]),
                outcome(S_IOERR, 1)
            );
            assert_eq!(drive.calls(), []);
        }
    }
}

#[test]
fn a_range_longer_than_the_back_end_takes_is_refused() {
    let features = BlockFeatures {
        discard: Some(limits(4, 8, 1)),
        write_zeroes: Some(limits(6, 8, 0)),
        ..Disk::new().features
    };
    for (kind, max) in [(T_DISCARD, 4), (T_WRITE_ZEROES, 6)] {
        let mut drive = Drive::over(Disk::with(features));
        assert_eq!(
            ask(&mut drive, kind, &[(0, max, 0), (10, max, 0)]),
            outcome(S_OK, 1)
        );
        drive.calls();
        assert_eq!(
            ask(&mut drive, kind, &[(0, max, 0), (10, max + 1, 0)]),
            outcome(S_IOERR, 1)
        );
        assert_eq!(drive.calls(), []);
    }
}

#[test]
fn without_the_feature_it_is_unsupported() {
    for (kind, flag) in [(T_DISCARD, F::DISCARD), (T_WRITE_ZEROES, F::WRITE_ZEROES)] {
        // The feature is not negotiated.
        let wanted = all().difference(feature(flag));
        let mut drive = Drive::with(Disk::new(), BlockOptions::new(SIZE), wanted);
        assert_eq!(ask(&mut drive, kind, &[(0, 1, 0)]), outcome(S_UNSUPP, 1));
        assert_eq!(drive.calls(), []);
        // The feature is not offered.
        let mut features = Disk::new().features;
        if kind == T_DISCARD {
            features.discard = None;
        } else {
            features.write_zeroes = None;
        }
        let everything = Features::from_bits(u128::MAX);
        let mut drive = Drive::with(Disk::with(features), BlockOptions::new(SIZE), everything);
        assert_eq!(ask(&mut drive, kind, &[(0, 1, 0)]), outcome(S_UNSUPP, 1));
        assert_eq!(drive.calls(), []);
        // Requests of the other type still work.
        let other = BOTH
            .into_iter()
            .find(|other| *other != kind)
            .expect("the other type");
        assert_eq!(ask(&mut drive, other, &[(0, 1, 0)]), outcome(S_OK, 1));
    }
}
