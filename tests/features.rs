//! Features: what is offered, and what a driver may make of it.

#[path = "features/negotiation.rs"]
mod negotiation;
#[path = "features/offer.rs"]
mod offer;
