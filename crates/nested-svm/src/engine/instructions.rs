//! The instructions around VMRUN: VMLOAD, VMSAVE, STGI, CLGI, INVLPGA, SKINIT.
//!
//! VMCB02 intercepts them all, as VMCB01 does. Where L1 does not, L2 executes them on L1's virtual CPU: its rAX is a
//! physical address of that CPU, which no nested table translates, as on hardware without virtual VMLOAD and VMSAVE.
//! So each of these calls is for whichever guest runs.

use super::checks::vmcb_address;
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::Trace;
use crate::shadow::tables::Tables;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Fault, Flush, Guest};
use vmcb::IntCtl;
use vmcb::layout::vmcb_field as f;

/// The bytes of a VMCB that VMLOAD and VMSAVE handle: FS and GS; LDTR; TR; KernelGsBase and the SYSCALL and SYSENTER MSRs.
pub(super) const VMLOAD_STATE: [core::ops::Range<usize>; 4] =
    [f::fs.through(f::gs), f::ldtr.bytes(), f::tr.bytes(), f::star.through(f::sysenter_eip)];

impl Nested {
    /// VMLOAD: FS, GS, TR, LDTR and the MSRs beside them, from the VMCB at rAX into the page of the guest.
    ///
    /// # Errors
    /// The fault that it raises. An address without memory gives #GP(0).
    #[inline]
    pub fn vmload<M: Memory, T: Tables, L: Trace>(
        &self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        let page = match self.state.guest {
            Guest::L1 => &mut *world.vmcb01,
            Guest::L2 => &mut *world.vmcb02,
        };
        let address = self.vmcb_address(page)?;
        world.memory.load(address, page, &VMLOAD_STATE).map_err(|_| Fault::GeneralProtection)
    }

    /// VMSAVE: the same registers, from the page of the guest into the VMCB at rAX.
    ///
    /// # Errors
    /// The fault that it raises. An address without memory gives #GP(0).
    #[inline]
    pub fn vmsave<M: Memory, T: Tables, L: Trace>(
        &self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        let page = match self.state.guest {
            Guest::L1 => &*world.vmcb01,
            Guest::L2 => &*world.vmcb02,
        };
        let address = self.vmcb_address(page)?;
        world.memory.store(address, page, &VMLOAD_STATE).map_err(|_| Fault::GeneralProtection)
    }

    /// STGI: the guest takes interrupts again.
    ///
    /// # Errors
    /// The fault that it raises.
    #[inline]
    pub fn stgi<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        self.write_gif(world, true)
    }

    /// CLGI: interrupts stay pending.
    ///
    /// # Errors
    /// The fault that it raises.
    #[inline]
    pub fn clgi<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        self.write_gif(world, false)
    }

    #[inline(always)]
    fn write_gif<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        gif: bool,
    ) -> Result<(), Fault> {
        let guest = self.state.guest;
        let page = world.page(guest);
        self.may_execute(page)?;
        if guest == Guest::L2 && page.vmcb().int_ctl().contains(IntCtl::VGIF_ENABLE) {
            page.set_bits(f::int_ctl, IntCtl::VGIF.bits(), if gif { IntCtl::VGIF.bits() } else { 0 });
        } else {
            self.set_gif(page, gif);
        }
        Ok(())
    }

    /// INVLPGA: forgets what was cached of an address space of L2, or for ASID 0 of L1's own. `asid` is ECX.
    ///
    /// # Errors
    /// The fault that it raises.
    pub fn invlpga<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        asid: u32,
    ) -> Result<(), Fault> {
        let guest = self.state.guest;
        self.may_execute(world.page(guest))?;
        if asid == 0 {
            self.state.flush_l1 = Flush::Asid;
            return Ok(());
        }
        // The address is one of L2, whose nested translation is what may have changed: all of that ASID is forgotten.
        match guest {
            Guest::L1 => {
                world.shadow.forget(asid);
                self.flush_l2(world.vmcb02, Flush::Asid);
            }
            Guest::L2 => self.forget(world),
        }
        Ok(())
    }

    /// SKINIT, which no virtual CPU of this engine has.
    ///
    /// # Errors
    /// Always #UD.
    pub const fn skinit(&self) -> Result<(), Fault> {
        Err(Fault::InvalidOpcode)
    }

    /// rAX as the address of a VMCB.
    #[inline(always)]
    fn vmcb_address(&self, page: &Page) -> Result<u64, Fault> {
        self.may_execute(page)?;
        let address = vmcb_address(page);
        if self.limits.accepts_page_address(address) { Ok(address) } else { Err(Fault::GeneralProtection) }
    }
}
