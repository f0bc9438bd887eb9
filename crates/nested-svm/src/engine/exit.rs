//! Exits of L2: who handles each of them.

use crate::events::codes::{AC, SHUTDOWN, VINTR};
use crate::intercepts::cause::Cause;
use crate::intercepts::maps::{self, Access};
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::{Trace, Traced};
use crate::shadow::tables::Tables;
use crate::shadow::walk::{NestedFault, Resolved};
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Exit, Flush, Guest};
use crate::vmcb02::FORCED_EXCEPTIONS;
use vmcb::layout::vmcb_field as f;
use vmcb::{Environment, Event, EventType, ExitCode, Feature};

impl Nested {
    /// Handles an exit of L2: the hardware executed VMRUN on VMCB02 and came back.
    #[inline(always)]
    pub fn exit<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) -> Exit {
        if self.state.guest == Guest::L1 {
            return Exit::NotInL2;
        }
        let code = world.vmcb02.vmcb().exitcode();
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

    /// EXITINFO1 and 2 as L1's virtual CPU gives them: without decode assists, accesses to registers, INVLPG and INTn
    /// tell nothing.
    #[inline(always)]
    fn exit_info(&self, vmcb02: &Page, code: ExitCode) -> [u64; 2] {
        if !self.offers.has(Feature::DecodeAssists) && matches!(code.bits(), 0x00..=0x3F | 0x75 | 0x79) {
            return [0, 0];
        }
        [vmcb02.get(f::exitinfo1), vmcb02.get(f::exitinfo2)]
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
        let verdict = vmcb::check_out_of_line(world.vmcb02.bytes(), &self.limits, &environment);
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

/// Events of the machine, which come to L0 first where it intercepts them in VMCB01: INTR, NMI, SMI, INIT and #MC.
#[inline(always)]
fn physical(code: ExitCode) -> bool {
    matches!(code.bits(), 0x60..=0x63 | 0x52)
}
