//! Feeds `lock_note`; what it does and checks stands in `src`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dormouse_fuzz::lock_note(data));
