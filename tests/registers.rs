//! The register block of virtio-mmio: what each offset is, and how it may be accessed.

#[path = "registers/access.rs"]
mod access;
#[path = "registers/identity.rs"]
mod identity;
#[path = "registers/interrupt.rs"]
mod interrupt;
#[path = "registers/kick.rs"]
mod kick;
#[path = "registers/notification_data.rs"]
mod notification_data;
#[path = "registers/shared_memory.rs"]
mod shared_memory;
