//! Features: the offer, and the features that a driver may accept.

mod host;
mod negotiation;
mod offer;
