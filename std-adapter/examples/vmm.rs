//! A VMM for a program without an operating system, to start from: one vCPU, and an entropy device,
//! a disk and a console that each have a thread of their own.
//!
//! `cargo run --release -p virtside-std --features kvm,vm-device --example vmm -- GUEST [NUMBER]`
//!
//! GUEST is an ELF file for x86-64. NUMBER is passed to it. `tests/guests/bare_metal` is such a
//! program, and `tests/tools/kvm` builds and runs both. The program is started in user mode (CPL 3),
//! because some hosts run only such code at full speed. The devices do not depend on that.

use std::{error::Error, fs::File, io::Write, process::ExitCode, sync::Arc};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use linux_loader::loader::{Elf, KernelLoader};
use virtside::{
    ChainSlot, DeviceModel, DriverNotify, Engine, Shared,
    models::{Block, BlockOptions, Console, ConsoleError, ConsolePort, Entropy, blk::RamDisk},
};
use virtside_std::{
    HostedDevice, OsEntropy, VmMem,
    kvm::{LevelIrq, edge_irq, ioeventfds},
};
use vm_device::{
    bus::{MmioAddress, MmioRange},
    device_manager::{IoManager, MmioManager},
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

type Failed = Box<dyn Error + Send + Sync>;

/// Length of the guest's memory in bytes. It begins at 0.
const MEMORY: usize = 64 << 20;
/// Addresses of the devices' registers. Each block has 0x200 bytes.
const CONSOLE: u64 = 0xd000_0000;
const ENTROPY: u64 = 0xd000_1000;
const DISK: u64 = 0xd000_2000;
/// A store to this address ends the machine with that exit code. A load returns 0.
const EXIT: u64 = 0xd000_f000;
/// Interrupt lines of the I/O APIC. The lines below 16 also go to the old interrupt controller.
const CONSOLE_LINE: u32 = 16;
const ENTROPY_LINE: u32 = 17;
const DISK_LINE: u32 = 18;

/// The host's end of the console: output to stdout, and no input.
struct Stdout;

impl ConsolePort for Stdout {
    fn has_input(&self) -> bool {
        false
    }
    fn read(&mut self, _: &mut [u8]) -> Result<usize, ConsoleError> {
        Err(ConsoleError::NotReady)
    }
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        let written = std::io::stdout().write(bytes);
        written.map_err(|_| ConsoleError::Failed)
    }
}

/// The parts of the machine that each device needs.
struct Machine {
    vm: VmFd,
    memory: GuestMemoryMmap,
    bus: IoManager,
}

/// A device with `Q` queues of up to 256 elements.
type Device<D, I, const Q: usize> =
    Engine<D, VmMem, I, Q, 256, Vec<ChainSlot<256>>, Arc<Shared<Q>>>;
type Added<D, I, const Q: usize> = Result<HostedDevice<Device<D, I, Q>>, Failed>;

impl Machine {
    /// Gives a model a device with `Q` queues and a thread, and puts it on the bus.
    fn add<D, I, const Q: usize>(&mut self, model: D, irq: I, at: u64) -> Added<D, I, Q>
    where
        D: DeviceModel + Send + 'static,
        I: DriverNotify + Clone + Send + Sync + 'static,
    {
        let (memory, slots) = (VmMem::new(&self.memory), vec![ChainSlot::new(); 16]);
        let device = HostedDevice::new(Engine::new(model, memory, irq, slots, Arc::default()))?;
        ioeventfds(&self.vm, &device, at, u16::try_from(Q)?)?;
        let range = MmioRange::new(MmioAddress(at), 0x200)?;
        self.bus.register_mmio(range, Arc::new(device.clone()))?;
        Ok(device)
    }
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("vmm: {error}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Failed> {
    let mut arguments = std::env::args().skip(1);
    let guest = arguments.next().ok_or("usage: vmm GUEST [NUMBER]")?;
    let number = arguments.next().map_or(Ok(0), |number| number.parse())?;

    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?;
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    vm.set_tss_address(0xfffb_d000)?;
    vm.create_irq_chip()?;
    let region = kvm_userspace_memory_region {
        memory_size: MEMORY as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0))? as u64,
        ..Default::default()
    };
    // SAFETY: the vCPU runs only in this function, which has the memory. No reference points to it.
    unsafe { vm.set_user_memory_region(region)? };
    let entry = Elf::load(&memory, None, &mut File::open(&guest)?, None)?.kernel_load;
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    boot(&memory, &vcpu, entry.0, number)?;

    let bus = IoManager::new();
    let mut machine = Machine { vm, memory, bus };
    let line = edge_irq(&machine.vm, CONSOLE_LINE)?;
    machine.add::<_, _, 2>(Console::new(Stdout), line, CONSOLE)?;
    let line = LevelIrq::new(&machine.vm, ENTROPY_LINE)?;
    let entropy = machine.add::<_, _, 1>(Entropy::new(OsEntropy), line.clone(), ENTROPY)?;
    line.resample_by(&entropy)?;
    let line = edge_irq(&machine.vm, DISK_LINE)?;
    let disk = Block::new(RamDisk::new(vec![0; 1 << 20]), BlockOptions::new(256));
    machine.add::<_, _, 1>(disk, line, DISK)?;

    loop {
        match vcpu.run() {
            Ok(VcpuExit::MmioRead(EXIT, data)) => data.fill(0),
            Ok(VcpuExit::MmioWrite(EXIT, data)) => {
                return Ok(data.first().copied().unwrap_or(0).into());
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                if machine.bus.mmio_read(MmioAddress(address), data).is_err() {
                    data.fill(0xff);
                }
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                // A store to no device has no effect.
                let _ = machine.bus.mmio_write(MmioAddress(address), data);
            }
            Ok(exit) => return Err(format!("the guest stopped: {exit:?}").into()),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes the vCPU start at `entry` in 64-bit user mode, with two arguments: `number` and the ticks
/// of the time stamp counter in a millisecond. Memory below 4 GiB is mapped at its own address.
///
/// | address | content |
/// |---|---|
/// | 0x500 | segments |
/// | 0x600 | task state, with the stack of interrupt handlers, which ends at 0x8000 |
/// | 0x1000 | page tables |
/// | 0x8000 | interrupt gates, which the guest writes |
/// | 0x200000 | end of the guest's stack, and the guest |
fn boot(memory: &GuestMemoryMmap, vcpu: &VcpuFd, entry: u64, number: u64) -> Result<(), Failed> {
    let write = |address, value: u64| memory.write_obj(value, GuestAddress(address));
    write(0x1000, 0x2007)?;
    for gib in 0..4 {
        write(0x2000 + gib * 8, (0x3000 + gib * 0x1000) | 7)?;
    }
    for page in 0..2048 {
        // Present, writable, for user mode, 2 MiB.
        write(0x3000 + page * 8, page << 21 | 0x87)?;
    }
    // Code and data of the kernel's mode, task state, data and code of user mode.
    for (selector, segment) in [
        (0x08, 0x00af_9b00_0000_ffff),
        (0x10, 0x00cf_9300_0000_ffff),
        (0x18, 0x0000_8b00_0600_0067),
        (0x28, 0x00cf_f300_0000_ffff),
        (0x30, 0x00af_fb00_0000_ffff),
    ] {
        write(0x500 + selector, segment)?;
    }
    write(0x604, 0x8000)?;
    memory.write_obj(0x68_u16, GuestAddress(0x666))?;

    let mut sregs = vcpu.get_sregs()?;
    for data in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        (data.selector, data.dpl, data.db) = (0x2b, 3, 1);
    }
    (sregs.cs.selector, sregs.cs.base, sregs.cs.dpl, sregs.cs.l) = (0x33, 0, 3, 1);
    (sregs.tr.selector, sregs.tr.base, sregs.tr.limit) = (0x18, 0x600, 0x67);
    (sregs.gdt.base, sregs.gdt.limit) = (0x500, 0x37);
    (sregs.idt.base, sregs.idt.limit) = (0x8000, 0xfff);
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (0x8005_0033, 0x1000, 0x620, 0xd01);
    vcpu.set_sregs(&sregs)?;
    let mut regs = kvm_regs::default();
    (regs.rip, regs.rsp, regs.rdi) = (entry, 0x20_0000, number);
    regs.rsi = vcpu.get_tsc_khz()?.into();
    // Interrupts are enabled, since user mode cannot enable them.
    regs.rflags = 0x202;
    Ok(vcpu.set_regs(&regs)?)
}
