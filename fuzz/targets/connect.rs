#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidegate_fuzz::connect::run(data));
