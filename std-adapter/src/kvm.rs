//! Devices of a KVM guest: interrupts by irqfd, kicks by ioeventfd, and register accesses from the
//! exits of a vCPU.
//!
//! There are two ways to connect devices:
//!
//! * **Each device has a thread of its own**, and any number of vCPUs: a
//!   [`HostedDevice`]. A vCPU thread calls [`HostedDevice::read`] and
//!   [`HostedDevice::write`] for its MMIO exits, directly or through a bus such as the `IoManager`
//!   of `vm-device`. [`ioeventfds`] makes kicks wake the device's thread without an exit to the
//!   VMM. `examples/vmm.rs` is such a VMM.
//! * **One thread runs one vCPU and all devices**: [`VcpuAccesses`] is the source of accesses for
//!   [`serve`](crate::serve). The guest does not run while the devices work.
//!
//! The interrupt of a device is one of:
//!
//! * [`edge_irq`], for an edge-triggered interrupt line. It costs one write for each interrupt.
//! * [`LevelIrq`], for a level-triggered line that the device may share with other devices.

mod irq;
mod vcpu;

#[cfg(test)]
mod tests;

use std::io;

use kvm_ioctls::{IoEventAddress, VmFd};
use virtside::mmio::Register;
use vmm_sys_util::eventfd::EventFd;

use crate::{HostedDevice, Served};

pub use irq::{LevelIrq, edge_irq};
pub use vcpu::VcpuAccesses;

/// Makes the guest's kicks of queues 0 to `queues - 1` wake the thread of the device at once,
/// without an exit to the VMM.
///
/// `address` is the guest-physical address of the device's registers. Each queue has its own
/// ioeventfd at QueueNotify, which matches the queue number. Any other value written to QueueNotify
/// still exits to the VMM.
///
/// A driver that negotiates NOTIFICATION_DATA writes more than the queue number. Nearly all of its
/// kicks then exit to the VMM, so that feature should not be offered. It is not offered by default.
///
/// ```no_run
/// # use virtside_std::{HostedDevice, Served, kvm::ioeventfds};
/// # fn connect<T: Served + Send>(device: HostedDevice<T>) -> Result<(), Box<dyn std::error::Error>> {
/// let vm = kvm_ioctls::Kvm::new()?.create_vm()?;
/// ioeventfds(&vm, &device, 0xd000_0000, 1)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// There is an ioeventfd for one of these queues already, `address` is too high, or the system has
/// no more descriptors. The ioeventfds that were made before the error stay.
pub fn ioeventfds<T: Served + Send + 'static>(
    vm: &VmFd,
    device: &HostedDevice<T>,
    address: u64,
    queues: u16,
) -> io::Result<()> {
    each_queue(device, address, queues, |kick, register, queue| {
        vm.register_ioevent(kick, register, queue)
    })
}

/// Removes the ioeventfds that [`ioeventfds`] registered with the same arguments. Call it before
/// another device gets these registers, for instance when a device is stopped and hosted again.
///
/// # Errors
/// One of the queues has no ioeventfd.
pub fn remove_ioeventfds<T: Served + Send + 'static>(
    vm: &VmFd,
    device: &HostedDevice<T>,
    address: u64,
    queues: u16,
) -> io::Result<()> {
    each_queue(device, address, queues, |kick, register, queue| {
        vm.unregister_ioevent(kick, register, queue)
    })
}

/// Calls a function with the kick of each queue, the register that it belongs to, and the value that
/// the driver stores there.
fn each_queue<T: Served + Send + 'static>(
    device: &HostedDevice<T>,
    address: u64,
    queues: u16,
    change: impl Fn(&EventFd, &IoEventAddress, u32) -> Result<(), kvm_ioctls::Error>,
) -> io::Result<()> {
    let register = address.checked_add(Register::QueueNotify.offset().into());
    let register = IoEventAddress::Mmio(register.ok_or(io::ErrorKind::InvalidInput)?);
    for queue in 0..queues {
        let kick = device.kick(queue)?;
        change(&kick, &register, queue.into())?;
    }
    Ok(())
}
