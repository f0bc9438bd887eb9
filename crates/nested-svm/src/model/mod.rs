//! A software CPU for tests and examples: it runs VMCB01 and VMCB02 by scripts, as hardware would by instructions.
//!
//! It judges the VMCB as VMRUN does, delivers EVENTINJ or is interrupted in that, makes the steps that the script gives
//! (with accesses that walk the nested tables), and comes back with what #VMEXIT writes. L1's memory, the pages for
//! shadow tables and an L0 around all of it come with it.

mod cpu;
mod paging;
pub mod tlb;
pub mod trial;

pub use cpu::{Hardware, Pins, Source};
pub use paging::HostMemory;

use crate::{
    Exit, Fault, Guest, Host, HostBlock, Memory, Nested, NoMemory, Page, Shadow, Tables, Trace, Traced, World,
};
use core::cell::{Cell, RefCell};
use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::vec;
use std::vec::Vec;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Cpu, Event, Feature, Limits, Policy};

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

/// N_CR3 of VMCB01: L0's tables for L1.
pub const L1_TABLES: u64 = 0x7_0001_0000;

/// Where L1's memory begins on the host.
pub const RAM_ON_HOST: u64 = 0x1_0000_0000;

/// Where the pages for shadow tables begin on the host.
pub const SHADOW_ON_HOST: u64 = 0x6_0000_0000;

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

/// L1's memory, from 0 on. Holes can be made, reads are counted, and another CPU of L1 can be played.
#[derive(Debug)]
pub struct Ram {
    bytes: RefCell<Vec<u8>>,
    /// How often each byte of the page that is watched was read.
    reads: RefCell<Vec<u32>>,
    /// The page whose reads are counted.
    pub watched: Option<u64>,
    /// Each byte of the watched page turns into its complement as soon as it was read.
    pub turns: bool,
    /// Pages that are no memory.
    pub holes: Vec<u64>,
    /// Pages that L1 cannot write.
    pub read_only: Vec<u64>,
    /// The next exchanges find another value than the one that was read.
    pub races: Cell<u32>,
}

impl Ram {
    /// So many bytes of zeros.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            bytes: RefCell::new(vec![0; size]),
            reads: RefCell::new(vec![0; 4096]),
            watched: None,
            turns: false,
            holes: Vec::new(),
            read_only: Vec::new(),
            races: Cell::new(0),
        }
    }

    /// How often each byte of the watched page was read.
    #[must_use]
    pub fn reads(&self) -> Vec<u32> {
        self.reads.borrow().clone()
    }

    /// A copy of the page at an address.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn page(&self, address: u64) -> Page {
        let mut page = Page::zeroed();
        let bytes = self.bytes.borrow();
        page.bytes_mut().copy_from_slice(&bytes[address as usize..address as usize + 4096]);
        page
    }

    /// Writes a page.
    ///
    /// # Panics
    /// Where there is none.
    pub fn put(&mut self, address: u64, page: &Page) {
        self.write(address, page.bytes()).expect("there is memory");
    }

    /// Writes a little-endian number.
    ///
    /// # Panics
    /// Where there is no memory.
    pub fn put_u64(&mut self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes()).expect("there is memory");
    }

    fn range(&self, address: u64, length: usize) -> Result<core::ops::Range<usize>, NoMemory> {
        let start = usize::try_from(address).map_err(|_| NoMemory)?;
        let end =
            start.checked_add(length).filter(|&end| end <= self.bytes.borrow().len()).ok_or(NoMemory)?;
        let pages = start >> 12..=(end.max(start + 1) - 1) >> 12;
        let hole = self.holes.iter().any(|&hole| pages.contains(&(hole as usize >> 12)));
        if hole { Err(NoMemory) } else { Ok(start..end) }
    }
}

impl Memory for Ram {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        let range = self.range(address, bytes.len())?;
        let mut memory = self.bytes.borrow_mut();
        bytes.copy_from_slice(&memory[range.clone()]);
        if self.watched == Some(address & !0xFFF) {
            for at in range {
                self.reads.borrow_mut()[at & 0xFFF] += 1;
                if self.turns {
                    memory[at] = !memory[at];
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let range = self.range(address, bytes.len())?;
        if self.read_only.iter().any(|&page| page >> 12 == address >> 12) {
            return Err(NoMemory);
        }
        self.bytes.get_mut()[range].copy_from_slice(bytes);
        Ok(())
    }

    fn exchange(&mut self, address: u64, old: u64, new: u64) -> Result<bool, NoMemory> {
        if self.races.get() > 0 {
            self.races.set(self.races.get() - 1);
            return Ok(false);
        }
        if self.read_u64(address)? != old {
            return Ok(false);
        }
        self.write(address, &new.to_le_bytes())?;
        Ok(true)
    }
}

/// Pages for shadow tables, and L1's memory from [`RAM_ON_HOST`] on.
#[derive(Debug)]
pub struct Pages {
    entries: Vec<[u64; 512]>,
    /// L1 has memory below.
    pub memory: u64,
    /// No block of 2 MiB lies in one piece on the host.
    pub scattered: bool,
    /// Pages of L1 that it may only read.
    pub read_only: Vec<u64>,
    /// Pages of L1 that it may not execute.
    pub no_execute: Vec<u64>,
}

impl Pages {
    /// So many pages, for so many bytes of L1.
    #[must_use]
    pub fn new(count: u16, memory: u64) -> Self {
        Self {
            entries: vec![[0x0BAD_0BAD_0BAD_0001; 512]; count.into()],
            memory,
            scattered: false,
            read_only: Vec::new(),
            no_execute: Vec::new(),
        }
    }
}

impl Tables for Pages {
    fn count(&self) -> u16 {
        self.entries.len() as u16
    }

    fn base(&self) -> u64 {
        SHADOW_ON_HOST
    }

    fn entry(&self, page: u16, index: u16) -> u64 {
        self.entries[usize::from(page)][usize::from(index)]
    }

    fn set_entry(&mut self, page: u16, index: u16, entry: u64) {
        self.entries[usize::from(page)][usize::from(index)] = entry;
    }

    fn clear(&mut self, page: u16) {
        self.entries[usize::from(page)] = [0; 512];
    }

    fn host(&self, address: u64, bits: u8) -> Option<HostBlock> {
        assert_eq!(address & ((1 << bits) - 1), 0, "aligned to its size");
        let end = address.checked_add(1 << bits)?;
        let within = |page: &&u64| (address..end).contains(page);
        let mixed = |pages: &Vec<u64>| bits > 12 && pages.iter().any(|page| within(&page));
        let scattered = bits > 12 && self.scattered || mixed(&self.read_only) || mixed(&self.no_execute);
        (end <= self.memory && !scattered).then(|| HostBlock {
            address: address + RAM_ON_HOST,
            writable: !self.read_only.iter().any(|page| within(&page)),
            executable: !self.no_execute.iter().any(|page| within(&page)),
        })
    }
}

/// Marks the address of a table below [`L1_TABLES`]. These tables map L1's memory and are computed, not
/// stored. The address of each table except the root encodes its level and the guest physical addresses that
/// it translates.
const L1_TABLE: u64 = 1 << 51;
/// Position of the level in the address of a table.
const L1_LEVEL: u32 = 44;

impl Pages {
    fn l1_entry(&self, address: u64) -> u64 {
        const FLAGS: u64 = 0x67;
        let (level, prefix) = match address & !0xFFF {
            L1_TABLES => (4, 0),
            table => (table >> L1_LEVEL & 7, table >> 12 & 0xFFFF_FFFF),
        };
        let mapped = prefix << 9 | address >> 3 & 0x1FF;
        if level > 1 {
            return L1_TABLE | (level - 1) << L1_LEVEL | mapped << 12 | FLAGS;
        }
        self.host(mapped << 12, 12).map_or(0, |host| {
            let writable = if host.writable { paging::RW } else { 0 };
            let no_execute = if host.executable { 0 } else { paging::NX };
            host.address | FLAGS & !paging::RW | writable | no_execute
        })
    }
}

impl HostMemory for Pages {
    fn entry(&self, address: u64) -> u64 {
        if address & L1_TABLE != 0 || address & !0xFFF == L1_TABLES {
            return self.l1_entry(address);
        }
        let page = u16::try_from((address - SHADOW_ON_HOST) >> 12).expect("an address of a shadow page");
        Tables::entry(self, page, (address >> 3 & 0x1FF) as u16)
    }

    fn set_entry(&self, address: u64, entry: u64) {
        panic!("the engine must set accessed and dirty bits itself: {entry:#x} at {address:#x}");
    }

    fn assert_guest_owns(&self, address: u64) {
        let owned = RAM_ON_HOST..RAM_ON_HOST + self.memory;
        assert!(owned.contains(&address), "{address:#x} is not L1's");
    }
}

/// An access of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Guest physical address.
    pub address: u64,
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
    /// The read or write of an entry of the guest's own page tables.
    pub walk: bool,
}

impl Access {
    /// A read.
    #[must_use]
    pub const fn read(address: u64) -> Self {
        Self { address, write: false, fetch: false, walk: false }
    }

    /// A write.
    #[must_use]
    pub const fn write(address: u64) -> Self {
        Self { write: true, ..Self::read(address) }
    }

    /// An instruction fetch.
    #[must_use]
    pub const fn fetch(address: u64) -> Self {
        Self { fetch: true, ..Self::read(address) }
    }

    /// An entry of the guest's own tables: hardware walks them as if it wrote.
    #[must_use]
    pub const fn walk(address: u64) -> Self {
        Self { write: true, walk: true, ..Self::read(address) }
    }

    /// EXITINFO1 of a nested page fault, without what the nested tables say.
    const fn info(self) -> u64 {
        const USER: u64 = 1 << 2;
        USER | (self.write as u64) << 1 | (self.fetch as u64) << 4 | 1 << (if self.walk { 33 } else { 32 })
    }
}

/// What a guest does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Writes a field of its VMCB: a register.
    Set(Field, u64),
    /// Accesses memory.
    Access(Access),
    /// Raises an event whose delivery accesses memory: an exit during it stands in EXITINTINFO.
    Deliver(Event, Access),
    /// Accesses memory by linear address, through the guest's own four-level tables.
    Linear(Access),
    /// Writes CR3, which flushes the non-global TLB entries.
    WriteCr3(u64),
    /// Executes INVLPG for a linear address.
    InvalidatePage(u64),
    /// Raises an exception. If it is intercepted it exits, with the address in EXITINFO2 for #PF.
    Raise(Event, u64),
    /// Exits: EXITCODE, EXITINFO1 and 2.
    Exit(u64, [u64; 2]),
    /// Exits while this event is being delivered.
    ExitDuring(Event, u64, [u64; 2]),
}

/// What the software CPU saw happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// An injected event was delivered, with this next RIP: nRIP for software events.
    Delivered(Event, u64),
    /// An access reached this physical address of the host.
    Reached(u64),
}

/// What was traced, as text.
#[derive(Clone, Debug, Default)]
pub struct Log(pub Vec<String>);

impl Trace for Log {
    fn trace(&mut self, happened: Traced<'_>) {
        self.0.push(match happened {
            Traced::Refused { address, reason: crate::Refusal::Rules(verdict), .. } => {
                let rules = verdict.broken().union(verdict.undecided());
                let ids: Vec<_> = rules.iter().map(vmcb::Rule::id).collect();
                std::format!("refused {address:#x}: {}", ids.join(" "))
            }
            Traced::Refused { address, reason, .. } => std::format!("refused {address:#x}: {reason:?}"),
            Traced::HostRefused { code, .. } => std::format!("host refused: {code}"),
            Traced::Entered { address } => std::format!("entered {address:#x}"),
            Traced::Reflected { code } => std::format!("reflected {code}"),
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
        machine.nested.write_msr(&mut machine.vmcb01, crate::Msr::Efer, 0x1501).expect("SVM is there");
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
fn l1() -> Page {
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
fn l2() -> Page {
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
