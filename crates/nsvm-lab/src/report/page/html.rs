//! What all parts of the page use: names of classes, anchors, lists of ids.

use crate::report::agreement::Agreement;
use crate::report::table::Line;
use maud::{Markup, html};
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

/// Ids and the events that they inject; long lists are folded.
pub(super) fn ids(ids: &[String], events: &[String]) -> Markup {
    let length: usize = ids.iter().map(|ids| ids.len() + 1).sum();
    let folded = length > if events.is_empty() { 160 } else { 40 };
    let list = html! {
        code class="ids" {
            @for (index, ids) in ids.iter().enumerate() {
                @if index > 0 { br; }
                // Ids are long words: they may break behind a comma.
                @for (index, part) in ids.split(',').enumerate() {
                    @if index > 0 { "," wbr; }
                    (part)
                }
            }
        }
    };
    html! {
        @for line in events { div class="events" { (line) } }
        @if folded { details { summary { "ids" } (list) } } @else { (list) }
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
