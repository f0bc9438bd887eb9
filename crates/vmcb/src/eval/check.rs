//! The check of a complete VMCB: straight-line where it accepts.
//!
//! Each row becomes code of its own: the conditions are constants, so the compiler sees a load, a mask and
//! a compare for each. The pass asks only whether some rule *may* be broken; where none may, that is the
//! answer. Naming what is broken is the judge's work, out of line.

use super::environment::{Environment, Inputs, Nothing, TakesOver};
use super::judge::View;
use super::verdict::Verdict;
use crate::cpu::bounds::Bounds;
use crate::cpu::feature::Feature;
use crate::defs::bytes::read_le;
use crate::defs::event::Event;
use crate::defs::known::Bits;
use crate::defs::layout::{Field, PAGE_SIZE, vmcb_field};
use crate::defs::register::{Cr0, CsAttributes, Mode, NestedCtl};
use crate::defs::word::{Source, Word};
use crate::limits::accepted_events::GuestMode;
use crate::limits::compiled::Limits;
use crate::rules::literal::Literal;
use crate::rules::mode::mode;
use crate::rules::set::{ON_EVENT, needs_sev};
use crate::rules::state::{CBit, State};
use crate::rules::table::{MAX_LITERALS, ROWS, Rule, for_each_rule};
use core::marker::PhantomData;

/// A complete page of a guest that has neither SEV nor SEV-ES on. What `T` says of the environment is taken over: a
/// constant, that nobody loads.
struct Plain<'a, T> {
    page: &'a [u8; PAGE_SIZE],
    limits: &'a Limits,
    environment: &'a Environment<'a>,
    /// What is derived; unknown while it is being derived.
    mode: Bits,
    taken_over: PhantomData<T>,
}

impl<'a, T: TakesOver> Plain<'a, T> {
    #[inline(always)]
    fn new(page: &'a [u8; PAGE_SIZE], limits: &'a Limits, environment: &'a Environment<'a>) -> Self {
        let underived = Self { page, limits, environment, mode: Bits::UNKNOWN, taken_over: PhantomData };
        let mode = mode(&underived);
        Self { mode, ..underived }
    }
}

impl<T: TakesOver> State for Plain<'_, T> {
    #[inline(always)]
    fn bits(&self, word: Word) -> Bits {
        match word.source() {
            Source::Control(field) | Source::Save(field) => {
                Bits::known(read_le(self.page, field.offset, field.size))
            }
            Source::Cpu => self.limits.cpu().features,
            Source::Derived => self.mode,
            Source::Environment | Source::Vmsa(_) => self.environment.bits_beside(word, T::INPUTS),
        }
    }

    #[inline(always)]
    fn bounds(&self) -> &Bounds {
        &self.limits.bounds
    }

    #[inline(always)]
    fn c_bit(&self) -> CBit {
        // The pass that accepts leaves it in the address; the judge knows better.
        CBit { certain: 0, possible: self.limits.bounds.c_bit }
    }
}

/// Whether a rule that is not about SEV may be broken.
#[inline(always)]
fn some_rule_may_be_broken<T: TakesOver>(state: &Plain<'_, T>) -> bool {
    let event = Event::from_bits(read_le(state.page, EVENTINJ.offset, EVENTINJ.size));
    let mut some = !state.limits.accepts_event(event, guest_mode(state));
    macro_rules! ask {
        ($rule:expr) => {
            // The rules about events have a table of their own; those about SEV guests cannot be broken.
            if const { !ON_EVENT.contains(Rule::ALL[$rule]) && !needs_sev($rule) } {
                some |= may_be_broken::<{ $rule }, T>(state);
            }
        };
    }
    for_each_rule!(ask);
    some
}

const EVENTINJ: Field = vmcb_field::eventinj;

/// Whether all conditions of a rule may hold.
// Not `inline(always)`: the compiler then simplifies each rule before it puts them together. With all rules in one piece
// from the start it needs a minute for each copy of the check. The literals are in reverse because the check is 7
// instructions shorter that way.
#[inline]
fn may_be_broken<const RULE: usize, T: TakesOver>(state: &Plain<'_, T>) -> bool {
    const { assert!(MAX_LITERALS == 5) };
    literal_may_hold::<RULE, 4, T>(state)
        & literal_may_hold::<RULE, 3, T>(state)
        & literal_may_hold::<RULE, 2, T>(state)
        & literal_may_hold::<RULE, 1, T>(state)
        & literal_may_hold::<RULE, 0, T>(state)
}

#[inline(always)]
fn literal_may_hold<const RULE: usize, const INDEX: usize, T: TakesOver>(state: &Plain<'_, T>) -> bool {
    match const { literal(RULE, INDEX) } {
        Some(literal) => literal.may_be(state, true),
        None => true,
    }
}

const fn literal(rule: usize, index: usize) -> Option<Literal> {
    if index < ROWS[rule].when.len() { Some(ROWS[rule].when[index]) } else { None }
}

/// The mode that VMRUN takes the guest of this page to be in.
#[inline(always)]
fn guest_mode<T: TakesOver>(state: &Plain<'_, T>) -> GuestMode {
    let long = state.bits(Word::Mode).only(Mode::LONG.bits());
    let paging = state.bits(Word::Cr0).only(Cr0::PG.bits());
    let l = state.bits(Word::CsAttributes).only(CsAttributes::L.bits());
    // Where long mode is not known, 64-bit mode accepts less.
    GuestMode::in_64_bit_mode(long.may_set() & paging.may_set() & l.may_set() != 0)
}

/// Which rules a complete VMCB breaks, as VMRUN would read it now.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Decision, Environment, Limits, Policy, Rule};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let verdict = vmcb::check(&[0; 4096], &limits, &Environment::real_host());
/// assert_eq!(verdict.decision(), Decision::Refused);
/// let broken: Vec<_> = verdict.broken().iter().map(Rule::id).collect();
/// assert_eq!(broken, ["ctl-vmrun-intercept-clear", "ctl-asid-zero", "sav-efer-svme-clear"]);
/// ```
#[inline]
pub fn check(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    if passes::<Nothing>(vmcb, limits, environment) {
        Verdict::ACCEPTED
    } else {
        name(vmcb, limits, environment)
    }
}

/// Does the same as [`check`], but is compiled once, in this crate.
///
/// `check` is inlined into each caller, with all rules. Use this function if a call per VMCB does not matter: programs
/// become smaller and compile faster.
#[inline(never)]
pub fn check_out_of_line(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    check(vmcb, limits, environment)
}

/// [`check`] where exactly the inputs of `T` are taken over, whatever `environment` takes over.
#[inline(always)]
pub(super) fn check_for<T: TakesOver>(
    vmcb: &[u8; PAGE_SIZE],
    limits: &Limits,
    environment: &Environment<'_>,
) -> Verdict {
    // Inputs of a constant type cost nothing. Other inputs that are taken over are unknown, which is rare.
    if T::INPUTS.contains_all(environment.taken_over()) && passes::<T>(vmcb, limits, environment) {
        Verdict::ACCEPTED
    } else {
        name_for(vmcb, limits, environment, T::INPUTS)
    }
}

/// Whether no rule can be broken: the pass that accepts.
#[inline(always)]
fn passes<T: TakesOver>(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> bool {
    const ENCRYPTED: u64 = NestedCtl::SEV.union(NestedCtl::SEV_ES).bits();
    let state = Plain::<T>::new(vmcb, limits, environment);
    let may_encrypt = limits.cpu().features.may_set() & (Feature::Sev.mask() | Feature::SevEs.mask()) != 0;
    let encrypted = state.bits(Word::NestedCtl).value() & ENCRYPTED != 0;
    !(some_rule_may_be_broken(&state) | may_encrypt & encrypted)
}

#[cold]
#[inline(never)]
fn name(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    View::complete(vmcb, limits, environment).judge()
}

#[cold]
#[inline(never)]
fn name_for(
    vmcb: &[u8; PAGE_SIZE],
    limits: &Limits,
    environment: &Environment<'_>,
    taken_over: Inputs,
) -> Verdict {
    name(vmcb, limits, &environment.with_taken_over(taken_over))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::virtual_cpu::Cpu;
    use crate::defs::layout::vmcb_field as field;
    use crate::eval::environment::Input;
    use crate::limits::policy::Policy;

    /// A page with these fields; the control fields that every guest needs are there.
    fn page(fields: &[(Field, u64)]) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        let needed = [(field::intercept_misc2, 1), (field::guest_asid, 1), (field::efer, 0x1000)];
        for &(field, value) in needed.iter().chain(fields) {
            let (start, size) = (usize::from(field.offset), usize::from(field.size).min(8));
            page[start..start + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
        page
    }

    /// Legal VMCBs pass without the judge. (That he would accept them too is what hides a pass that
    /// suspects too much from every other test but the instruction counts.)
    #[test]
    fn legal_pages_pass_without_the_judge() {
        const LONG: [(Field, u64); 4] =
            [(field::efer, 0x1500), (field::cr0, 0x8001_0011), (field::cr4, 0x20), (field::cs, 0x029b_0000)];
        const BR: (Field, u64) = (field::eventinj, 0x8000_0305);
        let cpu = Cpu::parse("EPYC-Genoa,+shstk,+avic,+x2avic,-lmsle-unsupported,phys-bits=52").unwrap();
        let limits = Limits::compile(&cpu, Policy::VirtualCpu);
        let environment = [Input::HostMsrs, Input::VmcbAddress]
            .into_iter()
            .fold(Environment::real_host(), Environment::take_over)
            .with_pdptes([1; 4])
            .with_u_cet(1);
        let passing = |fields: &[_]| passes::<Nothing>(&page(fields), &limits, &environment);
        let long = |more: &[_]| passing(&[&LONG[..], more].concat());
        assert!(passing(&[]));
        assert!(long(&[]));
        assert!(long(&[
            (field::nested_ctl, 1),
            (field::g_pat, 0x0007_0406_0007_0406),
            (field::n_cr3, 0x1000)
        ]));
        assert!(long(&[(field::eventinj, 0x8000_0b0e)]));
        assert!(long(&[(field::cr4, 0x80_0020), (field::s_cet, 3)]));
        assert!(passing(&[(field::cr0, 0x8000_0011), (field::cr4, 0x20), (field::cr3, 0x1000)]));
        let avic = [(field::int_ctl, 0xC000_0000), (field::avic_physical_table, 0x1FF)];
        assert!(long(&[(field::nested_ctl, 1), avic[0], avic[1]]));
        // Only all three make 64-bit mode, which has no BOUND.
        for absent in [(field::efer, 0x1000), (field::cr0, 0x11), (field::cs, 0x049b_0000)] {
            let cr4 = (field::cr4, 0x20);
            assert!(long(&[absent, cr4, BR]), "{absent:?}");
        }
        assert!(!long(&[BR]) && !passing(&[(field::guest_asid, 0)]));
    }
}
