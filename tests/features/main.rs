//! Features: what is offered, and what a driver may make of it.

mod host;
mod negotiation;
mod offer;
