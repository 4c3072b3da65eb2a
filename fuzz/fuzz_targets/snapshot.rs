#![no_main]
static RAM: virtside::testing::FuzzRam = virtside::testing::FuzzRam::new();
libfuzzer_sys::fuzz_target!(|data: &[u8]| virtside::testing::fuzz_snapshot(&RAM, data));
