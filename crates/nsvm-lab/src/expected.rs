//! Expected differences: where a subject is known not to do what the rulebook says.
//!
//! The list is a file of rows; its grammar stands at its head. A run is held against it in both directions:
//! [`Expected::unlisted`] differences and [`Expected::stale`] rows.

mod facts;
mod row;

pub use facts::{CaseFacts, Change};
pub use row::Row;

use self::row::parse_row;
use crate::outcome::{Answer, Outcome};
use vmcb_implementations::Version;

/// The list that belongs to this lab.
pub const FILE: &str = "crates/nsvm-lab/expected.txt";
/// Its text.
pub const TEXT: &str = include_str!("../expected.txt");

/// A line that is no row.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Error {
    /// The file, as the caller named it.
    pub file: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// What is wrong, and what is expected.
    pub message: String,
}

/// The whole list.
///
/// # Examples
/// ```
/// use nsvm_lab::expected::{Expected, FILE, TEXT};
/// let expected = Expected::parse(FILE, TEXT).unwrap();
/// assert!(!expected.rows().is_empty());
/// let errors = Expected::parse("list.txt", "case:* | kvm").unwrap_err();
/// assert!(errors[0].to_string().starts_with("list.txt:1: "));
/// ```
#[derive(Clone, Debug)]
pub struct Expected {
    rows: Vec<Row>,
}

impl Expected {
    /// Reads the rows. `file` is its name in errors.
    ///
    /// # Errors
    /// Every line that is no row, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Error>> {
        let (mut rows, mut errors) = (Vec::new(), Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            match parse_row(line, text) {
                Ok(row) => rows.push(row),
                Err(message) => errors.push(Error { file: file.to_owned(), line, message }),
            }
        }
        if errors.is_empty() { Ok(Self { rows }) } else { Err(errors) }
    }

    /// The rows, in the order of the file.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first row that explains this difference of a subject; `None` where there is none, or no difference.
    #[must_use]
    pub fn explain(
        &self,
        subject: &str,
        version: Version,
        case: &CaseFacts,
        outcome: &Outcome,
    ) -> Option<&Row> {
        if !case.differs(outcome) {
            return None;
        }
        self.rows.iter().find(|row| row.applies(subject, version) && row.matches(case) && row.says(outcome))
    }

    /// The differences of a run that no row explains.
    #[must_use]
    pub fn unlisted<'r>(
        &self,
        subject: &str,
        version: Version,
        results: &'r [(CaseFacts, Outcome)],
    ) -> Vec<&'r (CaseFacts, Outcome)> {
        let unlisted = results.iter().filter(|(case, outcome)| {
            case.differs(outcome) && self.explain(subject, version, case, outcome).is_none()
        });
        unlisted.collect()
    }

    /// The rows that speak of this subject and version and of a case of this run, and explain no difference in it.
    /// Cases that were skipped or are not compared do not count, nor do rows of what comes out only sometimes.
    #[must_use]
    pub fn stale(&self, subject: &str, version: Version, results: &[(CaseFacts, Outcome)]) -> Vec<&Row> {
        let stale = self.rows.iter().filter(|row| {
            let spoken_of = results.iter().filter(|(case, outcome)| {
                case.compared && outcome.answer() != Answer::Skipped && row.matches(case)
            });
            let mut spoken_of = spoken_of.peekable();
            !row.sometimes
                && row.applies(subject, version)
                && spoken_of.peek().is_some()
                && !spoken_of.any(|(case, outcome)| case.differs(outcome) && row.says(outcome))
        });
        stale.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Base, Case, Set};
    use vmcb::{Cpu, Environment, Limits, Policy, Rule, RuleSet, check_out_of_line};

    /// A legal guest, and cases that change one field of it.
    fn results(rows: &[(&str, u16, u64, &str)]) -> Vec<(CaseFacts, Outcome)> {
        let mut page = Box::new([0; 4096]);
        for (offset, bytes) in [
            (0x10, &[1][..]),
            (0x58, &[1]),
            (0x412, &[0x9b, 2]),
            (0x4D1, &[0x15]),
            (0x548, &[0x20]),
            (0x558, &[0x11, 0, 0, 0x80]),
        ] {
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        let base = Base { name: "long64".into(), page, tables: [0; 4], flags: 0 };
        let set = Set { name: "test".into(), bases: vec![base], cases: vec![] };
        let limits = Limits::compile(
            &Cpu::parse("EPYC-Milan,phys-bits=40,+lmsle-unsupported").expect("a CPU"),
            Policy::VirtualCpu,
        );
        let environment =
            Environment::real_host().with_vmcb_address(0x7000).with_pdptes([0; 4]).with_u_cet(0);
        let facts = |&(id, offset, value, outcome): &(&str, u16, u64, &str)| {
            let case = Case {
                id: id.into(),
                base: 0,
                differences: vec![(offset, value.to_le_bytes().to_vec())],
                rax: 0x7000,
                flags: 0,
                tables: None,
                cannot_run: None,
                meaningless: id.ends_with("junk").then(|| "it is junk".into()),
            };
            let verdict = check_out_of_line(&set.page(&case), &limits, &environment);
            (CaseFacts::new(&set, &case, &verdict), outcome.parse().expect("an outcome"))
        };
        rows.iter().map(facts).collect()
    }

    fn list(text: &str) -> Expected {
        Expected::parse("list.txt", text).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    const EVENTINJ: u16 = 0xA8;
    const EFER: u16 = 0x4D0;

    #[test]
    fn the_list_of_this_lab_is_well_formed() {
        let expected = list(TEXT);
        assert!(!expected.rows().is_empty());
        let mut subjects = ["kvm", "bochs", "qemu-tcg"].into_iter();
        assert!(subjects.all(|name| expected.rows().iter().any(|row| row.subjects.matches(name))));
    }

    #[test]
    fn a_difference_needs_a_row_and_a_row_needs_a_difference() {
        let run = results(&[
            ("eventinj.long64.t3#09", EVENTINJ, 0x8000_0309, "took"),
            ("eventinj.long64.t3#0e", EVENTINJ, 0x8000_030e, "took"),
            ("eventinj.long64.t3#1f", EVENTINJ, 0x8000_031f, "invalid"),
            ("flip.long64.efer#01", EFER, 0x1502, "invalid"),
        ]);
        let nine =
            "rules:evt-exc-vector-9 | qemu-tcg | 7.2 | accepts | it does not look | measured | 2026-11-22\n";
        let low = "bits:efer=0xfe | qemu-tcg | * | refuses | must be zero to it | source | 2026-11-22\n";
        let unlisted = |text: &str, subject, number| -> Vec<String> {
            let found = list(text).unlisted(subject, version(number), &run).into_iter();
            found.map(|(case, _)| case.id.clone()).collect()
        };
        assert_eq!(unlisted("", "qemu-tcg", "7.2.22"), ["eventinj.long64.t3#09", "flip.long64.efer#01"]);
        assert_eq!(unlisted(nine, "qemu-tcg", "7.2.22"), ["flip.long64.efer#01"]);
        assert_eq!(unlisted(low, "qemu-tcg", "7.2.22"), ["eventinj.long64.t3#09"]);
        let both = &format!("{nine}{low}");
        assert_eq!(unlisted(both, "qemu-tcg", "7.2.22"), [""; 0]);
        // The row must speak of this version, of this subject, and say what happened.
        assert_eq!(unlisted(both, "qemu-tcg", "10.0.2"), ["eventinj.long64.t3#09"]);
        assert_eq!(unlisted(both, "bochs", "7.2.22").len(), 2);
        assert_eq!(
            unlisted(&both.replace("accepts", "hangs"), "qemu-tcg", "7.2.22"),
            ["eventinj.long64.t3#09"]
        );
        let list_of_both = list(both);
        let row = list_of_both.explain("qemu-tcg", version("7.2.22"), &run[0].0, &run[0].1);
        assert_eq!(row.map(|row| row.line), Some(1));
        assert!(list_of_both.explain("qemu-tcg", version("7.2.22"), &run[1].0, &run[1].1).is_none());

        let stale = |text: &str, subject, number| -> Vec<usize> {
            list(text).stale(subject, version(number), &run).iter().map(|row| row.line).collect()
        };
        assert_eq!(stale(both, "qemu-tcg", "7.2.22"), [0; 0]);
        // Vector 31 is refused, as the rulebook has it.
        let reserved = nine.replace("vector-9", "vector-reserved");
        assert_eq!(stale(&reserved, "qemu-tcg", "7.2.22"), [1]);
        assert_eq!(stale(&reserved.replace("measured", "sometimes"), "qemu-tcg", "7.2.22"), [0; 0]);
        assert_eq!(stale(&reserved, "qemu-tcg", "10.0.2"), [0; 0], "it does not apply");
        assert_eq!(stale(&reserved, "kvm", "7.2.22"), [0; 0], "it does not apply");
        // No case of the run has it.
        assert_eq!(stale(&nine.replace("vector-9", "vector-2"), "qemu-tcg", "7.2.22"), [0; 0]);
        assert_eq!(stale(&both.replace("accepts", "kills"), "qemu-tcg", "7.2.22"), [1]);
        // What was not run, or is not compared, says nothing of a row.
        let not_run = results(&[
            ("eventinj.long64.t3#09", EVENTINJ, 0x8000_0309, "skipped it"),
            ("eventinj.long64.t3#09.junk", EVENTINJ, 0x8000_0309, "took"),
        ]);
        assert!(list(nine).stale("qemu-tcg", version("7.2.22"), &not_run).is_empty());
    }

    #[test]
    fn what_is_a_difference() {
        for (offset, value, outcome, differs) in [
            // Refused by the rulebook.
            (EVENTINJ, 0x8000_0302, "invalid", false),
            (EVENTINJ, 0x8000_0302, "invalid32, exitintinfo", false),
            (EVENTINJ, 0x8000_0302, "took", true),
            (EVENTINJ, 0x8000_0302, "busy", true),
            (EVENTINJ, 0x8000_0302, "fault 06 0", true),
            (EVENTINJ, 0x8000_0302, "fault 0e 2", true),
            (EVENTINJ, 0x8000_0302, "killed it", true),
            (EVENTINJ, 0x8000_0302, "skipped it", false),
            // Accepted.
            (EVENTINJ, 0x8000_030e, "took", false),
            (EVENTINJ, 0x8000_030e, "exit 4e, during", false),
            (EVENTINJ, 0x8000_030e, "invalid", true),
            (EVENTINJ, 0x8000_030e, "fault 0d 0", true),
            (EVENTINJ, 0x8000_030e, "hung", true),
            // The manual does not say: #OF in 64-bit mode.
            (EVENTINJ, 0x8000_0304, "took", false),
            (EVENTINJ, 0x8000_0304, "invalid", false),
            (EVENTINJ, 0x8000_0304, "hung", true),
        ] {
            let (case, outcome) = results(&[("x", offset, value, outcome)]).remove(0);
            // The host's MSRs are not known here: what depends on them is left out.
            let case = CaseFacts { unknown: RuleSet::EMPTY, ..case };
            assert_eq!(case.differs(&outcome), differs, "{value:#x} {outcome}");
        }
        let (junk, outcome) = results(&[("x.junk", EVENTINJ, 0x8000_0302, "took")]).remove(0);
        assert!(!junk.differs(&outcome));
        // A fault keeps VMRUN from reading the VMCB.
        let (case, _) = results(&[("x", 0x58, 0, "invalid")]).remove(0);
        assert!(case.broken.contains(Rule::CtlAsidZero));
        let broken = case.broken.union(RuleSet::only(Rule::PreSvmeOff));
        let both = CaseFacts { broken, ..case };
        for (outcome, differs) in [("fault 06 0", false), ("invalid", true), ("fault 0d 0", true)] {
            assert_eq!(both.differs(&outcome.parse().expect("an outcome")), differs, "{outcome}");
        }
        // Where VM_HSAVE_PA is not known on an SNP system, #GP(0) is no surprise and VMEXIT_INVALID is.
        let (legal, _) = results(&[("x", EVENTINJ, 0, "ran")]).remove(0);
        let unknown = CaseFacts { unknown: RuleSet::only(Rule::PreHsavePaZero), ..legal };
        for (outcome, differs) in [("fault 0d 0", false), ("invalid", true), ("ran", false)] {
            assert_eq!(unknown.differs(&outcome.parse().expect("an outcome")), differs, "{outcome}");
        }
    }

    #[test]
    fn rows_speak_of_cases_in_four_ways() {
        let cases = results(&[
            ("flip.long64.efer#01", EFER, 0x1502, "invalid"),
            ("flip.long64.efer#0d", EFER, 0x3500, "ran"),
            ("eventinj.long64.t3#09", EVENTINJ, 0x8000_0309, "took"),
            ("flip.long64.cs#40", 0x418, 1, "ran"),
        ]);
        let matching = |cells: &str| -> Vec<usize> {
            let row = format!("{cells} | kvm | * | accepts | why | source | 2026-11-22");
            let expected = list(&row);
            (0..cases.len()).filter(|&index| expected.rows()[0].matches(&cases[index].0)).collect()
        };
        assert_eq!(matching("case:*"), [0, 1, 2, 3]);
        assert_eq!(matching("case:flip.*"), [0, 1, 3]);
        assert_eq!(matching("case:flip.*.efer#0?"), [0, 1]);
        assert_eq!(matching("case:*#0{1,9}"), [0, 2]);
        assert_eq!(matching("case:*#0{1,9},*cs*"), [0, 2, 3]);
        assert_eq!(matching("case:flip"), [0; 0]);
        assert_eq!(matching("rules:sav-efer-mbz"), [1]);
        assert_eq!(matching("rules:sav-efer-*,evt-exc-vector-{2,9}"), [1, 2]);
        assert_eq!(matching("rules:sav-cr4-mbz"), [0; 0]);
        assert_eq!(matching("field:efer"), [0, 1]);
        assert_eq!(matching("field:{efer,cs}"), [0, 1, 3]);
        assert_eq!(matching("field:efer rules:*"), [1]);
        assert_eq!(matching("bits:efer=0xfe"), [0]);
        assert_eq!(matching("bits:efer=0x20fe"), [0, 1]);
        assert_eq!(matching("bits:cs=0xffff"), [0; 0]);
        // A case that breaks more than is listed is none of the row's.
        let mut two = cases[1].0.clone();
        two.broken = two.broken.union(RuleSet::only(Rule::CtlAsidZero));
        assert!(
            !list("rules:sav-efer-mbz | kvm | * | accepts | why | source | 2026-11-22").rows()[0]
                .matches(&two)
        );
    }

    #[test]
    fn outcomes_that_rows_say() {
        for (does, yes, no) in [
            ("accepts", "ran", "invalid"),
            ("refuses", "invalid32", "fault 06 0"),
            ("faults", "fault 0d 0", "invalid"),
            ("kills", "killed it", "hung"),
            ("hangs", "hung", "killed it"),
            ("kills or hangs", "hung", "ran"),
            ("outcome:exit 7f*,took*", "exit 7f, during", "exit 4e"),
        ] {
            let row =
                list(&format!("case:* | kvm | * | {does} | why | source | 2026-11-22")).rows()[0].clone();
            assert!(row.says(&yes.parse().expect("an outcome")), "{does}: {yes}");
            assert!(!row.says(&no.parse().expect("an outcome")), "{does}: {no}");
        }
    }

    #[test]
    fn what_is_no_row_is_said_with_its_line() {
        let good = "case:* | kvm | * | accepts | why | source | 2026-11-22";
        for (text, message) in [
            ("case:* | kvm", "2 columns; expected 7"),
            (" | kvm | * | accepts | why | source | 2026-11-22", "no cases"),
            ("cases:* | kvm | * | accepts | why | source | 2026-11-22", "`cases:*`: expected `case:GLOB`"),
            ("rules:evt-nine | kvm | * | accepts | why | source | 2026-11-22", "`evt-nine` names no rule"),
            ("field:eferx | kvm | * | accepts | why | source | 2026-11-22", "`eferx` names no field"),
            ("bits:efer | kvm | * | accepts | why | source | 2026-11-22", "expected `bits:FIELD=MASK`"),
            ("bits:efer=5 | kvm | * | accepts | why | source | 2026-11-22", "expected a mask in hexadecimal"),
            ("bits:x=0x5 | kvm | * | accepts | why | source | 2026-11-22", "`x` names no field"),
            ("case:a{b | kvm | * | accepts | why | source | 2026-11-22", "a brace is not closed"),
            ("case:a}b | kvm | * | accepts | why | source | 2026-11-22", "a brace is not opened"),
            ("case:{a{b}} | kvm | * | accepts | why | source | 2026-11-22", "braces within braces"),
            ("case:a,,b | kvm | * | accepts | why | source | 2026-11-22", "an empty pattern"),
            ("case:* |  | * | accepts | why | source | 2026-11-22", "an empty pattern"),
            ("case:* | kvm | new | accepts | why | source | 2026-11-22", "versions: `new` is no version"),
            ("case:* | kvm | * | accept | why | source | 2026-11-22", "does `accept`; expected accepts"),
            ("case:* | kvm | * | accepts | | source | 2026-11-22", "why: expected one sentence"),
            ("case:* | kvm | * | accepts | why. | source | 2026-11-22", "why: expected one sentence"),
            ("case:* | kvm | * | accepts | why | guess | 2026-11-22", "evidence `guess`; expected"),
            (
                "case:* | kvm | * | accepts | why | source | 2026-13-22",
                "date `2026-13-22`; expected YYYY-MM-DD",
            ),
            ("case:* | kvm | * | accepts | why | source | today", "date `today`"),
        ] {
            let errors = Expected::parse("list.txt", &format!("# head\n\n{good}\n{text}\n")).expect_err(text);
            assert_eq!(errors.len(), 1);
            let shown = errors[0].to_string();
            assert!(shown.starts_with("list.txt:4: "), "{shown}");
            assert!(shown.contains(message), "{shown}");
        }
        let many = "case:{1,2,3,4,5,6,7}{1,2,3,4,5,6,7}{1,2,3,4,5,6,7} | kvm | * | accepts | w | source | 2026-11-22";
        let errors = Expected::parse("list.txt", &format!("{many}\n{many}")).expect_err("too many");
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 2]);
        assert!(errors[0].message.contains("more than 256 patterns"));
    }
}
