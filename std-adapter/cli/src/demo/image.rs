//! The disk image: a temporary image, or an existing image whose content must be kept.

use std::{
    env, fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::files;
use crate::{
    disk_file::{self, Access},
    failure::{Failure, Result},
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
    /// Creates an image without a name, so that no file stays behind however the command ends.
    pub(crate) fn temporary(len: u64) -> Result<Self> {
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
    pub(crate) fn existing(path: &Path) -> Result<Self> {
        let refused = |why: String| disk_file::refused(path, why);
        let (file, len) = disk_file::open(path, Access::Write)?;
        if len < SMALLEST {
            return Err(refused(format!(
                "has {len} bytes, but at least {SMALLEST} bytes are needed"
            )));
        }
        let blank = is_blank(&file).map_err(|error| refused(error.to_string()))?;
        if !blank && files::mount(&file).is_err() {
            let why = "has content other than a FAT file system; it was not changed";
            return Err(refused(why.into()));
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
