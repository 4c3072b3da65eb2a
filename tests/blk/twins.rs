//! The same hostile requests on a split and on a packed ring have the same outcome, and nothing is
//! written outside the buffers that the driver gave.

use virtside::{
    Features, FlatMem,
    models::{Block, BlockOptions},
    testing::{Buffer, FakeDriver, PackedDriver, Registers},
};
use virtside_tests::{BASE, DATA, Guest, SIZE, TestRam, config, driver, guest, rings::settle};

use super::support::*;

/// Bytes behind [`DATA`] that requests use.
const ROOM: usize = 0x2000;
/// Requests for each set of features.
const ROUNDS: u32 = 120;
/// Where indirect tables lie: behind them.
const TABLE: u64 = DATA + 0x4000;

enum Ring {
    Split(FakeDriver<FlatMem>),
    Packed(PackedDriver<FlatMem>),
}

struct Twin {
    guest: Guest<Block<Disk>>,
    ram: TestRam,
    packed: bool,
    wanted: Features,
    ring: Ring,
}

impl Twin {
    fn new(packed: bool, wanted: Features) -> Self {
        let (guest, ram) = guest(
            Block::new(Disk::new(), BlockOptions::new(SIZE).with_id("twin")),
            4,
        );
        let guest = guest.offering(virtside::Offer::AS_IS.with(Features::RING_PACKED | wanted));
        let ring = Ring::Split(driver(ram, 0));
        let mut twin = Self {
            guest,
            ram,
            packed,
            wanted,
            ring,
        };
        twin.start();
        twin
    }

    fn start(&mut self) {
        let mem = self.ram.flat(BASE);
        let (ring, config, format) = if self.packed {
            let ring = PackedDriver::new(mem, BASE, SIZE);
            let config = ring.config(0);
            (Ring::Packed(ring), config, Features::RING_PACKED)
        } else {
            (
                Ring::Split(driver(self.ram, 0)),
                config(0),
                Features::empty(),
            )
        };
        self.ring = ring;
        let wanted = self.wanted | Features::VERSION_1 | format;
        let features = self.guest.offered().intersection(wanted);
        assert!(self.guest.bring_up(features, &[config]));
    }

    fn data(&self) -> Vec<u8> {
        let mut bytes = vec![0; ROOM];
        self.ram.read((DATA - BASE) as usize, &mut bytes);
        bytes
    }

    fn set_data(&self, bytes: &[u8]) {
        self.ram.write((DATA - BASE) as usize, bytes);
    }

    /// The used length, or `None` if the driver was found at fault; then the device is reset.
    fn send(&mut self, buffers: &[Buffer], indirect: bool) -> Option<u32> {
        let slots = if indirect { 1 } else { buffers.len() as u16 };
        match &mut self.ring {
            Ring::Split(ring) if indirect => {
                ring.write_indirect(0, TABLE, buffers);
                ring.offer(0);
                ring.publish();
            }
            Ring::Split(ring) => ring.send(0, buffers),
            Ring::Packed(ring) if indirect => ring.send_indirect(0, TABLE, buffers, 0),
            Ring::Packed(ring) => ring.send(0, buffers),
        }
        let _ = self.guest.kick(0);
        settle(&mut self.guest);
        let used = match &mut self.ring {
            Ring::Split(ring) => ring.take_used().map(|(_, len)| len),
            // Without WRITE the length means nothing.
            Ring::Packed(ring) => ring
                .take_used(slots)
                .map(|(_, len, write)| if write { len } else { 0 }),
        };
        let fault = self.guest.driver_fault(0);
        assert_eq!(used.is_some(), fault.is_none(), "{fault:?}");
        if fault.is_some() {
            self.start();
        }
        used
    }
}

#[test]
fn hostile_requests_come_to_the_same_on_both_rings() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % below
    };
    let (mut answered, mut at_fault, mut fine) = (0, 0, 0);
    for round in 0..8 {
        let mut wanted = all() | Features::IN_ORDER;
        for (bit, feature) in [
            (1, Features::EVENT_IDX),
            (2, Features::INDIRECT_DESC),
            (4, Features::IN_ORDER),
        ] {
            if round & bit == 0 {
                wanted = wanted.difference(feature);
            }
        }
        let mut twins = [Twin::new(false, wanted), Twin::new(true, wanted)];
        for _ in 0..ROUNDS {
            let mut bytes = vec![0xa5; ROOM];
            let kind = [
                T_IN,
                T_OUT,
                T_FLUSH,
                T_GET_ID,
                T_DISCARD,
                T_WRITE_ZEROES,
                99,
            ][next(7) as usize];
            let sector = [next(70), u64::MAX - next(3)][usize::from(next(9) == 0)];
            bytes[..4].copy_from_slice(&kind.to_le_bytes());
            bytes[8..16].copy_from_slice(&sector.to_le_bytes());
            let ranges: Vec<u8> = (0..3)
                .flat_map(|_| range(next(66), next(9) as u32, next(3) as u32))
                .collect();
            bytes[0x1000..][..48].copy_from_slice(&ranges);

            let header = [16, 16, 16, next(20)][next(4) as usize] as u32;
            let cut_at = next(u64::from(header) + 1) as u32;
            let mut buffers = vec![
                Buffer::readable(DATA, cut_at),
                Buffer::readable(DATA + u64::from(cut_at), header - cut_at),
            ];
            for _ in 0..next(4) {
                let len = [0, 16, 32, 512, 1024, next(1300)][next(6) as usize] as u32;
                let at = DATA + 0x1000 + [0, next(64)][next(2) as usize];
                let writable = match next(12) {
                    0 => kind != T_IN && kind != T_GET_ID,
                    _ => kind == T_IN || kind == T_GET_ID,
                };
                let at = [at, u64::MAX - next(600)][usize::from(next(40) == 0)];
                buffers.push(Buffer {
                    addr: at,
                    len,
                    writable,
                });
            }
            if next(10) != 0 {
                buffers.push(Buffer::writable(DATA + 0x800, next(3) as u32));
            }
            let indirect = next(3) == 0;

            let outcomes = twins.each_mut().map(|twin| {
                twin.set_data(&bytes);
                let used = twin.send(&buffers, indirect);
                let disk = twin.guest.model_mut().backend_mut();
                let calls = std::mem::take(&mut disk.calls);
                (used, calls, disk.ram.bytes().to_vec(), twin.data())
            });
            let [split, packed] = &outcomes;
            assert!(
                split == packed,
                "{buffers:?} {indirect}: {:?} {:?}",
                split.0,
                packed.0
            );
            for (at, (was, is)) in bytes.iter().zip(&split.3).enumerate() {
                let addr = DATA + at as u64;
                let given = buffers.iter().any(|buffer| {
                    buffer.writable
                        && addr >= buffer.addr
                        && addr - buffer.addr < u64::from(buffer.len)
                });
                assert!(was == is || given, "{addr:#x} was written by {buffers:?}");
            }
            match split.0 {
                Some(_) => answered += 1,
                None => at_fault += 1,
            }
            fine += u32::from(split.0.is_some() && split.3[0x800] == S_OK);
        }
    }
    // Not all of one kind, or the comparison would say little.
    assert!(fine > 30 && answered > fine && at_fault > 30);
}
