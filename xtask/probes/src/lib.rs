//! Functions whose machine code and instruction counts are checked.
//!
//! Each function is one path of `vmcb` or `nested-svm` as a hypervisor calls it. `cargo xtask house assembly` reads their
//! machine code, and `benches/instructions.rs` counts the instructions that they execute.

pub mod nested;

use vmcb::{
    Cpu, Environment, Event, GuestMode, Input, KnownPage, Limits, Policy, Verdict,
    layout::{Field, vmcb_field as field},
};

/// A whole check of a plain guest's VMCB. Kept out of line so that its code can be found.
#[inline(never)]
#[must_use]
pub fn probe_check(vmcb: &[u8; 4096], limits: &Limits, environment: &Environment<'_>) -> bool {
    vmcb::check(vmcb, limits, environment).is_accepted()
}

/// The yes or no to one event.
#[inline(never)]
#[must_use]
pub fn probe_event(event: Event, mode: GuestMode, limits: &Limits) -> bool {
    limits.accepts_event(event, mode)
}

/// Judges a page that is known in part. This is not a hot path; the count is for the record.
#[inline(never)]
pub fn probe_judge(vmcb: &KnownPage, limits: &Limits, environment: &Environment<'_>) -> Verdict {
    vmcb::judge(vmcb, vmcb::Phase::Before, limits, environment)
}

/// A virtual CPU from its name to its limits: once for a VM.
#[inline(never)]
#[must_use]
pub fn probe_compile() -> Limits {
    limits()
}

/// A legal 64-bit guest with nested paging and a page fault to inject: every group of rules is looked at
/// but those of SEV.
#[must_use]
pub fn legal_vmcb() -> [u8; 4096] {
    let mut page = [0; 4096];
    let mut put = |field: Field, value: u64| {
        let start = usize::from(field.offset);
        let size = usize::from(field.size).min(8);
        page[start..start + size].copy_from_slice(&value.to_le_bytes()[..size]);
    };
    put(field::intercept_misc2, 1);
    put(field::guest_asid, 1);
    put(field::iopm_base_pa, 0x1_0000);
    put(field::msrpm_base_pa, 0x2_0000);
    put(field::nested_ctl, 1);
    put(field::n_cr3, 0x3_0000);
    put(field::eventinj, 0x8000_0b0e);
    put(field::cs, 0x029b_0000);
    put(field::efer, 0x1500);
    put(field::cr4, 0x20);
    put(field::cr3, 0x4_0000);
    put(field::cr0, 0x8000_0011);
    put(field::dr7, 0x400);
    put(field::dr6, 0xffff_0ff0);
    put(field::rflags, 2);
    put(field::g_pat, 0x0007_0406_0007_0406);
    page
}

/// The virtual CPU of the measurements.
///
/// # Panics
/// Never: the model exists.
#[must_use]
pub fn limits() -> Limits {
    let cpu = Cpu::parse("EPYC-Milan-v3,phys-bits=48").expect("a model that exists");
    Limits::compile(&cpu, Policy::VirtualCpu)
}

/// A nested hypervisor that raises VMRUN's faults itself.
#[must_use]
pub fn environment() -> Environment<'static> {
    [Input::HostMsrs, Input::VmcbAddress].into_iter().fold(Environment::real_host(), Environment::take_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_accepted() {
        assert!(probe_check(&legal_vmcb(), &limits(), &environment()));
        let event = Event::from_bits(0x8000_0b0e);
        assert!(probe_event(event, GuestMode::BITS_64, &limits()));
    }
}

/// The README's example compiles and holds.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
