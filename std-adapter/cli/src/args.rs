//! The command line.

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{
    demo::DemoArgs,
    failure::{Failure, Result},
    output::print_line,
    serve::ServeArgs,
};

/// Virtio devices for virtual machines: serves them to a VMM, or shows them at work.
///
/// Without a command, runs the demo.
///
/// Exit code: 0 if everything went well, 1 if something failed, 2 if the command line is wrong or a
/// file cannot be used.
#[derive(Debug, Parser)]
#[command(name = "virtside", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(flatten, next_help_heading = "Options of the demo")]
    pub(crate) demo: DemoArgs,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run unmodified virtio drivers against the block and entropy devices in this process, and
    /// check that guest and host see the same files
    Demo(DemoArgs),
    /// Serve devices to virtual machines, until SIGINT or SIGTERM
    Serve(Box<ServeArgs>),
}

impl Args {
    /// Parses the command line. Returns `None` if `--help` or `--version` was printed.
    pub(crate) fn parse() -> Result<Option<Self>> {
        let error = match Self::try_parse() {
            Ok(args) => return Ok(Some(args)),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                print_line(error.to_string().trim_end()).map(|()| None)
            }
            _ => Err(Failure::Usage(one_line(&error.to_string()))),
        }
    }
}

/// Returns the error in clap's message as one line. The rest of the message is usage.
fn one_line(text: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.is_empty());
    let line = paragraph.map(str::trim).collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line} (see --help)")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Args::command().debug_assert();
    }

    #[test]
    fn an_error_of_several_lines_becomes_one() {
        let error = Args::try_parse_from(["virtside", "serve", "blk"]).unwrap_err();
        let line = one_line(&error.to_string());
        assert!(line.contains("--disk <FILE>"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}
