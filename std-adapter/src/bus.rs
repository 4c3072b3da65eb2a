//! Several devices behind one source of register accesses.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, DerefMut, Range},
};

use virtside::{
    Refusal, Step,
    error::DeviceError,
    mmio::{Access, RegisterBlock, Reply, Ticket},
};

use crate::serve::Served;

/// Length of a register block without its configuration space, in bytes.
const REGISTERS: u32 = 0x100;

/// Several devices, each at its own address range, behind one
/// [`AccessSource`](crate::AccessSource).
///
/// The source supplies absolute addresses. A bus implements [`Served`], so [`serve`](crate::serve)
/// runs all of its devices in one loop.
///
/// `D` owns or borrows a device:
///
/// * `Box<dyn Served + Send>` or `&mut dyn Served` for devices of different models;
/// * `&mut Engine<..>` for devices of one type.
///
/// Addresses have 32 bits. A source with 64-bit addresses subtracts a base address first.
///
/// * An access goes to the device whose range contains all bytes of the access. The device receives
///   the offset from the start of its range.
/// * An access outside every range is refused with [`Refusal::NoSuchRegister`], which holds the
///   absolute address. A load reads as 0, a store has no effect, and the
///   [`Observer`](crate::Observer) is told.
/// * The ticket of a [`Reply::Pending`] belongs to the device that was accessed. Until that reply
///   is finished, every other access gets [`Reply::Busy`]. All devices are still polled.
/// * [`poll`](Served::poll) serves at most `budget` chains of all devices together. Each device
///   gets an equal share, which is at least one chain. If the budget is spent before every device
///   was polled, the next call starts with the first device that was left out.
///
/// ```
/// use std::{sync::Arc, thread};
/// use virtside::{ChainSlot, Engine, Shared};
/// use virtside::models::{Block, BlockOptions, Entropy, blk::RamDisk};
/// use virtside_std::{Bus, BusError, OsEntropy, Served, VmMem, channel::channel, serve};
/// # use vm_memory::{GuestAddress, GuestMemoryMmap};
/// # let guest = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 65536)])?;
///
/// let entropy: Engine<_, _, _, 1, 16, _, _> =
///     Engine::new(Entropy::new(OsEntropy), VmMem::new(&guest), (), [ChainSlot::new()], Arc::new(Shared::new()));
/// let disk = Block::new(RamDisk::new(vec![0; 4096]), BlockOptions::new(16));
/// let disk: Engine<_, _, _, 1, 16, _, _> =
///     Engine::new(disk, VmMem::new(&guest), (), [ChainSlot::new()], Arc::new(Shared::new()));
///
/// let mut bus: Bus<Box<dyn Served + Send>> = Bus::new();
/// bus.attach(0x1000..0x1200, Box::new(entropy))?;
/// bus.attach(0x2000..0x2200, Box::new(disk))?;
///
/// let (port, mut source) = channel();
/// let devices = thread::spawn(move || serve(&mut bus, &mut source, &mut ()));
/// assert_eq!(port.read(0x1008, 4)?, 4); // DeviceID: entropy
/// assert_eq!(port.window(0x2000).read(0x008, 4)?, 2); // block
/// drop(port);
/// devices.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Bus<D> {
    /// Devices by first address.
    devices: BTreeMap<u32, Attached<D>>,
    /// First address of the device whose reply is pending, and the ticket for the reply.
    outstanding: Option<(u32, Ticket)>,
    /// First address at which the next `poll` starts.
    next_poll: u32,
}

#[derive(Debug)]
struct Attached<D> {
    /// First address after the device.
    end: u32,
    device: D,
}

/// Reason why a device cannot be attached to an address range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The range is shorter than the registers of a device.
    TooShort {
        /// The requested range.
        range: Range<u32>,
    },
    /// The start of the range is not a multiple of 4, so no register of the device could be
    /// accessed.
    Misaligned {
        /// The requested start.
        start: u32,
    },
    /// Another device uses some of these addresses.
    Overlap {
        /// The requested range.
        range: Range<u32>,
        /// The range of the other device.
        with: Range<u32>,
    },
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { range } => {
                let Range { start, end } = range;
                write!(
                    f,
                    "{start:#x}..{end:#x} is shorter than the {REGISTERS} bytes of registers"
                )
            }
            Self::Misaligned { start } => {
                write!(f, "a device at {start:#x} is not aligned to 4 bytes")
            }
            Self::Overlap { range, with } => {
                let (Range { start, end }, other) = (range, with);
                write!(
                    f,
                    "{start:#x}..{end:#x} overlaps the device at {:#x}..{:#x}",
                    other.start, other.end
                )
            }
        }
    }
}

impl std::error::Error for BusError {}

impl<D> Bus<D> {
    /// Creates a bus without devices.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            devices: BTreeMap::new(),
            outstanding: None,
            next_poll: 0,
        }
    }

    /// Attaches a device at an address range. The first address of the range identifies the device.
    ///
    /// The first 0x100 bytes of the range are registers. The configuration space follows.
    ///
    /// # Errors
    /// [`BusError`]: the bus is unchanged, and the device is dropped.
    pub fn attach(&mut self, range: Range<u32>, device: D) -> Result<(), BusError> {
        let Range { start, end } = range;
        if end.checked_sub(start).is_none_or(|len| len < REGISTERS) {
            return Err(BusError::TooShort { range });
        }
        if start % 4 != 0 {
            return Err(BusError::Misaligned { start });
        }
        // Attached ranges do not overlap: of those that start before `end`, the last ends last.
        let before = self.devices.range(..end).next_back();
        if let Some((from, other)) = before.filter(|(_, other)| other.end > start) {
            let with = *from..other.end;
            return Err(BusError::Overlap { range, with });
        }
        self.devices.insert(start, Attached { end, device });
        Ok(())
    }

    /// Removes the device whose first address is `start`.
    ///
    /// Returns `None` if there is no such device, or if the driver waits for a reply of this
    /// device.
    pub fn detach(&mut self, start: u32) -> Option<D> {
        if self.outstanding.is_some_and(|(owner, _)| owner == start) {
            return None;
        }
        self.devices.remove(&start).map(|attached| attached.device)
    }

    /// Returns the device whose first address is `start`.
    #[must_use]
    pub fn device(&self, start: u32) -> Option<&D> {
        self.devices.get(&start).map(|attached| &attached.device)
    }

    /// Returns the device whose first address is `start`, mutably.
    pub fn device_mut(&mut self, start: u32) -> Option<&mut D> {
        let attached = self.devices.get_mut(&start);
        attached.map(|attached| &mut attached.device)
    }

    /// Returns the devices and their address ranges, lowest address first.
    pub fn devices(&self) -> impl Iterator<Item = (Range<u32>, &D)> {
        let devices = self.devices.iter();
        devices.map(|(start, attached)| (*start..attached.end, &attached.device))
    }

    /// Returns the first address of the device that receives an access of `width` bytes at
    /// `address`.
    #[must_use]
    pub fn device_at(&self, address: u32, width: u8) -> Option<u32> {
        let (start, attached) = self.devices.range(..=address).next_back()?;
        let end = address.checked_add(width.into())?;
        (end <= attached.end).then_some(*start)
    }
}

impl<D> Default for Bus<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D> RegisterBlock for Bus<D>
where
    D: DerefMut,
    D::Target: Served,
{
    fn access(&mut self, access: Access) -> Reply {
        if self.outstanding.is_some() {
            return Reply::Busy;
        }
        let (Access::Read { offset, width } | Access::Write { offset, width, .. }) = access;
        let Some(start) = self.device_at(offset, width) else {
            return Reply::Refused(Refusal::NoSuchRegister { offset });
        };
        let Some(device) = self.device_mut(start) else {
            return Reply::Refused(Refusal::NoSuchRegister { offset });
        };
        let reply = device.access(relative(access, start));
        if let Reply::Pending(ticket) = reply {
            self.outstanding = Some((start, ticket));
        }
        reply
    }

    /// Asks the device whose reply is pending to finish the access.
    fn finish(&mut self, ticket: Ticket) -> Reply {
        let Some((start, expected)) = self.outstanding else {
            return Reply::Refused(Refusal::StaleTicket);
        };
        let Some(device) = self.device_mut(start) else {
            return Reply::Refused(Refusal::StaleTicket);
        };
        let reply = device.finish(ticket);
        let still_pending = match reply {
            Reply::Pending(_) => true,
            // The host has exchanged the device, or has finished the access itself. No other call
            // would free the bus.
            Reply::Refused(Refusal::StaleTicket) => ticket != expected,
            _ => false,
        };
        if !still_pending {
            self.outstanding = None;
        }
        reply
    }
}

/// Returns the access with its offset counted from `start`.
const fn relative(mut access: Access, start: u32) -> Access {
    let (Access::Read { offset, .. } | Access::Write { offset, .. }) = &mut access;
    *offset = offset.wrapping_sub(start);
    access
}

impl<D> Served for Bus<D>
where
    D: DerefMut,
    D::Target: Served,
{
    /// Serves at most `budget` chains, and calls `poll` of each device at most once.
    ///
    /// Returns [`Step::More`] also if the budget was spent before every device was polled.
    fn poll(&mut self, budget: u16) -> Step {
        let count = u16::try_from(self.devices.len()).unwrap_or(u16::MAX);
        let share = budget.checked_div(count).unwrap_or(0).max(1);
        let mut left = budget;
        let mut step = Step::Idle;
        // From `next_poll` to the last device, then from the first device to `next_poll`.
        let from = self.next_poll;
        for part in [
            (Bound::Included(from), Bound::Unbounded),
            (Bound::Unbounded, Bound::Excluded(from)),
        ] {
            for (start, attached) in self.devices.range_mut(part) {
                if left == 0 {
                    self.next_poll = *start;
                    return Step::More;
                }
                let chains = share.min(left);
                left = left.saturating_sub(chains);
                step = combined(step, attached.device.poll(chains));
            }
        }
        step
    }

    /// Returns an error: a queue number alone does not say which device is meant. Call
    /// `notify_queue` of [`device_mut`](Self::device_mut).
    fn notify_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        Err(DeviceError::InvalidQueue(queue))
    }

    fn backend_ready(&mut self) {
        for attached in self.devices.values_mut() {
            attached.device.backend_ready();
        }
    }

    /// Returns whether any device needs a reset.
    fn needs_reset(&self) -> bool {
        let mut devices = self.devices.values();
        devices.any(|attached| attached.device.needs_reset())
    }

    fn chains(&self) -> u32 {
        let devices = self.devices.values();
        devices.fold(0, |sum, attached| {
            sum.wrapping_add(attached.device.chains())
        })
    }

    fn may_have_work_after(&self, access: Access) -> bool {
        let (Access::Read { offset, width } | Access::Write { offset, width, .. }) = access;
        self.device_at(offset, width).is_some_and(|start| {
            self.device(start)
                .is_some_and(|device| device.may_have_work_after(relative(access, start)))
        })
    }
}

/// Combines the results of two devices: the busier one counts.
const fn combined(one: Step, other: Step) -> Step {
    match (one, other) {
        (Step::More, _) | (_, Step::More) => Step::More,
        (Step::Blocked, _) | (_, Step::Blocked) => Step::Blocked,
        (Step::Idle, Step::Idle) => Step::Idle,
    }
}

#[cfg(test)]
mod tests;
