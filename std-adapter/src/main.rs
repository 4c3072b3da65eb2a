//! The `virtside` command: unmodified `virtio-drivers` against devices of `virtside`, in one process.
#![deny(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
