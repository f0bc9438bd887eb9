//! A VMCB, a CPU and an environment of which anything may be unknown.
#![no_main]
libfuzzer_sys::fuzz_target!(|case: nsvm_fuzz::Case| nsvm_fuzz::judge(&case));
