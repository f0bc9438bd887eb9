//! The report as one page of HTML. It says everything without its script; that filters, and reads the planes out.

use super::{Agreement, Counts, LEGAL, Line, Report, cases, prediction};
use crate::outcome::Answer;
use crate::results::{compress, event_of, events};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use vmcb::{EXCEPTIONS, EventType, Rule};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Text in HTML, in an element or in quotes: no markup, no control characters.
#[derive(Clone, Copy, Debug)]
pub struct Esc<'a>(pub &'a str);

impl fmt::Display for Esc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Class of an agreement in the style sheet.
const fn class(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Differs => "differs",
        Agreement::Broken => "broken",
        Agreement::Agrees => "agrees",
        Agreement::NotComparable => "uncompared",
        Agreement::Skipped => "skipped",
    }
}

pub(super) fn render(report: &Report) -> String {
    let mut page = Page { report, out: String::new() };
    page.head();
    page.subjects();
    page.table();
    page.findings(Agreement::Differs, "differences", "Differences");
    page.findings(Agreement::Broken, "broken", "Broken");
    page.planes();
    page.unmeasured();
    page.cases();
    let _ = write!(page.out, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    page.out
}

struct Page<'a> {
    report: &'a Report,
    out: String,
}

macro_rules! put {
    ($page:expr, $($what:tt)*) => { let _ = write!($page.out, $($what)*); };
}

impl Page<'_> {
    fn head(&mut self) {
        let rows = &self.report.rows;
        let dates: BTreeSet<&str> = rows.iter().map(|row| row.head.date.as_str()).collect();
        let dates = match (dates.first(), dates.last()) {
            (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
            (Some(only), _) => (*only).to_owned(),
            _ => String::new(),
        };
        let most = rows.iter().map(|row| row.cases.len()).max().unwrap_or_default();
        let differing = self.report.totals.iter().filter(|total| total.of(Agreement::Differs) > 0).count();
        let differing = match differing {
            0 => "None of them".to_owned(),
            _ if differing == rows.len() && differing > 1 => "All of them".to_owned(),
            1 => "One of them".to_owned(),
            more => format!("{more} of them"),
        };
        put!(
            self,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>Who differs from the rulebook of VMRUN</title>\n\
             <link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#rules\">To the table</a>\n<header>\n\
             <h1>Who differs from the rulebook of VMRUN</h1>\n\
             <p>The same VMCBs, up to {most} of them, were given to VMRUN on {}. {differing} answered \
             otherwise than the rulebook somewhere. <span class=\"date\">{}</span></p>\n\
             <nav aria-label=\"Sections\"><a href=\"#rules\">Rules</a> <a href=\"#differences\">Differences</a> \
             <a href=\"#broken\">Broken</a> <a href=\"#eventinj\">EVENTINJ</a> \
             <a href=\"#unmeasured\">Not measured</a> <a href=\"#cases\">Cases</a></nav>\n</header>\n<main>\n",
            if rows.len() == 1 { "one subject".to_owned() } else { format!("{} subjects", rows.len()) },
            Esc(&dates)
        );
    }

    fn subjects(&mut self) {
        put!(
            self,
            "<section id=\"subjects\">\n<h2>Subjects</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
             aria-label=\"Subjects\"><table class=\"plain\">\n<caption>Each subject and its cases, each case \
             counted once</caption>\n<thead><tr><th scope=\"col\">subject</th><th scope=\"col\" class=\"on\">ran on</th>\
             <th scope=\"col\">CPU</th><th scope=\"col\">set</th><th scope=\"col\">date</th>"
        );
        for agreement in Agreement::ALL {
            let (sign, words) = (agreement.sign(), agreement.words());
            put!(self, "<th scope=\"col\" class=\"n\"><i aria-hidden=\"true\">{sign}</i> {words}</th>");
        }
        put!(self, "<th scope=\"col\" class=\"n\">missing</th></tr></thead>\n<tbody>\n");
        for (subject, row) in self.report.rows.iter().enumerate() {
            let head = &row.head;
            put!(
                self,
                "<tr><th scope=\"row\">{} {}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"date\">{}</td>",
                Esc(&head.subject),
                Esc(&head.version),
                Esc(head.below.as_deref().unwrap_or("–")),
                Esc(&head.cpu),
                Esc(&match &head.shard {
                    Some(shard) => format!("{}, shard {shard}", head.set),
                    None => head.set.clone(),
                }),
                Esc(&head.date)
            );
            for agreement in Agreement::ALL {
                let count = self.report.totals[subject].of(agreement);
                let class = if count == 0 { "none" } else { class(agreement) };
                put!(self, "<td class=\"n {class}\">{count}</td>");
            }
            let missing = self.report.missing(subject);
            put!(
                self,
                "<td class=\"n {}\">{missing}</td></tr>\n",
                if missing == 0 { "none" } else { "broken" }
            );
        }
        put!(self, "</tbody>\n</table></div>\n");
        for row in self.report.rows.iter().filter(|row| !row.head.notes.is_empty()) {
            let notes = row.head.notes.join("; ");
            put!(self, "<p class=\"small\">{}: {}</p>\n", Esc(&row.head.label()), Esc(&notes));
        }
        put!(self, "</section>\n");
    }

    fn table(&mut self) {
        put!(self, "<section id=\"rules\">\n<h2>Rules by subjects</h2>\n<ul class=\"legend\">\n");
        for agreement in Agreement::ALL {
            let (sign, meaning) = (agreement.sign(), agreement.meaning());
            put!(self, "<li><b class=\"{}\">{sign}</b> {meaning}</li>\n", class(agreement));
            if agreement == Agreement::Differs {
                put!(self, "<li><b class=\"every\">{sign}</b> in all cases</li>\n");
            }
        }
        put!(
            self,
            "<li><b class=\"none\">·</b> no case</li>\n</ul>\n<p class=\"small\">A case that breaks several rules \
             counts for each. A cell leads to its cases.</p>\n<form id=\"filter\" hidden>\n<fieldset>\
             <legend>Show rules</legend>\n<label>with <select name=\"rows\"><option value=\"\">any outcome</option>\
             <option value=\"differs\">differences</option><option value=\"broken\">broken cases</option></select>\
             </label>\n<label>named <input name=\"text\" type=\"search\" size=\"16\" placeholder=\"sav-cr0\">\
             </label>\n<output name=\"shown\"></output></fieldset>\n<fieldset><legend>Subjects</legend>\n"
        );
        for (subject, row) in self.report.rows.iter().enumerate() {
            put!(
                self,
                "<label><input type=\"checkbox\" name=\"subject\" value=\"{subject}\" checked> {}</label>\n",
                Esc(&row.head.label())
            );
        }
        put!(
            self,
            "</fieldset>\n</form>\n<div class=\"scroll tall\" tabindex=\"0\" role=\"region\" aria-label=\"Rules by \
             subjects\"><table class=\"grid\">\n<caption>Cases by rule and subject</caption>\n<thead><tr>\
             <th scope=\"col\">rule</th><th scope=\"col\" class=\"n\">cases</th>"
        );
        for (subject, row) in self.report.rows.iter().enumerate() {
            put!(
                self,
                "<th scope=\"col\" data-s=\"{subject}\">{}<br><small>{}</small>",
                Esc(&row.head.subject),
                Esc(&row.head.version)
            );
            if let Some(below) = &row.head.below {
                put!(self, "<br><small>on {}</small>", Esc(below));
            }
            put!(self, "</th>");
        }
        put!(self, "</tr></thead>\n<tbody>\n");
        for (index, line) in self.report.lines.iter().enumerate() {
            put!(
                self,
                "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th><td class=\"n\">{}</td>",
                anchor(index, line, None),
                Esc(line.name()),
                line.cases()
            );
            for (subject, counts) in line.counts.iter().enumerate() {
                self.cell(subject, counts, &anchor(index, line, Some(subject)));
            }
            put!(self, "</tr>\n");
        }
        put!(self, "</tbody>\n</table></div>\n</section>\n");
    }

    fn cell(&mut self, subject: usize, counts: &Counts, anchor: &str) {
        let Some(main) = counts.main() else {
            put!(self, "<td data-s=\"{subject}\" class=\"none\">·</td>");
            return;
        };
        let all: Vec<_> = Agreement::ALL.into_iter().filter(|&agreement| counts.of(agreement) > 0).collect();
        // Classes of all kinds, for the filter; the colour is that of the sign.
        let has: Vec<_> = all.iter().map(|&agreement| format!("has-{}", class(agreement))).collect();
        put!(
            self,
            "<td data-s=\"{subject}\" class=\"{} {}{}\"><a href=\"#{anchor}\">",
            class(main),
            has.join(" "),
            // Not one compared case as the rulebook says: it seems not to be checked at all.
            if main == Agreement::Differs && counts.of(Agreement::Agrees) == 0 { " every" } else { "" }
        );
        put!(self, "<i aria-hidden=\"true\">{}</i>\u{a0}{}", main.sign(), counts.of(main));
        if main == Agreement::Differs {
            put!(self, "<small>\u{a0}of\u{a0}{}</small>", counts.compared());
        }
        put!(self, "<span class=\"hear\"> {}</span>", main.words());
        for agreement in all.into_iter().filter(|&agreement| {
            agreement != main && !(agreement == Agreement::Agrees && main == Agreement::Differs)
        }) {
            put!(
                self,
                " <small class=\"also\"><i aria-hidden=\"true\">{}</i>{}<span class=\"hear\"> {}</span></small>",
                agreement.sign(),
                counts.of(agreement),
                agreement.words()
            );
        }
        put!(self, "</a></td>");
    }

    fn findings(&mut self, agreement: Agreement, id: &str, title: &str) {
        let findings = self.report.findings(agreement);
        put!(self, "<section id=\"{id}\">\n<h2>{title}</h2>\n");
        if findings.is_empty() {
            put!(self, "<p>None.</p>\n");
        }
        for group in findings.chunk_by(|one, two| one.reason == two.reason) {
            let total: usize = group.iter().map(|finding| finding.cases * finding.subjects.len()).sum();
            let reason = group[0].reason.as_deref().unwrap_or("No reason known");
            put!(
                self,
                "<h3>{} <small>{}</small></h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\
                 <table class=\"plain wide found\">\n<caption class=\"hear\">{title}: {}</caption>\n<thead><tr>\
                 <th scope=\"col\">subjects</th><th scope=\"col\">rules</th><th scope=\"col\">expected</th>\
                 <th scope=\"col\">seen</th><th scope=\"col\" class=\"n\">cases</th><th scope=\"col\">which</th>\
                 </tr></thead>\n<tbody>\n",
                Esc(reason),
                cases(total),
                Esc(reason),
                Esc(reason)
            );
            for finding in group {
                let subjects = finding
                    .subjects
                    .iter()
                    .map(|&one| format!("<li>{}</li>", Esc(&self.report.rows[one].head.label())));
                let subjects: String = subjects.collect();
                let rules = finding.rules.iter().map(|rule| match self.line(rule) {
                    Some((index, line)) => {
                        format!("<li><a href=\"#{}\">{}</a></li>", anchor(index, line, None), Esc(rule))
                    }
                    None => format!("<li>{}</li>", Esc(rule)),
                });
                let rules: String = rules.collect();
                let rules = if rules.is_empty() { format!("<li>{LEGAL}</li>") } else { rules };
                put!(
                    self,
                    "<tr><td><ul>{subjects}</ul></td><td><ul>{rules}</ul></td><td>{}</td><td>{}<ul>",
                    Esc(finding.expected),
                    Esc(&finding.answer)
                );
                for (outcome, count) in &finding.outcomes {
                    put!(self, "<li><code>{}</code>", Esc(outcome));
                    if finding.outcomes.len() > 1 {
                        put!(self, " <small>×{count}</small>");
                    }
                    put!(self, "</li>");
                }
                put!(self, "</ul>");
                if let Some(layer) = &finding.layer {
                    put!(self, "<small>answered by {}</small><br>", Esc(layer));
                }
                if finding.prediction.is_some() {
                    let words = prediction(finding.prediction).trim_start_matches(", ");
                    put!(self, "<small>{words}</small>");
                }
                put!(self, "</td><td class=\"n\">{}</td><td>", finding.cases);
                self.ids(&finding.ids, &finding.events);
                put!(self, "</td></tr>\n");
            }
            put!(self, "</tbody>\n</table></div>\n");
        }
        put!(self, "</section>\n");
    }

    fn line(&self, rule: &str) -> Option<(usize, &Line)> {
        self.report.lines.iter().enumerate().find(|(_, line)| line.rule == Some(rule))
    }

    /// Ids and the events that they inject; long lists are folded.
    fn ids(&mut self, ids: &[String], events: &[String]) {
        for line in events {
            put!(self, "<div class=\"events\">{}</div>", Esc(line));
        }
        let length: usize = ids.iter().map(|ids| ids.len() + 1).sum();
        let folded = length > if events.is_empty() { 160 } else { 40 };
        if folded {
            put!(self, "<details><summary>ids</summary>");
        }
        put!(self, "<code class=\"ids\">");
        for (index, ids) in ids.iter().enumerate() {
            if index > 0 {
                put!(self, "<br>");
            }
            // Ids are long words: they may break behind a comma.
            for (index, part) in ids.split(',').enumerate() {
                let comma = if index > 0 { ",<wbr>" } else { "" };
                put!(self, "{comma}{}", Esc(part));
            }
        }
        put!(self, "</code>");
        if folded {
            put!(self, "</details>");
        }
    }

    fn planes(&mut self) {
        put!(self, "<section id=\"eventinj\">\n<h2>EVENTINJ</h2>\n");
        let planes: Vec<(usize, Plane)> = self
            .report
            .rows
            .iter()
            .enumerate()
            .map(|(subject, row)| (subject, Plane::of(row)))
            .filter(|(_, plane)| !plane.cells.is_empty() || !plane.no_event.is_empty())
            .collect();
        if planes.is_empty() {
            put!(self, "<p>No case of this set injects an event.</p>\n</section>\n");
            return;
        }
        put!(
            self,
            "<p>What becomes of an event with V = 1: TYPE 0 to 7 by VECTOR 0 to 255, exceptions drawn wider. Each \
             cell stands for both values of EV and for all bases.</p>\n<ul class=\"legend\">\n"
        );
        for (kind, name) in KINDS {
            put!(
                self,
                "<li><svg class=\"key\" viewBox=\"0 0 12 16\" aria-hidden=\"true\"><g class=\"w {kind}\">\
                 <rect x=\"0\" y=\"0\" width=\"11\" height=\"15\"/></g></svg> {name}</li>\n"
            );
        }
        put!(
            self,
            "<li><svg class=\"key\" viewBox=\"-1 -1 14 18\" aria-hidden=\"true\"><rect class=\"d\" x=\"0\" y=\"0\" \
             width=\"12\" height=\"16\"/></svg> differs from the rulebook</li>\n</ul>\n\
             <p class=\"small script\" hidden>Point at a cell to read it, or move through the picture with the \
             arrow keys.</p>\n"
        );
        for (subject, plane) in &planes {
            self.plane(*subject, plane);
        }
        // What the script reads cells out with.
        let names: Vec<_> = EXCEPTIONS.iter().map(|row| row.mnemonic.unwrap_or("reserved")).collect();
        let types: Vec<_> = (0..8).map(|bits| EventType::from_bits(bits).name()).collect();
        put!(
            self,
            "<div id=\"names\" hidden data-vectors=\"{}\" data-types=\"{}\"></div>\n</section>\n",
            Esc(&names.join("|")),
            Esc(&types.join("|"))
        );
    }

    fn plane(&mut self, subject: usize, plane: &Plane) {
        let label = self.report.rows[subject].head.label();
        let differing = plane.cells.values().filter(|cell| plane.groups[cell.group].differs()).count();
        put!(
            self,
            "<figure class=\"plane\" data-s=\"{subject}\">\n<figcaption><b>{}</b> {}</figcaption>\n\
             <div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" tabindex=\"0\" role=\"img\" \
             aria-label=\"EVENTINJ on {}: {differing} of {} events differ from the rulebook; the list below says \
             which\">\n",
            Esc(&label),
            match differing {
                0 => format!("all {} events as the rulebook says", plane.cells.len()),
                _ => format!("{differing} of {} events differ", plane.cells.len()),
            },
            Esc(&label),
            plane.cells.len()
        );
        for kind in 0..8 {
            let name = EventType::from_bits(kind).name().replace("software interrupt", "software int");
            let y = f64::from(kind) * ROW + 12.0;
            put!(self, "<text x=\"{}\" y=\"{y}\" class=\"t\">{kind} {name}</text>", LEFT - 6.0);
        }
        for vector in [0_u8, 8, 16, 24, 32, 64, 96, 128, 160, 192, 224, 255] {
            let x = column(vector) + width(vector) / 2.0;
            put!(self, "<text x=\"{x}\" y=\"{}\" class=\"v\">{vector}</text>", HEIGHT - 4.0);
        }
        put!(self, "\n");
        for (index, group) in plane.groups.iter().enumerate() {
            for (wide, class) in [(true, "w"), (false, "n")] {
                let cells = plane.cells.iter().filter(|(_, cell)| cell.group == index);
                let cells: Vec<_> = cells.filter(|((_, vector), _)| (*vector < 32) == wide).collect();
                if cells.is_empty() {
                    continue;
                }
                put!(self, "<g class=\"{class} {}\" data-g=\"{index}\">", group.kind);
                for ((kind, vector), _) in cells {
                    let y = f64::from(*kind) * ROW;
                    put!(self, "<rect x=\"{}\" y=\"{y}\"/>", column(*vector));
                }
                put!(self, "</g>\n");
            }
        }
        for (kind, first, last) in plane.outlines() {
            let (x, y) = (column(first) - 0.5, f64::from(kind) * ROW - 0.5);
            let width = column(last) + width(last) - column(first);
            put!(self, "<rect class=\"d\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{ROW}\"/>");
        }
        put!(self, "</svg></div>\n<p class=\"script\" hidden><output>\u{a0}</output></p>\n");
        put!(
            self,
            "<details{}><summary>As a list</summary>\n<ul class=\"groups\">\n",
            if differing > 0 && plane.groups.len() < 9 { " open" } else { "" }
        );
        let mut order: Vec<usize> = (0..plane.groups.len()).collect();
        order.sort_by_key(|&index| (plane.groups[index].agreement, index));
        for index in order {
            let group = &plane.groups[index];
            let ids = plane.cells.iter().filter(|(_, cell)| cell.group == index);
            let ids = ids.flat_map(|(_, cell)| cell.ids.iter().copied());
            put!(
                self,
                "<li data-g=\"{index}\"><i class=\"{}\" aria-hidden=\"true\">{}</i> <span>{}</span><br><small>{}</small></li>\n",
                class(group.agreement),
                group.agreement.sign(),
                Esc(&group.text),
                Esc(&events(ids).join("; "))
            );
        }
        for (text, count) in &plane.no_event {
            put!(self, "<li>V = 0: {} {}</li>\n", cases(*count), Esc(text));
        }
        put!(self, "</ul></details>\n</figure>\n");
    }

    fn unmeasured(&mut self) {
        put!(self, "<section id=\"unmeasured\">\n<h2>Rules not measured on any subject</h2>\n");
        if self.report.part {
            put!(self, "<p>Not listed: only a part of a set was run.</p>\n");
        } else if self.report.unmeasured.is_empty() {
            put!(self, "<p>None.</p>\n");
        } else {
            put!(self, "<dl>\n");
            for (why, rules) in self.report.unmeasured_by_reason() {
                let rules = rules.iter().map(|rule| format!("<code>{}</code>", Esc(rule)));
                put!(self, "<dt>{}</dt><dd>{}</dd>\n", Esc(&why), rules.collect::<Vec<_>>().join(", "));
            }
            put!(self, "</dl>\n");
        }
        put!(self, "</section>\n");
    }

    fn cases(&mut self) {
        put!(self, "<section id=\"cases\">\n<h2>Cases</h2>\n");
        let report = self.report;
        for (index, line) in report.lines.iter().enumerate() {
            put!(
                self,
                "<section id=\"{}\" class=\"rule\">\n<h3>{}</h3>\n",
                anchor(index, line, None),
                Esc(line.name())
            );
            match line.rule.map(|id| (id, Rule::from_id(id))) {
                Some((_, Some(rule))) => {
                    let row = rule.row();
                    put!(
                        self,
                        "<p class=\"small\">{}. Manual volume 2, {}; class {}.</p>\n",
                        Esc(row.title),
                        Esc(row.section),
                        row.class.letter()
                    );
                }
                Some(_) => {}
                None => {
                    put!(self, "<p class=\"small\">VMCBs that break no rule.</p>\n");
                }
            }
            // Subjects whose cases came out the same share a table.
            let mut blocks: Vec<(Block, Vec<usize>)> = Vec::new();
            for subject in 0..report.rows.len() {
                let block = block(report, line, subject);
                match blocks.iter_mut().find(|(known, _)| *known == block) {
                    _ if block.is_empty() => {}
                    Some((_, subjects)) => subjects.push(subject),
                    None => blocks.push((block, vec![subject])),
                }
            }
            for (block, subjects) in blocks {
                self.block(index, line, &block, &subjects);
            }
            put!(self, "</section>\n");
        }
        put!(self, "</section>\n");
    }

    fn block(&mut self, index: usize, line: &Line, block: &Block, subjects: &[usize]) {
        put!(self, "<h4>");
        for (at, &subject) in subjects.iter().enumerate() {
            let comma = if at > 0 { "; " } else { "" };
            let (id, label) = (anchor(index, line, Some(subject)), self.report.rows[subject].head.label());
            put!(self, "{comma}<span id=\"{id}\">{}</span>", Esc(&label));
        }
        put!(
            self,
            "</h4>\n<div class=\"scroll\"><table class=\"plain wide\">\n<caption class=\"hear\">{}</caption>\n<thead>\
             <tr><th scope=\"col\">cases</th><th scope=\"col\">expected</th><th scope=\"col\">seen</th>\
             <th scope=\"col\">why</th><th scope=\"col\">which</th></tr></thead>\n<tbody>\n",
            Esc(line.name())
        );
        for (key, (count, ids, events)) in block {
            put!(
                self,
                "<tr><th scope=\"row\" class=\"{}\"><i aria-hidden=\"true\">{}</i> {count} {}</th><td>{}</td>\
                 <td><code>{}</code></td><td>",
                class(key.agreement),
                key.agreement.sign(),
                key.agreement.words(),
                Esc(key.expected),
                Esc(&key.outcome)
            );
            let layer = key.layer.as_ref().map(|layer| format!("answered by {layer}"));
            let words = prediction(key.prediction).trim_start_matches(", ").to_owned();
            let why = [key.reason.clone(), layer, Some(words).filter(|words| !words.is_empty())];
            put!(self, "{}</td><td>", Esc(&why.into_iter().flatten().collect::<Vec<_>>().join("; ")));
            self.ids(ids, events);
            put!(self, "</td></tr>\n");
        }
        put!(self, "</tbody>\n</table></div>\n");
    }
}

/// Where a line's cases stand, or those of one subject.
fn anchor(index: usize, line: &Line, subject: Option<usize>) -> String {
    let mut anchor = match line.rule.and_then(Rule::from_id) {
        Some(rule) => format!("r-{}", rule.id()),
        // Names that the rulebook does not know may be anything.
        None => format!("line-{index}"),
    };
    if let Some(subject) = subject {
        let _ = write!(anchor, ".{}", subject + 1);
    }
    anchor
}

/// What cases in one row of a table have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Common {
    agreement: Agreement,
    reason: Option<String>,
    expected: &'static str,
    outcome: String,
    layer: Option<String>,
    prediction: Option<bool>,
}

/// The cases of one rule on one subject: how many, which, which events.
type Block = BTreeMap<Common, (usize, Vec<String>, Vec<String>)>;

fn block(report: &Report, line: &Line, subject: usize) -> Block {
    let mut groups: BTreeMap<Common, Vec<&str>> = BTreeMap::new();
    for case in &report.rows[subject].cases {
        let of_line = match line.rule {
            Some(rule) => case.rules.contains(&rule),
            None => case.rules.is_empty(),
        };
        if of_line {
            let common = Common {
                agreement: case.agreement,
                reason: case.reason.clone(),
                expected: case.expected.name(),
                outcome: case.outcome.to_string(),
                layer: case.layer.clone(),
                prediction: case.prediction,
            };
            groups.entry(common).or_default().push(&case.id);
        }
    }
    let folded = groups.into_iter().map(|(common, ids)| {
        (common, (ids.len(), compress(ids.iter().copied()), events(ids.iter().copied())))
    });
    folded.collect()
}

/// Kinds of cells in the picture, and what the legend calls them.
const KINDS: [(&str, &str); 5] = [
    ("acc", "accepted"),
    ("ref", "refused"),
    ("mix", "depends on EV or base"),
    ("bro", "broken"),
    ("ski", "not run"),
];

/// Left of the cells stand the names of TYPE.
const LEFT: f64 = 124.0;
/// Height of a row of cells with its gap.
const ROW: f64 = 16.0;
/// Width of the cells of vectors 0 to 31, and of the others.
const WIDE: f64 = 14.0;
const NARROW: f64 = 4.0;
/// Between the two.
const GAP: f64 = 6.0;
const WIDTH: f64 = LEFT + 32.0 * WIDE + GAP + 224.0 * NARROW + 12.0;
const HEIGHT: f64 = 8.0 * ROW + 18.0;

fn column(vector: u8) -> f64 {
    match vector {
        0..32 => LEFT + f64::from(vector) * WIDE,
        _ => LEFT + 32.0 * WIDE + GAP + f64::from(vector - 32) * NARROW,
    }
}

fn width(vector: u8) -> f64 {
    if vector < 32 { WIDE } else { NARROW }
}

/// What one subject does with events.
struct Plane<'a> {
    /// By TYPE and VECTOR.
    cells: BTreeMap<(u8, u8), Cell<'a>>,
    /// What cells have in common.
    groups: Vec<Group>,
    /// Answers to V = 0, and how many cases got them.
    no_event: BTreeMap<String, usize>,
}

struct Cell<'a> {
    group: usize,
    ids: Vec<&'a str>,
}

struct Group {
    kind: &'static str,
    agreement: Agreement,
    text: String,
}

impl Group {
    fn differs(&self) -> bool {
        self.agreement == Agreement::Differs
    }
}

impl<'a> Plane<'a> {
    fn of(row: &'a super::Row) -> Self {
        let mut no_event = BTreeMap::new();
        let mut gathered: BTreeMap<(u8, u8), Vec<_>> = BTreeMap::new();
        let mut bases = BTreeSet::new();
        for case in &row.cases {
            let Some(event) = event_of(&case.id) else { continue };
            if event.valid {
                bases.insert(event.base);
                gathered.entry((event.kind, event.vector)).or_default().push((event, case));
            } else {
                let mark = if case.agreement == Agreement::Differs { " (differs)" } else { "" };
                let answer = crate::results::answer_name(case.outcome.answer());
                *no_event.entry(format!("{answer}{mark}")).or_default() += 1;
            }
        }
        let mut known: BTreeMap<(&'static str, Agreement, String), usize> = BTreeMap::new();
        let mut cells = BTreeMap::new();
        for (place, cases) in gathered {
            // Outcomes with whom they are of: (base, EV).
            let mut parts: BTreeMap<(String, &'static str), BTreeSet<(&str, bool)>> = BTreeMap::new();
            for (event, case) in &cases {
                let part = (case.outcome.to_string(), case.expected.name());
                parts.entry(part).or_default().insert((event.base, event.error));
            }
            let expectations: BTreeSet<_> = parts.keys().map(|(_, expected)| *expected).collect();
            let mut text: Vec<_> = parts
                .iter()
                .map(|((outcome, expected), of)| {
                    let whom = if parts.len() == 1 { String::new() } else { whom(of, bases.len()) };
                    let expected = if expectations.len() == 1 {
                        String::new()
                    } else {
                        format!(" (expected {expected})")
                    };
                    format!("{whom}{outcome}{expected}")
                })
                .collect();
            text.sort();
            let mut text = text.join("; ");
            if let (Some(expected), 1) = (expectations.first(), expectations.len()) {
                let _ = write!(text, " – expected {expected}");
            }
            let seen: BTreeSet<_> = cases.iter().map(|(_, case)| case.agreement).collect();
            use Agreement::{Agrees, Broken, Differs, NotComparable, Skipped};
            let order = [Differs, Broken, NotComparable, Agrees];
            let agreement = order.into_iter().find(|one| seen.contains(one)).unwrap_or(Skipped);
            let kinds: BTreeSet<_> = cases
                .iter()
                .map(|(_, case)| match case.outcome.answer() {
                    Answer::Accepted => "acc",
                    Answer::Refused(_) | Answer::Fault => "ref",
                    Answer::Broken => "bro",
                    Answer::Skipped => "ski",
                })
                .collect();
            let kind = match kinds.first() {
                Some(kind) if kinds.len() == 1 => *kind,
                _ => "mix",
            };
            let count = known.len();
            let group = *known.entry((kind, agreement, text)).or_insert(count);
            cells
                .insert(place, Cell { group, ids: cases.iter().map(|(_, case)| case.id.as_str()).collect() });
        }
        let mut groups: Vec<_> = known.into_iter().map(|(group, index)| (index, group)).collect();
        groups.sort_unstable();
        let groups =
            groups.into_iter().map(|(_, (kind, agreement, text))| Group { kind, agreement, text }).collect();
        Self { cells, groups, no_event }
    }

    /// Neighbours that differ: TYPE, first and last VECTOR.
    fn outlines(&self) -> Vec<(u8, u8, u8)> {
        let mut runs: Vec<(u8, u8, u8)> = Vec::new();
        for (&(kind, vector), cell) in &self.cells {
            if !self.groups[cell.group].differs() {
                continue;
            }
            match runs.last_mut() {
                // Not across the gap.
                Some((k, _, last)) if *k == kind && last.checked_add(1) == Some(vector) && vector != 32 => {
                    *last = vector;
                }
                _ => runs.push((kind, vector, vector)),
            }
        }
        runs
    }
}

/// `EV 0: `, `long64, EV 1 of pae: `: which cases of a cell.
fn whom(of: &BTreeSet<(&str, bool)>, bases: usize) -> String {
    for error in [false, true] {
        if of.iter().all(|&(_, ev)| ev == error) && of.len() == bases {
            return format!("EV {}: ", u8::from(error));
        }
    }
    let names: BTreeSet<&str> = of.iter().map(|&(base, _)| base).collect();
    let parts =
        names.into_iter().map(|base| match (of.contains(&(base, false)), of.contains(&(base, true))) {
            (true, true) => base.to_owned(),
            (_, error) => format!("EV {} of {base}", u8::from(error)),
        });
    format!("{}: ", parts.collect::<Vec<_>>().join(", "))
}
