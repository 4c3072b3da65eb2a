//! Requirements on a packed queue's size and areas at set-up.

use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, QueueConfig, Refusal,
    Request,
    error::Area,
    memory::{DriverRange, Permission, RegionMem, RingWindow},
    mmio::Reply,
    queue::translate_queue,
    testing::{Buffer, PackedDriver, Registers},
};
use virtside_tests::{BASE, BYTES, DATA, ram, reg, rings::region, test_engine};

use crate::PACKED;

const END: u64 = BASE + BYTES as u64;

/// A model that offers packed rings and fills each buffer with the byte 7.
struct Sevens;

impl DeviceConfig for Sevens {
    fn device_id(&self) -> u32 {
        42
    }
    fn features(&self) -> Features {
        Features::RING | Features::RING_PACKED
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue < 2 { 16 } else { 0 }
    }
}

impl DeviceModel for Sevens {
    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        while let Ok(Some(view)) = request.writable.view(u32::MAX) {
            view.fill(7);
            request.writable.commit(view.len() as u32);
        }
        Ok(Answer::Done {
            written: request.writable.written(),
        })
    }
}

fn queue(size: u32) -> QueueConfig {
    QueueConfig {
        queue: 0,
        size,
        desc: BASE,
        driver: BASE + 0x1000,
        device: BASE + 0x1004,
    }
}

fn check(config: QueueConfig) -> Result<(), Refusal> {
    translate_queue(&ram().flat(BASE), &config, PACKED).map(|_| ())
}

#[test]
fn any_size_up_to_the_maximum_is_accepted() {
    for size in [1, 2, 3, 5, 7, 100, 255, 256] {
        assert_eq!(check(queue(size)), Ok(()));
    }
    for size in [0, 0x8001, 0x1_0000, 0x1_0008] {
        let refusal = Refusal::QueueSize {
            queue: 0,
            size,
            max: 32768,
        };
        assert_eq!(check(queue(size)), Err(refusal));
    }
    // A split queue's size must be a power of two.
    let split = translate_queue(&ram().flat(BASE), &queue(3), Features::VERSION_1);
    assert!(matches!(split, Err(Refusal::QueueSize { .. })));
}

#[test]
fn the_areas_are_aligned_to_16_4_and_4() {
    let good = queue(8);
    for (area, config) in [
        (
            Area::Descriptor,
            QueueConfig {
                desc: BASE + 8,
                ..good
            },
        ),
        (
            Area::Driver,
            QueueConfig {
                driver: BASE + 0x1002,
                ..good
            },
        ),
        (
            Area::Device,
            QueueConfig {
                device: BASE + 0x1006,
                ..good
            },
        ),
    ] {
        let refused = check(config);
        assert!(
            matches!(refused, Err(Refusal::Misaligned { area: found, .. }) if found == area),
            "{refused:?}"
        );
    }
}

#[test]
fn the_event_structures_may_be_the_last_4_bytes_of_memory() {
    let good = QueueConfig {
        driver: END - 8,
        device: END - 4,
        ..queue(8)
    };
    assert_eq!(check(good), Ok(()));
    let beyond = QueueConfig {
        device: END,
        ..good
    };
    assert!(matches!(check(beyond), Err(Refusal::Unmapped { .. })));
    let same = QueueConfig {
        device: END - 8,
        ..good
    };
    assert!(matches!(check(same), Err(Refusal::Overlap { .. })));
    let in_the_ring = QueueConfig {
        device: BASE + 7 * 16 + 12,
        ..good
    };
    assert!(matches!(check(in_the_ring), Err(Refusal::Overlap { .. })));
}

#[test]
fn the_ring_itself_is_written_so_it_has_to_be_writable() {
    let (ram, page) = (ram(), 0x1000);
    let mut mem = RegionMem::<2>::new();
    assert!(
        mem.add(region(BASE, ram, 0, page, Permission::Read))
            .is_ok()
    );
    let rest = region(BASE + 0x1000, ram, page, page, Permission::Write);
    assert!(mem.add(rest).is_ok());
    let refused = translate_queue(&mem, &queue(8), PACKED).map(|_| ());
    assert!(
        matches!(
            refused,
            Err(Refusal::Unmapped {
                area: Area::Descriptor,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_driver_at_the_registers_gets_a_packed_queue_of_five() {
    let (mut engine, ram) = test_engine(Sevens, 1);
    assert!(engine.offered().contains(Features::RING_PACKED));
    let mut driver = PackedDriver::new(ram.flat(BASE), BASE, 5);
    assert!(engine.bring_up(PACKED, &[driver.config(0)]));
    for round in 0..20 {
        driver.send(round, &[Buffer::writable(DATA, 3); 2]);
        assert_eq!(engine.kick(0), Reply::Done(0));
        engine.poll(4);
        assert_eq!(driver.take_used(2), Some((round, 6, true)));
    }
    assert_eq!(engine.counters().chains, 20);
    assert_eq!(engine.counters().interrupts, 20);
}

#[test]
fn a_queue_laid_out_as_packed_is_refused_as_split() {
    let (mut engine, ram) = test_engine(Sevens, 1);
    let driver = PackedDriver::new(ram.flat(BASE), BASE, 4);
    assert!(engine.negotiate(Features::VERSION_1));
    let refused = engine.configure(&driver.config(0)).refusal();
    assert!(
        matches!(refused, Some(Refusal::Overlap { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_queue_from_before_the_choice_of_format_is_checked_with_it() {
    // QueueReady as a split queue, before the driver has accepted RING_PACKED.
    let (mut engine, _) = test_engine(Sevens, 1);
    let split = virtside_tests::config(0);
    let _ = engine.store(reg::STATUS, 0);
    assert_eq!(engine.configure(&split), Reply::Done(0));
    // The negotiation continues without a reset.
    let _ = engine.store(reg::STATUS, 3);
    for word in 0..4 {
        let _ = engine.store(reg::DRIVER_FEATURES_SEL, word);
        let _ = engine.store(reg::DRIVER_FEATURES, PACKED.word(word));
    }
    let _ = engine.store(reg::STATUS, 0xb);
    let reply = engine.store(reg::STATUS, 0xf);
    // The areas of a split queue are at least as large and as aligned as those of a packed queue.
    assert_eq!(reply, Reply::Done(0));
    assert_eq!(engine.queue_config(0).map(|config| config.size), Some(16));
}

#[test]
fn a_run_of_descriptors_ends_where_its_window_does() {
    let ram = ram();
    for at in 0..0x40 {
        ram.write(0x200 + at * 16, &(at as u64).to_le_bytes());
        // Available in the first round.
        ram.write(0x200 + at * 16 + 14, &0x80u16.to_le_bytes());
    }
    for len in [0x30, 0x3f, 0x40, 0x200] {
        let range = DriverRange::new(BASE + 0x200, len).expect("a range");
        let window = ram.flat(BASE).window(range, Permission::Write);
        let window = window.expect("a window");
        for index in 0..=40u16 {
            assert!(window.load_available_run(index, 0x8000).is_none());
            let Some((first, behind)) = window.load_available_run(index, 0x80) else {
                assert!(u32::from(index) >= len / 16, "index {index} in {len} bytes");
                continue;
            };
            assert_eq!(Some(first), window.load_descriptor(index));
            let expected = (index + 1..).map_while(|index| {
                let there = window.load_descriptor(index)?;
                assert_eq!(there.addr, u64::from(index));
                Some(there)
            });
            assert!(behind.eq(expected), "from {index} on in {len} bytes");
        }
    }
}

#[test]
fn a_window_stays_inside_whatever_is_asked_of_it() {
    for len in 0..=40 {
        for permission in [Permission::Read, Permission::Write] {
            let ram = ram();
            ram.write(0, &[0xee; 0x400]);
            let range = DriverRange::new(BASE + 0x200, len).expect("a range");
            let Ok(window) = ram.flat(BASE).window(range, permission) else {
                assert!(len < 4, "{len}");
                continue;
            };
            for index in [0, 1, 2, 3, 7, 255, 0x7fff, 0x8000, u16::MAX] {
                window.load_descriptor(index);
                window.load_entry(index);
                window.is_available(index, true);
                window.load_available(index, false);
                window.store_used(index, [1, 2]);
                window.store_used_descriptor(index, 3, 4, 5);
            }
            window.load_flags();
            window.load_idx();
            window.load_event();
            window.load_suppression();
            window.store_flags(6);
            window.store_event(7);
            window.store_suppression(8);
            let mut bytes = [0; 0x400];
            ram.read(0, &mut bytes);
            let end = 0x200 + len as usize;
            assert!(
                bytes[..0x200]
                    .iter()
                    .chain(&bytes[end..])
                    .all(|&byte| byte == 0xee)
            );
            if permission == Permission::Read {
                assert_eq!(bytes, [0xee; 0x400], "{len}");
            } else {
                assert_eq!(bytes[0x200..0x204], [8, 0, 0, 0], "{len}");
            }
        }
    }
}
