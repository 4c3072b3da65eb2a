//! The entropy device, over the operating system or a file.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

use virtside::models::{Entropy, EntropyError, EntropySource};
use virtside_std::OsEntropy;

use crate::{
    failure::{Failure, Result},
    serve::{
        complaints::Complaints,
        hosted::{Context, Hosted, Plan},
        options::RngOptions,
        watched::Watch,
    },
};

/// Most bytes in one request.
const LIMIT: u32 = 64 << 10;

/// Opens the source.
///
/// # Errors
/// The source cannot be opened.
pub(in crate::serve) fn hosted(context: Context, options: &RngOptions) -> Result<Box<dyn Hosted>> {
    let source = match &options.source {
        None => Source::System(OsEntropy),
        Some(path) => {
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path);
            let file = file
                .map_err(|error| Failure::Usage(format!("source {}: {error}", path.display())))?;
            Source::File(Box::new(file), Complaints::new(&context.name))
        }
    };
    let model = Entropy::new(source).with_limit(LIMIT);
    Ok(Plan::new(context, model).sized::<1, 256>())
}

/// Where the bytes come from.
enum Source {
    System(OsEntropy),
    File(Box<dyn Read + Send>, Complaints),
}

impl EntropySource for Source {
    fn fill(&mut self, bytes: &mut [u8]) -> std::result::Result<usize, EntropyError> {
        let (file, complaints) = match self {
            Self::System(system) => return system.fill(bytes),
            Self::File(file, complaints) => (file, complaints),
        };
        let error = match file.read(bytes) {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(count) => return Ok(count),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
            _ => complaints.report(format_args!("the source gives no bytes: {error}")),
        }
        // The request waits for the next bytes.
        Err(EntropyError::NotReady)
    }
}

impl Watch for Entropy<Source> {}
