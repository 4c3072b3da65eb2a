//! Random requests, and the expected contents of the disk.

use std::{collections::VecDeque, ops::Range};
use virtside_tests::random::Random;

/// Sectors of the disk.
pub const SECTORS: usize = 512;
/// Requests that may be in flight.
pub const AREAS: usize = 24;
/// Bytes of the longest request.
pub const LONGEST: usize = 16 * 512;
/// Maximum number of pieces of a request's data.
pub const PIECES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Flush,
}

#[derive(Clone, Debug)]
pub struct Request {
    /// Index of the request's buffer.
    pub area: usize,
    pub kind: Kind,
    /// Range of the disk, in bytes.
    pub part: Range<usize>,
    /// Where the buffer is cut into pieces.
    pub cuts: Vec<usize>,
}

impl Request {
    pub fn sector(&self) -> usize {
        self.part.start / 512
    }

    /// The pieces of the buffer.
    pub fn pieces(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let ends = self.cuts.iter().copied().chain([self.part.len()]);
        let starts = [0].into_iter().chain(self.cuts.iter().copied());
        starts.zip(ends).map(|(start, end)| start..end)
    }

    fn conflicts(&self, other: &Self) -> bool {
        (self.kind == Kind::Write || other.kind == Kind::Write)
            && self.part.start < other.part.end
            && other.part.start < self.part.end
    }
}

/// A number of random requests. Requests in flight at one time do not depend on each other's order.
#[derive(Debug)]
pub struct Traffic {
    pub random: Random,
    /// Requests that were not submitted yet.
    pub left: usize,
    pub finished: usize,
    /// Requests that came back before an older one.
    pub overtook: usize,
    /// Areas in flight, oldest first.
    order: VecDeque<usize>,
    /// Whether the traffic has flushes.
    flushes: bool,
    disk: Vec<u8>,
    in_flight_in: Vec<Option<Request>>,
    scratch: Vec<u8>,
}

impl Traffic {
    pub fn new(requests: usize, flushes: bool) -> Self {
        Self {
            random: Random::new(0x9e37_79b9_7f4a_7c15),
            left: requests,
            finished: 0,
            overtook: 0,
            order: VecDeque::new(),
            flushes,
            disk: vec![0; SECTORS * 512],
            in_flight_in: vec![None; AREAS],
            scratch: vec![0; LONGEST],
        }
    }

    /// The expected contents of the disk.
    pub fn disk(&self) -> &[u8] {
        &self.disk
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight_in.iter().flatten().count()
    }

    /// The next request, of up to `pieces` pieces; `None` if it conflicts with a request in flight.
    pub fn next(&mut self, pieces: usize) -> Option<Request> {
        let area = self.in_flight_in.iter().position(Option::is_none)?;
        self.left.checked_sub(1)?;
        let random = &mut self.random;
        let kind = match random.index(if self.flushes { 17 } else { 16 }) {
            0..8 => Kind::Read,
            8..16 => Kind::Write,
            _ => Kind::Flush,
        };
        let mut request = Request {
            area,
            kind,
            part: 0..0,
            cuts: Vec::new(),
        };
        if kind != Kind::Flush {
            let len = 512 * (1 + random.index(LONGEST / 512));
            let start = 512 * random.index(SECTORS - len / 512 + 1);
            request.part = start..start + len;
            request.cuts = (0..random.index(pieces))
                .map(|_| 1 + random.index(len - 1))
                .collect();
            request.cuts.sort_unstable();
            // A piece has at least one byte.
            request.cuts.dedup();
        }
        if self
            .in_flight_in
            .iter()
            .flatten()
            .any(|other| other.conflicts(&request))
        {
            return None;
        }
        self.left -= 1;
        if kind == Kind::Write {
            self.random.fill(&mut self.disk[request.part.clone()]);
        }
        self.in_flight_in[area] = Some(request.clone());
        self.order.push_back(area);
        Some(request)
    }

    /// The data that a request writes.
    pub fn data(&self, request: &Request) -> &[u8] {
        &self.disk[request.part.clone()]
    }

    /// Finishes the request of this area; `load` fills in the bytes that it read.
    pub fn finish(&mut self, area: usize, load: impl FnOnce(&mut [u8])) {
        let request = self.in_flight_in[area].take().expect("a request in flight");
        self.finished += 1;
        let at = self.order.iter().position(|there| *there == area);
        let at = at.expect("the area is in the order");
        self.order.remove(at);
        self.overtook += usize::from(at != 0);
        if request.kind == Kind::Read {
            let bytes = &mut self.scratch[..request.part.len()];
            load(bytes);
            assert!(
                *bytes == self.disk[request.part.clone()],
                "request {} read other bytes than were written: {request:?}",
                self.finished
            );
        }
    }
}
