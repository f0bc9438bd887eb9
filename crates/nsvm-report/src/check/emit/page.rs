//! A finding as a page of HTML, for people who would rather look than read.
//!
//! It loads nothing and has no script. All that comes from the input is escaped.

use crate::check::case::Case;
use crate::check::prediction::Asked;
use crate::check::stack::Stack;
use crate::explain;
use crate::html::Escaped;
use crate::record::{Decision, Field, Finding, MANUAL, Mark, REVISION, Report};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use vmcb::layout::{Page as Which, SAVE_AREA, field_at};
use vmcb::{KnownPage, Rule};

const STYLE: &str = include_str!("page.css");

/// Bytes of a cell and of a row of the grid.
const CELL: u16 = 8;
const ROW: u16 = 64;

/// The parts of the page that fields stand in: title, first byte, end.
const AREAS: [(&str, u16, u16); 2] =
    [("control area", 0, 0x180), ("state save area", SAVE_AREA, SAVE_AREA + 0x300)];

/// The whole page.
pub(super) fn whole(sections: &str, written: u64, left_out: u64) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>nsvm check</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>Why VMRUN refuses</h1>\n\
         <p>{written} VMCB{} judged by the rules of {MANUAL}, revision {REVISION}, with nsvm {}.</p>\n{sections}",
        if written == 1 { "" } else { "s" },
        env!("CARGO_PKG_VERSION"),
    );
    if left_out > 0 {
        let _ = writeln!(page, "<p>{left_out} more VMCBs are left out.</p>");
    }
    page.push_str("</body></html>\n");
    page
}

/// One VMCB.
pub(super) fn section(case: &Case<'_>, report: &Report, everyone: &[Stack], out: &mut String) {
    let verdict = &report.verdict;
    let class = match verdict.decision {
        Decision::Accepted => "accepted",
        Decision::Refused => "refused",
        Decision::Undecided => "undecided",
    };
    let (place, text) = (verdict.place.to_string(), &verdict.text);
    let _ = writeln!(
        out,
        "<section>\n<h2>{}</h2>\n<p class=\"{class}\">{}</p>\n<p><small>CPU: {}</small></p>",
        Escaped(&place),
        Escaped(text),
        Escaped(&verdict.cpu)
    );
    for finding in &report.findings {
        self::finding(case, finding, out);
    }
    for note in &report.notes {
        let _ = writeln!(out, "<p>Note: {}.</p>", Escaped(&note.text));
    }
    for remark in &report.remarks {
        let _ = writeln!(
            out,
            "<p>Of the input, {}: {}.</p>",
            Escaped(&remark.place.to_string()),
            Escaped(&remark.text)
        );
    }
    if case.shows_a_vmcb() {
        grids(case, &report.findings, out);
        peers(case, everyone, out);
    }
    out.push_str("</section>\n");
}

fn finding(case: &Case<'_>, finding: &Finding, out: &mut String) {
    let ids = finding.candidates.join(" | ");
    let _ = writeln!(out, "<h3><code>{}</code> {}</h3>", Escaped(&ids), Escaped(&finding.title));
    lines(case, finding, out);
    if finding.fields.iter().any(|field| !field.value.is_empty()) {
        out.push_str(
            "<div class=\"scroll\"><table><tr><th>field</th><th>at</th><th>value</th><th></th></tr>\n",
        );
        for field in finding.fields.iter().filter(|field| !field.value.is_empty()) {
            let class = if field.primary { "bad" } else { "" };
            let _ = writeln!(
                out,
                "<tr><td class=\"{class}\">{}</td><td>{} {}</td><td><code>{}</code></td><td>{}</td></tr>",
                Escaped(&field.name),
                field.page,
                Escaped(field.offset.as_deref().unwrap_or_default()),
                Escaped(&field.value),
                Escaped(&field.decoded)
            );
        }
        out.push_str("</table></div>\n");
    }
    for text in finding.cpu.iter().chain(&finding.notes) {
        let _ = writeln!(out, "<p>{}</p>", Escaped(text));
    }
    if let Some(help) = finding.help {
        let _ = writeln!(out, "<p><b>To mend it:</b> {}</p>", Escaped(help));
    }
    if let Some(section) = finding.section {
        let section = explain::section(section);
        let _ = writeln!(out, "<p><small>{MANUAL}, {}, revision {REVISION}</small></p>", Escaped(&section));
    }
    for rule in finding.candidates.iter().filter_map(|id| Rule::from_id(id)) {
        let page = explain::rule_page(rule);
        let _ = writeln!(
            out,
            "<details><summary>The rule <code>{}</code></summary>{}</details>",
            rule.id(),
            preformatted(page.lines())
        );
    }
}

fn preformatted<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut text = "<pre>".to_owned();
    for line in lines {
        let _ = writeln!(text, "{}", Escaped(line));
    }
    text + "</pre>"
}

/// The lines of the input with what the finding is about marked.
fn lines(case: &Case<'_>, finding: &Finding, out: &mut String) {
    let mut marked: BTreeMap<u64, Vec<(Range<usize>, bool)>> = BTreeMap::new();
    for field in &finding.fields {
        if let Some(Mark::Text { line, columns, .. }) = &field.mark {
            marked.entry(*line).or_default().push((columns.clone(), field.primary));
        }
    }
    if marked.is_empty() {
        return;
    }
    out.push_str("<pre>");
    for (number, mut marks) in marked {
        let Some(line) = case.found.line(number) else { continue };
        marks.sort_by_key(|(columns, _)| columns.start);
        let _ = write!(out, "<span>{number:>5} </span>");
        let mut done = 0;
        for (columns, primary) in marks {
            let (Some(before), Some(text)) = (line.get(done..columns.start), line.get(columns.clone()))
            else {
                continue;
            };
            let class = if primary { " class=\"bad\"" } else { "" };
            let _ = write!(out, "{}<mark{class}>{}</mark>", Escaped(before), Escaped(text));
            done = columns.end;
        }
        let _ = writeln!(out, "{}", Escaped(line.get(done..).unwrap_or_default()));
    }
    out.push_str("</pre>\n");
}

/// The VMCB, and the VMSA where it counts, a cell each 8 bytes.
fn grids(case: &Case<'_>, findings: &[Finding], out: &mut String) {
    let fields: Vec<&Field> = findings.iter().flat_map(|finding| &finding.fields).collect();
    out.push_str(
        "<h3>What is known of it</h3>\n<p><small>A cell is 8 bytes. Blue: known; grey: in part; empty: not shown. Red: what is \
         refused; yellow: what the rule reads besides.</small></p>\n",
    );
    for (title, start, end) in AREAS {
        grid(&case.found.vmcb, Which::Vmcb, title, start..end, &fields, out);
    }
    if let Some(vmsa) = case.vmsa {
        grid(vmsa, Which::Vmsa, "VMSA", 0..0x400, &fields, out);
    }
}

fn grid(page: &KnownPage, which: Which, title: &str, range: Range<u16>, fields: &[&Field], out: &mut String) {
    let _ = writeln!(out, "<div class=\"scroll\"><table class=\"grid\"><caption>{title}</caption>");
    let name = match which {
        Which::Vmcb => "vmcb",
        Which::Vmsa => "vmsa",
    };
    let offset = |field: &Field| u16::from_str_radix(field.offset.as_deref()?.strip_prefix("0x")?, 16).ok();
    for row in range.clone().step_by(ROW.into()) {
        let _ = write!(out, "<tr><th>{row:03X}h</th>");
        for at in (row..(row + ROW).min(range.end)).step_by(CELL.into()) {
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
            let _ = write!(
                out,
                "<td class=\"{class}\" title=\"{at:03X}h {}: {value}\">{}</td>",
                Escaped(&names.join(", ")),
                Escaped(label)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

/// Who would do what.
fn peers(case: &Case<'_>, everyone: &[Stack], out: &mut String) {
    out.push_str("<h3>Who would do what</h3>\n<div class=\"scroll\"><table>\n");
    let mut assumed = String::new();
    for predicted in everyone.iter().map(|stack| case.predicted(&Asked::new(stack))) {
        let _ = writeln!(
            out,
            "<tr><th>{}</th><td class=\"{}\">{}</td><td>{}</td></tr>",
            Escaped(&predicted.title),
            predicted.answer,
            Escaped(&predicted.text),
            Escaped(&predicted.known_from())
        );
        assumed = predicted.assumed.join(", ");
    }
    out.push_str("</table></div>\n");
    if !assumed.is_empty() {
        let _ = writeln!(out, "<p><small>Assumed: {}.</small></p>", Escaped(&assumed));
    }
}
