//! Any bytes through all readers, and what is found through the judgement.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nsvm_fuzz::readers(bytes));
