#![no_main]
use virtside_fuzz_bodies::{FuzzRam, split_ring};

static RAM: FuzzRam = FuzzRam::new();
libfuzzer_sys::fuzz_target!(|data: &[u8]| split_ring(&RAM, data));
