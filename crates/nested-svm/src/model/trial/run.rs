//! Runs the guests of a trial.

use super::report::{Action, Finding, Oracle};
use super::script::{CPUID, INTR, NMI, NPF, Stop, VINTR};
use super::state::Trial;
use super::vm::Vm;
use crate::model::cpu::Pins;
use crate::types::{Exit, Guest};
use std::format;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode, Vector};

/// Entries that one script may need. With few shadow pages an access may fault many times.
const ENTRIES: usize = 400;

impl Trial {
    /// Runs L1 until its script ends.
    pub(super) fn run_l1(&mut self, index: usize) -> Result<Stop, Finding> {
        for _ in 0..ENTRIES {
            self.before_entry(index)?;
            let vm = &mut self.vms[index];
            if core::mem::take(&mut vm.flush_l1) {
                vm.vmcb01.set(f::tlb_control, 3);
            }
            self.hardware.host_if = vm.nested.interrupts();
            self.hardware.run(&mut vm.vmcb01, &*self.host.physical, &mut self.script);
            // The hardware executed this VMRUN.
            vm.vmcb01.set(f::tlb_control, 0);
            self.after_run(index, Guest::L1)?;
            match self.vms[index].vmcb01.get(f::exitcode) {
                NPF => self.resolve_fault_of_l1(index)?,
                INTR | NMI => self.take_physical_interrupt(),
                VINTR => {}
                code => return Ok(Stop::L0(code)),
            }
        }
        self.no_progress(index)
    }

    /// Runs L2 until its script ends, or L1 runs.
    pub(super) fn run_l2(&mut self, index: usize) -> Result<Stop, Finding> {
        let mut window_opened = false;
        for _ in 0..ENTRIES {
            if self.before_entry(index)? == Guest::L1 {
                return self.l2_ended(index, false);
            }
            if core::mem::take(&mut window_opened) && !self.vms[index].vmcb02.vmcb().eventinj().valid() {
                self.found(Oracle::Progress, index, || "a window opened, but no event was injected".into())?;
            }
            let vm = &mut self.vms[index];
            self.hardware.host_if = vm.nested.interrupts();
            self.hardware.refuses = core::mem::take(&mut self.refuse);
            self.hardware.run(&mut vm.vmcb02, &*self.host.physical, &mut self.script);
            self.hardware.refuses = false;
            self.after_run(index, Guest::L2)?;
            let code = self.vms[index].vmcb02.get(f::exitcode);
            let address = self.vms[index].vmcb02.get(f::exitinfo2);
            self.vms[index].ran |= code != ExitCode::INVALID.bits();
            match self.vms[index].exit() {
                Exit::ToL1 => return self.l2_ended(index, true),
                Exit::Resume => {
                    self.counters.resolved_faults += u64::from(code == NPF);
                    window_opened = code == VINTR;
                    let flushes = self.vms[index].vmcb02.get(f::tlb_control) != 0;
                    self.counters.full_shadows += u64::from(code == NPF && flushes);
                    self.deliver_forced_exception(index, code);
                }
                Exit::Shutdown => return Ok(self.shut_down(index)),
                Exit::ForL0 if code == NPF => self.resolve_fault_of_l2(index, address)?,
                Exit::ForL0 if matches!(code, INTR | NMI) => self.take_physical_interrupt(),
                Exit::ForL0 | Exit::NotInL2 => return Ok(Stop::L0(code)),
            }
            if let Some(stop) = self.between_entries(index)? {
                return Ok(stop);
            }
        }
        self.no_progress(index)
    }

    /// The engine delivers what is pending, and opens a window for the rest.
    fn before_entry(&mut self, index: usize) -> Result<Guest, Finding> {
        let guest = self.delivers(index, Vm::before_entry)?;
        if !self.vms[index].has_own_virtual_interrupt() {
            self.found(Oracle::Events, index, || format!("an interrupt window of L0 is left in {guest:?}"))?;
        }
        self.vms[index].open_window();
        Ok(guest)
    }

    /// In some cases performs another action of L0 after an exit of L2 was handled. Returns where L2 stopped
    /// if the action stopped it.
    fn between_entries(&mut self, index: usize) -> Result<Option<Stop>, Finding> {
        match self.choices.below(64) {
            60 if self.migrates => self.save_and_load(index),
            61 => {
                self.note(index, Action::Refuse);
                self.refuse = true;
            }
            62 | 63 => {
                let stop = self.inject_any(index)?;
                return Ok((stop != Stop::L0(CPUID)).then_some(stop));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Adds #DB or #AC to the ledger after the engine intercepted it for itself and injected it into L2.
    fn deliver_forced_exception(&mut self, index: usize, code: u64) {
        if matches!(code, 0x41 | 0x51) {
            let event = Event::new(EventType::EXCEPTION, Vector::new((code - 0x40) as u8));
            self.ledgers[index].add(Guest::L2, event);
        }
    }

    fn no_progress(&mut self, index: usize) -> Result<Stop, Finding> {
        self.found(Oracle::Progress, index, || {
            let page = &self.vms[index].vmcb02;
            let [code, info, address] =
                [f::exitcode, f::exitinfo1, f::exitinfo2].map(|field| page.get(field));
            let step = self.script.front();
            format!("no progress at {step:x?}: exit {code:#x}, {info:#x}, {address:#x}")
        })?;
        Ok(Stop::L0(0))
    }

    /// L0 takes what is pending at the CPU.
    fn take_physical_interrupt(&mut self) {
        self.hardware.pins = Pins::default();
    }
}
