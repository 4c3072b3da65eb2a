//! The cost of a register access.

use super::*;

/// Every register, read and written with these values in every width.
fn every_access() -> Vec<Access> {
    let mut all = Vec::new();
    for offset in (0..0x140).chain([0x1000, 0xffff_fffc]) {
        for width in [1, 2, 4, 8] {
            all.push(Access::Read { offset, width });
            for value in [0, 1, 2, 3, 0x80, 0xffff_ffff, u64::MAX] {
                // Only DRIVER_OK may access a ring; another test covers it.
                if offset != 0x70 || value & 4 == 0 {
                    all.push(Access::Write {
                        offset,
                        width,
                        value,
                    });
                }
            }
        }
    }
    all
}

#[test]
fn no_register_access_but_driver_ok_touches_a_ring() {
    for live in [false, true] {
        let (mut engine, counts, _) = counted(RecordingModel::new(Plan::Fill(1)), 1);
        let configs: Vec<_> = (0..Q as u16).map(config).collect();
        for access in every_access() {
            let again = if live {
                engine.phase() != virtside::mmio::Phase::Live
            } else {
                engine.phase() != virtside::mmio::Phase::SettingUp
            };
            if again {
                assert!(engine.negotiate(Features::RING));
                for config in &configs {
                    assert_eq!(engine.configure(config), Reply::Done(0));
                }
                if live {
                    assert_eq!(engine.go_live(), Reply::Done(0));
                }
            }
            counts.clear();
            let _ = engine.access(access);
            assert_eq!(counts.rings(), 0, "{access:?}");
        }
    }
}

#[test]
fn driver_ok_touches_each_ring_once() {
    for queues in 0..=Q {
        let (mut engine, counts, _) = counted(RecordingModel::new(Plan::Fill(1)), 1);
        assert!(engine.negotiate(Features::RING));
        for queue in 0..queues as u16 {
            assert_eq!(engine.configure(&config(queue)), Reply::Done(0));
        }
        counts.clear();
        assert_eq!(engine.go_live(), Reply::Done(0));
        assert_eq!(
            (counts.rings(), counts.stores()),
            (queues as u32, queues as u32)
        );
        counts.clear();
        assert_eq!(engine.go_live(), Reply::Done(0));
        assert_eq!(counts.rings(), 0, "DRIVER_OK was set before");
    }
}
