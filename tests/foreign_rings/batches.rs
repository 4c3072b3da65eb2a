//! A driver of this project that accepts IN_ORDER, at a disk that answers out of order: requests
//! that are answered while an older one waits come back in one batch.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use virtside::{
    Features,
    testing::{Buffer, Registers},
};
use virtside_std::VmMem;
use virtside_tests::{
    BASE, DATA,
    in_order::{Format, InOrderDriver},
};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::{
    board::{Answers, Board},
    requests,
    stepped::{Driver, run},
    subsets,
    traffic::{AREAS, Kind, LONGEST, Request, Traffic},
};

/// Bytes of an area: header, status, data.
const AREA: usize = LONGEST + 512;
const STATUS: u64 = 16;
const BYTES: u64 = 512;

/// A request in flight.
struct Flight {
    number: usize,
    area: usize,
    slots: usize,
    /// Writable bytes.
    room: u32,
}

struct BatchDriver {
    driver: InOrderDriver<VmMem>,
    /// Accesses the buffers.
    mem: virtside::testing::FakeDriver<VmMem>,
    board: Rc<RefCell<Board>>,
    format: Format,
    event_idx: bool,
    #[cfg(feature = "packed")]
    size: usize,
    flights: VecDeque<Flight>,
    /// Counts of ring entries (split ring) or descriptor slots (packed ring): made available,
    /// covered by a kick decision, and used.
    sent: usize,
    kick_decided: usize,
    used: usize,
    wants: bool,
    batches: usize,
    /// Requests that came back with room left, and the largest batch.
    short: usize,
    largest: usize,
}

impl BatchDriver {
    /// A live device with a queue of `size` elements.
    fn new(format: Format, ring: Features, size: u16) -> Self {
        let bytes = DATA - BASE + (AREAS * AREA) as u64;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), bytes as usize)]);
        let memory = memory.expect("memory");
        let mem = VmMem::new(&memory);
        let driver = InOrderDriver::over(mem.clone(), format, 0, size);
        let mut board = Board::new(ring, Answers::SometimesShort, &memory);
        assert!(
            board.engine.bring_up(ring, &[driver.config()]),
            "the device is live"
        );
        board.assert_accepted(ring);
        Self {
            driver,
            mem: virtside::testing::fake_queue(mem, BASE + 0x8000, 1),
            board: Rc::new(RefCell::new(board)),
            format,
            event_idx: ring.contains(Features::EVENT_IDX),
            #[cfg(feature = "packed")]
            size: size.into(),
            flights: VecDeque::new(),
            sent: 0,
            kick_decided: 0,
            used: 0,
            wants: false,
            batches: 0,
            short: 0,
            largest: 0,
        }
    }

    fn at(area: usize) -> u64 {
        DATA + (area * AREA) as u64
    }

    /// Ring entries or slots that a request takes.
    fn steps(&self, slots: usize) -> usize {
        match self.format {
            Format::Split => slots.min(1),
            #[cfg(feature = "packed")]
            Format::Packed => slots,
        }
    }

    /// A ring position with its wrap bit, in the form of event suppression structures.
    #[cfg(feature = "packed")]
    fn word(&self, position: usize) -> u16 {
        let wrap = (position / self.size).is_multiple_of(2);
        (position % self.size) as u16 | u16::from(wrap) << 15
    }

    /// Whether the device asks for a kick for the requests sent since the last kick decision.
    fn is_kick_wanted(&mut self) -> bool {
        let new = self.kick_decided..self.sent;
        match self.format {
            Format::Split => {
                let event = self.driver.split().avail_event();
                if self.event_idx {
                    new.into_iter().any(|entry| entry as u16 == event)
                } else {
                    self.driver.split().used_flags() & 1 == 0
                }
            }
            #[cfg(feature = "packed")]
            Format::Packed => match self.driver.packed().suppression() {
                (_, 0) => true,
                (_, 1) => false,
                (event, _) => new.into_iter().any(|position| self.word(position) == event),
            },
        }
    }

    /// Asks for an interrupt for the next used element, or for none.
    fn suppress(&mut self) {
        let used = self.used;
        match self.format {
            Format::Split if !self.event_idx => {
                self.driver.split().set_avail_flags((!self.wants).into());
            }
            // The event index asked for is in the past, so it suppresses interrupts.
            Format::Split if !self.wants => {}
            Format::Split => self.driver.split().set_used_event(used as u16),
            #[cfg(feature = "packed")]
            Format::Packed => {
                let flags = match (self.wants, self.event_idx) {
                    (false, _) => 1,
                    (true, false) => 0,
                    (true, true) => 2,
                };
                let word = self.word(used);
                self.driver.packed().set_suppression(word, flags);
            }
        }
    }
}

impl Driver for BatchDriver {
    fn room(&self) -> usize {
        // Each request needs a header and a status descriptor beside its data.
        usize::from(self.driver.free()).saturating_sub(2)
    }

    fn submit(&mut self, request: Request, traffic: &Traffic) {
        let at = Self::at(request.area);
        let len = request.part.len();
        let (number, from_device) = match request.kind {
            Kind::Read => (0u32, true),
            Kind::Write => (1, false),
            Kind::Flush => (4, false),
        };
        let mut header = [0; 16];
        header[..4].copy_from_slice(&number.to_le_bytes());
        header[8..].copy_from_slice(&(request.sector() as u64).to_le_bytes());
        self.mem.write(at, &header);
        self.mem.write(at + STATUS, &[0xff]);
        match request.kind {
            Kind::Write => self.mem.write(at + BYTES, traffic.data(&request)),
            _ => self.mem.write(at + BYTES, &[0xa5; LONGEST][..len]),
        }
        let mut buffers = vec![Buffer::readable(at, 16)];
        if request.kind != Kind::Flush {
            buffers.extend(request.pieces().map(|piece| Buffer {
                addr: at + BYTES + piece.start as u64,
                len: piece.len() as u32,
                writable: from_device,
            }));
        }
        buffers.push(Buffer::writable(at + STATUS, 1));
        self.flights.push_back(Flight {
            number: self.driver.send(&buffers),
            area: request.area,
            slots: buffers.len(),
            room: 1 + if from_device { len as u32 } else { 0 },
        });
        self.sent += self.steps(buffers.len());
    }

    fn kick_if_wanted(&mut self) {
        if self.is_kick_wanted() {
            self.board.borrow_mut().write(0x50, 0);
        }
        self.kick_decided = self.sent;
    }

    fn reap(&mut self, traffic: &mut Traffic) -> usize {
        let mut count = 0;
        while let Some(batch) = self.driver.take_batch() {
            self.batches += 1;
            count += batch.len();
            self.largest = self.largest.max(batch.len());
            for given in batch {
                let flight = self.flights.pop_front().expect("a request is in flight");
                assert_eq!(given.number, flight.number, "in order");
                self.short += (flight.room - given.len) as usize;
                self.used += self.steps(flight.slots);
                let at = Self::at(flight.area);
                let mut status = [0xff];
                self.mem.read(at + STATUS, &mut status);
                assert_eq!(status, [0], "the request succeeded");
                traffic.finish(flight.area, |bytes| {
                    self.mem.read(at + BYTES, bytes);
                });
            }
        }
        if self.wants {
            self.suppress();
        }
        count
    }

    fn want_interrupts(&mut self, wanted: bool) {
        self.wants = wanted;
        self.suppress();
    }
}

fn round_trips(format: Format, size: u16) {
    let always = format.features() | Features::IN_ORDER;
    for ring in subsets(always, &[Features::EVENT_IDX]) {
        let mut driver = BatchDriver::new(format, ring, size);
        let board = Rc::clone(&driver.board);
        let requests = requests();
        run(&mut driver, &board, Traffic::new(requests, true));
        assert_eq!(
            driver.short,
            board.borrow().short(),
            "every short length arrived"
        );
        let BatchDriver {
            batches, largest, ..
        } = driver;
        println!("{batches} batches, at most {largest} requests each");
        assert!(
            2 * requests > 3 * batches,
            "{requests} requests came back in {batches} batches"
        );
    }
}

#[test]
fn a_driver_that_knows_in_order_gets_batches_in_a_split_ring() {
    round_trips(Format::Split, 64);
}

#[cfg(feature = "packed")]
#[test]
fn a_driver_that_knows_in_order_gets_batches_in_a_packed_ring() {
    round_trips(Format::Packed, 64);
}

#[cfg(feature = "packed")]
#[test]
fn an_in_order_driver_gets_batches_in_a_packed_ring_of_odd_size() {
    round_trips(Format::Packed, 37);
}
