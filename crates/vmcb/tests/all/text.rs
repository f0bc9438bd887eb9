//! Texts of the types: what is displayed can be parsed, and sets have their operators.

use std::collections::BTreeSet;
use vmcb::{
    Cpu, Cr4, Efer, Environment, Event, ExitCode, Feature, Input, Inputs, Limits, Missing, Outcome, Policy,
    Rule, RuleSet, Vector, Verdict, Word, check,
};

fn verdict(page: &[u8; 4096], environment: &Environment<'_>) -> Verdict {
    let cpu = Cpu::parse("EPYC-Milan,phys-bits=48").unwrap();
    check(page, &Limits::compile(&cpu, Policy::VirtualCpu), environment)
}

fn legal_page() -> [u8; 4096] {
    let mut page = [0; 4096];
    page[0x10] = 1;
    page[0x58] = 1;
    page[0x4D1] = 0x10;
    page
}

#[test]
fn what_is_displayed_can_be_parsed() {
    for &rule in Rule::ALL {
        assert_eq!(rule.to_string().parse(), Ok(rule));
        assert_eq!(format!("{rule:>40}").trim_start(), rule.id());
    }
    for &feature in Feature::ALL {
        assert_eq!(feature.to_string().parse(), Ok(feature));
    }
    for &policy in Policy::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert_eq!("VMEXIT_NPF".parse(), Ok(ExitCode::NPF));
    for text in ["", "sav", "SAV-DR6-HIGH", " evt-exc-nmi"] {
        assert_eq!(text.parse::<Rule>().unwrap_err().to_string(), "no rule has this id");
        assert!(text.parse::<Feature>().is_err() && text.parse::<Policy>().is_err());
    }
}

#[test]
fn a_verdict_names_its_rules() {
    let known = Environment::real_host().with_vmcb_address(0x1000);
    let mut page = legal_page();
    let open = verdict(&page, &Environment::unknown());
    assert!(!open.undecided().is_empty());
    assert_eq!(open.to_string(), format!("undecided: {}", listed(open.undecided())));
    assert_eq!(open.outcome(), None);
    page[0x4D1] = 0;
    page[0x10] = 0;
    let refused = verdict(&page, &known);
    assert_eq!(
        refused.to_string(),
        "refused (VMEXIT_INVALID): ctl-vmrun-intercept-clear, sav-efer-svme-clear"
    );
    assert_eq!(refused.outcome().and_then(Outcome::exit_code), Some(ExitCode::INVALID));
    let everything = Input::ALL.iter().fold(Environment::unknown(), |taken, &input| taken.take_over(input));
    let accepted = verdict(&legal_page(), &everything);
    assert_eq!((accepted.to_string().as_str(), accepted.outcome()), ("accepted", None));
}

fn listed(rules: RuleSet) -> String {
    rules.iter().map(Rule::id).collect::<Vec<_>>().join(", ")
}

/// #UD comes before #GP, and a fault before the VMCB is read.
#[test]
fn the_first_outcome_is_delivered() {
    use vmcb::{Answer, Host};
    let at_cpl_3 = Environment::real_host().with(Host::CPL0, Answer::Yes);
    let fault = verdict(&[0; 4096], &at_cpl_3).outcome().unwrap();
    assert_eq!((fault, fault.exit_code()), (Outcome::GeneralProtection, None));
    assert_eq!(fault.exception(), Some(Vector::new(13)));
    let without_svm = at_cpl_3.with(Host::SVME, Answer::No);
    let fault = verdict(&[0; 4096], &without_svm).outcome().unwrap();
    assert_eq!((fault.to_string().as_str(), fault.exception()), ("#UD", Some(Vector::new(6))));
    for (outcome, code) in [(Outcome::Busy, -2), (Outcome::IdleRequired, -3), (Outcome::InvalidPmc, -4)] {
        assert_eq!(outcome.exit_code().map(|code| code.bits() as i64), Some(code));
    }
    assert_eq!((Outcome::NotStated.exit_code(), Outcome::NotStated.exception()), (None, None));
}

#[test]
fn what_is_missing_is_a_phrase() {
    let missing = |missing: Missing| missing.to_string();
    assert_eq!(missing(Missing::Bits(Word::Efer, 0x300)), "bits 0x300 of EFER");
    let mask = (0..64).find(|&bit| Feature::at_bit(bit) == Some(Feature::Shstk)).map(|bit| 1 << bit).unwrap();
    assert_eq!(missing(Missing::Bits(Word::Cpu, mask)), "CPU features: shstk");
    assert_eq!(missing(Missing::PhysBits), "the CPU's physical address width");
}

#[test]
fn sets_have_operators_and_can_be_collected() {
    let two: RuleSet = [Rule::PreCpl, Rule::SavDr6High].into_iter().collect();
    let one = RuleSet::only(Rule::PreCpl);
    assert_eq!((two - one, two & one, one | two), (RuleSet::only(Rule::SavDr6High), one, two));
    assert!(two.contains_all(one) && !one.contains_all(two) && (one - two).is_empty());
    let mut grown = one;
    grown |= RuleSet::only(Rule::SavDr6High);
    assert_eq!((grown, grown.len()), (two, 2));
    let cr4 = Cr4::PAE | Cr4::PGE;
    assert_eq!((cr4 - Cr4::PGE, cr4 & Cr4::PGE, cr4.contains(Cr4::PGE)), (Cr4::PAE, Cr4::PGE, true));
    assert_eq!([Cr4::PAE, Cr4::PGE].into_iter().collect::<Cr4>(), cr4);
    let inputs: Inputs = Input::ALL.iter().copied().collect();
    assert_eq!(inputs.iter().collect::<BTreeSet<_>>().len(), inputs.len());
}

#[test]
fn registers_are_written_in_hexadecimal() {
    assert_eq!(format!("{:#x} {:#06X}", Efer::SVME, Efer::LME), "0x1000 0x0100");
    assert_eq!(format!("{:x} {:#x}", Event::from_bits(0x8000_0302), ExitCode::NPF), "80000302 0x400");
}
