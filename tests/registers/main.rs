//! The register block of virtio-mmio: what each offset is, and how it may be accessed.

mod access;
mod identity;
mod interrupt;
mod kick;
mod notification_data;
mod shared_memory;
