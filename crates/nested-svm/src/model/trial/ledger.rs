//! The ledger of a VM's events. It tracks each event from its origin to its outcome.

use crate::model::cpu::Source;
use crate::types::Guest;
use std::format;
use std::string::String;
use std::vec::Vec;
use vmcb::{Event, EventType, ExitCode, Vector};

/// What happens if the second event occurs during the delivery of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pair {
    /// The first is dropped, because its instruction is executed again.
    Second,
    /// Both are delivered.
    Both,
    /// #DF is delivered instead of both.
    DoubleFault,
    /// The guest shuts down.
    Shutdown,
}

/// Contributory exceptions, of those that a trial raises.
const CONTRIBUTORY: [u8; 5] = [0, 10, 11, 12, 13];
const PAGE_FAULT: u8 = 14;
const DOUBLE_FAULT: u8 = 8;

/// The double-fault table, written independently of the engine (manual volume 2, 8.2.9).
pub(super) fn pair(first: Event, second: Event) -> Pair {
    let vector = |event: Event| match event.event_type() {
        EventType::EXCEPTION => event.vector().number(),
        _ => 0xFF,
    };
    let (one, two) = (vector(first), vector(second));
    let heavy = CONTRIBUTORY.contains(&two);
    match one {
        DOUBLE_FAULT if heavy || two == PAGE_FAULT || two == DOUBLE_FAULT => Pair::Shutdown,
        PAGE_FAULT if heavy || two == PAGE_FAULT => Pair::DoubleFault,
        _ if CONTRIBUTORY.contains(&one) && heavy => Pair::DoubleFault,
        _ if matches!(first.event_type(), EventType::INTERRUPT | EventType::NMI) => Pair::Both,
        _ => Pair::Second,
    }
}

/// #DF as an event.
pub(super) const DOUBLE_FAULT_EVENT: Event =
    Event::new(EventType::EXCEPTION, Vector::new(DOUBLE_FAULT)).with_error_code(0);

/// What L1 finds in VMCB12 after an exit.
#[derive(Clone, Copy, Debug)]
pub(super) struct L1Exit {
    pub(super) code: ExitCode,
    pub(super) info: u64,
    /// EXITINTINFO.
    pub(super) interrupted: Event,
    /// Page of VMCB12.
    pub(super) vmcb: u64,
    /// Vector of the virtual interrupt, if V_IRQ is set.
    pub(super) virtual_interrupt: Option<u8>,
    /// L1 intercepts INTR and NMI.
    pub(super) intercepts: [bool; 2],
    /// The CPU raised the exception of this exit.
    pub(super) raised_by_cpu: bool,
}

/// Fates of the events that an exit to L1 resolved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resolved {
    pub(super) reported: u64,
    pub(super) exceptions: u64,
}

/// An event that did not fit into EXITINTINFO, because L2 ended with two events.
#[derive(Clone, Copy, Debug)]
struct Parked {
    event: Event,
    /// EXITINTINFO.
    reported: Event,
    /// Page of VMCB12.
    vmcb: u64,
}

/// The events of a VM that have no fate yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Events of L2, and of L1 (exceptions).
    l2: Vec<Event>,
    l1: Vec<Event>,
    /// Interrupts and an NMI of L0 that neither a guest's IDT has delivered nor EXITINTINFO has reported.
    pending: Vec<Event>,
    /// The vector of V_IRQ that L1 gave to L2.
    virtual_interrupt: Option<u8>,
    /// The event in `l2` that L2 took from V_IRQ.
    from_virtual: Option<Event>,
    /// The event that did not fit into EXITINTINFO. It is pending again if L1 injects the reported event into
    /// the same L2, and is dropped if L1 runs that L2 without it.
    parked: Option<Parked>,
}

/// Type, vector and error code: what a delivery must preserve.
pub(super) fn key(event: Event) -> u64 {
    let code = if event.pushes_error_code() { u64::from(event.error_code()) << 32 } else { 0 };
    event.without_error_code().bits() | code
}

pub(super) fn is_asynchronous(event: Event) -> bool {
    event.valid() && matches!(event.event_type(), EventType::INTERRUPT | EventType::NMI)
}

/// Whether the instruction at RIP raises it again: not a trap (#DB, #BP, #OF) and not an abort (#DF, #MC).
fn is_fault(event: Event) -> bool {
    event.event_type() == EventType::EXCEPTION && !matches!(event.vector().number(), 1 | 3 | 4 | 8 | 18)
}

/// Returns whether the event is an exception that no instruction raises again: a trap or an abort. #DB may be
/// a trap.
fn is_trap_or_abort(event: Event) -> bool {
    event.event_type() == EventType::EXCEPTION && !is_fault(event)
}

fn remove(events: &mut Vec<Event>, event: Event) -> bool {
    let found = events.iter().position(|&known| key(known) == key(event));
    found.map(|index| events.remove(index)).is_some()
}

impl Ledger {
    /// Adds an exception that L0 or the engine injects into a guest.
    pub(super) fn add(&mut self, guest: Guest, event: Event) {
        self.of(guest).push(event);
    }

    /// L1 executed VMRUN: EVENTINJ and V_IRQ of this VMCB12 are L2's.
    pub(super) fn entered(&mut self, vmcb: u64, event: Event, virtual_interrupt: Option<u8>) {
        if event.valid() {
            self.l2.push(event);
        }
        self.virtual_interrupt = virtual_interrupt;
        match self.parked {
            Some(parked) if parked.vmcb == vmcb => {
                self.parked = None;
                self.l2.extend(parked.reported.same_vector(event).then_some(parked.event));
            }
            _ => {}
        }
    }

    /// Adds an interrupt or NMI of L0. Returns whether it was merged with an equal one that is pending.
    ///
    /// `in_flight` is set if an equal event is in EVENTINJ. The guest has taken that one, so the new event is
    /// not merged with it.
    pub(super) fn pend(&mut self, event: Event, in_flight: bool) -> bool {
        let known = self.pending.iter().filter(|&&known| key(known) == key(event)).count();
        let merged = known > usize::from(in_flight);
        if !merged {
            self.pending.push(event);
        }
        merged
    }

    /// Whether L2 has an equal event, which could not be told apart.
    pub(super) fn l2_has(&self, event: Event) -> bool {
        let parked = self.parked.iter().map(|parked| &parked.event);
        self.l2.iter().chain(parked).any(|&known| key(known) == key(event)) || self.is_virtual(event)
    }

    /// Whether an equal event of L0 is pending, which could not be told apart.
    pub(super) fn is_pending(&self, event: Event) -> bool {
        self.pending.iter().any(|&known| key(known) == key(event))
    }

    fn is_virtual(&self, event: Event) -> bool {
        event.event_type() == EventType::INTERRUPT && self.virtual_interrupt == Some(event.vector().number())
    }

    fn take_pending(&mut self, event: Event) -> bool {
        remove(&mut self.pending, event)
    }

    /// Merges equal pending events into one. None of them may be in EVENTINJ.
    fn merge_pending(&mut self) {
        self.pending.sort_unstable_by_key(|&event| key(event));
        self.pending.dedup_by_key(|event| key(*event));
    }

    /// An exception replaces this interrupt or NMI in EVENTINJ. It goes back where it came from.
    pub(super) fn displace(&mut self, event: Event) {
        if self.from_virtual.is_some_and(|from| key(from) == key(event)) {
            self.from_virtual = None;
            remove(&mut self.l2, event);
            self.virtual_interrupt = Some(event.vector().number());
        }
        self.merge_pending();
    }

    fn of(&mut self, guest: Guest) -> &mut Vec<Event> {
        match guest {
            Guest::L1 => &mut self.l1,
            Guest::L2 => &mut self.l2,
        }
    }

    /// The architecture dropped an event of a guest.
    pub(super) fn merge(&mut self, guest: Guest, event: Event) {
        let _ = remove(self.of(guest), event) || self.take_pending(event);
    }

    /// A guest's IDT delivered an event.
    pub(super) fn delivered(&mut self, guest: Guest, event: Event, source: Source) -> Result<(), String> {
        match source {
            Source::Raised => Ok(()),
            Source::Virtual
                if guest == Guest::L2 && self.virtual_interrupt == Some(event.vector().number()) =>
            {
                self.virtual_interrupt = None;
                Ok(())
            }
            Source::Injected if remove(self.of(guest), event) => {
                self.from_virtual = self.from_virtual.filter(|&from| key(from) != key(event));
                Ok(())
            }
            Source::Injected if self.take_pending(event) => Ok(()),
            _ => {
                let other = if guest == Guest::L1 { &self.l2 } else { &self.l1 };
                let whose = if other.iter().any(|&known| key(known) == key(event)) {
                    "the event of another guest"
                } else {
                    "an event that is not pending"
                };
                Err(format!("{guest:?} got {whose}: {:#x} by {source:?}; {self:x?}", event.bits()))
            }
        }
    }

    /// Records that an exit interrupted the delivery of an event in L2. An event that L2 raised or took by
    /// itself becomes an event of L2. An injected event is in the ledger already.
    pub(super) fn interrupted(&mut self, event: Event, source: Source) {
        match source {
            Source::Raised | Source::Physical => self.l2.push(event),
            Source::Virtual => {
                self.virtual_interrupt = None;
                self.from_virtual = Some(event);
                self.l2.push(event);
            }
            Source::Injected => {}
        }
    }

    /// L2 ended. All its events must have a fate that L1 can see.
    pub(super) fn exit_to_l1(&mut self, exit: &L1Exit) -> Result<Resolved, String> {
        let mut resolved = Resolved::default();
        self.check_interrupt_exit(exit)?;
        if exit.interrupted.valid() {
            if !(remove(&mut self.l2, exit.interrupted) || self.take_pending(exit.interrupted)) {
                return Err(format!("EXITINTINFO has an event that is not pending: {exit:x?}; {self:x?}"));
            }
            resolved.reported += 1;
        }
        if let (0x40..=0x5F, false) = (exit.code.bits(), exit.raised_by_cpu) {
            let vector = (exit.code.bits() - 0x40) as u8;
            let found = self.l2.iter().position(|event| {
                event.event_type() == EventType::EXCEPTION
                    && event.vector().number() == vector
                    && (!event.pushes_error_code() || u64::from(event.error_code()) == exit.info)
            });
            let Some(found) = found else {
                return Err(format!("L1 got an exception that was not raised: {exit:x?}; {self:x?}"));
            };
            self.l2.remove(found);
            resolved.exceptions += 1;
        }
        self.merge_pending();
        self.check_virtual_interrupt(exit)?;
        if is_asynchronous(exit.interrupted) {
            // EXITINTINFO has room for one event. The instruction raises a fault again.
            self.l2.retain(|&event| !is_fault(event));
        }
        match self.l2[..] {
            [event] if is_trap_or_abort(exit.interrupted) && is_asynchronous(event) => {
                self.l2.clear();
                self.parked = Some(Parked { event, reported: exit.interrupted, vmcb: exit.vmcb });
            }
            _ => {}
        }
        match core::mem::take(&mut self.l2) {
            lost if lost.is_empty() => Ok(resolved),
            lost => Err(format!("events of L2 are lost: {lost:x?}; {exit:x?}")),
        }
    }

    /// Checks V_IRQ of VMCB12. It must be the virtual interrupt that L2 has not taken, or one that L2 had
    /// taken and that was put back.
    fn check_virtual_interrupt(&mut self, exit: &L1Exit) -> Result<(), String> {
        let from = self.from_virtual.take();
        let expected = self.virtual_interrupt.take();
        if expected == exit.virtual_interrupt {
            return Ok(());
        }
        match (expected, from) {
            (None, Some(from))
                if exit.virtual_interrupt == Some(from.vector().number()) && remove(&mut self.l2, from) =>
            {
                Ok(())
            }
            _ => Err(format!("V_IRQ of VMCB12 should be {expected:x?}: {exit:x?}; {self:x?}")),
        }
    }

    fn check_interrupt_exit(&self, exit: &L1Exit) -> Result<(), String> {
        let (kind, intercepted) = match exit.code.bits() {
            0x60 => (EventType::INTERRUPT, exit.intercepts[0]),
            0x61 => (EventType::NMI, exit.intercepts[1]),
            _ => return Ok(()),
        };
        let pending = self.pending.iter().any(|event| event.event_type() == kind);
        if pending && intercepted {
            Ok(())
        } else {
            Err(format!("L1 got an exit without an event: {exit:x?}; {self:x?}"))
        }
    }

    /// Records that the host refused VMCB02 before L2 ran. L2's events are dropped. L0's events stay pending,
    /// and equal ones are merged. Returns the number of events that were dropped or merged.
    pub(super) fn refused(&mut self) -> u64 {
        let before = self.pending.len();
        self.merge_pending();
        (before - self.pending.len()) as u64 + self.end_l2()
    }

    /// Forgets the events of L2.
    pub(super) fn end_l2(&mut self) -> u64 {
        let ended = self.l2.len() + usize::from(self.virtual_interrupt.is_some());
        self.l2.clear();
        self.virtual_interrupt = None;
        self.from_virtual = None;
        ended as u64
    }

    /// Returns whether every event is resolved, except for V_IRQ, which is in the VMCB.
    pub(super) fn is_settled(&self) -> bool {
        self.l2.is_empty() && self.l1.is_empty() && self.pending.is_empty()
    }

    /// Whether every event has its fate.
    pub(super) fn is_empty(&self) -> bool {
        self.l2.is_empty()
            && self.l1.is_empty()
            && self.pending.is_empty()
            && self.virtual_interrupt.is_none()
    }
}
