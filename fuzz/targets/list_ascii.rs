//! libFuzzer's way into `fuzz::list_ascii`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::list_ascii(data));
