//! Files in a FAT file system, for the guest and for the host.

use std::io::{self, Read, SeekFrom};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek};

use crate::failure::{Failure, Result};

/// Length of a cluster, and therefore of the largest request, in bytes.
const CLUSTER: u32 = 16 << 10;

/// Name, length and checksum of a file, as one side sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSummary {
    pub(crate) name: String,
    pub(crate) len: u64,
    pub(crate) checksum: u32,
}

pub(crate) fn format(disk: impl ReadWriteSeek) -> io::Result<()> {
    let options = FormatVolumeOptions::new()
        .bytes_per_cluster(CLUSTER)
        .volume_label(*b"VIRTSIDE   ");
    fatfs::format_volume(disk, options)
}

/// Mounts the file system at the start of the stream, whatever the current position is.
pub(crate) fn mount<D: ReadWriteSeek>(mut disk: D) -> io::Result<FileSystem<D>> {
    disk.seek(SeekFrom::Start(0))?;
    FileSystem::new(disk, FsOptions::new())
}

/// Creates the first directory of `virtside`, `virtside-1`, .. that does not exist; returns its
/// name.
pub(crate) fn new_directory<D: ReadWriteSeek>(fs: &FileSystem<D>) -> Result<String> {
    let root = fs.root_dir();
    let existing: Vec<String> = root
        .iter()
        .map(|entry| entry.map(|entry| entry.file_name().to_lowercase()))
        .collect::<io::Result<_>>()?;
    for number in 0..1000 {
        let name = match number {
            0 => "virtside".to_owned(),
            number => format!("virtside-{number}"),
        };
        if !existing.contains(&name) {
            root.create_dir(&name)?;
            return Ok(name);
        }
    }
    Err(Failure::work(
        "the image already has 1000 directories of this command",
    ))
}

/// Reads one file and computes its checksum. Calls `progress` with the length of each piece.
pub(crate) fn read<R: Read>(
    name: &str,
    mut file: R,
    mut progress: impl FnMut(usize),
) -> io::Result<FileSummary> {
    let mut hasher = crc32fast::Hasher::new();
    let mut len = 0_u64;
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
        len = len.saturating_add(u64::try_from(count).unwrap_or(0));
        progress(count);
    }
    Ok(FileSummary {
        name: name.to_owned(),
        len,
        checksum: hasher.finalize(),
    })
}

/// Reads every file of a directory. The result is sorted by name.
pub(crate) fn read_all<D: ReadWriteSeek>(disk: D, directory: &str) -> Result<Vec<FileSummary>> {
    let fs = mount(disk)?;
    let directory = fs.root_dir().open_dir(directory)?;
    let mut seen = Vec::new();
    for entry in directory.iter() {
        let entry = entry?;
        if entry.is_file() {
            seen.push(read(&entry.file_name(), entry.to_file(), |_| {})?);
        }
    }
    seen.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(seen)
}
