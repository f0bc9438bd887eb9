//! An L0 with one virtual CPU on the software CPU.

use super::cpu::Hardware;
use super::pages::{L1_TABLES, Pages};
use super::ram::Ram;
use super::script::Step;
use crate::engine::msr::Msr;
use crate::l0::page::Page;
use crate::l0::trace::{Refusal, Trace, Traced};
use crate::shadow::pool::Shadow;
use crate::state::nested::Nested;
use crate::state::world::World;
use crate::types::{Exit, Fault, Guest, Host};
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::vec::Vec;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Cpu, Event, Feature, Limits, Policy, Rule};

/// The limits of a virtual CPU by its text, as [`Cpu::parse`] reads it.
///
/// # Panics
/// Where the text names no CPU.
#[must_use]
pub fn limits(cpu: &str) -> Limits {
    Limits::compile(&Cpu::parse(cpu).expect("a CPU that exists"), Policy::VirtualCpu)
}

/// A virtual CPU with most of what the engine gives.
pub const CPU: &str = "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload";

/// Where the model's L0 has what is its own.
pub const HOST: Host = Host {
    asid: 2,
    flush_by_asid: true,
    iopm: 0x7_0000_0000,
    msrpm: 0x7_0000_4000,
    every_port: 0x7_0000_8000,
    every_msr: 0x7_0000_C000,
    marks_pdptes: true,
    takes_interrupts: false,
    virtual_spec_ctrl: false,
    gib_pages: true,
};

/// A nested state on a host that has every feature that a guest can have of it.
///
/// # Panics
/// Where no host can run such a virtual CPU.
#[must_use]
pub fn nested(limits: Limits) -> Nested {
    nested_on(HOST, limits)
}

fn nested_on(host: Host, limits: Limits) -> Nested {
    Nested::new(limits, host, |feature| feature != Feature::LmsleUnsupported).expect("the host has all")
}

/// What was traced, as text.
#[derive(Clone, Debug, Default)]
pub struct Log(pub Vec<String>);

impl Trace for Log {
    fn trace(&mut self, happened: Traced<'_>) {
        self.0.push(match happened {
            Traced::Refused { address, reason: Refusal::Rules(verdict), .. } => {
                let rules = verdict.broken().union(verdict.undecided());
                let ids: Vec<_> = rules.iter().map(Rule::id).collect();
                format!("refused {address:#x}: {}", ids.join(" "))
            }
            Traced::Refused { address, reason, .. } => format!("refused {address:#x}: {reason:?}"),
            Traced::HostRefused { code, .. } => format!("host refused: {code}"),
            Traced::Entered { address } => format!("entered {address:#x}"),
            Traced::Reflected { code } => format!("reflected {code}"),
        });
    }
}

/// An L0 with one virtual CPU on the software CPU.
#[derive(Debug)]
pub struct Machine {
    /// The engine.
    pub nested: Nested,
    /// L1.
    pub vmcb01: Box<Page>,
    /// L2.
    pub vmcb02: Box<Page>,
    /// L1's memory.
    pub ram: Ram,
    /// Shadow tables.
    pub shadow: Shadow<Pages>,
    /// What was traced.
    pub log: Log,
    /// The CPU below.
    pub hardware: Hardware,
    /// ECX.
    pub rcx: u32,
}

/// Physical address of VMCB12 in [`Machine::new`].
pub const VMCB12: u64 = 0x5000;
/// RIP of L1 after its VMRUN.
pub const AFTER_VMRUN: u64 = 0x40_1003;
/// The size of L1's memory.
pub const RAM: usize = 8 << 20;

impl Machine {
    /// L1 in 64-bit mode with SVM on, about to execute VMRUN on a legal VMCB12 at [`VMCB12`].
    ///
    /// # Panics
    /// Where no host can run such a virtual CPU.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::on(HOST, limits)
    }

    /// The same on another host.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn on(host: Host, limits: Limits) -> Self {
        let mut machine = Self {
            nested: nested_on(host, limits.clone()),
            vmcb01: Box::new(l1()),
            vmcb02: Box::new(Page::zeroed()),
            ram: Ram::new(RAM),
            shadow: Shadow::new(Pages::new(64, RAM as u64)).expect("enough pages"),
            log: Log::default(),
            hardware: Hardware::new(limits),
            rcx: 0,
        };
        machine.nested.write_msr(&mut machine.vmcb01, Msr::Efer, 0x1501).expect("SVM is there");
        machine.ram.put(VMCB12, &l2());
        machine
    }

    /// What a call of the engine works on, and the engine.
    pub fn split(&mut self) -> (&mut Nested, World<'_, Ram, Pages, Log>) {
        let world = World {
            vmcb01: &mut self.vmcb01,
            vmcb02: &mut self.vmcb02,
            memory: &mut self.ram,
            shadow: &mut self.shadow,
            trace: &mut self.log,
            rcx: self.rcx,
        };
        (&mut self.nested, world)
    }

    /// Writes a field of VMCB12 in memory.
    pub fn set12(&mut self, field: Field, value: u64) {
        let mut page = self.ram.page(VMCB12);
        page.set(field, value);
        self.ram.put(VMCB12, &page);
    }

    /// VMCB12 in memory.
    #[must_use]
    pub fn vmcb12(&self) -> Page {
        self.ram.page(VMCB12)
    }

    /// L1 executes VMRUN.
    ///
    /// # Errors
    /// The fault that L1 gets.
    pub fn vmrun(&mut self) -> Result<Guest, Fault> {
        let (nested, mut world) = self.split();
        nested.vmrun(&mut world, AFTER_VMRUN)
    }

    /// L2 runs by this script, until L1 runs or an exit is for L0.
    pub fn run(&mut self, script: impl IntoIterator<Item = Step>) -> Exit {
        self.run_script(&mut script.into_iter().collect())
    }

    /// Likewise; what is left of the script after an exit for L0 stays in it.
    ///
    /// # Panics
    /// When L2 does not get on.
    pub fn run_script(&mut self, script: &mut VecDeque<Step>) -> Exit {
        for _ in 0..100 {
            self.hardware.run(&mut self.vmcb02, self.shadow.tables(), script);
            let (nested, mut world) = self.split();
            let exit = nested.exit(&mut world);
            if exit != Exit::Resume {
                return exit;
            }
            nested.before_entry(&mut world);
        }
        panic!("L2 does not get on");
    }

    /// L2 exits at once, by an exit of these words.
    pub fn exits(&mut self, code: u64, info: [u64; 2]) -> Exit {
        self.run([Step::Exit(code, info)])
    }

    /// Returns the saved state.
    pub fn save(&mut self) -> Vec<u8> {
        let mut buffer = Box::new([0; Nested::SAVED_MAX]);
        let (nested, mut world) = self.split();
        nested.save(&mut world, &mut buffer).to_vec()
    }

    /// L0 gives an event.
    pub fn inject(&mut self, event: Event) -> Exit {
        let (nested, mut world) = self.split();
        nested.inject(&mut world, event)
    }
}

/// L1 in 64-bit mode, on a VMCB of L0.
pub(super) fn l1() -> Page {
    let mut page = Page::zeroed();
    for (field, value) in [
        (f::intercept_misc1, 1 << 31),
        (f::intercept_misc2, 0x7F),
        (f::iopm_base_pa, HOST.iopm),
        (f::msrpm_base_pa, HOST.msrpm),
        (f::guest_asid, 1),
        (f::nested_ctl, 1),
        (f::n_cr3, L1_TABLES),
        (f::efer, 0x1500),
        (f::cr0, 0x8001_0033),
        (f::cr3, 0x1000),
        (f::cr4, 0x6A0),
        (f::cs, 0x029B_0008),
        (f::rflags, 0x202),
        (f::rip, AFTER_VMRUN - 3),
        (f::rax, VMCB12),
        (f::dr6, 0xFFFF_0FF0),
        (f::dr7, 0x400),
        (f::g_pat, 0x0007_0406_0007_0406),
    ] {
        page.set(field, value);
    }
    page
}

/// A legal VMCB12 of a 64-bit guest on L1's own tables, which intercepts VMRUN, VMMCALL and the shutdown.
pub(super) fn l2() -> Page {
    let mut page = Page::zeroed();
    for (field, value) in [
        (f::intercept_misc1, 1 << 31),
        (f::intercept_misc2, 3),
        (f::iopm_base_pa, 0x1_0000),
        (f::msrpm_base_pa, 0x1_4000),
        (f::guest_asid, 7),
        (f::efer, 0x1D01),
        (f::cr0, 0x8000_0031),
        (f::cr3, 0x2000),
        (f::cr4, 0x20),
        (f::cs, 0x029B_0010),
        (f::rflags, 0x202),
        (f::rip, 0x8000),
        (f::rsp, 0x9000),
        (f::dr6, 0xFFFF_0FF0),
        (f::dr7, 0x400),
        (f::g_pat, 0x0007_0406_0007_0406),
    ] {
        page.set(field, value);
    }
    page
}
