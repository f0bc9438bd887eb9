//! The proof that a VMCB was checked.

use super::check::check_for;
use super::environment::{Environment, Inputs, Nothing, TakesOver};
use super::verdict::Verdict;
use crate::defs::layout::PAGE_SIZE;
use crate::limits::compiled::Limits;
use core::marker::PhantomData;

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

/// Checks a VMCB and returns the proof.
///
/// The page must be a private copy: a page that a guest can still write proves nothing.
///
/// `T` alone decides what the caller takes over. Those inputs are not read. An input that only `environment` takes over
/// counts as unknown, so a rule that reads it is undecided.
///
/// # Errors
/// Returns the verdict if a rule is broken or undecided.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Environment, Input, Inputs, Limits, Policy, TakesOver};
/// /// Our engine raises VMRUN's own faults and reads the PDPTEs itself.
/// enum Engine {}
/// impl TakesOver for Engine {
///     const INPUTS: Inputs = Inputs::only(Input::HostMode)
///         .with(Input::VmcbAddress).with(Input::Pdptes).with(Input::UCet);
/// }
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let environment = Environment::unknown();
/// let mut page = [0; 4096];
/// assert!(vmcb::admit::<Engine>(&page, &limits, &environment).is_err());
/// page[0x10] = 1; // intercept VMRUN
/// page[0x58] = 1; // ASID
/// page[0x4D1] = 0x10; // EFER.SVME
/// assert!(vmcb::admit::<Engine>(&page, &limits, &environment).is_ok());
/// // A caller that takes over nothing must state the executing CPU.
/// assert!(vmcb::admit::<vmcb::Nothing>(&page, &limits, &environment).is_err());
/// let environment = Environment::real_host().with_vmcb_address(0x1000);
/// assert!(vmcb::admit::<vmcb::Nothing>(&page, &limits, &environment).is_ok());
/// ```
#[inline]
pub fn admit<'a, T: TakesOver>(
    vmcb: &'a [u8; PAGE_SIZE],
    limits: &Limits,
    environment: &Environment<'_>,
) -> Result<Checked<'a, T>, Verdict> {
    let verdict = check_for::<T>(vmcb, limits, environment);
    if verdict.is_accepted() { Ok(Checked { vmcb, taken_over: PhantomData }) } else { Err(verdict) }
}
