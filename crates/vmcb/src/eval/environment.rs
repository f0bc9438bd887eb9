//! What the rules read that is not in the VMCB: the executing CPU, memory, the VMSA, the RMP.

use crate::defs::known::{Bits, KnownPage};
use crate::defs::layout::PAGE_SIZE;
use crate::defs::register::Host;
use crate::defs::set::{set_of, set_operations};
use crate::defs::word::Word;

/// What is known of one fact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// It is not known.
    Unknown,
    /// The caller checks what depends on it: no rule is broken by it and none is undecided for it.
    TakenOver,
}

/// A page that may be complete, partly known, unknown, or the caller's own business.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Vmsa<'a> {
    /// Not known; also what cannot be decrypted.
    #[default]
    Unknown,
    /// The caller checks every rule that reads it.
    TakenOver,
    /// All of it, decrypted.
    Page(&'a [u8; PAGE_SIZE]),
    /// Some of it, decrypted.
    Known(&'a KnownPage),
}

/// An input that a caller may take over as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum Input {
    /// Mode of the executing CPU: SVME, PE, PG, VM, CPL, 64-bit mode, SMM.
    HostMode,
    /// MSRs of the host: VM_HSAVE_PA, HWCR, SYSCFG, IBS.
    HostMsrs,
    /// rAX of VMRUN.
    VmcbAddress,
    /// Guest memory: the four PDPTEs of legacy PAE paging.
    Pdptes,
    /// MSR 6A0h, U_CET.
    UCet,
    /// The VMSA of SEV-ES guests.
    Vmsa,
    /// The RMP table, and whether the VMSA loads.
    Rmp,
    /// The sibling thread's state.
    SiblingThread,
}

impl Input {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::HostMode,
        Self::HostMsrs,
        Self::VmcbAddress,
        Self::Pdptes,
        Self::UCet,
        Self::Vmsa,
        Self::Rmp,
        Self::SiblingThread,
    ];

    /// The facts of [`Host`] that belong to it.
    #[must_use]
    pub const fn facts(self) -> Host {
        match self {
            Self::HostMode => Host::SVME
                .union(Host::PE)
                .union(Host::VM)
                .union(Host::CPL0)
                .union(Host::CPL1)
                .union(Host::PG)
                .union(Host::LONG64)
                .union(Host::SMM),
            Self::HostMsrs => Host::HSAVE_PA_ZERO
                .union(Host::SMMLOCK)
                .union(Host::MEM_ENCRYPTION)
                .union(Host::SNP_ENABLED)
                .union(Host::IBS_FETCH)
                .union(Host::IBS_OP),
            Self::Rmp => Host::VMCB_NOT_HYPERVISOR_OWNED
                .union(Host::VMSA_NOT_HYPERVISOR_OWNED)
                .union(Host::VMSA_RMP_CHECK_FAILS)
                .union(Host::AVIC_PAGE_NOT_HYPERVISOR_OWNED)
                .union(Host::VMSA_LOAD_FAILS),
            Self::SiblingThread => Host::SIBLING_ACTIVE,
            Self::VmcbAddress | Self::Pdptes | Self::UCet | Self::Vmsa => Host::from_bits(0),
        }
    }
}

/// A set of inputs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Inputs(u8);

set_operations!(Inputs, "inputs");
set_of!(Inputs, Input);

impl Inputs {
    /// The set of this one input.
    #[must_use]
    pub const fn only(input: Input) -> Self {
        Self::EMPTY.with(input)
    }

    /// The set with this input too.
    #[must_use]
    pub const fn with(self, input: Input) -> Self {
        Self(self.0 | 1 << input as u8)
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, input: Input) -> bool {
        self.0 >> input as u8 & 1 == 1
    }

    /// The inputs.
    pub fn iter(self) -> impl Iterator<Item = Input> {
        Input::ALL.iter().copied().filter(move |&input| self.contains(input))
    }
}

impl core::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What the caller of [`admit`](crate::admit) answers for himself, as a type.
pub trait TakesOver {
    /// The inputs.
    const INPUTS: Inputs;
}

/// The caller answers for nothing.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {}

impl TakesOver for Nothing {
    const INPUTS: Inputs = Inputs::EMPTY;
}

/// What the rules read that is not in the VMCB. Each item is given, unknown, or taken over.
///
/// # Examples
/// ```
/// use vmcb::{Answer, Environment, Host, Input};
/// // A nested hypervisor has raised its #UD and #GP(0) already and reads PDPTEs itself.
/// let environment = Environment::unknown()
///     .take_over(Input::HostMode)
///     .take_over(Input::VmcbAddress)
///     .take_over(Input::Pdptes)
///     .with(Host::SNP_ENABLED, Answer::No);
/// assert!(environment.taken_over().contains(Input::Pdptes));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    pub(crate) host: Bits,
    pub(crate) vmcb_address: Bits,
    pub(crate) pdptes: [Bits; 4],
    pub(crate) u_cet: Bits,
    pub(crate) vmsa: Vmsa<'a>,
    taken_over: Inputs,
}

impl Default for Environment<'_> {
    /// [`Environment::unknown`].
    fn default() -> Self {
        Self::unknown()
    }
}

impl<'a> Environment<'a> {
    /// Nothing is known.
    #[must_use]
    pub const fn unknown() -> Self {
        Self {
            host: Bits::UNKNOWN,
            vmcb_address: Bits::UNKNOWN,
            pdptes: [Bits::UNKNOWN; 4],
            u_cet: Bits::UNKNOWN,
            vmsa: Vmsa::Unknown,
            taken_over: Inputs::EMPTY,
        }
    }

    /// What holds where a real hypervisor executes VMRUN: SVM enabled, 64-bit mode, paging on, CPL 0,
    /// outside SMM. The rest is unknown.
    #[must_use]
    pub const fn real_host() -> Self {
        let yes = Host::SVME.union(Host::PE).union(Host::PG).union(Host::LONG64).bits();
        Self { host: Bits::partly(yes, Input::HostMode.facts().bits()), ..Self::unknown() }
    }

    /// The caller answers for this input himself, by name.
    #[must_use]
    pub const fn take_over(mut self, input: Input) -> Self {
        self.taken_over = self.taken_over.with(input);
        self.host = self.host.with(input.facts().bits(), Bits::TAKEN_OVER);
        match input {
            Input::VmcbAddress => self.vmcb_address = Bits::TAKEN_OVER,
            Input::Pdptes => self.pdptes = [Bits::TAKEN_OVER; 4],
            Input::UCet => self.u_cet = Bits::TAKEN_OVER,
            Input::Vmsa => self.vmsa = Vmsa::TakenOver,
            Input::HostMode | Input::HostMsrs | Input::Rmp | Input::SiblingThread => {}
        }
        self
    }

    /// What the caller has taken over.
    #[must_use]
    pub const fn taken_over(&self) -> Inputs {
        self.taken_over
    }

    /// States these facts about the host. Those of an input that was taken over stay taken over.
    #[must_use]
    pub const fn with(mut self, facts: Host, answer: Answer) -> Self {
        let bits = match answer {
            Answer::Yes => Bits::known(u64::MAX),
            Answer::No => Bits::known(0),
            Answer::Unknown => Bits::UNKNOWN,
            Answer::TakenOver => Bits::TAKEN_OVER,
        };
        self.host = self.host.with(facts.bits() & (self.host.may_set() | self.host.may_clear()), bits);
        if matches!(answer, Answer::TakenOver) {
            // By name: whoever takes over one fact of an input answers for that input.
            let mut index = 0;
            while index < Input::ALL.len() {
                if Input::ALL[index].facts().bits() & facts.bits() != 0 {
                    self.taken_over = self.taken_over.with(Input::ALL[index]);
                }
                index += 1;
            }
        }
        self
    }

    /// States rAX of VMRUN, a physical address. The caller no longer takes it over.
    #[must_use]
    pub const fn with_vmcb_address(mut self, address: u64) -> Self {
        self.vmcb_address = Bits::known(address);
        self.taken_over = self.taken_over.difference(Inputs::only(Input::VmcbAddress));
        self
    }

    /// Copies the facts about the host, and rAX, from another environment: what differs from one VMRUN to the next.
    #[inline(always)]
    pub const fn update(&mut self, from: &Self) {
        const COPIED: Inputs = Inputs::only(Input::HostMode)
            .with(Input::HostMsrs)
            .with(Input::VmcbAddress)
            .with(Input::Rmp)
            .with(Input::SiblingThread);
        self.host = from.host;
        self.vmcb_address = from.vmcb_address;
        self.taken_over = self.taken_over.difference(COPIED).union(from.taken_over.intersection(COPIED));
    }

    /// States the four entries at CR3\[31:5\]. The caller no longer takes them over.
    #[must_use]
    pub const fn with_pdptes(mut self, entries: [u64; 4]) -> Self {
        let [a, b, c, d] = entries;
        self.pdptes = [Bits::known(a), Bits::known(b), Bits::known(c), Bits::known(d)];
        self.taken_over = self.taken_over.difference(Inputs::only(Input::Pdptes));
        self
    }

    /// States MSR 6A0h of the executing CPU. The caller no longer takes it over.
    #[must_use]
    pub const fn with_u_cet(mut self, value: u64) -> Self {
        self.u_cet = Bits::known(value);
        self.taken_over = self.taken_over.difference(Inputs::only(Input::UCet));
        self
    }

    /// States the VMSA. With [`Vmsa::TakenOver`], the caller takes it over, else no longer.
    #[must_use]
    pub const fn with_vmsa(mut self, vmsa: Vmsa<'a>) -> Self {
        let vmsa_only = Inputs::only(Input::Vmsa);
        self.taken_over = match vmsa {
            Vmsa::TakenOver => self.taken_over.union(vmsa_only),
            Vmsa::Unknown | Vmsa::Page(_) | Vmsa::Known(_) => self.taken_over.difference(vmsa_only),
        };
        self.vmsa = vmsa;
        self
    }

    /// Returns the environment in which exactly these inputs are taken over. Another input that was taken over is
    /// unknown.
    pub(crate) fn with_taken_over(&self, inputs: Inputs) -> Self {
        let mut environment = *self;
        for input in self.taken_over.difference(inputs).iter() {
            environment.host = environment.host.with(input.facts().bits(), Bits::UNKNOWN);
            match input {
                Input::VmcbAddress => environment.vmcb_address = Bits::UNKNOWN,
                Input::Pdptes => environment.pdptes = [Bits::UNKNOWN; 4],
                Input::UCet => environment.u_cet = Bits::UNKNOWN,
                Input::Vmsa => environment.vmsa = Vmsa::Unknown,
                Input::HostMode | Input::HostMsrs | Input::Rmp | Input::SiblingThread => {}
            }
        }
        environment.taken_over = Inputs::EMPTY;
        inputs.iter().fold(environment, Self::take_over)
    }

    /// The same, where these inputs are taken over: constants, if `inputs` is one.
    #[inline(always)]
    pub(crate) fn bits_beside(&self, word: Word, inputs: Inputs) -> Bits {
        let taken = |input: Input| if inputs.contains(input) { input.facts().bits() } else { 0 };
        let whole = match word {
            Word::Host => {
                let facts = taken(Input::HostMode)
                    | taken(Input::HostMsrs)
                    | taken(Input::Rmp)
                    | taken(Input::SiblingThread);
                return self.host.with(facts, Bits::TAKEN_OVER);
            }
            Word::VmcbAddress => Input::VmcbAddress,
            Word::Pdpte0 | Word::Pdpte1 | Word::Pdpte2 | Word::Pdpte3 => Input::Pdptes,
            Word::UCet => Input::UCet,
            _ => return self.bits(word),
        };
        if inputs.contains(whole) { Bits::TAKEN_OVER } else { self.bits(word) }
    }

    /// What is known of a word that only the environment has.
    #[inline(always)]
    pub(crate) fn bits(&self, word: Word) -> Bits {
        match word {
            Word::Host => self.host,
            Word::VmcbAddress => self.vmcb_address,
            Word::Pdpte0 => self.pdptes[0],
            Word::Pdpte1 => self.pdptes[1],
            Word::Pdpte2 => self.pdptes[2],
            Word::Pdpte3 => self.pdptes[3],
            Word::UCet => self.u_cet,
            _ => Bits::UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stated after it was taken over is no longer taken over.
    #[test]
    fn the_last_statement_counts() {
        let taken = Input::ALL.iter().copied().fold(Environment::unknown(), Environment::take_over);
        let page = [0; PAGE_SIZE];
        for (input, stated) in [
            (Input::VmcbAddress, taken.with_vmcb_address(0x1000)),
            (Input::Pdptes, taken.with_pdptes([1; 4])),
            (Input::UCet, taken.with_u_cet(0)),
            (Input::Vmsa, taken.with_vmsa(Vmsa::Page(&page))),
        ] {
            assert_eq!(stated.taken_over(), taken.taken_over() - Inputs::only(input));
            assert!(stated.take_over(input).taken_over().contains(input));
        }
        let mut updated = taken;
        updated.update(&Environment::real_host());
        assert!(updated.taken_over().iter().eq([Input::Pdptes, Input::UCet, Input::Vmsa]));
    }

    #[test]
    fn what_a_type_does_not_take_over_is_unknown() {
        let taken = Input::ALL.iter().copied().fold(Environment::unknown(), Environment::take_over);
        for &input in Input::ALL {
            let one = Inputs::only(input);
            let found = taken.with_taken_over(one);
            assert_eq!(found.taken_over(), one);
            let nothing = found.with_taken_over(Inputs::EMPTY);
            assert_eq!((nothing.host, nothing.vmcb_address), (Bits::UNKNOWN, Bits::UNKNOWN), "{input:?}");
            assert_eq!((nothing.pdptes, nothing.u_cet), ([Bits::UNKNOWN; 4], Bits::UNKNOWN), "{input:?}");
            assert!(matches!(nothing.vmsa, Vmsa::Unknown), "{input:?}");
        }
    }

    /// Whatever way a fact is taken over, the input is named: `Checked` relies on it.
    #[test]
    fn what_is_taken_over_is_named() {
        for position in 0..64 {
            let fact = Host::from_bits(1 << position);
            let environment = Environment::unknown().with(fact, Answer::TakenOver);
            let belongs = Input::ALL.iter().copied().filter(|input| input.facts().bits() & fact.bits() != 0);
            let named = belongs.fold(Inputs::EMPTY, Inputs::with);
            assert_eq!(environment.taken_over(), named);
            let has_name = Host::NAMES.iter().any(|&(bit, _, _)| bit == position);
            assert_eq!(named != Inputs::EMPTY, has_name, "each fact belongs to an input: bit {position}");
        }
        let vmsa = Environment::unknown().with_vmsa(Vmsa::TakenOver);
        assert!(vmsa.taken_over().contains(Input::Vmsa));
        for &input in Input::ALL {
            assert!(Environment::unknown().take_over(input).taken_over().contains(input));
        }
    }
}
