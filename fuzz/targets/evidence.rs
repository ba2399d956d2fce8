//! libFuzzer's way into `fuzz::evidence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::evidence(data));
