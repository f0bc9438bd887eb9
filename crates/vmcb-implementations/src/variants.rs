//! Checks that differ from the rulebook's, each an ordinary function.
//!
//! The masks here are habits of one implementation and say nothing about what is legal. Where a peer makes the
//! rulebook's own test in other circumstances, the test is `vmcb`'s.
//!
//! Peers read a plain guest's save area whatever 090h says of SEV-ES: so do these.

use vmcb::layout::PAGE_SIZE;
use vmcb::layout::{Field, vmcb_field as field};
use vmcb::{
    Bits, Cpu, Cr0, Cr4, CsAttributes, Efer, Environment, Event, EventType, Feature, Host, IntCtl,
    InterceptMisc1, KnownPage, Limits, Literal, Mode, Phase, Rule, Test, Vector, Verdict, View, Word,
};

/// Whether a check refuses; `None` where that depends on what is not known.
pub type Predicate = fn(&Facts<'_>) -> Option<bool>;

/// What a check may look at: the VMCB, the executing CPU, the virtual CPU.
///
/// Of a page that is known in part the answers are three-valued, by the rules of such logic: an answer that is given
/// holds for every completion of the unknown bits; where several unknown bits decide together, `None` may stand
/// although all completions agree.
#[derive(Clone)]
pub struct Facts<'a> {
    view: View<'a>,
    verdict: Verdict,
    limits: &'a Limits,
    memory: Option<u64>,
}

impl<'a> Facts<'a> {
    /// A complete page as VMRUN reads it, judged by the rulebook once.
    #[must_use]
    pub fn new(page: &'a [u8; PAGE_SIZE], limits: &'a Limits, environment: &'a Environment<'a>) -> Self {
        let view = View::complete(page, limits, environment);
        // The straight-line check is enough where nothing is broken.
        let verdict = vmcb::check_out_of_line(page, limits, environment);
        Self { view, verdict, limits, memory: None }
    }

    /// A page as VMRUN reads it, of which some bits are known.
    #[must_use]
    pub fn known(page: &'a KnownPage, limits: &'a Limits, environment: &'a Environment<'a>) -> Self {
        let view = View::new(page, Phase::Before, limits, environment);
        let verdict = view.judge();
        Self { view, verdict, limits, memory: None }
    }

    /// The same where the CPU has RAM from address 0 to this one, in bytes; where that is not said, all is RAM.
    #[must_use]
    pub fn with_memory(self, memory: Option<u64>) -> Self {
        Self { memory, ..self }
    }

    /// Whether the rule's conditions are met, whatever the manual says of the outcome; `None` where that is not
    /// known, also because the limits leave the rule out.
    #[must_use]
    pub fn meets(&self, rule: Rule) -> Option<bool> {
        if !self.limits.rules().contains(rule) || self.verdict.unknown().contains(rule) {
            return None;
        }
        Some(self.verdict.broken().contains(rule) || self.verdict.unstated().contains(rule))
    }

    /// What the rulebook says of it.
    pub(crate) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The rulebook's own test.
    fn test(&self, test: Test) -> Option<bool> {
        self.view.holds(Literal::Holds(test))
    }

    /// Whether this fact about the executing CPU is so.
    fn host(&self, fact: Host) -> Option<bool> {
        let mask = fact.bits();
        self.view.holds(Literal::Is { word: Word::Host, mask, value: mask })
    }

    fn host_lacks(&self, fact: Host) -> Option<bool> {
        self.view.holds(Literal::Is { word: Word::Host, mask: fact.bits(), value: 0 })
    }

    fn cpu(&self) -> &Cpu {
        self.limits.cpu()
    }

    fn read(&self, field: Field) -> Bits {
        self.view.control(field)
    }

    /// An address field without bits 11:0, which the manual ignores.
    fn page_at(&self, field: Field) -> Bits {
        self.read(field).with(PAGE_OFFSET, Bits::known(0))
    }

    fn cr0(&self, bits: Cr0) -> Option<bool> {
        is(self.read(field::cr0), bits.bits(), bits.bits())
    }

    fn cr4(&self, bits: Cr4) -> Option<bool> {
        is(self.read(field::cr4), bits.bits(), bits.bits())
    }

    fn efer(&self, bits: Efer) -> Option<bool> {
        is(self.read(field::efer), bits.bits(), bits.bits())
    }

    /// LME and PG: a guest in long mode.
    fn long_mode(&self) -> Option<bool> {
        and(self.efer(Efer::LME), self.cr0(Cr0::PG))
    }

    fn nested_paging(&self) -> Option<bool> {
        let mask = Mode::NESTED_PAGING.bits();
        self.view.holds(Literal::Is { word: Word::Mode, mask, value: mask })
    }

    /// Whether an address has a bit at or above MAXPHYADDR. The C-bit is none of a peer's business.
    fn too_wide(&self, address: Bits) -> Option<bool> {
        at_least(address, self.cpu().phys_bits(), 0)
    }

    /// Whether some byte from the address on is no RAM.
    fn beyond_memory(&self, address: Bits, bytes: u64) -> Option<bool> {
        let Some(memory) = self.memory else { return Some(false) };
        let beyond = |address: u64| address.saturating_add(bytes) > memory;
        match (beyond(address.value()), beyond(address.largest())) {
            (true, _) => Some(true),
            (false, false) => Some(false),
            (false, true) => None,
        }
    }

    /// Whether an exception with this vector is injected.
    fn injects(&self, vector: u8) -> Option<bool> {
        let event = Event::new(EventType::EXCEPTION, Vector::new(vector)).bits();
        is(self.read(field::eventinj), Event::V | Event::TYPE | Event::VECTOR, event)
    }
}

/// Whether the bits of `mask` are as in `value`.
fn is(bits: Bits, mask: u64, value: u64) -> Option<bool> {
    if (bits.value() ^ value) & mask & bits.known_mask() != 0 {
        Some(false)
    } else if bits.unknown_mask() & mask == 0 {
        Some(true)
    } else {
        None
    }
}

/// Whether some bit of `mask` is set.
fn any(bits: Bits, mask: u64) -> Option<bool> {
    not(is(bits, mask, 0))
}

/// Whether `value` is at least 2^`width` - `less`.
fn at_least(value: Bits, width: Option<u8>, less: u64) -> Option<bool> {
    let reaches = |value: u64, width: u8| value >= (1_u64 << (width & 63)) - less;
    let (narrowest, widest) = width.map_or(vmcb::PHYS_BITS, |width| (width, width));
    if reaches(value.value(), widest) {
        Some(true)
    } else if !reaches(value.largest(), narrowest) {
        Some(false)
    } else {
        None
    }
}

fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn not(a: Option<bool>) -> Option<bool> {
    a.map(|a| !a)
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    not(and(not(a), not(b)))
}

/// Whether a word has a bit that the implementation refuses: one outside `known`, one whose feature is absent,
/// one of which it is not known what the implementation does.
fn has_refused_bit(
    word: Bits,
    always: u64,
    by_feature: &[(u64, Feature)],
    unclear: u64,
    cpu: &Cpu,
) -> Option<bool> {
    let gated = by_feature.iter().fold(0, |all, (bits, _)| all | bits);
    let mut refused = any(word, !(always | gated | unclear));
    for &(bits, feature) in by_feature {
        refused = or(refused, and(any(word, bits), not(cpu.has(feature))));
    }
    or(refused, and(any(word, unclear), None))
}

// --- Before the VMCB is read ------------------------------------------------------------------------------

/// Outside protected mode, or paging is off.
pub fn not_protected_or_not_paged(facts: &Facts<'_>) -> Option<bool> {
    or(facts.meets(Rule::PreNotProtected), facts.host_lacks(Host::PG))
}

/// CR0.PE is clear; virtual-8086 mode is left to the check of the CPL.
pub fn protection_off(facts: &Facts<'_>) -> Option<bool> {
    facts.host_lacks(Host::PE)
}

/// VM_HSAVE_PA is zero, with SEV-SNP or without.
pub fn hsave_pa_zero(facts: &Facts<'_>) -> Option<bool> {
    facts.host(Host::HSAVE_PA_ZERO)
}

/// VMRUN in system management mode.
pub fn in_smm(facts: &Facts<'_>) -> Option<bool> {
    facts.host(Host::SMM)
}

// --- Control area -----------------------------------------------------------------------------------------

/// Bits 11:0 of an address field that the manual ignores.
const PAGE_OFFSET: u64 = 0xFFF;

/// The first page of the MSR permission map lies above the address width; the second is not looked at.
pub fn msrpm_first_page(facts: &Facts<'_>) -> Option<bool> {
    facts.too_wide(facts.page_at(field::msrpm_base_pa))
}

/// The first page of the I/O permission map lies above the address width; the others are not looked at.
pub fn iopm_first_page(facts: &Facts<'_>) -> Option<bool> {
    facts.too_wide(facts.page_at(field::iopm_base_pa))
}

/// The rulebook's rule, or a map that is not RAM: it is read while VMRUN is emulated.
pub fn kvm_msrpm(facts: &Facts<'_>) -> Option<bool> {
    let map = facts.page_at(field::msrpm_base_pa);
    or(facts.meets(Rule::CtlMsrpmBeyondMaxphyaddr), facts.beyond_memory(map, 0x2000))
}

/// The MSR permission map does not end *below* the address width: the last legal page is refused too.
pub fn msrpm_or_last_page(facts: &Facts<'_>) -> Option<bool> {
    at_least(facts.page_at(field::msrpm_base_pa), facts.cpu().phys_bits(), 0x2000)
}

/// The rulebook's rule, or an address that is not page-aligned.
pub fn msrpm_unaligned(facts: &Facts<'_>) -> Option<bool> {
    let unaligned = any(facts.read(field::msrpm_base_pa), PAGE_OFFSET);
    or(facts.meets(Rule::CtlMsrpmBeyondMaxphyaddr), unaligned)
}

/// The rulebook's rule, or an address that is not page-aligned.
pub fn iopm_unaligned(facts: &Facts<'_>) -> Option<bool> {
    let unaligned = any(facts.read(field::iopm_base_pa), PAGE_OFFSET);
    or(facts.meets(Rule::CtlIopmBeyondMaxphyaddr), unaligned)
}

/// Bochs takes any bit of the byte at 090h for NP_ENABLE.
fn bochs_nested_paging(facts: &Facts<'_>) -> Option<bool> {
    and(any(facts.read(field::nested_ctl), 0xFF), facts.cpu().has(Feature::Npt))
}

/// Some bit of the byte at 090h is set and the host's paging is off.
pub fn bochs_np_without_host_paging(facts: &Facts<'_>) -> Option<bool> {
    and(bochs_nested_paging(facts), facts.host_lacks(Host::PG))
}

/// N_CR3 is too wide, some bit of the byte at 090h is set, and the host is in long mode.
pub fn bochs_ncr3(facts: &Facts<'_>) -> Option<bool> {
    and(
        and(bochs_nested_paging(facts), host_in_long_mode(facts)),
        facts.test(Test::AddressTooWide(Word::NCr3)),
    )
}

/// A byte of G_PAT is no memory type, and some bit of the byte at 090h is set.
pub fn bochs_g_pat(facts: &Facts<'_>) -> Option<bool> {
    and(bochs_nested_paging(facts), facts.test(Test::PatInvalid))
}

/// 64-bit mode is long mode; of another mode we do not know whether it is compatibility mode.
fn host_in_long_mode(facts: &Facts<'_>) -> Option<bool> {
    match facts.host(Host::LONG64) {
        Some(true) => Some(true),
        _ => None,
    }
}

/// V_NMI_ENABLE without the NMI intercept, on any virtual CPU.
pub fn vnmi_on_any_cpu(facts: &Facts<'_>) -> Option<bool> {
    let enabled = any(facts.read(field::int_ctl), IntCtl::V_NMI_ENABLE.bits());
    and(enabled, not(any(facts.read(field::intercept_misc1), InterceptMisc1::NMI.bits())))
}

/// TLB_CONTROL is reserved: not 0 or 1, nor 3 or 7 where the CPU has FlushByAsid.
pub fn tlb_control_reserved(facts: &Facts<'_>) -> Option<bool> {
    let tlb_control = facts.read(field::tlb_control);
    let one_of = |values: [u64; 2]| or(is(tlb_control, 0xFF, values[0]), is(tlb_control, 0xFF, values[1]));
    let with_feature = and(one_of([3, 7]), facts.cpu().has(Feature::FlushByAsid));
    not(or(not(any(tlb_control, !1)), with_feature))
}

/// TLB_CONTROL is neither 0 nor 1.
pub fn tlb_control_above_1(facts: &Facts<'_>) -> Option<bool> {
    any(facts.read(field::tlb_control), !1)
}

/// TLB_CONTROL is neither 0 nor 1 and the CPU lacks FlushByAsid.
pub fn tlb_control_above_1_without_flush_by_asid(facts: &Facts<'_>) -> Option<bool> {
    and(tlb_control_above_1(facts), not(facts.cpu().has(Feature::FlushByAsid)))
}

// --- State save area --------------------------------------------------------------------------------------

/// LME and LMA, which the rulebook leaves to a rule of their own.
const LONG_MODE_BITS: u64 = Efer::LME.union(Efer::LMA).bits();

/// KVM: SCE, SVME and LMSLE always; NXE, FFXSR and AIBRSE with the virtual CPU's feature. TCE depends on the
/// kernel and the host.
pub fn kvm_efer(facts: &Facts<'_>) -> Option<bool> {
    let always = LONG_MODE_BITS | Efer::SCE.union(Efer::SVME).union(Efer::LMSLE).bits();
    let by_feature = [
        (Efer::NXE.bits(), Feature::Nx),
        (Efer::FFXSR.bits(), Feature::Ffxsr),
        (Efer::AIBRSE.bits(), Feature::AutoIbrs),
    ];
    has_refused_bit(facts.read(field::efer), always, &by_feature, Efer::TCE.bits(), facts.cpu())
}

/// Bochs: SVME, and SCE, NXE and FFXSR with the CPU's feature; nothing else.
pub fn bochs_efer(facts: &Facts<'_>) -> Option<bool> {
    let by_feature = [
        (Efer::SCE.bits(), Feature::Syscall),
        (Efer::NXE.bits(), Feature::Nx),
        (Efer::FFXSR.bits(), Feature::Ffxsr),
    ];
    let always = LONG_MODE_BITS | Efer::SVME.bits();
    has_refused_bit(facts.read(field::efer), always, &by_feature, 0, facts.cpu())
}

/// QEMU: a fixed mask, whatever the CPU has: SCE, LME, LMA, NXE, SVME, FFXSR.
pub fn qemu_efer(facts: &Facts<'_>) -> Option<bool> {
    let known = Efer::SCE.union(Efer::NXE).union(Efer::SVME).union(Efer::FFXSR).bits() | LONG_MODE_BITS;
    any(facts.read(field::efer), !known)
}

/// Xen: SVME, and SCE, NXE, FFXSR and AIBRSE with the guest's feature.
pub fn xen_efer(facts: &Facts<'_>) -> Option<bool> {
    let by_feature = [
        (Efer::SCE.bits(), Feature::Syscall),
        (Efer::NXE.bits(), Feature::Nx),
        (Efer::FFXSR.bits(), Feature::Ffxsr),
        (Efer::AIBRSE.bits(), Feature::AutoIbrs),
    ];
    let always = LONG_MODE_BITS | Efer::SVME.bits();
    has_refused_bit(facts.read(field::efer), always, &by_feature, 0, facts.cpu())
}

/// LMA is set and LME clear.
pub fn lma_without_lme(facts: &Facts<'_>) -> Option<bool> {
    and(facts.efer(Efer::LMA), not(facts.efer(Efer::LME)))
}

/// CR3 is too wide and the guest is not in long mode, whether it pages or not.
pub fn cr3_outside_long_mode(facts: &Facts<'_>) -> Option<bool> {
    and(not(facts.long_mode()), facts.test(Test::AddressTooWide(Word::Cr3)))
}

/// CR3 is too wide, the guest is in long mode, and so is the host.
pub fn qemu_cr3_long(facts: &Facts<'_>) -> Option<bool> {
    let guest = and(facts.long_mode(), facts.test(Test::AddressTooWide(Word::Cr3)));
    and(guest, host_in_long_mode(facts))
}

/// CR3 is too wide, the guest is not in long mode, and the host is.
pub fn qemu_cr3_legacy(facts: &Facts<'_>) -> Option<bool> {
    and(cr3_outside_long_mode(facts), host_in_long_mode(facts))
}

/// CR3 is too wide or has a bit of 11:5 or 2:0, and EFER.LMA and CR0.PG are set.
pub fn xen_cr3(facts: &Facts<'_>) -> Option<bool> {
    const LOW: u64 = 0xFE7;
    let bad = or(any(facts.read(field::cr3), LOW), facts.test(Test::AddressTooWide(Word::Cr3)));
    and(and(facts.efer(Efer::LMA), facts.cr0(Cr0::PG)), bad)
}

/// A PDPTE is reserved or is no RAM, paging with PAE is on, EFER.LMA is clear: LMA is taken from the VMCB, not
/// computed, and CR3 with all its bits.
pub fn kvm_pdptes(facts: &Facts<'_>) -> Option<bool> {
    let pae = and(facts.cr0(Cr0::PG), facts.cr4(Cr4::PAE));
    let legacy = and(pae, not(facts.efer(Efer::LMA)));
    let unread = facts.beyond_memory(facts.read(field::cr3).with(0x1F, Bits::known(0)), 0x20);
    and(and(legacy, not(facts.nested_paging())), or(unread, facts.test(Test::PdpteReserved)))
}

/// A PDPTE is reserved in legacy PAE mode, and the byte at 090h is zero.
pub fn bochs_pdptes(facts: &Facts<'_>) -> Option<bool> {
    let pae = and(facts.cr0(Cr0::PG), facts.cr4(Cr4::PAE));
    let legacy = and(pae, not(facts.efer(Efer::LME)));
    and(and(legacy, not(bochs_nested_paging(facts))), facts.test(Test::PdpteReserved))
}

/// KVM: VME to OSXMMEXCPT always, the others that AMD defines with the virtual CPU's feature.
pub fn kvm_cr4(facts: &Facts<'_>) -> Option<bool> {
    let by_feature = [
        (Cr4::UMIP.bits(), Feature::Umip),
        (Cr4::LA57.bits(), Feature::La57),
        (Cr4::FSGSBASE.bits(), Feature::Fsgsbase),
        (Cr4::PCIDE.bits(), Feature::Pcid),
        (Cr4::OSXSAVE.bits(), Feature::Xsave),
        (Cr4::SMEP.bits(), Feature::Smep),
        (Cr4::SMAP.bits(), Feature::Smap),
        (Cr4::PKE.bits(), Feature::Pku),
        (Cr4::CET.bits(), Feature::Shstk),
    ];
    has_refused_bit(facts.read(field::cr4), 0x7FF, &by_feature, 0, facts.cpu())
}

/// The rulebook's rule, or PCIDE in a guest that is not in long mode.
pub fn bochs_cr4(facts: &Facts<'_>) -> Option<bool> {
    or(facts.meets(Rule::SavCr4Mbz), and(facts.cr4(Cr4::PCIDE), not(facts.long_mode())))
}

/// QEMU: VME to OSXMMEXCPT and PCIDE always; UMIP, LA57, FSGSBASE, SMEP, SMAP and PKE with the CPU's feature, OSXSAVE
/// with some feature of CPUID 0Dh, which every CPU with XSAVE has that QEMU emulates.
fn qemu_cr4_but(facts: &Facts<'_>, unclear: u64) -> Option<bool> {
    let always = 0x7FF | Cr4::PCIDE.bits();
    let by_feature = [
        (Cr4::UMIP.bits(), Feature::Umip),
        (Cr4::LA57.bits(), Feature::La57),
        (Cr4::FSGSBASE.bits(), Feature::Fsgsbase),
        (Cr4::OSXSAVE.bits(), Feature::Xsave),
        (Cr4::SMEP.bits(), Feature::Smep),
        (Cr4::SMAP.bits(), Feature::Smap),
        (Cr4::PKE.bits(), Feature::Pku),
    ];
    has_refused_bit(facts.read(field::cr4), always, &by_feature, unclear, facts.cpu())
}

/// QEMU 7.2: bit 24 follows Intel's feature PKS, which no description of an AMD CPU has.
pub fn qemu_cr4_with_pks(facts: &Facts<'_>) -> Option<bool> {
    qemu_cr4_but(facts, 1 << 24)
}

/// Later QEMU: bits 24, 28 and 32 follow Intel's features PKS, LAM and FRED, the latter two by version.
pub fn qemu_cr4_with_pks_lam_fred(facts: &Facts<'_>) -> Option<bool> {
    qemu_cr4_but(facts, 1 << 24 | 1 << 28 | 1 << 32)
}

/// The rulebook's rule, or LA57, which Xen offers to no such guest.
pub fn xen_cr4(facts: &Facts<'_>) -> Option<bool> {
    or(facts.meets(Rule::SavCr4Mbz), facts.cr4(Cr4::LA57))
}

/// CS.L and CS.D are both set, in whatever mode.
pub fn cs_l_and_d_in_any_mode(facts: &Facts<'_>) -> Option<bool> {
    let both = CsAttributes::L.union(CsAttributes::D).bits() << 16;
    is(facts.read(field::cs), both, both)
}

// --- Event injection --------------------------------------------------------------------------------------

/// Of the reserved vectors only 31.
pub fn vector_31(facts: &Facts<'_>) -> Option<bool> {
    facts.injects(31)
}

/// #BR into a guest in long mode, compatibility mode included.
pub fn br_in_long_mode(facts: &Facts<'_>) -> Option<bool> {
    and(facts.injects(5), facts.long_mode())
}

/// EVENTINJ has one of bits 30:12 set.
pub fn event_reserved_bits(facts: &Facts<'_>) -> Option<bool> {
    any(facts.read(field::eventinj), Event::RESERVED)
}
