//! Register accesses through a mailbox in shared RAM, for a driver whose accesses cannot be
//! trapped: on another core of the chip, or in `main` while the device runs in an interrupt
//! handler.
//!
//! The mailbox is eight little-endian words, 4-aligned; each side writes only its own words:
//!
//! | byte | word | written by | meaning |
//! |---|---|---|---|
//! | 0 | request | driver | sequence number, stored last, after the words of the request |
//! | 4 | kind | driver | width in bytes in bits 0 to 7; bit 31 is set for a store |
//! | 8 | offset | driver | offset in bytes from the start of the register block |
//! | 12, 16 | value | driver | low and high half of the stored value |
//! | 20 | answer | device | the request's sequence number, stored last, after the value |
//! | 24, 28 | value | device | low and high half of the loaded value |
//!
//! The driver writes a request, raises the doorbell, and waits until `answer` equals `request`. The
//! doorbell is an interrupt to the other side, and is not part of the mailbox. There is one request
//! at a time. `request` and `answer` start at 0. The sequence number of each request is the
//! previous sequence number plus 1, modulo 2^32.

use core::sync::atomic::{AtomicU32, Ordering};

use super::{Access, RegisterBlock, Reply, Ticket};
use crate::num;

/// Bit of `kind` that marks a store.
const STORE: u32 = 1 << 31;

/// A mailbox in shared RAM. See the [module](self) for its layout.
///
/// ```
/// use virtside::mmio::{Access, mailbox::{Mailbox, MailboxServer}, Reply};
/// static MAILBOX: Mailbox = Mailbox::new();
/// let mut server = MailboxServer::new(&MAILBOX);
///
/// let request = MAILBOX.ask(Access::read(0x00));
/// // The interrupt handler on the other side:
/// # struct Engine;
/// # impl virtside::mmio::RegisterBlock for Engine {
/// #     fn access(&mut self, access: Access) -> Reply {
/// #         Reply::Done(u64::from(access == Access::read(0x00)))
/// #     }
/// #     fn finish(&mut self, _: virtside::mmio::Ticket) -> Reply { Reply::Busy }
/// # }
/// # let mut engine = Engine;
/// server.step(&mut engine);
/// // Back on this side:
/// assert_eq!(MAILBOX.answer(request), Some(1));
/// ```
#[derive(Debug, Default)]
#[repr(C)]
pub struct Mailbox {
    request: AtomicU32,
    kind: AtomicU32,
    offset: AtomicU32,
    stored: [AtomicU32; 2],
    answer: AtomicU32,
    loaded: [AtomicU32; 2],
}

fn put(words: &[AtomicU32; 2], value: u64) {
    let [low, high] = words;
    low.store(num::low(value).to_le(), Ordering::Relaxed);
    high.store(num::high(value).to_le(), Ordering::Relaxed);
}

fn get(words: &[AtomicU32; 2]) -> u64 {
    let [low, high] = words;
    let low = u32::from_le(low.load(Ordering::Relaxed));
    num::with_high(low.into(), u32::from_le(high.load(Ordering::Relaxed)))
}

impl Mailbox {
    /// Creates a mailbox without a request.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            request: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            offset: AtomicU32::new(0),
            stored: [AtomicU32::new(0), AtomicU32::new(0)],
            answer: AtomicU32::new(0),
            loaded: [AtomicU32::new(0), AtomicU32::new(0)],
        }
    }

    /// Writes a request and returns its number. The driver's side calls this method and then raises
    /// the doorbell. Takes five stores and a load.
    pub fn ask(&self, access: Access) -> u32 {
        let (kind, offset, value) = match access {
            Access::Read { offset, width } => (u32::from(width), offset, 0),
            Access::Write {
                offset,
                width,
                value,
            } => (u32::from(width) | STORE, offset, value),
        };
        self.kind.store(kind.to_le(), Ordering::Relaxed);
        self.offset.store(offset.to_le(), Ordering::Relaxed);
        put(&self.stored, value);
        let number = u32::from_le(self.request.load(Ordering::Relaxed)).wrapping_add(1);
        // The device loads the number before it loads the words of the request.
        self.request.store(number.to_le(), Ordering::Release);
        number
    }

    /// Returns the result of an access, once it is answered. The driver's side calls this method.
    /// Takes up to three loads.
    #[must_use]
    pub fn answer(&self, request: u32) -> Option<u64> {
        let answer = u32::from_le(self.answer.load(Ordering::Acquire));
        (answer == request).then(|| get(&self.loaded))
    }

    /// Returns the request that is not answered yet. The device's side calls this method. Takes up
    /// to six loads.
    fn asked(&self) -> Option<(u32, Access)> {
        let number = u32::from_le(self.request.load(Ordering::Acquire));
        if number == u32::from_le(self.answer.load(Ordering::Relaxed)) {
            return None;
        }
        let kind = u32::from_le(self.kind.load(Ordering::Relaxed));
        let offset = u32::from_le(self.offset.load(Ordering::Relaxed));
        let [width, ..] = kind.to_le_bytes();
        let access = if kind & STORE == 0 {
            Access::Read { offset, width }
        } else {
            Access::Write {
                offset,
                width,
                value: get(&self.stored),
            }
        };
        Some((number, access))
    }

    /// Completes a request. The device's side calls this method. Takes three stores.
    fn complete(&self, number: u32, value: u64) {
        put(&self.loaded, value);
        self.answer.store(number.to_le(), Ordering::Release);
    }
}

/// The device's end of a [`Mailbox`].
#[derive(Debug)]
pub struct MailboxServer<'m> {
    mailbox: &'m Mailbox,
    /// The request that the device has not completed.
    pending: Option<(u32, Ticket)>,
}

impl<'m> MailboxServer<'m> {
    /// Creates a server for this mailbox.
    pub const fn new(mailbox: &'m Mailbox) -> Self {
        Self {
            mailbox,
            pending: None,
        }
    }

    /// Takes the request in the mailbox, if there is one, and answers it. Returns whether a request
    /// was answered. Makes at most nine accesses to the mailbox.
    ///
    /// Call this method when the doorbell rings. While the engine's reply is pending, no request is
    /// answered; call the method again after each step that can complete the access.
    pub fn step(&mut self, engine: &mut impl RegisterBlock) -> bool {
        let (number, reply) = match self.pending.take() {
            Some((number, ticket)) => (number, engine.finish(ticket)),
            None => match self.mailbox.asked() {
                Some((number, asked)) => (number, engine.access(asked)),
                None => return false,
            },
        };
        match reply {
            Reply::Pending(ticket) => {
                self.pending = Some((number, ticket));
                false
            }
            // Another access is outstanding. The request stays in the mailbox.
            Reply::Busy => false,
            Reply::Done(_) | Reply::Refused(_) => {
                self.mailbox
                    .complete(number, reply.bus_value().unwrap_or(0));
                true
            }
        }
    }
}
