//! Any bytes through the scan of traces and logs.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nsvm_fuzz::scan(bytes));
