//! Explains why VMRUN refuses a VMCB.
fn main() {}
