//! A finding as a page of HTML, for people who would rather look than read.
//!
//! It loads nothing and has no script. All that comes from the input is escaped.

use crate::check::case::Case;
use crate::check::prediction::Asked;
use crate::check::stack::Stack;
use crate::explain;
use crate::record::{Decision, Field, Finding, MANUAL, Mark, REVISION, Report};
use maud::{Markup, PreEscaped, html};
use std::collections::BTreeMap;
use std::ops::Range;
use vmcb::layout::{Page as Which, SAVE_AREA, field_at};
use vmcb::{KnownPage, Rule};

const STYLE: &str = include_str!("page.css");

/// Bytes of a cell and of a row of the grid.
const CELL: u16 = 8;
const ROW: u16 = 64;

/// The parts of the page that contain fields: title, first byte, end.
const AREAS: [(&str, u16, u16); 2] =
    [("control area", 0, 0x180), ("state save area", SAVE_AREA, SAVE_AREA + 0x300)];

/// The whole page.
pub(super) fn whole(sections: &str, written: u64, left_out: u64) -> String {
    let page = html! {
        (PreEscaped("<!doctype html>\n"))
        html lang="en" {
            head {
                meta charset="utf-8"; "\n"
                meta name="viewport" content="width=device-width, initial-scale=1"; "\n"
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"; "\n"
                title { "nsvm check" } "\n"
                style { "\n" (PreEscaped(STYLE)) }
            }
            "\n"
            body {
                "\n"
                h1 { "Why VMRUN refuses" } "\n"
                p {
                    (written) " VMCB" @if written != 1 { "s" } " judged by the rules of " (MANUAL) ", revision "
                    (REVISION) ", with nsvm " (env!("CARGO_PKG_VERSION")) "."
                }
                "\n"
                (PreEscaped(sections))
                @if left_out > 0 {
                    p { (left_out) " more VMCBs are left out." } "\n"
                }
            }
        }
        "\n"
    };
    // Control characters of the input are invalid in HTML.
    page.into_string().replace(|c: char| c.is_control() && c != '\n', " ")
}

/// One VMCB.
pub(super) fn section(case: &Case<'_>, report: &Report, everyone: &[Stack]) -> Markup {
    let verdict = &report.verdict;
    let class = match verdict.decision {
        Decision::Accepted => "accepted",
        Decision::Refused => "refused",
        Decision::Undecided => "undecided",
    };
    html! {
        section {
            "\n"
            h2 { (verdict.place) } "\n"
            p class=(class) { (verdict.text) } "\n"
            p { small { "CPU: " (verdict.cpu) } } "\n"
            @for finding in &report.findings {
                (self::finding(case, finding))
            }
            @for note in &report.notes {
                p { "Note: " (note.text) "." } "\n"
            }
            @for remark in &report.remarks {
                p { "Of the input, " (remark.place) ": " (remark.text) "." } "\n"
            }
            @if case.shows_a_vmcb() {
                (grids(case, &report.findings))
                (peers(case, everyone))
            }
        }
        "\n"
    }
}

fn finding(case: &Case<'_>, finding: &Finding) -> Markup {
    html! {
        h3 { code { (finding.candidates.join(" | ")) } " " (finding.title) } "\n"
        (lines(case, finding))
        @if finding.fields.iter().any(|field| !field.value.is_empty()) {
            div class="scroll" {
                table {
                    tr { th { "field" } th { "at" } th { "value" } th {} } "\n"
                    @for field in finding.fields.iter().filter(|field| !field.value.is_empty()) {
                        tr {
                            td class=(if field.primary { "bad" } else { "" }) { (field.name) }
                            td { (field.page) " " (field.offset.as_deref().unwrap_or_default()) }
                            td { code { (field.value) } }
                            td { (field.decoded) }
                        }
                        "\n"
                    }
                }
            }
            "\n"
        }
        @for text in finding.cpu.iter().chain(&finding.notes) {
            p { (text) } "\n"
        }
        @if let Some(help) = finding.help {
            p { b { "To mend it:" } " " (help) } "\n"
        }
        @if let Some(section) = finding.section {
            p { small { (MANUAL) ", " (explain::section(section)) ", revision " (REVISION) } } "\n"
        }
        @for rule in finding.candidates.iter().filter_map(|id| Rule::from_id(id)) {
            details {
                summary { "The rule " code { (rule.id()) } }
                pre { @for line in explain::rule_page(rule).lines() { (line) "\n" } }
            }
            "\n"
        }
    }
}

/// The lines of the input with what the finding is about marked.
fn lines(case: &Case<'_>, finding: &Finding) -> Markup {
    let mut marked: BTreeMap<u64, Vec<(Range<usize>, bool)>> = BTreeMap::new();
    for field in &finding.fields {
        if let Some(Mark::Text { line, columns, .. }) = &field.mark {
            marked.entry(*line).or_default().push((columns.clone(), field.primary));
        }
    }
    marked.values_mut().for_each(|marks| marks.sort_by_key(|(columns, _)| columns.start));
    html! {
        @if !marked.is_empty() {
            pre {
                @for (number, marks) in &marked {
                    @if let Some(line) = case.found.line(*number) {
                        span { (format!("{number:>5} ")) }
                        (marked_line(line, marks)) "\n"
                    }
                }
            }
            "\n"
        }
    }
}

fn marked_line(line: &str, marks: &[(Range<usize>, bool)]) -> Markup {
    let mut done = 0;
    let mut parts = Vec::new();
    for (columns, primary) in marks {
        if let (Some(before), Some(text)) = (line.get(done..columns.start), line.get(columns.clone())) {
            parts.push((before, text, primary.then_some("bad")));
            done = columns.end;
        }
    }
    html! {
        @for (before, text, class) in parts { (before) mark class=[class] { (text) } }
        (line.get(done..).unwrap_or_default())
    }
}

/// The VMCB, and the VMSA where it counts, a cell each 8 bytes.
fn grids(case: &Case<'_>, findings: &[Finding]) -> Markup {
    let fields: Vec<&Field> = findings.iter().flat_map(|finding| &finding.fields).collect();
    html! {
        h3 { "What is known of it" } "\n"
        p {
            small {
                "A cell is 8 bytes. Blue: known. Gray: in part. Empty: not shown. "
                "Red: what is refused. Yellow: what the rule reads besides."
            }
        }
        "\n"
        @for (title, start, end) in AREAS {
            (grid(&case.found.vmcb, Which::Vmcb, title, start..end, &fields))
        }
        @if let Some(vmsa) = case.vmsa {
            (grid(vmsa, Which::Vmsa, "VMSA", 0..0x400, &fields))
        }
    }
}

fn grid(page: &KnownPage, which: Which, title: &str, range: Range<u16>, fields: &[&Field]) -> Markup {
    html! {
        div class="scroll" {
            table class="grid" {
                caption { (title) } "\n"
                @for row in range.clone().step_by(ROW.into()) {
                    tr {
                        th { (format!("{row:03X}h")) }
                        @for at in (row..(row + ROW).min(range.end)).step_by(CELL.into()) {
                            (cell(page, which, at, fields))
                        }
                    }
                    "\n"
                }
            }
        }
        "\n"
    }
}

fn cell(page: &KnownPage, which: Which, at: u16, fields: &[&Field]) -> Markup {
    let name = match which {
        Which::Vmcb => "vmcb",
        Which::Vmsa => "vmsa",
    };
    let offset = |field: &Field| u16::from_str_radix(field.offset.as_deref()?.strip_prefix("0x")?, 16).ok();
    let here = fields.iter().filter(|field| {
        field.page == name && offset(field).is_some_and(|offset| (at..at + CELL).contains(&offset))
    });
    let bits = page.read(at, CELL);
    let class = match here.map(|field| field.primary).max() {
        Some(true) => "bad",
        Some(false) => "with",
        None if bits.unknown_mask() == 0 => "known",
        None if bits.known_mask() != 0 => "partly",
        None => "",
    };
    let mut names: Vec<&str> = Vec::new();
    for field in (at..at + CELL).filter_map(|byte| field_at(which, byte)) {
        if names.last() != Some(&field.name) {
            names.push(field.name);
        }
    }
    let label = names.iter().find(|name| **name != "reserved").copied().unwrap_or_default();
    let value = match bits.known_mask() {
        0 => "not shown".to_owned(),
        u64::MAX => format!("{:#018x}", bits.value()),
        mask => format!("{:#x}, of which {mask:#x} is known", bits.value()),
    };
    let title = format!("{at:03X}h {}: {value}", names.join(", "));
    html! { td class=(class) title=(title) { (label) } }
}

/// Who would do what.
fn peers(case: &Case<'_>, everyone: &[Stack]) -> Markup {
    let predicted: Vec<_> = everyone.iter().map(|stack| case.predicted(&Asked::new(stack))).collect();
    let assumed = predicted.last().map(|predicted| predicted.assumed.join(", ")).unwrap_or_default();
    html! {
        h3 { "Who would do what" } "\n"
        div class="scroll" {
            table {
                "\n"
                @for predicted in &predicted {
                    tr {
                        th { (predicted.title) }
                        td class=(predicted.answer) { (predicted.text) }
                        td { (predicted.known_from()) }
                    }
                    "\n"
                }
            }
        }
        "\n"
        @if !assumed.is_empty() {
            p { small { "Assumed: " (assumed) "." } } "\n"
        }
    }
}
