//! When a write is durable: write-through and write-back, and which side chooses the cache mode.

use virtio_spec::blk::F;
use virtside::{
    Features,
    models::{BlockFeatures, BlockOptions},
};
use virtside_tests::{SIZE, models::blk::*};

/// Offset of `writeback`.
const WRITEBACK: u32 = 32;

/// A drive that negotiates only these of FLUSH and CONFIG_WCE.
fn drive(flags: &[F]) -> Drive {
    let wanted = [F::DISCARD, F::WRITE_ZEROES].iter().chain(flags);
    let wanted = wanted.fold(Features::VERSION_1, |all, flag| all | feature(*flag));
    Drive::with(Disk::new(), BlockOptions::new(SIZE), wanted)
}

/// Returns whether the device flushes after a request that changes the disk and before its answer.
fn is_write_through(drive: &mut Drive) -> bool {
    let mut through = Vec::new();
    for (kind, data) in [
        (T_OUT, vec![1; 512]),
        (T_DISCARD, range(0, 1, 0)),
        (T_WRITE_ZEROES, [range(0, 1, 0), range(1, 1, 1)].concat()),
    ] {
        drive.calls();
        assert_eq!(drive.ask(kind, 0, &data, 0), outcome(S_OK, 1));
        let calls = drive.calls();
        let flushes = calls.iter().filter(|call| **call == Call::Flush).count();
        assert!(
            flushes <= 1 && (flushes == 0 || calls.last() == Some(&Call::Flush)),
            "{calls:?}"
        );
        through.push(flushes == 1);
    }
    assert!(through.iter().all(|one| *one == through[0]), "{through:?}");
    through[0]
}

#[test]
fn without_flush_and_wce_every_answered_write_is_durable() {
    assert!(is_write_through(&mut drive(&[])));
}

#[test]
fn a_driver_that_can_flush_gets_a_write_back_cache() {
    let mut drive = drive(&[F::FLUSH]);
    assert!(!is_write_through(&mut drive));
    drive.calls();
    assert_eq!(drive.ask(T_FLUSH, 0, &[], 0), outcome(S_OK, 1));
    assert_eq!(drive.calls(), [Call::Flush]);
}

#[test]
fn with_wce_but_without_flush_the_cache_starts_write_through() {
    let mut drive = drive(&[F::CONFIG_WCE]);
    assert_eq!(drive.config::<1>(WRITEBACK), [0]);
    assert!(is_write_through(&mut drive));
}

#[test]
fn with_config_wce_and_flush_the_cache_starts_write_back() {
    let mut drive = drive(&[F::CONFIG_WCE, F::FLUSH]);
    assert_eq!(drive.config::<1>(WRITEBACK), [1]);
    assert!(!is_write_through(&mut drive));
}

#[test]
fn the_driver_switches_the_cache_mode() {
    for flags in [vec![F::CONFIG_WCE], vec![F::CONFIG_WCE, F::FLUSH]] {
        let mut drive = drive(&flags);
        for mode in [0, 1, 1, 0, 0, 1] {
            assert_eq!(drive.set_config(WRITEBACK, mode), None);
            assert_eq!(drive.config::<1>(WRITEBACK), [mode]);
            assert_eq!(is_write_through(&mut drive), mode == 0);
        }
    }
}

#[test]
fn the_cache_mode_starts_anew_after_a_reset() {
    let mut drive = drive(&[F::CONFIG_WCE, F::FLUSH]);
    assert_eq!(drive.set_config(WRITEBACK, 0), None);
    let wanted = all();
    let config = drive.driver.config(0);
    assert!(virtside::testing::Registers::bring_up(
        &mut drive.engine,
        wanted,
        &[config]
    ));
    assert_eq!(drive.config::<1>(WRITEBACK), [1]);
}

#[test]
fn without_config_wce_the_cache_mode_cannot_be_written() {
    for flags in [vec![], vec![F::FLUSH]] {
        let mut drive = drive(&flags);
        let before = drive.config::<1>(WRITEBACK);
        for mode in [0, 1] {
            assert!(drive.set_config(WRITEBACK, mode).is_some());
        }
        assert_eq!(drive.config::<1>(WRITEBACK), before);
        assert_eq!(is_write_through(&mut drive), flags.is_empty());
    }
}

#[test]
fn an_unknown_cache_mode_is_refused() {
    let mut drive = drive(&[F::CONFIG_WCE, F::FLUSH]);
    for mode in [2, 3, 0x80, 0xff] {
        assert!(drive.set_config(WRITEBACK, mode).is_some());
        assert_eq!(drive.config::<1>(WRITEBACK), [1]);
    }
}

#[test]
fn writes_that_failed_are_not_flushed() {
    use virtside::models::BlockError;
    let mut drive = drive(&[]);
    drive.disk().trouble = vec![Some(BlockError::Io)];
    assert_eq!(drive.ask(T_OUT, 0, &[1; 512], 0), outcome(S_IOERR, 1));
    assert_eq!(drive.calls(), [Call::Write(0, 512)]);
}

#[test]
fn a_write_whose_flush_fails_is_not_answered_with_ok() {
    use virtside::models::BlockError;
    let mut drive = drive(&[]);
    drive.disk().trouble = vec![None, Some(BlockError::Io)];
    assert_eq!(drive.ask(T_OUT, 0, &[1; 512], 0), outcome(S_IOERR, 1));
    assert_eq!(drive.calls(), [Call::Write(0, 512), Call::Flush]);
}

#[test]
fn reads_are_not_followed_by_a_flush() {
    let mut drive = drive(&[]);
    assert_eq!(drive.ask(T_IN, 0, &[], 512), outcome(S_OK, 513));
    assert_eq!(drive.calls(), [Call::Read(0, 512)]);
}

#[test]
fn a_disk_without_a_cache_is_never_flushed() {
    let features = BlockFeatures {
        flush: false,
        ..Disk::new().features
    };
    let mut drive = Drive::over(Disk::with(features));
    assert!(!is_write_through(&mut drive));
    assert_eq!(drive.config::<1>(WRITEBACK), [0]);
}
