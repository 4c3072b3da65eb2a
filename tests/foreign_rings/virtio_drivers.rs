//! `virtio-drivers` 0.13: split rings, indirect tables.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    rc::Rc,
};

use ::virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtside::{Features, mmio::Access};
use virtside_std::guest::{GuestHal, Port, PortTransport};

use crate::{
    board::{Answers, Board},
    requests,
    stepped::{Driver, run},
    subsets,
    traffic::{Kind, Request, Traffic},
};

/// Features that vary between runs; each subset is a run.
const VARIED: &[Features] = &[
    Features::EVENT_IDX,
    Features::INDIRECT_DESC,
    Features::IN_ORDER,
];

/// The driver's connection to the registers.
struct Wire {
    board: Rc<RefCell<Board>>,
    /// DriverFeaturesSel
    word: Cell<u64>,
}

impl Port for Wire {
    type Closed = Infallible;

    fn read(&self, offset: u32, width: u8) -> Result<u64, Infallible> {
        let load = Access::Read { offset, width };
        Ok(self.board.borrow_mut().access(load))
    }

    fn write(&self, offset: u32, width: u8, mut value: u64) -> Result<(), Infallible> {
        let mut board = self.board.borrow_mut();
        match (offset, self.word.get()) {
            (0x24, _) => self.word.set(value),
            (0x20, 1) => value = board.accepted_for(value << 32) >> 32,
            _ => {}
        }
        board.access(Access::Write {
            offset,
            width,
            value,
        });
        Ok(())
    }
}

/// Buffers of a request in flight.
struct Flight {
    token: u16,
    request: Request,
    header: Box<BlkReq>,
    bytes: Vec<u8>,
    status: Box<BlkResp>,
}

struct Blk {
    blk: VirtIOBlk<GuestHal, PortTransport<Wire>>,
    flights: Vec<Flight>,
    /// Descriptors of the queue that each request takes.
    each: usize,
}

impl Driver for Blk {
    fn room(&self) -> usize {
        // The data of a request is always one piece.
        let free = usize::from(self.blk.virt_queue_size()) - self.each * self.flights.len();
        usize::from(free >= self.each)
    }

    fn submit(&mut self, request: Request, traffic: &Traffic) {
        let mut header = Box::new(BlkReq::default());
        let mut status = Box::new(BlkResp::default());
        let mut bytes = traffic.data(&request).to_vec();
        let sector = request.sector();
        // This driver kicks by itself.
        let token = match request.kind {
            Kind::Write => {
                // SAFETY: the request keeps all three until it is done, and nothing accesses them
                // before.
                unsafe {
                    self.blk
                        .write_blocks_nb(sector, &mut header, &bytes, &mut status)
                }
            }
            Kind::Read => {
                bytes.fill(0xa5);
                // SAFETY: as above.
                unsafe {
                    self.blk
                        .read_blocks_nb(sector, &mut header, &mut bytes, &mut status)
                }
            }
            Kind::Flush => panic!("this driver can only block on a flush"),
        };
        self.flights.push(Flight {
            token: token.expect("there is room"),
            request,
            header,
            bytes,
            status,
        });
    }

    fn kick_if_wanted(&mut self) {}

    fn reap(&mut self, traffic: &mut Traffic) -> usize {
        let mut count = 0;
        while let Some(token) = self.blk.peek_used() {
            count += 1;
            let at = self.flights.iter().position(|flight| flight.token == token);
            let mut flight = self.flights.swap_remove(at.expect("a request in flight"));
            let Flight {
                request,
                header,
                bytes,
                status,
                ..
            } = &mut flight;
            let done = match request.kind {
                // SAFETY: the request was made with these buffers.
                Kind::Write => unsafe {
                    self.blk.complete_write_blocks(token, header, bytes, status)
                },
                // SAFETY: as above.
                _ => unsafe { self.blk.complete_read_blocks(token, header, bytes, status) },
            };
            assert_eq!(done, Ok(()), "the request succeeded");
            traffic.finish(flight.request.area, |place| {
                place.copy_from_slice(&flight.bytes)
            });
        }
        count
    }

    fn want_interrupts(&mut self, wanted: bool) {
        if wanted {
            self.blk.enable_interrupts();
        } else {
            self.blk.disable_interrupts();
        }
    }
}

#[test]
fn another_foreign_driver_of_split_rings_writes_and_reads_back() {
    for ring in subsets(Features::VERSION_1, VARIED) {
        let memory = GuestHal::memory().expect("guest memory");
        let answers = if ring.contains(Features::IN_ORDER) {
            Answers::Short
        } else {
            Answers::InAnyOrder
        };
        let board = Rc::new(RefCell::new(Board::new(ring, answers, memory)));
        let wire = Wire {
            board: Rc::clone(&board),
            word: Cell::new(0),
        };
        let transport = PortTransport::new(wire).expect("a virtio device");
        let blk = VirtIOBlk::new(transport).expect("the driver is live");
        board.borrow().assert_accepted(ring);
        let indirect = ring.contains(Features::INDIRECT_DESC);
        let mut driver = Blk {
            blk,
            flights: Vec::new(),
            each: if indirect { 1 } else { 3 },
        };
        run(&mut driver, &board, Traffic::new(requests(), false));
    }
}
