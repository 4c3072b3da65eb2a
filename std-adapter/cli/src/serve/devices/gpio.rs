//! The GPIO device, over a chip of the host or simulated lines.

#[cfg(feature = "hardware")]
mod hardware;

use virtside::models::Gpio;

use super::simulated::{LINES, Lines};
use crate::{
    failure::{Failure, Result},
    serve::{
        hosted::{Context, Hosted, Plan},
        options::GpioOptions,
        watched::Watch,
    },
};

/// Opens the chip.
///
/// # Errors
/// The chip cannot be opened.
pub(in crate::serve) fn hosted(context: Context, options: &GpioOptions) -> Result<Box<dyn Hosted>> {
    match (&options.chip, options.simulate) {
        #[cfg(feature = "hardware")]
        (Some(path), false) => hardware::hosted(context, path),
        #[cfg(not(feature = "hardware"))]
        (Some(_), false) => Err(super::without_hardware()),
        (None, true) => {
            let plan = Plan::new(context, Simulated::new(Lines::new()));
            // One for each line that may interrupt, and one for requests.
            Ok(plan.with_slots(LINES + 1).sized::<2, 256>())
        }
        _ => Err(Failure::Usage(
            "gpio: give either a chip or simulate".into(),
        )),
    }
}

type Simulated = Gpio<Lines, LINES>;

impl Watch for Simulated {
    /// Each request may have changed the level of another line.
    fn after(&mut self) {
        for line in 0..self.count() {
            // The levels can always be read. The next poll returns the buffers.
            let _ = self.sense(line);
        }
    }
}
