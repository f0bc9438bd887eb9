//! What implementations would do, for people.

use super::Printer;
use crate::error::Error;
use crate::record::Predicted;
use crate::style::{BOLD, GREEN, PLAIN, RED, YELLOW};
use anstyle::Style;

/// More reasons of one answer are counted, not printed, unless `--verbose`.
const MOST: usize = 6;

impl Printer<'_> {
    /// Of `--as`: the answer, and below it what it rests on.
    pub(super) fn prediction(&mut self, predicted: &Predicted) -> Result<(), Error> {
        let Predicted { title, text, .. } = predicted;
        let rest = text.strip_prefix(predicted.answer);
        let coloured = match rest {
            Some(rest) => format!("{}{}{PLAIN}{rest}", colour(predicted), predicted.answer),
            None => format!("{}{text}{PLAIN}", colour(predicted)),
        };
        writeln!(self.out, "{BOLD}as {title}{PLAIN}: {coloured}")?;
        let reasons = reasons(predicted);
        let most = if self.verbose { usize::MAX } else { MOST };
        for reason in reasons.iter().take(most) {
            writeln!(self.out, "  = {reason}")?;
        }
        if let Some(more) = reasons.len().checked_sub(most).filter(|more| *more > 0) {
            writeln!(self.out, "  = and {more} more (--verbose lists them)")?;
        }
        writeln!(self.out)?;
        Ok(())
    }

    /// Of `--who`: a table.
    pub(super) fn who(&mut self, who: &[Predicted]) -> Result<(), Error> {
        let Some(first) = who.first() else { return Ok(()) };
        let rows: Vec<[&str; 2]> = who.iter().map(|one| [one.title.as_str(), one.text.as_str()]).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (title, text) = (width(0), width(1).min(WIDEST));
        writeln!(self.out, "{BOLD}who would do what{PLAIN}:")?;
        for (one, row) in who.iter().zip(&rows) {
            let colour = colour(one);
            let [name, answer] = row;
            writeln!(self.out, "  {name:title$}  {colour}{answer:text$}{PLAIN}  {}", one.known_from())?;
        }
        if !first.assumed.is_empty() {
            writeln!(self.out, "  = assumed: {}", first.assumed.join(", "))?;
        }
        writeln!(self.out)?;
        Ok(())
    }
}

/// An answer that is wider breaks the column.
const WIDEST: usize = 72;

fn colour(predicted: &Predicted) -> Style {
    match predicted.answer {
        "accepts" => GREEN,
        "unknown" => YELLOW,
        _ => RED,
    }
}

/// What an answer rests on, a line each.
fn reasons(predicted: &Predicted) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    // What is not known is in `why`, with what was seen last, and behind a refusal it does not matter.
    for ground in predicted.grounds.iter().filter(|ground| ground.says != "unknown") {
        let (Some(from), Some(does)) = (&ground.from, &ground.does) else { continue };
        let what = match ground.says {
            "lets-pass" => "lets pass what the rulebook is against, ",
            _ => "",
        };
        let who = layer(predicted, ground.layer);
        reasons.push(format!("{from}: {who}{what}{}: {does}", ground.rule));
    }
    reasons.extend(predicted.why.iter().cloned());
    if reasons.is_empty() {
        reasons.push("no check that is known of any version is against it".to_owned());
    }
    if !predicted.assumed.is_empty() {
        reasons.push(format!("assumed: {}", predicted.assumed.join(", ")));
    }
    reasons
}

/// Which layer, where there are several.
fn layer(predicted: &Predicted, number: u64) -> String {
    let mut layers = predicted.title.split(" on ");
    let several = layers.clone().count() > 1;
    let name = usize::try_from(number).ok().and_then(|number| layers.nth(number.checked_sub(1)?));
    name.filter(|_| several).map_or_else(String::new, |name| format!("{name}: "))
}
