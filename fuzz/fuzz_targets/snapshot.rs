#![no_main]
use virtside_fuzz_bodies::{FuzzRam, snapshot};

static RAM: FuzzRam = FuzzRam::new();
libfuzzer_sys::fuzz_target!(|data: &[u8]| snapshot(&RAM, data));
