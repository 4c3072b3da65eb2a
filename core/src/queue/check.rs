//! Set-up checks: the only way to a [`CheckedQueue`], and so to a queue.
//!
//! Every transport ends here, when a queue is made ready (mmio: QueueReady = 1) and, with the
//! features and the queues that are then final, once more when the driver goes live. In this order:
//!
//! 1. the number is one that the device has,
//! 2. the size is not zero, not above the maximum and, if the queue is split, a power of two, as a
//!    full 32-bit value,
//! 3. descriptor, driver and device area are aligned to 16, 2 (packed: 4) and 4 bytes,
//! 4. no area wraps around the end of the address space,
//! 5. no two areas share a byte, neither of this queue nor with any other queue's,
//! 6. every byte of every area is mapped with the access it needs, in one piece,
//! 7. the device's own [`QueueCheck`] agrees.
//!
//! The worst case of rules 1 to 6 is `9 * Q` range comparisons and three translations for each
//! queue. [`QueueCheck`] says how often rule 7 is asked. Guest memory is not touched.
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

/// A device's own view of which queues it wants.
///
/// # When it is asked, and about what
///
/// | when | asked | `existing` |
/// |---|---|---|
/// | a queue is made ready: QueueReady = 1 before DRIVER_OK, [`Message::ConfigureQueue`] | [`check_config`] of this queue | the queues that are ready at this time |
/// | the driver goes live: DRIVER_OK, [`Message::Ready`], [`DeviceBuilder::build`] | [`check_config`] of every ready queue, lowest number first, then [`check_ready`] | every other ready queue |
/// | a queue is set up again in a live device (queue reset) | the same, this queue included | every other queue, but those that the driver has stopped |
/// | a state is restored | the same, unless DRIVER_OK is still to come and then asks; with the features of the state | every other queue of the state |
///
/// The two checks of a queue see different sets: the first may lack queues that the driver sets up
/// later, and may have some that it stops again. What holds for the second holds for the queues that
/// go live. A check that relates two queues is asked about each of them beside the other; it need
/// only judge one. A check that counts the `existing` queues to impose an order of set-up refuses
/// the second time.
///
/// A queue that was refused is not there. Refused while the driver goes live, it makes the device
/// refuse to start; under a [`FaultPolicy`] that goes on without the queue, every queue that is left
/// is checked again beside those that are left. So `check_config` is called at most `Q` times when
/// the driver goes live, under such a policy `Q * (Q + 1) / 2` times, and `check_ready` once.
///
/// A queue that the driver stops is not missed by the others until another one is set up: nobody
/// asks when a queue goes.
///
/// # Ready-made checks
///
/// Implemented for `[u16]` (a list of numbers), every [`RangeBounds<u16>`], [`QueueSet`] (the
/// allowed set as a bitset) and [`QueueCheckFn`] (a closure). Arrays come as slices: `[u16; N]`
/// cannot stand beside the blanket for ranges. Functions take `&(impl QueueCheck + ?Sized)`. Each of
/// these refuses a number that is among `existing`.
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
/// A check that relates queues, and one that wants some of them at least:
///
/// ```
/// use virtside::{Features, QueueCheck, QueueConfig, Refusal, error::DeviceError};
///
/// /// Queue 0 must be there, and queue 1 must not be larger.
/// struct Paired;
///
/// impl QueueCheck for Paired {
///     type Error = DeviceError;
///
///     fn check_queue(&self, queue: u16, existing: impl Iterator<Item = u16>) -> Result<(), DeviceError> {
///         (0..2).check_queue(queue, existing)
///     }
///
///     fn check_config<'a>(
///         &self,
///         config: &QueueConfig,
///         _: Features,
///         mut existing: impl Iterator<Item = &'a QueueConfig> + Clone,
///     ) -> Result<(), DeviceError> {
///         self.check_queue(config.queue, existing.clone().map(|other| other.queue))?;
///         if config.queue == 1 && existing.any(|other| other.queue == 0 && other.size < config.size) {
///             return Err(Refusal::Policy { queue: 1 }.into());
///         }
///         Ok(())
///     }
///
///     fn check_ready<'a>(
///         &self,
///         mut queues: impl Iterator<Item = &'a QueueConfig> + Clone,
///         _: Features,
///     ) -> Result<(), DeviceError> {
///         if queues.any(|config| config.queue == 0) { Ok(()) } else { Err(Refusal::QueueSet.into()) }
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
    /// Why a queue is not wanted.
    type Error: Into<DeviceError>;

    /// Whether the device wants a queue of this number beside those of the `existing` numbers, which
    /// come lowest first and do not include it.
    ///
    /// # Errors
    /// Why not; the queue is then not configured.
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), Self::Error>;

    /// Whether the device wants this queue with this size and these addresses, with the features
    /// known so far, beside the `existing` ones, which come lowest first and do not include it. It
    /// passed every other check. By default asks [`check_queue`](Self::check_queue).
    ///
    /// # Errors
    /// Why not; the queue is then not configured.
    fn check_config<'a>(
        &self,
        config: &QueueConfig,
        features: Features,
        existing: impl Iterator<Item = &'a QueueConfig> + Clone,
    ) -> Result<(), Self::Error> {
        let _ = features;
        self.check_queue(config.queue, existing.map(|other| other.queue))
    }

    /// Whether the device wants to go live with these queues, lowest first, and these features: the
    /// place to ask whether all that must be there is. Each of them passed
    /// [`check_config`](Self::check_config). By default it does.
    ///
    /// # Errors
    /// Why not. The device does not start then, whatever its [`FaultPolicy`](crate::error::FaultPolicy): a
    /// refused DRIVER_OK ([`Refusal::NotReady`]), an error of `Message::Ready`. Registers keep
    /// [`Refusal::QueueSet`] as their last refusal, or the [`Refusal`] in this error.
    fn check_ready<'a>(
        &self,
        queues: impl Iterator<Item = &'a QueueConfig> + Clone,
        features: Features,
    ) -> Result<(), Self::Error> {
        let _ = (queues, features);
        Ok(())
    }
}

/// Allowed, and not there yet.
fn fresh(
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
        fresh(self.contains(&queue), queue, existing)
    }
}

impl<R: RangeBounds<u16>> QueueCheck for R {
    type Error = DeviceError;
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        fresh(self.contains(&queue), queue, existing)
    }
}

impl<const WORDS: usize> QueueCheck for QueueSet<WORDS> {
    type Error = DeviceError;
    fn check_queue(
        &self,
        queue: u16,
        existing: impl Iterator<Item = u16>,
    ) -> Result<(), DeviceError> {
        fresh(self.contains(queue), queue, existing)
    }
}

/// A closure as a check by queue numbers. It is asked as [`QueueCheck::check_queue`] is; for sizes,
/// addresses or the whole set, implement [`QueueCheck`].
///
/// ```
/// use virtside::{QueueCheck, error::DeviceError, queue::QueueCheckFn};
/// // Queue 0 receives; each of the others only beside it.
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

/// A queue whose configuration passed every check, with its rings translated.
///
/// Its constructor is private to this module: to have one is to have been checked.
#[derive(Debug)]
pub struct CheckedQueue<W> {
    pub(crate) config: QueueConfig,
    pub(crate) size: u16,
    pub(crate) features: Features,
    pub(crate) windows: Windows<W>,
}

impl<W> CheckedQueue<W> {
    /// What was checked.
    #[must_use]
    pub const fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Number of elements.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Whether it is a packed queue.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        is_packed(self.features)
    }

    /// The kept views of the descriptor, driver and device area.
    pub fn into_windows(self) -> [W; 3] {
        [self.windows.desc, self.windows.driver, self.windows.device]
    }
}

/// The kept views of a queue's three areas.
#[derive(Debug)]
pub(crate) struct Windows<W> {
    pub(crate) desc: W,
    pub(crate) driver: W,
    pub(crate) device: W,
}

/// An area of a queue: which, where, and what the device does there.
struct Placed {
    area: Area,
    range: DriverRange,
    permission: Permission,
}

/// Whether queues are packed with these features. A build with one format has no choice.
const fn is_packed(features: Features) -> bool {
    cfg!(feature = "packed")
        && (!cfg!(feature = "split") || features.contains(Features::RING_PACKED))
}

/// The areas of a queue of `size` elements: split 16N, 6 + 2N and 6 + 8N bytes, packed 16N, 4 and 4.
fn place(config: &QueueConfig, size: u16, packed: bool) -> Result<[Placed; 3], Refusal> {
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
    // A packed ring is where the device writes used descriptors, too.
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
            Some(range) => Ok(Placed {
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

/// Size rules, on the full 32 bits (split-desc-05). Only a packed queue may have any size.
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

fn translate<M: DriverMem>(mem: &M, queue: u16, placed: &Placed) -> Result<M::Window, Refusal> {
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

/// Everything but the device's own [`QueueCheck`] that is asked of a configuration before a queue is
/// made of it: rules 1 to 6.
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
    let areas = place(config, size, packed)?;
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
        // The other queue was checked, so its size fits and its areas do not wrap.
        let theirs =
            checked_size(other, LARGEST, packed).and_then(|size| place(other, size, packed));
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

/// Checks a configuration for itself (rules 2 to 6 of the checks, with no other queue) and
/// translates its areas, for a device that keeps its queues in its own way. Of `features`,
/// RING_PACKED decides on the format.
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
/// The first check that it does not pass.
pub fn translate_queue<M: DriverMem>(
    mem: &M,
    config: &QueueConfig,
    features: Features,
) -> Result<CheckedQueue<M::Window>, Refusal> {
    check(config, LARGEST, features, mem, core::iter::empty())
}

/// Elements of the largest queue.
const LARGEST: u16 = 32768;

/// The same areas in memory that has changed since.
pub(crate) fn translate_again<M: DriverMem>(
    config: &QueueConfig,
    packed: bool,
    mem: &M,
) -> Result<Windows<M::Window>, Refusal> {
    let size = checked_size(config, LARGEST, packed)?;
    let [desc, driver, device] = place(config, size, packed)?;
    Ok(Windows {
        desc: translate(mem, config.queue, &desc)?,
        driver: translate(mem, config.queue, &driver)?,
        device: translate(mem, config.queue, &device)?,
    })
}

/// The largest split queue that is no larger than either.
pub(crate) fn largest(wanted: u16, capacity: u16) -> u16 {
    wanted
        .min(capacity)
        .checked_ilog2()
        .map_or(0, |log| 1 << log)
}
