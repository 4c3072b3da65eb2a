//! Set-up checks of queues. Only these checks create a [`CheckedQueue`], and only a `CheckedQueue`
//! becomes a queue.
//!
//! Every transport checks a queue twice: when the queue is made ready (mmio: QueueReady = 1), and
//! again at DRIVER_OK, when the features and the set of queues are final. The rules, in this order:
//!
//! 1. The device has a queue with this number.
//! 2. The size, as a full 32-bit value, is not zero and not above the maximum. The size of a split
//!    queue is a power of two.
//! 3. The descriptor, driver and device areas are aligned to 16, 2 (packed: 4) and 4 bytes.
//! 4. No area wraps around the end of the address space.
//! 5. No two areas share a byte, neither within this queue nor with any other queue.
//! 6. Every area is mapped with the access that the device needs, and is contiguous in host memory.
//! 7. The device's own [`QueueCheck`] accepts the queue.
//!
//! In a device with room for `Q` queues, rules 1 to 6 take at most `9 * Q` range comparisons and
//! three translations for one queue. [`QueueCheck`] says how often rule 7 is applied. No check
//! accesses driver memory.
//!
//! Clauses: split-desc-05, mmio-20, driver-11, driver-12.

use core::ops::RangeBounds;

use crate::{
    error::{Area, DeviceError, Refusal},
    features::Features,
    memory::{DriverMem, DriverRange, MemFault, Permission},
    message::QueueConfig,
    queue_set::QueueSet,
};

/// The device's own check of its queues: which numbers, sizes, addresses and combinations it
/// accepts.
///
/// # When the methods are called
///
/// | when | calls | `existing` |
/// |---|---|---|
/// | a queue is made ready: QueueReady = 1 before DRIVER_OK, [`Message::ConfigureQueue`] | [`check_config`] for this queue | the queues that are ready at this time |
/// | the driver goes live: DRIVER_OK, [`Message::Ready`], [`DeviceBuilder::build`] | [`check_config`] for every ready queue, lowest number first, then [`check_ready`] | every other ready queue |
/// | a queue is set up again in a live device (queue reset) | [`check_config`] for every ready queue and for this one, then [`check_ready`] if as many queues are ready as the driver has had at once since DRIVER_OK | every other queue, except queues that the driver has stopped |
/// | a state is restored | [`check_config`] for every queue of the state, then [`check_ready`], with the features of the state. No calls for a register block before DRIVER_OK: DRIVER_OK makes them | every other queue of the state |
///
/// The two checks of one queue see different `existing` sets. The first set may lack queues that
/// the driver sets up later, and may contain queues that the driver stops again. The second set
/// contains exactly the other queues that go live.
///
/// - A check that relates two queues is called for each of the two, with the other one in
///   `existing`. It is enough to refuse one of the two calls.
/// - A check must not use the number of `existing` queues to impose an order of set-up. In the
///   second check this number is the same for every queue, so the check would refuse some of them.
///
/// A refused queue is not configured. If a queue is refused while the driver goes live, the
/// [`FaultPolicy`] decides what follows:
///
/// - By default, the device refuses to start. `check_config` is called at most `Q` times.
/// - Under a policy that continues without the queue, every remaining queue is checked again beside
///   the other remaining queues. `check_config` is called at most `Q * (Q + 1) / 2` times.
///
/// In both cases `check_ready` is called at most once.
///
/// No method is called when the driver stops a queue. The next check sees that the queue is
/// missing, and is made only when another queue is set up.
///
/// # Ready-made checks
///
/// The trait is implemented for `[u16]` (a list of numbers), every [`RangeBounds<u16>`],
/// [`QueueSet`] (the allowed numbers as a bitset) and [`QueueCheckFn`] (a closure). Each of these
/// except the closure refuses a number that is among `existing`. Pass an array as a slice: an
/// implementation for `[u16; N]` would conflict with the blanket implementation for ranges.
/// Functions that take a check take `&(impl QueueCheck + ?Sized)`.
///
/// [`check_config`]: Self::check_config
/// [`check_ready`]: Self::check_ready
/// [`DeviceBuilder::build`]: crate::DeviceBuilder::build
/// [`FaultPolicy`]: crate::error::FaultPolicy
/// [`Message::ConfigureQueue`]: crate::Message::ConfigureQueue
/// [`Message::Ready`]: crate::Message::Ready
///
/// ```
/// use virtside::{Features, QueueCheck, QueueConfig, QueueSet};
/// assert!([0, 2][..].check_queue(2, [0].into_iter()).is_ok());
/// assert!([0, 2][..].check_queue(1, [0].into_iter()).is_err());
/// assert!((0..2).check_queue(1, [0].into_iter()).is_ok());
/// assert!((0..2).check_queue(1, [0, 1].into_iter()).is_err());
/// assert!(QueueSet::<1>::first(3).check_queue(2, core::iter::empty()).is_ok());
/// let config = QueueConfig { queue: 2, size: 8, ..Default::default() };
/// assert!((0..3).check_config(&config, Features::VERSION_1, core::iter::empty()).is_ok());
/// ```
///
/// A check that relates two queues and requires one of them:
///
/// ```
/// use virtside::{Features, QueueCheck, QueueConfig, Refusal, error::DeviceError};
///
/// /// Queue 0 must exist, and queue 1 must not be larger than queue 0.
/// struct Paired;
///
/// impl QueueCheck for Paired {
///     type Error = DeviceError;
///
///     fn check_queue(
///         &self,
///         queue: u16,
///         existing: impl Iterator<Item = u16>,
///     ) -> Result<(), DeviceError> {
///         (0..2).check_queue(queue, existing)
///     }
///
///     fn check_config<'a>(
///         &self,
///         config: &QueueConfig,
///         _: Features,
///         existing: impl Iterator<Item = &'a QueueConfig> + Clone,
///     ) -> Result<(), DeviceError> {
///         self.check_queue(config.queue, existing.clone().map(|other| other.queue))?;
///         let mut smaller = existing.filter(|other| other.size < config.size);
///         if config.queue == 1 && smaller.any(|other| other.queue == 0) {
///             return Err(Refusal::QueueCheck { queue: 1 }.into());
///         }
///         Ok(())
///     }
///
///     fn check_ready<'a>(
///         &self,
///         mut queues: impl Iterator<Item = &'a QueueConfig> + Clone,
///         _: Features,
///     ) -> Result<(), DeviceError> {
///         if queues.any(|config| config.queue == 0) {
///             Ok(())
///         } else {
///             Err(Refusal::QueueSet.into())
///         }
///     }
/// }
///
/// let small = QueueConfig { queue: 0, size: 8, ..Default::default() };
/// let large = QueueConfig { queue: 1, size: 16, ..Default::default() };
/// assert!(Paired.check_config(&large, Features::VERSION_1, [small].iter()).is_err());
/// assert!(Paired.check_ready([large].iter(), Features::VERSION_1).is_err());
/// assert!(Paired.check_ready([small].iter(), Features::VERSION_1).is_ok());
/// ```
pub trait QueueCheck {
    /// Reason why a queue is refused.
    type Error: Into<DeviceError>;

    /// Checks whether the device accepts a queue with this number beside the `existing` queues.
    ///
    /// `existing` has the numbers of the other queues, lowest first. `queue` is not among them.
    ///
    /// # Errors
    /// The reason why the queue is refused. The queue is then not configured.
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), Self::Error>;

    /// Checks whether the device accepts a queue with this size and these addresses beside the
    /// `existing` queues. The queue has passed every other check.
    ///
    /// `features` are the features that the driver has accepted so far. They are final when the
    /// driver goes live. `existing` has the other queues, lowest number first. This queue is not
    /// among them. The provided method calls [`check_queue`](Self::check_queue).
    ///
    /// # Errors
    /// The reason why the queue is refused. The queue is then not configured.
    fn check_config<'a>(
        &self,
        config: &QueueConfig,
        features: Features,
        existing: impl Iterator<Item = &'a QueueConfig> + Clone,
    ) -> Result<(), Self::Error> {
        let _ = features;
        self.check_queue(config.queue, existing.map(|other| other.queue))
    }

    /// Checks whether the device can go live with these queues, lowest number first, and these
    /// features.
    ///
    /// Use this method to check that every required queue is configured. Each of `queues` has
    /// passed [`check_config`](Self::check_config). The provided method accepts any queues.
    ///
    /// # Errors
    /// The reason why the device does not start. Under every
    /// [`FaultPolicy`](crate::error::FaultPolicy), DRIVER_OK is refused ([`Refusal::NotReady`]), or
    /// `Message::Ready` fails. A register block keeps the [`Refusal`] in this error as its last
    /// refusal, or [`Refusal::QueueSet`] if the error contains no `Refusal`.
    fn check_ready<'a>(
        &self,
        queues: impl Iterator<Item = &'a QueueConfig> + Clone,
        features: Features,
    ) -> Result<(), Self::Error> {
        let _ = (queues, features);
        Ok(())
    }
}

/// Refuses a queue number that is not allowed or is among `existing`.
fn check_new(
    allowed: bool,
    queue: u16,
    mut existing: impl Iterator<Item = u16>,
) -> Result<(), DeviceError> {
    if allowed && !existing.any(|other| other == queue) {
        Ok(())
    } else {
        Err(DeviceError::InvalidQueue(queue))
    }
}

impl QueueCheck for [u16] {
    type Error = DeviceError;
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        check_new(self.contains(&queue), queue, existing)
    }
}

impl<R: RangeBounds<u16>> QueueCheck for R {
    type Error = DeviceError;
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        check_new(self.contains(&queue), queue, existing)
    }
}

impl<const WORDS: usize> QueueCheck for QueueSet<WORDS> {
    type Error = DeviceError;
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        check_new(self.contains(queue), queue, existing)
    }
}

/// A closure as a check of queue numbers.
///
/// The closure is called in place of [`QueueCheck::check_queue`]. To check sizes, addresses or the
/// whole set of queues, implement [`QueueCheck`].
///
/// ```
/// use virtside::{QueueCheck, error::DeviceError, queue::QueueCheckFn};
/// // Queue 0 may exist alone, and every other queue only beside queue 0.
/// let check = QueueCheckFn(|queue, existing: &mut dyn Iterator<Item = u16>| {
///     if queue == 0 || existing.filter(|other| *other == 0).count() == 1 {
///         Ok(())
///     } else {
///         Err(DeviceError::InvalidQueue(queue))
///     }
/// });
/// assert!(check.check_queue(0, [2].into_iter()).is_ok());
/// assert!(check.check_queue(1, [0, 2].into_iter()).is_ok());
/// assert!(check.check_queue(1, [2].into_iter()).is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct QueueCheckFn<F>(pub F);

impl<F, E> QueueCheck for QueueCheckFn<F>
where
    F: Fn(u16, &mut dyn Iterator<Item = u16>) -> Result<(), E>,
    E: Into<DeviceError>,
{
    type Error = E;
    fn check_queue(&self, queue: u16, mut existing: impl Iterator<Item = u16>) -> Result<(), E> {
        (self.0)(queue, &mut existing)
    }
}

/// A queue whose configuration passed every check, with windows of its three areas.
///
/// The constructor is private to this module, so every value of this type was checked.
#[derive(Debug)]
pub struct CheckedQueue<W> {
    pub(crate) config: QueueConfig,
    pub(crate) size: u16,
    pub(crate) features: Features,
    pub(crate) windows: Windows<W>,
}

impl<W> CheckedQueue<W> {
    /// Returns the checked configuration.
    #[must_use]
    pub const fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Returns the number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Returns whether the queue is packed.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        is_packed(self.features)
    }
}

/// The windows of the three areas of a queue.
#[derive(Debug)]
pub(crate) struct Windows<W> {
    pub(crate) desc: W,
    pub(crate) driver: W,
    pub(crate) device: W,
}

/// One area of a queue, its driver addresses, and the access that the device needs.
struct PlacedArea {
    area: Area,
    range: DriverRange,
    permission: Permission,
}

/// Returns whether queues are packed with these features. In a build with one ring format the
/// result does not depend on the features.
const fn is_packed(features: Features) -> bool {
    cfg!(feature = "packed")
        && (!cfg!(feature = "split") || features.contains(Features::RING_PACKED))
}

/// Computes the areas of a queue of `size` elements, and checks rules 3 and 4.
///
/// The descriptor, driver and device areas have these lengths in bytes for a size of n: split 16n,
/// 6 + 2n and 6 + 8n; packed 16n, 4 and 4.
fn place_areas(config: &QueueConfig, size: u16, packed: bool) -> Result<[PlacedArea; 3], Refusal> {
    let elements = u32::from(size);
    // `size` is at most 32768, so no product comes near 2^32.
    let (align, driver, device) = if packed {
        (4, 4, 4)
    } else {
        (
            2,
            elements.wrapping_mul(2).wrapping_add(6),
            elements.wrapping_mul(8).wrapping_add(6),
        )
    };
    // In a packed ring the device also writes used descriptors.
    let ring = if packed {
        Permission::Write
    } else {
        Permission::Read
    };
    let table = elements.wrapping_mul(16);
    let areas = [
        (Area::Descriptor, config.desc, 16, table, ring),
        (Area::Driver, config.driver, align, driver, Permission::Read),
        (Area::Device, config.device, 4, device, Permission::Write),
    ];
    let queue = config.queue;
    let one = |(area, start, align, len, permission): (Area, u64, u64, u32, Permission)| {
        if start & align.wrapping_sub(1) != 0 {
            return Err(Refusal::Misaligned { queue, area, start });
        }
        match DriverRange::new(start, len) {
            Some(range) => Ok(PlacedArea {
                area,
                range,
                permission,
            }),
            None => Err(Refusal::Wraps { queue, area, start }),
        }
    };
    let [desc, driver, device] = areas;
    Ok([one(desc)?, one(driver)?, one(device)?])
}

/// Checks the size as a full 32-bit value (rule 2, split-desc-05). The size of a packed queue need
/// not be a power of two.
fn checked_size(config: &QueueConfig, max: u16, packed: bool) -> Result<u16, Refusal> {
    let refusal = Refusal::QueueSize {
        queue: config.queue,
        size: config.size,
        max,
    };
    let size = u16::try_from(config.size).map_err(|_| refusal)?;
    if size == 0 || size > max.min(LARGEST) || !(packed || size.is_power_of_two()) {
        return Err(refusal);
    }
    Ok(size)
}

fn translate<M: DriverMem>(mem: &M, queue: u16, placed: &PlacedArea) -> Result<M::Window, Refusal> {
    mem.window(placed.range, placed.permission)
        .map_err(|fault| match fault {
            MemFault::Misaligned => Refusal::Misaligned {
                queue,
                area: placed.area,
                start: placed.range.start(),
            },
            MemFault::Unmapped | MemFault::Denied => Refusal::Unmapped {
                queue,
                area: placed.area,
                start: placed.range.start(),
                len: placed.range.len(),
            },
        })
}

/// Checks a configuration by rules 1 to 6, which are all rules except the device's own
/// [`QueueCheck`].
///
/// `others` are the configurations of the other queues that are ready.
pub(crate) fn check<'a, M: DriverMem>(
    config: &QueueConfig,
    max: u16,
    features: Features,
    mem: &M,
    others: impl Iterator<Item = &'a QueueConfig>,
) -> Result<CheckedQueue<M::Window>, Refusal> {
    let queue = config.queue;
    if max == 0 {
        return Err(Refusal::NoSuchQueue {
            queue: queue.into(),
        });
    }
    let packed = is_packed(features);
    let size = checked_size(config, max, packed)?;
    let areas = place_areas(config, size, packed)?;
    let [desc, driver, device] = &areas;
    for (one, two) in [(desc, driver), (desc, device), (driver, device)] {
        if one.range.overlaps(&two.range) {
            return Err(Refusal::Overlap {
                queue,
                area: one.area,
                with: queue,
            });
        }
    }
    for other in others {
        // The other queue passed its checks, so its size is valid and its areas do not wrap.
        let theirs =
            checked_size(other, LARGEST, packed).and_then(|size| place_areas(other, size, packed));
        let Ok(theirs) = theirs else {
            continue;
        };
        for one in &areas {
            if theirs.iter().any(|two| one.range.overlaps(&two.range)) {
                return Err(Refusal::Overlap {
                    queue,
                    area: one.area,
                    with: other.queue,
                });
            }
        }
    }
    let windows = Windows {
        desc: translate(mem, queue, desc)?,
        driver: translate(mem, queue, driver)?,
        device: translate(mem, queue, device)?,
    };
    Ok(CheckedQueue {
        config: *config,
        size,
        features,
        windows,
    })
}

/// Checks one configuration by itself and translates its areas.
///
/// Use this function if your code keeps the queues itself, without a [`Device`](crate::Device). The
/// function checks that
///
/// 1. the size, as a full 32-bit value, is from 1 to 32768, and a power of two for a split queue,
/// 2. the three areas are aligned,
/// 3. no area wraps around the end of the address space,
/// 4. no two areas overlap,
/// 5. every area is mapped with the access that the device needs, and is contiguous in host memory.
///
/// Other queues are not considered. The format is packed if `features` contains RING_PACKED. A
/// build with one ring format always uses that format.
///
/// ```
/// use virtside::{Features, QueueConfig, Refusal, memory::Ram, queue::translate_queue};
/// static RAM: Ram<4096> = Ram::new();
/// let config = QueueConfig { queue: 0, size: 8, desc: 0, driver: 0x80, device: 0x100 };
/// assert!(translate_queue(&RAM.flat(0), &config, Features::VERSION_1).is_ok());
/// let odd = QueueConfig { size: 0x1_0008, ..config };
/// assert_eq!(
///     translate_queue(&RAM.flat(0), &odd, Features::VERSION_1).unwrap_err(),
///     Refusal::QueueSize { queue: 0, size: 0x1_0008, max: 32768 },
/// );
/// ```
///
/// # Errors
/// The first check that the configuration does not pass.
pub fn translate_queue<M: DriverMem>(
    mem: &M,
    config: &QueueConfig,
    features: Features,
) -> Result<CheckedQueue<M::Window>, Refusal> {
    check(config, LARGEST, features, mem, core::iter::empty())
}

/// Number of elements of the largest possible queue.
const LARGEST: u16 = 32768;

/// Translates the areas of a checked queue again, after the memory changed.
pub(crate) fn translate_again<M: DriverMem>(
    config: &QueueConfig,
    packed: bool,
    mem: &M,
) -> Result<Windows<M::Window>, Refusal> {
    let size = checked_size(config, LARGEST, packed)?;
    let [desc, driver, device] = place_areas(config, size, packed)?;
    Ok(Windows {
        desc: translate(mem, config.queue, &desc)?,
        driver: translate(mem, config.queue, &driver)?,
        device: translate(mem, config.queue, &device)?,
    })
}

/// Returns the largest size of a split queue that is at most `wanted` and at most `capacity`.
pub(crate) fn largest(wanted: u16, capacity: u16) -> u16 {
    wanted
        .min(capacity)
        .checked_ilog2()
        .map_or(0, |log| 1 << log)
}
