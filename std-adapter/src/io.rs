//! Chains as `std::io` streams.

use std::io;

use embedded_io::{Read as _, Write as _};
use virtside::{
    DriverMem,
    queue::{ChainError, ReadableChain, WritableChain},
};

/// The device-readable bytes of a chain as [`io::Read`].
#[derive(Debug)]
pub struct StdReader<'a, M>(pub ReadableChain<'a, M>);

/// The device-writable bytes of a chain as [`io::Write`].
///
/// Writing to a full chain fails with [`io::ErrorKind::StorageFull`]; it never returns `Ok(0)`.
#[derive(Debug)]
pub struct StdWriter<'a, M>(pub WritableChain<'a, M>);

/// Wraps a [`ChainError`] in an [`io::Error`] of the matching kind.
fn to_io_error(error: ChainError) -> io::Error {
    let kind = match error {
        ChainError::Full => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl<M: DriverMem> io::Read for StdReader<'_, M> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes).map_err(to_io_error)
    }
}

impl<M: DriverMem> io::Write for StdWriter<'_, M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(to_io_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use virtside::{memory::Ram, testing::one_chain};

    use super::*;

    #[test]
    fn a_chain_is_read_to_its_end() {
        static RAM: Ram<4096> = Ram::new();
        one_chain(&RAM, b"header", 0, |mem, chain| {
            let mut text = String::new();
            let mut reader = StdReader(chain.readable(mem));
            assert_eq!(reader.read_to_string(&mut text).unwrap(), 6);
            assert_eq!(text, "header");
        });
    }

    #[test]
    fn a_full_chain_is_an_error_that_says_so() {
        static RAM: Ram<4096> = Ram::new();
        one_chain(&RAM, b"", 4, |mem, chain| {
            let mut writer = StdWriter(chain.writable(mem));
            writer.write_all(b"abcd").unwrap();
            let error = writer.write_all(b"e").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(
                error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<ChainError>())
            );
            assert_eq!(writer.0.written(), 4);
        });
    }
}
