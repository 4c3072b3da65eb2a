//! Random requests, and what the disk should hold.

use std::{collections::VecDeque, ops::Range};
use virtside_tests::random::Random;

/// Sectors of the disk.
pub const SECTORS: usize = 512;
/// Requests that may be in flight.
pub const AREAS: usize = 24;
/// Bytes of the longest request.
pub const LONGEST: usize = 16 * 512;
/// Most pieces of a request's data.
pub const PIECES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    Flush,
}

#[derive(Clone, Debug)]
pub struct Request {
    /// Which of the buffers is its.
    pub area: usize,
    pub kind: Kind,
    /// Bytes of the disk.
    pub part: Range<usize>,
    /// Where its buffer is cut into pieces.
    pub cuts: Vec<usize>,
}

impl Request {
    pub fn sector(&self) -> usize {
        self.part.start / 512
    }

    /// The pieces of its buffer.
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

/// So many random requests. Those in flight at one time do not depend on each other's order.
#[derive(Debug)]
pub struct Traffic {
    pub random: Random,
    /// Not begun yet.
    pub left: usize,
    pub finished: usize,
    /// How many came back before an older one.
    pub overtook: usize,
    /// Areas in flight, oldest first.
    order: VecDeque<usize>,
    /// Whether there are flushes.
    flushes: bool,
    disk: Vec<u8>,
    flying: Vec<Option<Request>>,
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
            flying: vec![None; AREAS],
            scratch: vec![0; LONGEST],
        }
    }

    /// What the disk should hold.
    pub fn disk(&self) -> &[u8] {
        &self.disk
    }

    pub fn in_flight(&self) -> usize {
        self.flying.iter().flatten().count()
    }

    /// The next request, of up to `pieces` pieces; none if it cannot be in flight beside the others.
    pub fn next(&mut self, pieces: usize) -> Option<Request> {
        let area = self.flying.iter().position(Option::is_none)?;
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
            .flying
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
        self.flying[area] = Some(request.clone());
        self.order.push_back(area);
        Some(request)
    }

    /// What is to be written.
    pub fn data(&self, request: &Request) -> &[u8] {
        &self.disk[request.part.clone()]
    }

    /// The request of this area is done; `load` gets the bytes that came of it.
    pub fn finish(&mut self, area: usize, load: impl FnOnce(&mut [u8])) {
        let request = self.flying[area].take().expect("a request in flight");
        self.finished += 1;
        let at = self.order.iter().position(|there| *there == area);
        let at = at.expect("it has its place");
        self.order.remove(at);
        self.overtook += usize::from(at != 0);
        if request.kind == Kind::Read {
            let bytes = &mut self.scratch[..request.part.len()];
            load(bytes);
            assert!(
                *bytes == self.disk[request.part.clone()],
                "request {} read what was not written: {request:?}",
                self.finished
            );
        }
    }
}
