//! Several devices behind one source of register accesses.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Bound, DerefMut, Range},
};

use virtside::{
    Refusal, Step,
    mmio::{Access, RegisterBlock, Reply, Ticket},
};

use crate::serve::Served;

/// Bytes of a register block without a configuration space.
const REGISTERS: u32 = 0x100;

/// Devices at ranges of addresses, behind one [`AccessSource`](crate::AccessSource) that gives
/// absolute addresses.
///
/// A bus is [`Served`] like one device: [`serve`](crate::serve) runs all of its devices in one loop.
/// `D` owns or borrows a device: `Box<dyn Served + Send>` or `&mut dyn Served` for devices of
/// different models, `&mut Engine<..>` for devices of one type.
///
/// Addresses are 32 bits: a source of 64-bit addresses subtracts the start of its window.
///
/// * An access goes to the device in whose range all of its bytes are, with an offset from the start
///   of that range.
/// * An access to no device is refused ([`Refusal::NoSuchRegister`] with the absolute address): a load
///   reads as 0, a store has no effect, and the [`Observer`](crate::Observer) is told.
/// * The ticket of a [`Reply::Pending`] is the one of the device that was accessed. Until it is
///   finished, every access is [`Reply::Busy`], and all devices are polled.
/// * [`poll`](Served::poll) serves at most `budget` chains of all devices together, in turns: each
///   device gets an equal share, at least one chain, and the next call goes on behind the last device.
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
    /// By first address.
    devices: BTreeMap<u32, Attached<D>>,
    /// First address of the device whose reply is pending.
    outstanding: Option<u32>,
    /// Where the next round of polling begins.
    turn: u32,
}

#[derive(Debug)]
struct Attached<D> {
    /// First address behind the device.
    end: u32,
    device: D,
}

/// Why a device cannot be at a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The range is shorter than the registers of a device.
    TooShort {
        /// Which.
        range: Range<u32>,
    },
    /// The start of the range is no multiple of 4, so that no register in it could be accessed.
    Misaligned {
        /// Which.
        start: u32,
    },
    /// Another device has some of these addresses.
    Overlap {
        /// Which were asked for.
        range: Range<u32>,
        /// Which are in use.
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
    /// A bus without devices.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            devices: BTreeMap::new(),
            outstanding: None,
            turn: 0,
        }
    }

    /// Puts a device at a range of addresses, whose first one names it from then on. 0x100 bytes are
    /// registers, what follows is the configuration space.
    ///
    /// # Errors
    /// [`BusError`]; the bus is as it was then, and the device is dropped.
    pub fn attach(&mut self, range: Range<u32>, device: D) -> Result<(), BusError> {
        let Range { start, end } = range;
        if end.checked_sub(start).is_none_or(|len| len < REGISTERS) {
            return Err(BusError::TooShort { range });
        }
        if start % 4 != 0 {
            return Err(BusError::Misaligned { start });
        }
        // Ranges do not overlap, so the last one that begins before the end ends last.
        let before = self.devices.range(..end).next_back();
        if let Some((from, other)) = before.filter(|(_, other)| other.end > start) {
            let with = *from..other.end;
            return Err(BusError::Overlap { range, with });
        }
        self.devices.insert(start, Attached { end, device });
        Ok(())
    }

    /// Takes the device away whose first address this is. `None` if there is none, or if the driver
    /// waits for its reply.
    pub fn detach(&mut self, start: u32) -> Option<D> {
        if self.outstanding == Some(start) {
            return None;
        }
        self.devices.remove(&start).map(|attached| attached.device)
    }

    /// The device whose first address this is.
    #[must_use]
    pub fn device(&self, start: u32) -> Option<&D> {
        self.devices.get(&start).map(|attached| &attached.device)
    }

    /// The device whose first address this is.
    pub fn device_mut(&mut self, start: u32) -> Option<&mut D> {
        let attached = self.devices.get_mut(&start);
        attached.map(|attached| &mut attached.device)
    }

    /// The devices and their addresses, lowest first.
    pub fn devices(&self) -> impl Iterator<Item = (Range<u32>, &D)> {
        let devices = self.devices.iter();
        devices.map(|(start, attached)| (*start..attached.end, &attached.device))
    }

    /// The first address of the device that an access of `width` bytes at `address` goes to.
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
        let reply = device.access(moved(access, start));
        if matches!(reply, Reply::Pending(_)) {
            self.outstanding = Some(start);
        }
        reply
    }

    /// Asks the device whose reply is pending.
    fn finish(&mut self, ticket: Ticket) -> Reply {
        let outstanding = self.outstanding;
        let Some(device) = outstanding.and_then(|start| self.device_mut(start)) else {
            return Reply::Refused(Refusal::StaleTicket);
        };
        let reply = device.finish(ticket);
        let goes_on = matches!(
            reply,
            Reply::Pending(_) | Reply::Refused(Refusal::StaleTicket)
        );
        if !goes_on {
            self.outstanding = None;
        }
        reply
    }
}

/// The same access, with an offset from `start`.
const fn moved(mut access: Access, start: u32) -> Access {
    let (Access::Read { offset, .. } | Access::Write { offset, .. }) = &mut access;
    *offset = offset.wrapping_sub(start);
    access
}

impl<D> Served for Bus<D>
where
    D: DerefMut,
    D::Target: Served,
{
    /// At most `budget` chains, and at most one call of each device's `poll`. [`Step::More`] also if
    /// the budget was spent before every device had its turn.
    fn poll(&mut self, budget: u16) -> Step {
        let count = u16::try_from(self.devices.len()).unwrap_or(u16::MAX);
        let share = budget.checked_div(count).unwrap_or(0).max(1);
        let mut left = budget;
        let mut step = Step::Idle;
        // From the turn to the last device, then from the first one to the turn.
        let from = self.turn;
        for part in [
            (Bound::Included(from), Bound::Unbounded),
            (Bound::Unbounded, Bound::Excluded(from)),
        ] {
            for (start, attached) in self.devices.range_mut(part) {
                if left == 0 {
                    self.turn = *start;
                    return Step::More;
                }
                let chains = share.min(left);
                left = left.saturating_sub(chains);
                step = later(step, attached.device.poll(chains));
            }
        }
        step
    }
}

/// What is to be done about two devices.
const fn later(one: Step, other: Step) -> Step {
    match (one, other) {
        (Step::More, _) | (_, Step::More) => Step::More,
        (Step::Blocked, _) | (_, Step::Blocked) => Step::Blocked,
        (Step::Idle, Step::Idle) => Step::Idle,
    }
}

#[cfg(test)]
mod tests;
