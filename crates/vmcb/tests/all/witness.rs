//! Witnesses: what is derived from the rules' literals, judged by the rules themselves.

use crate::common::check;
use crate::common::generate::{machine, vary};
use crate::common::random::Random;
use vmcb::{Contrast, Cpu, Limits, Policy, Rule, RuleSet, Verdict, Witness};

fn limits(text: &str) -> Limits {
    Limits::compile(&Cpu::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")), Policy::VirtualCpu)
}

/// CPUs that differ as much as CPUs do. The last one has all that the rules about SEV ask for.
const CPUS: [&str; 7] = [
    "any",
    "Opteron_G2,phys-bits=40,lmsle-unsupported=off",
    "EPYC-Rome,phys-bits=43,lmsle-unsupported=off",
    "EPYC-Milan-v3,phys-bits=48,+shstk,lmsle-unsupported=on",
    "EPYC-Genoa-v2,phys-bits=52,+avic,+x2avic,+sme,c-bit=51",
    "EPYC-Genoa-v2,phys-bits=40,+sev-es,+secure-avic,+avic,-lm,lmsle-unsupported=off",
    EVERYTHING,
];

const EVERYTHING: &str = "EPYC-Genoa-v2,phys-bits=52,+shstk,+avic,+x2avic,+sme,+sev,+sev-es,+sev-snp,\
    +sev-64bit-host,+restricted-injection,+alternate-injection,+prevent-host-ibs,+ibs-virt-guest-ctl,\
    +pmc-virt-guest-ctl,+smt-protection,+secure-avic,+allowed-sev-features,c-bit=51,sev-asid-max=509,\
    sev-asid-min=100,lmsle-unsupported=on";

/// What `check` says, which must be what the witness says of itself.
fn checked(witness: &Witness, limits: &Limits) -> Verdict {
    let (vmcb, vmsa) = (witness.vmcb(), witness.vmsa());
    let verdict = check(&vmcb, limits, &witness.environment(&vmsa));
    assert_eq!(verdict, witness.judge(limits));
    verdict
}

fn possible(verdict: &Verdict) -> RuleSet {
    verdict.broken().union(verdict.undecided())
}

fn met(verdict: &Verdict) -> RuleSet {
    verdict.broken().union(verdict.unstated())
}

/// Every rule that can be broken for certain has a VMCB that breaks it and nothing else, and a legal neighbour.
#[test]
fn each_rule_has_a_witness_that_breaks_it_alone() {
    let mut shown = RuleSet::EMPTY;
    for text in CPUS {
        let limits = limits(text);
        for rule in limits.breakable().iter() {
            let open = limits.unknown(rule).next().is_some();
            let Some(witness) = rule.witness(&limits) else {
                assert!(open, "{text}: {} has no witness, and nothing is unknown", rule.id());
                continue;
            };
            let verdict = checked(&witness, &limits);
            assert_eq!(met(&verdict), RuleSet::only(rule), "{text}: {}", rule.id());
            assert!(verdict.unknown().is_empty(), "{text}: {}", rule.id());
            let neighbour =
                witness.neighbour(rule, &limits).unwrap_or_else(|| panic!("{text}: {}", rule.id()));
            assert!(checked(&neighbour, &limits).is_accepted(), "{text}: {}", rule.id());
            assert_ne!(neighbour, witness);
            shown = shown.union(RuleSet::only(rule));
        }
        for rule in RuleSet::ALL.difference(limits.breakable()).iter() {
            assert_eq!(rule.witness(&limits), None, "{text}: {}", rule.id());
        }
    }
    assert_eq!(shown, RuleSet::ALL);
}

/// Of a witness nothing can be left out, and it is small.
#[test]
fn a_witness_is_the_smallest() {
    let limits = limits(EVERYTHING);
    let mut most = 0;
    for rule in limits.breakable().iter() {
        let witness = rule.witness(&limits).unwrap_or_else(|| panic!("{}", rule.id()));
        let changes: Vec<_> = witness.changes().collect();
        assert!(!changes.is_empty(), "{}", rule.id());
        most = most.max(changes.len());
        for change in &changes {
            let Some(field) = change.field else { continue };
            let (mut vmcb, mut vmsa) = (witness.vmcb(), witness.vmsa());
            let page = if field.page == vmcb::layout::Page::Vmcb { &mut vmcb } else { &mut vmsa };
            let (start, size) = (usize::from(field.offset), usize::from(field.size));
            page[start..start + size].copy_from_slice(&change.before.to_le_bytes()[..size]);
            let verdict = check(&vmcb, &limits, &witness.environment(&vmsa));
            assert_ne!(met(&verdict), RuleSet::only(rule), "{}: {change:?} is not needed", rule.id());
        }
    }
    assert!(most <= 6, "{most} words are changed");
    assert!(Witness::legal().judge(&limits).is_accepted());
}

/// A witness of each rule, as it is: the numbers are the manual's edges.
#[test]
fn witnesses_stand_at_the_edge() {
    let limits = limits(
        "EPYC-Milan-v3,phys-bits=48,+sev,sev-asid-max=509,sev-asid-min=100,c-bit=47,lmsle-unsupported=off",
    );
    let edge = |rule: Rule| {
        let witness = rule.witness(&limits).unwrap();
        let values: Vec<_> = witness.changes().map(|change| (change.word.name(), change.after)).collect();
        let neighbour = witness.neighbour(rule, &limits).unwrap();
        let legal: Vec<_> = neighbour.changes().map(|change| (change.word.name(), change.after)).collect();
        (values.last().copied(), legal.last().copied())
    };
    assert_eq!(
        edge(Rule::CtlMsrpmBeyondMaxphyaddr),
        (Some(("MSRPM_BASE_PA", 0xFFFF_FFFF_F000)), Some(("MSRPM_BASE_PA", 0xFFFF_FFFF_E000)))
    );
    assert_eq!(
        edge(Rule::CtlIopmBeyondMaxphyaddr),
        (Some(("IOPM_BASE_PA", 0xFFFF_FFFF_E000)), Some(("IOPM_BASE_PA", 0xFFFF_FFFF_D000)))
    );
    assert_eq!(edge(Rule::EvtExcVector2), (Some(("EVENTINJ", 0x8000_0302)), Some(("EVENTINJ", 0x8000_0303))));
    assert_eq!(edge(Rule::SavCr4Mbz).0, Some(("CR4", 0x1020)));
    let mut asids = Vec::new();
    let witness = Rule::SevAsidAboveMax.witness(&limits).unwrap();
    asids.extend(witness.changes().map(|change| (change.word.name(), change.after)));
    assert!(asids.contains(&("ASID", 510)), "{asids:?}");
}

fn seed() -> u64 {
    std::env::var("VMCB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// How many rounds; `VMCB_ROUNDS` multiplies them.
fn rounds(count: usize) -> usize {
    count * std::env::var("VMCB_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Whatever two CPUs see differently in a VMCB, they are said to differ in; and where one accepts what the
/// other does not, a VMCB is shown for one of the rules behind it.
#[test]
fn no_difference_is_left_out() {
    let mut random = Random::new(seed());
    let (mut differences, mut decisions) = (0, 0);
    for round in 0..rounds(300) {
        let (a, b) = (machine(&mut random), machine(&mut random));
        // Near relatives differ in few things, strangers in many.
        let b = if random.one_in(2) { vmcb_of(&a, &b, &mut random) } else { b };
        let (here, there) =
            (Limits::compile(&a.cpu(), Policy::VirtualCpu), Limits::compile(&b.cpu(), Policy::VirtualCpu));
        let may = here.may_differ(&there);
        assert_eq!(may, there.may_differ(&here));
        for _ in 0..40 {
            let guest = vary(&a, &mut random);
            let environment = guest.environment();
            let (one, other) =
                (check(&guest.vmcb, &here, &environment), check(&guest.vmcb, &there, &environment));
            let apart = |left: RuleSet, right: RuleSet| left.difference(right).union(right.difference(left));
            let rules = apart(one.broken(), other.broken())
                .union(apart(one.unstated(), other.unstated()))
                .union(apart(one.unknown(), other.unknown()));
            assert!(
                rules.difference(may).is_empty(),
                "round {round}: {:?} is not named",
                rules.difference(may)
            );
            differences += usize::from(!rules.is_empty());
            if one.is_accepted() == other.is_accepted() {
                continue;
            }
            decisions += 1;
            let (refusing, accepting, verdict) =
                if other.is_accepted() { (&here, &there, one) } else { (&there, &here, other) };
            let shown = met(&verdict)
                .iter()
                .any(|rule| matches!(rule.contrast(refusing, accepting, None), Some((Contrast::Verdict, _))));
            assert!(
                shown,
                "round {round}: no VMCB is shown for any of {:?}\n{:?}\n{:?}",
                met(&verdict),
                refusing.cpu(),
                accepting.cpu()
            );
        }
    }
    assert!(differences > 1_000 && decisions > 300, "{differences} {decisions}");
}

/// The second machine's CPU, but for all but a few features that are the first one's.
fn vmcb_of(
    a: &crate::common::reference::Machine,
    b: &crate::common::reference::Machine,
    random: &mut Random,
) -> crate::common::reference::Machine {
    let mut near = a.clone();
    for _ in 0..=random.below(3) {
        let feature = 1 << random.below(vmcb::Feature::ALL.len());
        near.features = near.features & !feature | b.features & feature;
    }
    if random.one_in(2) {
        near.phys_bits = b.phys_bits;
    }
    near
}

/// What is shown is true: broken on the one, accepted on the other, or refused there for another reason.
#[test]
fn a_contrast_is_judged_as_it_says() {
    let mut random = Random::new(seed() ^ 7);
    let (mut verdicts, mut reasons) = (0, 0);
    for _ in 0..rounds(60) {
        let (a, b) = (machine(&mut random), machine(&mut random));
        let (here, there) =
            (Limits::compile(&a.cpu(), Policy::VirtualCpu), Limits::compile(&b.cpu(), Policy::VirtualCpu));
        for rule in here.may_differ(&there).iter() {
            let Some((contrast, witness)) = rule.contrast(&here, &there, None) else { continue };
            let (one, other) = (checked(&witness, &here), checked(&witness, &there));
            assert!(met(&one).contains(rule), "{}", rule.id());
            assert!(!possible(&other).contains(rule), "{}", rule.id());
            assert_eq!(contrast == Contrast::Verdict, other.is_accepted(), "{}", rule.id());
            match contrast {
                Contrast::Verdict => verdicts += 1,
                _ => reasons += 1,
            }
        }
    }
    assert!(verdicts > 100 && reasons > 0, "{verdicts} {reasons}");
}

/// Never silently equal: a rule about which something is unknown is always named.
#[test]
fn the_unknown_is_never_equal() {
    let milan = limits("EPYC-Milan");
    let may = milan.may_differ(&milan);
    for rule in [Rule::CtlMsrpmBeyondMaxphyaddr, Rule::SavCr3MbzLong, Rule::SavEferMbz] {
        assert!(may.contains(rule), "{}", rule.id());
        let missing: Vec<_> = milan.unknown(rule).collect();
        assert_eq!(missing.len(), 1, "{}: {missing:?}", rule.id());
    }
    assert!(!may.contains(Rule::SavCr4Mbz) && !may.contains(Rule::SevSmmlockClear));
    let any = limits("any");
    for rule in any.may_differ(&any).iter() {
        let open = any.unknown(rule).next().is_some();
        assert!(open, "{}", rule.id());
    }
    assert!(any.may_differ(&any).contains(Rule::SevAsidAboveMax));
}

/// Two CPUs take V_NMI_ENABLE of one guest from different pages.
#[test]
fn a_contrast_in_the_vmsa_is_found() {
    let host = "EPYC-Genoa,phys-bits=48,c-bit=47,sev=on,sev-es=on,alternate-injection=on";
    let [plain, snp] = ["off", "on"].map(|snp| limits(&format!("{host},sev-snp={snp}")));
    let rule = Rule::CtlVnmiWithoutNmiIntercept;
    assert!(plain.may_differ(&snp).contains(rule));
    for (refusing, accepting) in [(&plain, &snp), (&snp, &plain)] {
        assert!(matches!(rule.contrast(refusing, accepting, None), Some((Contrast::Verdict, _))));
    }
}

/// One bit of CR4 at a time.
#[test]
fn a_seed_is_kept() {
    let (rome, milan) = (limits("EPYC-Rome,phys-bits=48"), limits("EPYC-Milan,phys-bits=48"));
    let bit = vmcb::Cr4::PKE.bits();
    let (contrast, witness) = Rule::SavCr4Mbz.contrast(&rome, &milan, Some((vmcb::Word::Cr4, bit))).unwrap();
    assert_eq!(contrast, Contrast::Verdict);
    let changes: Vec<_> = witness.changes().map(|change| (change.word, change.after)).collect();
    assert_eq!(changes, [(vmcb::Word::Cr4, bit | vmcb::Cr4::PAE.bits())]);
}

/// What the meet of two CPUs accepts, both accept, but for rules that are named: those by which a CPU with
/// more features checks more.
#[test]
fn what_the_meet_accepts_both_accept_or_the_rule_is_named() {
    let mut random = Random::new(seed() ^ 0x5AFE);
    let (mut accepted, mut excepted) = (0, 0);
    for _ in 0..rounds(300) {
        let (a, b) = (machine(&mut random), machine(&mut random));
        let cpu = a.cpu().meet(&b.cpu());
        assert_eq!(cpu, b.cpu().meet(&a.cpu()));
        assert_eq!(cpu.meet(&a.cpu()), cpu);
        let safe = Limits::compile(&cpu, Policy::VirtualCpu);
        let each = [&a, &b].map(|machine| Limits::compile(&machine.cpu(), Policy::VirtualCpu));
        for _ in 0..40 {
            let guest = vary(if random.one_in(2) { &a } else { &b }, &mut random);
            let environment = guest.environment();
            if !check(&guest.vmcb, &safe, &environment).is_accepted() {
                continue;
            }
            accepted += 1;
            for limits in &each {
                let verdict = check(&guest.vmcb, limits, &environment);
                if verdict.is_accepted() {
                    continue;
                }
                excepted += 1;
                let named = met(&verdict)
                    .iter()
                    .any(|rule| matches!(rule.contrast(limits, &safe, None), Some((Contrast::Verdict, _))));
                assert!(named, "{:?}", met(&verdict));
            }
        }
    }
    assert!(accepted > 1_000 && excepted > 0, "{accepted} {excepted}");
}

/// Where every feature is the same but for what the meet takes as the narrower, nothing is excepted.
#[test]
fn narrower_widths_and_fewer_bits_only_take_away() {
    for (a, b) in [
        ("EPYC-Milan,phys-bits=48", "EPYC-Milan,phys-bits=43"),
        ("EPYC-Rome,phys-bits=48,lmsle-unsupported=on", "EPYC-Milan,phys-bits=48,lmsle-unsupported=off"),
        (
            "EPYC-Milan,+tce,phys-bits=48,lmsle-unsupported=off",
            "EPYC-Genoa-v2,-vnmi,phys-bits=52,lmsle-unsupported=on",
        ),
    ] {
        let cpu = Cpu::parse(a).unwrap().meet(&Cpu::parse(b).unwrap());
        let safe = Limits::compile(&cpu, Policy::VirtualCpu);
        for text in [a, b] {
            let limits = limits(text);
            for rule in limits.may_differ(&safe).iter() {
                let contrast = rule.contrast(&limits, &safe, None);
                assert!(!matches!(contrast, Some((Contrast::Verdict, _))), "{text}: {}", rule.id());
            }
        }
    }
}

/// What differs is named with the rule.
#[test]
fn what_differs_is_named() {
    use vmcb::{Feature, Missing, Word};
    let facts = |a: &str, b: &str, rule: Rule| limits(a).differing(&limits(b), rule).collect::<Vec<_>>();
    let (rome, milan) = ("EPYC-Rome,phys-bits=43", "EPYC-Milan,phys-bits=48");
    assert_eq!(facts(rome, milan, Rule::CtlMsrpmBeyondMaxphyaddr), [Missing::PhysBits]);
    let Some(&Missing::Bits(Word::Cpu, mask)) = facts(rome, milan, Rule::SavCr4Mbz).first() else { panic!() };
    let named: Vec<_> = (0..64).filter(|bit| mask >> bit & 1 == 1).filter_map(Feature::at_bit).collect();
    assert_eq!(named, [Feature::Pcid, Feature::Pku]);
    assert_eq!(facts(rome, milan, Rule::CtlAsidZero), []);
}
