//! What a call of the engine works on.

use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::Trace;
use crate::shadow::pool::Shadow;
use crate::shadow::tables::Tables;
use crate::types::Guest;

/// What a call of the engine works on.
#[derive(Debug)]
pub struct World<'a, M: Memory, T: Tables, L: Trace> {
    /// The VMCB on which L0 runs L1. After each exit its VMLOAD state has been stored into it with VMSAVE.
    pub vmcb01: &'a mut Page,
    /// The VMCB on which L0 runs L2, likewise. It was zero when the VM was made, and only hardware and engine write it.
    pub vmcb02: &'a mut Page,
    /// L1's physical memory.
    pub memory: &'a mut M,
    /// The shadow of L1's nested page tables.
    pub shadow: &'a mut Shadow<T>,
    /// Who is told what happens.
    pub trace: &'a mut L,
    /// ECX of the guest that exited, which RDMSR and WRMSR name their MSR by. VMRUN does not switch it.
    pub rcx: u32,
}

impl<M: Memory, T: Tables, L: Trace> World<'_, M, T, L> {
    /// The VMCB on which a guest runs.
    #[inline(always)]
    pub(crate) const fn page(&mut self, guest: Guest) -> &mut Page {
        match guest {
            Guest::L1 => self.vmcb01,
            Guest::L2 => self.vmcb02,
        }
    }

    /// The same once more, for calls out of line: what never leaves the caller's registers costs nothing.
    #[inline(always)]
    pub(crate) const fn lend(&mut self) -> World<'_, M, T, L> {
        World {
            vmcb01: self.vmcb01,
            vmcb02: self.vmcb02,
            memory: self.memory,
            shadow: self.shadow,
            trace: self.trace,
            rcx: self.rcx,
        }
    }
}
