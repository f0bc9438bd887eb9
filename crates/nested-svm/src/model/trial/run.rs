//! Runs the guests of a trial and compares their accesses and events with the reference and the ledger.

use super::ledger::{L1Exit, Resolved, is_asynchronous};
use super::reference::{Expected, nested_path};
use super::vm::Vm;
use super::{Action, Finding, Oracle, Trial};
use crate::model::paging::{A, D};
use crate::model::{Access, Seen, Step};
use crate::{Exit, Guest};
use std::format;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode, Vector};

/// Where a run of a guest stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// L2 ended, by this exit code.
    L1(u64),
    /// The guest stopped at an exit for L0.
    L0(u64),
    /// The VM shut down, and another one was created.
    Shutdown,
}

/// Entries that one script may need. With few shadow pages an access may fault many times.
const ENTRIES: usize = 400;

const NPF: u64 = 0x400;
const INTR: u64 = 0x60;
const NMI: u64 = 0x61;
const VINTR: u64 = 0x64;

impl Trial {
    /// Gives the next guest a script, which ends with an exit of this code.
    pub(super) fn prepare(&mut self, steps: impl IntoIterator<Item = Step>, code: u64) {
        self.script.clear();
        self.script.extend(steps);
        self.accesses.clear();
        self.accesses.extend(self.script.iter().copied().filter(is_access));
        self.script.push_back(Step::Exit(code, [0, 0]));
    }

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
            if core::mem::take(&mut window_opened) && !self.vms[index].vmcb02.vmcb().event_inj().valid() {
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

    /// Calls the engine, which may put an interrupt or NMI into EVENTINJ, and checks that the guest may take it.
    pub(super) fn delivers<R>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Vm) -> R,
    ) -> Result<R, Finding> {
        let vm = &mut self.vms[index];
        let before = vm.page().vmcb().event_inj();
        let result = call(vm);
        let event = vm.page().vmcb().event_inj();
        if event.valid() && !before.valid() && is_asynchronous(event) {
            let by_l1 = self.ledgers[index].l2_has(event);
            if !vm.takes(vm.nested.guest(), event.event_type(), by_l1) {
                self.found(Oracle::Events, index, || {
                    format!("{event:x?} is injected although the guest masks it")
                })?;
            }
        }
        Ok(result)
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

    pub(super) fn shut_down(&mut self, index: usize) -> Stop {
        self.recreate(index);
        Stop::Shutdown
    }

    /// L0 takes what is pending at the CPU.
    fn take_physical_interrupt(&mut self) {
        self.hardware.pins = crate::model::Pins::default();
    }

    /// Compares what the CPU did with the reference and the ledger.
    fn after_run(&mut self, index: usize, guest: Guest) -> Result<(), Finding> {
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
            let event = self.vms[index].vmcb02.vmcb().exit_int_info();
            self.ledgers[index].interrupted(event, source);
        }
        result.or_else(|wrong| self.found(Oracle::Events, index, || wrong))
    }

    /// Checks the VMCB12 that L1 receives after an exit of L2. `by_cpu` is set if the exit comes from the
    /// CPU, and not from the engine.
    pub(super) fn l2_ended(&mut self, index: usize, by_cpu: bool) -> Result<Stop, Finding> {
        let vm = &mut self.vms[index];
        let code = vm.get12(f::exitcode);
        let kind = if code == INTR { EventType::INTERRUPT } else { EventType::NMI };
        let masked = matches!(code, INTR | NMI) && !vm.exits_by(kind);
        vm.gif = false;
        if masked {
            self.found(Oracle::Events, index, || format!("exit {code:#x} although L2 masks it"))?;
        }
        let vm = &mut self.vms[index];
        let hardware_code = vm.vmcb02.get(f::exitcode);
        let cr3 = vm.get12(f::cr3);
        if code == ExitCode::INVALID.bits() {
            vm.refused();
            self.note(index, Action::Refused);
            self.counters.host_refusals += 1;
            if self.vms[index].ran {
                // L2 has a state that L1 has not seen: this exit reports its event like any other.
                self.check_exit(index, code, false)?;
            } else {
                self.counters.merged += self.ledgers[index].refused();
            }
            self.hardware.delivery.clear();
            return Ok(Stop::L1(code));
        }
        let asid = vm.entered.asid;
        vm.l1.left(asid, cr3);
        self.counters.l1_exits += 1;
        if code == NPF {
            self.check_fault_of_l1(index)?;
        }
        match code {
            INTR => self.counters.intr_exits += 1,
            NMI => self.counters.nmi_exits += 1,
            0x40..=0x5F => self.counters.exception_exits += 1,
            _ => {}
        }
        self.check_exit(index, code, by_cpu && code == hardware_code)?;
        self.hardware.delivery.clear();
        Ok(Stop::L1(code))
    }

    /// Checks the fates of the events of an L2 that ended.
    fn check_exit(&mut self, index: usize, code: u64, raised_by_cpu: bool) -> Result<(), Finding> {
        let exit = self.l1_exit(index, code, raised_by_cpu);
        match self.ledgers[index].exit_to_l1(&exit) {
            Ok(Resolved { reported, .. }) => {
                self.counters.reported += reported;
                Ok(())
            }
            Err(wrong) => {
                self.ledgers[index].end_l2();
                self.found(Oracle::Events, index, || wrong)
            }
        }
    }

    fn l1_exit(&self, index: usize, code: u64, raised_by_cpu: bool) -> L1Exit {
        const V_IRQ: u64 = 1 << 8;
        let vm = &self.vms[index];
        let pending = vm.get12(f::int_ctl) & V_IRQ != 0;
        let intercepts = vm.get12(f::intercept_misc1);
        L1Exit {
            code: ExitCode::from_bits(code),
            info: vm.get12(f::exitinfo1),
            interrupted: Event::from_bits(vm.get12(f::exitintinfo)),
            vmcb: vm.entered.vmcb,
            virtual_interrupt: pending.then(|| vm.get12(f::v_intr_vector) as u8),
            intercepts: [intercepts & 1 != 0, intercepts & 2 != 0],
            raised_by_cpu,
        }
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
    fn check_fault_of_l1(&mut self, index: usize) -> Result<(), Finding> {
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
    fn resolve_fault_of_l2(&mut self, index: usize, address: u64) -> Result<(), Finding> {
        let address = self.vms[index].nested.l1_address().unwrap_or(address);
        self.resolve_fault_of_l0(index, Guest::L2, address)
    }

    fn resolve_fault_of_l1(&mut self, index: usize) -> Result<(), Finding> {
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
        memory.set_mapping(page, super::host::Mapping { present: true, writable: true, ..mapping });
        Ok(())
    }
}

pub(super) const fn is_access(step: &Step) -> bool {
    matches!(step, Step::Access(_) | Step::Linear(_))
}

const fn is_write(step: Step) -> bool {
    matches!(step, Step::Access(Access { write: true, .. }) | Step::Linear(Access { write: true, .. }))
}
