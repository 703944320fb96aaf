//! Feeds `log_payload`; what it does and checks stands in `src`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dormouse_fuzz::log_payload(data));
