//! Saved nested state of which anything was changed.
#![no_main]
libfuzzer_sys::fuzz_target!(|case: nsvm_fuzz::nested::Stored| nsvm_fuzz::nested::load(&case));
