//! The disk image: a temporary one, or one that must not lose anything.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use fatfs::{FileSystem, FsOptions};
use vmm_sys_util::tempfile::TempFile;

use super::{Result, args::Args};

/// The smallest image that a FAT file system with some files fits on.
const SMALLEST: u64 = 1 << 20;

pub(crate) struct Image {
    kind: Kind,
    len: u64,
    blank: bool,
}

enum Kind {
    /// Removed when dropped.
    Temporary(TempFile),
    Given(Box<Path>),
}

impl Image {
    pub(crate) fn open(args: &Args) -> Result<Self> {
        match &args.disk {
            Some(path) => {
                let named = |error| format!("disk image {}: {error}", path.display());
                Self::given(path).map_err(|error| named(error).into())
            }
            None => Self::temporary(args.mib << 20),
        }
    }

    fn temporary(len: u64) -> Result<Self> {
        let file = TempFile::new().map_err(io::Error::from)?;
        file.as_file().set_len(len)?;
        let kind = Kind::Temporary(file);
        Ok(Self {
            kind,
            len,
            blank: true,
        })
    }

    /// Looks at an existing image; nothing is written.
    fn given(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.permissions().readonly() {
            return Err("is read-only".into());
        }
        let len = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        if len < SMALLEST {
            return Err(format!("holds {len} bytes, and at least {SMALLEST} are needed").into());
        }
        let blank = is_blank(&file)?;
        if !blank && FileSystem::new(File::open(path)?, FsOptions::new()).is_err() {
            return Err("holds something that is not a FAT file system; it is left alone".into());
        }
        let kind = Kind::Given(path.into());
        Ok(Self { kind, len, blank })
    }

    pub(crate) fn path(&self) -> &Path {
        match &self.kind {
            Kind::Temporary(file) => file.as_path(),
            Kind::Given(path) => path,
        }
    }

    /// Whether it may be formatted.
    pub(crate) fn is_blank(&self) -> bool {
        self.blank
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Temporary(_) => "temporary",
            Kind::Given(_) if self.blank => "empty",
            Kind::Given(_) => "with a FAT file system",
        };
        let mib = self.len >> 20;
        write!(f, "{} ({mib} MiB, {kind})", self.path().display())
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
