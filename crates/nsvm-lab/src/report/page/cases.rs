//! The cases of each rule.

use super::html::{Page, anchor, class, put};
use crate::report::agreement::Agreement;
use crate::report::table::{Line, Report};
use crate::report::words::prediction;
use crate::results::{compress, events};
use nsvm_report::Escaped;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vmcb::Rule;

impl Page<'_> {
    pub(super) fn cases(&mut self) {
        put!(self, "<section id=\"cases\">\n<h2>Cases</h2>\n");
        let report = self.report;
        for (index, line) in report.lines.iter().enumerate() {
            put!(
                self,
                "<section id=\"{}\" class=\"rule\">\n<h3>{}</h3>\n",
                anchor(index, line, None),
                Escaped(line.name())
            );
            match line.rule.map(|id| (id, Rule::from_id(id))) {
                Some((_, Some(rule))) => {
                    let row = rule.row();
                    put!(
                        self,
                        "<p class=\"small\">{}. Manual volume 2, {}; class {}.</p>\n",
                        Escaped(row.title),
                        Escaped(row.section),
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
            put!(self, "{comma}<span id=\"{id}\">{}</span>", Escaped(&label));
        }
        put!(
            self,
            "</h4>\n<div class=\"scroll\"><table class=\"plain wide\">\n<caption class=\"hear\">{}</caption>\n<thead>\
             <tr><th scope=\"col\">cases</th><th scope=\"col\">expected</th><th scope=\"col\">seen</th>\
             <th scope=\"col\">why</th><th scope=\"col\">which</th></tr></thead>\n<tbody>\n",
            Escaped(line.name())
        );
        for (key, (count, ids, events)) in block {
            put!(
                self,
                "<tr><th scope=\"row\" class=\"{}\"><i aria-hidden=\"true\">{}</i> {count} {}</th><td>{}</td>\
                 <td><code>{}</code></td><td>",
                class(key.agreement),
                key.agreement.sign(),
                key.agreement.words(),
                Escaped(key.expected),
                Escaped(&key.outcome)
            );
            let layer = key.layer.as_ref().map(|layer| format!("answered by {layer}"));
            let words = prediction(key.prediction).trim_start_matches(", ").to_owned();
            let why = [key.reason.clone(), layer, Some(words).filter(|words| !words.is_empty())];
            put!(self, "{}</td><td>", Escaped(&why.into_iter().flatten().collect::<Vec<_>>().join("; ")));
            self.ids(ids, events);
            put!(self, "</td></tr>\n");
        }
        put!(self, "</tbody>\n</table></div>\n");
    }
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
