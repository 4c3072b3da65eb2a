//! The console device: what goes in, what comes out, and what the two sides tell each other about
//! ports.

mod control;
mod emergency;
mod foreign;
mod gone;
mod input;
mod known;
mod output;
mod ports;
mod saved;
mod shape;
mod streams;
