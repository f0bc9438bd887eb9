//! The steps of a trial, and the steps that L0 makes.

use super::host::SLOTS;
use super::report::{Action, Finding, Oracle};
use super::state::Trial;
use crate::types::Guest;
use std::format;

impl Trial {
    /// Makes up to `steps` steps. Stops early if it finds a bug or has used up the bytes.
    ///
    /// # Errors
    /// Returns the finding.
    pub fn run(&mut self, steps: u64) -> Result<(), Finding> {
        for _ in 0..steps {
            if self.is_finished() {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Makes one step.
    ///
    /// # Errors
    /// Returns the fault that it found.
    pub fn step(&mut self) -> Result<(), Finding> {
        self.counters.steps += 1;
        self.hardware.delivery.clear();
        let vm = self.choices.below(SLOTS as u64) as usize;
        match self.choices.below(16) {
            0 => self.step_of_l0(vm),
            1 => self.event_of_l0(vm),
            _ => match self.vms[vm].nested.guest() {
                Guest::L1 => self.step_of_l1(vm),
                Guest::L2 => self.step_of_l2(vm),
            },
        }?;
        self.check_pending(vm)
    }

    /// Checks GIF and the pending events. A pending event that is neither in EVENTINJ nor held by the engine
    /// is lost.
    fn check_pending(&mut self, index: usize) -> Result<(), Finding> {
        let vm = &self.vms[index];
        if vm.nested.gif() != vm.gif {
            self.found(Oracle::Events, index, || format!("GIF should be {}", vm.gif))?;
        }
        if vm.nested.waits() || vm.page().vmcb().eventinj().valid() {
            return Ok(());
        }
        if self.ledgers[index].is_settled() {
            return Ok(());
        }
        let lost = core::mem::take(&mut self.ledgers[index]);
        self.found(Oracle::Events, index, || format!("lost: {lost:x?}"))
    }

    /// L0 changes its map of a VM's memory, migrates or recreates the VM, or makes the host refuse the next
    /// VMRUN of L2.
    fn step_of_l0(&mut self, index: usize) -> Result<(), Finding> {
        match self.choices.below(16) {
            0..=5 => self.move_page(index),
            6..=8 => self.unmap_page(index),
            9 if self.write_protects => self.write_protect(index),
            10 if self.switches_roots => {
                self.note(index, Action::SwitchRoot);
                self.vms[index].memory.switch_root();
                self.vms[index].forget();
            }
            11 | 12 if self.migrates => self.save_and_load(index),
            13 | 14 => {
                self.note(index, Action::Refuse);
                self.refuse = true;
            }
            _ if self.choices.one_in(16) => self.recreate(index),
            _ => {}
        }
        Ok(())
    }
}
