//! An L1 that writes anything into its VMCB, its tables and its maps, and an L2 that does anything.
#![no_main]
libfuzzer_sys::fuzz_target!(|case: nsvm_fuzz::nested::Attack| {
    nsvm_fuzz::nested::vmrun(&case);
});
