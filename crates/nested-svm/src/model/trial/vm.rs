//! A VM of a trial: its engine, VMCBs, memory and L1.

use super::choices::Choices;
use super::host::{Blocks, Host, VmMemory, VmTables};
use super::l1::{self, L1};
use super::layout::VMCBS;
use super::reference::Translation;
use crate::engine::msr::Msr;
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::model::machine::{AFTER_VMRUN, HOST};
use crate::shadow::pool::Shadow;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Exit, Fault, Guest};
use std::boxed::Box;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Event, EventType, Feature, Limits};

/// An L2 that L1 entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    /// Address space.
    pub(super) space: usize,
    /// ASID in VMCB12.
    pub(super) asid: u32,
    /// Page of VMCB12.
    pub(super) vmcb: u64,
}

/// ASIDs of L1 and L2 on the hardware.
pub(super) type Asids = [u32; 2];

/// A VM.
#[derive(Debug)]
pub(super) struct Vm {
    pub(super) nested: Nested,
    pub(super) vmcb01: Box<Page>,
    pub(super) vmcb02: Box<Page>,
    pub(super) memory: VmMemory,
    pub(super) shadow: Shadow<VmTables>,
    pub(super) blocks: Blocks,
    pub(super) asids: Asids,
    pub(super) l1: L1,
    /// L2 that L1 entered last.
    pub(super) entered: Entered,
    /// The CPU has run L2 since L1's VMRUN.
    pub(super) ran: bool,
    /// GIF, written independently of the engine.
    pub(super) gif: bool,
    /// L1's RFLAGS.IF at its last VMRUN.
    pub(super) host_if: bool,
    /// L0 must flush L1's own translations at the next entry into L1.
    pub(super) flush_l1: bool,
}

/// Bits of CR0 and CR4 that the template of L2 does not have: CR0.WP and CR4.PGE.
const CR0_WP: u64 = 1 << 16;
const CR4_PGE: u64 = 1 << 7;
/// EFER of L1: SVM, no-execute pages, long mode.
const EFER: u64 = 0x1D01;
/// RFLAGS.IF, and V_INTR_MASKING of int_ctl.
const IF: u64 = 1 << 9;
const V_INTR_MASKING: u64 = 1 << 24;
/// VMCB01's intercepts of INTR and NMI: L0 takes physical interrupts.
const INTR_AND_NMI: u64 = 3;

impl Vm {
    /// Creates a VM in a slot. Its hardware ASIDs may have belonged to another VM.
    pub(super) fn new(
        host: &mut Host,
        slot: usize,
        asids: Asids,
        limits: &Limits,
        choices: &mut Choices,
    ) -> Self {
        let scattered = choices.one_in(2);
        let (memory, tables, blocks) = host.create(slot, scattered, choices);
        let own = crate::types::Host { asid: asids[1], takes_interrupts: true, ..HOST };
        let has = |feature| feature != Feature::LmsleUnsupported;
        let nested = Nested::new(limits.clone(), own, has).expect("the host has all features");
        let mut vm = Self {
            nested,
            vmcb01: Box::new(crate::model::machine::l1()),
            vmcb02: Box::new(Page::zeroed()),
            l1: L1::new(&memory),
            shadow: new_shadow(tables),
            memory,
            blocks,
            asids,
            entered: Entered { space: 0, asid: 1, vmcb: VMCBS[0] },
            ran: false,
            gif: true,
            host_if: true,
            // The engine requests a flush for the first entry into L1.
            flush_l1: false,
        };
        for (field, value) in
            [(f::efer, EFER & !1), (f::guest_asid, asids[0].into()), (f::n_cr3, vm.memory.n_cr3())]
        {
            vm.vmcb01.set(field, value);
        }
        vm.vmcb01.set_bits(f::intercept_misc1, INTR_AND_NMI, INTR_AND_NMI);
        vm.nested.write_msr(&mut vm.vmcb01, Msr::Efer, EFER).expect("the CPU has SVM");
        let mut template = crate::model::machine::l2();
        template.set_bits(f::cr0, CR0_WP, CR0_WP);
        template.set_bits(f::cr4, CR4_PGE, CR4_PGE);
        for page in VMCBS {
            vm.memory.write(page << 12, template.bytes()).expect("L1 has this page");
        }
        vm
    }

    /// Calls the engine.
    pub(super) fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Nested, &mut World<'_, VmMemory, VmTables, ()>) -> R,
    ) -> R {
        let mut world = World {
            vmcb01: &mut self.vmcb01,
            vmcb02: &mut self.vmcb02,
            memory: &mut self.memory,
            shadow: &mut self.shadow,
            trace: &mut (),
            rcx: 0,
        };
        call(&mut self.nested, &mut world)
    }

    /// Page of the guest that runs.
    pub(super) fn page(&self) -> &Page {
        self.page_of(self.nested.guest())
    }

    fn page_of(&self, guest: Guest) -> &Page {
        match guest {
            Guest::L1 => &self.vmcb01,
            Guest::L2 => &self.vmcb02,
        }
    }

    /// Whether a guest may take an interrupt or NMI now. If L1 injected it, V_INTR_MASKING is irrelevant.
    ///
    /// # Source
    /// Manual volume 2, 15.17 (GIF), 15.21.1 (V_INTR_MASKING).
    pub(super) fn takes(&self, guest: Guest, kind: EventType, by_l1: bool) -> bool {
        let page = self.page_of(guest);
        let shadow = page.get(f::interrupt_state) & 1 != 0;
        let masking = guest == Guest::L2 && self.get12(f::int_ctl) & V_INTR_MASKING != 0;
        let flag = if masking && !by_l1 { self.host_if } else { page.get(f::rflags) & IF != 0 };
        self.gif && (flag && !shadow || kind != EventType::INTERRUPT)
    }

    /// Whether L2 may end by an INTR or NMI exit now. With V_INTR_MASKING this does not wait for the end of an interrupt
    /// shadow, since nothing is injected.
    pub(super) fn exits_by(&self, kind: EventType) -> bool {
        let masking = self.get12(f::int_ctl) & V_INTR_MASKING != 0;
        self.takes(Guest::L2, kind, false) || self.gif && masking && self.host_if
    }

    /// Lets the engine inject pending events. Returns the guest that runs next.
    pub(super) fn before_entry(&mut self) -> Guest {
        self.call(|nested, world| nested.before_entry(world))
    }

    /// L0 waits for the guest to take interrupts.
    pub(super) fn open_window(&mut self) {
        self.call(|nested, world| nested.open_window(world));
    }

    /// Returns whether no interrupt window is left: L2 has VMCB12's VINTR intercept, and L1 has neither that
    /// intercept nor V_IRQ.
    pub(super) fn has_own_virtual_interrupt(&self) -> bool {
        const V_IRQ: u64 = 1 << 8;
        const VINTR: u64 = 1 << 4;
        let intercept = self.page().get(f::intercept_misc1) & VINTR;
        match self.nested.guest() {
            Guest::L1 => intercept == 0 && self.vmcb01.get(f::int_ctl) & V_IRQ == 0,
            Guest::L2 => intercept == self.get12(f::intercept_misc1) & VINTR,
        }
    }

    /// VMCB02 came back with an exit.
    pub(super) fn exit(&mut self) -> Exit {
        self.call(|nested, world| nested.exit(world))
    }

    /// L1 executes VMRUN.
    pub(super) fn vmrun(&mut self) -> Result<Guest, Fault> {
        self.call(|nested, world| nested.vmrun(world, AFTER_VMRUN))
    }

    /// L0 raises #PF.
    pub(super) fn inject_page_fault(&mut self, error_code: u32, address: u64) -> Exit {
        self.call(|nested, world| nested.inject_page_fault(world, error_code, address))
    }

    /// L0 injects an event.
    pub(super) fn inject(&mut self, event: Event) -> Exit {
        self.call(|nested, world| nested.inject(world, event))
    }

    /// The VMRUN of L2 was refused: L1 must assume that it flushed nothing.
    pub(super) fn refused(&mut self) {
        self.l1.refused(self.entered.asid);
    }

    /// L0 changed its map of this VM's memory.
    pub(super) fn forget(&mut self) {
        self.flush_l1 = true;
        self.vmcb01.set(f::n_cr3, self.memory.n_cr3());
        self.call(|nested, world| nested.forget(world));
    }

    /// Saves the nested state and loads it again, as a migration to another host does.
    pub(super) fn save_and_load(&mut self, buffer: &mut [u8; Nested::SAVED_MAX]) {
        let length = self.call(|nested, world| nested.save(world, buffer).len());
        let own = crate::types::Host { asid: self.asids[1], takes_interrupts: true, ..HOST };
        *self.vmcb02 = Page::zeroed();
        self.nested = Nested::for_verdicts(self.nested.limits().clone(), own);
        self.call(|nested, world| nested.load(world, &buffer[..length]))
            .expect("what was saved can be loaded");
    }

    /// Reads a field of the VMCB12 that L1 entered last.
    pub(super) fn get12(&self, field: Field) -> u64 {
        let mut bytes = [0; 8];
        let size = usize::from(field.size.min(8));
        let at = (self.entered.vmcb << 12) + u64::from(field.offset);
        self.memory.read(at, &mut bytes[..size]).expect("VMCB12 is in memory");
        u64::from_le_bytes(bytes)
    }

    /// Writes a field of the VMCB12 that L1 enters next.
    pub(super) fn set12(&mut self, field: Field, value: u64) {
        let size = usize::from(field.size.min(8));
        let at = (self.entered.vmcb << 12) + u64::from(field.offset);
        self.memory.write(at, &value.to_le_bytes()[..size]).expect("VMCB12 is in memory");
    }

    /// The tables that apply to L2 now.
    pub(super) fn l2_tables(&self) -> Translation<'_> {
        let cr3 = self.vmcb02.get(f::cr3);
        Translation { memory: &self.memory, n_cr3: l1::n_cr3(self.entered.space), cr3 }
    }

    /// Returns the translation of L1's own accesses, which L1's tables do not affect.
    pub(super) fn l1_tables(&self) -> Translation<'_> {
        Translation { memory: &self.memory, n_cr3: None, cr3: 0 }
    }
}

/// Creates the shadow of a VM in these pages.
fn new_shadow(tables: VmTables) -> Shadow<VmTables> {
    Shadow::new(tables).expect("enough pages")
}
