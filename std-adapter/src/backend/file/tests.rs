use std::os::unix::fs::{FileExt, PermissionsExt};

use virtside::memory::Ram;
use virtside::{
    DriverMem,
    memory::{DriverRange, Permission},
};
use vmm_sys_util::tempfile::TempFile;

use super::*;

fn image(bytes: &[u8]) -> TempFile {
    let image = TempFile::new().unwrap();
    image.as_file().write_all_at(bytes, 0).unwrap();
    image
}

fn view(mem: &impl DriverMem, at: u64, len: u32) -> DeviceRange<'_> {
    let range = DriverRange::new(at, len).unwrap();
    mem.translate(range, Permission::Write).unwrap()
}

#[test]
fn a_missing_image_is_refused() {
    let image = image(&[1; 512]);
    let path = image.as_path().with_extension("missing");
    let error = FileDisk::open(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(!path.exists());
}

#[test]
fn an_image_without_write_permission_is_refused_even_to_root() {
    let image = image(&[1; 512]);
    std::fs::set_permissions(image.as_path(), PermissionsExt::from_mode(0o444)).unwrap();
    let error = FileDisk::open(image.as_path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let disk = FileDisk::open_read_only(image.as_path()).unwrap();
    assert!(disk.features().read_only);
    assert_eq!(disk.features().discard, None);
}

#[test]
fn an_image_without_a_whole_sector_is_refused() {
    for len in [0, 511] {
        let image = image(&vec![0; len]);
        let error = FileDisk::open(image.as_path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    assert_eq!(
        FileDisk::open(image(&[0; 1535]).as_path())
            .unwrap()
            .capacity(),
        2
    );
}

#[test]
fn what_is_written_is_read_back() {
    static RAM: Ram<4096> = Ram::new();
    let mem = RAM.flat(0);
    let image = image(&[0; 8192]);
    let mut disk = FileDisk::open(image.as_path()).unwrap();
    view(&mem, 0, 1024).fill(9);
    disk.write(512, &view(&mem, 0, 1024)).unwrap();
    disk.read(1024, &view(&mem, 2048, 1024)).unwrap();
    let mut bytes = [1; 1024];
    RAM.read(2048, &mut bytes);
    assert_eq!((bytes[511], bytes[512]), (9, 0));
    assert_eq!(disk.flush(), Ok(()));
}

#[test]
fn zeroed_ranges_read_zero_and_nothing_else_does() {
    for unmap in [false, true] {
        let image = image(&[7; 16384]);
        let mut disk = FileDisk::open(image.as_path()).unwrap();
        disk.write_zeroes(512, 9216, unmap).unwrap();
        disk.write_zeroes(0, 0, unmap).unwrap();
        let bytes = std::fs::read(image.as_path()).unwrap();
        let zeroes = bytes.iter().filter(|byte| **byte == 0).count();
        assert_eq!((bytes.len(), zeroes), (16384, 9216));
        assert_eq!(
            (bytes[511], bytes[512], bytes[9727], bytes[9728]),
            (7, 0, 0, 7)
        );
        disk.discard(8192, 8192).unwrap();
        assert_eq!(image.as_file().metadata().unwrap().len(), 16384);
    }
}

#[test]
fn a_file_that_became_shorter_is_an_error_with_a_reason() {
    static RAM: Ram<4096> = Ram::new();
    let mem = RAM.flat(0);
    let image = image(&[7; 2048]);
    let mut disk = FileDisk::open(image.as_path()).unwrap();
    image.as_file().set_len(700).unwrap();
    assert_eq!(disk.read(512, &view(&mem, 0, 512)), Err(BlockError::Io));
    let error = disk.take_error().unwrap();
    assert_eq!(error.error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(
        error.to_string(),
        "read of 512 bytes at offset 512: unexpected end of file"
    );
    assert!(disk.take_error().is_none());
}

#[test]
fn a_read_only_disk_is_not_changed() {
    static RAM: Ram<4096> = Ram::new();
    let mem = RAM.flat(0);
    let image = image(&[7; 1024]);
    let mut disk = FileDisk::open_read_only(image.as_path()).unwrap();
    assert_eq!(disk.write(0, &view(&mem, 0, 512)), Err(BlockError::Io));
    assert_eq!(disk.write_zeroes(0, 512, true), Err(BlockError::Io));
    assert_eq!(disk.discard(0, 512), Err(BlockError::Io));
    assert_eq!(std::fs::read(image.as_path()).unwrap(), [7; 1024]);
}

#[test]
fn a_clone_works_on_the_same_image_and_has_its_own_error() {
    static RAM: Ram<4096> = Ram::new();
    let mem = RAM.flat(0);
    let image = image(&[1; 1024]);
    let mut disk = FileDisk::open(image.as_path()).unwrap();
    let mut other = disk.try_clone().unwrap();
    assert_eq!(other.capacity(), 2);
    RAM.write(0, &[5; 512]);
    assert_eq!(disk.write(512, &view(&mem, 0, 512)), Ok(()));
    assert_eq!(other.read(512, &view(&mem, 1024, 512)), Ok(()));
    let mut read = [0; 512];
    RAM.read(1024, &mut read);
    assert_eq!(read, [5; 512]);
    image.as_file().set_len(0).unwrap();
    assert!(other.read(512, &view(&mem, 1024, 512)).is_err());
    assert!(other.take_error().is_some());
    assert!(disk.take_error().is_none());
}
