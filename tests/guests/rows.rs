//! The rows of the table: which guest does what with which device.

use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    outcome::{Outcome, failure},
    readme, tools, with_driver, with_qemu, with_uml, without_guest,
};

/// The device numbers of VirtIO.
pub mod device {
    pub const BLK: u32 = 2;
    pub const CONSOLE: u32 = 3;
    pub const RNG: u32 = 4;
    pub const I2C: u32 = 34;
    pub const GPIO: u32 = 41;
}

/// How long a guest may take. A machine that builds something beside the test is slow.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A ring format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Split,
    Packed,
}

impl Ring {
    pub const fn is_packed(self) -> bool {
        matches!(self, Self::Packed)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Packed => "packed",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub guest: &'static str,
    pub device: &'static str,
    /// `None` if the client chooses by itself.
    pub ring: Option<Ring>,
    pub run: fn(&Bench<'_>, Ring) -> Outcome<Verified>,
}

/// How a row came out, if it did not fail.
#[derive(Clone, Debug)]
pub enum Verified {
    By(String),
    /// The row cannot run on this machine, for this reason.
    Skipped(String),
}

impl Verified {
    pub fn by(text: impl Into<String>) -> Outcome<Self> {
        Ok(Self::By(text.into()))
    }
}

/// What a row works with.
#[derive(Debug)]
pub struct Bench<'t> {
    pub tools: &'t Tools,
    /// An empty folder.
    pub folder: PathBuf,
}

/// The programs of all rows. A program is made when the first row needs it.
#[derive(Debug)]
pub struct Tools {
    /// The `virtside` command.
    pub virtside: PathBuf,
    /// Root folder of the Debian system.
    pub debian: PathBuf,
    folder: PathBuf,
    uml: OnceCell<Result<PathBuf, String>>,
    initrds: [OnceCell<Result<PathBuf, String>>; 2],
}

/// The initrd of a guest.
#[derive(Clone, Copy, Debug)]
pub enum Initrd {
    Uml,
    Qemu,
}

impl Tools {
    pub fn new(folder: &Path) -> Outcome<Self> {
        Ok(Self {
            virtside: tools::virtside()?,
            debian: tools::debian()?,
            folder: folder.to_owned(),
            uml: OnceCell::new(),
            initrds: Default::default(),
        })
    }

    /// Returns the path of the User Mode Linux.
    pub fn uml(&self) -> Outcome<&Path> {
        once(&self.uml, tools::uml)
    }

    /// Returns the path of an initrd.
    pub fn initrd(&self, which: Initrd) -> Outcome<&Path> {
        let (name, content): (_, &[&str]) = match which {
            Initrd::Uml => (
                "uml.initrd",
                &[
                    "mke2fs",
                    "gpiodetect",
                    "gpioget",
                    "gpioinfo",
                    "gpiomon",
                    "gpioset",
                ],
            ),
            Initrd::Qemu => (
                "qemu.initrd",
                &[
                    "mke2fs",
                    "module:virtio_pci",
                    "module:virtio_blk",
                    "module:virtio-rng",
                    "module:ext4",
                ],
            ),
        };
        once(&self.initrds[which as usize], || {
            let path = self.folder.join(name);
            tools::initrd(&self.debian, &path, content)?;
            Ok(path)
        })
    }
}

fn once(
    cell: &OnceCell<Result<PathBuf, String>>,
    make: impl FnOnce() -> Outcome<PathBuf>,
) -> Outcome<&Path> {
    let made = cell.get_or_init(|| make().map_err(|error| error.to_string()));
    made.as_deref().map_err(failure)
}

/// Returns all rows.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut both = |guest, device, run| {
        for ring in [Ring::Split, Ring::Packed] {
            rows.push(Row {
                guest,
                device,
                ring: Some(ring),
                run,
            });
        }
    };
    both("uml", "blk", with_uml::blk);
    both("uml", "rng", with_uml::rng);
    both("uml", "i2c", with_uml::i2c);
    both("uml", "gpio", with_uml::gpio);
    both("uml", "console", with_uml::console);
    both("qemu", "blk, rng", with_qemu::devices);
    both("qemu", "suspended", with_qemu::suspend);
    both("qemu", "blk, killed", with_qemu::reconnect);
    both("driver", "blk", with_driver::blk);
    rows.push(Row {
        guest: "qemu-io",
        device: "blk",
        ring: None,
        run: without_guest::qemu_io,
    });
    rows.push(Row {
        guest: "qemu",
        device: "README",
        ring: None,
        run: readme::qemu,
    });
    rows.push(Row {
        guest: "kvm",
        device: "blk, rng",
        ring: None,
        run: without_guest::kvm,
    });
    rows
}
