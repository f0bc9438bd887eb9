//! #VMEXIT of L2: whose it is, and what L1 sees of it.

use crate::delivery::{self, Combined, combine};
use crate::intercept::Cause;
use crate::memory::Memory;
use crate::nested::{Guest, Nested, World};
use crate::page::Page;
use crate::shadow::{NestedFault, Resolved, Tables};
use crate::trace::{Trace, Traced};
use crate::vmcb02;
use vmcb::layout::vmcb_field as f;
use vmcb::{Environment, Event, EventType, ExitCode, Feature, Rflags, Vector};

/// What became of an exit of L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// L1 has it: L1 runs next.
    ToL1,
    /// The engine has dealt with it: L2 runs on.
    Resume,
    /// It is L0's, as VMCB02 shows it. After L0 has dealt with it, L2 runs on; an event whose delivery it interrupted
    /// stands in EVENTINJ again.
    ForL0,
    /// L2 cannot go on: a fault during the delivery of #DF, with L1 not intercepting the shutdown.
    Shutdown,
}

impl Nested {
    /// VMCB02 came back from the hardware with an exit.
    #[inline]
    pub fn exit<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) -> Exit {
        let code = world.vmcb02.vmcb().exit_code();
        let cause = Cause::of(code);
        match cause {
            Cause::Bit(..) => {
                if cause.intercepted(&self.vmcb12) {
                    return self.hand_over(world, code);
                }
            }
            Cause::Port | Cause::Msr => {
                if cause.intercepted(&self.vmcb12) && self.map_says_l1(world, cause) {
                    return self.hand_over(world, code);
                }
            }
            Cause::NestedPageFault => return self.nested_page_fault(world),
            Cause::Refused => return self.host_refused(world, code),
            Cause::Impossible => {}
        }
        self.keep(world);
        Exit::ForL0
    }

    /// Hands an exit to L1 that L0 found in the place of the one that the hardware gave: an exception that it raises for
    /// L2, for one.
    pub fn reflect<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
        info: [u64; 2],
    ) {
        // What was to be delivered and was not is what this exit interrupts.
        let interrupted = self.undelivered(world.vmcb02);
        self.to_l1(world, code, info, interrupted);
    }

    /// Gives an event to the guest that runs: L0's own, or an exception that it raises for an instruction.
    ///
    /// Of L2, an exception that L1 intercepts becomes L1's exit. An event that finds another one on its way is delivered
    /// with it, after it or as #DF, by the rules for such pairs; none is lost.
    pub fn inject<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        event: Event,
    ) -> Exit {
        if self.guest == Guest::L2
            && event.event_type() == EventType::EXCEPTION
            && Cause::Bit(f::intercept_exceptions, event.vector().number() & 31).intercepted(&self.vmcb12)
        {
            let code = ExitCode::from_bits(0x40 + u64::from(event.vector().number() & 31));
            let info2 = if event.vector().number() == PF { world.vmcb02.get(f::cr2) } else { 0 };
            self.reflect(world, code, [event.error_code().into(), info2]);
            return Exit::ToL1;
        }
        let page = match self.guest {
            Guest::L1 => &mut *world.vmcb01,
            Guest::L2 => &mut *world.vmcb02,
        };
        let before = page.vmcb().event_inj();
        if !before.valid() {
            page.set(f::eventinj, event.bits());
            self.injected = true;
            return Exit::Resume;
        }
        if event.event_type() != EventType::EXCEPTION {
            return self.wait(event);
        }
        match combine(before, event) {
            Combined::Second => page.set(f::eventinj, event.bits()),
            Combined::SecondThenFirst => {
                page.set(f::eventinj, event.bits());
                return self.wait(before);
            }
            Combined::DoubleFault => {
                page.set(f::eventinj, 0);
                return self.inject(world, delivery::double_fault());
            }
            Combined::Shutdown => {
                page.set(f::eventinj, 0);
                if self.guest == Guest::L2 && Cause::of(SHUTDOWN).intercepted(&self.vmcb12) {
                    self.reflect(world, SHUTDOWN, [0, 0]);
                    return Exit::ToL1;
                }
                return Exit::Shutdown;
            }
        }
        Exit::Resume
    }

    fn wait(&mut self, event: Event) -> Exit {
        // An NMI that waits already is the same NMI: hardware latches one.
        if self.waiting.is_none()
            || self.waiting.is_some_and(|known| known.event_type() != EventType::INTERRUPT)
        {
            self.waiting = Some(event);
        }
        Exit::Resume
    }

    /// Before L0 enters a guest again: an event that had to wait is delivered as soon as there is room.
    #[inline(always)]
    pub fn before_entry(&mut self, page: &mut Page) {
        if self.waiting.is_some() {
            self.deliver_waiting(page);
        }
    }

    #[cold]
    fn deliver_waiting(&mut self, page: &mut Page) {
        if !page.vmcb().event_inj().valid()
            && let Some(event) = self.waiting.take()
        {
            page.set(f::eventinj, event.bits());
            self.injected = true;
        }
    }

    /// An exit that stays with L0: what it interrupted is delivered again.
    #[inline(always)]
    fn keep<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        let interrupted = world.vmcb02.vmcb().exit_int_info();
        let again = interrupted.valid() && (self.injected || comes_by_itself(interrupted));
        let event = if again { interrupted.bits() } else { 0 };
        world.vmcb02.set(f::eventinj, event);
        world.vmcb02.set(f::tlb_control, self.take_flush().into());
        self.injected &= again;
    }

    /// An event that stands in EVENTINJ because it was put there after the last exit.
    fn undelivered(&self, vmcb02: &Page) -> Event {
        let event = vmcb02.vmcb().event_inj();
        if event.valid() { event } else { Event::from_bits(0) }
    }

    #[inline(always)]
    fn hand_over<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
    ) -> Exit {
        let info = [world.vmcb02.get(f::exitinfo1), world.vmcb02.get(f::exitinfo2)];
        let interrupted = world.vmcb02.vmcb().exit_int_info();
        self.to_l1(world, code, info, interrupted);
        Exit::ToL1
    }

    /// #VMEXIT: VMCB12 as the manual says, L1's state from VMCB01.
    #[inline(always)]
    fn to_l1<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        code: ExitCode,
        info: [u64; 2],
        interrupted: Event,
    ) {
        let image = &mut self.vmcb12;
        let vmcb02 = &*world.vmcb02;
        vmcb02::leave(image, vmcb02, self.enabled);
        image.set(f::exitcode, code.bits());
        image.set(f::exitinfo1, info[0]);
        image.set(f::exitinfo2, info[1]);
        image.set(f::exitintinfo, interrupted.bits());
        image.set_bits(f::eventinj, Event::V, 0);
        let decoded = self.offers.has(Feature::DecodeAssists);
        // The page was read at VMRUN; if it is no longer memory, there is nobody to tell.
        let _ = world.memory.store(self.vmcb12_address, image, &vmcb02::WRITTEN);
        if decoded {
            let _ = world.memory.store(self.vmcb12_address, image, &[vmcb02::DECODED]);
        }
        // What #VMEXIT does not restore stays as L2 left it.
        let vmcb01 = &mut *world.vmcb01;
        vmcb01.copy(vmcb02, f::cr2);
        vmcb01.copy(vmcb02, f::dr6);
        vmcb02::copy_vmload_state(vmcb01, vmcb02);
        vmcb01.set(f::dr7, DR7_AFTER_EXIT);
        vmcb01.set(f::cpl, 0);
        vmcb01.set_bits(f::rflags, Rflags::VM.bits(), 0);
        vmcb01.set(f::eventinj, 0);
        self.injected = false;
        self.guest = Guest::L1;
        self.set_gif(vmcb01, false);
        world.trace.trace(Traced::Reflected { code });
    }

    #[inline(always)]
    fn nested_page_fault<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) -> Exit {
        if !self.enabled.nested_paging {
            self.keep(world);
            return Exit::ForL0;
        }
        let fault =
            NestedFault { info: world.vmcb02.get(f::exitinfo1), address: world.vmcb02.get(f::exitinfo2) };
        match world.shadow.resolve(world.memory, &self.limits, fault) {
            Resolved::Mapped => {
                self.keep(world);
                Exit::Resume
            }
            Resolved::Restart => {
                if let Some(root) = world.shadow.root() {
                    world.vmcb02.set(f::n_cr3, root);
                }
                self.flush = true;
                self.keep(world);
                Exit::Resume
            }
            Resolved::Fault(info) => {
                let interrupted = world.vmcb02.vmcb().exit_int_info();
                self.to_l1(world, ExitCode::NPF, [info, fault.address], interrupted);
                Exit::ToL1
            }
            Resolved::NotMemory => {
                self.keep(world);
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
        // Nothing of L2 ran: what VMCB12 shows is what L1 wrote, as after any refusal.
        let written =
            [(f::exitcode, ExitCode::INVALID.bits()), (f::exitinfo1, 0), (f::exitinfo2, 0), (f::eventinj, 0)];
        for (field, value) in written {
            let _ = world.memory.write(self.vmcb12_address + u64::from(field.offset), &value.to_le_bytes());
        }
        self.injected = false;
        self.guest = Guest::L1;
        self.set_gif(world.vmcb01, false);
        Exit::ToL1
    }

    /// Whether L1's permission map has the bit of a port or an MSR; read now, as L1 may have changed it.
    ///
    /// Where the map is no longer memory, the exit is L1's: it asked for exits, and which ones cannot be told.
    #[inline(never)]
    fn map_says_l1<M: Memory, T: Tables, L: Trace>(&self, world: &World<'_, M, T, L>, cause: Cause) -> bool {
        const BASE: u64 = !0xFFF;
        let info = world.vmcb02.get(f::exitinfo1);
        let (base, bits) = match cause {
            Cause::Port => {
                // One bit for each byte that the access touches: EXITINFO1[31:16] is the port, [6:4] its size.
                let size = (info >> 4 & 7).max(1);
                (self.vmcb12.get(f::iopm_base_pa) & BASE, Bits { first: info >> 16 & 0xFFFF, count: size })
            }
            _ => match msr_bit(world.rcx) {
                Some(bit) => {
                    (self.vmcb12.get(f::msrpm_base_pa) & BASE, Bits { first: bit + (info & 1), count: 1 })
                }
                // MSRs outside the map are always intercepted.
                None => return true,
            },
        };
        (bits.first..bits.first + bits.count).any(|bit| {
            let mut byte = [0];
            match world.memory.read(base + bit / 8, &mut byte) {
                Ok(()) => byte[0] >> (bit % 8) & 1 != 0,
                Err(_) => true,
            }
        })
    }
}

struct Bits {
    first: u64,
    count: u64,
}

/// The bit for reads of an MSR in a permission map; the one for writes is the next.
///
/// # Source
/// Manual volume 2, 15.11.
fn msr_bit(msr: u32) -> Option<u64> {
    const RANGES: [(u32, u64); 3] = [(0, 0), (0xC000_0000, 0x800), (0xC001_0000, 0x1000)];
    RANGES.iter().find_map(|&(first, byte)| {
        let index = msr.checked_sub(first).filter(|&index| index < 0x2000)?;
        Some(byte * 8 + u64::from(index) * 2)
    })
}

/// Whether an event whose delivery was interrupted does not come again when L2 simply goes on: INTn, INT3 and INTO are
/// executed again, since RIP still points at them.
fn comes_by_itself(event: Event) -> bool {
    const BP: Vector = Vector::new(3);
    const OF: Vector = Vector::new(4);
    !(event.event_type() == EventType::SOFTWARE
        || event.event_type() == EventType::EXCEPTION && matches!(event.vector(), BP | OF))
}

const PF: u8 = 14;
const SHUTDOWN: ExitCode = ExitCode::from_bits(0x7F);
/// All breakpoints disabled (manual volume 2, 15.6).
const DR7_AFTER_EXIT: u64 = 0x400;
