//! #VMEXIT of L2: whose it is, and what L1 sees of it.

use crate::events::{AC, DB, SHUTDOWN, VINTR};
use crate::intercept::Cause;
use crate::maps::{self, Access};
use crate::memory::Memory;
use crate::nested::{Flush, Guest, Nested, World};
use crate::page::Page;
use crate::shadow::{Cpu, NestedFault, Resolved, Tables};
use crate::trace::{Trace, Traced};
use crate::vmcb02::{self, FORCED_EXCEPTIONS};
use vmcb::layout::vmcb_field as f;
use vmcb::{Dr6, Environment, Event, EventType, ExitCode, Feature, Rflags, VirtExt};

/// What became of an exit of L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The exit was reflected to L1, which runs next.
    ToL1,
    /// The engine handled the exit. L2 continues.
    Resume,
    /// L0 must handle the exit that VMCB02 describes. L2 then continues. If the exit interrupted the delivery of an
    /// event, EVENTINJ holds the event again.
    ForL0,
    /// The guest shut down, for example by a fault during the delivery of #DF. If it is L2, L1 does not intercept the
    /// shutdown.
    Shutdown,
    /// L2 does not run, so it has no exit. L0 called this by mistake, and nothing changed.
    NotInL2,
}

impl Nested {
    /// Handles an exit of L2: the hardware executed VMRUN on VMCB02 and came back.
    #[inline(always)]
    pub fn exit<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) -> Exit {
        if self.state.guest == Guest::L1 {
            return Exit::NotInL2;
        }
        let code = world.vmcb02.vmcb().exit_code();
        let cause = Cause::of(code);
        let reflects = match cause {
            Cause::Bit(..) => {
                cause.intercepted(&self.vmcb12) && !(physical(code) && cause.intercepted(world.vmcb01))
            }
            Cause::Port | Cause::Msr => cause.intercepted(&self.vmcb12) && self.map_says_l1(world, cause),
            Cause::NestedPageFault => return self.nested_page_fault(&mut world.lend()),
            Cause::Refused => return self.host_refused(&mut world.lend(), code),
            Cause::NotOffered => false,
        };
        // The hardware executed VMRUN, so it also executed the flush that VMCB02 requested.
        self.state.flush = Flush::Nothing;
        if self.state.window.is_some() && self.close_window(world.vmcb02) && code == VINTR {
            // L0's window opened. An interrupt of L1's own is taken after it.
            self.keep(world.vmcb02, code);
            return Exit::Resume;
        }
        if reflects {
            let info = self.exit_info(world.vmcb02, code);
            self.hand_over(world, code, info);
            return Exit::ToL1;
        }
        self.keep(world.vmcb02, code);
        self.exit_for_l0(&mut world.lend(), code)
    }

    /// An exit that L1 does not intercept. Some of them are the engine's own.
    #[inline(never)]
    fn exit_for_l0<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
    ) -> Exit {
        if code == SHUTDOWN {
            return Exit::Shutdown;
        }
        let vector = match code.exception() {
            Some(vector) if FORCED_EXCEPTIONS.contains(vector) => vector,
            _ => return Exit::ForL0,
        };
        if Cause::of(code).intercepted(world.vmcb01) {
            return Exit::ForL0;
        }
        // Only the engine intercepts this exception, so it is delivered to L2. DR6 and similar registers already hold
        // their values at delivery (manual volume 2, 15.12.2).
        let event = Event::new(EventType::EXCEPTION, vector);
        let event =
            if vector == AC { event.with_error_code(world.vmcb02.get(f::exitinfo1) as u32) } else { event };
        self.raise(world, event, 0)
    }

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
            let event = self.undelivered(world.vmcb02.vmcb().event_inj());
            self.end_l2(world, code, info, event);
        }
    }

    /// Merges VMCB01 into VMCB02 again: after L0 changed intercepts, TSC_OFFSET, the PAUSE filter or N_CR3 of VMCB01 while L2
    /// runs. Nothing happens if L1 runs.
    pub fn refresh<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        if self.state.guest == Guest::L2 {
            self.close_window(world.vmcb02);
            let (enabled, takes_interrupts) = (self.state.enabled, self.host.takes_interrupts);
            vmcb02::controls(world.vmcb02, &self.vmcb12, world.vmcb01, enabled, takes_interrupts);
            self.scale_tsc_offset(world.vmcb02, world.vmcb01);
            self.new_root(world);
        }
    }

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

    const fn cpu(&self) -> Cpu<'_> {
        Cpu { limits: &self.limits, gib_pages: self.host.gib_pages }
    }

    /// Called when L2 ends before the hardware executed the flush in VMCB02. If L1 requested a flush of all ASIDs, the
    /// request also covers L1's own translations.
    fn flush_l1_too(&mut self) {
        if self.state.flush == Flush::All {
            self.state.flush_l1 = Flush::Asid;
        }
    }

    /// Sets N_CR3 of a running L2: the shadow's root, or L0's tables for L1 if L1 does not use nested paging. Demands a
    /// flush in any case.
    fn new_root<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        if self.state.guest == Guest::L2 {
            let own = world.vmcb01.get(f::n_cr3);
            let root = if self.state.enabled.nested_paging { world.shadow.root() } else { Some(own) };
            world.vmcb02.set(f::n_cr3, root.unwrap_or(own));
        }
        self.flush_l2(world.vmcb02, Flush::Asid);
    }

    /// EXITINFO1 and 2 as L1's virtual CPU gives them: without decode assists, accesses to registers, INVLPG and INTn
    /// tell nothing.
    #[inline(always)]
    fn exit_info(&self, vmcb02: &Page, code: ExitCode) -> [u64; 2] {
        if !self.offers.has(Feature::DecodeAssists) && matches!(code.bits(), 0x00..=0x3F | 0x75 | 0x79) {
            return [0, 0];
        }
        [vmcb02.get(f::exitinfo1), vmcb02.get(f::exitinfo2)]
    }

    #[inline(always)]
    fn hand_over<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
        info: [u64; 2],
    ) {
        let interrupted = world.vmcb02.vmcb().exit_int_info();
        self.end_l2(world, code, info, interrupted);
    }

    /// #VMEXIT: VMCB12 as the manual says, L1's state from VMCB01.
    #[inline(always)]
    fn end_l2<M: Memory, T: Tables, L: Trace>(
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

    #[inline(never)]
    fn nested_page_fault<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) -> Exit {
        self.state.l1_address = None;
        self.state.flush = Flush::Nothing;
        self.close_window(world.vmcb02);
        if !self.state.enabled.nested_paging {
            self.keep(world.vmcb02, ExitCode::NPF);
            return Exit::ForL0;
        }
        let fault =
            NestedFault { info: world.vmcb02.get(f::exitinfo1), address: world.vmcb02.get(f::exitinfo2) };
        match world.shadow.resolve(world.memory, self.cpu(), fault) {
            Resolved::Mapped => {
                self.keep(world.vmcb02, ExitCode::NPF);
                Exit::Resume
            }
            Resolved::Restart => {
                self.new_root(world);
                self.keep(world.vmcb02, ExitCode::NPF);
                Exit::Resume
            }
            Resolved::Fault(info) => {
                self.hand_over(world, ExitCode::NPF, [info, fault.address]);
                Exit::ToL1
            }
            Resolved::NotAllowed(address) => {
                self.state.l1_address = Some(address);
                self.keep(world.vmcb02, ExitCode::NPF);
                Exit::ForL0
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn host_refused<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
    ) -> Exit {
        let environment = Environment::real_host();
        let verdict = vmcb::check(world.vmcb02.bytes(), &self.limits, &environment);
        world.trace.trace(Traced::HostRefused { code, vmcb02: world.vmcb02, verdict });
        self.close_window(world.vmcb02);
        self.flush_l1_too();
        // The hardware may have cleared EVENTINJ.
        let event = self.undelivered(self.state.injected.event);
        if self.state.entered {
            // L2 ran before. L1 receives the current state of L2, as after any other exit.
            self.end_l2(world, ExitCode::INVALID, [0, 0], event);
        } else {
            // L2 did not run. VMCB12 keeps what L1 wrote, except for EXITCODE, EXITINFO and EVENTINJ.
            self.write_refusal(world.memory, self.state.vmcb12_address, ExitCode::INVALID);
            self.state.displaced = Event::from_bits(0);
            self.back_in_l1(world.vmcb01);
        }
        Exit::ToL1
    }

    /// What a refused VMRUN leaves in VMCB12: as current KVM does, EXITINTINFO and the save area stay as they are.
    pub(crate) fn write_refusal<M: Memory>(&self, memory: &mut M, address: u64, code: ExitCode) {
        let written = [(f::exitcode, code.bits()), (f::exitinfo1, 0), (f::exitinfo2, 0), (f::eventinj, 0)];
        for (field, value) in written {
            // The page was read at VMRUN. If it is no longer backed, the error cannot be reported.
            let _ = memory.write(address + u64::from(field.offset), &value.to_le_bytes());
        }
    }

    /// Whether L1's permission map has the bit of a port or an MSR; read now, as L1 may have changed it.
    #[inline(always)]
    fn map_says_l1<M: Memory, T: Tables, L: Trace>(&self, world: &World<'_, M, T, L>, cause: Cause) -> bool {
        let info = world.vmcb02.get(f::exitinfo1);
        let (base, access) = match cause {
            Cause::Port => (f::iopm_base_pa, Access::port(info)),
            _ => (f::msrpm_base_pa, Access::msr(world.rcx, info)),
        };
        maps::intercepts(world.memory, self.vmcb12.get(base), access)
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

/// Events of the machine, which come to L0 first where it intercepts them in VMCB01: INTR, NMI, SMI, INIT and #MC.
#[inline(always)]
fn physical(code: ExitCode) -> bool {
    matches!(code.bits(), 0x60..=0x63 | 0x52)
}
