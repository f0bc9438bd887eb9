//! The steps that an L1 makes.

use super::l1::{self, ASIDS, Stale};
use super::layout::{SHADOW_SPACE, SPACES, VMCBS};
use super::report::{Action, Finding};
use super::script::{CPUID, IF, Stop};
use super::state::Trial;
use super::vm::Entered;
use crate::model::script::{Access, Step};
use crate::types::Guest;
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, Vector};

const VMRUN: u64 = 0x80;
const STGI: u64 = 0x84;
const CLGI: u64 = 0x85;
const INVLPGA: u64 = 0x7A;

impl Trial {
    /// L1 runs.
    pub(super) fn step_of_l1(&mut self, index: usize) -> Result<(), Finding> {
        match self.choices.below(16) {
            0 | 1 => self.access_of_l1(index),
            2..=5 => {
                let space = self.choices.below(SHADOW_SPACE as u64) as usize;
                self.note(index, Action::ChangeNested { space });
                let vm = &mut self.vms[index];
                vm.l1.change_nested(&vm.memory, space, &mut self.choices);
                Ok(())
            }
            6 => {
                let space = self.choices.below(SPACES as u64) as usize;
                self.note(index, Action::ChangeGuest { space });
                let vm = &mut self.vms[index];
                vm.l1.change_guest(&vm.memory, space, None, &mut self.choices);
                Ok(())
            }
            7 => {
                let asid = 1 + self.choices.below(ASIDS.into()) as u32;
                self.invlpga_of_l1(index, asid)
            }
            8 => self.set_gif(index, true),
            9 if self.choices.one_in(2) => self.set_gif(index, false),
            _ => self.enter_l2(index),
        }
    }

    fn access_of_l1(&mut self, index: usize) -> Result<(), Finding> {
        let page = self.data_page() << 12;
        let address = page + self.choices.below(512) * 8;
        let write = self.choices.one_in(2);
        self.note(index, Action::L1Access { address, write });
        self.prepare([Step::Access(Access { write, ..Access::read(address) })], CPUID);
        self.run_l1(index)?;
        if self.choices.one_in(2) {
            // Sets RFLAGS.IF, as the IRET of an interrupt handler does.
            self.vms[index].vmcb01.set_bits(f::rflags, IF, IF);
        }
        Ok(())
    }

    /// L1 executes an instruction that L0 intercepts. Returns whether L1 reached it.
    fn l1_executes(&mut self, index: usize, code: u64) -> Result<bool, Finding> {
        self.prepare([], code);
        Ok(self.run_l1(index)? == Stop::L0(code))
    }

    fn invlpga_of_l1(&mut self, index: usize, asid: u32) -> Result<(), Finding> {
        self.note(index, Action::Invlpga { asid });
        if self.l1_executes(index, INVLPGA)? {
            let vm = &mut self.vms[index];
            vm.call(|nested, world| nested.invlpga(world, asid)).expect("L1 may execute INVLPGA");
            vm.l1.flushed(asid);
        }
        Ok(())
    }

    fn set_gif(&mut self, index: usize, gif: bool) -> Result<(), Finding> {
        self.note(index, Action::SetGif(gif));
        if self.l1_executes(index, if gif { STGI } else { CLGI })? {
            self.vms[index]
                .call(|nested, world| if gif { nested.stgi(world) } else { nested.clgi(world) })
                .expect("L1 may execute STGI and CLGI");
            self.vms[index].gif = gif;
        }
        Ok(())
    }

    /// L1 prepares VMCB12 and executes VMRUN, with the flush that it owes.
    fn enter_l2(&mut self, index: usize) -> Result<(), Finding> {
        let space = self.choices.below(SPACES as u64) as usize;
        let vmcb = self.choices.pick(&VMCBS);
        let asid = match self.choices.below(8) {
            0..=5 => 1 + self.choices.below(3) as u32,
            6 => self.vms[index].l1.fresh_asid().unwrap_or(1),
            _ => 1 + self.choices.below(ASIDS.into()) as u32,
        };
        self.vms[index].entered = Entered { space, asid, vmcb };
        let cr3 = self.choose_cr3(index, space);
        let stale = self.vms[index].l1.stale(asid, space, cr3);
        self.counters.flushes += u64::from(stale != Stale::Nothing);
        let tlb_control = match (stale, self.choices.below(8)) {
            (Stale::Nothing, 0) => self.choices.pick(&[1, 3, 7]),
            (Stale::Nothing, _) => 0,
            (_, 0) => 1,
            (_, 1 | 2) => {
                self.invlpga_of_l1(index, asid)?;
                0
            }
            (Stale::NonGlobal, 3..=5) => 7,
            _ => 3,
        };
        self.write_vmcb12(index, tlb_control, cr3);
        let eventinj = self.choose_eventinj(index);
        self.note(index, Action::Vmrun { space, asid, tlb_control, eventinj });
        if !self.l1_executes(index, VMRUN)? {
            return Ok(());
        }
        let vm = &mut self.vms[index];
        vm.l1.before_vmrun();
        vm.vmcb01.set(f::rax, vmcb << 12);
        match vm.vmrun() {
            Ok(Guest::L2) => {}
            other => panic!("VMRUN of a legal VMCB12 was refused: {other:x?}"),
        }
        if tlb_control == 1 {
            vm.l1.flushed_all();
        }
        vm.l1.entered(asid, space, cr3);
        vm.ran = false;
        vm.gif = true;
        vm.host_if = vm.vmcb01.get(f::rflags) & IF != 0;
        self.counters.entries += 1;
        self.events_entered(index);
        Ok(())
    }

    /// Mostly the CR3 that L2 left with.
    fn choose_cr3(&mut self, index: usize, space: usize) -> u64 {
        let saved = self.vms[index].get12(f::cr3);
        let sets = [l1::cr3(space, 0), l1::cr3(space, 1)];
        if sets.contains(&saved) && !self.choices.one_in(8) { saved } else { self.choices.pick(&sets) }
    }

    fn write_vmcb12(&mut self, index: usize, tlb_control: u64, cr3: u64) {
        const ALWAYS: u64 = 1 << 31;
        let intercepts = self.choices.below(4) | self.choices.pick(&[0, 1 << 4]) | ALWAYS;
        let exceptions = self.choices.below(16);
        let exceptions = (exceptions & 1) << 1
            | (exceptions >> 1 & 1) << 13
            | (exceptions >> 2 & 1) << 14
            | (exceptions >> 3 & 1) << 8;
        let masking = self.choices.pick(&[0, 1 << 24]);
        let virtual_interrupt = if self.choices.one_in(6) { 1 << 8 | 1 << 20 } else { 0 };
        let vector = 0x20 + self.choices.below(0xE0);
        let event = Event::new(EventType::INTERRUPT, Vector::new(vector as u8));
        let virtual_interrupt = if self.ledgers[index].is_pending(event) { 0 } else { virtual_interrupt };
        let interrupts = self.choices.pick(&[0x002, 0x202]);
        let shadow = self.choices.pick(&[0, 0, 0, 1]);
        let vm = &mut self.vms[index];
        let Entered { space, asid, .. } = vm.entered;
        for (field, value) in [
            (f::intercept_misc1, intercepts),
            (f::intercept_exceptions, exceptions),
            (f::nested_ctl, u64::from(space != SHADOW_SPACE)),
            (f::n_cr3, l1::n_cr3(space).unwrap_or(0)),
            (f::guest_asid, asid.into()),
            (f::tlb_control, tlb_control),
            (f::cr3, cr3),
            (f::rflags, interrupts),
            (f::rip, 0x8000),
            (f::interrupt_state, shadow),
            (f::int_ctl, masking | virtual_interrupt),
            (f::v_intr_vector, vector),
        ] {
            vm.set12(field, value);
        }
    }
}
