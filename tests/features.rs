//! Features: what is offered, and what a driver may make of it.

#[path = "features/host.rs"]
mod host;
#[path = "features/negotiation.rs"]
mod negotiation;
#[path = "features/offer.rs"]
mod offer;
