//! The steps of a trial that L0, L1 and L2 make, other than events.

use super::host::{Mapping, VM_PAGES};
use super::l1::{self, ASIDS, Stale};
use super::layout::{
    DATA, GUEST_PAGES, LARGE_BLOCK, LINEAR, LINEAR_LARGE, LINEAR_PAGES, SETS, SHADOW_SPACE, SPACES, VMCBS,
    guest_page,
};
use super::run::Stop;
use super::vm::Entered;
use super::{Action, Finding, Trial};
use crate::Guest;
use crate::model::{Access, Step};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, Vector};

const VMRUN: u64 = 0x80;
const VMMCALL: u64 = 0x81;
const STGI: u64 = 0x84;
const CLGI: u64 = 0x85;
const INVLPGA: u64 = 0x7A;
pub(super) const CPUID: u64 = 0x72;
const NPF: u64 = 0x400;

pub(super) const IF: u64 = 1 << 9;
impl Trial {
    /// L0 changes its map of a VM's memory, migrates or recreates the VM, or makes the host refuse the next
    /// VMRUN of L2.
    pub(super) fn step_of_l0(&mut self, index: usize) -> Result<(), Finding> {
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

    fn move_page(&mut self, index: usize) {
        if self.move_page_without_flush(index) {
            self.vms[index].forget();
        }
    }

    /// Returns whether a page moved.
    fn move_page_without_flush(&mut self, index: usize) -> bool {
        let page = if self.choices.one_in(4) { self.choices.below(VM_PAGES) } else { self.data_page() };
        let vm = &self.vms[index];
        let moved = self.host.move_page(&vm.memory, vm.blocks, page, &mut self.choices);
        if moved {
            self.counters.moved_pages += 1;
            self.note(index, Action::MovePage { page });
        }
        moved
    }

    /// The VM migrates. Its memory may be elsewhere on the new host.
    pub(super) fn save_and_load(&mut self, index: usize) {
        self.note(index, Action::SaveAndLoad);
        self.counters.loaded += 1;
        if self.choices.one_in(2) {
            self.move_page_without_flush(index);
        }
        self.vms[index].save_and_load(&mut self.saved);
    }

    fn unmap_page(&mut self, index: usize) {
        let page = self.data_page();
        let vm = &mut self.vms[index];
        let Some(mapping) = vm.memory.mapping(page).filter(|mapping| mapping.present) else { return };
        vm.memory.set_mapping(page, Mapping { present: false, writable: false, ..mapping });
        vm.forget();
        self.counters.moved_pages += 1;
        self.note(index, Action::UnmapPage { page });
    }

    fn write_protect(&mut self, index: usize) {
        let page = self.data_page();
        let vm = &mut self.vms[index];
        let Some(mapping) = vm.memory.mapping(page).filter(|mapping| mapping.present) else { return };
        vm.memory.set_mapping(page, Mapping { writable: false, ..mapping });
        vm.forget();
        self.note(index, Action::WriteProtect { page });
    }

    fn data_page(&mut self) -> u64 {
        if self.choices.one_in(8) {
            return LARGE_BLOCK + self.choices.below(4);
        }
        DATA.start + self.choices.below(DATA.end - DATA.start)
    }

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
    pub(super) fn react(&mut self, index: usize, stop: Stop) {
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
    pub(super) fn guest_physical_access(&mut self, index: usize) -> Access {
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
}
