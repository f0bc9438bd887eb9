//! What the engine tells L0, so that L0 can tell the author of L1.

use super::page::Page;
use vmcb::{ExitCode, Verdict};

/// Why a VMRUN of L1 did not enter L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The rules: which are broken, and which cannot be decided.
    Rules(Verdict),
    /// VMCB12's address is valid but unbacked. It reads as all ones, so VMRUN is refused, and the exit code cannot be
    /// stored.
    NoVmcb,
    /// VMCB01 does not enable nested paging, which the engine needs to run L2. This is a bug in L0.
    NoNestedPaging,
    /// L2 uses PAE paging, and its page directory pointers have no memory: their address.
    NoPdptes(u64),
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Traced<'a> {
    /// VMRUN of L1 was refused: the physical address that L1 gave, why, and VMCB12 as it was read (zeros where it was
    /// not).
    Refused {
        /// rAX of VMRUN, a physical address of L1.
        address: u64,
        /// Why.
        reason: Refusal,
        /// The copy that was judged.
        vmcb12: &'a Page,
    },
    /// VMCB12 was accepted, and the hardware refused VMCB02: either the engine or the virtual CPU is wrong.
    HostRefused {
        /// Its code.
        code: ExitCode,
        /// What it refused.
        vmcb02: &'a Page,
        /// By the rules of the host's CPU, as far as the engine knows it.
        verdict: Verdict,
    },
    /// L2 is entered for the first time after a VMRUN of L1.
    Entered {
        /// rAX of VMRUN, a physical address of L1.
        address: u64,
    },
    /// An exit of L2 was handed to L1.
    Reflected {
        /// Its code.
        code: ExitCode,
    },
}

/// Takes what happened. `()` forgets it.
pub trait Trace {
    /// Called while the engine works: it must not wait for anything.
    fn trace(&mut self, happened: Traced<'_>);
}

impl Trace for () {
    #[inline(always)]
    fn trace(&mut self, _: Traced<'_>) {}
}
