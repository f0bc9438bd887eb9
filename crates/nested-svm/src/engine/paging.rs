//! The nested page tables that L2 runs on, and addresses of L2.

use crate::l0::memory::Memory;
use crate::l0::trace::Trace;
use crate::shadow::tables::Tables;
use crate::shadow::walk::Cpu;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Flush, Guest};
use vmcb::layout::vmcb_field as f;

impl Nested {
    /// Drops the shadow of L1's nested tables and demands a flush. An L0 calls it after it took memory away from L1, moved
    /// it on the host, or reduced its access rights.
    pub fn forget<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        world.shadow.renew();
        self.new_root(world);
    }

    /// Translates a guest physical address of L2 to a physical address of L1 with L1's current nested tables. Returns
    /// `None` if a read would fault or if L1 runs. Changes nothing, so that L0 can use it to fetch L2's instruction
    /// bytes.
    pub fn address_of_l2<M: Memory, T: Tables, L: Trace>(
        &self,
        world: &mut World<'_, M, T, L>,
        address: u64,
    ) -> Option<u64> {
        if self.state.guest == Guest::L1 {
            None
        } else if self.state.enabled.nested_paging {
            world.shadow.look(world.memory, self.cpu(), address)
        } else {
            Some(address)
        }
    }

    pub(super) const fn cpu(&self) -> Cpu<'_> {
        Cpu { limits: &self.limits, gib_pages: self.host.gib_pages }
    }

    /// Sets N_CR3 of a running L2: the shadow's root, or L0's tables for L1 if L1 does not use nested paging. Demands a
    /// flush in any case.
    pub(super) fn new_root<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        if self.state.guest == Guest::L2 {
            let own = world.vmcb01.get(f::n_cr3);
            let root = if self.state.enabled.nested_paging { world.shadow.root() } else { Some(own) };
            world.vmcb02.set(f::n_cr3, root.unwrap_or(own));
        }
        self.flush_l2(world.vmcb02, Flush::Asid);
    }
}
