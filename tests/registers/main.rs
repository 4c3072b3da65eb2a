//! The register block of virtio-mmio: the meaning of each offset, and the accesses that it allows.

mod access;
mod identity;
mod interrupt;
mod kick;
mod notification_data;
mod shared_memory;
