//! What all parts of the page use: the text under way, names of classes, anchors.

use crate::report::agreement::Agreement;
use crate::report::table::{Line, Report};
use nsvm_report::Escaped;
use std::fmt::Write as _;
use vmcb::Rule;

/// Class of an agreement in the style sheet.
pub(super) const fn class(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Differs => "differs",
        Agreement::Broken => "broken",
        Agreement::Agrees => "agrees",
        Agreement::NotComparable => "uncompared",
        Agreement::Skipped => "skipped",
    }
}

pub(super) struct Page<'a> {
    pub(super) report: &'a Report,
    pub(super) out: String,
}

macro_rules! put {
    ($page:expr, $($what:tt)*) => { let _ = write!($page.out, $($what)*); };
}
pub(super) use put;

impl Page<'_> {
    /// Ids and the events that they inject; long lists are folded.
    pub(super) fn ids(&mut self, ids: &[String], events: &[String]) {
        for line in events {
            put!(self, "<div class=\"events\">{}</div>", Escaped(line));
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
                put!(self, "{comma}{}", Escaped(part));
            }
        }
        put!(self, "</code>");
        if folded {
            put!(self, "</details>");
        }
    }
}

/// Where a line's cases stand, or those of one subject.
pub(super) fn anchor(index: usize, line: &Line, subject: Option<usize>) -> String {
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
