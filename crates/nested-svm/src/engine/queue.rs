//! Events that wait: the interrupt window, and what happens to an event that cannot be delivered now.

use crate::events::codes::TASK_SWITCH;
use crate::events::held::{Injected, Origin, Parked, WINDOW, Window, comes_again, executed, is_asynchronous};
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::Trace;
use crate::shadow::tables::Tables;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Guest, tlb_control};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode, IntCtl, InterceptMisc1};

impl Nested {
    /// Whether an event waits for a guest that can take it.
    #[must_use]
    #[inline(always)]
    pub fn waits(&self) -> bool {
        self.state.pending.any() | self.state.displaced.valid()
    }

    /// Makes the running guest exit with VMEXIT_VINTR as soon as it can take an interrupt, if one is pending. L0 calls it
    /// after [`Self::before_entry`]. After the exit, L0 calls [`Self::exit`] for L2, which then returns
    /// [`Exit::Resume`](crate::Exit::Resume), or [`Self::before_entry`] for L1. Both close the window and restore the
    /// guest's own V_IRQ and VINTR intercept.
    ///
    /// No window is opened for an event that L2 could not take then. Two kinds of events need any other exit instead, for
    /// example one that a self-IPI causes: an NMI that waits for the delivery of another event, and an interrupt for an L2
    /// that has RFLAGS.IF clear but whose V_INTR_MASKING leaves the decision to L1's RFLAGS.IF.
    pub fn open_window<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        const VINTR: u64 = InterceptMisc1::VINTR.bits();
        let takes_pending = self.state.guest == Guest::L1 || !self.l1_masks_for_l2() || self.state.host_if;
        let state = &mut self.state;
        let opens = state.displaced.valid() | (state.pending.has_interrupt() & takes_pending);
        if state.window.is_some() || !state.gif || !opens {
            return;
        }
        let page = world.page(state.guest);
        state.window = Some(Window {
            int_ctl: page.get(f::int_ctl) & WINDOW,
            intercepts: page.get(f::intercept_misc1) & VINTR,
        });
        page.set_bits(f::int_ctl, WINDOW, WINDOW);
        page.set_bits(f::intercept_misc1, VINTR, VINTR);
    }

    /// Closes the window of the guest on this page; returns whether there was one. The hardware cannot have taken the
    /// V_IRQ in it, since VINTR is intercepted.
    #[cold]
    #[inline(never)]
    pub(crate) fn close_window(&mut self, page: &mut Page) -> bool {
        let Some(window) = self.state.window.take() else { return false };
        page.set_bits(f::int_ctl, WINDOW, window.int_ctl);
        page.set_bits(f::intercept_misc1, InterceptMisc1::VINTR.bits(), window.intercepts);
        true
    }

    /// Whether L1's RFLAGS.IF masks physical interrupts while L2 runs, and not L2's.
    pub(super) fn l1_masks_for_l2(&self) -> bool {
        self.vmcb12.vmcb().int_ctl().contains(IntCtl::V_INTR_MASKING)
    }

    /// Requeues the event that an exit of L2 to L0 interrupted.
    ///
    /// Each exit discards EVENTINJ. INTn, INT3 and INTO that L2 executed are executed again, because RIP still points
    /// to them. Injected ones must be injected again. The emulation of a task switch delivers the event itself.
    #[inline(always)]
    pub(crate) fn keep(&mut self, vmcb02: &mut Page, code: ExitCode) {
        let interrupted = vmcb02.vmcb().exitintinfo();
        self.state.entered = true;
        vmcb02.set(f::eventinj, 0);
        vmcb02.set(f::tlb_control, tlb_control(self.state.flush, self.host.flush_by_asid).into());
        if interrupted.valid() && code != TASK_SWITCH {
            self.deliver_again(vmcb02, interrupted);
        } else {
            self.state.injected = Injected::NOTHING;
        }
    }

    #[inline(never)]
    fn deliver_again(&mut self, vmcb02: &mut Page, interrupted: Event) {
        let is_injected = self.state.injected.is(interrupted, vmcb02.get(f::rip));
        if executed(interrupted) && !is_injected {
            self.state.injected = Injected::NOTHING;
            return;
        }
        vmcb02.set(f::eventinj, interrupted.bits());
        if is_injected {
            vmcb02.set(f::nrip, self.state.injected.next_rip);
        } else {
            self.state.injected = Injected::of(vmcb02, Origin::L2);
        }
    }

    /// Puts an interrupt or NMI that cannot be delivered now back where it came from. `event` is in EVENTINJ
    /// of `page`, or L2 took it without an injection.
    #[cold]
    pub(super) fn give_back(&mut self, page: &mut Page, event: Event) {
        let origin = match self.state.guest {
            Guest::L1 => Origin::L0,
            Guest::L2 if self.state.injected.is(event, page.get(f::rip)) => self.state.injected.origin,
            Guest::L2 => Origin::L2,
        };
        let int_ctl = page.vmcb().int_ctl();
        let vector = page.get(f::v_intr_vector);
        let virtual_interrupt = event.event_type() == EventType::INTERRUPT
            && u64::from(event.vector().number()) == vector
            && !int_ctl.contains(IntCtl::V_IRQ);
        match origin {
            Origin::L0 => self.state.pending.add(event),
            Origin::L1 => self.state.displaced = event.without_error_code(),
            // Taking it cleared V_IRQ.
            Origin::L2 if virtual_interrupt => page.set_bits(f::int_ctl, IntCtl::V_IRQ.bits(), u64::MAX),
            // A physical interrupt reaches L2 only if L1 does not intercept it.
            Origin::L2 => self.state.pending.add(event),
        }
    }

    /// The event in EVENTINJ of an L2 that ends before the hardware delivered it. One of L0's waits again; any other is
    /// returned.
    pub(crate) fn undelivered(&mut self, event: Event) -> Event {
        if !event.valid() {
            return Event::from_bits(0);
        }
        if is_asynchronous(event) && self.state.injected.origin == Origin::L0 {
            self.state.pending.add(event);
            return Event::from_bits(0);
        }
        event
    }

    /// Returns the event for EXITINTINFO: the interrupted event, or the displaced one in its place.
    #[inline(always)]
    pub(crate) fn reported(&mut self, vmcb02: &mut Page, interrupted: Event) -> Event {
        if self.state.displaced.valid() { self.one_of_two(vmcb02, interrupted) } else { interrupted }
    }

    /// EXITINTINFO has room for one event. The displaced one is reported if the interrupted one is raised again by its
    /// instruction or can go back to its origin. Otherwise the displaced one is parked until L1 runs this L2 again.
    #[cold]
    #[inline(never)]
    fn one_of_two(&mut self, vmcb02: &mut Page, interrupted: Event) -> Event {
        if interrupted.valid() {
            if is_asynchronous(interrupted) {
                self.give_back(vmcb02, interrupted);
            } else if !comes_again(interrupted) {
                self.park();
                return interrupted;
            }
        }
        core::mem::replace(&mut self.state.displaced, Event::from_bits(0))
    }

    /// Keeps the displaced event of an L2 that ends until L1 runs it again. Only one such event is kept: a second one, of
    /// another L2, replaces it.
    fn park(&mut self) {
        let event = core::mem::replace(&mut self.state.displaced, Event::from_bits(0));
        self.state.parked = Parked { event, vmcb12: self.state.vmcb12_address };
    }

    /// L1 executes VMRUN. If the L2 of this VMCB12 has a parked event, the event is displaced again if L1 injects the event
    /// that it found in EXITINTINFO. Otherwise L1 has abandoned what this L2 did, and the parked event is dropped.
    #[cold]
    #[inline(never)]
    pub(crate) fn unpark(&mut self, address: u64) {
        if address != self.state.parked.vmcb12 {
            return;
        }
        let parked = core::mem::replace(&mut self.state.parked, Parked::NOTHING);
        let view = self.vmcb12.vmcb();
        if view.eventinj().valid() && view.eventinj().same_vector(view.exitintinfo()) {
            self.state.displaced = parked.event;
        }
    }
}
