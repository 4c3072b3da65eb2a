//! Opening a disk image: its type is checked, and it is locked.

use std::{
    fmt,
    fs::{self, File, FileType, OpenOptions, TryLockError},
    io,
    os::unix::fs::FileTypeExt,
    path::Path,
};

use crate::failure::{Failure, Result};

/// What the image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading only. Other readers may have the image open.
    Read,
    /// Reading and writing. No other user of the image is allowed.
    Write,
}

/// Opens and locks an image. Writes nothing. Returns the file and its length in bytes.
pub(crate) fn open(path: &Path, access: Access) -> Result<(File, u64)> {
    open_locked(path, access).map_err(|why| refused(path, why))
}

/// Returns the failure of an image that cannot be used.
pub(crate) fn refused(path: &Path, why: impl fmt::Display) -> Failure {
    Failure::Usage(format!("disk image {}: {why}", path.display()))
}

fn open_locked(path: &Path, access: Access) -> std::result::Result<(File, u64), String> {
    let text = |error: io::Error| error.to_string();
    // Check the type first: opening a FIFO has side effects.
    let metadata = fs::metadata(path).map_err(text)?;
    if let Some(kind) = unusable_type(metadata.file_type()) {
        return Err(format!("is {kind}, not a regular file or a block device"));
    }
    let writes = access == Access::Write;
    // Root could open the file, but its owner made it read-only on purpose.
    if writes && metadata.permissions().readonly() {
        return Err("is read-only".into());
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(writes).open(path).map_err(text)?;
    let locked = if writes {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => "is in use: another process has locked it".into(),
        TryLockError::Error(error) => format!("cannot be locked: {error}"),
    })?;
    // The metadata of a block device has length 0, but seeking finds its end.
    let len = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(text)?;
    Ok((file, len))
}

/// Returns the name of a file type that cannot be a disk image.
fn unusable_type(kind: FileType) -> Option<&'static str> {
    if kind.is_file() || kind.is_block_device() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a character device")
    }
}
