//! The disk image: a temporary image, or an existing image whose content must be kept.

use std::{
    env, fmt,
    fs::{self, File, FileType, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use crate::{
    args::Args,
    failure::{Failure, Result},
    files,
};

/// Minimum size of an image, in bytes: a FAT file system with some files fits.
const SMALLEST: u64 = 1 << 20;

pub(crate) struct Image {
    file: File,
    name: String,
    /// Description of the content.
    content: &'static str,
    len: u64,
    blank: bool,
}

impl Image {
    pub(crate) fn open(args: &Args) -> Result<Self> {
        match &args.disk {
            Some(path) => Self::existing(path).map_err(|why| {
                let name = path.display();
                Failure::Usage(format!("disk image {name}: {why}"))
            }),
            None => Self::temporary(args.mib << 20),
        }
    }

    /// Creates an image without a name, so that no file stays behind however the command ends.
    fn temporary(len: u64) -> Result<Self> {
        let mut folder = env::temp_dir();
        // An empty TMPDIR counts as unset, or the image would be in the current folder.
        if folder.as_os_str().is_empty() {
            folder = "/tmp".into();
        }
        let failure = |error| {
            let folder = folder.display();
            Failure::Usage(format!(
                "cannot create a temporary image in {folder}: {error}"
            ))
        };
        let file = tempfile::tempfile_in(&folder).map_err(failure)?;
        file.set_len(len).map_err(failure)?;
        Ok(Self {
            file,
            name: format!("temporary disk image in {}", folder.display()),
            content: "empty",
            len,
            blank: true,
        })
    }

    /// Opens, locks and checks an existing image. Writes nothing.
    fn existing(path: &Path) -> std::result::Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        // Check the type first: opening a FIFO has side effects.
        let metadata = fs::metadata(path).map_err(text)?;
        if let Some(kind) = unusable_type(metadata.file_type()) {
            return Err(format!("is {kind}, not a regular file or a block device"));
        }
        if metadata.permissions().readonly() {
            return Err("is read-only".into());
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(text)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => "is in use: another process has locked it".into(),
            TryLockError::Error(error) => format!("cannot be locked: {error}"),
        })?;
        let len = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(text)?;
        if len < SMALLEST {
            return Err(format!(
                "has {len} bytes, but at least {SMALLEST} bytes are needed"
            ));
        }
        let blank = is_blank(&file).map_err(text)?;
        if !blank && files::mount(&file).is_err() {
            return Err("has content other than a FAT file system; it was not changed".into());
        }
        Ok(Self {
            file,
            name: format!("disk image {}", path.display()),
            content: if blank {
                "empty"
            } else {
                "with a FAT file system"
            },
            len,
            blank,
        })
    }

    /// Returns another handle of the open file.
    pub(crate) fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the image is empty, so that it may be formatted.
    pub(crate) fn is_blank(&self) -> bool {
        self.blank
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} MiB, {}", self.name, self.len >> 20, self.content)
    }
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

/// Returns whether all bytes are zero, so that formatting destroys nothing.
fn is_blank(mut file: &File) -> io::Result<bool> {
    io::Seek::rewind(&mut file)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(true);
        }
        if piece.iter().take(count).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}
