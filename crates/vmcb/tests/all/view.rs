//! What a view tells beside the verdict: where a word stands, what is missing; and who may be `Checked`.

use crate::common::check;
use crate::common::{Case, cases};
use std::collections::BTreeSet;
use vmcb::layout::{vmcb_field, vmsa_field};
use vmcb::{
    Checked, Environment, Feature, Host, Input, Inputs, KnownPage, Limits, Missing, Nothing, Phase, Policy,
    Rule, TakesOver, View, Word, admit,
};

fn case(id: &str) -> &'static Case {
    cases().iter().find(|case| case.id == id).unwrap_or_else(|| panic!("no row `{id}`"))
}

/// What the only undecided rule of a row lacks, as text: names of bits, features and facts.
fn missing(id: &str) -> Vec<String> {
    let case = case(id);
    let environment = case.environment();
    let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
    let mut all = Vec::new();
    let [rule] = case.expected.unknown.iter().collect::<Vec<_>>()[..] else {
        panic!("`{id}` has not one undecided rule");
    };
    for missing in view.missing(rule) {
        all.push(match missing {
            Missing::Bits(Word::Cpu, mask) => {
                let features = (0..64).filter(|bit| mask >> bit & 1 == 1).filter_map(Feature::at_bit);
                features.map(Feature::name).collect::<Vec<_>>().join(" ")
            }
            Missing::Bits(Word::Host, mask) => format!("{:?}", Host::from_bits(mask)),
            Missing::Bits(word, mask) => format!("{} {mask:#x}", word.name()),
            other => format!("{other:?}"),
        });
    }
    all
}

#[test]
fn what_is_missing_is_named() {
    for (id, expected) in [
        ("sav-efer-mbz.lmsle-unknown", &["lmsle-unsupported"][..]),
        ("unknown.cr4-smep-any-cpu", &["smep"]),
        ("unknown.efer-tce-any-cpu", &["tce"]),
        ("unknown.cp-any-cpu", &["shstk"]),
        ("unknown.vc-any-cpu", &["sev-es"]),
        ("unknown.np-any-cpu", &["npt"]),
        ("unknown.vnmi-any-cpu", &["vnmi"]),
        ("unknown.msrpm-may-be-legal", &["PhysBits"]),
        ("unknown.cr3-bit-40", &["PhysBits"]),
        ("unknown.vmcb-address-any-cpu", &["PhysBits"]),
        ("c-bit.unknown-narrow", &["CBit"]),
        ("unknown.cpl", &["0x18 CPL0 CPL1"]),
        ("unknown.smmlock-of-an-sev-guest", &["0x200 SMMLOCK"]),
        ("unknown.mem-encryption", &["0x400 MEM_ENCRYPTION"]),
        (
            "unknown.pdptes-of-a-pae-guest",
            &[
                "PDPTE0 0xffffffffffffffff",
                "PDPTE1 0xffffffffffffffff",
                "PDPTE2 0xffffffffffffffff",
                "PDPTE3 0xffffffffffffffff",
            ],
        ),
        ("unknown.u-cet", &["U_CET 0x1"]),
        ("unknown.sev-asid-max", &["SevAsids"]),
        ("unknown.sev-asid-min", &["SevAsids"]),
        ("partial.cr0-low-half", &["CR0 0xffffffff00000000"]),
        ("partial.cr0-nw-known-cd-unknown", &["CR0 0x40000000"]),
        ("partial.asid-low-byte-zero", &["ASID 0xffffff00"]),
        ("partial.vector-2-or-3", &["EVENTINJ 0x1"]),
        ("partial.v-unknown", &["EVENTINJ 0x80000000"]),
        ("partial.type-4-or-5", &["EVENTINJ 0x100"]),
        ("partial.pat-byte-2-or-6", &["G_PAT 0x4"]),
        ("partial.msrpm-range", &["MSRPM_BASE_PA 0x1000"]),
        ("partial.lme-unknown", &["EFER 0x100"]),
        ("partial.restricted-unknown", &["SEV_FEATURES 0x8"]),
    ] {
        assert_eq!(missing(id), expected, "{id}");
    }
}

/// Features that no spelling of a CPU leaves unknown, and those that several bits ask for.
#[test]
fn missing_features_are_named_once() {
    let of = |id: &str, rule: Rule, unknown: &[Feature], change: &dyn Fn(&mut KnownPage)| {
        let case = case(id);
        let cpu = unknown.iter().fold(case.cpu, |cpu, &feature| cpu.without_knowing(feature));
        let limits = Limits::compile(&cpu, Policy::VirtualCpu);
        let environment = case.environment();
        let mut page = case.vmcb.clone();
        change(&mut page);
        let view = View::new(&page, case.phase, &limits, &environment);
        assert!(view.judge().unknown().contains(rule), "{id}: {}", rule.id());
        let mut mask = 0;
        for missing in view.missing(rule) {
            match missing {
                Missing::Bits(Word::Cpu, features) => mask |= features,
                other => panic!("{id}: {other:?}"),
            }
        }
        let bits = (0..64).filter(|bit| mask >> bit & 1 == 1);
        assert!(bits.filter_map(Feature::at_bit).eq(unknown.iter().copied()), "{id}: {mask:#x}");
    };
    let nothing = |_: &mut KnownPage| {};
    // Two bits of CR4 by the same feature, and by two.
    let cr4 = vmcb_field::cr4.offset;
    of("legal.long64", Rule::SavCr4Mbz, &[Feature::Vme], &|page| page.learn(cr4, 8, 0x23, u64::MAX));
    let two = [Feature::Smep, Feature::Smap];
    of("legal.long64", Rule::SavCr4Mbz, &two, &|page| page.learn(cr4, 8, 0x30_0020, u64::MAX));
    let efer = vmcb_field::efer.offset;
    let two = [Feature::Ffxsr, Feature::Tce];
    of("legal.long64", Rule::SavEferMbz, &two, &|page| page.learn(efer, 8, 0xD500, u64::MAX));
    // BUSY is looked at by either feature.
    of("snp-vmsa-busy.alternate", Rule::SnpVmsaBusy, &[Feature::AlternateInjection], &nothing);
    of("snp-vmsa-busy.secure-avic", Rule::SnpVmsaBusy, &[Feature::SecureAvic], &nothing);
}

/// Where it is not known which page holds the registers, a bit is known that both have.
#[test]
fn a_register_that_both_pages_hold_is_known() {
    let case = case("partial.sev-es-unknown-both-refused");
    let environment = case.environment();
    let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
    assert_eq!(view.word(Word::Cr3), vmcb::Bits::known(0x3000));
    // Bit 32 stands in one page, bit 63 in the other.
    let dr6 = view.word(Word::Dr6);
    assert_eq!((dr6.unknown_mask(), dr6.value()), (0x8000_0001_0000_0000, 0));
}

#[test]
fn of_a_decided_condition_nothing_is_missing() {
    for case in cases() {
        let environment = case.environment();
        let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
        let met = case.expected.broken.union(case.expected.unstated);
        for rule in met.iter() {
            // But for what is the same whichever page holds it.
            for missing in view.missing(rule) {
                assert!(case.id.starts_with("partial.sev-es-unknown"), "{}: {missing:?}", case.place);
            }
        }
        for rule in case.expected.unknown.iter() {
            assert!(view.missing(rule).next().is_some(), "{}: {}", case.place, rule.id());
        }
    }
}

#[test]
fn a_word_is_shown_where_it_was_read() {
    let fields = |id: &str, word: Word| {
        let case = case(id);
        let environment = case.environment();
        let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
        (view.field(word), view.word(word).value())
    };
    let cr3 = vmcb_field::cr3;
    assert_eq!(fields("legal.long64", Word::Cr3), (Some(cr3), 0x3000));
    assert_eq!(fields("legal.seves64", Word::Cr3), (Some(vmsa_field::cr3), 0x3000));
    assert_eq!(fields("legal.seves64", Word::Asid), (Some(vmcb_field::guest_asid), 1));
    assert_eq!(fields("legal.plain-vmsa", Word::Cr3).0, Some(cr3));
    // U_CET is an MSR, but for SEV-ES guests.
    assert_eq!(fields("legal.long64", Word::UCet), (None, 0));
    assert_eq!(fields("sav-ucet-ss-in-v86.v86", Word::UCet), (None, 1));
    assert_eq!(fields("sav-u-cet-reserved-seves.bit-2", Word::UCet), (Some(vmsa_field::u_cet), 4));
    for word in [Word::Host, Word::Cpu, Word::Mode, Word::VmcbAddress, Word::Pdpte0] {
        assert_eq!(fields("legal.long64", word).0, None);
    }
    // The event.
    let event = |id| fields(id, Word::EventInj);
    assert_eq!(event("evt-exc-vector-2.nmi"), (Some(vmcb_field::eventinj), 0x8000_0302));
    assert_eq!(event("evt-alternate.vmsa-nmi"), (Some(vmsa_field::eventinj), 0x8000_0302));
    assert_eq!(event("phase.after-refused-inferred"), (Some(vmcb_field::exitintinfo), 0x8000_031F));
    assert_eq!(event("phase.after-refused"), (Some(vmcb_field::eventinj), 0));
    // VINTR_CTRL of the VMSA stands for 060h with Alternate Injection; of 060h the AVIC enable stays.
    let (_, int_ctl) = fields("ctl-vnmi-without-nmi-intercept.alternate", Word::IntCtl);
    assert_eq!(int_ctl, 0x0400_0000);
    let (_, int_ctl) = fields("snp-alternate-with-avic.avic", Word::IntCtl);
    assert_eq!(int_ctl, 0x8000_0000);
}

#[test]
fn an_inferred_event_is_marked() {
    for case in cases() {
        let environment = case.environment();
        let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
        let inferred = case.id.contains("-inferred");
        assert_eq!(view.event_is_inferred(), inferred, "{}", case.place);
        let marked = view.judge().inferred();
        if inferred {
            assert_eq!(marked, case.expected.broken, "{}", case.place);
        } else {
            assert!(marked.is_empty(), "{}", case.place);
        }
    }
    // What else is broken is no inference.
    let case = case("phase.after-refused-inferred");
    let mut page = case.vmcb.clone();
    page.learn(vmcb_field::guest_asid.offset, 4, 0, u64::MAX);
    let environment = case.environment();
    let verdict = View::new(&page, Phase::After, &case.limits, &environment).judge();
    assert!(verdict.broken().iter().eq([Rule::CtlAsidZero, Rule::EvtExcVectorReserved]));
    assert!(verdict.inferred().iter().eq([Rule::EvtExcVectorReserved]));
}

/// A field is as wide as it is: its neighbours do not show.
#[test]
fn fields_of_every_size_are_read() {
    let case = case("legal.long64");
    let environment = case.environment();
    let mut page = [0; 4096];
    for (index, byte) in page.iter_mut().enumerate() {
        *byte = (index % 251) as u8 | 1;
    }
    let known = KnownPage::all(&page);
    let whole = View::complete(&page, &case.limits, &environment);
    let partly = View::new(&known, Phase::Before, &case.limits, &environment);
    for field in vmcb::layout::VMCB.iter().filter(|field| matches!(field.size, 1 | 2 | 4 | 8)) {
        let bytes = &page[usize::from(field.offset)..usize::from(field.offset + field.size)];
        let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        assert_eq!(whole.control(*field), vmcb::Bits::known(value), "{}", field.name);
        assert_eq!(partly.control(*field), vmcb::Bits::known(value), "{}", field.name);
    }
    assert_eq!(whole.word(Word::CsAttributes), partly.word(Word::CsAttributes));
    let attributes = u64::from(page[0x412]) | u64::from(page[0x413]) << 8;
    assert_eq!(whole.word(Word::CsAttributes).value(), attributes);
}

#[test]
fn a_view_of_a_whole_page_is_a_view_of_the_same_known_page() {
    for case in cases() {
        let (Some(page), Phase::Before) = (case.vmcb.complete(), case.phase) else { continue };
        let environment = case.environment();
        let whole = View::complete(page, &case.limits, &environment);
        let known = View::new(&case.vmcb, Phase::Before, &case.limits, &environment);
        for &word in Word::ALL {
            assert_eq!(whole.word(word), known.word(word), "{}: {word:?}", case.place);
            assert_eq!(whole.field(word), known.field(word), "{}: {word:?}", case.place);
        }
    }
}

/// The caller answers for the mode of the host.
enum Mode {}

impl TakesOver for Mode {
    const INPUTS: Inputs = Inputs::EMPTY.with(Input::HostMode).with(Input::Pdptes);
}

#[test]
fn only_what_is_accepted_is_checked() {
    let case = case("legal.long64");
    let page = case.vmcb.complete().unwrap();
    let known = case.environment();
    let checked: Checked<'_, Nothing> = admit(page, &case.limits, &known).unwrap();
    assert!(std::ptr::eq(checked.page(), page));
    assert_eq!(checked.taken_over(), Inputs::EMPTY);

    // Only the type takes over: what the environment takes over beyond it is unknown.
    let unknown_mode = known.take_over(Input::HostMode);
    let verdict = admit::<Nothing>(page, &case.limits, &unknown_mode).unwrap_err();
    assert!(verdict.unknown().contains(Rule::PreCpl) && verdict.broken().is_empty(), "{verdict}");
    assert!(admit::<Mode>(page, &case.limits, &unknown_mode).is_ok());
    assert!(admit::<Mode>(page, &case.limits, &Environment::unknown().with_vmcb_address(0)).is_ok());
    let environment = known.take_over(Input::Pdptes);
    let checked = admit::<Mode>(page, &case.limits, &environment).unwrap();
    assert_eq!(checked.taken_over().iter().collect::<Vec<_>>(), [Input::HostMode, Input::Pdptes]);
    // A type may answer for more than is asked.
    assert!(admit::<Mode>(page, &case.limits, &known).is_ok());

    // Refused, broken without an outcome, and not known: none is checked, and the verdict says why.
    for case in cases() {
        let (Some(page), Phase::Before) = (case.vmcb.complete(), case.phase) else { continue };
        let environment: Environment<'_> = case.environment();
        let found = admit::<Mode>(page, &case.limits, &environment);
        if !Mode::INPUTS.contains_all(environment.taken_over()) {
            continue;
        }
        let environment = Mode::INPUTS.iter().fold(environment, Environment::take_over);
        let verdict = check(page, &case.limits, &environment);
        match found {
            Ok(_) => assert!(verdict.is_accepted(), "{}", case.place),
            Err(found) => assert_eq!(found, verdict, "{}", case.place),
        }
    }
}

#[test]
fn inputs_are_a_set() {
    let mut all = Inputs::EMPTY;
    for (count, input) in Input::ALL.iter().copied().enumerate() {
        assert!(!all.contains(input));
        assert!(all.contains_all(all) && all.iter().count() == count);
        let more = all.with(input);
        assert!(more.contains(input) && more.contains_all(all) && !all.contains_all(more));
        all = more;
    }
    assert!(all.iter().eq(Input::ALL.iter().copied()));
}

#[test]
fn a_page_is_known_bit_by_bit() {
    let mut page = KnownPage::nothing();
    assert!(page.is_empty() && page.complete().is_none());
    page.learn(0xFFC, 8, 0x1122_3344_5566_7788, u64::MAX);
    assert_eq!((page.read(0xFFC, 4).value(), page.read(0xFFC, 4).known_mask()), (0x5566_7788, u64::MAX));
    assert_eq!(page.read(0xFFC, 8).known_mask(), 0xFFFF_FFFF, "nothing is known beyond the page");
    page.learn(0xFFC, 2, 0xFFFF, 0x00F0);
    assert_eq!(page.read(0xFFC, 2).value(), 0x77F8, "only the mask's bits change");
    page.forget(0xFFD, 2);
    assert_eq!(page.read(0xFFC, 4).known_mask(), 0xFFFF_FFFF_FF00_00FF);
    assert_eq!(page.read(0xFFC, 4).value(), 0x5500_00F8);
    let mut zero = KnownPage::all(&[0; 4096]);
    assert_eq!(zero.complete(), Some(&[0; 4096]));
    zero.forget(0, 1);
    assert!(zero.complete().is_none() && !zero.is_empty());
    zero.learn(0, 1, 0xA5, 0xFF);
    assert_eq!(zero.complete().map(|bytes| bytes[0]), Some(0xA5));
    let names: BTreeSet<_> = [format!("{zero:?}"), format!("{page:?}")].into();
    assert_eq!(
        names,
        [
            "KnownPage { 16 of 32768 bits known }".to_owned(),
            "KnownPage { 32768 of 32768 bits known }".to_owned()
        ]
        .into()
    );
}
