//! The gpio device: every request, every way to get one wrong, and interrupts from the line to the
//! driver.

#[path = "gpio/errors.rs"]
mod errors;
#[path = "gpio/events.rs"]
mod events;
#[path = "gpio/gone.rs"]
mod gone;
#[path = "gpio/interrupts.rs"]
mod interrupts;
#[path = "gpio/names.rs"]
mod names;
#[path = "gpio/pins.rs"]
mod pins;
#[path = "gpio/requests.rs"]
mod requests;
#[path = "gpio/saved.rs"]
mod saved;
#[path = "gpio/split.rs"]
mod split;
#[path = "gpio/support.rs"]
mod support;
#[path = "gpio/suspend.rs"]
mod suspend;
