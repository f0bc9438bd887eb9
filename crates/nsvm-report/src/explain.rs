//! A rule's page: what `nsvm explain` prints and `docs/rules/` holds, made from the rule's row.

use crate::bits::{bits, ranges};
use crate::error::Error;
use crate::record::{MANUAL, REVISION};
use crate::suggest;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use textwrap::{Options, WordSplitter};
use vmcb::{Class, Event, Feature, Literal, Outcome, Rule, Source, Test, Word};

/// A check that some implementations make and the manual does not ask for.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Its id.
    pub id: &'static str,
    /// What is checked, one sentence without a full stop.
    pub title: &'static str,
    /// What the manual says, and who checks.
    pub text: &'static str,
}

/// The three habits of implementations that have an id of their own.
pub static HABITS: [Habit; 3] = [
    Habit {
        id: "ctl-tlb-control-reserved",
        title: "TLB_CONTROL has a reserved value",
        text: "The manual reserves the values 2, 4, 5, 6 and those above 7, and 3 and 7 where FlushByAsid is \
               absent (15.16.1), and does not say what VMRUN does with them. KVM before the end of 2025 refused \
               all but 0 and 1; newer ones ignore the value. VirtualBox refuses values above 1 where \
               FlushByAsid is absent. Bochs, QEMU and Xen do not look.",
    },
    Habit {
        id: "sav-efer-lma-without-lme",
        title: "EFER.LMA is set while EFER.LME is clear",
        text: "Not in the manual's list of illegal states: VMRUN recomputes LMA from LME and CR0.PG. Xen \
               refuses it.",
    },
    Habit {
        id: "evt-reserved-bits",
        title: "EVENTINJ has bits 30:12 set",
        text: "The manual says that they should be zero (figure 15-5) and states no check. Xen refuses them, \
               KVM and VirtualBox clear them, Bochs and QEMU ignore them.",
    },
];

/// The habit with this id.
pub(crate) fn habit(id: &str) -> Option<&'static Habit> {
    HABITS.iter().find(|habit| habit.id == id)
}

/// Returns the page of the rule or habit with this id.
///
/// # Errors
/// If there is none, with suggestions.
pub fn page(id: &str) -> Result<String, Error> {
    let wanted = id.trim().to_lowercase();
    let page = match (Rule::from_id(&wanted), habit(&wanted)) {
        (Some(rule), _) => rule_page(rule),
        (None, Some(habit)) => habit_page(habit),
        (None, None) => {
            let known = Rule::ALL.iter().map(|rule| rule.id()).chain(HABITS.iter().map(|habit| habit.id));
            let help = suggest::help(&wanted, known.map(str::to_owned))
                .unwrap_or_else(|| "`nsvm rules` lists all rules".into());
            return Err(Error::usage(format!("no rule has the id `{}`", suggest::shorten(id)), help));
        }
    };
    Ok(page)
}

fn habit_page(habit: &Habit) -> String {
    format!(
        "# {}\n\n{}.\n\nThis is a habit of some implementations and no rule of the manual: it says nothing about \
         whether VMRUN\naccepts a VMCB, and `nsvm check` does not judge by it.\n\n{}\n",
        habit.id,
        habit.title,
        wrap(habit.text)
    )
}

/// A rule's page, in Markdown.
///
/// # Examples
/// ```
/// let page = nsvm_report::rule_page(vmcb::Rule::CtlAsidZero);
/// assert!(page.starts_with("# ctl-asid-zero\n"));
/// ```
#[must_use]
pub fn rule_page(rule: Rule) -> String {
    let row = rule.row();
    let mut page = format!("# {}\n\n{}.\n\n", row.id, row.title);
    let mut say = |text: &str| {
        page.push_str(text);
        page.push('\n');
    };
    say(&format!("- Class {}: {}", row.class.letter(), class(row.class)));
    say(&format!("- Outcome: {}", outcome(row.outcome)));
    say(&format!("- Source: {MANUAL}, {}, revision {REVISION}", section(row.section)));
    say("\n## Broken when\n");
    if let [literal] = row.when {
        say(&format!("- {}", condition(*literal)));
    } else {
        say("All of these hold:\n");
        for &literal in row.when {
            say(&format!("- {}", condition(literal)));
        }
    }
    say("\n## Reads\n");
    for line in reads(rule) {
        say(&format!("- {line}"));
    }
    say("\n## How to mend it\n");
    say(&wrap(row.mend));
    if !row.remark.is_empty() {
        say("\n## Remark\n");
        say(&wrap(row.remark));
    }
    page
}

/// The list of all pages, in Markdown, with links to them.
#[must_use]
pub fn index_page() -> String {
    let mut page = String::from(
        "# The rules of VMRUN\n\n\
         One page a rule; `nsvm explain RULE` prints the same. Generated from the rows in `vmcb`.\n\n\
         Class A: illegal by the manual. D: derived from a general sentence of it. R: required, outcome not stated.\n\
         T: test practice. Broken rules of class A refuse, R and T are undecided, D as its page says.\n",
    );
    for (letter, title) in GROUPS {
        let _ = write!(
            page,
            "\n## {title}\n\n| rule | class | outcome | broken when |\n| --- | --- | --- | --- |\n"
        );
        for rule in Rule::ALL.iter().filter(|rule| group(**rule) == letter) {
            let row = rule.row();
            let _ = writeln!(
                page,
                "| [{id}]({id}.md) | {} | {} | {} |",
                row.class.letter(),
                row.outcome.name(),
                row.title.replace('|', "\\|"),
                id = row.id
            );
        }
    }
    page.push_str("\n## No rules\n\nHabits of some implementations, by which nothing is judged:\n\n");
    for habit in &HABITS {
        let _ = writeln!(page, "- `{}`: {}. {}", habit.id, habit.title, habit.text);
    }
    page
}

/// The groups of the rulebook.
pub(crate) const GROUPS: [(char, &str); 5] = [
    ('P', "Before the VMCB is read"),
    ('C', "Control area"),
    ('S', "State save area"),
    ('E', "Event injection"),
    ('V', "SEV, SEV-ES, SEV-SNP"),
];

/// The group of a rule, by the beginning of its id.
pub(crate) fn group(rule: Rule) -> char {
    match rule.id().split('-').next() {
        Some("pre") => 'P',
        Some("ctl") => 'C',
        Some("sav") => 'S',
        Some("evt") => 'E',
        _ => 'V',
    }
}

pub(crate) fn class(class: Class) -> &'static str {
    match class {
        Class::Illegal => {
            "the manual lists it as illegal, or names another definite outcome; broken, VMRUN refuses"
        }
        Class::DerivedRefused => {
            "derived from a general sentence of the manual, sure enough to refuse; broken, VMRUN refuses"
        }
        Class::DerivedUndecided => {
            "derived from a general sentence of the manual, not sure enough to refuse; broken, the verdict is undecided"
        }
        Class::Required => {
            "the manual requires it and does not say what VMRUN does otherwise; broken, the verdict is undecided"
        }
        Class::TestPractice => {
            "tests or implementations treat it as illegal, the manual's sentence covers it loosely; broken, the \
             verdict is undecided"
        }
    }
}

fn outcome(outcome: Outcome) -> String {
    let what = match outcome.exit_code() {
        Some(code) => format!("exit code {}", code.bits() as i64),
        None if outcome.exception().is_some() => "a fault in the host; the VMCB is not read".into(),
        None => return "not stated by the manual".into(),
    };
    format!("{outcome} ({what})")
}

/// `section 15.20` or `sections 15.5.1, 3.1.2`.
pub(crate) fn section(section: &str) -> String {
    let word = if section.contains([',', ';']) { "sections" } else { "section" };
    format!("{word} {section}")
}

/// Where a word stands: `EFER (VMCB 4D0h)`.
fn name_and_place(word: Word) -> String {
    match word.source() {
        Source::Control(field) => format!("{} (VMCB {:03X}h)", word.name(), field.offset),
        Source::Save(field) => {
            let offset = field.offset;
            format!("{} (VMCB {offset:03X}h; SEV-ES: VMSA {:03X}h)", word.name(), field.in_vmsa().offset)
        }
        Source::Vmsa(field) if word == Word::UCet => {
            format!("{} (MSR 6A0h; SEV-ES: VMSA {:03X}h)", word.name(), field.offset)
        }
        Source::Vmsa(field) => format!("{} (VMSA {:03X}h)", word.name(), field.offset),
        Source::Environment if word == Word::VmcbAddress => "rAX of VMRUN".into(),
        Source::Environment => format!("{} (guest memory at CR3[31:5])", word.name()),
        Source::Cpu | Source::Derived => word.name().into(),
    }
}

/// What a rule reads, one line a word.
fn reads(rule: Rule) -> Vec<String> {
    let mut words: BTreeMap<Word, u64> = BTreeMap::new();
    for (word, mask) in rule.reads() {
        *words.entry(word).or_default() |= mask;
    }
    let mut lines = Vec::new();
    for (word, mask) in words {
        match word {
            Word::Cpu => {
                for feature in features(mask) {
                    lines.push(format!(
                        "CPU: {}, {} (`{}`)",
                        feature.meaning(),
                        feature.cpuid(),
                        feature.name()
                    ));
                }
            }
            Word::Host => {
                for (bit, _, meaning) in word.bit_names() {
                    if mask >> bit & 1 == 1 {
                        lines.push(format!("host: {meaning}"));
                    }
                }
            }
            _ => {
                let named: Vec<&str> = word
                    .bit_names()
                    .iter()
                    .rev()
                    .filter(|(bit, ..)| mask.count_ones() <= 8 && mask >> bit & 1 == 1)
                    .map(|(_, name, _)| *name)
                    .collect();
                let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
                lines.push(format!("{} {}{named}", name_and_place(word), bits(mask)));
            }
        }
    }
    if rule.row().when.iter().any(|literal| matches!(literal, Literal::Holds(test) if asks_width(*test))) {
        lines.push("CPU: physical address width, CPUID 8000_0008 EAX[7:0] (`phys-bits`)".into());
    }
    lines
}

/// Whether a test compares with MAXPHYADDR.
pub(crate) fn asks_width(test: Test) -> bool {
    matches!(
        test,
        Test::AddressTooWide(_)
            | Test::NotAPageAddress(_)
            | Test::PointerTooWide(_)
            | Test::TableTooHigh { .. }
            | Test::AvicPointerTooWide
            | Test::PdpteReserved
    )
}

/// The features of a mask of `Word::Cpu`.
pub(crate) fn features(mask: u64) -> impl Iterator<Item = Feature> {
    (0..64).filter(move |bit| mask >> bit & 1 == 1).filter_map(Feature::at_bit)
}

/// One condition in words.
fn condition(literal: Literal) -> String {
    match literal {
        Literal::Is { word: Word::Cpu, mask, value } => {
            let parts = features(mask).map(|feature| {
                let has = features(value).any(|other| other == feature);
                let verb = if has { "has" } else { "lacks" };
                format!("the CPU {verb} {} ({} = {})", feature.meaning(), feature.cpuid(), u8::from(has))
            });
            parts.collect::<Vec<_>>().join(", and ")
        }
        Literal::Is { word: Word::Mode, mask, value } => named(Word::Mode, mask, value, ", and "),
        Literal::IsNot { word: Word::Mode, mask, value: 0 } => named(Word::Mode, mask, mask, ", or "),
        Literal::Is { word: Word::Host, mask, value } => named(Word::Host, mask, value, ", and "),
        Literal::IsNot { word: Word::Host, mask, value } => named(Word::Host, mask, !value & mask, ", or "),
        Literal::Is { word, mask, value } => values(word, mask, value),
        Literal::IsNot { word, mask, value: 0 } => {
            format!("{} has one of {} set", word.name(), bits(mask))
        }
        Literal::IsNot { word, mask, value } => format!("not: {}", values(word, mask, value)),
        Literal::Holds(test) => test_in_words(test),
        _ => format!("{literal:?}"),
    }
}

/// The meanings of the bits of a word of ours.
fn named(word: Word, mask: u64, value: u64, and: &str) -> String {
    let parts = word.bit_names().iter().filter(|(bit, ..)| mask >> bit & 1 == 1).map(|(bit, _, meaning)| {
        match (word, value >> bit & 1) {
            (Word::Mode, 1) => (*meaning).to_owned(),
            (Word::Mode, _) => format!("not so: {meaning}"),
            (_, value) => format!("the host: {meaning}: {}", if value == 1 { "yes" } else { "no" }),
        }
    });
    parts.collect::<Vec<_>>().join(and)
}

/// `EFER.LME = 1 (bit 8)`.
fn values(word: Word, mask: u64, value: u64) -> String {
    if word == Word::EventInj {
        let parts = [("V", Event::V), ("TYPE", Event::TYPE), ("EV", Event::EV), ("VECTOR", Event::VECTOR)];
        let parts = parts.into_iter().filter(|(_, bits)| mask & bits != 0).map(|(name, bits)| {
            format!("{name} = {} ({})", (value & bits) >> bits.trailing_zeros(), ranges(bits))
        });
        return format!("EVENTINJ: {}", parts.collect::<Vec<_>>().join(", "));
    }
    let mut rest = mask;
    let mut parts = Vec::new();
    for &(bit, name, _) in word.bit_names().iter().rev() {
        if mask >> bit & 1 == 1 {
            parts.push(format!("{}.{name} = {} (bit {bit})", word.name(), value >> bit & 1));
            rest &= !(1 << bit);
        }
    }
    if rest != 0 {
        parts.push(format!(
            "{} {} = {:#x}",
            word.name(),
            bits(rest),
            (value & rest) >> rest.trailing_zeros()
        ));
    }
    parts.join(", ")
}

fn test_in_words(test: Test) -> String {
    match test {
        Test::AddressTooWide(word) => format!("{} has a bit set at or above MAXPHYADDR", word.name()),
        Test::NotAPageAddress(word) => {
            format!("{} is not 4 KiB aligned, or has a bit set at or above MAXPHYADDR", word.name())
        }
        Test::PointerTooWide(word) => {
            format!("{} bits 51:12, the pointer, have a bit set at or above MAXPHYADDR", word.name())
        }
        Test::TableTooHigh { word, size } => format!(
            "the table of {size:#x} bytes at {} (bits 11:0 ignored) does not end at or below 2^MAXPHYADDR",
            word.name()
        ),
        Test::Cr4Reserved => "CR4 has a bit set that this CPU does not define".into(),
        Test::EferReserved => "EFER has a bit set that this CPU does not define".into(),
        Test::PatInvalid => "a byte of G_PAT is none of 0, 1, 4, 5, 6, 7".into(),
        Test::PdpteReserved => "a present PDPTE has a reserved bit set: 63:MAXPHYADDR, 8:5, 2:1".into(),
        Test::EventTypeReserved => "EVENTINJ: TYPE (10:8) is 1, 5, 6 or 7".into(),
        Test::VectorReserved => {
            let reserved: Vec<String> =
                vmcb::RESERVED_VECTORS.iter().map(|vector| vector.number().to_string()).collect();
            format!("EVENTINJ: VECTOR (7:0) is one of {}", reserved.join(", "))
        }
        Test::SoftwareOrBpOrOf => {
            "EVENTINJ: TYPE (10:8) is 4, or TYPE is 3 and VECTOR (7:0) is 3 or 4".into()
        }
        Test::AsidAboveSevMaximum => "ASID is above CPUID 8000_001F ECX".into(),
        Test::AsidBelowSevMinimum => "ASID is below CPUID 8000_001F EDX".into(),
        Test::AvicPointerTooWide => {
            "one of AVIC's three pointers has a bit set at or above MAXPHYADDR".into()
        }
        Test::CounterEnabled => {
            "a counter is enabled: PERF_CTLn bit 22, or PERF_CTR_GLOBAL_CTL bits 5:0".into()
        }
        Test::SevFeatureNotAllowed => {
            "SEV_FEATURES has a bit of 61:0 set that ALLOWED_SEV_FEATURES has not".into()
        }
        _ => format!("{test:?}"),
    }
}

/// Text in lines that a terminal shows whole.
fn wrap(text: &str) -> String {
    let options = Options::new(100).break_words(false).word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}
