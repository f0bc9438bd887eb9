//! What L0 does at each exit.

use crate::decode::{self, Code, OfL2};
use crate::firmware::Map;
use crate::log::{self, Log};
use crate::memory::{Pool, Ram};
use crate::reload::Reload;
use crate::vcpu::{self, Registers};
use crate::{bios, cpu, cpuid, ports};
use bare_common::msr;
use bare_interface::l0::{ended, verdict};
use nested_svm::{Exit, Fault, Guest, Memory as _, Msr, Nested, Page, Refusal, Shadow, World};
use vmcb::layout::vmcb_field as f;
use vmcb::{Decision, Dr6, Event, EventType, ExitCode, IntCtl, Rflags, Vector};

/// Exit codes that L0 asks for.
mod code {
    pub(super) const INTR: u64 = 0x60;
    pub(super) const INIT: u64 = 0x63;
    pub(super) const CPUID: u64 = 0x72;
    pub(super) const INVLPGA: u64 = 0x7A;
    pub(super) const IOIO: u64 = 0x7B;
    pub(super) const MSR: u64 = 0x7C;
    pub(super) const SHUTDOWN: u64 = 0x7F;
    pub(super) const VMRUN: u64 = 0x80;
    pub(super) const VMMCALL: u64 = 0x81;
    pub(super) const VMLOAD: u64 = 0x82;
    pub(super) const VMSAVE: u64 = 0x83;
    pub(super) const STGI: u64 = 0x84;
    pub(super) const CLGI: u64 = 0x85;
    pub(super) const SKINIT: u64 = 0x86;
}

const fn bits(first: u64, codes: &[u64]) -> u64 {
    let (mut bits, mut index) = (0, 0);
    while index < codes.len() {
        bits |= 1 << (codes[index] - first);
        index += 1;
    }
    bits
}

/// The intercepts of VMCB01, which VMCB02 has too.
const MISC1: u64 =
    bits(0x60, &[code::INIT, code::CPUID, code::INVLPGA, code::IOIO, code::MSR, code::SHUTDOWN]);
const MISC2: u64 = bits(
    0x80,
    &[code::VMRUN, code::VMMCALL, code::VMLOAD, code::VMSAVE, code::STGI, code::CLGI, code::SKINIT],
);
/// Those of VMCB01 while L1 runs on the hardware's virtual GIF.
const VIRTUAL_GIF_MISC1: u64 = MISC1 | bits(0x60, &[code::INTR]);
const VIRTUAL_GIF_MISC2: u64 = MISC2 & !bits(0x80, &[code::STGI, code::CLGI]);

/// Sets the intercepts of VMCB01.
#[inline(always)]
pub(crate) fn intercept(vmcb01: &mut Page) {
    vmcb01.set(f::intercept_misc1, MISC1);
    vmcb01.set(f::intercept_misc2, MISC2);
}

/// Everything that L0 runs L1 with.
pub(crate) struct L0 {
    pub(crate) vmcb01: &'static mut Page,
    pub(crate) vmcb02: &'static mut Page,
    pub(crate) registers: Registers,
    pub(crate) nested: Nested,
    pub(crate) shadow: Shadow<Pool>,
    pub(crate) ram: Ram,
    pub(crate) map: Map,
    pub(crate) log: Log,
    pub(crate) code: Code,
    /// VMRUNs are judged only.
    pub(crate) verdict_only: bool,
    /// The hardware has virtual GIF.
    pub(crate) virtual_gif: bool,
    /// An interrupt came while L1 ran on it.
    pub(crate) interrupted: bool,
    pub(crate) reload: Reload,
}

/// The engine and what it works on.
macro_rules! engine {
    ($l0:ident) => {
        (
            &mut $l0.nested,
            &mut World {
                vmcb01: $l0.vmcb01,
                vmcb02: $l0.vmcb02,
                memory: &mut $l0.ram,
                shadow: &mut $l0.shadow,
                trace: &mut $l0.log,
                rcx: $l0.registers.rcx as u32,
            },
        )
    };
}

/// The result of an instruction.
enum Done {
    /// The guest continues after it.
    Next,
    /// It raises this fault.
    Fault(Fault),
}

impl From<Result<(), Fault>> for Done {
    #[inline(always)]
    fn from(result: Result<(), Fault>) -> Self {
        match result {
            Ok(()) => Self::Next,
            Err(fault) => Self::Fault(fault),
        }
    }
}

impl L0 {
    /// Runs until the machine ends.
    pub(crate) fn run(&mut self) -> ! {
        loop {
            if self.reload.is_on() {
                self.reload();
            }
            let guest = if self.nested.is_settled() { self.nested.guest() } else { self.prepare() };
            if guest == Guest::L1 && self.virtual_gif && !self.interrupted && self.nested.svme() {
                self.enter_with_virtual_gif();
                if self.interrupted {
                    continue;
                }
            } else if self.nested.gif() {
                self.enter(guest);
            } else {
                self.enter_with_interrupts_held(guest);
            }
            if guest == Guest::L1 {
                self.interrupted = false;
                self.exit_of_l1();
                continue;
            }
            let (nested, world) = engine!(self);
            match nested.exit(world) {
                Exit::ToL1 | Exit::NotInL2 => {}
                Exit::Resume => self.reload.filled(),
                Exit::ForL0 => self.exit_of_l2(),
                Exit::Shutdown => self.shut_down("L2 shut down, which L1 does not intercept"),
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn reload(&mut self) {
        let (nested, world) = engine!(self);
        self.reload.count(nested, world);
    }

    /// What waits is delivered first.
    #[cold]
    #[inline(never)]
    fn prepare(&mut self) -> Guest {
        let (nested, world) = engine!(self);
        nested.before_entry(world)
    }

    #[inline(always)]
    fn enter(&mut self, guest: Guest) {
        let interrupts = self.nested.interrupts();
        match guest {
            Guest::L1 => vcpu::enter(self.vmcb01, &mut self.registers, interrupts),
            Guest::L2 => vcpu::enter(self.vmcb02, &mut self.registers, interrupts),
        }
    }

    /// L1 executes STGI and CLGI without an exit. That flag holds back no physical interrupt, so those exit, and L1 then
    /// runs as without it until its next exit: it takes the interrupt, or does not while its GIF is clear.
    #[inline(always)]
    fn enter_with_virtual_gif(&mut self) {
        const VGIF: u64 = IntCtl::VGIF.bits();
        const ENABLE: u64 = IntCtl::VGIF_ENABLE.bits();
        const MASKING: u64 = IntCtl::V_INTR_MASKING.bits();
        let gif = if self.nested.gif() { VGIF } else { 0 };
        let page = &mut *self.vmcb01;
        page.set(f::intercept_misc1, VIRTUAL_GIF_MISC1);
        page.set(f::intercept_misc2, VIRTUAL_GIF_MISC2);
        page.set_bits(f::int_ctl, VGIF | ENABLE | MASKING, gif | ENABLE);
        vcpu::enter(page, &mut self.registers, true);
        let gif = page.get(f::int_ctl) & VGIF != 0;
        intercept(page);
        page.set_bits(f::int_ctl, VGIF | ENABLE, 0);
        self.nested.set_gif_of_l1(page, gif);
        self.interrupted = page.get(f::exitcode) == code::INTR;
        if self.interrupted {
            // What was injected was delivered before it.
            page.set(f::eventinj, 0);
            page.set(f::tlb_control, 0);
        }
    }

    /// While GIF is clear the guest runs with V_INTR_MASKING, and CR8 is a field of the VMCB: it is brought in and out.
    #[inline(always)]
    fn enter_with_interrupts_held(&mut self, guest: Guest) {
        const V_TPR: u64 = 0xFF;
        let before = cpu::read_cr8();
        self.page().set_bits(f::int_ctl, V_TPR, before);
        self.enter(guest);
        let after = self.page().get(f::int_ctl) & V_TPR;
        if after != before {
            cpu::write_cr8(after);
        }
    }

    #[inline(always)]
    fn exit_of_l1(&mut self) {
        let exit = self.vmcb01.vmcb().exitcode().bits();
        // What was injected was delivered: no exit that VMCB01 has can interrupt a delivery but a shutdown.
        self.vmcb01.set(f::eventinj, 0);
        self.vmcb01.set(f::tlb_control, 0);
        let next = match exit {
            code::IOIO => self.vmcb01.get(f::exitinfo2),
            code::SHUTDOWN => self.shut_down("L1 shut down"),
            code::INIT => self.shut_down("L1's CPU got INIT"),
            _ => match self.code.next_rip(&self.ram, self.vmcb01, exit) {
                Some(next) => next,
                // The bytes are others by now: L1 executes those.
                None if ExitCode::from_bits(exit).name().is_some() && exit != 0x400 => return,
                None => self.cannot_run_l1(exit),
            },
        };
        // The one whose time matters most comes first.
        if exit == code::VMRUN {
            return self.vmrun(next);
        }
        if exit == code::VMMCALL && bios::is_call(self.vmcb01.vmcb()) {
            let next = bios::answer(self.vmcb01, &mut self.registers, &mut self.ram, &self.map);
            return self.advance(next);
        }
        let done = self.shared(exit);
        self.finish(done, next);
    }

    #[inline(always)]
    fn finish(&mut self, done: Done, next: u64) {
        match done {
            Done::Next => self.advance(next),
            Done::Fault(fault) => self.raise(fault.event()),
        }
    }

    fn page(&mut self) -> &mut Page {
        match self.nested.guest() {
            Guest::L1 => self.vmcb01,
            Guest::L2 => self.vmcb02,
        }
    }

    /// Continues the guest after an instruction that L0 executed for it.
    #[inline(always)]
    fn advance(&mut self, next: u64) {
        const SHADOW: u64 = 1;
        let page = self.page();
        page.set(f::rip, next);
        page.set_bits(f::interrupt_state, SHADOW, 0);
        if page.vmcb().rflags().contains(Rflags::TF) {
            page.set_bits(f::dr6, Dr6::BS.bits(), Dr6::BS.bits());
            self.raise(Event::new(EventType::EXCEPTION, Vector::new(1)));
        }
    }

    #[cold]
    fn raise(&mut self, event: Event) {
        let (nested, world) = engine!(self);
        if nested.inject(world, event) == Exit::Shutdown {
            self.shut_down("a fault during the delivery of #DF");
        }
    }

    #[inline(always)]
    fn vmrun(&mut self, next: u64) {
        if self.verdict_only {
            let done = self.judge();
            return self.finish(done, next);
        }
        let (nested, world) = engine!(self);
        if let Err(fault) = nested.vmrun(world, next) {
            self.raise(fault.event());
        }
    }

    /// Handles a VMRUN with verdicts only. As after a #VMEXIT, L1 continues with GIF clear.
    #[cold]
    fn judge(&mut self) -> Done {
        let address = self.vmcb01.get(f::rax);
        let verdict = match self.nested.judge(self.vmcb01, &self.ram) {
            Ok(verdict) => verdict,
            Err(fault) => {
                log::line(format_args!("VMRUN of {address:#x} raises {fault:?}"));
                return Done::Fault(fault);
            }
        };
        let exit_code = match verdict.decision() {
            Decision::Accepted => {
                self.log.entered += 1;
                verdict::WOULD_ENTER
            }
            decision => {
                self.log.refused(address, Refusal::Rules(verdict), self.nested.vmcb12());
                if decision == Decision::Undecided { verdict::UNDECIDED } else { ExitCode::INVALID.bits() }
            }
        };
        for (field, value) in
            [(f::exitcode, exit_code), (f::exitinfo1, 0), (f::exitinfo2, 0), (f::eventinj, 0)]
        {
            // It was read a moment ago.
            let _ = self.ram.write(address + u64::from(field.offset), &value.to_le_bytes());
        }
        let (nested, world) = engine!(self);
        nested.clgi(world).into()
    }

    /// An exit of L2 that L1 did not ask for.
    #[cold]
    #[inline(never)]
    fn exit_of_l2(&mut self) {
        let exit = self.vmcb02.vmcb().exitcode().bits();
        let next = match exit {
            code::IOIO => self.vmcb02.get(f::exitinfo2),
            code::INIT => self.shut_down("the CPU got INIT in L2, which L1 does not intercept"),
            0x400 => log::fail(format_args!(
                "L2 reached {:#x}, which L0 maps nowhere; EXITINFO1 {:#x}",
                self.vmcb02.get(f::exitinfo2),
                self.vmcb02.get(f::exitinfo1)
            )),
            _ => {
                let (nested, world) = engine!(self);
                match decode::next_rip_of_l2(nested, world, exit) {
                    OfL2::Next(next) => next,
                    // L2 executes what stands there now.
                    OfL2::Another => return,
                }
            }
        };
        let done = self.shared(exit);
        self.finish(done, next);
    }

    /// What L0 does for L1 and for an L2 to which L1 leaves it.
    #[inline(always)]
    fn shared(&mut self, exit: u64) -> Done {
        let ecx = self.registers.rcx as u32;
        let (nested, world) = engine!(self);
        match exit {
            code::VMLOAD => nested.vmload(world).into(),
            code::VMSAVE => nested.vmsave(world).into(),
            code::STGI => nested.stgi(world).into(),
            code::CLGI => nested.clgi(world).into(),
            code::INVLPGA => nested.invlpga(world, ecx).into(),
            code::SKINIT => nested.skinit().into(),
            // L1 must intercept VMRUN of L2, and L0 defines no other VMMCALL than that of INT 15h.
            code::VMRUN | code::VMMCALL => Done::Fault(Fault::InvalidOpcode),
            _ => self.others(exit),
        }
    }

    #[inline(never)]
    fn others(&mut self, exit: u64) -> Done {
        match exit {
            code::CPUID => {
                let (leaf, subleaf) = (self.page().get(f::rax) as u32, self.registers.rcx as u32);
                let page = match self.nested.guest() {
                    Guest::L1 => &*self.vmcb01,
                    Guest::L2 => &*self.vmcb02,
                };
                let [eax, ebx, ecx, edx] = cpuid::answer(&self.nested, page.vmcb(), leaf, subleaf);
                self.page().set(f::rax, eax.into());
                (self.registers.rbx, self.registers.rcx, self.registers.rdx) =
                    (ebx.into(), ecx.into(), edx.into());
                Done::Next
            }
            code::MSR => self.msr(),
            code::IOIO => self.port(),
            _ => {
                log::fail(format_args!("an exit that L0 does not intercept: {:?}", ExitCode::from_bits(exit)))
            }
        }
    }

    /// RDMSR and WRMSR of what the engine answers for, and of all else by an L2 whose L1 intercepts some MSRs but not
    /// this one: what the guest's VMCB holds, or else the machine's.
    fn msr(&mut self) -> Done {
        const TSC: u32 = 0x10;
        let write = self.page().get(f::exitinfo1) & 1 != 0;
        let number = self.registers.rcx as u32;
        let page = match self.nested.guest() {
            Guest::L1 => &mut *self.vmcb01,
            Guest::L2 => &mut *self.vmcb02,
        };
        let answered = Msr::from_number(number);
        if write {
            let value = self.registers.rdx << 32 | page.get(f::rax) & 0xFFFF_FFFF;
            return match answered {
                Some(msr) => self.nested.write_msr(page, msr, value).into(),
                None => match self.nested.write_saved_msr(page, number, value) {
                    Some(written) => written.into(),
                    None if msr::write(number, value) => Done::Next,
                    None => Done::Fault(Fault::GeneralProtection),
                },
            };
        }
        let value = match answered {
            Some(msr) => self.nested.read_msr(page, msr),
            None => {
                let offset = if number == TSC { page.get(f::tsc_offset) } else { 0 };
                self.nested.read_saved_msr(page, number).unwrap_or_else(|| {
                    let value = msr::read(number).map(|value| value.wrapping_add(offset));
                    value.ok_or(Fault::GeneralProtection)
                })
            }
        };
        match value {
            Ok(value) => {
                page.set(f::rax, value & 0xFFFF_FFFF);
                self.registers.rdx = value >> 32;
                Done::Next
            }
            Err(fault) => Done::Fault(fault),
        }
    }

    /// EXITINFO1 of IOIO: port in 31:16, size in 6:4, string in 2, IN in 0.
    fn port(&mut self) -> Done {
        let info = self.page().get(f::exitinfo1);
        let (port, size) = ((info >> 16) as u16, (info >> 4 & 7) as u8);
        let string = info & 4 != 0;
        if string || !matches!(size, 1 | 2 | 4) {
            // Devices behind these ports are not driven so.
            return Done::Fault(Fault::GeneralProtection);
        }
        let mask = u64::MAX >> (64 - 8 * u32::from(size));
        let rax = self.page().get(f::rax);
        if info & 1 == 0 {
            ports::write(port, size, (rax & mask) as u32);
        } else {
            let value = u64::from(ports::read(port, size)) & mask;
            // A write of 32 bits clears the upper half, narrower ones leave the rest.
            let kept = if size == 4 { 0 } else { rax & !mask };
            self.page().set(f::rax, kept | value);
        }
        Done::Next
    }

    #[cold]
    #[inline(never)]
    fn shut_down(&self, why: &str) -> ! {
        let page = match self.nested.guest() {
            Guest::L1 => &*self.vmcb01,
            Guest::L2 => &*self.vmcb02,
        };
        log::line(format_args!(
            "{why}: RIP {:#x}, CR0 {:#x}, CR3 {:#x}, CR4 {:#x}, EFER {:#x}, EXITINTINFO {:#x}",
            page.get(f::rip),
            page.get(f::cr0),
            page.get(f::cr3),
            page.get(f::cr4),
            page.get(f::efer),
            page.get(f::exitintinfo)
        ));
        self.log.sum();
        log::end(ended::SHUTDOWN)
    }

    #[cold]
    #[inline(never)]
    fn cannot_run_l1(&self, exit: u64) -> ! {
        log::fail(format_args!(
            "L1 cannot be run: {:?}, EXITINFO1 {:#x}, EXITINFO2 {:#x}, RIP {:#x}",
            ExitCode::from_bits(exit),
            self.vmcb01.get(f::exitinfo1),
            self.vmcb01.get(f::exitinfo2),
            self.vmcb01.get(f::rip)
        ))
    }
}
