//! Events on their way to a guest: raised by L0, or pending until a guest takes them.

use crate::events::codes::{INTR, NMI, PF, SHUTDOWN};
use crate::events::delivery::{Combined, combine, double_fault};
use crate::events::held::{Injected, Origin, in_shadow, is_asynchronous, takes_interrupt};
use crate::intercepts::cause::Cause;
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::Trace;
use crate::shadow::tables::Tables;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Exit, Flush, Guest, tlb_control};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode};

impl Nested {
    /// Gives an event to the virtual CPU: an exception that L0 raises for an instruction of the guest that runs, or an
    /// interrupt or NMI of L0.
    ///
    /// An exception of L2 that L1 intercepts becomes L1's exit. If another event is already in EVENTINJ, the double-fault
    /// rules decide. The exception replaces the event or is delivered before it, #DF replaces both, or the guest shuts
    /// down. Before the call, L0 writes DR6 for #DB. L0 raises only exceptions that the guest's mode can
    /// have, because the hardware refuses any other. For #PF, L0 calls [`Self::inject_page_fault`].
    ///
    /// Interrupts and NMIs stay pending until the guest can take them. If L1 intercepts them while L2 runs, L2 exits to
    /// L1 with INTR or NMI, and the event stays pending until L1 takes it. While [`Self::waits`] is true, L0 calls
    /// [`Self::open_window`] before each entry. L0 injects no NMI into a guest that is in an NMI handler.
    pub fn inject<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        event: Event,
    ) -> Exit {
        self.close_window(world.page(self.state.guest));
        if is_asynchronous(event) {
            self.state.pending.add(event);
            return match self.before_entry(world) {
                Guest::L1 => Exit::ToL1,
                Guest::L2 => Exit::Resume,
            };
        }
        let is_page_fault = event.event_type() == EventType::EXCEPTION && event.vector() == PF;
        let address = if is_page_fault { world.page(self.state.guest).get(f::cr2) } else { 0 };
        self.raise(world, event, address)
    }

    /// Raises #PF in the guest that runs, with this error code and linear address. An intercepted #PF does not change CR2,
    /// and any other one writes the address into it.
    ///
    /// # Source
    /// Manual volume 2, 15.12.15.
    pub fn inject_page_fault<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        error_code: u32,
        address: u64,
    ) -> Exit {
        self.close_window(world.page(self.state.guest));
        let event = Event::new(EventType::EXCEPTION, PF).with_error_code(error_code);
        self.raise(world, event, address)
    }

    /// Prepares the next entry, and returns the guest to enter. L0 calls it before each entry. It moves a pending event
    /// into EVENTINJ if the guest can take it. It sets TLB_CONTROL of VMCB01 if L1's own translations must be flushed,
    /// and L0 clears the field after the entry. A pending interrupt may end L2, so that L1 is entered instead.
    #[inline(always)]
    pub fn before_entry<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) -> Guest {
        if !self.is_settled() {
            self.deliver_waiting(world);
        }
        self.state.guest
    }

    /// Whether [`Self::before_entry`] has nothing to do: the guest that is to run can be entered at once.
    #[must_use]
    #[inline(always)]
    pub fn is_settled(&self) -> bool {
        !(self.waits() | (self.state.flush_l1 != Flush::Nothing))
    }

    #[cold]
    #[inline(never)]
    fn deliver_waiting<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        self.close_window(world.page(self.state.guest));
        if let (Guest::L2, Some(code)) = (self.state.guest, self.interrupt_exit(world.vmcb02)) {
            self.reflect(world, code, [0, 0]);
        }
        if self.state.guest == Guest::L1 && self.state.flush_l1 != Flush::Nothing {
            // Also before the first entry, when no instruction of L1 has set V_INTR_MASKING yet.
            self.set_gif_in_l1(world.vmcb01, self.state.gif);
            self.flush_l1(world.vmcb01);
        }
        let guest = self.state.guest;
        let page = world.page(guest);
        if !self.state.gif || page.vmcb().eventinj().valid() {
            return;
        }
        let displaced = self.state.displaced;
        let takes_displaced = takes_interrupt(page) || displaced.event_type() == EventType::NMI;
        let takes_interrupts = self.takes_interrupts(page);
        let event = if displaced.valid() && takes_displaced {
            self.state.displaced = Event::from_bits(0);
            page.set(f::eventinj, displaced.bits());
            self.state.injected = Injected::of(page, Origin::L1);
            return;
        } else {
            let nmi = self.state.pending.take_nmi();
            nmi.or_else(|| if takes_interrupts { self.state.pending.take_interrupt() } else { None })
        };
        if let Some(event) = event {
            page.set(f::eventinj, event.bits());
            self.state.injected = Injected::of(page, Origin::L0);
        }
    }

    /// Moves the pending flush of L1's own translations into VMCB01, where L0 may already demand more.
    fn flush_l1(&mut self, vmcb01: &mut Page) {
        const EVERYTHING: u64 = 1;
        let flush = core::mem::replace(&mut self.state.flush_l1, Flush::Nothing);
        if vmcb01.get(f::tlb_control) != EVERYTHING {
            vmcb01.set(f::tlb_control, tlb_control(flush, self.host.flush_by_asid).into());
        }
    }

    /// Whether one of L0's interrupts can be injected into the guest that runs, on this page.
    fn takes_interrupts(&self, page: &Page) -> bool {
        if self.state.guest == Guest::L2 && self.l1_masks_for_l2() {
            self.state.host_if && !in_shadow(page)
        } else {
            takes_interrupt(page)
        }
    }

    /// Whether one of L0's interrupts ends L2 if L1 intercepts INTR. With V_INTR_MASKING this does not wait for the end of an
    /// interrupt shadow, since nothing is injected.
    fn exits_by_interrupt(&self, vmcb02: &Page) -> bool {
        if self.l1_masks_for_l2() { self.state.host_if } else { takes_interrupt(vmcb02) }
    }

    /// The exit of L2 that a waiting NMI or interrupt is.
    fn interrupt_exit(&self, vmcb02: &Page) -> Option<ExitCode> {
        let intercepted = |code| Cause::of(code).intercepted(&self.vmcb12);
        if !self.state.gif {
            return None;
        }
        if self.state.pending.nmi && intercepted(NMI) {
            return Some(NMI);
        }
        let taken = self.state.pending.has_interrupt() && self.exits_by_interrupt(vmcb02);
        (taken && intercepted(INTR)).then_some(INTR)
    }

    /// Raises an exception in the guest that runs. `address` is the linear address of #PF, and 0 for any other exception:
    /// EXITINFO2, if L1 intercepts it.
    pub(crate) fn raise<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        event: Event,
        address: u64,
    ) -> Exit {
        let vector = event.vector().number() & 31;
        if self.state.guest == Guest::L2 && event.event_type() == EventType::EXCEPTION {
            let code = ExitCode::from_bits(0x40 + u64::from(vector));
            if Cause::of(code).intercepted(&self.vmcb12) {
                self.reflect(world, code, [event.error_code().into(), address]);
                return Exit::ToL1;
            }
        }
        let guest = self.state.guest;
        let page = world.page(guest);
        if event.event_type() == EventType::EXCEPTION && event.vector() == PF {
            page.set(f::cr2, address);
        }
        let before = page.vmcb().eventinj();
        let event = if before.valid() {
            match combine(before, event) {
                Combined::Second => event,
                Combined::SecondThenFirst => {
                    self.give_back(page, before);
                    event
                }
                Combined::DoubleFault => {
                    // The pair is one event now, and it is not during its own delivery.
                    page.set(f::eventinj, 0);
                    return self.raise(world, double_fault(), 0);
                }
                Combined::Shutdown => {
                    page.set(f::eventinj, 0);
                    if guest == Guest::L2 && Cause::of(SHUTDOWN).intercepted(&self.vmcb12) {
                        self.reflect(world, SHUTDOWN, [0, 0]);
                        return Exit::ToL1;
                    }
                    return Exit::Shutdown;
                }
            }
        } else {
            event
        };
        page.set(f::eventinj, event.bits());
        self.state.injected = Injected::of(page, Origin::L0);
        Exit::Resume
    }
}
