//! What hostile drivers, careless hosts and unlucky operators may do.

mod anew;
mod buses;
mod chips;
mod late;
mod order;
mod phases;
mod relations;
mod reset_together;
mod serials;
