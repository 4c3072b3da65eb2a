//! The console device, over a terminal, a socket, or standard input and output.

use virtside::models::Console;

use super::terminal::Terminal;
use crate::{
    failure::{Failure, Result},
    serve::{
        hosted::{Context, Hosted, Plan},
        options::ConsoleOptions,
        watched::Watch,
    },
};

/// Opens the host's end.
///
/// # Errors
/// The host's end cannot be opened.
pub(in crate::serve) fn hosted(
    context: Context,
    options: &ConsoleOptions,
) -> Result<Box<dyn Hosted>> {
    let name = context.name.as_str();
    let terminal = match (options.pty, &options.socket, options.stdio) {
        (true, None, false) => Terminal::pty(name)?,
        (false, Some(path), false) => Terminal::socket(name, path)?,
        (false, None, true) => Terminal::stdio(name)?,
        _ => {
            let why = "console: give one of pty, socket and stdio";
            return Err(Failure::Usage(why.into()));
        }
    };
    let wake = terminal.wake()?;
    // One for input and one for output.
    let plan = Plan::new(context, Console::new(terminal));
    Ok(plan.with_slots(2).with_wake(wake).sized::<2, 256>())
}

impl Watch for Console<Terminal> {}
