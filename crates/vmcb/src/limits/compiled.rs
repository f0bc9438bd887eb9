//! A virtual CPU compiled into what checking needs: masks, ranges and the set of enabled rules.
//!
//! Limits are data and travel with the VM. What is stored decides, not what the loading build would
//! make of the same CPU today: a rule, a CR4 bit or a vector that is learned later reaches only VMs
//! that ask for it by [`Limits::upgrade`], on any host and in either direction of a migration.

use super::accepted_events::{AcceptedEvents, GuestMode};
use super::policy::Policy;
use crate::cpu::bounds::Bounds;
use crate::cpu::virtual_cpu::Cpu;
use crate::defs::event::Event;
use crate::defs::known::Bits;
use crate::defs::register::{Cr4, Efer};
use crate::rules::predicate::pat_invalid;
use crate::rules::set::RuleSet;
use core::fmt;

/// A virtual CPU, compiled.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Limits, Policy};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let mut buffer = [0; Limits::ENCODED_MAX];
/// let bytes = limits.encode(&mut buffer);
/// assert_eq!(Limits::decode(bytes).unwrap(), limits);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    pub(super) policy: Policy,
    pub(crate) rules: RuleSet,
    pub(crate) bounds: Bounds,
    events: AcceptedEvents,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("cpu", &self.bounds.cpu)
            .field("policy", &self.policy)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Limits {
    /// What this build knows of such a CPU.
    #[must_use]
    pub fn compile(cpu: &Cpu, policy: Policy) -> Self {
        Self::assemble(policy, policy.rules(), Bounds::compile(cpu))
    }

    /// The same virtual CPU and policy with everything that this build knows: the explicit way to new
    /// verdicts.
    #[must_use]
    pub fn upgrade(&self) -> Self {
        Self::compile(&self.bounds.cpu, self.policy)
    }

    /// Fills in what follows from the rest.
    pub(super) fn assemble(policy: Policy, rules: RuleSet, bounds: Bounds) -> Self {
        let events = AcceptedEvents::of(&bounds, rules);
        Self { policy, rules, bounds, events }
    }

    /// Whether EVENTINJ may hold this for certain: yes or no, in a few instructions.
    ///
    /// `false` is also the answer where it is not decided; [`check_event`](crate::check_event) says which.
    #[must_use]
    #[inline(always)]
    pub const fn accepts_event(&self, event: Event, mode: GuestMode) -> bool {
        self.events.accept(event, mode)
    }

    /// Whether an address names a page of this CPU: 4 KiB aligned, and below 2^MAXPHYADDR. What VMRUN, VMLOAD and VMSAVE
    /// take in rAX, and VM_HSAVE_PA. Where the width is not known, what every AMD CPU takes.
    ///
    /// # Source
    /// Manual volume 2, 15.5.1, 15.5.2 and 15.30.4.
    #[must_use]
    #[inline(always)]
    pub const fn accepts_page_address(&self, address: u64) -> bool {
        address & 0xFFF == 0 && address >> self.bounds.phys_bits.lowest == 0
    }

    /// Whether every byte of a value for the PAT MSR is a memory type: what WRMSR takes, and G_PAT.
    ///
    /// # Source
    /// Manual volume 2, 7.8.1.
    #[must_use]
    pub const fn accepts_pat(&self, pat: u64) -> bool {
        !pat_invalid(Bits::known(pat), true)
    }

    /// The virtual CPU that they were made for.
    #[must_use]
    #[inline(always)]
    pub const fn cpu(&self) -> &Cpu {
        &self.bounds.cpu
    }

    /// The policy that they were made by.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// The rules that they enable.
    #[must_use]
    pub const fn rules(&self) -> RuleSet {
        self.rules
    }

    /// CR4 bits that every such CPU defines; one outside `cr4_maybe` too is legal on none.
    #[must_use]
    pub const fn cr4_always(&self) -> Cr4 {
        Cr4::from_bits(!self.bounds.cr4.possible)
    }

    /// CR4 bits that some such CPU defines.
    #[must_use]
    pub const fn cr4_maybe(&self) -> Cr4 {
        Cr4::from_bits(!self.bounds.cr4.certain)
    }

    /// EFER bits that every such CPU defines.
    #[must_use]
    pub const fn efer_always(&self) -> Efer {
        Efer::from_bits(!self.bounds.efer.possible)
    }

    /// EFER bits that some such CPU defines.
    #[must_use]
    pub const fn efer_maybe(&self) -> Efer {
        Efer::from_bits(!self.bounds.efer.certain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_types_of_pat() {
        let limits = Limits::compile(&Cpu::ANY, Policy::VirtualCpu);
        for byte in 0..=255_u64 {
            for place in 0..8 {
                let legal = matches!(byte, 0 | 1 | 4..=7);
                assert_eq!(
                    limits.accepts_pat(0x0007_0406_0007_0406 & !(0xFF << (8 * place)) | byte << (8 * place)),
                    legal
                );
            }
        }
    }
}
