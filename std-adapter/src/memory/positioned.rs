//! Positioned file I/O to and from guest memory, without a copy.

use std::{fs::File, io, os::fd::AsRawFd};

use virtside::memory::DeviceRange;

/// Reads from the file, starting at `offset`, until `to` is full.
///
/// # Errors
/// The error of the operating system; [`io::ErrorKind::UnexpectedEof`] if the file is too short.
pub(crate) fn read_at(file: &File, offset: u64, to: &DeviceRange<'_>) -> io::Result<()> {
    if !to.is_writable() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    transfer_all(offset, to, io::ErrorKind::UnexpectedEof, |rest, offset| {
        // SAFETY: `rest` is `len` bytes of writable memory, and no Rust reference points to these
        // bytes. The kernel checks the mapping once more.
        unsafe { libc::pread64(file.as_raw_fd(), rest.as_ptr().cast(), rest.len(), offset) }
    })
}

/// Writes all of `from` to the file, starting at `offset`.
///
/// # Errors
/// The error of the operating system; [`io::ErrorKind::WriteZero`] if it accepts no more bytes.
pub(crate) fn write_at(file: &File, offset: u64, from: &DeviceRange<'_>) -> io::Result<()> {
    transfer_all(offset, from, io::ErrorKind::WriteZero, |rest, offset| {
        // SAFETY: `rest` is `len` bytes of readable memory; the kernel copies the bytes once.
        unsafe { libc::pwrite64(file.as_raw_fd(), rest.as_ptr().cast(), rest.len(), offset) }
    })
}

/// Repeats a system call, which may be interrupted or transfer fewer bytes, until all are
/// transferred.
fn transfer_all(
    offset: u64,
    range: &DeviceRange<'_>,
    none: io::ErrorKind,
    mut call: impl FnMut(&DeviceRange<'_>, i64) -> isize,
) -> io::Result<()> {
    let mut done = 0_usize;
    while done < range.len() {
        let at = u64::try_from(done)
            .ok()
            .and_then(|done| offset.checked_add(done))
            .and_then(|at| i64::try_from(at).ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        match usize::try_from(call(&range.skip(done), at)) {
            Ok(0) => return Err(none.into()),
            Ok(count) => done = done.saturating_add(count),
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
