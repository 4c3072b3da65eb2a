//! `DeviceBuilder`: adding queues, and building the device.

use std::sync::Arc;

use virtside::{
    Device, DeviceBuilder, DriverNotify, Features, FlatMem, QueueConfig, Refusal, Shared,
    device::QueueState,
    error::{Area, DeviceError},
    interrupt::{BufferedNotify, CountingNotify},
};
use virtside_tests::{BASE, BYTES, N, Q, config, ram};

type Builder<I> = DeviceBuilder<I, Q, Arc<Shared<Q>>>;
type Built<I> = Device<FlatMem, I, Q, N, Arc<Shared<Q>>>;

fn builder() -> Builder<()> {
    DeviceBuilder::new(Arc::new(Shared::new()))
}

fn build<I>(builder: Builder<I>) -> Result<Built<I>, DeviceError> {
    builder.build(Features::VERSION_1, ram().flat(BASE))
}

/// Returns why a device with this queue cannot be built.
fn refusal(config: QueueConfig) -> Refusal {
    let builder = builder().add_queue(config).expect("the number is valid");
    match build(builder) {
        Err(DeviceError::BadQueueConfig(queue, refusal)) => {
            assert_eq!(queue, config.queue);
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_builder_starts_without_queues() {
    assert_eq!(builder().configured_queues().count(), 0);
    let device = build(builder()).expect("a device may have no queues");
    assert_eq!(device.configured_queues().count(), 0);
}

#[test]
fn queues_may_be_added_in_any_order() {
    let mut builder = builder();
    for queue in [2, 0, 3, 1] {
        builder = builder.add_queue(config(queue)).expect("the number is new");
    }
    assert!(builder.configured_queues().eq(0..4));
    let device = build(builder).expect("all queues are valid");
    assert!(device.configured_queues().eq(0..4));
    for queue in 0..4 {
        assert_eq!(device.queue_config(queue), Some(&config(queue)));
        assert_eq!(device.queue_state(queue), QueueState::Ready);
    }
}

#[test]
fn a_second_queue_of_the_same_number_is_refused() {
    let builder = builder().add_queue(config(1)).expect("the number is new");
    let other = QueueConfig {
        size: 4,
        ..config(1)
    };
    assert_eq!(
        builder.add_queue(other).unwrap_err(),
        DeviceError::InvalidQueue(1)
    );
}

#[test]
fn a_number_beyond_the_capacity_is_refused() {
    for queue in [4, 5, 31, 32, 0x8000, u16::MAX] {
        let config = QueueConfig { queue, ..config(0) };
        assert_eq!(
            builder().add_queue(config).unwrap_err(),
            DeviceError::InvalidQueue(queue)
        );
    }
}

#[test]
fn the_notification_can_be_mapped() {
    let line: &'static CountingNotify = Box::leak(Box::default());
    let builder = builder()
        .map_notify(|()| Ok(line))
        .and_then(|builder| builder.add_queue(config(2)))
        .and_then(|builder| builder.map_notify(|line| Ok(Arc::new(BufferedNotify::new(line)))));
    // The added queues are kept.
    let builder = builder.expect("the mapping succeeds");
    assert!(builder.configured_queues().eq([2]));
    let device = build(builder).expect("the queue is valid");
    device.notify().assert();
    assert_eq!(line.asserted(), 0);
    device.notify().flush();
    assert_eq!(line.asserted(), 1);
}

#[test]
fn a_notification_that_cannot_be_mapped_is_an_error() {
    let error = DeviceError::Host(virtside::HostFault::Backend);
    let failed = builder().map_notify(|()| Err::<(), _>(error));
    assert_eq!(failed.unwrap_err(), error);
}

#[test]
fn an_invalid_size_is_refused() {
    for size in [0, 3, 17, 32, 0x8000, 0x1_0000, 0x1_0008, u32::MAX] {
        let refusal = refusal(QueueConfig { size, ..config(1) });
        assert_eq!(
            refusal,
            Refusal::QueueSize {
                queue: 1,
                size,
                max: 16
            }
        );
    }
    for size in [1, 2, 4, 8, 16] {
        let config = QueueConfig { size, ..config(1) };
        assert!(build(builder().add_queue(config).expect("the number is valid")).is_ok());
    }
}

#[test]
fn an_area_off_its_alignment_is_refused() {
    let good = config(1);
    for off in 1..16 {
        let start = good.desc + off;
        assert_eq!(
            refusal(QueueConfig {
                desc: start,
                ..good
            }),
            Refusal::Misaligned {
                queue: 1,
                area: Area::Descriptor,
                start
            }
        );
    }
    let start = good.driver + 1;
    assert_eq!(
        refusal(QueueConfig {
            driver: start,
            ..good
        }),
        Refusal::Misaligned {
            queue: 1,
            area: Area::Driver,
            start
        }
    );
    for off in 1..4 {
        let start = good.device + off;
        assert_eq!(
            refusal(QueueConfig {
                device: start,
                ..good
            }),
            Refusal::Misaligned {
                queue: 1,
                area: Area::Device,
                start
            }
        );
    }
}

#[test]
fn an_area_that_wraps_around_is_refused() {
    let start = 0u64.wrapping_sub(32);
    let good = config(1);
    for (config, area) in [
        (
            QueueConfig {
                desc: start,
                ..good
            },
            Area::Descriptor,
        ),
        (
            QueueConfig {
                driver: start,
                ..good
            },
            Area::Driver,
        ),
        (
            QueueConfig {
                device: start,
                ..good
            },
            Area::Device,
        ),
    ] {
        assert_eq!(
            refusal(config),
            Refusal::Wraps {
                queue: 1,
                area,
                start
            }
        );
    }
}

#[test]
fn an_area_that_is_not_wholly_mapped_is_refused() {
    let good = config(1);
    for start in [0, BASE - 16, BASE + BYTES as u64 - 16] {
        for (config, area, len) in [
            (
                QueueConfig {
                    desc: start,
                    ..good
                },
                Area::Descriptor,
                256,
            ),
            (
                QueueConfig {
                    driver: start,
                    ..good
                },
                Area::Driver,
                38,
            ),
            (
                QueueConfig {
                    device: start,
                    ..good
                },
                Area::Device,
                134,
            ),
        ] {
            assert_eq!(
                refusal(config),
                Refusal::Unmapped {
                    queue: 1,
                    area,
                    start,
                    len
                }
            );
        }
    }
}

#[test]
fn areas_of_one_queue_that_share_a_byte_are_refused() {
    let good = config(1);
    for (config, area) in [
        (
            QueueConfig {
                driver: good.desc + 254,
                ..good
            },
            Area::Descriptor,
        ),
        (
            QueueConfig {
                device: good.desc,
                ..good
            },
            Area::Descriptor,
        ),
        (
            QueueConfig {
                device: good.driver + 36,
                ..good
            },
            Area::Driver,
        ),
    ] {
        assert_eq!(
            refusal(config),
            Refusal::Overlap {
                queue: 1,
                area,
                with: 1
            }
        );
    }
}

#[test]
fn areas_of_two_queues_that_share_a_byte_are_refused() {
    let (first, second) = (config(0), config(1));
    for (second, area) in [
        (
            QueueConfig {
                desc: first.desc + 240,
                ..second
            },
            Area::Descriptor,
        ),
        (
            QueueConfig {
                driver: first.device + 132,
                ..second
            },
            Area::Driver,
        ),
        (
            QueueConfig {
                device: first.driver + 36,
                ..second
            },
            Area::Device,
        ),
    ] {
        let builder = builder().add_queue(first).expect("the number is new");
        let builder = builder.add_queue(second).expect("the number is new");
        let refusal = Refusal::Overlap {
            queue: 1,
            area,
            with: 0,
        };
        assert_eq!(
            build(builder).unwrap_err(),
            DeviceError::BadQueueConfig(1, refusal)
        );
    }
}

#[test]
fn the_error_names_the_bad_queue_with_the_lowest_number() {
    let bad = |queue| QueueConfig {
        size: 0,
        ..config(queue)
    };
    for order in [[3, 1], [1, 3]] {
        let mut builder = builder().add_queue(config(2)).expect("the number is new");
        for queue in order {
            builder = builder.add_queue(bad(queue)).expect("the number is valid");
        }
        let refusal = Refusal::QueueSize {
            queue: 1,
            size: 0,
            max: 16,
        };
        let error = DeviceError::BadQueueConfig(1, refusal);
        assert_eq!(build(builder).unwrap_err(), error);
    }
}
