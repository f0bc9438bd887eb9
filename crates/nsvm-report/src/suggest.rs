//! Suggestions for unknown words.

/// Suggestions in one message.
const MOST: usize = 4;

/// Returns `did you mean ...?` with the known words that are similar, if there are any.
#[must_use]
pub fn help(word: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let word = word.to_lowercase();
    let mut scored: Vec<(f64, String)> = known
        .into_iter()
        .map(|candidate| (score(&word, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.75)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut near: Vec<String> = Vec::new();
    for (_, name) in scored {
        let name = format!("`{name}`");
        if near.len() < MOST && !near.contains(&name) {
            near.push(name);
        }
    }
    let (last, rest) = near.split_last()?;
    Some(if rest.is_empty() {
        format!("did you mean {last}?")
    } else {
        format!("did you mean {} or {last}?", rest.join(", "))
    })
}

/// Returns 1 for the same word. A part of an id counts as similar too.
fn score(word: &str, candidate: &str) -> f64 {
    let slips = strsim::osa_distance(word, candidate);
    // One slip in a short word, two in a longer one: short words are far apart by any other measure.
    let slip = if slips <= 1 && word.len() >= 3 || slips <= 2 && word.len() >= 6 { 0.85 } else { 0.0 };
    let whole = strsim::jaro_winkler(word, candidate).max(slip);
    if word.len() >= 3 && candidate.contains(word) { whole.max(0.9) } else { whole }
}

/// Returns the user's word with control characters replaced, so that it cannot disturb a terminal.
#[must_use]
pub fn clean(word: &str) -> String {
    word.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

/// Returns the user's word without control characters, cut after 60 characters.
#[must_use]
pub fn shorten(word: &str) -> String {
    const MOST: usize = 60;
    let clean = clean(word);
    match clean.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &clean[..end]),
        None => clean,
    }
}
