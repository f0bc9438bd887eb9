//! VMRUN of L1.

use super::checks::{in_64_bit_mode, vmcb_address};
use crate::events::held::{Injected, Origin};
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::l0::trace::{Refusal, Trace, Traced};
use crate::shadow::tables::Tables;
use crate::state::environment::{Engine, FIXED, WithoutPdptes};
use crate::state::nested::{Nested, TSC_RATIO_ONE};
use crate::state::world::World;
use crate::types::{Fault, Flush, Guest};
use crate::vmcb02::{self, Enabled, Own};
use core::ops::Range;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{
    Answer, Cr0, Environment, ExitCode, Host as Facts, InterceptMisc1, KnownPage, Limits, NestedCtl, Outcome,
    Phase, Rflags, Verdict, View,
};

/// The bytes of VMCB12 that are read, each once: what VMRUN of a plain guest loads, and what the rules read. The saved
/// state has the same ranges.
pub(crate) const READ: [Range<usize>; 10] = [
    words(f::intercept_cr, f::intercept_misc3),
    words(f::pause_filter_threshold, f::nrip),
    words(f::es, f::ds),
    words(f::gdtr, f::gdtr),
    words(f::idtr, f::idtr),
    words(f::cpl, f::efer),
    words(f::cr4, f::rip),
    words(f::rsp, f::rax),
    words(f::cr2, f::cr2),
    words(f::g_pat, f::last_excp_to),
];

/// The other bytes up to SPEC_CTRL: the fields of AVIC and SEV, and bytes that only the trace of a refusal shows.
const REST: [Range<usize>; 11] = [
    gap(f::intercept_misc3, f::pause_filter_threshold),
    f::fetched_bytes.through(f::requested_irr),
    f::fs.through(f::gs),
    f::ldtr.bytes(),
    gap(f::idtr, f::cpl),
    gap(f::efer, f::cr4),
    gap(f::rip, f::rsp),
    gap(f::rax, f::cr2),
    gap(f::cr2, f::g_pat),
    f::dbgextnctl.through(f::spec_ctrl),
    f::software.bytes(),
];

/// The bytes from a field to the end of another one, from a multiple of 8 on: copies of whole words are shorter.
const fn words(first: Field, last: Field) -> Range<usize> {
    let Range { start, end } = first.through(last);
    start & !7..end
}

/// The bytes between two ranges of [`READ`].
const fn gap(last: Field, next: Field) -> Range<usize> {
    let Range { start, end } = last.gap_to(next);
    start..end & !7
}

/// VMCB12 in the trace of a VMRUN that raised a fault before it was read.
static NOTHING_READ: Page = Page::zeroed();

/// What is read where nobody answers.
const NOBODY: u8 = 0xFF;

impl Nested {
    /// L1 executed VMRUN: rAX of VMCB01 is the address, and `next_rip` that of the instruction after it.
    ///
    /// Returns who runs next: L2 on VMCB02, or L1 with the exit code of the refusal in its VMCB.
    ///
    /// # Errors
    /// Returns the fault that VMRUN raises in L1. L1's state does not change. Returns #UD if L2 runs, because VMRUN in
    /// L2 always exits to L1, through [`Self::exit`].
    #[inline]
    pub fn vmrun<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        next_rip: u64,
    ) -> Result<Guest, Fault> {
        if self.state.guest == Guest::L2 {
            return Err(Fault::InvalidOpcode);
        }
        if self.state.window.is_some() {
            self.close_window(world.vmcb01);
        }
        let address = vmcb_address(world.vmcb01);
        // Faults are raised before the page is read. The rules decide which fault.
        let readable = self.may_execute(world.vmcb01).is_ok() && self.limits.accepts_page_address(address);
        if !readable {
            return Err(self.fault(&mut world.lend(), address));
        }
        if !world.vmcb01.vmcb().nested_ctl().contains(NestedCtl::NP_ENABLE) {
            return self.refuse(&mut world.lend(), address, next_rip, Refusal::NoNestedPaging);
        }
        if world.memory.load(address, &mut self.vmcb12, &READ).is_err() {
            return self.refuse(&mut world.lend(), address, next_rip, Refusal::NoVmcb);
        }
        if !self.plain {
            let _ = world.memory.load(address, &mut self.vmcb12, &REST);
        }
        let executing = self.executing(world.vmcb01, address);
        self.environment.update(&executing);
        if self.needs_pdptes() {
            if let Err(reason) = self.admit_with_pdptes(world.memory) {
                return self.refuse(&mut world.lend(), address, next_rip, reason);
            }
        } else if let Err(verdict) =
            vmcb::admit::<WithoutPdptes>(self.vmcb12.bytes(), &self.limits, &self.environment)
        {
            return self.refuse(&mut world.lend(), address, next_rip, Refusal::Rules(verdict));
        }
        world.vmcb01.set(f::rip, next_rip);
        world.vmcb01.set(f::interrupt_state, 0);
        self.remember_if(world.vmcb01);
        if self.state.parked.event.valid() {
            self.unpark(address);
        }
        self.state.vmcb12_address = address;
        // VMRUN sets GIF; what held L1's interrupts back belongs to L1 only.
        self.set_gif_in_l1(world.vmcb01, true);
        self.enter(world);
        world.trace.trace(Traced::Entered { address });
        Ok(Guest::L2)
    }

    /// What `vmcb` says of a VMCB12 for this virtual CPU, were it run now by an L1 whose state VMCB01 holds. Nothing
    /// is entered: for an L0 that only judges.
    ///
    /// # Errors
    /// The fault that VMRUN would raise. #UD if L2 runs, whose copy of VMCB12 must not change.
    pub fn judge<M: Memory>(&mut self, vmcb01: &Page, memory: &M) -> Result<Verdict, Fault> {
        if self.state.guest == Guest::L2 {
            return Err(Fault::InvalidOpcode);
        }
        let address = vmcb_address(vmcb01);
        let environment = self.environment(vmcb01, address);
        if let Some(fault) = fault_of(&before_reading(&self.limits, &environment)) {
            return Err(fault);
        }
        let vmcb12 = &mut self.vmcb12;
        if memory.load(address, vmcb12, &READ).and_then(|()| memory.load(address, vmcb12, &REST)).is_err() {
            self.vmcb12.bytes_mut().fill(NOBODY);
        }
        let environment = match self.read_pdptes(memory) {
            Ok(entries) if self.needs_pdptes() => environment.with_pdptes(entries),
            _ => environment,
        };
        let verdict = vmcb::check_out_of_line(self.vmcb12.bytes(), &self.limits, &environment);
        match fault_of(&verdict) {
            Some(fault) => Err(fault),
            None => Ok(verdict),
        }
    }

    /// Fills VMCB02 from the private copy of VMCB12; L2 runs next.
    #[inline(always)]
    pub(crate) fn enter<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        let enabled = Enabled::new(self.offers, &self.vmcb12);
        self.state.enabled = enabled;
        let (asid, tlb_control) = (self.vmcb12.vmcb().guest_asid(), self.vmcb12.get(f::tlb_control));
        let wanted = match tlb_control {
            0 => Flush::Nothing,
            1 => Flush::All,
            _ => Flush::Asid,
        };
        let (root, changed) = if enabled.nested_paging {
            let entered = world.shadow.enter(world.vmcb01, self.vmcb12.get(f::n_cr3), asid, wanted);
            (entered.root, entered.flush)
        } else {
            // On L1's own tables one ASID of the hardware serves all of L2's.
            let changed = world.shadow.leave(asid, wanted) | (asid != self.state.last_asid);
            (world.vmcb01.get(f::n_cr3), changed)
        };
        self.flush_l2(world.vmcb02, if changed { wanted.max(Flush::Asid) } else { wanted });
        self.state.last_asid = asid;
        let intercepts = self.vmcb12.vmcb().intercept_misc1();
        let own = Own {
            n_cr3: root,
            asid: self.host.asid,
            iopm: if intercepts.contains(InterceptMisc1::IOIO_PROT) {
                self.host.every_port
            } else {
                self.host.iopm
            },
            msrpm: if intercepts.contains(InterceptMisc1::MSR_PROT) {
                self.host.every_msr
            } else {
                self.host.msrpm
            },
            takes_interrupts: self.host.takes_interrupts,
            phys_bits: self.limits.cpu().phys_bits().unwrap_or(52),
        };
        vmcb02::enter(world.vmcb02, &self.vmcb12, world.vmcb01, enabled, &own);
        if self.host.takes_interrupts {
            self.state.shared_tpr = vmcb02::share_tpr(world.vmcb02, &self.vmcb12, world.vmcb01);
        }
        self.scale_tsc_offset(world.vmcb02, world.vmcb01);
        self.state.entered = false;
        self.state.injected = Injected::of(world.vmcb02, Origin::L1);
        self.state.guest = Guest::L2;
    }

    /// Merges VMCB01 into VMCB02 again: after L0 changed intercepts, TSC_OFFSET, the PAUSE filter or N_CR3 of VMCB01 while L2
    /// runs. Nothing happens if L1 runs.
    pub fn refresh<M: Memory, T: Tables, L: Trace>(&mut self, world: &mut World<'_, M, T, L>) {
        if self.state.guest == Guest::L2 {
            self.close_window(world.vmcb02);
            let (enabled, takes_interrupts) = (self.state.enabled, self.host.takes_interrupts);
            vmcb02::controls(world.vmcb02, &self.vmcb12, world.vmcb01, enabled, takes_interrupts);
            self.scale_tsc_offset(world.vmcb02, world.vmcb01);
            self.new_root(world);
        }
    }

    /// L2's TSC is L1's, offset included, multiplied by the ratio, plus VMCB12's offset. With a ratio of 1 the sum of the
    /// offsets is in place already.
    #[inline(always)]
    pub(crate) fn scale_tsc_offset(&self, vmcb02: &mut Page, vmcb01: &Page) {
        if self.state.tsc_ratio != TSC_RATIO_ONE {
            let scaled = scale(vmcb01.get(f::tsc_offset), self.state.tsc_ratio);
            vmcb02.set(f::tsc_offset, scaled.wrapping_add(self.vmcb12.get(f::tsc_offset)));
        }
    }

    /// Checks an L2 with page directory pointers.
    ///
    /// # Errors
    /// The rules that are broken or undecided.
    #[cold]
    #[inline(never)]
    fn admit_with_pdptes<M: Memory>(&self, memory: &M) -> Result<(), Refusal> {
        let entries = self.read_pdptes(memory).map_err(Refusal::NoPdptes)?;
        let mut environment = self.fixed().with_pdptes(entries);
        environment.update(&self.environment);
        match vmcb::admit::<Engine>(self.vmcb12.bytes(), &self.limits, &environment) {
            Ok(_) => Ok(()),
            Err(verdict) => Err(Refusal::Rules(verdict)),
        }
    }

    /// What VMRUN's checks read of the executing CPU: L1's registers, and MSRs as the virtual CPU has them.
    fn environment(&self, vmcb01: &Page, address: u64) -> Environment<'static> {
        let view = vmcb01.vmcb();
        let (cr0, rflags, cpl) = (view.cr0().bits(), view.rflags().bits(), vmcb01.get(f::cpl));
        let facts = fact(Facts::SVME, self.state.svme)
            | fact(Facts::PE, cr0 & Cr0::PE.bits() != 0)
            | fact(Facts::VM, rflags & Rflags::VM.bits() != 0)
            | fact(Facts::CPL0, cpl & 1 != 0)
            | fact(Facts::CPL1, cpl & 2 != 0);
        self.with_mode(vmcb01, facts, address)
    }

    /// The same of a CPU that [`Self::may_execute`] found able to execute it: SVM on, protected mode, CPL 0.
    #[inline(always)]
    fn executing(&self, vmcb01: &Page, address: u64) -> Environment<'static> {
        self.state_mode(FIXED, vmcb01, Facts::SVME.union(Facts::PE).bits(), address)
    }

    fn with_mode(&self, vmcb01: &Page, facts: u64, address: u64) -> Environment<'static> {
        self.state_mode(self.fixed(), vmcb01, facts, address)
    }

    /// What does not change from one VMRUN to the next.
    const fn fixed(&self) -> Environment<'static> {
        match self.u_cet {
            Some(value) => FIXED.with_u_cet(value),
            None => FIXED,
        }
    }

    #[inline(always)]
    fn state_mode(
        &self,
        of: Environment<'static>,
        vmcb01: &Page,
        facts: u64,
        address: u64,
    ) -> Environment<'static> {
        let facts = facts
            | fact(Facts::PG, vmcb01.vmcb().cr0().contains(Cr0::PG))
            | fact(Facts::LONG64, in_64_bit_mode(vmcb01))
            | fact(Facts::HSAVE_PA_ZERO, self.state.hsave_pa == 0);
        of.with(Facts::from_bits(facts), Answer::Yes).with_vmcb_address(address)
    }

    #[cold]
    #[inline(never)]
    fn fault<M: Memory, T: Tables, L: Trace>(&self, world: &mut World<'_, M, T, L>, address: u64) -> Fault {
        let verdict = before_reading(&self.limits, &self.environment(world.vmcb01, address));
        let reason = Refusal::Rules(verdict);
        world.trace.trace(Traced::Refused { address, reason, vmcb12: &NOTHING_READ });
        fault_of(&verdict).unwrap_or(Fault::GeneralProtection)
    }

    #[cold]
    #[inline(never)]
    fn refuse<M: Memory, T: Tables, L: Trace>(
        &mut self,
        world: &mut World<'_, M, T, L>,
        address: u64,
        next_rip: u64,
        reason: Refusal,
    ) -> Result<Guest, Fault> {
        if reason == Refusal::NoVmcb {
            self.vmcb12.bytes_mut().fill(NOBODY);
        } else if reason == Refusal::NoNestedPaging {
            // Not read: VMCB12 is not what is wrong.
            self.vmcb12.bytes_mut().fill(0);
        } else if self.plain {
            // For whoever looks at it; the page was there a moment ago.
            let _ = world.memory.load(address, &mut self.vmcb12, &REST);
        }
        world.trace.trace(Traced::Refused { address, reason, vmcb12: &self.vmcb12 });
        let code = match reason {
            Refusal::Rules(verdict) => match fault_of(&verdict) {
                Some(fault) => return Err(fault),
                // If only undecided rules keep L2 from being entered, there is no outcome.
                None => verdict.outcome().and_then(Outcome::exit_code).unwrap_or(ExitCode::INVALID),
            },
            Refusal::NoVmcb | Refusal::NoNestedPaging | Refusal::NoPdptes(_) => ExitCode::INVALID,
        };
        self.write_refusal(world.memory, address, code);
        world.vmcb01.set(f::rip, next_rip);
        world.vmcb01.set(f::interrupt_state, 0);
        self.back_in_l1(world.vmcb01);
        Ok(Guest::L1)
    }
}

/// An offset of the TSC, a signed number, times a ratio with 32 bits behind the point.
#[cold]
fn scale(offset: u64, ratio: u64) -> u64 {
    ((i128::from(offset as i64) * i128::from(ratio)) >> 32) as u64
}

#[inline(always)]
const fn fact(fact: Facts, holds: bool) -> u64 {
    if holds { fact.bits() } else { 0 }
}

/// The verdict on what VMRUN checks before it reads the VMCB.
fn before_reading(limits: &Limits, environment: &Environment<'_>) -> Verdict {
    View::new(&KnownPage::nothing(), Phase::Before, limits, environment).judge()
}

/// The fault that VMRUN raises instead of an exit.
fn fault_of(verdict: &Verdict) -> Option<Fault> {
    match verdict.outcome()? {
        Outcome::InvalidOpcode => Some(Fault::InvalidOpcode),
        Outcome::GeneralProtection => Some(Fault::GeneralProtection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// With the ranges of the saved state, so a change of a range is a new version of it.
    #[test]
    fn ranges_are_stable() {
        let read = [
            0x000..0x018,
            0x038..0x0D0,
            0x400..0x440,
            0x460..0x470,
            0x480..0x490,
            0x4C8..0x4D8,
            0x548..0x580,
            0x5D8..0x600,
            0x640..0x648,
            0x668..0x698,
        ];
        assert_eq!(READ, read);
        let mut seen = [0_u8; 0x6E8];
        for range in READ.iter().chain(&REST) {
            seen.get_mut(range.clone()).into_iter().flatten().for_each(|times| *times += 1);
        }
        assert!(seen.iter().all(|&times| times <= 1), "no byte is read twice");
        let unread: Vec<_> = (0..seen.len()).filter(|&at| seen[at] == 0).collect();
        assert_eq!(unread, (0x170..0x3E0).collect::<Vec<_>>());
    }

    #[test]
    fn offsets_are_signed() {
        for (offset, ratio, scaled) in [
            (100_i64, 3 << 31, 150),
            (-100, 3 << 31, -150),
            (-100, 1 << 31, -50),
            (i64::MIN, 1 << 32, i64::MIN),
        ] {
            assert_eq!(scale(offset as u64, ratio) as i64, scaled);
        }
    }
}
