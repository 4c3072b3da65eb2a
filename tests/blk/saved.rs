//! Saved and restored state: the cache mode that the driver chose, and requests that wait for the
//! disk.

use virtio_spec::blk::F;
use virtside::{
    Features,
    model::SaveModel,
    models::{Block, BlockError, BlockOptions, blk::BlockSnapshot},
    snapshot::{EngineSnapshot, SnapshotError},
    testing::Registers,
};
use virtside_tests::{
    BASE, N, Q, SIZE, TestEngine, engine_over, models::blk::*, reg, rings::settle,
};

type State = EngineSnapshot<BlockSnapshot, Q, N, 8>;

/// Offset of `writeback`.
const WRITEBACK: u32 = 32;

fn drive(flags: &[F]) -> Drive {
    let wanted = flags.iter().map(|flag| feature(*flag));
    let wanted = wanted.fold(Features::VERSION_1, |all, flag| all | flag);
    Drive::with(Disk::new(), BlockOptions::new(SIZE), wanted)
}

/// A device in reset over another disk.
fn other_device(drive: &Drive) -> TestEngine<Block<Disk>> {
    let block = Block::new(Disk::new(), BlockOptions::new(SIZE));
    engine_over(block, drive.ram.flat(BASE), 8)
}

/// Moves the device to another disk. Its driver does not notice.
#[track_caller]
fn migrate(drive: &mut Drive) {
    let state: State = drive.engine.save().expect("the device can be saved");
    let mut engine = other_device(drive);
    engine.restore(&state).expect("the saved state is valid");
    drive.engine = engine;
}

#[test]
fn the_cache_mode_is_as_the_driver_chose() {
    for flags in [&[F::CONFIG_WCE][..], &[F::CONFIG_WCE, F::FLUSH]] {
        for mode in [0, 1] {
            let mut drive = drive(flags);
            assert_eq!(drive.set_config(WRITEBACK, mode), None);
            migrate(&mut drive);
            assert_eq!(drive.config::<1>(WRITEBACK), [mode]);
            assert_eq!(drive.ask(T_OUT, 0, &[1; 512], 0), outcome(S_OK, 1));
            let flushed = drive.calls().contains(&Call::Flush);
            assert_eq!(flushed, mode == 0, "{flags:?}");
        }
    }
}

#[test]
fn a_driver_without_config_wce_keeps_its_cache_mode() {
    for flags in [&[][..], &[F::FLUSH]] {
        let mut drive = drive(flags);
        let before = drive.engine.model().save();
        migrate(&mut drive);
        assert_eq!(drive.engine.model().save(), before);
        // This mode is one that the driver could not have chosen.
        let mut state: State = drive.engine.save().expect("the device can be saved");
        state.model.write_back = !state.model.write_back;
        let mut engine = other_device(&drive);
        let refused = Err(SnapshotError::Model { at: 0 });
        assert_eq!(engine.restore(&state), refused);
        assert_eq!(engine.load(reg::STATUS), 0);
        assert!(engine.model().is_write_back(), "the mode after a reset");
    }
}

#[test]
fn the_mode_is_saved_during_set_up_and_in_reset() {
    // FEATURES_OK is set, and the driver wrote the mode.
    let mut before = other_device(&Drive::new());
    assert!(before.negotiate(Features::VERSION_1 | feature(F::CONFIG_WCE) | feature(F::FLUSH)));
    let write = virtside::mmio::Access::Write {
        offset: reg::CONFIG + WRITEBACK,
        width: 1,
        value: 0,
    };
    let _ = before.reach(write);
    let state: State = before.save().expect("the device can be saved");
    let mut after = other_device(&Drive::new());
    after.restore(&state).expect("the saved state is valid");
    assert!(!after.model().is_write_back());
    let _ = after.store(reg::STATUS, 0);
    let state: State = after.save().expect("the device can be saved");
    let mut after = other_device(&Drive::new());
    after.restore(&state).expect("the saved state is valid");
    assert!(after.model().is_write_back());
}

#[test]
fn requests_that_wait_for_the_disk_are_carried_out_once_each() {
    let mut drive = Drive::new();
    drive.driver.write(BODY, &[0x33; 512]);
    drive.disk().trouble = vec![Some(BlockError::NotReady)];
    drive.start(0, T_OUT, 1, 512);
    assert_eq!(drive.driver.take_used(), None);
    migrate(&mut drive);
    settle(&mut drive.engine);
    assert_eq!(drive.driver.take_used(), Some((0, 1)));
    assert_eq!(drive.driver.take_used(), None);
    assert_eq!(drive.bytes(STATUS, 1), [S_OK]);
    assert_eq!(drive.sector(1), [0x33; 512]);
}
