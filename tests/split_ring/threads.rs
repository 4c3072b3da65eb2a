//! A driver and a device on two threads.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering, fence};

use virtside::{Features, Step, testing::Buffer};
use virtside_tests::{BASE, DATA, SIZE, TestRam, rings::RecordingRig};

/// Chains that the driver sends: enough to wrap the indices.
const CHAINS: u32 = 80_000;

/// A 16-bit field of a ring, little-endian.
struct Field(&'static AtomicU16);

impl Field {
    fn new(ram: TestRam, addr: u64) -> Self {
        let offset = (addr - BASE) as usize;
        assert_eq!(offset % 2, 0);
        // SAFETY: the offset is inside the memory, which is page-aligned, leaked, and only reached
        // through raw pointers and atomics.
        Self(unsafe { ram.as_ptr().add(offset).cast::<AtomicU16>().as_ref() })
    }
    fn load(&self, order: Ordering) -> u16 {
        u16::from_le(self.0.load(order))
    }
    fn store(&self, value: u16, order: Ordering) {
        self.0.store(value.to_le(), order);
    }
}

/// The driver waits only for used elements and the device only for kicks: a torn index, an element
/// published after its index, or a lost kick would stop them for good.
fn run(features: Features) {
    let mut rig = RecordingRig::new(features);
    let event_idx = features.contains(Features::EVENT_IDX);
    let (ram, layout) = (rig.ram, *rig.driver.layout());
    let shared = rig.engine.device().shared().clone();
    let done = AtomicBool::new(false);
    let mut driver = rig.driver.clone();
    std::thread::scope(|scope| {
        let (done, shared) = (&done, &shared);
        let device = scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                if rig.engine.poll(7) == Step::Idle {
                    // Sleeps until a kick.
                    while shared.doorbell().is_silent() && !done.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                        std::thread::yield_now();
                    }
                }
                rig.engine.model_mut().seen.clear();
            }
            rig
        });
        let avail_idx = Field::new(ram, layout.driver + 2);
        let used_idx = Field::new(ram, layout.device + 2);
        let used_flags = Field::new(ram, layout.device);
        let avail_event = Field::new(ram, layout.device + 4 + 8 * u64::from(SIZE));
        let mut free: Vec<u16> = (0..SIZE).collect();
        let (mut sent, mut back, mut kicks) = (0u32, 0u32, 0u32);
        while back < CHAINS {
            let old = avail_idx.load(Ordering::Relaxed);
            let batch = free
                .len()
                .min(1 + sent as usize % 5)
                .min((CHAINS - sent) as usize);
            for head in free.drain(..batch) {
                let addr = DATA + 64 * u64::from(head);
                driver.write_chain(head, &[Buffer::writable(addr, 1 + u32::from(head))]);
                driver.offer(head);
                sent += 1;
            }
            avail_idx.store(old.wrapping_add(batch as u16), Ordering::Release);
            fence(Ordering::SeqCst);
            let wanted = if event_idx {
                avail_event.load(Ordering::Relaxed).wrapping_sub(old) < batch as u16
            } else {
                used_flags.load(Ordering::Relaxed) == 0
            };
            if wanted && batch > 0 {
                kicks += 1;
                shared.doorbell().ring(0);
            }
            let mut patience = 200_000_000u64;
            while used_idx.load(Ordering::Acquire) == back as u16 && back < sent {
                patience -= 1;
                assert!(patience > 0, "chain {back} of {sent} never came back");
                std::hint::spin_loop();
                std::thread::yield_now();
            }
            while used_idx.load(Ordering::Acquire) != back as u16 {
                let (head, len) = driver.used_entry(back as u16);
                assert!(
                    head < SIZE.into() && len == head + 1,
                    "an element was published too early"
                );
                assert!(
                    !free.contains(&(head as u16)),
                    "head {head} came back twice"
                );
                free.push(head as u16);
                back += 1;
            }
        }
        done.store(true, Ordering::Release);
        let rig = device.join().expect("the device runs to the end");
        assert_eq!(rig.fault(), None);
        assert_eq!(rig.engine.counters().chains, CHAINS);
        assert!(kicks > 0);
    });
}

#[test]
fn two_threads_lose_no_wake_up_and_tear_nothing() {
    run(Features::empty());
}

#[test]
fn two_threads_with_event_idx_lose_no_wake_up() {
    run(Features::EVENT_IDX);
}
