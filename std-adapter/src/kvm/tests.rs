//! Tests that need `/dev/kvm` are ignored by default. `tests/tools/kvm` runs them.

use std::{
    io,
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use virtside::{
    ChainSlot, DriverNotify, Engine, Shared,
    mmio::Access,
    models::{Block, BlockOptions, blk::RamDisk},
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::*;
use crate::{AccessSource, Bus, Event, OnAccess, Served, VmMem, serve};

/// Address of the registers of the devices. The memory ends there.
const DEVICES: u64 = 0x1_0000;
/// Address of the machine code.
const CODE: u64 = 0x1000;

struct Machine {
    vm: VmFd,
    vcpu: VcpuFd,
    memory: GuestMemoryMmap,
}

/// Creates a guest in real mode. `code` is its machine code. DS begins at the devices.
#[allow(unsafe_code, reason = "the guest gets memory of this process")]
fn machine(code: &[u8]) -> Machine {
    let vm = Kvm::new().unwrap().create_vm().unwrap();
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    let region = kvm_userspace_memory_region {
        memory_size: DEVICES,
        userspace_addr: memory.get_host_address(GuestAddress(0)).unwrap() as u64,
        ..Default::default()
    };
    // SAFETY: the test has the memory as long as it runs the vCPU. No reference points to it.
    unsafe { vm.set_user_memory_region(region) }.unwrap();
    memory.write_slice(code, GuestAddress(CODE)).unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    (sregs.ds.base, sregs.ds.selector) = (DEVICES, 0x1000);
    vcpu.set_sregs(&sregs).unwrap();
    let regs = kvm_regs {
        rip: CODE,
        rsp: 0x8000,
        rflags: 2,
        ..Default::default()
    };
    vcpu.set_regs(&regs).unwrap();
    Machine { vm, vcpu, memory }
}

type Model = Block<RamDisk<Vec<u8>>>;
type Disk = Engine<Model, VmMem, (), 1, 16, [ChainSlot<16>; 1], Arc<Shared<1>>>;

fn disk(memory: VmMem) -> Disk {
    let model = Block::new(RamDisk::new(vec![0; 3 << 9]), BlockOptions::new(16));
    Engine::new(model, memory, (), [ChainSlot::new()], Arc::default())
}

#[test]
fn a_level_line_is_raised_again_while_an_interrupt_is_pending() {
    let irq = LevelIrq::unconnected().unwrap();
    let clone = irq.clone();
    irq.resample();
    assert!(irq.raise_event().read().is_err(), "nothing is pending");
    clone.assert();
    assert_eq!(irq.raise_event().read().unwrap(), 1);
    irq.resample_event().write(1).unwrap();
    irq.resample();
    assert_eq!(irq.raise_event().read().unwrap(), 1);
    assert!(irq.resample_event().read().is_err(), "it was read");
    clone.deassert();
    irq.resample();
    assert!(irq.raise_event().read().is_err());
}

#[test]
fn the_worker_of_a_device_resamples_its_line() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let device = HostedDevice::new(disk(VmMem::new(&memory))).unwrap();
    let irq = LevelIrq::unconnected().unwrap();
    irq.resample_by(&device).unwrap();
    irq.assert();
    assert_eq!(irq.raise_event().read().unwrap(), 1);
    irq.resample_event().write(1).unwrap();
    let start = Instant::now();
    while irq.raise_event().read().is_err() {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::yield_now();
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_loop_serves_the_exits_of_a_vcpu() {
    #[rustfmt::skip]
    let code = [
        0x66, 0xa1, 0x08, 0x01,       // mov eax, [0x108]: DeviceID
        0x66, 0xa3, 0x00, 0x08,       // mov [0x800], eax: no device
        0xa0, 0x00, 0x02,             // mov al, [0x200]: the first byte of the capacity
        0xa2, 0x00, 0x10,             // mov [0x1000], al: outside the range
        0xf4,                         // hlt
    ];
    let machine = machine(&code);
    let mut bus: Bus<Box<dyn Served>> = Bus::new();
    let device = disk(VmMem::new(&machine.memory));
    bus.attach(0x100..0x300, Box::new(device)).unwrap();
    let mut others = Vec::new();
    let mut source = VcpuAccesses::new(machine.vcpu, DEVICES..DEVICES + 0x1000, |exit| {
        Ok(match exit {
            VcpuExit::Hlt => ControlFlow::Break(()),
            VcpuExit::MmioWrite(address, data) => {
                others.push((address, data.to_vec()));
                ControlFlow::Continue(())
            }
            exit => return Err(io::Error::other(format!("{exit:?}"))),
        })
    });
    // A zero timeout does not run the guest.
    for _ in 0..3 {
        assert_eq!(source.wait(Some(Duration::ZERO)).unwrap(), Event::Woken);
    }
    assert_eq!(source.vcpu_mut().get_regs().unwrap().rip, CODE);
    let mut seen = Vec::new();
    let mut observer = OnAccess(|access, _| seen.push(access));
    serve(&mut bus, &mut source, &mut observer).unwrap();
    assert_eq!(source.wait(None).unwrap(), Event::End);
    let store = Access::Write {
        offset: 0x800,
        width: 4,
        value: 2,
    };
    let byte = Access::Read {
        offset: 0x200,
        width: 1,
    };
    assert_eq!(seen, [Access::read(0x108), store, byte]);
    drop(source);
    assert_eq!(others, [(DEVICES + 0x1000, vec![3])]);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_kick_of_a_queue_makes_no_exit_and_any_other_does() {
    #[rustfmt::skip]
    let code = [
        0x66, 0xb8, 0, 0, 0, 0,       // mov eax, 0
        0x66, 0xa3, 0x50, 0x00,       // mov [0x50], eax: kicks queue 0
        0x66, 0xb8, 1, 0, 0, 0,       // mov eax, 1
        0x66, 0xa3, 0x50, 0x00,       // mov [0x50], eax: kicks queue 1
        0x66, 0xb8, 2, 0, 0, 0,       // mov eax, 2
        0x66, 0xa3, 0x50, 0x00,       // mov [0x50], eax: there is no queue 2
        0xf4,                         // hlt
    ];
    let mut machine = machine(&code);
    let device = HostedDevice::new(disk(VmMem::new(&machine.memory))).unwrap();
    ioeventfds(&machine.vm, &device, DEVICES, 2).unwrap();
    assert!(ioeventfds(&machine.vm, &device, DEVICES, 1).is_err());
    remove_ioeventfds(&machine.vm, &device, DEVICES, 2).unwrap();
    assert!(remove_ioeventfds(&machine.vm, &device, DEVICES, 2).is_err());
    ioeventfds(&machine.vm, &device, DEVICES, 2).unwrap();
    assert!(ioeventfds(&machine.vm, &device, u64::MAX, 1).is_err());
    let mut exits = Vec::new();
    loop {
        match machine.vcpu.run().unwrap() {
            VcpuExit::MmioWrite(address, data) => exits.push((address, data.to_vec())),
            VcpuExit::Hlt => break,
            exit => panic!("{exit:?}"),
        }
    }
    assert_eq!(exits, [(DEVICES + 0x50, vec![2, 0, 0, 0])]);
    for queue in 0..2 {
        assert_eq!(device.kick(queue).unwrap().read().unwrap(), 1);
    }
}
