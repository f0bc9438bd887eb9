//! An example to copy: how a hypervisor uses `vmcb`. It builds a VMCB, injects an event, checks the VMCB before VMRUN and
//! handles a refusal.
//!
//! VMRUN itself needs unsafe code. [`Hypervisor::enter`] takes it as a closure.
#![no_std]
#![forbid(unsafe_code)]

use vmcb::{
    Checked, Cpu, Cr0, Cr4, Efer, Environment, Event, ExitCode, GuestMode, Input, Inputs, InterceptMisc1,
    InterceptMisc2, Limits, Outcome, Policy, Rflags, Segment, SegmentAttributes, TakesOver, Verdict, VmcbMut,
    admit, check_event,
};

/// This hypervisor executes VMRUN at CPL 0 in 64-bit mode with an aligned address below 2^MAXPHYADDR, so VMRUN raises no
/// fault. Its guests use long mode, which has no PDPTEs, and no SEV.
pub enum Hosted {}

impl TakesOver for Hosted {
    const INPUTS: Inputs = Inputs::only(Input::HostMode)
        .with(Input::HostMsrs)
        .with(Input::VmcbAddress)
        .with(Input::Pdptes)
        .with(Input::UCet)
        .with(Input::Vmsa)
        .with(Input::Rmp)
        .with(Input::SiblingThread);
}

/// A hypervisor for guests of one virtual CPU.
pub struct Hypervisor {
    limits: Limits,
}

impl Hypervisor {
    /// Compiles the rules for the CPU that guests see. `cpuid` returns EAX, EBX, ECX and EDX of a leaf and a subleaf.
    pub fn new(cpuid: impl FnMut(u32, u32) -> [u32; 4]) -> Self {
        Self { limits: Limits::compile(&Cpu::ask_cpuid(cpuid), Policy::VirtualCpu) }
    }

    /// Fills in the VMCB of a guest in 64-bit mode. The addresses are guest addresses; `cr3` points to the page tables.
    pub fn build(page: &mut [u8; 4096], entry: u64, stack: u64, cr3: u64) {
        let code =
            Segment { selector: 8, attributes: SegmentAttributes::from_bits(0x29B), limit: 0, base: 0 };
        let data =
            Segment { selector: 16, attributes: SegmentAttributes::from_bits(0xC93), limit: !0, base: 0 };
        VmcbMut::new(page)
            .set_intercept_misc1(InterceptMisc1::INTR | InterceptMisc1::SHUTDOWN)
            .set_intercept_misc2(InterceptMisc2::VMRUN | InterceptMisc2::VMMCALL)
            .set_guest_asid(1)
            .set_efer(Efer::SVME | Efer::LME | Efer::LMA)
            .set_cr0(Cr0::PG | Cr0::PE | Cr0::ET)
            .set_cr4(Cr4::PAE)
            .set_cr3(cr3)
            .set_cs(code)
            .set_ss(data)
            .set_rflags(Rflags::from_bits(2))
            .set_rip(entry)
            .set_rsp(stack);
    }

    /// Sets the event that the next VMRUN injects.
    ///
    /// # Errors
    /// Returns the broken rules if VMRUN would refuse the event, for example an exception that this CPU does not have.
    pub fn inject(&self, page: &mut [u8; 4096], event: Event) -> Result<(), Verdict> {
        let verdict = check_event(event, GuestMode::BITS_64, &self.limits);
        if !verdict.is_accepted() {
            return Err(verdict);
        }
        VmcbMut::new(page).set_eventinj(event);
        Ok(())
    }

    /// Checks the VMCB, and enters the guest with `vmrun` if VMRUN accepts it.
    ///
    /// # Errors
    /// Returns the exit code of the refusal, and the verdict that names the broken rules.
    pub fn enter(
        &self,
        page: &[u8; 4096],
        vmrun: impl FnOnce(Checked<'_, Hosted>) -> ExitCode,
    ) -> Result<ExitCode, (ExitCode, Verdict)> {
        match admit(page, &self.limits, &Environment::unknown()) {
            Ok(checked) => Ok(vmrun(checked)),
            Err(verdict) => {
                // An undecided VMCB has no outcome. This hypervisor refuses it.
                let code = verdict.outcome().and_then(Outcome::exit_code).unwrap_or(ExitCode::INVALID);
                Err((code, verdict))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;
    use vmcb::{EventType, Vector};

    /// A CPU with SVM, long mode, PAE and 48 address bits.
    fn cpuid(leaf: u32, _subleaf: u32) -> [u32; 4] {
        match leaf {
            0 => [1, 0, 0, 0],
            1 => [0, 0, 0, 1 << 6],
            0x8000_0000 => [0x8000_000A, 0, 0, 0],
            0x8000_0001 => [0, 0, 1 << 2, 1 << 29],
            0x8000_0008 => [48, 0, 0, 0],
            _ => [0; 4],
        }
    }

    #[test]
    fn a_legal_guest_is_entered_and_an_illegal_one_is_explained() {
        let (hypervisor, mut page) = (Hypervisor::new(cpuid), [0; 4096]);
        Hypervisor::build(&mut page, 0x10_0000, 0x20_0000, 0x3000);
        let exit = hypervisor.enter(&page, |_| ExitCode::NPF);
        assert_eq!(exit.map_err(|(_, verdict)| verdict.to_string()), Ok(ExitCode::NPF));
        VmcbMut::new(&mut page).set_guest_asid(0);
        let (code, verdict) = hypervisor.enter(&page, |_| ExitCode::NPF).unwrap_err();
        assert_eq!(code, ExitCode::INVALID);
        assert_eq!(verdict.to_string(), "refused (VMEXIT_INVALID): ctl-asid-zero");
    }

    #[test]
    fn only_events_of_this_cpu_are_injected() {
        let (hypervisor, mut page) = (Hypervisor::new(cpuid), [0; 4096]);
        let exception = |vector| Event::new(EventType::EXCEPTION, Vector::new(vector));
        assert_eq!(hypervisor.inject(&mut page, exception(13).with_error_code(0)), Ok(()));
        let control_protection = hypervisor.inject(&mut page, exception(21).with_error_code(0)).unwrap_err();
        assert_eq!(control_protection.to_string(), "refused (VMEXIT_INVALID): evt-exc-cp-without-shstk");
        assert_eq!(VmcbMut::new(&mut page).eventinj(), exception(13).with_error_code(0));
    }
}
