//! The console device: what goes in, what comes out, and what the two sides tell each other about
//! ports.

#[path = "console/control.rs"]
mod control;
#[path = "console/emergency.rs"]
mod emergency;
#[path = "console/foreign.rs"]
mod foreign;
#[path = "console/gone.rs"]
mod gone;
#[path = "console/input.rs"]
mod input;
#[path = "console/output.rs"]
mod output;
#[path = "console/ports.rs"]
mod ports;
#[path = "console/saved.rs"]
mod saved;
#[path = "console/shape.rs"]
mod shape;
#[path = "console/streams.rs"]
mod streams;
#[path = "console/support.rs"]
mod support;
