//! The report as one page of HTML. It shows everything without its script. The script filters, and reads the planes
//! out.

mod cases;
mod html;
mod picture;
mod planes;

use self::html::{anchor, class, ids};
use super::agreement::{Agreement, Counts};
use super::table::{Finding, LEGAL, Line, Report};
use super::words::{cases, prediction};
use maud::{Markup, PreEscaped, html};
use std::collections::BTreeSet;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl Report {
    /// Returns one page of HTML that needs no other file.
    #[must_use]
    pub fn html(&self) -> String {
        let page = html! {
            (PreEscaped("<!DOCTYPE html>\n"))
            html lang="en" {
                "\n"
                (head())
                "\n"
                body {
                    "\n"
                    a class="skip" href="#rules" { "To the table" }
                    (header(self))
                    "\n"
                    main {
                        "\n"
                        (subjects(self))
                        (table(self))
                        (findings(self, Agreement::Differs, "differences", "Differences"))
                        (findings(self, Agreement::Broken, "broken", "Broken"))
                        (picture::planes(self))
                        (unmeasured(self))
                        (cases::cases(self))
                    }
                    "\n"
                    script { (PreEscaped(SCRIPT)) } "\n"
                }
                "\n"
            }
            "\n"
        };
        // Control characters of the results are invalid in HTML.
        page.into_string().replace(|c: char| c.is_control() && c != '\n', " ")
    }
}

fn head() -> Markup {
    html! {
        head {
            "\n"
            meta charset="utf-8"; "\n"
            meta name="viewport" content="width=device-width, initial-scale=1"; "\n"
            meta name="color-scheme" content="light dark"; "\n"
            title { "Who differs from the rulebook of VMRUN" } "\n"
            link rel="icon" href="data:,"; "\n"
            style { (PreEscaped(STYLE)) } "\n"
        }
    }
}

fn header(report: &Report) -> Markup {
    let rows = &report.rows;
    let dates: BTreeSet<&str> = rows.iter().map(|row| row.head.date.as_str()).collect();
    let dates = match (dates.first(), dates.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(only), _) => (*only).to_owned(),
        _ => String::new(),
    };
    let most = rows.iter().map(|row| row.cases.len()).max().unwrap_or_default();
    let differing = report.totals.iter().filter(|total| total.of(Agreement::Differs) > 0).count();
    let differing = match differing {
        0 => "None of them".to_owned(),
        _ if differing == rows.len() && differing > 1 => "All of them".to_owned(),
        1 => "One of them".to_owned(),
        more => format!("{more} of them"),
    };
    html! {
        "\n"
        header {
            "\n"
            h1 { "Who differs from the rulebook of VMRUN" } "\n"
            p {
                "The same VMCBs, up to " (most) " of them, were given to VMRUN on "
                @if rows.len() == 1 { "one subject" } @else { (rows.len()) " subjects" }
                ". " (differing) " answered otherwise than the rulebook somewhere. " span class="date" { (dates) }
            }
            "\n"
            nav aria-label="Sections" {
                a href="#rules" { "Rules" } " "
                a href="#differences" { "Differences" } " "
                a href="#broken" { "Broken" } " "
                a href="#eventinj" { "EVENTINJ" } " "
                a href="#unmeasured" { "Not measured" } " "
                a href="#cases" { "Cases" }
            }
            "\n"
        }
    }
}

fn subjects(report: &Report) -> Markup {
    html! {
        section id="subjects" {
            "\n"
            h2 { "Subjects" } "\n"
            div class="scroll" tabindex="0" role="region" aria-label="Subjects" {
                table class="plain" {
                    "\n"
                    caption { "Each subject and its cases, each case counted once" } "\n"
                    thead {
                        tr {
                            th scope="col" { "subject" }
                            th scope="col" class="on" { "ran on" }
                            th scope="col" { "CPU" }
                            th scope="col" { "set" }
                            th scope="col" { "date" }
                            @for agreement in Agreement::ALL {
                                th scope="col" class="n" {
                                    i aria-hidden="true" { (agreement.sign()) } " " (agreement.words())
                                }
                            }
                            th scope="col" class="n" { "missing" }
                        }
                    }
                    "\n"
                    tbody {
                        "\n"
                        @for subject in 0..report.rows.len() { (subject_row(report, subject)) }
                    }
                    "\n"
                }
            }
            "\n"
            @for row in report.rows.iter().filter(|row| !row.head.notes.is_empty()) {
                p class="small" { (row.head.label()) ": " (row.head.notes.join("; ")) } "\n"
            }
        }
        "\n"
    }
}

fn subject_row(report: &Report, subject: usize) -> Markup {
    let head = &report.rows[subject].head;
    let missing = report.missing(subject);
    html! {
        tr {
            th scope="row" { (head.subject) " " (head.version) }
            td { (head.below.as_deref().unwrap_or("–")) }
            td { (head.cpu) }
            td { (head.set) @if let Some(shard) = &head.shard { ", shard " (shard) } }
            td class="date" { (head.date) }
            @for agreement in Agreement::ALL {
                @let count = report.totals[subject].of(agreement);
                td class={ "n " (if count == 0 { "none" } else { class(agreement) }) } { (count) }
            }
            td class={ "n " (if missing == 0 { "none" } else { "broken" }) } { (missing) }
        }
        "\n"
    }
}

fn table(report: &Report) -> Markup {
    html! {
        section id="rules" {
            "\n"
            h2 { "Rules by subjects" } "\n"
            ul class="legend" {
                "\n"
                @for agreement in Agreement::ALL {
                    li { b class=(class(agreement)) { (agreement.sign()) } " " (agreement.meaning()) } "\n"
                    @if agreement == Agreement::Differs {
                        li { b class="every" { (agreement.sign()) } " in all cases" } "\n"
                    }
                }
                li { b class="none" { "·" } " no case" } "\n"
            }
            "\n"
            p class="small" {
                "A case that breaks several rules counts for each. A cell leads to its cases."
            }
            "\n"
            (filter(report))
            "\n"
            div class="scroll tall" tabindex="0" role="region" aria-label="Rules by subjects" {
                table class="grid" {
                    "\n"
                    caption { "Cases by rule and subject" } "\n"
                    thead {
                        tr {
                            th scope="col" { "rule" }
                            th scope="col" class="n" { "cases" }
                            @for (subject, row) in report.rows.iter().enumerate() {
                                th scope="col" data-s=(subject) {
                                    (row.head.subject) br; small { (row.head.version) }
                                    @if let Some(below) = &row.head.below { br; small { "on " (below) } }
                                }
                            }
                        }
                    }
                    "\n"
                    tbody {
                        "\n"
                        @for (index, line) in report.lines.iter().enumerate() {
                            tr {
                                th scope="row" { (link(index, line, line.name())) }
                                td class="n" { (line.cases()) }
                                @for (subject, counts) in line.counts.iter().enumerate() {
                                    (cell(subject, counts, &anchor(index, line, Some(subject))))
                                }
                            }
                            "\n"
                        }
                    }
                    "\n"
                }
            }
            "\n"
        }
        "\n"
    }
}

fn filter(report: &Report) -> Markup {
    html! {
        form id="filter" hidden {
            "\n"
            fieldset {
                legend { "Show rules" } "\n"
                label {
                    "with "
                    select name="rows" {
                        option value="" { "any outcome" }
                        option value="differs" { "differences" }
                        option value="broken" { "broken cases" }
                    }
                }
                "\n"
                label { "named " input name="text" type="search" size="16" placeholder="sav-cr0"; } "\n"
                output name="shown" {}
            }
            "\n"
            fieldset {
                legend { "Subjects" } "\n"
                @for (subject, row) in report.rows.iter().enumerate() {
                    label {
                        input type="checkbox" name="subject" value=(subject) checked; " " (row.head.label())
                    }
                    "\n"
                }
            }
            "\n"
        }
    }
}

/// A link to the cases of a line.
fn link(index: usize, line: &Line, text: &str) -> Markup {
    html! { a href={ "#" (anchor(index, line, None)) } { (text) } }
}

fn cell(subject: usize, counts: &Counts, anchor: &str) -> Markup {
    let Some(main) = counts.main() else {
        return html! { td data-s=(subject) class="none" { "·" } };
    };
    let all = || Agreement::ALL.into_iter().filter(|&agreement| counts.of(agreement) > 0);
    let others = all().filter(|&agreement| {
        agreement != main && !(agreement == Agreement::Agrees && main == Agreement::Differs)
    });
    // Classes of all kinds, for the filter; the color is that of the sign.
    let mut classes = class(main).to_owned();
    all().for_each(|agreement| classes.extend([" has-", class(agreement)]));
    // Not one compared case as the rulebook says: it seems not to be checked at all.
    if main == Agreement::Differs && counts.of(Agreement::Agrees) == 0 {
        classes.push_str(" every");
    }
    html! {
        td data-s=(subject) class=(classes) {
            a href={ "#" (anchor) } {
                i aria-hidden="true" { (main.sign()) } "\u{a0}" (counts.of(main))
                @if main == Agreement::Differs { small { "\u{a0}of\u{a0}" (counts.compared()) } }
                span class="hear" { " " (main.words()) }
                @for agreement in others {
                    " "
                    small class="also" {
                        i aria-hidden="true" { (agreement.sign()) }
                        (counts.of(agreement))
                        span class="hear" { " " (agreement.words()) }
                    }
                }
            }
        }
    }
}

fn findings(report: &Report, agreement: Agreement, id: &str, title: &str) -> Markup {
    let findings = report.findings(agreement);
    html! {
        section id=(id) {
            "\n"
            h2 { (title) } "\n"
            @if findings.is_empty() { p { "None." } "\n" }
            @for group in findings.chunk_by(|one, two| one.reason == two.reason) {
                @let total: usize = group.iter().map(|finding| finding.cases * finding.subjects.len()).sum();
                @let reason = group[0].reason.as_deref().unwrap_or("No reason known");
                h3 { (reason) " " small { (cases(total)) } } "\n"
                div class="scroll" tabindex="0" role="region" aria-label=(reason) {
                    table class="plain wide found" {
                        "\n"
                        caption class="hear" { (title) ": " (reason) } "\n"
                        thead {
                            tr {
                                th scope="col" { "subjects" }
                                th scope="col" { "rules" }
                                th scope="col" { "expected" }
                                th scope="col" { "seen" }
                                th scope="col" class="n" { "cases" }
                                th scope="col" { "which" }
                            }
                        }
                        "\n"
                        tbody {
                            "\n"
                            @for finding in group { (found(report, finding)) }
                        }
                        "\n"
                    }
                }
                "\n"
            }
        }
        "\n"
    }
}

fn found(report: &Report, finding: &Finding) -> Markup {
    let line = |rule: &str| report.lines.iter().enumerate().find(|(_, line)| line.rule == Some(rule));
    html! {
        tr {
            td { ul { @for &subject in &finding.subjects { li { (report.rows[subject].head.label()) } } } }
            td {
                ul {
                    @for rule in &finding.rules {
                        li { @if let Some((index, line)) = line(rule) { (link(index, line, rule)) } @else { (rule) } }
                    }
                    @if finding.rules.is_empty() { li { (LEGAL) } }
                }
            }
            td { (finding.expected) }
            td {
                (finding.answer)
                ul {
                    @for (outcome, count) in &finding.outcomes {
                        li {
                            code { (outcome) }
                            @if finding.outcomes.len() > 1 { " " small { "×" (count) } }
                        }
                    }
                }
                @if let Some(layer) = &finding.layer { small { "answered by " (layer) } br; }
                @if finding.prediction.is_some() {
                    small { (prediction(finding.prediction).trim_start_matches(", ")) }
                }
            }
            td class="n" { (finding.cases) }
            td { (ids(&finding.ids, &finding.events)) }
        }
        "\n"
    }
}

fn unmeasured(report: &Report) -> Markup {
    html! {
        section id="unmeasured" {
            "\n"
            h2 { "Rules not measured on any subject" } "\n"
            @if report.part {
                p { "Not listed: only a part of a set was run." } "\n"
            } @else if report.unmeasured.is_empty() {
                p { "None." } "\n"
            } @else {
                dl {
                    "\n"
                    @for (why, rules) in report.unmeasured_by_reason() {
                        dt { (why) }
                        dd {
                            @for (index, rule) in rules.iter().enumerate() {
                                @if index > 0 { ", " }
                                code { (rule) }
                            }
                        }
                        "\n"
                    }
                }
                "\n"
            }
        }
        "\n"
    }
}
