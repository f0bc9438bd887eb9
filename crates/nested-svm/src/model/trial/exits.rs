//! Calls of the engine that inject an event or end L2, and what must hold after them.

use super::ledger::{L1Exit, Resolved, is_asynchronous};
use super::report::{Action, Finding, Oracle};
use super::script::{INTR, NMI, NPF, Stop};
use super::state::Trial;
use super::vm::Vm;
use std::format;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode};

impl Trial {
    /// Calls the engine, which may put an interrupt or NMI into EVENTINJ, and checks that the guest may take it.
    pub(super) fn delivers<R>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Vm) -> R,
    ) -> Result<R, Finding> {
        let vm = &mut self.vms[index];
        let before = vm.page().vmcb().eventinj();
        let result = call(vm);
        let event = vm.page().vmcb().eventinj();
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

    pub(super) fn shut_down(&mut self, index: usize) -> Stop {
        self.recreate(index);
        Stop::Shutdown
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
}
