//! The gpio device: every request, every malformed request, and interrupts from the line to the
//! driver.

mod errors;
mod events;
mod gone;
mod interrupts;
mod names;
mod pins;
mod requests;
mod retrigger;
mod saved;
mod split;
mod suspend;
