//! The table for a terminal, as Markdown and as a page.

use crate::sample;
use nsvm_lab::report::{Agreement, CaseReport, Expected, Report, Row};
use nsvm_lab::results::Head;
use std::collections::BTreeSet;

/// A subject with these cases: id, rules, what the rulebook says, what was seen, how they compare, the reason.
type Case = (&'static str, &'static [&'static str], Expected, &'static str, Agreement, Option<&'static str>);

fn row(subject: &str, version: &str, cases: &[Case]) -> Row {
    let case = |&(id, rules, expected, token, agreement, reason): &Case| CaseReport {
        id: id.to_owned(),
        rules: rules.to_vec(),
        expected,
        outcome: token.parse().expect(token),
        agreement,
        reason: reason.map(str::to_owned),
        prediction: None,
        layer: None,
    };
    let head = Head {
        subject: subject.to_owned(),
        version: version.to_owned(),
        cpu: "max".to_owned(),
        date: "2026-11-22".to_owned(),
        set: "commit".to_owned(),
        cases: cases.len() + 1,
        ..Head::default()
    };
    Row { head, cases: cases.iter().map(case).collect() }
}

const INVALID: Expected = Expected::Refuse(vmcb::Outcome::Invalid);

fn small() -> Report {
    use Agreement::{Agrees, Broken, Differs, NotComparable, Skipped};
    Report::new(vec![
        row(
            "qemu-tcg",
            "7.2.22",
            &[
                ("legal.a", &[], Expected::Accept, "ran", Agrees, None),
                ("x#1", &["sav-cr4-mbz", "ctl-asid-zero"], INVALID, "ran", Differs, Some("it does not look")),
                ("x#2", &["ctl-asid-zero"], INVALID, "took", Differs, Some("it does not look")),
                ("x#3", &["ctl-asid-zero"], INVALID, "invalid", Agrees, None),
                ("x#4", &["zz-not-in-the-rulebook"], Expected::Undecided, "ran", NotComparable, None),
                ("sev#0", &["sev-without-np"], INVALID, "skipped needs a VMSA", Skipped, None),
            ],
        ),
        row(
            "kvm",
            "6.12.48+deb13",
            &[
                ("legal.a", &[], Expected::Accept, "killed at `x|y`", Broken, None),
                ("x#1", &["sav-cr4-mbz", "ctl-asid-zero"], INVALID, "hung", Broken, None),
                ("x#2", &["ctl-asid-zero"], INVALID, "invalid", Agrees, None),
                ("eventinj.long64#161e", &["evt-exc-vector-reserved"], INVALID, "took", Differs, None),
            ],
        ),
    ])
}

#[test]
fn the_table_counts_rules_by_subjects() {
    let report = small();
    let text = report.terminal(false, 100);
    let table = text.split("Not measured").next().expect("the table comes first");
    assert_eq!(
        table.trim_start(),
        "\
qemu-tcg [2]
rule                     cases 7.2.22
(legal)                      1 = 1      ! 1
ctl-asid-zero                3 ≠ 2      = 1 !
sav-cr4-mbz                  1 ≠ 1      ! 1
evt-exc-vector-reserved      1 ·        ≠ 1
sev-without-np               1 - 1      ·
zz-not-in-the-rulebook       1 ~ 1      ·

differ                       ≠ 2        1
broken                       ! 0        2
agree                        = 2        1
not comparable               ~ 1        0
skipped                      - 1        0
missing                        1        1

qemu-tcg 7.2.22; CPU max; set commit; 2026-11-22
[2] kvm 6.12.48+deb13; CPU max; set commit; 2026-11-22

≠ another answer than the rulebook's; ! the machine died or hung; = the rulebook's answer; ~ run,
but nothing to compare with; - not run. · no case.
A cell shows the number of differing cases, else of agreeing ones; ! behind it: others broke. A case
that breaks several rules counts for each.

"
    );
    // All rules but the three that were exercised; one says why it was not.
    assert_eq!(report.unmeasured().len(), vmcb::Rule::ALL.len() - 3);
    assert!(text.contains("\n  needs a VMSA: sev-without-np\n"), "{text}");
    assert!(text.contains("\n  no case: pre-svme-off, pre-not-protected,"), "{text}");
    let counts = report.counts(Some("ctl-asid-zero"), 1);
    assert_eq!((counts.of(Agreement::Broken), counts.compared(), counts.total()), (1, 1, 2));
    assert_eq!(
        (report.totals(1).total(), report.totals(2).total(), report.counts(Some("a"), 0).total()),
        (4, 0, 0)
    );
}

/// What a terminal shows: without the escape sequences.
fn stripped(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').expect("colours end in m").1);
    }
    plain
}

#[test]
fn a_terminal_of_100_columns_shows_six_subjects_in_one_table() {
    for (subjects, tables) in [(1, 1), (6, 1), (9, 2), (13, 3)] {
        let mut rows = sample::rows(6, 2);
        rows.extend(sample::rows(6, 2));
        rows.extend(sample::rows(1, 2));
        rows.truncate(subjects);
        let report = Report::new(rows);
        let text = report.terminal(false, 100);
        for line in text.lines() {
            assert!(line.chars().count() <= 100 && !line.ends_with(' '), "{line}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("rule ")).count(), tables);
        // Subjects that are called the same have numbers.
        assert_eq!(text.contains("[1]"), subjects > 6);
        let colours = report.terminal(true, 100);
        assert!(colours.contains("\u{1b}[31m≠") || colours.contains("\u{1b}[1m\u{1b}[31m≠"), "{colours}");
        assert_eq!(stripped(&colours), text);
        assert!(!text.contains('\u{1b}'));
    }
}

#[test]
fn markdown_lists_the_differences_by_reason() {
    let text = small().markdown();
    assert!(
        text.contains(
            "\
## Differences

### No reason known

- `evt-exc-vector-reserved`: expected VMEXIT\\_INVALID, accepted: `took`
  - kvm 6.12.48+deb13: 1 case
  - TYPE 3 EV 0 only: vector 15
  - `eventinj.long64#161e`

### it does not look

- `ctl-asid-zero`: expected VMEXIT\\_INVALID, accepted: `took`
  - qemu-tcg 7.2.22: 1 case
  - `x#2`
- `ctl-asid-zero`, `sav-cr4-mbz`: expected VMEXIT\\_INVALID, accepted: `ran`
  - qemu-tcg 7.2.22: 1 case
  - `x#1`

## Broken

### No reason known

- legal: expected accepted, broken: `` killed at `x|y` ``
  - kvm 6.12.48+deb13: 1 case
  - `legal.a`
"
        ),
        "{text}"
    );
    assert!(
        text.contains("| rule | cases | qemu-tcg 7.2.22 | kvm 6.12.48+deb13 |\n| --- | ---: | --- | --- |\n"),
        "{text}"
    );
    assert!(text.contains("| ctl-asid-zero | 3 | ≠ 2 | = 1 ! |\n"), "{text}");
    assert!(text.contains("- needs a VMSA: `sev-without-np`\n"), "{text}");
}

/// What stands in quotes behind each of these.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    page.split(name).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_link_of_the_page_leads_somewhere() {
    let page = Report::new(sample::rows(6, 9)).html();
    let ids = attributes(&page, " id=\"");
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "an id is there twice");
    let links = attributes(&page, "href=\"#");
    assert!(links.len() > 400, "{}", links.len());
    for link in links {
        assert!(unique.contains(&link), "{link}");
    }
    // Each cell that counts something is a link.
    let table = page.split("<table class=\"grid\">").nth(1).and_then(|rest| rest.split("</table>").next());
    let cells: Vec<_> = table.expect("there is one").split("<td data-s=").skip(1).collect();
    assert_eq!(cells.len() % 6, 0);
    assert!(cells.iter().all(|cell| cell.contains("\">·</td>") || cell.contains("<a href=\"#")));
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = Report::new(sample::rows(2, 2)).html();
    for outside in ["http:", "https:", "url(", "@import", "<link rel=\"style", "src=", "fetch(", "//"] {
        // The script's comments begin like an address without its scheme.
        let page = page.replace("    // ", "");
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<caption").count(), page.matches("<table").count());
    assert_eq!(page.matches("<th>").count(), 0, "headings have their scope");
    assert_eq!(page.matches("<rect x=").count(), 2 * 2048 + 5, "cells and the legend's");
}

#[test]
fn nothing_in_results_becomes_markup() {
    let hostile = "</script><b onclick='x'>\"&";
    let mut rows = sample::rows(2, 2);
    for row in &mut rows {
        let head = &mut row.head;
        for text in [&mut head.subject, &mut head.version, &mut head.cpu, &mut head.date, &mut head.set] {
            *text = hostile.to_owned();
        }
        head.below = Some(hostile.to_owned());
        head.notes = vec![hostile.to_owned()];
        for case in row.cases.iter_mut().step_by(7) {
            case.id = format!("{hostile}.{}", case.id);
            case.reason = Some(hostile.to_owned());
            case.layer = Some(hostile.to_owned());
            case.rules.push("a\"><b>");
            case.agreement = Agreement::Differs;
            case.outcome.seen = nsvm_lab::outcome::Seen::Killed(hostile.to_owned());
        }
        for case in row.cases.iter_mut().skip(1).step_by(7) {
            case.outcome.seen = nsvm_lab::outcome::Seen::Skipped(hostile.to_owned());
        }
    }
    let report = Report::new(rows);
    let page = report.html();
    assert_eq!(page.matches("</script>").count(), 1);
    assert_eq!(page.matches("<b>").count(), page.matches("<figcaption><b>").count());
    assert!(!page.contains("<b onclick") && !page.contains("\"&\""));
    assert!(
        !report
            .markdown()
            .lines()
            .any(|line| line.contains("<b") && !line.contains("\\<b") && !line.contains('`'))
    );
}

/// Six subjects with 12,000 cases each.
#[test]
fn a_page_for_six_subjects_is_below_three_megabytes() {
    let rows = sample::rows(6, 52);
    assert!(rows.iter().map(|row| row.cases.len()).sum::<usize>() > 6 * 11_900);
    let size = Report::new(rows).html().len();
    assert!(size < 3_000_000, "{size}");
}

#[test]
fn a_report_of_nothing_is_a_report() {
    let report = Report::new(Vec::new());
    assert!(report.html().contains("No case of this set injects an event."));
    assert!(report.terminal(false, 100).contains("no case") && report.markdown().contains("None."));
    let report = Report::new(vec![row("a", "1", &[])]);
    assert!(report.html().ends_with("</html>\n"));
}
