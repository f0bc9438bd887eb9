//! The registry: each rule, each of its conditions and each word is shown to matter by some row of
//! `cases/`, and the tables agree with each other.

use crate::common::{Case, Expected, Reader, cases};
use std::collections::{BTreeMap, BTreeSet};
use vmcb::layout::{VMCB, VMSA};
use vmcb::{
    Cpu, EXCEPTIONS, Existence, Feature, GuestMode, KnownPage, Limits, Literal, Mode, Policy,
    RESERVED_VECTORS, Rule, RuleSet, Vector, View, Word, accepted_exceptions,
};

/// Rules that no VMCB can break alone: the rule, and those that a case of it must name beside it.
/// An entry whose rule does have a case of its own is stale and fails.
const ACCOMPANIED: &[(Rule, &[Rule])] = &[];

/// Words of which no rule reads a bit; an entry that a rule does read is stale and fails.
const UNREAD: &[Word] = &[
    // Derived: it is resolved into what it is derived from.
    Word::Mode,
    // For the sake of its bit names.
    Word::InterceptMisc3,
];

/// Bits of a conjunction that follow from its other conditions, so that no row can show them; an entry
/// that a row does show is stale and fails.
const IMPLIED: &[(Rule, Word, u64)] = &[
    // BUSY is looked at in SEV-ES guests only; the bit keeps the rule out of the pass for plain guests.
    (Rule::SnpVmsaBusy, Word::Mode, Mode::SEV_ES.bits()),
];

/// The rule that a row's id begins with, and the id of the case that the row is a neighbour of.
fn rule_of(case: &Case) -> Option<Rule> {
    Rule::from_id(case.id.split('.').next()?)
}

fn neighbour_of(case: &Case) -> Option<&str> {
    let (of, ending) = case.id.rsplit_once('.')?;
    (ending == "ok" || ending.starts_with("ok-")).then_some(of)
}

fn by_id() -> BTreeMap<&'static str, &'static Case> {
    cases().iter().map(|case| (case.id.as_str(), case)).collect()
}

fn assert_none(errors: &[String]) {
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

#[test]
fn every_rule_has_a_case_that_breaks_only_it_and_a_neighbour_that_passes() {
    let by_id = by_id();
    let mut errors = Vec::new();
    for &rule in Rule::ALL {
        let alone = RuleSet::only(rule);
        let accompanied = ACCOMPANIED.iter().find(|(listed, _)| *listed == rule);
        let wanted =
            accompanied.map_or(alone, |(_, others)| alone.union(others.iter().copied().collect::<RuleSet>()));
        let breaks = |case: &Case, only: RuleSet| {
            let answer =
                if rule.row().class.refuses() { case.expected.broken } else { case.expected.unstated };
            answer.contains(rule) && case.expected.all() == only
        };
        let own = |case: &&Case| rule_of(case) == Some(rule);
        if accompanied.is_some() && cases().iter().any(|case| breaks(case, alone)) {
            errors.push(format!("{}: breaks alone, so its entry in ACCOMPANIED is stale", rule.id()));
        }
        let broken: BTreeSet<_> =
            cases().iter().filter(own).filter(|case| breaks(case, wanted)).map(|case| &*case.id).collect();
        if broken.is_empty() {
            errors.push(format!("{}: no row breaks it, and {wanted:?} only", rule.id()));
        }
        let has_neighbour =
            |case: &&Case| neighbour_of(case).is_some_and(|of| broken.contains(of) && by_id.contains_key(of));
        if !cases().iter().filter(own).any(|case| has_neighbour(&case)) {
            errors.push(format!("{}: no row `{}.WHAT.ok` passes next to the edge", rule.id(), rule.id()));
        }
    }
    assert_none(&errors);
}

#[test]
fn neighbours_differ_in_one_item_and_in_one_rule() {
    let by_id = by_id();
    let mut errors = Vec::new();
    for case in cases() {
        let Some(of) = neighbour_of(case) else { continue };
        let (Some(broken), Some(rule)) = (by_id.get(of), rule_of(case)) else {
            errors.push(format!("{}: `{}` is the neighbour of no row", case.place, case.id));
            continue;
        };
        let differ = differences(case, broken);
        if differ.len() != 1 {
            errors.push(format!("{}: `{}` differs from `{of}` in {differ:?}", case.place, case.id));
        }
        let only = RuleSet::only(rule);
        let without = Expected {
            broken: broken.expected.broken.difference(only),
            unstated: broken.expected.unstated.difference(only),
            unknown: broken.expected.unknown.difference(only),
        };
        if without == broken.expected {
            errors.push(format!("{}: `{of}` does not break `{}`", broken.place, rule.id()));
        }
        if case.expected != without {
            errors.push(format!("{}: `{}` differs from `{of}` in other rules too", case.place, case.id));
        }
    }
    assert_none(&errors);
}

/// The items in which two cases differ: parts of the CPU, of the environment, fields of the pages.
fn differences(a: &Case, b: &Case) -> Vec<String> {
    let mut differ = Vec::new();
    let (a_cpu, b_cpu) = (cpu_items(&a.cpu_text), cpu_items(&b.cpu_text));
    let names: BTreeSet<_> = a_cpu.keys().chain(b_cpu.keys()).collect();
    differ.extend(
        names.into_iter().filter(|name| a_cpu.get(*name) != b_cpu.get(*name)).map(|n| format!("cpu {n}")),
    );
    let names: BTreeSet<_> = a.environment.keys().chain(b.environment.keys()).collect();
    differ.extend(
        names
            .into_iter()
            .filter(|name| a.environment.get(*name) != b.environment.get(*name))
            .map(|name| format!("environment {name}")),
    );
    let zero = KnownPage::all(&[0; 4096]);
    let pages = [
        ("", &VMCB[..], &a.vmcb, &b.vmcb),
        ("vmsa.", &VMSA[..], a.vmsa.as_ref().unwrap_or(&zero), b.vmsa.as_ref().unwrap_or(&zero)),
    ];
    for (prefix, fields, a, b) in pages {
        for field in fields {
            let same =
                (0..field.size).all(|byte| a.read(field.offset + byte, 1) == b.read(field.offset + byte, 1));
            if !same {
                differ.push(format!("{prefix}{}", field.name));
            }
        }
    }
    differ
}

/// `+x`, `-x` and `x=y` by name; a later one takes the place of an earlier one.
fn cpu_items(text: &str) -> BTreeMap<&str, &str> {
    let item = |(index, part): (usize, &'static str)| match part.split_once('=') {
        _ if index == 0 => ("model", part),
        Some(pair) => pair,
        None => (&part[1..], &part[..1]),
    };
    text.split(',').enumerate().map(|(index, part)| item((index, leak(part)))).collect()
}

/// Items outlive the closure above; a test may leak a few bytes.
fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

#[test]
fn every_condition_of_every_rule_is_told_from_its_absence_and_from_its_opposite() {
    let mut errors = Vec::new();
    for &rule in Rule::ALL {
        let when = rule.row().when;
        // For each case: which conditions hold; `None` where one is not known.
        let held: Vec<(Vec<bool>, Expected)> = cases()
            .iter()
            .filter(|case| case.limits.rules().contains(rule))
            .filter_map(|case| {
                let environment = case.environment();
                let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
                let held: Option<Vec<_>> = when.iter().map(|&literal| view.holds(literal)).collect();
                Some((held?, case.expected))
            })
            .collect();
        for (index, literal) in when.iter().enumerate() {
            let others_hold = |held: &[bool]| held.iter().enumerate().all(|(i, &holds)| i == index || holds);
            // Without the literal, or with its opposite, such a row would break the rule; it expects not.
            let removed = held
                .iter()
                .any(|(held, expected)| others_hold(held) && !held[index] && !expected.all().contains(rule));
            // With its opposite, such a row would pass; it expects not.
            let negated = held
                .iter()
                .any(|(held, expected)| held.iter().all(|&holds| holds) && expected.all().contains(rule));
            for (covered, how) in [(removed, "removed"), (negated, "negated")] {
                if !covered {
                    errors
                        .push(format!("{}: no row notices condition {index} {how}: {literal:?}", rule.id()));
                }
            }
        }
    }
    assert_none(&errors);
}

/// A conjunction over several bits can lose a bit: some row has all conditions met but for that bit.
#[test]
fn every_bit_of_a_conjunction_is_told_from_its_absence() {
    let mut errors = Vec::new();
    let mut implied = Vec::new();
    for &rule in Rule::ALL {
        let when = rule.row().when;
        for (index, &literal) in when.iter().enumerate() {
            let Literal::Is { word, mask, value } = literal else { continue };
            // All of ASID is one number, and events are enumerated in a test of their own.
            if mask.count_ones() < 2 || matches!(word, Word::Asid | Word::EventInj) {
                continue;
            }
            for bit in (0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0) {
                let without = Literal::Is { word, mask: mask & !bit, value: value & !bit };
                let seen = cases().iter().any(|case| {
                    let environment = case.environment();
                    let view = View::new(&case.vmcb, case.phase, &case.limits, &environment);
                    let others = when.iter().enumerate().all(|(i, &other)| {
                        view.holds(if i == index { without } else { other }) == Some(true)
                    });
                    others && view.holds(literal) == Some(false) && !case.expected.all().contains(rule)
                });
                if IMPLIED.contains(&(rule, word, bit)) {
                    implied.push((rule, word, bit));
                    assert!(!seen, "{}: {word:?} {bit:#x} is not implied after all", rule.id());
                } else if !seen {
                    errors.push(format!("{}: no row notices that {word:?} {bit:#x} is gone", rule.id()));
                }
            }
        }
    }
    assert_eq!(implied, IMPLIED, "a stale entry");
    assert_none(&errors);
}

#[test]
fn a_bad_row_is_reported_with_its_place() {
    let bases = "cpu c = EPYC\nenvironment e = svme=1\nbase b = guest_asid=1\n";
    let good = "id.a | @c | @e | b | - | - | - | - | 15.5.1";
    let complaint = |text: &str| {
        let mut reader = Reader::default();
        reader.bases("bases.txt", bases);
        reader.rows("rows.txt", &format!("# a comment\n\n{text}\n"));
        assert!(reader.errors.len() <= 1, "{:?}", reader.errors);
        reader.errors.pop().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(complaint(good), "");
    for (row, reason) in [
        ("id.a | @c | @e | b | - | - | - | 15.5.1", "8 columns where there must be 9"),
        ("id.a | @c | @e | b | - | - | - | - | -", "no source"),
        ("id.a | @d | @e | b | - | - | - | - | 15", "`@d` is not defined"),
        ("id.a | EPYC-Milano | @e | b | - | - | - | - | 15", "no CPU model is named `EPYC-Milano`"),
        ("id.a | @c,+tcee | @e | b | - | - | - | - | 15", "`tcee` is no feature"),
        ("id.a | @c | @e svm=1 | b | - | - | - | - | 15", "`svm` is no fact about the host"),
        ("id.a | @c | @e cpl=4 | b | - | - | - | - | 15", "`cpl=4`: unexpected value"),
        ("id.a | @c | @e cpl0=1 | b | - | - | - | - | 15", "`cpl0` is no fact about the host"),
        ("id.a | @c | @e smm=2 | b | - | - | - | - | 15", "`smm=2`: unexpected value"),
        ("id.a | @c | @e pdptes=0,0,0 | b | - | - | - | - | 15", "unexpected value"),
        ("id.a | @c | @e phase=later | b | - | - | - | - | 15", "`phase=later`: unexpected value"),
        ("id.a | @c | @e | x | - | - | - | - | 15", "no base is named `x`"),
        ("id.a | @c | @e | b | cr9=0 | - | - | - | 15", "no field is named `cr9`"),
        ("id.a | @c | @e | b | reserved=0 | - | - | - | 15", "no field is named `reserved`"),
        ("id.a | @c | @e | b | u_cet=0 | - | - | - | 15", "no field is named `u_cet`"),
        ("id.a | @c | @e | b | cs=0 | - | - | - | 15", "`cs` has 16 bytes"),
        ("id.a | @c | @e | b | cs.type=0 | - | - | - | 15", "`type` is no part of a segment register"),
        ("id.a | @c | @e | b | cr0.base=0 | - | - | - | 15", "`cr0` is no segment register"),
        ("id.a | @c | @e | b | cr0=1g | - | - | - | 15", "`1g` is no number"),
        ("id.a | @c | @e | b | cr0=0x10000000000000000 | - | - | - | 15", "is no number of 64 bits"),
        ("id.a | @c | @e | b | guest_asid=0x100000000 | - | - | - | 15", "the field has 4 bytes"),
        ("id.a | @c | @e | b | cr0=3/1 | - | - | - | 15", "the value has bits outside the mask"),
        ("id.a | @c | @e | b | 0xfff:2=0 | - | - | - | 15", "no 1, 2, 4 or 8 bytes of a page"),
        ("id.a | @c | @e | b | 0x10:3=0 | - | - | - | 15", "no 1, 2, 4 or 8 bytes of a page"),
        ("id.a | @c | @e | b | - | ctl-asid | - | - | 15", "`ctl-asid` is no rule"),
    ] {
        let found = complaint(row);
        assert!(found.starts_with("rows.txt:3: ") && found.contains(reason), "{row}\n{found}");
    }
    assert_eq!(complaint(&format!("{good}\n{good}")), "rows.txt:4: the id `id.a` is there already");

    let mut reader = Reader::default();
    reader.bases("bases.txt", "\ncpu c = EPYC\ncpu c = EPYC\nhost h = svme=1\nbase b = @a cr0=1\nbase\n");
    assert_eq!(
        reader.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "bases.txt:3: `cpu c` is defined twice",
            "bases.txt:4: `host` is none of cpu, environment, base",
            "bases.txt:5: `@a` is not defined",
            "bases.txt:6: expected `KIND NAME = ...`",
        ]
    );
}

#[test]
fn a_rules_variant_is_its_id() {
    for &rule in Rule::ALL {
        let mut kebab = String::new();
        let name = format!("{rule:?}");
        for (index, letter) in name.char_indices() {
            let before = name[..index].chars().next_back();
            let digit_begins = letter.is_ascii_digit() && !before.is_some_and(|c| c.is_ascii_digit());
            let word_begins = letter.is_uppercase() || digit_begins;
            if index > 0 && word_begins {
                kebab.push('-');
            }
            kebab.extend(letter.to_lowercase());
        }
        // A digit that belongs to the word before it: cr0, x2avic, not `cr-0`.
        let plain = |text: &str| text.replace('-', "");
        assert_eq!(plain(&kebab), plain(rule.id()));
        assert_eq!(Rule::from_id(rule.id()), Some(rule));
        let groups = ["pre-", "ctl-", "sav-", "evt-", "sev-", "seves-", "snp-"];
        assert!(groups.iter().any(|group| rule.id().starts_with(group)), "{}", rule.id());
        assert!(rule.id().bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')));
    }
    assert_eq!(Rule::from_id("sav-cs-l-and-"), None);
}

#[test]
fn every_row_of_the_rulebook_reads_well() {
    for &rule in Rule::ALL {
        let row = rule.row();
        assert!(!row.title.ends_with('.'), "{}: a title is no full sentence", row.id);
        assert!(row.mend.ends_with('.'), "{}: how to mend is a full sentence", row.id);
        assert!(row.remark.is_empty() || row.remark.ends_with('.'), "{}", row.id);
        assert!(row.section.starts_with("15."), "{}: {}", row.id, row.section);
        assert_eq!(row.class.refuses(), row.outcome != vmcb::Outcome::NotStated, "{}", row.id);
        // A conjunction over distinct bits: that is what makes judging exact.
        let mut seen: BTreeMap<Word, u64> = BTreeMap::new();
        for literal in row.when {
            if let Literal::Is { word, mask, value } | Literal::IsNot { word, mask, value } = *literal {
                assert_eq!(value & !mask, 0, "{}: {literal:?}", row.id);
                let bits = seen.entry(word).or_default();
                assert_eq!(*bits & mask, 0, "{}: two conditions on {word:?}", row.id);
                *bits |= mask;
            }
        }
    }
}

#[test]
fn every_word_is_read_by_some_rule() {
    let mut read = BTreeSet::new();
    for &rule in Rule::ALL {
        for (word, mask) in rule.reads() {
            assert_ne!(mask, 0, "{}: a condition reads no bit of {word:?}", rule.id());
            read.insert(word);
        }
    }
    let unread: Vec<_> = Word::ALL.iter().copied().filter(|word| !read.contains(word)).collect();
    let mut listed = UNREAD.to_vec();
    listed.sort();
    assert_eq!(unread, listed);
}

#[test]
fn every_gate_of_a_row_is_a_feature_with_a_name() {
    for &feature in Feature::ALL {
        assert_eq!(Feature::from_name(feature.name()), Some(feature));
        for alias in feature.aliases() {
            assert_eq!(Feature::from_name(alias), Some(feature));
        }
        // The bit that a rule reports as missing leads back to the feature.
        let known = Cpu::ANY.with(feature, true);
        let limits = [Limits::compile(&known, Policy::VirtualCpu)];
        assert_eq!(limits[0].cpu().has(feature), Some(true));
    }
    let mut names: Vec<_> =
        Feature::ALL.iter().flat_map(|f| [f.name()].into_iter().chain(f.aliases().iter().copied())).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two features have the same name");
    let mut places: Vec<_> = Feature::ALL.iter().map(|feature| feature.cpuid().to_string()).collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), Feature::ALL.len(), "two features are the same bit of CPUID");
}

/// The accepted set is what the table says: nothing else knows a vector.
#[test]
fn the_accepted_exceptions_are_those_of_the_table() {
    let base = Cpu::parse("EPYC-Milan,phys-bits=48").unwrap();
    for (shstk, seves) in [(false, false), (false, true), (true, false), (true, true)] {
        let cpu = base.with(Feature::Shstk, shstk).with(Feature::SevEs, seves).with(Feature::SevSnp, seves);
        let limits = Limits::compile(&cpu, Policy::VirtualCpu);
        for (mode, long) in [(GuestMode::OTHER, false), (GuestMode::BITS_64, true)] {
            let accepted = accepted_exceptions(&limits, mode);
            for number in 0..32 {
                let exists = match EXCEPTIONS[usize::from(number)].existence {
                    Existence::Always => true,
                    Existence::ShadowStacks => shstk,
                    Existence::SevEs => seves,
                    Existence::RestrictedInjection
                    | Existence::Overrun
                    | Existence::Nmi
                    | Existence::Never => false,
                };
                // #OF and #BR have no instruction in 64-bit mode; of #OF that is not decided.
                let possible = !(long && matches!(number, 4 | 5));
                assert_eq!(accepted.contains(Vector::new(number)), exists && possible, "vector {number}");
            }
        }
        let restricted = accepted_exceptions(&limits, GuestMode::OTHER.with_restricted_injection());
        if seves {
            assert!(restricted.iter().map(Vector::number).eq([28]));
        }
    }
    assert!(RESERVED_VECTORS.iter().all(|vector| vector.mnemonic().is_none()));
}

/// Rows are data for other programs too: what they may hold is simple.
#[test]
fn ids_of_rows_are_plain_words() {
    for case in cases() {
        assert!(
            case.id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.')),
            "{}: {}",
            case.place,
            case.id
        );
        assert!(case.id.contains('.'), "{}: {}", case.place, case.id);
    }
}
