//! The check of a complete VMCB: straight-line where it accepts.
//!
//! Each row becomes code of its own: the conditions are constants, so the compiler sees a load, a mask and
//! a compare for each. The pass asks only whether some rule *may* be broken; where none may, that is the
//! answer. Naming what is broken is the judge's work, out of line.

use crate::environment::{Environment, Inputs};
use crate::event::Event;
use crate::feature::Feature;
use crate::injection::GuestMode;
use crate::judge::{View, read_le};
use crate::known::Bits;
use crate::layout::PAGE_SIZE;
use crate::limits::Limits;
use crate::literal::{CBit, Literal, State, mode};
use crate::register::{Cr0, CsAttributes, Mode, NestedCtl};
use crate::rules::{MAX_LITERALS, ON_EVENT, ROWS, Rule, for_each_rule, needs_sev};
use crate::verdict::Verdict;
use crate::word::{Source, Word};
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
    fn limits(&self) -> &Limits {
        self.limits
    }

    #[inline(always)]
    fn c_bit(&self) -> CBit {
        // The pass that accepts leaves it in the address; the judge knows better.
        CBit { certain: 0, possible: self.limits.c_bit }
    }
}

/// Whether a rule that is not about SEV may be broken.
#[inline(always)]
fn some_rule_may_be_broken<T: TakesOver>(state: &Plain<'_, T>) -> bool {
    let mut some = false;
    let event = Event::from_bits(read_le(state.page, EVENTINJ.offset, EVENTINJ.size));
    macro_rules! ask {
        ($rule:expr) => {
            // The rules about events have a table of their own; those about SEV guests cannot be broken.
            if const { !ON_EVENT.contains(Rule::ALL[$rule]) && !needs_sev($rule) } {
                some |= may_be_broken::<{ $rule }, T>(state);
            }
        };
    }
    for_each_rule!(ask);
    some | !state.limits.accepts_event(event, guest_mode(state))
}

const EVENTINJ: crate::layout::Field = crate::layout::vmcb_field::eventinj;

/// Whether all conditions of a rule may hold.
// Unoptimised, each inlined rule keeps its temporaries on the stack for the whole pass: megabytes.
#[cfg_attr(not(debug_assertions), inline(always))]
fn may_be_broken<const RULE: usize, T: TakesOver>(state: &Plain<'_, T>) -> bool {
    const { assert!(MAX_LITERALS == 5) };
    literal_may_hold::<RULE, 0, T>(state)
        & literal_may_hold::<RULE, 1, T>(state)
        & literal_may_hold::<RULE, 2, T>(state)
        & literal_may_hold::<RULE, 3, T>(state)
        & literal_may_hold::<RULE, 4, T>(state)
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
    check_beside::<Nothing>(vmcb, limits, environment)
}

/// [`check`] out of line, where time does not matter.
#[cold]
#[inline(never)]
fn check_all(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    check(vmcb, limits, environment)
}

/// [`check`] where `environment` takes over what `T` says, if not more.
#[inline(always)]
fn check_beside<T: TakesOver>(
    vmcb: &[u8; PAGE_SIZE],
    limits: &Limits,
    environment: &Environment<'_>,
) -> Verdict {
    if passes::<T>(vmcb, limits, environment) { Verdict::ACCEPTED } else { name(vmcb, limits, environment) }
}

/// Whether no rule can be broken: the pass that accepts.
#[inline(always)]
fn passes<T: TakesOver>(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> bool {
    const ENCRYPTED: u64 = NestedCtl::SEV.union(NestedCtl::SEV_ES).bits();
    let state = Plain::<T>::new(vmcb, limits, environment);
    let may_encrypt = limits.cpu().features.may_set() & (Feature::Sev.mask() | Feature::SevEs.mask()) != 0;
    let encrypted = state.bits(Word::NestedCtl).value() & ENCRYPTED != 0;
    !(may_encrypt & encrypted | some_rule_may_be_broken(&state))
}

#[cold]
#[inline(never)]
fn name(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    View::complete(vmcb, limits, environment).judge()
}

/// What the caller of [`admit`] answers for himself, as a type.
pub trait TakesOver {
    /// The inputs.
    const INPUTS: Inputs;
}

/// The caller answers for nothing.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {}

impl TakesOver for Nothing {
    const INPUTS: Inputs = Inputs::NONE;
}

/// A VMCB in which no rule is broken and none undecided, but for what `T` says that the caller took over.
///
/// Only [`admit`] makes one:
///
/// ```compile_fail,E0451
/// let page = [0; 4096];
/// let forged = vmcb::Checked::<vmcb::Nothing> { vmcb: &page, taken_over: core::marker::PhantomData };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a, T: TakesOver = Nothing> {
    vmcb: &'a [u8; PAGE_SIZE],
    taken_over: PhantomData<T>,
}

impl<'a, T: TakesOver> Checked<'a, T> {
    /// The page.
    #[must_use]
    pub const fn page(&self) -> &'a [u8; PAGE_SIZE] {
        self.vmcb
    }

    /// What the caller answers for.
    #[must_use]
    pub const fn taken_over(&self) -> Inputs {
        T::INPUTS
    }
}

/// [`check`], and the proof of it.
///
/// The page must be a private copy: one that a guest can still write proves nothing. Where `environment` takes over
/// what `T` says, no more and no less, nothing of those inputs is looked at.
///
/// # Errors
/// The verdict, when a rule is broken or undecided, or when `environment` takes over more than `T` says.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Environment, Input, Inputs, Limits, Policy, TakesOver};
/// /// Our engine raises VMRUN's own faults and reads the PDPTEs itself.
/// enum Engine {}
/// impl TakesOver for Engine {
///     const INPUTS: Inputs = Inputs::NONE
///         .with(Input::HostMode).with(Input::VmcbAddress).with(Input::Pdptes).with(Input::UCet);
/// }
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let environment = Engine::INPUTS.iter().fold(Environment::unknown(), |e, input| e.take_over(input));
/// let mut page = [0; 4096];
/// assert!(vmcb::admit::<Engine>(&page, &limits, &environment).is_err());
/// page[0x10] = 1; // intercept VMRUN
/// page[0x58] = 1; // ASID
/// page[0x4D1] = 0x10; // EFER.SVME
/// assert!(vmcb::admit::<Engine>(&page, &limits, &environment).is_ok());
/// ```
#[inline]
pub fn admit<'a, T: TakesOver>(
    vmcb: &'a [u8; PAGE_SIZE],
    limits: &Limits,
    environment: &Environment<'_>,
) -> Result<Checked<'a, T>, Verdict> {
    // What is known at compile time to be taken over costs nothing.
    let exactly = environment.taken_over() == T::INPUTS;
    let verdict = if exactly {
        check_beside::<T>(vmcb, limits, environment)
    } else {
        check_all(vmcb, limits, environment)
    };
    if verdict.is_accepted() && (exactly || T::INPUTS.contains_all(environment.taken_over())) {
        Ok(Checked { vmcb, taken_over: PhantomData })
    } else {
        Err(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::environment::Input;
    use crate::layout::vmcb_field as field;
    use crate::limits::Policy;

    /// A page with these fields; the control fields that every guest needs are there.
    fn page(fields: &[(crate::layout::Field, u64)]) -> [u8; PAGE_SIZE] {
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
        const LONG: [(crate::layout::Field, u64); 4] =
            [(field::efer, 0x1500), (field::cr0, 0x8001_0011), (field::cr4, 0x20), (field::cs, 0x029b_0000)];
        const BR: (crate::layout::Field, u64) = (field::eventinj, 0x8000_0305);
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
