//! The nested engine's paths, in an L0 whose memory is one slice, as on bare metal.

use nested_svm::{
    Exit, Fault, Guest, Host, HostBlock, Memory, Msr, Nested, NoMemory, Page, Shadow, Tables, World,
};
use vmcb::layout::vmcb_field as f;
use vmcb::{Cpu, Feature, Limits, Policy};

/// L1's memory, from 0 on.
#[derive(Debug)]
pub struct Slice(Box<[u8]>);

impl Slice {
    #[inline(always)]
    fn range(address: u64, length: usize) -> core::ops::Range<usize> {
        let start = address as usize;
        start..start.wrapping_add(length)
    }
}

impl Memory for Slice {
    #[inline(always)]
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        bytes.copy_from_slice(self.0.get(Self::range(address, bytes.len())).ok_or(NoMemory)?);
        Ok(())
    }

    #[inline(always)]
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        self.0.get_mut(Self::range(address, bytes.len())).ok_or(NoMemory)?.copy_from_slice(bytes);
        Ok(())
    }

    /// The page is looked up once.
    #[inline(always)]
    fn load(&self, address: u64, page: &mut Page, parts: &[core::ops::Range<usize>]) -> Result<(), NoMemory> {
        let from: &[u8; 4096] =
            self.0.get(address as usize..).and_then(|rest| rest.first_chunk()).ok_or(NoMemory)?;
        for part in parts {
            if let (Some(to), Some(from)) = (page.bytes_mut().get_mut(part.clone()), from.get(part.clone())) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// The page is looked up once.
    #[inline(always)]
    fn store(
        &mut self,
        address: u64,
        page: &Page,
        parts: &[core::ops::Range<usize>],
    ) -> Result<(), NoMemory> {
        let to: &mut [u8; 4096] =
            self.0.get_mut(address as usize..).and_then(|rest| rest.first_chunk_mut()).ok_or(NoMemory)?;
        for part in parts {
            if let (Some(to), Some(from)) = (to.get_mut(part.clone()), page.bytes().get(part.clone())) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}

/// Pages for shadow tables.
#[derive(Debug)]
pub struct Pages(Vec<[u64; 512]>);

impl Tables for Pages {
    fn count(&self) -> u16 {
        self.0.len() as u16
    }

    fn base(&self) -> u64 {
        0x6_0000_0000
    }

    fn entry(&self, page: u16, index: u16) -> u64 {
        self.0.get(usize::from(page)).and_then(|page| page.get(usize::from(index))).copied().unwrap_or(0)
    }

    fn set_entry(&mut self, page: u16, index: u16, entry: u64) {
        if let Some(slot) =
            self.0.get_mut(usize::from(page)).and_then(|page| page.get_mut(usize::from(index)))
        {
            *slot = entry;
        }
    }

    fn clear(&mut self, page: u16) {
        if let Some(page) = self.0.get_mut(usize::from(page)) {
            *page = [0; 512];
        }
    }

    fn host(&self, address: u64, _: u8) -> Option<HostBlock> {
        Some(HostBlock::with_all_rights(0x1_0000_0000 + address))
    }
}

/// An L0 with L1 before its VMRUN, or with L2 before its exit.
#[derive(Debug)]
pub struct Setting {
    nested: Nested,
    vmcb01: Box<Page>,
    vmcb02: Box<Page>,
    memory: Slice,
    shadow: Shadow<Pages>,
}

const VMCB12: u64 = 0x5000;

impl Setting {
    /// After one nested round trip, with nested paging and with permission maps, as hypervisors have them.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn new() -> Self {
        let cpu = "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,+lmsle-unsupported";
        let limits = Limits::compile(&Cpu::parse(cpu).expect("a model that exists"), Policy::VirtualCpu);
        let host = Host {
            asid: 2,
            flush_by_asid: true,
            iopm: 0x7_0000_0000,
            msrpm: 0x7_0000_4000,
            every_port: 0x7_0000_8000,
            every_msr: 0x7_0000_C000,
            marks_pdptes: false,
            takes_interrupts: false,
            virtual_spec_ctrl: false,
            gib_pages: true,
        };
        let nested = Nested::new(limits, host, |_: Feature| true).expect("the host has all");
        let mut vmcb12 = Page::zeroed();
        vmcb12.bytes_mut().copy_from_slice(&crate::legal_vmcb());
        vmcb12.set(f::intercept_misc1, 0x9800_0001);
        vmcb12.set(f::intercept_misc2, 3);
        let mut vmcb01 = Box::new(vmcb12.clone());
        for (field, value) in
            [(f::rax, VMCB12), (f::eventinj, 0), (f::intercept_misc1, 0), (f::intercept_misc2, 0x7F)]
        {
            vmcb01.set(field, value);
        }
        let memory = Slice(vec![0; 1 << 20].into());
        let shadow = Shadow::new(Pages(vec![[0; 512]; 64])).expect("enough pages");
        let mut setting = Self { nested, vmcb01, vmcb02: Box::new(Page::zeroed()), memory, shadow };
        setting.memory.write(VMCB12, vmcb12.bytes()).expect("there is memory");
        setting.nested.write_msr(&mut setting.vmcb01, Msr::Efer, 0x1500).expect("SVM is there");
        setting.enters();
        let (nested, mut world) = setting.split();
        assert_eq!(nested.exit(&mut world), Exit::ToL1);
        setting
    }

    /// L2 runs and exits by VMMCALL.
    ///
    /// # Panics
    /// When the engine refuses.
    #[must_use]
    pub fn in_l2() -> Self {
        let mut setting = Self::new();
        setting.enters();
        setting
    }

    /// L1 executes VMRUN, and hardware leaves VMCB02 with an exit.
    fn enters(&mut self) {
        let (nested, mut world) = self.split();
        assert_eq!(nested.vmrun(&mut world, 0x1003), Ok(Guest::L2));
        self.vmcb02.set(f::exitcode, 0x81);
        self.vmcb02.set(f::eventinj, 0);
    }

    fn split(&mut self) -> (&mut Nested, World<'_, Slice, Pages, ()>) {
        // This trace stores nothing and has no size, so leaking it costs nothing.
        let trace = Box::leak(Box::new(()));
        let Self { nested, vmcb01, vmcb02, memory, shadow } = self;
        (nested, World { vmcb01, vmcb02, memory, shadow, trace, rcx: 0 })
    }
}

impl Default for Setting {
    fn default() -> Self {
        Self::new()
    }
}

/// VMRUN that enters L2, in the steady state.
///
/// # Errors
/// The fault that L1 gets: none, here.
#[inline(never)]
pub fn probe_vmrun(setting: &mut Setting) -> Result<Guest, Fault> {
    let (nested, mut world) = setting.split();
    nested.vmrun(&mut world, 0x1003)
}

/// An exit of L2 that L1 intercepts.
#[inline(never)]
pub fn probe_exit(setting: &mut Setting) -> Exit {
    let (nested, mut world) = setting.split();
    nested.exit(&mut world)
}

/// VMLOAD of L1.
///
/// # Errors
/// The fault that L1 gets: none, here.
#[inline(never)]
pub fn probe_vmload(setting: &mut Setting) -> Result<(), Fault> {
    let (nested, mut world) = setting.split();
    nested.vmload(&mut world)
}

/// VMSAVE of L1.
///
/// # Errors
/// The fault that L1 gets: none, here.
#[inline(never)]
pub fn probe_vmsave(setting: &mut Setting) -> Result<(), Fault> {
    let (nested, mut world) = setting.split();
    nested.vmsave(&mut world)
}
