#![no_main]
use virtside_fuzz_bodies::{FuzzRam, shifting};

static RAM: FuzzRam = FuzzRam::new();
libfuzzer_sys::fuzz_target!(|data: &[u8]| shifting(&RAM, data));
