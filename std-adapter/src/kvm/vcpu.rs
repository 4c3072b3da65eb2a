//! Register accesses from the exits of one vCPU.

use std::{
    fmt, io,
    ops::{ControlFlow, Range},
    time::Duration,
};

use kvm_ioctls::{VcpuExit, VcpuFd};
use virtside::mmio::Access;

use crate::access::{AccessSource, Event};

/// The MMIO exits of one vCPU, as a source of register accesses for [`serve`](crate::serve).
///
/// The thread that waits for an access runs the guest. Accesses inside `range` go to the device or
/// [`Bus`](crate::Bus), with offsets from the start of the range. Every other exit goes to the
/// closure. The closure fills in the data of a load. It returns [`ControlFlow::Break`] to end the
/// stream of accesses, for instance when the guest has shut down.
///
/// The timeout of [`wait`](AccessSource::wait):
///
/// * A zero timeout completes the last access and does not run the guest. [`serve`](crate::serve)
///   therefore serves all waiting chains before the guest runs again.
/// * Any other timeout has no effect: the guest runs until its next exit. A signal whose handler
///   does not restart system calls also ends the wait, with [`Event::Woken`]. A signal that arrives
///   just before the guest runs has no effect unless its handler sets `immediate_exit` of `kvm_run`.
///
/// A device that answers chains later ([`Step::Blocked`](virtside::Step::Blocked)) is therefore
/// served at the next exit of the guest. Use a [`HostedDevice`](crate::HostedDevice) for it.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use kvm_ioctls::VcpuExit;
/// use virtside_std::{Bus, Served, kvm::VcpuAccesses, serve};
///
/// # fn run(mut bus: Bus<Box<dyn Served>>, vcpu: kvm_ioctls::VcpuFd) -> std::io::Result<()> {
/// let mut accesses = VcpuAccesses::new(vcpu, 0xd000_0000..0xd000_1000, |exit| {
///     Ok(match exit {
///         VcpuExit::Hlt | VcpuExit::Shutdown => ControlFlow::Break(()),
///         VcpuExit::MmioRead(_, data) => {
///             data.fill(0xff);
///             ControlFlow::Continue(())
///         }
///         _ => ControlFlow::Continue(()),
///     })
/// });
/// serve(&mut bus, &mut accesses, &mut ())?;
/// # Ok(())
/// # }
/// ```
pub struct VcpuAccesses<F> {
    vcpu: VcpuFd,
    range: Range<u64>,
    other: F,
    /// The outstanding access is a load of this many bytes; 0 for a store.
    outstanding: Option<usize>,
    ended: bool,
}

impl<F> fmt::Debug for VcpuAccesses<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VcpuAccesses")
            .field("vcpu", &self.vcpu)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl<F: FnMut(VcpuExit<'_>) -> io::Result<ControlFlow<()>>> VcpuAccesses<F> {
    /// Creates a source of the accesses of `vcpu` to the guest-physical addresses in `range`.
    pub const fn new(vcpu: VcpuFd, range: Range<u64>, other: F) -> Self {
        Self {
            vcpu,
            range,
            other,
            outstanding: None,
            ended: false,
        }
    }

    /// Returns the vCPU, for instance to read its registers after the stream has ended.
    pub const fn vcpu_mut(&mut self) -> &mut VcpuFd {
        &mut self.vcpu
    }

    /// Runs the guest until its next exit.
    fn run(&mut self) -> io::Result<Event> {
        let (range, outstanding) = (&self.range, &mut self.outstanding);
        let mut event = |address: u64, data: &[u8], is_load: bool| {
            let access = access(range, address, data, is_load)?;
            *outstanding = Some(if is_load { data.len() } else { 0 });
            Some(Event::Access(access))
        };
        let exit = match self.vcpu.run() {
            Ok(exit) => exit,
            Err(error) if error.errno() == libc::EINTR => {
                // A signal handler may have set it. Otherwise the guest would never run again.
                self.vcpu.set_kvm_immediate_exit(0);
                return Ok(Event::Woken);
            }
            Err(error) => return Err(error.into()),
        };
        let access = match &exit {
            VcpuExit::MmioRead(address, data) => event(*address, data, true),
            VcpuExit::MmioWrite(address, data) => event(*address, data, false),
            _ => None,
        };
        if let Some(access) = access {
            return Ok(access);
        }
        self.ended = (self.other)(exit)?.is_break();
        Ok(if self.ended { Event::End } else { Event::Woken })
    }
}

/// Returns the access to a register, if all its bytes are in the range.
fn access(range: &Range<u64>, address: u64, data: &[u8], is_load: bool) -> Option<Access> {
    let len = u64::try_from(data.len()).ok()?;
    if address < range.start || address.checked_add(len)? > range.end {
        return None;
    }
    let offset = u32::try_from(address.checked_sub(range.start)?).ok()?;
    let width = u8::try_from(data.len()).ok()?;
    if is_load {
        return Some(Access::Read { offset, width });
    }
    let mut bytes = [0; 8];
    bytes.get_mut(..data.len())?.copy_from_slice(data);
    let value = u64::from_le_bytes(bytes);
    Some(Access::Write {
        offset,
        width,
        value,
    })
}

impl<F: FnMut(VcpuExit<'_>) -> io::Result<ControlFlow<()>>> AccessSource for VcpuAccesses<F> {
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Event> {
        if self.ended {
            return Ok(Event::End);
        }
        if timeout != Some(Duration::ZERO) {
            return self.run();
        }
        // KVM then completes the last exit and returns before it enters the guest.
        self.vcpu.set_kvm_immediate_exit(1);
        let event = self.run();
        self.vcpu.set_kvm_immediate_exit(0);
        event
    }

    #[allow(unsafe_code, reason = "the value of a load goes into a union")]
    fn complete(&mut self, value: u64) -> io::Result<()> {
        let len = self.outstanding.take().unwrap_or(0);
        // SAFETY: `len` is not 0 only if the last exit was an MMIO load. The guest has not run since
        // then, so `mmio` is the member of the union that the kernel has written and will read.
        // Each value of its bytes is valid.
        let data = unsafe { &mut self.vcpu.get_kvm_run().__bindgen_anon_1.mmio.data };
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()).take(len) {
            *byte = value;
        }
        Ok(())
    }
}
