//! The register block of virtio-mmio: what each offset is, and how it may be accessed.

#[path = "registers/access.rs"]
mod access;
#[path = "registers/identity.rs"]
mod identity;
#[path = "registers/interrupt.rs"]
mod interrupt;
#[path = "registers/kick.rs"]
mod kick;
