#![no_main]
use virtside_fuzz_bodies::vhost_user;

libfuzzer_sys::fuzz_target!(|data: &[u8]| vhost_user(data));
