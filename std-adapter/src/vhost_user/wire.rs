//! Messages that the crate `vhost` does not read.
//!
//! | message | why |
//! |---|---|
//! | SET_MEM_TABLE that is longer than its regions | User Mode Linux always sends room for two regions; `vhost` refuses such a message |
//! | SET_STATUS, GET_STATUS | `vhost` has no handler for them |

use std::{
    fs::File,
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};
use vhost::vhost_user::{
    Error, Result, VhostUserBackendReqHandlerMut,
    message::{VhostUserMemoryRegion, VhostUserProtocolFeatures},
};
use virtside::DeviceModel;

use super::session::Session;

/// Length of a header: request, flags and length of the body, each of 32 bits.
const HEADER: usize = 12;
/// Length of the number of regions, with padding.
const COUNT: usize = 8;
/// Length of a region.
const REGION: usize = 32;
/// Regions of the longest table that is read here.
const REGIONS: usize = 8;
const LONGEST: usize = HEADER + COUNT + REGIONS * REGION;

const SET_MEM_TABLE: u32 = 5;
const SET_STATUS: u32 = 39;
const GET_STATUS: u32 = 40;

/// Flags of a header: version 1, a reply, and a request for a reply.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// A message that has been received.
struct Received {
    bytes: [u8; LONGEST],
    files: Vec<File>,
}

/// Reads and answers the next message, if `vhost` does not read it. Returns false if it does, and
/// takes nothing from the socket then.
///
/// # Errors
/// The message is incomplete, or the device refuses it.
pub(super) fn handle<D: DeviceModel, const Q: usize, const N: usize>(
    front_end: &UnixStream,
    session: &mut Session<'_, D, Q, N>,
) -> Result<bool> {
    let mut bytes = [0; HEADER + COUNT];
    let header = bytes.get_mut(..HEADER).unwrap_or_default();
    if !peek(front_end, header)? {
        return Ok(false);
    }
    let (request, flags, len) = (word(&bytes, 0), word(&bytes, 4), word(&bytes, 8));
    if flags & !NEED_REPLY != VERSION {
        return Ok(false);
    }
    let len = usize::try_from(len).map_err(|_| Error::InvalidMessage)?;
    match request {
        SET_MEM_TABLE if (COUNT + REGION..=LONGEST - HEADER).contains(&len) => {
            if !peek(front_end, &mut bytes)? {
                return Ok(false);
            }
            let used = usize::try_from(word(&bytes, HEADER))
                .ok()
                .and_then(|count| count.checked_mul(REGION)?.checked_add(COUNT));
            if used.is_none_or(|used| used == COUNT || used >= len) {
                return Ok(false);
            }
            let message = receive(front_end, len)?;
            let result = set_mem_table(&message, session);
            acknowledge(front_end, &message, session, result)?;
        }
        SET_STATUS if len == 8 => {
            let message = receive(front_end, len)?;
            let status = u8::try_from(long(&message.bytes, HEADER));
            let result = status.map_err(|_| Error::InvalidParam);
            let result = result.and_then(|status| session.set_status(status));
            acknowledge(front_end, &message, session, result)?;
        }
        GET_STATUS if len == 0 => {
            receive(front_end, len)?;
            reply(front_end, GET_STATUS, session.status()?.into())?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Looks at the first bytes of the next message. Returns false if they are not all there: a second
/// look would see neither more bytes nor the end of the stream.
fn peek(front_end: &UnixStream, bytes: &mut [u8]) -> Result<bool> {
    let (_, count) = recv(front_end, &mut *bytes, RecvFlags::PEEK).map_err(failed)?;
    Ok(count == bytes.len())
}

/// Receives a message with a body of `len` bytes, and its descriptors.
fn receive(front_end: &UnixStream, len: usize) -> Result<Received> {
    let mut bytes = [0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REGIONS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let wanted = bytes.get_mut(..HEADER.saturating_add(len));
    let wanted = wanted.ok_or(Error::InvalidMessage)?;
    let all = wanted.len();
    let flags = RecvFlags::WAITALL | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        front_end,
        &mut [IoSliceMut::new(wanted)],
        &mut control,
        flags,
    );
    if received.map_err(failed)?.bytes != all {
        return Err(Error::PartialMessage);
    }
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors.map(|descriptor: OwnedFd| File::from(descriptor)));
        }
    }
    Ok(Received { bytes, files })
}

fn set_mem_table<D: DeviceModel, const Q: usize, const N: usize>(
    message: &Received,
    session: &mut Session<'_, D, Q, N>,
) -> Result<()> {
    let count = word(&message.bytes, HEADER);
    let count = usize::try_from(count).map_err(|_| Error::InvalidMessage)?;
    let body = message.bytes.get(HEADER + COUNT..).unwrap_or_default();
    let regions: Vec<_> = body.chunks(REGION).take(count).map(region).collect();
    let files: io::Result<Vec<_>> = message.files.iter().map(File::try_clone).collect();
    let files = files.map_err(|_| Error::IncorrectFds)?;
    session.set_mem_table(&regions, files, None).map(|_| ())
}

fn region(bytes: &[u8]) -> VhostUserMemoryRegion {
    VhostUserMemoryRegion::new(
        long(bytes, 0),
        long(bytes, 8),
        long(bytes, 16),
        long(bytes, 24),
    )
}

/// Tells the front end the result, if it wants to know.
fn acknowledge<D: DeviceModel, const Q: usize, const N: usize>(
    front_end: &UnixStream,
    message: &Received,
    session: &Session<'_, D, Q, N>,
    result: Result<()>,
) -> Result<()> {
    let wanted = word(&message.bytes, 4) & NEED_REPLY != 0;
    if wanted && session.speaks(VhostUserProtocolFeatures::REPLY_ACK) {
        let request = word(&message.bytes, 0);
        reply(front_end, request, result.is_err().into())?;
    }
    result
}

fn reply(mut front_end: &UnixStream, request: u32, value: u64) -> Result<()> {
    let mut bytes = Vec::with_capacity(HEADER + 8);
    for word in [request, VERSION | REPLY, 8] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(value.to_ne_bytes());
    front_end.write_all(&bytes).map_err(Error::SocketError)
}

fn failed(error: rustix::io::Errno) -> Error {
    Error::SocketError(error.into())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}
