//! What hostile drivers, careless hosts and unlucky operators may do that no other test does.

mod buses;
mod chips;
mod late;
mod order;
mod phases;
mod relations;
mod serials;
