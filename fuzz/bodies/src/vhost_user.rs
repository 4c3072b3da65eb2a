//! A front end of a vhost-user device that sends any message in any order, with real memory.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{fs::FileExt, net::UnixStream},
    },
    thread,
    time::Duration,
};

use virtside::{
    Features,
    features::Offer,
    models::{Block, BlockOptions, blk::RamDisk},
};
use virtside_std::vhost_user::VhostUserDevice;
use vmm_sys_util::{
    eventfd::{EFD_NONBLOCK, EventFd},
    sock_ctrl_msg::ScmSocket,
    tempfile::TempFile,
};

use crate::Input;

/// Maximum queue size, in elements.
const N: usize = 8;
/// Number of queues.
const Q: usize = 2;
/// Length of the shared file. Its first and last page are never shared.
const FILE: u64 = 8 * PAGE;
const PAGE: u64 = 4096;
/// The driver's address, and the front end's address, of the first shared byte.
const GUEST: u64 = 0x1_0000;
const USER: u64 = 0x7f00_0000_0000;
const CANARY: u8 = 0xc5;
/// Length of the longest body that is sent, in bytes.
const BODY: usize = 320;

const SET_FEATURES: u32 = 2;
const SET_MEM_TABLE: u32 = 5;
const SET_PROTOCOL_FEATURES: u32 = 16;

/// Requests, the usual ones twice.
const REQUESTS: [u32; 40] = [
    1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 20, 21, 22, 24, 25, 27, 28, 31, 32, 33,
    34, 36, 37, 38, 39, 40, 42, 43, 2, 5, 8, 9, 12, 13, 18,
];

/// What the front end owns.
struct FrontEnd {
    socket: UnixStream,
    memory: File,
    event: EventFd,
    null: File,
    /// A message may have shared the first or the last page.
    shares_more: bool,
}

impl FrontEnd {
    fn new(socket: UnixStream) -> Option<Self> {
        socket
            .set_read_timeout(Some(Duration::from_millis(2)))
            .ok()?;
        socket
            .set_write_timeout(Some(Duration::from_millis(20)))
            .ok()?;
        let memory = TempFile::new().ok()?.into_file();
        memory.set_len(FILE).ok()?;
        let front_end = Self {
            socket,
            memory,
            event: EventFd::new(EFD_NONBLOCK).ok()?,
            null: File::open("/dev/null").ok()?,
            shares_more: false,
        };
        for page in [0, FILE.wrapping_sub(PAGE)] {
            front_end.write(page, &[CANARY; PAGE as usize]);
        }
        Some(front_end)
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let written = self.memory.write_all_at(bytes, offset);
        assert!(written.is_ok(), "the file of the front end is writable");
    }

    /// Sends a message, and reads a reply if there must be one. Returns false if the device has
    /// closed the connection.
    fn send(&mut self, request: u32, flags: u32, body: &[u8], files: &[RawFd]) -> bool {
        let mut message = Vec::with_capacity(body.len().wrapping_add(12));
        for word in [request, flags, body.len() as u32] {
            message.extend(word.to_ne_bytes());
        }
        message.extend(body);
        let sent = self.socket.send_with_fds(&[&message[..]], files);
        if sent.is_err() {
            return false;
        }
        let answers = matches!(request, 1 | 6 | 11 | 15 | 17 | 24 | 31 | 36 | 40 | 43);
        if answers || flags & 8 != 0 {
            let mut reply = [0; 512];
            return !matches!(self.socket.read(&mut reply), Ok(0));
        }
        true
    }

    /// Asserts that the device has written no page that is not shared.
    fn check(&self) {
        if self.shares_more {
            return;
        }
        let mut page = [0; PAGE as usize];
        for offset in [0, FILE.wrapping_sub(PAGE)] {
            let read = self.memory.read_exact_at(&mut page, offset);
            assert!(read.is_ok(), "the file of the front end is readable");
            let changed = page.iter().position(|&byte| byte != CANARY);
            assert_eq!(changed, None, "page at {offset}");
        }
    }
}

/// A valid body for a request, of a front end that knows the device.
fn valid(request: u32, input: &mut Input<'_>) -> Vec<u8> {
    let queue = u64::from(input.byte() & 1);
    let ring = queue.wrapping_mul(0x400);
    let words: Vec<u64> = match request {
        SET_FEATURES => {
            let packed = u64::from(input.byte() & 1) << 34;
            let log = u64::from(input.byte() & 1) << 26;
            vec![1 << 32 | 1 << 30 | 1 << 29 | 1 << 28 | packed | log]
        }
        SET_PROTOCOL_FEATURES => {
            vec![1 | 1 << 1 | 1 << 3 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 16]
        }
        SET_MEM_TABLE => vec![1, GUEST, FILE.wrapping_sub(2 * PAGE), USER, PAGE],
        // ADD_MEM_REG, REM_MEM_REG
        37 | 38 => {
            let half = u64::from(input.byte() & 1).wrapping_mul(3 * PAGE);
            let (guest, user) = (GUEST.wrapping_add(half), USER.wrapping_add(half));
            vec![0, guest, 3 * PAGE, user, PAGE.wrapping_add(half)]
        }
        // SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE: index and number
        8 => vec![8 << 32 | queue],
        10 | 11 => vec![u64::from(input.half()) << 32 | queue],
        18 => vec![u64::from(input.byte() & 1) << 32 | queue],
        // SET_VRING_ADDR
        9 => {
            let at = |offset: u64| USER.wrapping_add(ring).wrapping_add(offset);
            vec![queue, at(0), at(0x200), at(0x100), 0]
        }
        // SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR, SET_STATUS
        12..=14 | 39 => vec![queue],
        // GET_CONFIG, SET_CONFIG
        24 | 25 => vec![60 << 32, 0, 0, 0, 0, 0, 0, 0, 0],
        // SET_LOG_BASE: a log in the first shared page
        6 => vec![64, PAGE],
        // GET_INFLIGHT_FD, SET_INFLIGHT_FD
        31 | 32 => vec![PAGE, PAGE, 8 << 16 | 2],
        _ => Vec::new(),
    };
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Sends messages, and changes the memory and kicks in between, while a device serves them.
///
/// # Panics
/// If the device panics, does not end with its front end, or writes to memory that is not shared.
pub fn vhost_user(data: &[u8]) {
    let Ok((front_end, device_end)) = UnixStream::pair() else {
        return;
    };
    let Some(mut front_end) = FrontEnd::new(front_end) else {
        return;
    };
    let device = thread::spawn(move || {
        let disk = RamDisk::new([0x5a; 8 * 512]);
        let model = Block::new(disk, BlockOptions::new(N as u16).with_queues(2));
        let more = Features::IN_ORDER;
        let mut device: VhostUserDevice<_, Q, N> =
            VhostUserDevice::new(model, 4).with_offer(Offer::AS_IS.with(more));
        // Most runs end with a message that fails.
        let _ = device.serve(device_end);
    });
    let mut input = Input(data);
    while !input.is_empty() {
        if !step(&mut front_end, &mut input) {
            break;
        }
    }
    let FrontEnd { socket, .. } = &front_end;
    let _ = socket.shutdown(std::net::Shutdown::Both);
    assert!(device.join().is_ok(), "the device panicked");
    front_end.check();
}

/// Makes one step. Returns false if the device has closed the connection.
fn step(front_end: &mut FrontEnd, input: &mut Input<'_>) -> bool {
    let kind = input.byte();
    match kind & 7 {
        0 => {
            let offset = u64::from(input.half()) % (FILE.wrapping_sub(2 * PAGE + 1));
            front_end.write(PAGE.wrapping_add(offset), &input.half().to_le_bytes());
            true
        }
        1 => front_end.event.write(1).is_ok(),
        2 => {
            // Anything at all.
            front_end.shares_more = true;
            let bytes: Vec<u8> = (0..input.byte() & 31).map(|_| input.byte()).collect();
            front_end.socket.write_all(&bytes).is_ok()
        }
        _ => {
            let request = REQUESTS.get(usize::from(input.byte()) % 40).copied();
            let request = request.unwrap_or(1);
            let mut body = valid(request, input);
            if kind & 0x10 != 0 {
                // One byte is wrong.
                front_end.shares_more = true;
                let at = usize::from(input.byte());
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= input.byte();
                }
            }
            if kind & 0x60 == 0x60 {
                front_end.shares_more = true;
                let len = usize::from(input.half()) % BODY;
                body.resize(len, 0);
            }
            let files: [RawFd; 2] = match input.byte() & 3 {
                0 => [front_end.memory.as_raw_fd(), front_end.event.as_raw_fd()],
                1 => [front_end.event.as_raw_fd(), front_end.null.as_raw_fd()],
                2 => [front_end.null.as_raw_fd(), front_end.memory.as_raw_fd()],
                _ => [front_end.socket.as_raw_fd(), front_end.event.as_raw_fd()],
            };
            let wanted = match request {
                SET_MEM_TABLE | 6 | 32 | 37 => &[front_end.memory.as_raw_fd()][..],
                12 | 13 => &[front_end.event.as_raw_fd()],
                _ => &[],
            };
            let files = match kind & 0x08 {
                0 => wanted,
                _ => {
                    // An interrupt writes to its descriptor, even if that is the file.
                    front_end.shares_more = true;
                    files
                        .get(..usize::from(input.byte() % 3))
                        .unwrap_or_default()
                }
            };
            let flags = if kind & 0x80 == 0 { 1 } else { 9 };
            front_end.send(request, flags, &body, files)
        }
    }
}
