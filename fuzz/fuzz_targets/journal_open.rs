//! Feeds `journal_open`; what it does and checks stands in `src`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dormouse_fuzz::journal_open(data));
