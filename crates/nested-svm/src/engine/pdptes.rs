//! The page directory pointers of an L2 that uses PAE paging without nested paging.

use crate::l0::memory::Memory;
use crate::state::nested::Nested;
use crate::vmcb02::Enabled;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr0, Cr4, Efer};

impl Nested {
    /// Whether L2 uses PAE paging without nested paging.
    #[inline(always)]
    pub(crate) fn needs_pdptes(&self) -> bool {
        let vmcb12 = self.vmcb12.vmcb();
        vmcb12.cr0().contains(Cr0::PG)
            & vmcb12.cr4().contains(Cr4::PAE)
            & !vmcb12.efer().contains(Efer::LME)
            & !Enabled::new(self.offers, &self.vmcb12).nested_paging
    }

    /// The page directory pointers of an L2 that uses PAE paging.
    ///
    /// # Errors
    /// Their address, where L1 has no memory.
    #[cold]
    pub(super) fn read_pdptes<M: Memory>(&self, memory: &M) -> Result<[u64; 4], u64> {
        let at = self.pdptes();
        let mut entries = [0; 4];
        for (entry, offset) in entries.iter_mut().zip([0, 8, 16, 24]) {
            *entry = memory.read_u64(at + offset).map_err(|_| at)?;
        }
        Ok(entries)
    }

    /// Where the copy of VMCB12 has them.
    fn pdptes(&self) -> u64 {
        const TABLE: u64 = 0xFFFF_FFE0;
        self.vmcb12.get(f::cr3) & TABLE
    }

    /// Takes away what the hardware marked in the page directory pointers of an L2 that has just left.
    #[cold]
    #[inline(never)]
    pub(crate) fn unmark_pdptes<M: Memory>(&self, memory: &mut M) {
        const PRESENT: u64 = 1;
        const ACCESSED: u64 = 1 << 5;
        // By now the copy of VMCB12 has L2's state as it left.
        let Ok(entries) = self.read_pdptes(memory) else { return };
        let marked = PRESENT | ACCESSED;
        for (entry, at) in entries.into_iter().zip((self.pdptes()..).step_by(8)) {
            if entry & marked == marked {
                // Whoever writes it at the same time knows better, and memory that is gone needs nothing.
                let _ = memory.exchange(at, entry, entry & !ACCESSED);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::environment::FIXED;
    use vmcb::Rule;

    /// An L2 whose page directory pointers the engine does not read is one whose pointers no rule asks for: the engine
    /// answers for them then.
    #[test]
    fn pdptes_are_read_where_a_rule_asks() {
        let mut asked = 0;
        for cpu in [crate::model::CPU, "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,-npt"] {
            let mut nested = crate::model::nested(crate::model::limits(cpu));
            for bits in 0..16_u64 {
                let bit = |position: u64| bits >> position & 1;
                for (field, value) in [
                    (f::cr0, bit(0) << 31 | 1),
                    (f::cr4, bit(1) << 5),
                    (f::efer, bit(2) << 8 | 1 << 12),
                    (f::nested_ctl, bit(3)),
                ] {
                    nested.vmcb12.set(field, value);
                }
                let verdict = vmcb::check_out_of_line(nested.vmcb12.bytes(), &nested.limits, &FIXED);
                let undecided = verdict.undecided().contains(Rule::SavPdpteReserved);
                assert_eq!(nested.needs_pdptes(), undecided, "{cpu} {bits:04b}");
                asked += u32::from(undecided);
            }
        }
        assert_eq!(asked, 3, "PG, PAE, no LME: with nested paging, where the CPU has none, and without");
    }
}
