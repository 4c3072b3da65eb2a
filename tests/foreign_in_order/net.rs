//! A network device whose peer is a list of numbered frames.

use std::collections::HashSet;

use embedded_io::{Read, Write};
use virtside::{
    Answer, DeviceConfig, DeviceModel, DriverFault, DriverMem, Features, Request, Token,
};
use virtside_tests::random::Random;

/// Largest queue.
pub const N: usize = 256;
/// Bytes of `virtio_net_hdr`.
const HEADER: usize = 12;
/// Bytes of each frame that the driver makes.
pub const OWN: usize = 300;
/// The longest frame. It is shorter than each receive buffer, because a frame that fills its buffer
/// may be in a batch (split-used-07, packed-19). This driver expects a used element for each
/// receive buffer: in a split ring it reads lengths that were not written, in a packed ring it
/// takes only the last frame.
const LONGEST: usize = 1514;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// The most chains that the device keeps.
const KEPT: usize = 40;

/// Makes the frame of this number. Length and bytes depend on the number.
fn frame(number: u64, frame: &mut Vec<u8>) {
    let mut random = Random::new(number.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let len = 60 + random.index(LONGEST - 60 + 1);
    frame.clear();
    frame.extend(number.to_le_bytes());
    while frame.len() < len {
        frame.extend(random.word().to_le_bytes());
    }
    frame.truncate(len);
}

/// Checks a frame that the driver made: its length, IPv4, and the checksum of its header.
fn check_own(frame: &[u8]) {
    assert_eq!(frame.len(), OWN);
    assert_eq!(frame[12..15], [8, 0, 0x45], "IPv4");
    let halves = frame[14..34].chunks_exact(2);
    let sum: u32 = halves
        .map(|half| u32::from(u16::from_be_bytes([half[0], half[1]])))
        .sum();
    assert_eq!(
        (sum & 0xffff) + (sum >> 16),
        0xffff,
        "the header's checksum"
    );
    let len = u16::from_be_bytes([frame[16], frame[17]]);
    assert_eq!(usize::from(len), OWN - 14);
}

/// A chain that is served but not answered.
struct Kept {
    queue: u16,
    token: Token,
    written: u32,
}

/// The driver sends `own` frames, and the device answers each with a numbered frame while there are
/// numbered frames left. The driver sends each numbered frame back, and gets the next one. When
/// there are none left, the driver may send more frames of its own.
pub struct Net {
    /// Whether IN_ORDER was negotiated; the frames are then in order, too.
    in_order: bool,
    own: u64,
    numbered: u64,
    /// Frames that the driver sent.
    pub sent: u64,
    /// Bytes of the frames that the driver sent.
    pub sent_bytes: u64,
    /// Frames that the driver received.
    pub received: u64,
    /// Bytes of the frames that the driver received.
    pub received_bytes: u64,
    /// Numbers of the frames that the driver has not sent back yet.
    away: HashSet<u64>,
    /// Chains that are served but not answered, oldest first.
    kept: Vec<Kept>,
    /// The number of kept chains to answer now.
    releasing: usize,
    /// The index of the first kept chain to answer.
    first: usize,
    /// Chains that were answered before an older chain of their queue.
    pub overtaking: u64,
    random: Random,
    expected: Vec<u8>,
    bytes: Vec<u8>,
}

impl Net {
    pub fn new(in_order: bool, own: u64, numbered: u64) -> Self {
        Self {
            in_order,
            own,
            numbered,
            sent: 0,
            sent_bytes: 0,
            received: 0,
            received_bytes: 0,
            away: HashSet::new(),
            kept: Vec::new(),
            releasing: 0,
            first: 0,
            overtaking: 0,
            random: Random::new(1),
            expected: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Returns whether the driver sent `own` frames of its own, and each numbered frame back.
    pub fn is_done(&self) -> bool {
        self.sent >= self.own + self.numbered
    }

    /// The number of kept chains.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Lets this number of kept chains be answered.
    pub fn release(&mut self, count: usize) {
        self.releasing = count.min(self.kept.len());
        self.choose();
    }

    fn choose(&mut self) {
        if !self.kept.is_empty() {
            self.first = self.random.index(self.kept.len());
        }
    }

    fn check(&mut self) {
        match self.sent.checked_sub(self.own) {
            Some(next) if self.numbered != 0 => {
                let (number, _) = self.bytes.split_at(8);
                let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
                assert!(self.away.remove(&number), "frame {number} came once");
                assert!(!self.in_order || number == next, "{number} is not {next}");
                frame(number, &mut self.expected);
                assert!(self.bytes == self.expected, "frame {number} is unchanged");
            }
            _ => check_own(&self.bytes),
        }
    }

    fn transmit<M: DriverMem>(&mut self, request: &mut Request<'_, M>) {
        let readable = &mut request.readable;
        let mut header = [0; HEADER];
        readable.read_exact(&mut header).expect("a header");
        // In a frame that it received, this driver leaves num_buffers as the device set it.
        assert_eq!(header[..10], [0; 10], "the frame needs no offload");
        self.bytes.resize(readable.remaining() as usize, 0);
        readable.read_exact(&mut self.bytes).expect("a frame");
        assert_eq!(request.writable.remaining(), 0);
        self.check();
        self.sent += 1;
        self.sent_bytes += self.bytes.len() as u64;
    }

    fn receive<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> u32 {
        frame(self.received, &mut self.bytes);
        let writable = &mut request.writable;
        // The frame takes one buffer.
        let mut header = [0; HEADER];
        header[10] = 1;
        writable.write_all(&header).expect("room for a header");
        writable.write_all(&self.bytes).expect("room for a frame");
        assert_ne!(writable.remaining(), 0, "a buffer that is not full");
        assert_eq!(request.readable.remaining(), 0);
        self.away.insert(self.received);
        self.received += 1;
        self.received_bytes += self.bytes.len() as u64;
        request.writable.written()
    }
}

impl DeviceConfig for Net {
    fn device_id(&self) -> u32 {
        1
    }
    fn features(&self) -> Features {
        Features::RING
    }
    fn queue_size_max(&self, queue: u16) -> u16 {
        if queue < 2 { N as u16 } else { 0 }
    }
}

impl DeviceModel for Net {
    fn can_serve(&self, queue: u16) -> bool {
        // Each frame of the driver allows one frame to it.
        queue == TRANSMIT || self.received < self.sent.min(self.numbered)
    }

    fn due(&self) -> Option<Token> {
        (self.releasing != 0).then(|| self.kept[self.first].token)
    }

    fn serve<M: DriverMem>(&mut self, request: &mut Request<'_, M>) -> Result<Answer, DriverFault> {
        let Request { queue, token, .. } = *request;
        if let Some(at) = self.kept.iter().position(|kept| kept.token == token) {
            let older = self.kept[..at].iter().any(|kept| kept.queue == queue);
            self.overtaking += u64::from(older);
            let Kept { written, .. } = self.kept.remove(at);
            self.releasing -= 1;
            self.choose();
            return Ok(Answer::Done { written });
        }
        let written = match queue {
            RECEIVE => self.receive(request),
            _ => {
                self.transmit(request);
                0
            }
        };
        if self.random.index(2) == 0 {
            return Ok(Answer::Done { written });
        }
        self.kept.push(Kept {
            queue,
            token,
            written,
        });
        if self.kept.len() == KEPT {
            let count = 1 + self.random.index(KEPT);
            self.release(count);
        }
        Ok(Answer::Pending)
    }
}
