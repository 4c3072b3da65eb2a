//! Positioned file I/O to and from guest memory, without a copy.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
};

use virtside::memory::DeviceRange;

/// Most pieces of one system call. The others get further calls.
const PIECES: usize = 64;

/// Whether a call may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The call may wait.
    Allowed,
    /// The call fails with [`io::ErrorKind::WouldBlock`] if it would wait (`RWF_NOWAIT`).
    #[cfg(feature = "io-uring")]
    Refused,
}

impl Wait {
    const fn flags(self) -> libc::c_int {
        match self {
            Self::Allowed => 0,
            #[cfg(feature = "io-uring")]
            Self::Refused => libc::RWF_NOWAIT,
        }
    }
}

/// The arguments of a vectored system call.
struct Call<'v> {
    file: RawFd,
    pieces: &'v [libc::iovec],
    offset: i64,
    flags: libc::c_int,
}

/// Reads from the file, starting at `offset`, until all pieces of `to` are full.
///
/// # Errors
/// The error of the operating system; [`io::ErrorKind::UnexpectedEof`] if the file is too short. All
/// pieces are taken from `to`.
pub(crate) fn read_at<'a>(
    file: &File,
    offset: u64,
    to: impl Iterator<Item = DeviceRange<'a>>,
    wait: Wait,
) -> io::Result<()> {
    let to = to.map(|piece| piece.is_writable().then_some(piece));
    transfer(
        file,
        offset,
        to,
        wait,
        io::ErrorKind::UnexpectedEof,
        |call| {
            let count = i32::try_from(call.pieces.len()).unwrap_or(0);
            // SAFETY: each piece is writable memory, and no Rust reference points to its bytes. The
            // kernel checks the mapping once more.
            unsafe {
                libc::preadv2(
                    call.file,
                    call.pieces.as_ptr(),
                    count,
                    call.offset,
                    call.flags,
                )
            }
        },
    )
}

/// Writes all pieces of `from` to the file, starting at `offset`.
///
/// # Errors
/// The error of the operating system; [`io::ErrorKind::WriteZero`] if it accepts no more bytes. All
/// pieces are taken from `from`.
pub(crate) fn write_at<'a>(
    file: &File,
    offset: u64,
    from: impl Iterator<Item = DeviceRange<'a>>,
    wait: Wait,
) -> io::Result<()> {
    let none = io::ErrorKind::WriteZero;
    transfer(file, offset, from.map(Some), wait, none, |call| {
        let count = i32::try_from(call.pieces.len()).unwrap_or(0);
        // SAFETY: each piece is readable memory; the kernel copies the bytes once.
        unsafe {
            libc::pwritev2(
                call.file,
                call.pieces.as_ptr(),
                count,
                call.offset,
                call.flags,
            )
        }
    })
}

/// Transfers all pieces, a number of them with each system call.
fn transfer<'a>(
    file: &File,
    mut offset: u64,
    mut pieces: impl Iterator<Item = Option<DeviceRange<'a>>>,
    wait: Wait,
    none: io::ErrorKind,
    mut call: impl FnMut(&Call<'_>) -> isize,
) -> io::Result<()> {
    let empty = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut vectors = [empty; PIECES];
    loop {
        let mut count: usize = 0;
        let mut result = Ok(());
        for (vector, piece) in vectors.iter_mut().zip(&mut pieces) {
            count = count.saturating_add(1);
            let Some(piece) = piece else {
                result = Err(io::ErrorKind::PermissionDenied.into());
                break;
            };
            *vector = libc::iovec {
                iov_base: piece.as_ptr().cast(),
                iov_len: piece.len(),
            };
        }
        if count == 0 {
            return Ok(());
        }
        let part = vectors.get_mut(..count).unwrap_or_default();
        let result =
            result.and_then(|()| transfer_part(file, &mut offset, part, wait, none, &mut call));
        if result.is_err() {
            pieces.for_each(drop);
            return result;
        }
    }
}

/// Repeats a system call, which may be interrupted or transfer fewer bytes, until all pieces are
/// transferred.
fn transfer_part(
    file: &File,
    offset: &mut u64,
    mut pieces: &mut [libc::iovec],
    wait: Wait,
    none: io::ErrorKind,
    call: &mut impl FnMut(&Call<'_>) -> isize,
) -> io::Result<()> {
    while !pieces.is_empty() {
        let at = i64::try_from(*offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let count = call(&Call {
            file: file.as_raw_fd(),
            pieces,
            offset: at,
            flags: wait.flags(),
        });
        match usize::try_from(count) {
            Ok(0) => return Err(none.into()),
            Ok(count) => {
                let done = u64::try_from(count).unwrap_or(0);
                *offset = offset.saturating_add(done);
                pieces = skip(pieces, count);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Returns the pieces without their first `count` bytes.
fn skip(pieces: &mut [libc::iovec], mut count: usize) -> &mut [libc::iovec] {
    let mut whole: usize = 0;
    for piece in &mut *pieces {
        if count < piece.iov_len {
            piece.iov_base = piece.iov_base.wrapping_byte_add(count);
            piece.iov_len = piece.iov_len.saturating_sub(count);
            break;
        }
        count = count.saturating_sub(piece.iov_len);
        whole = whole.saturating_add(1);
    }
    pieces.get_mut(whole..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lens: &[usize], count: usize) -> Vec<usize> {
        let mut pieces: Vec<_> = lens
            .iter()
            .map(|&iov_len| libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len,
            })
            .collect();
        let left = skip(&mut pieces, count);
        left.iter().map(|piece| piece.iov_len).collect()
    }

    #[test]
    fn a_short_transfer_goes_on_in_the_middle_of_a_piece() {
        assert_eq!(lengths(&[4, 4, 4], 0), [4, 4, 4]);
        assert_eq!(lengths(&[4, 4, 4], 3), [1, 4, 4]);
        assert_eq!(lengths(&[4, 4, 4], 4), [4, 4]);
        assert_eq!(lengths(&[4, 4, 4], 9), [3]);
        assert_eq!(lengths(&[4, 4, 4], 12), [0; 0]);
    }
}
