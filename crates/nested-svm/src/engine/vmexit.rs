//! #VMEXIT as L1 sees it: what it writes into VMCB12 and into L1's state.

use crate::events::codes::DB;
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::{Trace, Traced};
use crate::shadow::tables::Tables;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Flush, Guest};
use crate::vmcb02;
use vmcb::layout::vmcb_field as f;
use vmcb::{Dr6, Event, EventType, ExitCode, Feature, Rflags, VirtExt};

impl Nested {
    /// Reflects to L1 an exit that L0 found instead of the one that the hardware reported, for example an exception
    /// that L0 raises in L2. Does nothing if L2 does not run.
    pub fn reflect<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
        info: [u64; 2],
    ) {
        if self.state.guest == Guest::L2 {
            self.close_window(world.vmcb02);
            self.flush_l1_too();
            // EXITINTINFO reports an undelivered event of EVENTINJ, unless it is an interrupt or NMI of L0.
            let event = self.undelivered(world.vmcb02.vmcb().eventinj());
            self.end_l2(world, code, info, event);
        }
    }

    #[inline(always)]
    pub(super) fn hand_over<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
        info: [u64; 2],
    ) {
        let interrupted = world.vmcb02.vmcb().exitintinfo();
        self.end_l2(world, code, info, interrupted);
    }

    /// #VMEXIT: VMCB12 as the manual says, L1's state from VMCB01.
    #[inline(always)]
    pub(super) fn end_l2<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
        info: [u64; 2],
        interrupted: Event,
    ) {
        let interrupted = self.reported(world.vmcb02, interrupted);
        let image = &mut self.vmcb12;
        vmcb02::store_running(image, world.vmcb02, self.state.enabled, self.state.shared_tpr);
        if self.state.shared_tpr.is_some() {
            vmcb02::hand_back_tpr(world.vmcb01, world.vmcb02);
        }
        image.set(f::exitcode, code.bits());
        image.set(f::exitinfo1, info[0]);
        image.set(f::exitinfo2, info[1]);
        image.set(f::exitintinfo, interrupted.bits());
        image.set_bits(f::eventinj, Event::V, 0);
        if self.host.marks_pdptes && self.needs_pdptes() {
            self.unmark_pdptes(world.memory);
        }
        let image = &mut self.vmcb12;
        // The page was read at VMRUN. If it is no longer backed, the error cannot be reported.
        let _ = world.memory.store(self.state.vmcb12_address, image, &vmcb02::WRITTEN);
        if self.offers.has(Feature::DecodeAssists) {
            let _ = world.memory.store(self.state.vmcb12_address, image, &[vmcb02::DECODED]);
        }
        vmcb02::stay(world.vmcb01, world.vmcb02, self.state.enabled);
        vmcb02::copy_unloaded(world.vmcb01, world.vmcb02);
        self.back_in_l1(world.vmcb01);
        world.trace.trace(Traced::Reflected { code });
    }

    /// Called when L2 ends before the hardware executed the flush in VMCB02. If L1 requested a flush of all ASIDs, the
    /// request also covers L1's own translations.
    pub(super) fn flush_l1_too(&mut self) {
        if self.state.flush == Flush::All {
            self.state.flush_l1 = Flush::Asid;
        }
    }

    /// What #VMEXIT does to the host: GIF clear, CPL 0, RFLAGS.VM clear, breakpoints disabled. The rest of L1's state is
    /// what it was at its VMRUN, and stands in VMCB01.
    ///
    /// # Source
    /// Manual volume 2, 15.6.
    #[inline(always)]
    pub(crate) fn back_in_l1(&mut self, vmcb01: &mut Page) {
        const BREAKPOINTS_DISABLED: u64 = 0x400;
        let rflags = vmcb01.vmcb().rflags();
        vmcb01.set(f::dr7, BREAKPOINTS_DISABLED);
        vmcb01.set(f::cpl, 0);
        vmcb01.set(f::rflags, rflags.bits() & !Rflags::VM.bits());
        vmcb01.set(f::eventinj, 0);
        if rflags.contains(Rflags::TF) {
            single_step(vmcb01);
        }
        self.state.guest = Guest::L1;
        self.set_gif_in_l1(vmcb01, false);
    }

    /// What a refused VMRUN leaves in VMCB12: as current KVM does, EXITINTINFO and the save area stay as they are.
    pub(crate) fn write_refusal<M: Memory>(&self, memory: &mut M, address: u64, code: ExitCode) {
        let written = [(f::exitcode, code.bits()), (f::exitinfo1, 0), (f::exitinfo2, 0), (f::eventinj, 0)];
        for (field, value) in written {
            // The page was read at VMRUN. If it is no longer backed, the error cannot be reported.
            let _ = memory.write(address + u64::from(field.offset), &value.to_le_bytes());
        }
    }
}

/// L1 executed VMRUN with RFLAGS.TF. #DB is raised after #VMEXIT, which completes the instruction. A clear GIF does not
/// block a single-step trap (manual volume 2, 15.17). With DBGCTL.BTF only branches trap, and VMRUN is not a branch.
#[cold]
#[inline(never)]
fn single_step(vmcb01: &mut Page) {
    const BTF: u64 = 1 << 1;
    let dbgctl = if vmcb01.vmcb().virt_ext().contains(VirtExt::LBR) { vmcb01.get(f::dbgctl) } else { 0 };
    if dbgctl & BTF == 0 {
        vmcb01.set(f::eventinj, Event::new(EventType::EXCEPTION, DB).bits());
        vmcb01.set_bits(f::dr6, Dr6::BS.bits(), u64::MAX);
    }
}
