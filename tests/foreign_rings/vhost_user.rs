//! Answers the vhost-user messages of `virtio-driver` by register accesses.
//!
//! The transport trait of `virtio-driver` cannot be implemented outside of that crate (a type in it
//! has no public name), so the test uses the crate's own vhost-user transport. Integers in its
//! messages have the byte order of the machine.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{FromRawFd, IntoRawFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    thread,
};

use ::virtio_driver::{ScmSocket, VhostUser, VirtioBlkConfig, VirtioBlkReqBuf};
use virtside::{Features, mmio::Access};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::{eventfd::EventFd, tempdir::TempDir};

use crate::board::{Answers, Board};
use virtside_tests::reg;

pub type Transport = VhostUser<VirtioBlkConfig, VirtioBlkReqBuf>;

/// `VHOST_USER_F_PROTOCOL_FEATURES`, which no device offers.
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// REPLY_ACK, CONFIG and CONFIGURE_MEM_SLOTS.
const PROTOCOL: u64 = 1 << 3 | 1 << 9 | 1 << 15;

/// The device's end of a connection.
#[derive(Debug)]
pub struct Connected {
    pub board: Board,
    pub kick: EventFd,
    pub call: EventFd,
}

/// What the driver's messages said about the queue.
#[derive(Debug, Default)]
struct QueueSetup {
    size: u32,
    /// Addresses of descriptors, driver area and device area.
    areas: [u64; 3],
    kick: Option<EventFd>,
    call: Option<EventFd>,
}

/// Connects a transport that accepts every offered feature to a device that offers these ring
/// features. `set_up` must set up queue 0; the device is live afterwards.
pub fn connect<T>(
    ring: Features,
    answers: Answers,
    set_up: impl FnOnce(&mut Transport) -> T,
) -> (Transport, T, Connected) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.as_path().join("blk.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let device = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        answer(stream, Board::new(ring, answers, &nothing()))
    });
    let path = path.to_str().expect("a path in UTF-8");
    let mut transport = Transport::new(path, u64::MAX).expect("a connection");
    let result = set_up(&mut transport);
    let connected = device.join().expect("no panic").expect("a live device");
    (transport, result, connected)
}

/// Memory for a device whose driver has shared none yet.
fn nothing() -> GuestMemoryMmap {
    GuestMemoryMmap::new()
}

fn word(payload: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(payload[at..at + 4].try_into().expect("four bytes"))
}

fn long(payload: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(payload[at..at + 8].try_into().expect("eight bytes"))
}

/// Receives the first bytes of a message, and the descriptor that may come with them.
fn receive(stream: &UnixStream, header: &mut [u8]) -> io::Result<Option<File>> {
    let mut descriptors: [RawFd; 1] = [-1];
    let (bytes, files) = stream.recv_with_fds(header, &mut descriptors)?;
    // SAFETY: the descriptor was just received, and nothing else owns it.
    let file = (files == 1).then(|| unsafe { File::from_raw_fd(descriptors[0]) });
    (&*stream).read_exact(&mut header[bytes..])?;
    Ok(file)
}

fn event(file: Option<File>) -> Option<EventFd> {
    let fd = file?.into_raw_fd();
    // SAFETY: the file has just released the descriptor.
    Some(unsafe { EventFd::from_raw_fd(fd) })
}

/// Answers messages until queue 0 is enabled.
fn answer(stream: UnixStream, mut board: Board) -> io::Result<Connected> {
    let mut setup = QueueSetup::default();
    let mut regions = Vec::new();
    loop {
        let mut header = [0; 12];
        let file = receive(&stream, &mut header)?;
        let [request, flags, len] = [0, 4, 8].map(|at| word(&header, at));
        let mut payload = vec![0; len as usize];
        (&stream).read_exact(&mut payload)?;
        let mut reply = None;
        let mut enabled = false;
        match request {
            // GET_FEATURES
            1 => reply = Some(offered(&mut board) | PROTOCOL_FEATURES),
            // SET_FEATURES
            2 => {
                let accepted = board.accepted_for(long(&payload, 0) & !PROTOCOL_FEATURES);
                negotiate(&mut board, accepted);
            }
            // SET_OWNER
            3 => {}
            // SET_VRING_NUM
            8 => setup.size = word(&payload, 4),
            // SET_VRING_ADDR
            9 => setup.areas = [8, 24, 16].map(|at| long(&payload, at)),
            // SET_VRING_BASE
            10 => assert_eq!(word(&payload, 4), 0, "a queue starts at 0"),
            12 => setup.kick = event(file),
            13 => setup.call = event(file),
            // GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES
            15 => reply = Some(PROTOCOL),
            16 => {}
            // SET_VRING_ENABLE
            18 => {
                enable(&mut board, &setup);
                enabled = true;
            }
            // GET_CONFIG
            24 => {
                let at = word(&payload, 0);
                for (byte, offset) in payload[12..].iter_mut().zip(at..) {
                    let load = Access::Read {
                        offset: reg::CONFIG + offset,
                        width: 1,
                    };
                    *byte = board.access(load) as u8;
                }
                send(&stream, request, &payload)?;
                continue;
            }
            // GET_MAX_MEM_SLOTS
            36 => reply = Some(8),
            // ADD_MEM_REG
            37 => {
                let [start, len, _, offset] = [8, 16, 24, 32].map(|at| long(&payload, at));
                let file = FileOffset::new(file.expect("memory has a file"), offset);
                let mapping =
                    MmapRegion::from_file(file, len as usize).expect("the memory is mapped");
                let region = GuestRegionMmap::new(mapping, GuestAddress(start));
                regions.push(std::sync::Arc::new(region.expect("the region is valid")));
                regions.sort_by_key(|region| vm_memory::GuestMemoryRegion::start_addr(&**region));
                let memory = GuestMemoryMmap::from_arc_regions(regions.clone())
                    .expect("the regions do not overlap");
                board.engine.memory_mut().replace(&memory);
                assert!(board.engine.memory_changed().is_done());
            }
            other => panic!("unexpected message {other}"),
        }
        // NEED_REPLY asks for success or failure; failures have panicked by now.
        match reply {
            Some(value) => send(&stream, request, &value.to_ne_bytes())?,
            None if flags & 8 != 0 => send(&stream, request, &0u64.to_ne_bytes())?,
            None => {}
        }
        if enabled {
            return Ok(Connected {
                board,
                kick: setup.kick.expect("a kick descriptor"),
                call: setup.call.expect("a call descriptor"),
            });
        }
    }
}

fn send(mut stream: &UnixStream, request: u32, payload: &[u8]) -> io::Result<()> {
    // Version 1, and the flag of a reply.
    for value in [request, 1 | 4, payload.len() as u32] {
        stream.write_all(&value.to_ne_bytes())?;
    }
    stream.write_all(payload)
}

fn offered(board: &mut Board) -> u64 {
    let mut words = [0u64; 2];
    for (sel, word) in (0..).zip(&mut words) {
        board.write(0x14, sel);
        *word = board.read(0x10).into();
    }
    words[0] | words[1] << 32
}

fn negotiate(board: &mut Board, features: u64) {
    board.write(0x70, 0);
    board.write(0x70, 3);
    for (sel, word) in [(0, features as u32), (1, (features >> 32) as u32)] {
        board.write(0x24, sel);
        board.write(0x20, word);
    }
    board.write(0x70, 0xb);
    assert_eq!(board.read(0x70), 0xb, "the features are accepted");
}

fn enable(board: &mut Board, setup: &QueueSetup) {
    board.write(0x30, 0);
    board.write(0x38, setup.size);
    for (offset, area) in [0x80, 0x90, 0xa0].into_iter().zip(setup.areas) {
        board.write(offset, area as u32);
        board.write(offset + 4, (area >> 32) as u32);
    }
    board.write(0x44, 1);
    assert_eq!(board.read(0x44), 1, "the queue is ready");
    board.write(0x70, 0xf);
    assert_eq!(board.read(0x70), 0xf, "the device is live");
}
