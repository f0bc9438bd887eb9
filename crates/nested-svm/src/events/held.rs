//! Events that the engine holds for a guest: injected, displaced, parked, pending.

use super::codes::DB;
use crate::l0::page::Page;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, IntCtl, Kind, Rflags, Vector};

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
        Self { event: page.vmcb().eventinj(), origin, rip: page.get(f::rip), next_rip: page.get(f::nrip) }
    }

    /// Whether `interrupted` is this one, and not one that an instruction raised after it.
    pub(crate) fn is(&self, interrupted: Event, rip: u64) -> bool {
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

/// What `Nested::open_window` replaced on the page of the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub(crate) int_ctl: u64,
    pub(crate) intercepts: u64,
}

/// V_IRQ of the highest priority, which ignores V_TPR.
pub(crate) const WINDOW: u64 = IntCtl::V_IRQ.bits() | 0xF << 16 | IntCtl::V_IGN_TPR.bits();

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

    pub(crate) fn add(&mut self, event: Event) {
        if event.event_type() == EventType::NMI {
            self.nmi = true;
        } else if let Some(word) = self.interrupts.get_mut(usize::from(event.vector().number() >> 6)) {
            *word |= 1 << (event.vector().number() & 63);
        }
    }

    #[inline(always)]
    pub(crate) fn has_interrupt(&self) -> bool {
        self.interrupts.iter().fold(0, |all, word| all | word) != 0
    }

    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.nmi | self.has_interrupt()
    }

    pub(crate) fn take_nmi(&mut self) -> Option<Event> {
        core::mem::take(&mut self.nmi).then_some(Event::new(EventType::NMI, Vector::new(2)))
    }

    /// The one with the highest vector.
    pub(crate) fn take_interrupt(&mut self) -> Option<Event> {
        let (index, word) = self.interrupts.iter_mut().enumerate().rev().find(|(_, word)| **word != 0)?;
        let bit = word.ilog2();
        *word &= !(1 << bit);
        Some(Event::new(EventType::INTERRUPT, Vector::new((index as u32 * 64 + bit) as u8)))
    }
}

/// Whether it is an interrupt or an NMI: no instruction raises it again.
pub(crate) const fn is_asynchronous(event: Event) -> bool {
    matches!(event.event_type(), EventType::INTERRUPT | EventType::NMI)
}

/// Returns whether the instruction at RIP raises the event again: a fault, or an event that an instruction executes. #DB may
/// be a trap, and aborts do not return to the instruction.
pub(crate) fn comes_again(event: Event) -> bool {
    let abort = event.vector().exception().is_some_and(|row| row.kind == Kind::Abort);
    executed(event) || event.event_type() == EventType::EXCEPTION && event.vector() != DB && !abort
}

/// Whether the guest on this page takes an interrupt now.
pub(crate) fn takes_interrupt(page: &Page) -> bool {
    page.vmcb().rflags().contains(Rflags::IF) && !in_shadow(page)
}

/// Returns whether the guest of this VMCB is in an interrupt shadow, which blocks interrupts for one instruction.
pub(crate) fn in_shadow(page: &Page) -> bool {
    page.get(f::interrupt_state) & 1 != 0
}

/// INTn, INT3 and INTO: events that an instruction executes.
pub(crate) fn executed(event: Event) -> bool {
    const BP: Vector = Vector::new(3);
    const OF: Vector = Vector::new(4);
    event.event_type() == EventType::SOFTWARE
        || event.event_type() == EventType::EXCEPTION && matches!(event.vector(), BP | OF)
}
