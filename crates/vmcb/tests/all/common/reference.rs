//! A second formulation of all rules, for inputs of which everything is known.
//!
//! Written from the manual's sentences, one `if` a rule, in plain numbers; slow and simple. It shares with
//! the library the names of rules, features and facts, and nothing else.

use vmcb::{Answer, Cpu, Environment, Feature, Host, Rule, RuleSet, Vmsa};

/// A CPU, its host and two pages: everything that a rule can ask for.
#[derive(Clone)]
pub struct Machine {
    /// Bit n: the feature `Feature::ALL[n]`.
    pub features: u64,
    pub phys_bits: u8,
    pub c_bit: u8,
    pub asid_max: u32,
    pub asid_min: u32,
    /// The bits of `Host`.
    pub host: u64,
    pub vmcb_address: u64,
    pub pdptes: [u64; 4],
    pub u_cet: u64,
    pub vmcb: [u8; 4096],
    pub vmsa: [u8; 4096],
}

/// A C-bit that is elsewhere than in the addresses at hand.
pub const NO_C_BIT: u8 = 64;

pub fn feature_bit(feature: Feature) -> u64 {
    1 << Feature::ALL.iter().position(|&other| other == feature).unwrap()
}

/// All facts of `Host`.
pub fn all_facts() -> u64 {
    Host::NAMES.iter().fold(0, |all, (position, ..)| all | 1 << position)
}

pub fn read(page: &[u8; 4096], offset: usize, size: usize) -> u64 {
    page[offset..offset + size].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

pub fn write(page: &mut [u8; 4096], offset: usize, size: usize, value: u64) {
    page[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

impl Machine {
    pub fn has(&self, feature: Feature) -> bool {
        self.features & feature_bit(feature) != 0
    }

    pub fn cpu(&self) -> Cpu {
        let Self { phys_bits, c_bit, asid_max, asid_min, .. } = self;
        let text =
            format!("phys-bits={phys_bits},c-bit={c_bit},sev-asid-max={asid_max},sev-asid-min={asid_min}");
        let cpu = Cpu::parse(&text).unwrap();
        Feature::ALL.iter().fold(cpu, |cpu, &feature| cpu.with(feature, self.has(feature)))
    }

    pub fn environment(&self) -> Environment<'_> {
        Environment::unknown()
            .with(Host::from_bits(all_facts() & !self.host), Answer::No)
            .with(Host::from_bits(self.host), Answer::Yes)
            .with_vmcb_address(self.vmcb_address)
            .with_pdptes(self.pdptes)
            .with_u_cet(self.u_cet)
            .with_vmsa(Vmsa::Page(&self.vmsa))
    }

    fn is(&self, fact: Host) -> bool {
        self.host & fact.bits() == fact.bits()
    }

    /// The rules that refuse, and those that are broken without an outcome.
    #[expect(
        clippy::too_many_lines,
        reason = "one statement per rule, in the order of the manual, is easiest to compare with it"
    )]
    pub fn broken(&self) -> (RuleSet, RuleSet) {
        let mut all = RuleSet::EMPTY;
        let mut add = |rule: Rule, broken: bool| {
            if broken {
                all = all.union(RuleSet::only(rule));
            }
        };
        let has = |feature| self.has(feature);
        let control = |offset, size| read(&self.vmcb, offset, size);
        let vmsa = |offset| read(&self.vmsa, offset, 8);
        let bit = |value: u64, position: u32| value >> position & 1 == 1;

        // What is on.
        let (misc1, misc2) = (control(0x00C, 4), control(0x010, 4));
        let asid = control(0x058, 4);
        let nested = control(0x090, 8);
        let np = bit(nested, 0) && has(Feature::Npt);
        let sev = bit(nested, 1) && has(Feature::Sev) && self.is(Host::MEM_ENCRYPTION);
        let seves = bit(nested, 2) && has(Feature::SevEs);
        let sev_features = vmsa(0x3B0);
        let snp = seves && bit(sev_features, 0) && has(Feature::SevSnp);
        let restricted = snp && bit(sev_features, 3) && has(Feature::RestrictedInjection);
        let alternate = snp && bit(sev_features, 4) && has(Feature::AlternateInjection);
        let secure_avic = seves && bit(sev_features, 16) && has(Feature::SecureAvic);
        // 15.36.16, 15.36.21.2: both load events and virtual interrupts from the VMSA.
        let from_vmsa = alternate || secure_avic;
        let int_ctl = control(0x060, 4);
        let vintr = vmsa(0x3B8);
        let avic = bit(int_ctl, 31) && has(Feature::Avic);
        let x2avic_bit = !from_vmsa && bit(int_ctl, 30);
        let x2avic = x2avic_bit && has(Feature::X2avic);
        let vnmi_bit = if from_vmsa { bit(vintr, 26) } else { bit(int_ctl, 26) };
        let virt_ext = control(0x0B8, 8);

        // Where registers stand.
        let register = |offset: usize| if seves { vmsa(offset) } else { control(0x400 + offset, 8) };
        let cs = register(0x010) >> 16 & 0xFFFF;
        let efer = register(0x0D0);
        let (cr4, cr3, cr0) = (register(0x148), register(0x150), register(0x158));
        let (dr7, dr6, rflags) = (register(0x160), register(0x168), register(0x170));
        let (s_cet, pat) = (register(0x1E0), register(0x268));
        let u_cet = if seves { vmsa(0x0C0) } else { self.u_cet };
        let long = bit(efer, 8) && has(Feature::Lm);
        let paging = bit(cr0, 31);

        // Addresses: the C-bit is no part of one where memory encryption is active.
        let encrypts = (has(Feature::Sme) || has(Feature::Sev)) && self.is(Host::MEM_ENCRYPTION);
        let c_bit = if encrypts && self.c_bit != NO_C_BIT { 1 << self.c_bit } else { 0 };
        let limit = 1_u128 << self.phys_bits;
        let too_wide = |address: u64| u128::from(address & !c_bit) >= limit;
        let pointer_too_wide = |field: u64| too_wide(field & 0x000F_FFFF_FFFF_F000);
        let table_too_high = |base: u64, size: u128| u128::from(base & !0xFFF & !c_bit) + size > limit;

        // 15.4, 15.5.1, 15.36.12: before the VMCB is read.
        add(Rule::PreSvmeOff, !self.is(Host::SVME));
        add(Rule::PreNotProtected, !self.is(Host::PE) || self.is(Host::VM));
        add(Rule::PreCpl, self.is(Host::CPL0) || self.is(Host::CPL1));
        add(Rule::PreVmcbAddress, self.vmcb_address % 4096 != 0 || too_wide(self.vmcb_address));
        add(Rule::PreHsavePaZero, self.is(Host::HSAVE_PA_ZERO) && has(Feature::SevSnp));
        add(
            Rule::PreVmcbRmp,
            self.is(Host::SNP_ENABLED) && self.is(Host::VMCB_NOT_HYPERVISOR_OWNED) && has(Feature::SevSnp),
        );
        add(Rule::PreInSmm, self.is(Host::SMM));

        // 15.5.1, 15.25, 15.21.10, 15.29: the control area.
        add(Rule::CtlVmrunInterceptClear, !bit(misc2, 0));
        add(Rule::CtlAsidZero, asid == 0);
        add(Rule::CtlMsrpmBeyondMaxphyaddr, table_too_high(control(0x048, 8), 0x2000));
        add(Rule::CtlIopmBeyondMaxphyaddr, table_too_high(control(0x040, 8), 0x2001));
        add(Rule::CtlNpWithoutHostPaging, np && !self.is(Host::PG));
        add(Rule::CtlNcr3Mbz, np && too_wide(control(0x0B0, 8)));
        let memory_type = |byte: u8| matches!(byte, 0 | 1 | 4 | 5 | 6 | 7);
        add(Rule::CtlGpatInvalid, np && !pat.to_le_bytes().into_iter().all(memory_type));
        add(Rule::CtlVnmiWithoutNmiIntercept, vnmi_bit && !bit(misc1, 1) && has(Feature::Vnmi));
        add(Rule::CtlX2avicWithoutAvic, x2avic && !bit(int_ctl, 31));
        let physical_table = control(0x0F8, 8);
        let max_index = physical_table & 0xFFF;
        add(Rule::CtlAvicMaxIndexXavic, avic && !x2avic && max_index > 255);
        add(Rule::CtlAvicMaxIndexX2avic, avic && x2avic && max_index > 511 && !has(Feature::X2avicExt));
        let pointers = [control(0x0E0, 8), control(0x0F0, 8), physical_table];
        add(Rule::CtlAvicPointerRange, avic && pointers.into_iter().any(pointer_too_wide));
        add(Rule::CtlAvicWithoutNp, avic && !np);

        // 15.5.1: the state save area.
        add(Rule::SavEferSvmeClear, !bit(efer, 12));
        add(Rule::SavEferMbz, efer & !self.efer_allowed() != 0);
        add(Rule::SavEferLongModeUnsupported, (bit(efer, 8) || bit(efer, 10)) && !has(Feature::Lm));
        add(Rule::SavCr0NwWithoutCd, bit(cr0, 29) && !bit(cr0, 30));
        add(Rule::SavCr0High, cr0 >> 32 != 0);
        add(Rule::SavCr3MbzLong, long && paging && too_wide(cr3));
        add(Rule::SavCr3HighLegacy, !long && paging && too_wide(cr3));
        let pdpte_reserved = |entry: u64| bit(entry, 0) && (entry & 0x1E6 != 0 || too_wide(entry));
        add(
            Rule::SavPdpteReserved,
            paging && bit(cr4, 5) && !long && !np && self.pdptes.into_iter().any(pdpte_reserved),
        );
        add(Rule::SavCr4Mbz, cr4 & !self.cr4_allowed() != 0);
        add(Rule::SavLmePgWithoutPae, long && paging && !bit(cr4, 5));
        add(Rule::SavLmePgWithoutPe, long && paging && !bit(cr0, 0));
        add(Rule::SavCsLAndD, long && paging && bit(cr4, 5) && bit(cs, 9) && bit(cs, 10));
        add(Rule::SavDr6High, dr6 >> 32 != 0);
        add(Rule::SavDr7High, dr7 >> 32 != 0);
        let shstk = has(Feature::Shstk);
        add(Rule::SavSCetReserved, shstk && s_cet > 3);
        add(Rule::SavCr4CetWithoutWp, shstk && bit(cr4, 23) && !bit(cr0, 16));
        add(Rule::SavUcetSsInV86, shstk && bit(cr4, 23) && bit(u_cet, 0) && bit(rflags, 17));
        add(Rule::SavUCetReservedSeves, shstk && seves && u_cet > 3);

        // 15.20, 15.35.8, 15.36.16: the event.
        let event = if from_vmsa { vmsa(0x3E0) } else { control(0x0A8, 8) };
        let mut event_rules = RuleSet::EMPTY;
        if bit(event, 31) {
            let (vector, kind) = (event & 0xFF, event >> 8 & 7);
            let exception = kind == 3;
            let bits_64 = long && paging && bit(cs, 9);
            let mut add = |rule: Rule, broken: bool| {
                if broken {
                    event_rules = event_rules.union(RuleSet::only(rule));
                }
            };
            add(Rule::EvtTypeReserved, [1, 5, 6, 7].contains(&kind));
            add(Rule::EvtExcVector2, exception && vector == 2);
            add(Rule::EvtExcVectorAbove31, exception && vector > 31);
            let reserved = [15, 20, 22, 23, 24, 25, 26, 27, 31];
            add(Rule::EvtExcVectorReserved, exception && reserved.contains(&vector));
            add(Rule::EvtExcVector9, exception && vector == 9);
            add(Rule::EvtExcCpWithoutShstk, exception && vector == 21 && !shstk);
            add(Rule::EvtExcVcWithoutSeves, exception && vector == 29 && !has(Feature::SevEs));
            add(Rule::EvtExcHvWithoutRestrictedInjection, exception && vector == 28 && !restricted);
            add(Rule::EvtBrIn64BitMode, exception && vector == 5 && bits_64);
            add(Rule::EvtExcImpossibleForGuestMode, exception && vector == 4 && bits_64);
            let bp_or_of = exception && (vector == 3 || vector == 4);
            add(Rule::EvtSevesSoftOrBpOf, seves && (kind == 4 || bp_or_of));
            let hv = exception && vector == 28 && !bit(event, 11);
            add(Rule::EvtRestrictedInjection, restricted && !hv);
        }

        // 15.34.3, 15.35.2, 15.35.8: SEV and SEV-ES.
        add(Rule::SevWithoutNp, sev && !np);
        add(Rule::SevSmmlockClear, sev && !self.is(Host::SMMLOCK));
        add(Rule::SevAsidAboveMax, sev && asid > u64::from(self.asid_max));
        add(Rule::SevHostNot64Bit, sev && has(Feature::Sev64BitHost) && !self.is(Host::LONG64));
        add(Rule::SevAsidBelowMin, sev && !seves && asid < u64::from(self.asid_min));
        add(Rule::SevesWithoutSev, seves && !bit(nested, 1));
        add(Rule::SevesWithoutLbrv, seves && has(Feature::Lbrv) && !bit(virt_ext, 0));
        add(Rule::SevesVmsaIntegrity, seves && self.is(Host::VMSA_LOAD_FAILS));
        let snp_enabled = self.is(Host::SNP_ENABLED);
        add(Rule::SevesVmsaRmp, seves && !snp && snp_enabled && self.is(Host::VMSA_NOT_HYPERVISOR_OWNED));
        let ibs = self.is(Host::IBS_FETCH) || self.is(Host::IBS_OP);
        add(Rule::SevesIbsEnabled, seves && bit(sev_features, 12) && has(Feature::IbsVirtGuest) && ibs);
        let counting = (0..6).any(|n| bit(vmsa(0x0E0 + 0x10 * n), 22)) || vmsa(0x1D0) & 0x3F != 0;
        add(
            Rule::SevesPmcState,
            seves && bit(sev_features, 11) && has(Feature::PmcVirtGuest) && !bit(virt_ext, 3) && counting,
        );

        // 15.36: SNP.
        add(Rule::SnpNotEnabled, snp && !snp_enabled);
        add(Rule::SnpVmsaRmp, snp && self.is(Host::VMSA_RMP_CHECK_FAILS));
        add(
            Rule::SnpAvicBackingRmp,
            avic && snp_enabled && has(Feature::SevSnp) && self.is(Host::AVIC_PAGE_NOT_HYPERVISOR_OWNED),
        );
        add(Rule::SnpRestrictedAndAlternate, restricted && alternate);
        add(Rule::SnpRestrictedWithAvic, restricted && avic);
        add(Rule::SnpAlternateWithAvic, alternate && avic);
        add(Rule::SnpVmsaBusy, (alternate || seves && has(Feature::SecureAvic)) && bit(vintr, 63));
        add(Rule::SnpPreventHostIbs, seves && bit(sev_features, 6) && has(Feature::PreventHostIbs) && ibs);
        add(
            Rule::SnpSmtProtection,
            snp && bit(sev_features, 15) && has(Feature::SmtProtection) && self.is(Host::SIBLING_ACTIVE),
        );
        let allowed = control(0x138, 8);
        add(
            Rule::SnpAllowedSevFeatures,
            seves
                && has(Feature::AllowedSevFeatures)
                && bit(allowed, 63)
                && sev_features & !allowed & 0x3FFF_FFFF_FFFF_FFFF != 0,
        );
        add(Rule::SnpSecureAvicExclusive, secure_avic && (avic || restricted || alternate));
        let secure_avic_ctl = vmsa(0x320);
        add(
            Rule::SnpSecureAvicPage,
            secure_avic && bit(secure_avic_ctl, 0) && pointer_too_wide(secure_avic_ctl),
        );

        // Classes R and T, the derived rule on #OF, and the VMSA's own event: no outcome is stated.
        let mut unstated: RuleSet = [
            Rule::PreInSmm,
            Rule::CtlAvicWithoutNp,
            Rule::SavCr3HighLegacy,
            Rule::EvtExcImpossibleForGuestMode,
            Rule::SevAsidBelowMin,
            Rule::SevesWithoutSev,
            Rule::SevesWithoutLbrv,
        ]
        .into_iter()
        .collect();
        if from_vmsa {
            unstated = unstated.union(event_rules);
        }
        let all = all.union(event_rules);
        (all.difference(unstated), all.intersection(unstated))
    }

    /// 3.1.3.
    fn cr4_allowed(&self) -> u64 {
        [
            (0, Feature::Vme),
            (1, Feature::Vme),
            (2, Feature::Tsc),
            (3, Feature::De),
            (4, Feature::Pse),
            (5, Feature::Pae),
            (6, Feature::Mce),
            (7, Feature::Pge),
            (9, Feature::Fxsr),
            (10, Feature::Sse),
            (11, Feature::Umip),
            (12, Feature::La57),
            (16, Feature::Fsgsbase),
            (17, Feature::Pcid),
            (18, Feature::Xsave),
            (20, Feature::Smep),
            (21, Feature::Smap),
            (22, Feature::Pku),
            (23, Feature::Shstk),
        ]
        .into_iter()
        .filter(|&(_, gate)| self.has(gate))
        .fold(1 << 8, |allowed, (position, _)| allowed | 1 << position)
    }

    /// 3.1.7. LME and LMA have a rule of their own; bits 7:1 read as zero.
    fn efer_allowed(&self) -> u64 {
        let lmsle = if self.has(Feature::LmsleUnsupported) { 0 } else { 1 << 13 };
        [
            (0, Feature::Syscall),
            (11, Feature::Nx),
            (12, Feature::Svm),
            (14, Feature::Ffxsr),
            (15, Feature::Tce),
            (17, Feature::Mcommit),
            (18, Feature::IntWbinvd),
            (20, Feature::Uai),
            (21, Feature::AutoIbrs),
        ]
        .into_iter()
        .filter(|&(_, gate)| self.has(gate))
        .fold(0xFE | 1 << 8 | 1 << 10 | lmsle, |allowed, (position, _)| allowed | 1 << position)
    }
}
