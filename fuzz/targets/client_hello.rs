#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sidegate_fuzz::client_hello::run(data));
