//! The companions of VMRUN that L1 executes: VMLOAD, VMSAVE, STGI, CLGI, INVLPGA, SKINIT.

use crate::memory::Memory;
use crate::nested::{Fault, Nested, World};
use crate::page::Page;
use crate::shadow::Tables;
use crate::trace::Trace;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr0, Rflags};

/// The bytes of a VMCB that VMLOAD and VMSAVE handle: FS and GS; LDTR; TR; KernelGsBase and the SYSCALL and SYSENTER MSRs.
const VMLOAD_STATE: [core::ops::Range<usize>; 4] = [0x440..0x460, 0x470..0x480, 0x490..0x4A0, 0x600..0x640];

impl Nested {
    /// VMLOAD: FS, GS, TR, LDTR and the MSRs beside them, from the VMCB at rAX into VMCB01.
    ///
    /// # Errors
    /// The fault that it raises in L1. An address without memory gives #GP(0).
    #[inline]
    pub fn vmload<M: Memory, T: Tables, L: Trace>(
        &self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        let address = self.vmcb_address(world.vmcb01)?;
        world.memory.load(address, world.vmcb01, &VMLOAD_STATE).map_err(|_| Fault::GeneralProtection)
    }

    /// VMSAVE: the same registers, from VMCB01 into the VMCB at rAX.
    ///
    /// # Errors
    /// The fault that it raises in L1. An address without memory gives #GP(0).
    #[inline]
    pub fn vmsave<M: Memory, T: Tables, L: Trace>(
        &self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        let address = self.vmcb_address(world.vmcb01)?;
        world.memory.store(address, world.vmcb01, &VMLOAD_STATE).map_err(|_| Fault::GeneralProtection)
    }

    /// STGI: L1 takes interrupts again.
    ///
    /// # Errors
    /// The fault that it raises in L1.
    #[inline]
    pub fn stgi<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        self.may_execute(world.vmcb01)?;
        self.set_gif(world.vmcb01, true);
        Ok(())
    }

    /// CLGI: interrupts of L1 stay pending.
    ///
    /// # Errors
    /// The fault that it raises in L1.
    #[inline]
    pub fn clgi<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
    ) -> Result<(), Fault> {
        self.may_execute(world.vmcb01)?;
        self.set_gif(world.vmcb01, false);
        Ok(())
    }

    /// INVLPGA: forgets what was cached of an address space of L2. `asid` is ECX.
    ///
    /// # Errors
    /// The fault that it raises in L1.
    pub fn invlpga<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        asid: u32,
    ) -> Result<(), Fault> {
        self.may_execute(world.vmcb01)?;
        // The address is one of L2, whose nested translation is what may have changed: all of that ASID is forgotten.
        world.shadow.forget(asid);
        self.flush = true;
        Ok(())
    }

    /// SKINIT, which no virtual CPU of this engine has.
    ///
    /// # Errors
    /// Always #UD.
    pub const fn skinit(&self) -> Result<(), Fault> {
        Err(Fault::InvalidOpcode)
    }

    /// The checks that these instructions share: SVM on, protected mode, CPL 0.
    #[inline(always)]
    fn may_execute(&self, vmcb01: &Page) -> Result<(), Fault> {
        let view = vmcb01.vmcb();
        let protected = view.cr0().contains(Cr0::PE) & !view.rflags().contains(Rflags::VM);
        if !(self.svme & protected) {
            return Err(Fault::InvalidOpcode);
        }
        if vmcb01.get(f::cpl) != 0 { Err(Fault::GeneralProtection) } else { Ok(()) }
    }

    /// rAX as the address of a VMCB.
    #[inline(always)]
    fn vmcb_address(&self, vmcb01: &Page) -> Result<u64, Fault> {
        self.may_execute(vmcb01)?;
        let address = crate::vmrun::vmcb_address(vmcb01);
        if self.limits.accepts_page_address(address) { Ok(address) } else { Err(Fault::GeneralProtection) }
    }
}
