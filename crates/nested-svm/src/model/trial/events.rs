//! The events that a trial creates.

use super::ledger::{DOUBLE_FAULT_EVENT, Pair, key, pair};
use super::report::{Action, Finding};
use super::script::{CPUID, Stop};
use super::state::Trial;
use crate::types::{Exit, Guest};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, Vector};

/// Exceptions that are injected and raised.
const EVENT_KINDS: [Event; 4] = [
    Event::new(EventType::EXCEPTION, Vector::new(13)),
    Event::new(EventType::EXCEPTION, Vector::new(14)),
    Event::new(EventType::EXCEPTION, Vector::new(6)),
    Event::new(EventType::EXCEPTION, Vector::new(1)),
];

impl Trial {
    /// Chooses EVENTINJ for the next VMRUN and writes it to VMCB12. It is the event that the last exit
    /// interrupted, a new event, or none.
    pub(super) fn choose_eventinj(&mut self, index: usize) -> u64 {
        let interrupted = Event::from_bits(self.vms[index].get12(f::exitintinfo));
        let event = match self.choices.below(6) {
            0 | 1 if interrupted.valid() => interrupted,
            2 => self.new_interrupt(),
            3 => self.new_exception(),
            4 if self.choices.one_in(2) => Event::new(EventType::NMI, Vector::new(2)),
            _ => Event::from_bits(0),
        };
        let virtual_vector = self.vms[index].get12(f::v_intr_vector);
        let ambiguous = self.ledgers[index].is_pending(event)
            || event.event_type() == EventType::INTERRUPT
                && u64::from(event.vector().number()) == virtual_vector;
        let event = if ambiguous { Event::from_bits(0) } else { event };
        self.vms[index].set12(f::eventinj, event.bits());
        event.bits()
    }

    fn new_interrupt(&mut self) -> Event {
        let vector = 0x20 + self.choices.below(0xE0);
        Event::new(EventType::INTERRUPT, Vector::new(vector as u8))
    }

    /// Returns a random exception. #GP and #PF have a random error code, so that the ledger can usually
    /// distinguish equal ones.
    pub(super) fn new_exception(&mut self) -> Event {
        let event = self.choices.pick(&EVENT_KINDS);
        match event.vector().number() {
            13 => event.with_error_code(self.choices.below(0x4000) as u32 * 8),
            14 => event.with_error_code(self.choices.below(4) as u32 * 2),
            _ => event,
        }
    }

    pub(super) fn events_entered(&mut self, index: usize) {
        const V_IRQ: u64 = 1 << 8;
        let vm = &self.vms[index];
        let event = Event::from_bits(vm.get12(f::eventinj));
        let pending = vm.get12(f::int_ctl) & V_IRQ != 0;
        let vector = pending.then(|| vm.get12(f::v_intr_vector) as u8);
        self.ledgers[index].entered(vm.entered.vmcb, event, vector);
        self.counters.events += u64::from(event.valid()) + u64::from(pending);
    }

    pub(super) fn inject_any(&mut self, index: usize) -> Result<Stop, Finding> {
        let event = match self.choices.below(8) {
            0..=3 => self.new_interrupt(),
            4 | 5 => Event::new(EventType::NMI, Vector::new(2)),
            _ => self.new_exception(),
        };
        self.note(index, Action::Inject { event: event.bits() });
        self.counters.events += 1;
        if event.event_type() == EventType::EXCEPTION {
            self.inject_exception(index, event)
        } else {
            self.inject_interrupt(index, event)
        }
    }

    fn inject_interrupt(&mut self, index: usize, event: Event) -> Result<Stop, Finding> {
        let vm = &self.vms[index];
        let before = vm.nested.guest();
        let page = if before == Guest::L1 { &vm.vmcb01 } else { &vm.vmcb02 };
        let in_flight = key(page.vmcb().eventinj()) == key(event);
        let ledger = &mut self.ledgers[index];
        if ledger.l2_has(event) {
            return Ok(Stop::L0(CPUID));
        }
        self.counters.merged += u64::from(ledger.pend(event, in_flight));
        self.delivers(index, |vm| vm.inject(event))?;
        self.after_injection(index, before)
    }

    fn after_injection(&mut self, index: usize, before: Guest) -> Result<Stop, Finding> {
        match (before, self.vms[index].nested.guest()) {
            (Guest::L2, Guest::L1) => self.l2_ended(index, false),
            _ => Ok(Stop::L0(CPUID)),
        }
    }

    /// L0 raises an exception in the guest that runs.
    pub(super) fn inject_exception(&mut self, index: usize, event: Event) -> Result<Stop, Finding> {
        let vm = &mut self.vms[index];
        let guest = vm.nested.guest();
        let (first, intercepts) = match guest {
            Guest::L1 => (vm.vmcb01.vmcb().eventinj(), 0),
            Guest::L2 => (vm.vmcb02.vmcb().eventinj(), vm.get12(f::intercept_exceptions)),
        };
        let displaces = matches!(first.event_type(), EventType::INTERRUPT | EventType::NMI);
        if first.valid() && displaces && !self.displaces_events {
            return Ok(Stop::L0(CPUID));
        }
        let intercepted = intercepts >> event.vector().number() & 1 != 0;
        let ledger = &mut self.ledgers[index];
        let outcome = if first.valid() && !intercepted { pair(first, event) } else { Pair::Both };
        match outcome {
            Pair::Both => {
                if first.valid() && !intercepted {
                    ledger.displace(first);
                }
                ledger.add(guest, event);
            }
            Pair::Second => {
                ledger.merge(guest, first);
                ledger.add(guest, event);
            }
            Pair::DoubleFault => {
                ledger.merge(guest, first);
                ledger.add(guest, DOUBLE_FAULT_EVENT);
            }
            Pair::Shutdown => ledger.merge(guest, first),
        }
        self.counters.merged += u64::from(outcome != Pair::Both);
        let vm = &mut self.vms[index];
        let exit = match event.vector().number() {
            14 => vm.inject_page_fault(event.error_code(), 0x456),
            _ => vm.inject(event),
        };
        match exit {
            Exit::Shutdown => Ok(self.shut_down(index)),
            _ => self.after_injection(index, guest),
        }
    }
}
