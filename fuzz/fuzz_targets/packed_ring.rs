#![no_main]
use virtside_fuzz_bodies::{FuzzRam, packed_ring};

static RAM: FuzzRam = FuzzRam::new();
libfuzzer_sys::fuzz_target!(|data: &[u8]| packed_ring(&RAM, data));
