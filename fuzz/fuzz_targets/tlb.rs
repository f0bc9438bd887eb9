//! Several VMs on one CPU with a TLB: every access and every event is checked.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    nsvm_fuzz::tlb::trial(bytes);
});
