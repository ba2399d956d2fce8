//! libFuzzer's way into `fuzz::list_binary`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::list_binary(data));
