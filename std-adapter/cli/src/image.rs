//! The disk image: a temporary one, or one that must not lose anything.

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

/// The smallest image, in bytes: some files fit in a FAT file system on it.
const SMALLEST: u64 = 1 << 20;

pub(crate) struct Image {
    file: File,
    name: String,
    /// What is on it.
    content: &'static str,
    len: u64,
    blank: bool,
}

impl Image {
    pub(crate) fn open(args: &Args) -> Result<Self> {
        match &args.disk {
            Some(path) => Self::given(path).map_err(|why| {
                let name = path.display();
                Failure::Usage(format!("disk image {name}: {why}"))
            }),
            None => Self::temporary(args.mib << 20),
        }
    }

    /// One without a name: however the command ends, nothing stays behind.
    fn temporary(len: u64) -> Result<Self> {
        let folder = env::temp_dir();
        let named = |error| {
            let folder = folder.display();
            Failure::Usage(format!(
                "cannot make a temporary image in {folder}: {error}"
            ))
        };
        let file = tempfile::tempfile_in(&folder).map_err(named)?;
        file.set_len(len).map_err(named)?;
        Ok(Self {
            file,
            name: format!("temporary disk image in {}", folder.display()),
            content: "empty",
            len,
            blank: true,
        })
    }

    /// Looks at an existing image; nothing is written.
    fn given(path: &Path) -> std::result::Result<Self, String> {
        let said = |error: io::Error| error.to_string();
        // Before it is opened: that of a FIFO has effects.
        let metadata = fs::metadata(path).map_err(said)?;
        if let Some(kind) = unusable(metadata.file_type()) {
            return Err(format!(
                "is {kind}, and not a regular file or a block device"
            ));
        }
        if metadata.permissions().readonly() {
            return Err("is read-only".into());
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(said)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                "cannot be locked by this process: another one uses it, and two would destroy it"
                    .into()
            }
            TryLockError::Error(error) => format!("cannot be locked: {error}"),
        })?;
        let len = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(said)?;
        if len < SMALLEST {
            return Err(format!(
                "holds {len} bytes, and at least {SMALLEST} are needed"
            ));
        }
        let blank = is_blank(&file).map_err(said)?;
        if !blank && files::mount(&file).is_err() {
            return Err("holds something that is not a FAT file system; it is left alone".into());
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

    /// The open file, once more.
    pub(crate) fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may be formatted.
    pub(crate) fn is_blank(&self) -> bool {
        self.blank
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} MiB, {}", self.name, self.len >> 20, self.content)
    }
}

/// What a file is that cannot be a disk.
fn unusable(kind: FileType) -> Option<&'static str> {
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

/// Whether it is all zero, so that formatting it loses nothing.
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
