//! What the rulebook says of a case on the CPU that the payload saw.

use crate::case::{Case, Set};
use crate::protocol::{case_flag, memory};
use vmcb::layout::vmcb_field as field;
use vmcb::{
    Answer, Cpu, CpuidEntry, Environment, Host, Input, KnownPage, Limits, Outcome, Phase, Policy, Verdict,
    check_out_of_line, judge,
};

/// The limits of a CPU described by what its CPUID said in the payload.
#[must_use]
pub fn limits(cpuid: &[CpuidEntry]) -> Limits {
    Limits::compile(&Cpu::from_cpuid(cpuid), Policy::VirtualCpu)
}

/// The verdict on the VMCB that VMRUN reads, in the environment that the payload makes.
///
/// Where rAX is not the address of our VMCB, VMRUN reads another page, of which nothing is known.
pub fn expected(set: &Set, case: &Case, limits: &Limits) -> Verdict {
    let page = set.page(case);
    let environment = environment(set, case);
    if case.rax == memory::VMCB {
        check_out_of_line(&page, limits, &environment)
    } else {
        judge(&KnownPage::nothing(), Phase::Before, limits, &environment)
    }
}

/// How VMRUN refuses by this verdict; nothing where it does not refuse.
///
/// A fault comes before the VMCB is read, #UD before #GP(0); of other outcomes the manual states no order.
#[must_use]
pub fn refusal(verdict: &Verdict) -> Option<Outcome> {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::InvalidOpcode => 0,
        Outcome::GeneralProtection => 1,
        _ => 2,
    };
    verdict.broken().iter().map(|rule| rule.row().outcome).min_by_key(rank)
}

/// A 64-bit host at CPL 0 that has enabled SVM and nothing else.
#[must_use]
pub fn environment(set: &Set, case: &Case) -> Environment<'static> {
    let page = set.page(case);
    let flags = set.flags(case);
    let answer = |flag: u16| if flags & flag != 0 { Answer::Yes } else { Answer::No };
    let off = Host::MEM_ENCRYPTION
        .union(Host::SNP_ENABLED)
        .union(Host::IBS_FETCH)
        .union(Host::IBS_OP)
        .union(Input::Rmp.facts());
    let mut environment = Environment::real_host()
        .with(off, Answer::No)
        .with(Host::HSAVE_PA_ZERO, answer(case_flag::HSAVE_ZERO))
        .with_vmcb_address(case.rax)
        .with_u_cet(0);
    if flags & case_flag::SVME_OFF != 0 {
        environment = environment.with(Host::SVME, Answer::No);
    }
    let mut cr3 = [0; 8];
    for (byte, from) in cr3.iter_mut().zip(page.iter().skip(usize::from(field::cr3.offset))) {
        *byte = *from;
    }
    match pdptes(u64::from_le_bytes(cr3), set.tables(case)) {
        Some(entries) => environment.with_pdptes(entries),
        None => environment,
    }
}

/// The four quadwords at CR3\[31:5\], where it is known what stands there: in the page of the top-level table, whose
/// other entries are zero.
fn pdptes(cr3: u64, tables: [u64; 4]) -> Option<[u64; 4]> {
    let address = cr3 & 0xFFFF_FFE0;
    match address.checked_sub(memory::CR3)? {
        0 => Some(tables),
        1..0x1000 => Some([0; 4]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pdptes_are_those_that_cr3_names() {
        let tables = [1, 2, 3, 4];
        assert_eq!(pdptes(0x3000, tables), Some(tables));
        assert_eq!(pdptes(0xFFFF_FFFF_0000_301F, tables), Some(tables));
        assert_eq!(pdptes(0x3020, tables), Some([0; 4]));
        assert_eq!(pdptes(0x3FE0, tables), Some([0; 4]));
        assert_eq!(pdptes(0x4000, tables), None);
        assert_eq!(pdptes(0x2FE0, tables), None);
    }
}
