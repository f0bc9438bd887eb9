//! Compares what the CPU did with the reference and the ledger.

use super::host::Mapping;
use super::reference::{Expected, nested_path};
use super::report::{Finding, Oracle};
use super::script::{is_access, is_write};
use super::state::Trial;
use crate::model::paging::{A, D};
use crate::model::script::{Seen, Step};
use crate::types::Guest;
use std::format;
use vmcb::layout::vmcb_field as f;

impl Trial {
    /// Compares what the CPU did with the reference and the ledger.
    pub(super) fn after_run(&mut self, index: usize, guest: Guest) -> Result<(), Finding> {
        if core::mem::take(&mut self.hardware.masked) > 0 {
            self.found(Oracle::Masking, index, || format!("{guest:?} masks an interrupt of L0"))?;
        }
        self.compare_accesses(index, guest)?;
        self.account_events(index, guest)
    }

    fn compare_accesses(&mut self, index: usize, guest: Guest) -> Result<(), Finding> {
        let mut outcomes = core::mem::take(&mut self.hardware.accesses);
        for outcome in outcomes.drain(..) {
            let step = self.accesses.pop_front().expect("each access is in the script");
            self.counters.accesses += 1;
            match (self.expect(index, guest, step), outcome) {
                (Expected::Reaches { host, guest: address }, Some(reached)) if host == reached => {
                    self.check_marks(index, guest, step, address)?;
                }
                (Expected::GuestFault, None) => self.counters.guest_faults += 1,
                (expected, _) => self.found(Oracle::Memory, index, || {
                    format!("{guest:?}: {step:x?} reached {outcome:x?}, expected {expected:x?}")
                })?,
            }
        }
        self.hardware.accesses = outcomes;
        Ok(())
    }

    fn expect(&self, index: usize, guest: Guest, step: Step) -> Expected {
        let vm = &self.vms[index];
        let tables = if guest == Guest::L1 { vm.l1_tables() } else { vm.l2_tables() };
        match step {
            Step::Linear(access) => tables.linear(access),
            Step::Access(access) => tables.guest_physical(access),
            _ => unreachable!("only accesses are compared"),
        }
    }

    /// Checks that L1's nested tables have the accessed and dirty bits of an access of L2.
    fn check_marks(&self, index: usize, guest: Guest, step: Step, address: u64) -> Result<(), Finding> {
        let vm = &self.vms[index];
        let (Guest::L2, Some(n_cr3)) = (guest, vm.l2_tables().n_cr3) else { return Ok(()) };
        let (entries, count) = nested_path(&vm.memory, n_cr3, address);
        let entries = &entries[..count];
        let dirty = entries.last().is_some_and(|leaf| leaf & D != 0);
        if entries.iter().all(|entry| entry & A != 0) && (dirty || !is_write(step)) {
            return Ok(());
        }
        self.found(Oracle::Memory, index, || {
            format!("{step:x?}: accessed and dirty bits of L1's tables are missing: {entries:x?}")
        })
    }

    fn account_events(&mut self, index: usize, guest: Guest) -> Result<(), Finding> {
        let seen = core::mem::take(&mut self.hardware.seen);
        let mut sources = self.hardware.sources.drain(..);
        let mut result = Ok(());
        for seen in &seen {
            let Seen::Delivered(event, _) = *seen else { continue };
            let source = sources.next().expect("each delivery has a source");
            match guest {
                Guest::L1 => self.counters.delivered_to_l1 += 1,
                Guest::L2 => self.counters.delivered_to_l2 += 1,
            }
            result = result.and(self.ledgers[index].delivered(guest, event, source));
        }
        drop(sources);
        self.hardware.seen = seen;
        self.hardware.seen.clear();
        if let (Guest::L2, Some(source)) = (guest, self.hardware.interrupted) {
            let event = self.vms[index].vmcb02.vmcb().exitintinfo();
            self.ledgers[index].interrupted(event, source);
        }
        result.or_else(|wrong| self.found(Oracle::Events, index, || wrong))
    }

    /// Returns the expected result of the access that faulted.
    fn expect_of_fault(&self, index: usize, guest: Guest) -> Option<Expected> {
        let vm = &self.vms[index];
        match (self.hardware.interrupted, self.hardware.delivery.front()) {
            (Some(_), Some(&access)) => Some(vm.l2_tables().guest_physical(access)),
            _ => self.script.front().copied().filter(is_access).map(|step| self.expect(index, guest, step)),
        }
    }

    /// L1 got a nested page fault: the reference must fault in the same way.
    pub(super) fn check_fault_of_l1(&mut self, index: usize) -> Result<(), Finding> {
        self.counters.l1_faults += 1;
        let vm = &self.vms[index];
        let got = Expected::L1Fault(vm.get12(f::exitinfo1), vm.get12(f::exitinfo2));
        let expected = self.expect_of_fault(index, Guest::L2);
        if expected == Some(got) {
            return Ok(());
        }
        let step = self.script.front();
        self.found(Oracle::Memory, index, || format!("{step:x?}: L1 got {got:x?}, expected {expected:x?}"))
    }

    /// L2 accessed a page that L0 does not map: L0 maps it.
    pub(super) fn resolve_fault_of_l2(&mut self, index: usize, address: u64) -> Result<(), Finding> {
        let address = self.vms[index].nested.l1_address().unwrap_or(address);
        self.resolve_fault_of_l0(index, Guest::L2, address)
    }

    pub(super) fn resolve_fault_of_l1(&mut self, index: usize) -> Result<(), Finding> {
        let address = self.vms[index].vmcb01.get(f::exitinfo2);
        self.resolve_fault_of_l0(index, Guest::L1, address)
    }

    fn resolve_fault_of_l0(&mut self, index: usize, guest: Guest, address: u64) -> Result<(), Finding> {
        self.counters.l0_faults += 1;
        let expected = self.expect_of_fault(index, guest);
        let page = address >> 12;
        let is_allowed_by_now =
            matches!(expected, Some(Expected::Reaches { guest, .. }) if guest >> 12 == page);
        if guest == Guest::L1 && is_allowed_by_now {
            // L0 granted a right when L2 needed it. The TLB had an older entry for L1, and the fault dropped it.
            return Ok(());
        }
        let known = matches!(expected, Some(Expected::L0Fault(wanted)) if wanted >> 12 == page);
        let memory = &self.vms[index].memory;
        let Some(mapping) = memory.mapping(page).filter(|_| known) else {
            let step = self.script.front();
            return self.found(Oracle::Memory, index, || {
                format!("{step:x?}: L0 got a fault at {address:#x}, expected {expected:x?}")
            });
        };
        // Nothing was mapped, or fewer rights: no flush is needed.
        memory.set_mapping(page, Mapping { present: true, writable: true, ..mapping });
        Ok(())
    }
}
