//! Words and cells that several forms of the report share.

use super::agreement::{Agreement, Counts};
use crate::results::Head;
use anstyle::Style;
use std::fmt::Write as _;

/// Columns of a cell, with the blank before it: `≠ 8192 !`.
pub(super) const CELL: usize = 9;

pub(super) fn cell(out: &mut String, counts: Counts, colour: bool) {
    let (style, shown) = match counts.main() {
        None => (Style::new().dimmed(), "·".to_owned()),
        Some(agreement) => {
            let broke = agreement != Agreement::Broken && counts.of(Agreement::Broken) > 0;
            let broke = if broke { " !" } else { "" };
            (agreement.style(), format!("{} {}{broke}", agreement.sign(), counts.of(agreement)))
        }
    };
    let pad = " ".repeat((CELL - 1).saturating_sub(shown.chars().count()));
    let _ = match colour {
        true => write!(out, "{}{shown}{}{pad}", style.render(), style.render_reset()),
        false => write!(out, "{shown}{pad}"),
    };
}

/// Returns what a head contains about the subject, in one line.
pub(super) fn about(head: &Head) -> String {
    let label = head.label();
    let mut about = label.clone();
    if !head.cpu.is_empty() && !label.ends_with(&format!(", cpu {}", head.cpu)) {
        let _ = write!(about, "; CPU {}", head.cpu);
    }
    let _ = write!(about, "; set {}; {}", head.set, head.date);
    if let Some(shards) = &head.shard {
        let _ = write!(about, "; shard {shards}");
    }
    about
}

pub(super) fn cases(number: usize) -> String {
    if number == 1 { "1 case".to_owned() } else { format!("{number} cases") }
}

pub(super) const fn prediction(held: Option<bool>) -> &'static str {
    match held {
        Some(true) => ", as predicted",
        Some(false) => ", not as predicted",
        None => "",
    }
}
