//! Positioned file I/O in guest memory, without a copy.

use std::{fs::File, io, os::fd::AsRawFd};

use virtside::memory::DeviceRange;

/// Fills all of `to` from `offset` of the file on.
///
/// # Errors
/// What the system says; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
pub(crate) fn read_at(file: &File, offset: u64, to: &DeviceRange<'_>) -> io::Result<()> {
    if !to.is_writable() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    whole(offset, to, io::ErrorKind::UnexpectedEof, |rest, offset| {
        // SAFETY: `rest` is `len` bytes of memory that may be written, and no Rust reference is to
        // them; the kernel checks the mapping once more.
        unsafe { libc::pread64(file.as_raw_fd(), rest.as_ptr().cast(), rest.len(), offset) }
    })
}

/// Stores all of `from` at `offset` of the file.
///
/// # Errors
/// What the system says; [`io::ErrorKind::WriteZero`] if it takes no more.
pub(crate) fn write_at(file: &File, offset: u64, from: &DeviceRange<'_>) -> io::Result<()> {
    whole(offset, from, io::ErrorKind::WriteZero, |rest, offset| {
        // SAFETY: `rest` is `len` bytes of memory that may be read; the kernel copies them once.
        unsafe { libc::pwrite64(file.as_raw_fd(), rest.as_ptr().cast(), rest.len(), offset) }
    })
}

/// Repeats a system call that may be interrupted or do less than asked.
fn whole(
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
