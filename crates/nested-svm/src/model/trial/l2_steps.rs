//! The steps that an L2 makes, and events that L0 gives to a VM.

use super::l1;
use super::layout::{GUEST_PAGES, LINEAR, LINEAR_LARGE, LINEAR_PAGES, SETS, SHADOW_SPACE, guest_page};
use super::report::{Action, Finding, Oracle};
use super::script::{CPUID, IF, NPF, Stop};
use super::state::Trial;
use super::vm::Entered;
use crate::model::script::{Access, Step};
use crate::types::Guest;
use std::format;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, Vector};

const VMMCALL: u64 = 0x81;
const INVLPGA: u64 = 0x7A;

impl Trial {
    /// L0 gives a VM an event.
    pub(super) fn event_of_l0(&mut self, index: usize) -> Result<(), Finding> {
        let mut stop = self.inject_any(index)?;
        // A further event may collide with the one in EVENTINJ.
        while stop == Stop::L0(CPUID) && self.choices.one_in(2) {
            stop = self.inject_any(index)?;
        }
        self.react(index, stop);
        Ok(())
    }

    /// L2 runs.
    pub(super) fn step_of_l2(&mut self, index: usize) -> Result<(), Finding> {
        if self.choices.one_in(4) {
            self.prepare_delivery(index);
        }
        if self.choices.one_in(8) {
            let vector = self.choices.one_in(2).then(|| 0x20 + self.choices.below(0xE0) as u8);
            self.note(index, Action::Interrupt { vector });
            self.hardware.pins.interrupt = vector;
            self.hardware.pins.nmi = vector.is_none();
        }
        let stop = match self.choices.below(16) {
            0..=7 => self.accesses_of_l2(index),
            8 => self.write_cr3(index),
            9 => self.change_guest_in_l2(index),
            10 | 11 => self.invlpga_of_l2(index),
            12 => self.raise(index),
            13 if self.choices.one_in(4) => self.drain(index),
            _ => {
                self.note(index, Action::Vmmcall);
                self.prepare([], VMMCALL);
                self.run_l2(index)
            }
        }?;
        self.react(index, stop);
        Ok(())
    }

    /// L1 reacts to an exit: it maps what L2 missed.
    fn react(&mut self, index: usize, stop: Stop) {
        if stop == Stop::L1(NPF) && !self.choices.one_in(4) {
            let vm = &mut self.vms[index];
            let address = vm.get12(f::exitinfo2);
            vm.l1.resolve_fault(&vm.memory, vm.entered.space, address, &mut self.choices);
        }
        if stop != Stop::Shutdown && self.vms[index].nested.guest() == Guest::L2 && self.choices.one_in(4) {
            // Sets RFLAGS.IF, as the IRET of an interrupt handler does.
            self.vms[index].vmcb02.set_bits(f::rflags, IF, IF);
        }
    }

    /// An access by guest physical address. Without nested paging that is an address of L1.
    fn guest_physical_access(&mut self, index: usize) -> Access {
        let page = if self.vms[index].entered.space == SHADOW_SPACE {
            self.data_page() << 12
        } else {
            guest_page(self.choices.below(GUEST_PAGES)).1
        };
        let offset = self.choices.below(512) * 8;
        self.access(page | offset)
    }

    fn access(&mut self, address: u64) -> Access {
        match self.choices.below(5) {
            0 | 1 => Access::write(address),
            2 => Access::fetch(address),
            _ => Access::read(address),
        }
    }

    fn access_of_l2(&mut self, index: usize) -> Step {
        let offset = self.choices.below(512) * 8;
        match self.choices.below(8) {
            0 | 1 => Step::Access(self.guest_physical_access(index)),
            2 => {
                let page = LINEAR_LARGE + self.choices.below(4) * 4096;
                Step::Linear(self.access(page | offset))
            }
            _ => {
                let page = LINEAR + self.choices.below(LINEAR_PAGES) * 4096;
                Step::Linear(self.access(page | offset))
            }
        }
    }

    fn accesses_of_l2(&mut self, index: usize) -> Result<Stop, Finding> {
        let count = 1 + self.choices.below(4);
        self.note(index, Action::Accesses { count });
        let steps: [Step; 4] = core::array::from_fn(|_| self.access_of_l2(index));
        self.prepare(steps.into_iter().take(count as usize), CPUID);
        self.run_l2(index)
    }

    fn write_cr3(&mut self, index: usize) -> Result<Stop, Finding> {
        let cr3 = l1::cr3(self.vms[index].entered.space, self.choices.below(SETS));
        self.note(index, Action::WriteCr3 { cr3 });
        let access = self.access_of_l2(index);
        self.prepare([Step::WriteCr3(cr3), access], CPUID);
        self.run_l2(index)
    }

    /// L2 changes its own page tables, and flushes.
    fn change_guest_in_l2(&mut self, index: usize) -> Result<Stop, Finding> {
        let vm = &mut self.vms[index];
        let Entered { space, asid, .. } = vm.entered;
        let linear = vm.l1.change_guest(&vm.memory, space, Some(asid), &mut self.choices);
        self.note(index, Action::ChangeGuestInL2 { linear });
        let Some(linear) = linear else { return self.accesses_of_l2(index) };
        self.prepare([Step::InvalidatePage(linear), Step::Linear(Access::read(linear))], CPUID);
        let stop = self.run_l2(index)?;
        if matches!(stop, Stop::L1(_)) {
            // L2 may have ended before INVLPG. Its L1 flushes for it.
            self.vms[index].l1.entered_stale(asid);
        } else if self.script.iter().any(|step| matches!(step, Step::InvalidatePage(_))) {
            self.prepare([Step::InvalidatePage(linear)], CPUID);
            return self.run_l2(index);
        }
        Ok(stop)
    }

    /// L2 executes INVLPGA, which L1 does not intercept. In half of the cases #DB of a single step follows.
    fn invlpga_of_l2(&mut self, index: usize) -> Result<Stop, Finding> {
        let (remote_change, single_step) = (self.choices.one_in(2), self.choices.one_in(2));
        self.note(index, Action::InvlpgaInL2 { remote_change, single_step });
        self.prepare([], INVLPGA);
        let stop = self.run_l2(index)?;
        if stop != Stop::L0(INVLPGA) {
            return Ok(stop);
        }
        let vm = &mut self.vms[index];
        let Entered { space, asid, .. } = vm.entered;
        if remote_change && space != SHADOW_SPACE {
            // Another virtual CPU of L1 changes the nested tables just before the engine emulates INVLPGA.
            vm.l1.change_nested(&vm.memory, space, &mut self.choices);
        }
        vm.call(|nested, world| nested.invlpga(world, asid)).expect("L2 may execute INVLPGA");
        vm.l1.entered(asid, space, vm.vmcb02.get(f::cr3));
        if single_step {
            let debug = Event::new(EventType::EXCEPTION, Vector::new(1));
            return self.inject_exception(index, debug);
        }
        Ok(stop)
    }

    /// L2 raises an exception.
    fn raise(&mut self, index: usize) -> Result<Stop, Finding> {
        let event = self.new_exception();
        self.note(index, Action::Raise { event: event.bits() });
        self.prepare([Step::Raise(event, 0x123)], CPUID);
        self.run_l2(index)
    }

    /// Runs L2 until all pending events are delivered. An event that is left is lost, unless L1 may mask it.
    fn drain(&mut self, index: usize) -> Result<Stop, Finding> {
        // Each round delivers one event, and the vectors are pairwise different.
        const ROUNDS: usize = 300;
        self.note(index, Action::Drain);
        for _ in 0..ROUNDS {
            self.vms[index].vmcb02.set_bits(f::rflags, IF, IF);
            self.prepare([Step::WriteCr3(self.vms[index].vmcb02.get(f::cr3))], CPUID);
            let stop = self.run_l2(index)?;
            if stop != Stop::L0(CPUID) {
                return Ok(stop);
            }
            if self.ledgers[index].is_empty() {
                self.counters.drains += 1;
                return Ok(stop);
            }
        }
        let vm = &self.vms[index];
        // Interrupts stay pending if V_INTR_MASKING is set and L1's RFLAGS.IF is clear. While GIF is clear,
        // all events stay pending.
        if vm.nested.gif() && vm.vmcb01.get(f::rflags) & IF != 0 {
            self.found(Oracle::Events, index, || {
                let (waits, event) = (vm.nested.waits(), vm.vmcb02.vmcb().eventinj());
                format!("never delivered: {:x?}; {waits}, {event:x?}", self.ledgers[index])
            })?;
        }
        Ok(Stop::L0(CPUID))
    }

    /// The delivery of the next event accesses memory.
    fn prepare_delivery(&mut self, index: usize) {
        self.hardware.delivery.clear();
        for _ in 0..1 + self.choices.below(2) {
            let access = self.guest_physical_access(index);
            self.hardware.delivery.push_back(access);
        }
    }
}
