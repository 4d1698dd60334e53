#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| refunction_fuzz::fdinfo(input));
