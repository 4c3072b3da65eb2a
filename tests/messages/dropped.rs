//! A queue that its check refuses only at DRIVER_OK, under a policy that continues without the
//! queue.

use std::{cell::Cell, sync::Arc};

use virtside::{
    ChainSlot, DeviceBuilder, Features, Refusal, Shared, device::QueueState, error::FaultPolicy,
    interrupt::CountingNotify, mmio::Access, queue::QueueCheckFn, testing::Registers,
};
use virtside_std::{MmioMessages, config_builder_from_stream};
use virtside_tests::{BASE, N, Q, probe::Probe, ram, reg};

use super::{
    queue,
    scripted::{Recorder, Script},
};

#[test]
fn its_queue_ready_reads_0() {
    for policy in [FaultPolicy::Reject, FaultPolicy::StopQueue] {
        let script = Script::default();
        let mut recorder = Recorder(Vec::new());
        let _ = recorder.bring_up(Features::VERSION_1, &[queue(8, 0x200, 0x300)]);
        script.extend(recorder.0);
        let line: &CountingNotify = Box::leak(Box::default());
        let shared = Arc::new(Shared::<Q>::new());
        let builder = DeviceBuilder::new(Arc::clone(&shared))
            .with_policy(policy)
            .map_notify(|()| Ok(line))
            .expect("an interrupt");
        let mut messages =
            MmioMessages::new(script.clone(), Probe::default(), line, shared, N as u16)
                .with_policy(policy);
        // The check is called first for QueueReady, then for DRIVER_OK.
        let calls = Cell::new(0);
        let check = QueueCheckFn(|queue: u16, _: &mut dyn Iterator<Item = u16>| {
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                Ok(())
            } else {
                Err(Refusal::QueueCheck { queue })
            }
        });
        let (device, responder) = config_builder_from_stream::<_, _, _, _, _, Q, N>(
            builder,
            &mut messages,
            &check,
            ram().flat(BASE),
        )
        .expect("a device without the queue");
        assert!(responder.accept());
        let mut device = messages.start(device, [ChainSlot::<N>::new()]);
        let _ = script.replies();
        script.extend([
            Access::write(reg::QUEUE_SEL, 0),
            Access::read(reg::QUEUE_READY),
        ]);
        device.run(&mut ()).expect("no access fails");
        assert_eq!(script.replies().last(), Some(&0), "{policy:?}");
        assert_eq!(device.engine().queue_state(0), QueueState::Off);
    }
}
