//! Feeds `expression`; what it does and checks stands in `src`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dormouse_fuzz::expression(data));
