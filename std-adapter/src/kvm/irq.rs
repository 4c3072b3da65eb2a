//! Interrupts by irqfd.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
};

use kvm_ioctls::VmFd;
use virtside::DriverNotify;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{EventFdNotify, HostedDevice, Served};

/// Creates an edge-triggered interrupt that is connected to interrupt line `gsi` of the guest.
///
/// The guest must set the line up as edge-triggered, and no other device should use the line.
///
/// # Errors
/// The VM has no interrupt controller in the kernel or no such line, or the system has no more
/// descriptors.
pub fn edge_irq(vm: &VmFd, gsi: u32) -> io::Result<EventFdNotify> {
    let notify = EventFdNotify::new()?;
    vm.register_irqfd(notify.event(), gsi)?;
    Ok(notify)
}

/// A level-triggered interrupt by irqfd, which follows InterruptStatus.
///
/// KVM lowers the line when the guest ends the interrupt (EOI), and tells the VMM. The line is then
/// raised again if InterruptStatus is still not 0. Clones share the line.
///
/// Call [`resample_by`](Self::resample_by) once the device is hosted. A VMM with an event loop of
/// its own waits for [`resample_event`](Self::resample_event) instead, and calls
/// [`resample`](Self::resample).
///
/// ```no_run
/// # use std::sync::Arc;
/// # use virtside::{ChainSlot, Engine, Shared, models::Entropy};
/// # use virtside_std::{HostedDevice, OsEntropy, VmMem};
/// use virtside_std::kvm::LevelIrq;
/// # fn start(memory: VmMem) -> Result<(), Box<dyn std::error::Error>> {
/// let vm = kvm_ioctls::Kvm::new()?.create_vm()?;
/// vm.create_irq_chip()?;
/// let irq = LevelIrq::new(&vm, 10)?;
/// let engine: Engine<_, _, _, 1, 16, _, _> =
///     Engine::new(Entropy::new(OsEntropy), memory, irq.clone(), [ChainSlot::new()], Arc::new(Shared::new()));
/// let device = HostedDevice::new(engine)?;
/// irq.resample_by(&device)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LevelIrq {
    inner: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    raise: EventFd,
    resample: EventFd,
    /// The level that InterruptStatus wants.
    high: AtomicBool,
}

impl LevelIrq {
    /// Creates an interrupt that is connected to interrupt line `gsi` of the guest.
    ///
    /// # Errors
    /// The VM has no interrupt controller in the kernel or no such line, KVM cannot resample, or
    /// the system has no more descriptors.
    pub fn new(vm: &VmFd, gsi: u32) -> io::Result<Self> {
        let irq = Self::unconnected()?;
        let Line {
            raise, resample, ..
        } = &*irq.inner;
        vm.register_irqfd_with_resample(raise, resample, gsi)?;
        Ok(irq)
    }

    pub(super) fn unconnected() -> io::Result<Self> {
        Ok(Self {
            inner: Arc::new(Line {
                raise: EventFd::new(EFD_NONBLOCK)?,
                resample: EventFd::new(EFD_NONBLOCK)?,
                high: AtomicBool::new(false),
            }),
        })
    }

    /// Lets the worker of a device resample the line.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn resample_by<T: Served + Send + 'static>(
        &self,
        device: &HostedDevice<T>,
    ) -> io::Result<()> {
        let irq = self.clone();
        device.call_on(self.inner.resample.try_clone()?, move || irq.resample())
    }

    /// Returns the eventfd that KVM signals when the guest has ended the interrupt.
    #[must_use]
    pub fn resample_event(&self) -> &EventFd {
        &self.inner.resample
    }

    /// Raises the line again if InterruptStatus is not 0. Reads
    /// [`resample_event`](Self::resample_event), and does not block.
    pub fn resample(&self) {
        // Fails if it was read before.
        let _ = self.inner.resample.read();
        if self.inner.high.load(Ordering::SeqCst) {
            self.raise();
        }
    }

    #[cfg(test)]
    pub(super) fn raise_event(&self) -> &EventFd {
        &self.inner.raise
    }

    fn raise(&self) {
        // Fails only if the counter is full, and then the line is being raised.
        let _ = self.inner.raise.write(1);
    }
}

impl DriverNotify for LevelIrq {
    fn assert(&self) {
        // Before the line rises, since the guest may end the interrupt at once.
        self.inner.high.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.raise();
    }

    /// KVM lowers the line when the guest ends the interrupt.
    fn deassert(&self) {
        self.inner.high.store(false, Ordering::SeqCst);
    }
}
