//! Events on their way to a guest: injected by L1 or L0, interrupted, waiting.

use crate::delivery::{self, Combined, combine};
use crate::exit::Exit;
use crate::intercept::Cause;
use crate::memory::Memory;
use crate::nested::{Flush, Guest, Nested, World, tlb_control};
use crate::page::Page;
use crate::shadow::Tables;
use crate::trace::Trace;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode, IntCtl, InterceptMisc1, Kind, Rflags, Vector};

/// Where an event comes from. It decides who gets the event back if it cannot be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// L0 raised it, or it is one of L0's pending interrupts and NMIs.
    L0,
    /// L1 injected it with VMRUN.
    L1,
    /// L2's CPU raised it or took it by itself, and its delivery was interrupted.
    L2,
}

/// The event in EVENTINJ, or the one that was there at the last entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Injected {
    /// V is clear if there is none.
    pub(crate) event: Event,
    pub(crate) origin: Origin,
    /// RIP at the injection.
    pub(crate) rip: u64,
    /// nRIP at the injection: an exit overwrites the field.
    pub(crate) next_rip: u64,
}

impl Injected {
    pub(crate) const NOTHING: Self =
        Self { event: Event::from_bits(0), origin: Origin::L0, rip: 0, next_rip: 0 };

    /// EVENTINJ of a page as it stands.
    #[inline(always)]
    pub(crate) fn of(page: &Page, origin: Origin) -> Self {
        Self { event: page.vmcb().event_inj(), origin, rip: page.get(f::rip), next_rip: page.get(f::nrip) }
    }

    /// Whether `interrupted` is this one, and not one that an instruction raised after it.
    fn is(&self, interrupted: Event, rip: u64) -> bool {
        self.event.valid() && self.event.same_vector(interrupted) && self.rip == rip
    }
}

/// A displaced event whose L2 ended with another event in EXITINTINFO, which has room for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parked {
    /// V is clear if there is none.
    pub(crate) event: Event,
    /// Physical address of the VMCB12 of that L2.
    pub(crate) vmcb12: u64,
}

impl Parked {
    pub(crate) const NOTHING: Self = Self { event: Event::from_bits(0), vmcb12: 0 };
}

/// What [`Nested::open_window`] replaced on the page of the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    int_ctl: u64,
    intercepts: u64,
}

/// V_IRQ of the highest priority, which ignores V_TPR.
const WINDOW: u64 = IntCtl::V_IRQ.bits() | 0xF << 16 | IntCtl::V_IGN_TPR.bits();

/// L0's interrupts and NMI that no guest has taken yet.
///
/// As in an interrupt controller, a vector is pending at most once, and at most one NMI is latched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    pub(crate) interrupts: [u64; 4],
    pub(crate) nmi: bool,
}

impl Pending {
    pub(crate) const NOTHING: Self = Self { interrupts: [0; 4], nmi: false };

    fn add(&mut self, event: Event) {
        if event.event_type() == EventType::NMI {
            self.nmi = true;
        } else if let Some(word) = self.interrupts.get_mut(usize::from(event.vector().number() >> 6)) {
            *word |= 1 << (event.vector().number() & 63);
        }
    }

    #[inline(always)]
    fn has_interrupt(&self) -> bool {
        self.interrupts.iter().fold(0, |all, word| all | word) != 0
    }

    #[inline(always)]
    fn any(&self) -> bool {
        self.nmi | self.has_interrupt()
    }

    fn take_nmi(&mut self) -> Option<Event> {
        core::mem::take(&mut self.nmi).then_some(Event::new(EventType::NMI, Vector::new(2)))
    }

    /// The one with the highest vector.
    fn take_interrupt(&mut self) -> Option<Event> {
        let (index, word) = self.interrupts.iter_mut().enumerate().rev().find(|(_, word)| **word != 0)?;
        let bit = word.ilog2();
        *word &= !(1 << bit);
        Some(Event::new(EventType::INTERRUPT, Vector::new((index as u32 * 64 + bit) as u8)))
    }
}

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

    /// Whether an event waits for a guest that can take it.
    #[must_use]
    #[inline(always)]
    pub fn waits(&self) -> bool {
        self.state.pending.any() | self.state.displaced.valid()
    }

    /// Makes the running guest exit with VMEXIT_VINTR as soon as it can take an interrupt, if one is pending. L0 calls it
    /// after [`Self::before_entry`]. After the exit, L0 calls [`Self::exit`] for L2, which then returns [`Exit::Resume`],
    /// or [`Self::before_entry`] for L1. Both close the window and restore the guest's own V_IRQ and VINTR intercept.
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
        if !self.state.gif || page.vmcb().event_inj().valid() {
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

    /// Whether L1's RFLAGS.IF masks physical interrupts while L2 runs, and not L2's.
    fn l1_masks_for_l2(&self) -> bool {
        self.vmcb12.vmcb().int_ctl().contains(IntCtl::V_INTR_MASKING)
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
        let before = page.vmcb().event_inj();
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
                    return self.raise(world, delivery::double_fault(), 0);
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

    /// Requeues the event that an exit of L2 to L0 interrupted.
    ///
    /// Each exit discards EVENTINJ. INTn, INT3 and INTO that L2 executed are executed again, because RIP still points
    /// to them. Injected ones must be injected again. The emulation of a task switch delivers the event itself.
    #[inline(always)]
    pub(crate) fn keep(&mut self, vmcb02: &mut Page, code: ExitCode) {
        let interrupted = vmcb02.vmcb().exit_int_info();
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
    fn give_back(&mut self, page: &mut Page, event: Event) {
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
        if view.event_inj().valid() && view.event_inj().same_vector(view.exit_int_info()) {
            self.state.displaced = parked.event;
        }
    }
}

/// Whether it is an interrupt or an NMI: no instruction raises it again.
pub(crate) const fn is_asynchronous(event: Event) -> bool {
    matches!(event.event_type(), EventType::INTERRUPT | EventType::NMI)
}

/// Returns whether the instruction at RIP raises the event again: a fault, or an event that an instruction executes. #DB may
/// be a trap, and aborts do not return to the instruction.
fn comes_again(event: Event) -> bool {
    let abort = event.vector().exception().is_some_and(|row| row.kind == Kind::Abort);
    executed(event) || event.event_type() == EventType::EXCEPTION && event.vector() != DB && !abort
}

/// Whether the guest on this page takes an interrupt now.
fn takes_interrupt(page: &Page) -> bool {
    page.vmcb().rflags().contains(Rflags::IF) && !in_shadow(page)
}

/// Whether the guest on this page is in an interrupt shadow, which holds interrupts back for one instruction.
fn in_shadow(page: &Page) -> bool {
    page.get(f::interrupt_state) & 1 != 0
}

/// INTn, INT3 and INTO: events that an instruction executes.
fn executed(event: Event) -> bool {
    const BP: Vector = Vector::new(3);
    const OF: Vector = Vector::new(4);
    event.event_type() == EventType::SOFTWARE
        || event.event_type() == EventType::EXCEPTION && matches!(event.vector(), BP | OF)
}

const PF: Vector = Vector::new(14);
pub(crate) const DB: Vector = Vector::new(1);
pub(crate) const AC: Vector = Vector::new(17);
pub(crate) const INTR: ExitCode = ExitCode::from_bits(0x60);
pub(crate) const NMI: ExitCode = ExitCode::from_bits(0x61);
pub(crate) const VINTR: ExitCode = ExitCode::from_bits(0x64);
const TASK_SWITCH: ExitCode = ExitCode::from_bits(0x7D);
pub(crate) const SHUTDOWN: ExitCode = ExitCode::from_bits(0x7F);
