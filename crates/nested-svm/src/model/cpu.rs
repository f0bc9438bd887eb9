//! The software CPU. It executes VMRUN and the instructions of a script, takes events at instruction boundaries, and
//! performs #VMEXIT.

use super::paging::{HostMemory, Mmu, PagingFault};
use super::script::{Access, Seen, Step};
use super::tlb::{Tagged, Tlb};
use crate::l0::page::Page;
use std::collections::VecDeque;
use std::vec::Vec;
use vmcb::layout::vmcb_field as f;
use vmcb::{
    Environment, Event, EventType, ExitCode, Input, IntCtl, InterceptMisc1, Limits, Rflags, Vector, Verdict,
};

/// Interrupt pins of the physical CPU. An interrupt stays pending until the CPU takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pins {
    /// A non-maskable interrupt is pending.
    pub nmi: bool,
    /// The vector of a pending interrupt.
    pub interrupt: Option<u8>,
}

/// Where a delivered event came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// EVENTINJ of the VMCB.
    Injected,
    /// The pins of the physical CPU.
    Physical,
    /// V_IRQ of the VMCB.
    Virtual,
    /// An instruction of the guest.
    Raised,
}

/// The software CPU.
#[derive(Debug)]
pub struct Hardware {
    /// Limits that VMRUN checks a VMCB against.
    pub limits: Limits,
    /// Guest physical accesses that the delivery of the next events makes.
    pub delivery: VecDeque<Access>,
    /// VMRUN refuses every VMCB.
    pub refuses: bool,
    /// What happened, in order.
    pub seen: Vec<Seen>,
    /// Where each [`Seen::Delivered`] came from, in the same order.
    pub sources: Vec<Source>,
    /// Outcomes of the accesses that completed, in order: the host physical address, or `None` after #PF.
    pub accesses: Vec<Option<u64>>,
    /// Cached translations.
    pub tlb: Tlb,
    /// Pending physical interrupts.
    pub pins: Pins,
    /// RFLAGS.IF of the host at VMRUN.
    pub host_if: bool,
    /// Source of the event whose delivery the last exit interrupted.
    pub interrupted: Option<Source>,
    /// Number of instruction boundaries at which a pending physical interrupt was masked, other than by an
    /// interrupt shadow.
    pub masked: u64,
}

/// A #VMEXIT.
struct VmExit {
    code: u64,
    info: [u64; 2],
    /// The event whose delivery the exit interrupted. V is clear if there is none.
    interrupted: Event,
}

impl VmExit {
    const fn new(code: u64, info: [u64; 2]) -> Self {
        Self { code, info, interrupted: Event::from_bits(0) }
    }

    const fn nested_page_fault(info: u64, address: u64) -> Self {
        Self::new(ExitCode::NPF.bits(), [info, address])
    }

    /// Returns whether the exit is a nested page fault of an instruction, which is then executed again.
    fn is_fault_of_instruction(&self) -> bool {
        self.code == ExitCode::NPF.bits() && !self.interrupted.valid()
    }

    const fn during(self, interrupted: Event) -> Self {
        Self { interrupted, ..self }
    }
}

const INTR: u64 = 0x60;
const NMI: u64 = 0x61;
const VINTR: u64 = 0x64;
const FAILED: u64 = u64::MAX;
const PAGE_FAULT: u8 = 14;

impl Hardware {
    /// Returns a CPU with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            delivery: VecDeque::new(),
            refuses: false,
            seen: Vec::new(),
            sources: Vec::new(),
            accesses: Vec::new(),
            tlb: Tlb::default(),
            pins: Pins::default(),
            host_if: true,
            interrupted: None,
            masked: 0,
        }
    }

    /// Returns the verdict of VMRUN on a VMCB.
    pub fn judge(&self, page: &Page) -> Verdict {
        let environment = [Input::HostMsrs, Input::VmcbAddress, Input::Pdptes, Input::UCet]
            .into_iter()
            .fold(Environment::real_host(), Environment::take_over);
        vmcb::check_out_of_line(page.bytes(), &self.limits, &environment)
    }

    /// Executes VMRUN until #VMEXIT. Executed steps are removed from the script. An access that exits with a
    /// nested page fault stays in it, unless the fault occurred during the delivery of an event.
    ///
    /// # Panics
    /// Panics if the script ends without an exit.
    pub fn run(&mut self, page: &mut Page, memory: &impl HostMemory, script: &mut VecDeque<Step>) {
        page.set(f::exitintinfo, 0);
        self.interrupted = None;
        // VMRUN executes TLB_CONTROL only for a VMCB that it accepts.
        let exit = if self.refuses || !self.judge(page).is_accepted() {
            VmExit::new(FAILED, [0, 0])
        } else {
            self.tlb.control(page.get(f::guest_asid) as u32, page.get(f::tlb_control));
            let mut running = Running { cpu: self, page, memory };
            match running.inject().and_then(|()| running.execute(script)) {
                Err(exit) => exit,
                Ok(never) => match never {},
            }
        };
        write_exit(page, &exit);
    }
}

/// Writes an exit to the VMCB, as #VMEXIT does.
fn write_exit(page: &mut Page, exit: &VmExit) {
    page.set(f::exitcode, exit.code);
    page.set(f::exitinfo1, exit.info[0]);
    page.set(f::exitinfo2, exit.info[1]);
    if exit.interrupted.valid() {
        page.set(f::exitintinfo, exit.interrupted.bits());
    }
    page.set(f::nrip, page.get(f::rip).wrapping_add(3));
    page.set_bits(f::eventinj, 0xFFFF_FFFF, 0);
}

/// A guest between VMRUN and #VMEXIT.
struct Running<'a, M> {
    cpu: &'a mut Hardware,
    page: &'a mut Page,
    memory: &'a M,
}

impl<M: HostMemory> Running<'_, M> {
    /// Delivers the event in EVENTINJ.
    fn inject(&mut self) -> Result<(), VmExit> {
        let event = self.page.vmcb().eventinj();
        if event.valid() { self.deliver(event, Source::Injected) } else { Ok(()) }
    }

    /// Executes steps until an exit.
    fn execute(&mut self, script: &mut VecDeque<Step>) -> Result<core::convert::Infallible, VmExit> {
        loop {
            self.take_interrupts()?;
            let step = *script.front().expect("a script ends with an exit");
            let result = self.step(step);
            let faulted = matches!(step, Step::Access(_) | Step::Linear(_))
                && result.as_ref().is_err_and(VmExit::is_fault_of_instruction);
            if !faulted {
                script.pop_front();
            }
            result?;
        }
    }

    fn step(&mut self, step: Step) -> Result<(), VmExit> {
        match step {
            Step::Set(field, value) => self.page.set(field, value),
            Step::Access(access) => {
                let host = self.guest_physical(access)?;
                self.reached(host);
            }
            Step::Linear(access) => match self.mmu().linear(access) {
                Ok(host) => self.reached(host),
                Err(PagingFault::Nested(info, address)) => {
                    return Err(VmExit::nested_page_fault(info, address));
                }
                Err(PagingFault::Guest(code)) => {
                    self.cpu.accesses.push(None);
                    let kind = Event::new(EventType::EXCEPTION, Vector::new(PAGE_FAULT));
                    self.raise(kind.with_error_code(code as u32), access.address)?;
                }
            },
            Step::WriteCr3(value) => {
                self.page.set(f::cr3, value);
                self.tagged().write_cr3();
                self.end_instruction();
            }
            Step::InvalidatePage(linear) => {
                self.tagged().invalidate(linear);
                self.end_instruction();
            }
            Step::Raise(event, address) => self.raise(event, address)?,
            Step::Deliver(event, access) => {
                self.guest_physical(access).map_err(|exit| exit.during(event))?;
                self.delivered(event, Source::Raised);
            }
            Step::Exit(code, info) => return Err(VmExit::new(code, info)),
            Step::ExitDuring(event, code, info) => return Err(VmExit::new(code, info).during(event)),
        }
        Ok(())
    }

    fn mmu(&mut self) -> Mmu<'_, M> {
        Mmu { tlb: &mut self.cpu.tlb, page: self.page, memory: self.memory }
    }

    fn tagged(&mut self) -> &mut Tagged {
        let asid = self.page.get(f::guest_asid) as u32;
        self.cpu.tlb.tagged(asid)
    }

    fn guest_physical(&mut self, access: Access) -> Result<u64, VmExit> {
        self.mmu().guest_physical(access).map_err(|fault| match fault {
            PagingFault::Nested(info, address) => VmExit::nested_page_fault(info, address),
            PagingFault::Guest(_) => {
                unreachable!("a guest physical address is not in the guest's own tables")
            }
        })
    }

    fn reached(&mut self, host: u64) {
        self.cpu.seen.push(Seen::Reached(host));
        self.cpu.accesses.push(Some(host));
        self.end_instruction();
    }

    /// Ends the interrupt shadow, which covers one instruction.
    fn end_instruction(&mut self) {
        self.page.set_bits(f::interrupt_state, 1, 0);
    }

    /// Raises an exception. It causes an exit if it is intercepted, and is delivered otherwise.
    fn raise(&mut self, event: Event, address: u64) -> Result<(), VmExit> {
        let vector = event.vector().number();
        if self.page.get(f::intercept_exceptions) >> vector & 1 != 0 {
            let info = [event.error_code().into(), if vector == PAGE_FAULT { address } else { 0 }];
            return Err(VmExit::new(0x40 + u64::from(vector), info));
        }
        if vector == PAGE_FAULT {
            self.page.set(f::cr2, address);
        }
        self.deliver(event, Source::Raised)
    }

    /// Delivers an event through the guest's IDT. Each access to the IDT and the stack may fault.
    fn deliver(&mut self, event: Event, source: Source) -> Result<(), VmExit> {
        self.cpu.interrupted = Some(source);
        while let Some(&access) = self.cpu.delivery.front() {
            self.guest_physical(access).map_err(|exit| exit.during(event))?;
            self.cpu.delivery.pop_front();
        }
        self.cpu.interrupted = None;
        self.delivered(event, source);
        self.enter_handler(event);
        Ok(())
    }

    fn delivered(&mut self, event: Event, source: Source) {
        self.cpu.seen.push(Seen::Delivered(event, self.page.get(f::nrip)));
        self.cpu.sources.push(source);
    }

    fn enter_handler(&mut self, event: Event) {
        if event.event_type() != EventType::SOFTWARE {
            self.page.set_bits(f::rflags, Rflags::IF.bits(), 0);
        }
        self.page.set(f::rip, 0xE000 + u64::from(event.vector().number()));
    }

    /// Takes pending NMIs and interrupts at an instruction boundary, in order of priority.
    ///
    /// # Source
    /// Manual volume 2, 15.21 (interrupts), 15.13.1 (INTR and NMI intercepts).
    fn take_interrupts(&mut self) -> Result<(), VmExit> {
        if self.cpu.pins.nmi {
            self.exit_if(InterceptMisc1::NMI, NMI)?;
            self.cpu.pins.nmi = false;
            self.deliver(Event::new(EventType::NMI, Vector::new(2)), Source::Physical)?;
        }
        if let Some(vector) = self.cpu.pins.interrupt {
            if self.takes_physical() {
                self.exit_if(InterceptMisc1::INTR, INTR)?;
                self.cpu.pins.interrupt = None;
                self.deliver(Event::new(EventType::INTERRUPT, Vector::new(vector)), Source::Physical)?;
            } else if !self.in_shadow() {
                self.cpu.masked += 1;
            }
        }
        if self.takes_virtual() {
            self.exit_if(InterceptMisc1::VINTR, VINTR)?;
            self.page.set_bits(f::int_ctl, IntCtl::V_IRQ.bits(), 0);
            let vector = Vector::new(self.page.get(f::v_intr_vector) as u8);
            self.deliver(Event::new(EventType::INTERRUPT, vector), Source::Virtual)?;
        }
        Ok(())
    }

    fn exit_if(&self, intercept: InterceptMisc1, code: u64) -> Result<(), VmExit> {
        let intercepted = self.page.vmcb().intercept_misc1().contains(intercept);
        if intercepted { Err(VmExit::new(code, [0, 0])) } else { Ok(()) }
    }

    fn in_shadow(&self) -> bool {
        self.page.get(f::interrupt_state) & 1 != 0
    }

    /// Returns whether physical interrupts are enabled: by the host's RFLAGS.IF with V_INTR_MASKING, and by
    /// the guest's RFLAGS.IF without it. An interrupt shadow blocks them.
    fn takes_physical(&self) -> bool {
        let masking = self.page.vmcb().int_ctl().contains(IntCtl::V_INTR_MASKING);
        let enabled = if masking { self.cpu.host_if } else { self.guest_if() };
        enabled && !self.in_shadow()
    }

    fn takes_virtual(&self) -> bool {
        let control = self.page.vmcb().int_ctl();
        let bits = control.bits();
        let gif = !control.contains(IntCtl::VGIF_ENABLE) || control.contains(IntCtl::VGIF);
        let priority = control.contains(IntCtl::V_IGN_TPR) || bits >> 16 & 0xF > bits & 0xF;
        control.contains(IntCtl::V_IRQ) && gif && priority && self.guest_if() && !self.in_shadow()
    }

    fn guest_if(&self) -> bool {
        self.page.vmcb().rflags().contains(Rflags::IF)
    }
}
