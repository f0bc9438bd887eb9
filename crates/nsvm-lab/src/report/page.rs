//! The report as one page of HTML. It shows everything without its script. The script filters, and reads the planes
//! out.

mod cases;
mod html;
mod picture;
mod planes;

use self::html::{Page, anchor, class, put};
use super::agreement::{Agreement, Counts};
use super::table::{LEGAL, Line, Report};
use super::words::{cases, prediction};
use nsvm_report::Escaped;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl Report {
    /// Returns one page of HTML that needs no other file.
    #[must_use]
    pub fn html(&self) -> String {
        let mut page = Page { report: self, out: String::new() };
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
            Escaped(&dates)
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
                Escaped(&head.subject),
                Escaped(&head.version),
                Escaped(head.below.as_deref().unwrap_or("–")),
                Escaped(&head.cpu),
                Escaped(&match &head.shard {
                    Some(shard) => format!("{}, shard {shard}", head.set),
                    None => head.set.clone(),
                }),
                Escaped(&head.date)
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
            put!(self, "<p class=\"small\">{}: {}</p>\n", Escaped(&row.head.label()), Escaped(&notes));
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
                Escaped(&row.head.label())
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
                Escaped(&row.head.subject),
                Escaped(&row.head.version)
            );
            if let Some(below) = &row.head.below {
                put!(self, "<br><small>on {}</small>", Escaped(below));
            }
            put!(self, "</th>");
        }
        put!(self, "</tr></thead>\n<tbody>\n");
        for (index, line) in self.report.lines.iter().enumerate() {
            put!(
                self,
                "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th><td class=\"n\">{}</td>",
                anchor(index, line, None),
                Escaped(line.name()),
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
                Escaped(reason),
                cases(total),
                Escaped(reason),
                Escaped(reason)
            );
            for finding in group {
                let subjects = finding
                    .subjects
                    .iter()
                    .map(|&one| format!("<li>{}</li>", Escaped(&self.report.rows[one].head.label())));
                let subjects: String = subjects.collect();
                let rules = finding.rules.iter().map(|rule| match self.line(rule) {
                    Some((index, line)) => {
                        format!("<li><a href=\"#{}\">{}</a></li>", anchor(index, line, None), Escaped(rule))
                    }
                    None => format!("<li>{}</li>", Escaped(rule)),
                });
                let rules: String = rules.collect();
                let rules = if rules.is_empty() { format!("<li>{LEGAL}</li>") } else { rules };
                put!(
                    self,
                    "<tr><td><ul>{subjects}</ul></td><td><ul>{rules}</ul></td><td>{}</td><td>{}<ul>",
                    Escaped(finding.expected),
                    Escaped(&finding.answer)
                );
                for (outcome, count) in &finding.outcomes {
                    put!(self, "<li><code>{}</code>", Escaped(outcome));
                    if finding.outcomes.len() > 1 {
                        put!(self, " <small>×{count}</small>");
                    }
                    put!(self, "</li>");
                }
                put!(self, "</ul>");
                if let Some(layer) = &finding.layer {
                    put!(self, "<small>answered by {}</small><br>", Escaped(layer));
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

    fn unmeasured(&mut self) {
        put!(self, "<section id=\"unmeasured\">\n<h2>Rules not measured on any subject</h2>\n");
        if self.report.part {
            put!(self, "<p>Not listed: only a part of a set was run.</p>\n");
        } else if self.report.unmeasured.is_empty() {
            put!(self, "<p>None.</p>\n");
        } else {
            put!(self, "<dl>\n");
            for (why, rules) in self.report.unmeasured_by_reason() {
                let rules = rules.iter().map(|rule| format!("<code>{}</code>", Escaped(rule)));
                put!(self, "<dt>{}</dt><dd>{}</dd>\n", Escaped(&why), rules.collect::<Vec<_>>().join(", "));
            }
            put!(self, "</dl>\n");
        }
        put!(self, "</section>\n");
    }
}
