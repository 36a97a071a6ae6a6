#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidegate_fuzz::host_names::run(data));
