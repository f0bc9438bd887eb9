//! Marks that people leave where they cut something out of a text.

/// Marks that people put where they cut something out.
pub(super) const CUTS: [&[u8]; 11] = [
    b"...",
    b"[...",
    b"(...",
    b"<...",
    b"[snip",
    b"<snip",
    b"(snip",
    "…".as_bytes(),
    "[…".as_bytes(),
    // In quoted-printable that nothing declares.
    b"=E2=80=A6",
    b"[=E2=80=A6",
];

/// Checks whether a text begins with a cut mark.
pub(crate) fn begins_with_cut(text: &[u8]) -> bool {
    let ends = |mark: &[u8]| {
        let rest = text.strip_prefix(mark)?;
        // More dots than three are characters of a hex dump.
        Some(!(mark.ends_with(b".") && rest.starts_with(b".")))
    };
    CUTS.iter().any(|mark| ends(mark) == Some(true))
}

/// Checks whether a text contains a cut mark.
pub(crate) fn has_cut(text: &[u8]) -> bool {
    find_cut(text).is_some()
}

/// Returns the position of the first cut mark in a text.
pub(crate) fn find_cut(text: &[u8]) -> Option<usize> {
    let mut before = 0;
    text.iter().enumerate().position(|(at, &byte)| {
        let before = std::mem::replace(&mut before, byte);
        // A sentence ends with dots after a word.
        let ends = text.get(at..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'.'))
            && before.is_ascii_alphabetic()
            && !before.is_ascii_hexdigit();
        let begins =
            matches!(byte, b'[' | b'(' | b'<' | b'=' | 0xE2) || byte == b'.' && before != b'.' && !ends;
        begins && begins_with_cut(text.get(at..).unwrap_or_default())
    })
}

/// A line that reports a cut contains one of these words.
const CUT_WORDS: [&str; 7] = ["snip", "snipped", "cut", "truncated", "omitted", "skipped", "trimmed"];
/// Other words that such a line may contain.
const OTHER_WORDS: [&str; 7] = ["lines", "line", "here", "more", "rest", "the", "messages"];

/// Returns a message without the remark that a person added after it.
pub(crate) fn without_remark(message: &[u8]) -> &[u8] {
    let end = message.windows(2).enumerate().position(|(at, pair)| {
        matches!(pair, [b' ', b'#' | b'<' | b'('])
            && !begins_with_cut(message.get(at + 1..).unwrap_or_default())
    });
    message.get(..end.unwrap_or(message.len())).unwrap_or_default()
}

/// Checks whether a whole line reports that lines were cut out.
pub(crate) fn is_cut(text: &str) -> bool {
    let text = text.get(..without_remark(text.as_bytes()).len()).unwrap_or_default();
    if text.len() > 64 {
        return false;
    }
    let mut words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        // Other dots are characters of a hex dump.
        return matches!(
            text.trim_matches(|c: char| c.is_whitespace() || "[](){}<>|-".contains(c)),
            "..." | "…"
        );
    }
    let dots = || text.contains("...") || text.contains('…');
    // Rows of hex dumps have numbers and dots, but no words.
    let (mut says, mut speaks) = (false, false);
    let all = words.all(|word| {
        let is = |known: &&str| known.eq_ignore_ascii_case(word);
        let cut = CUT_WORDS.iter().any(is);
        let other = OTHER_WORDS.iter().any(is);
        says |= cut;
        speaks |= cut || other;
        cut || other || word.bytes().all(|byte| byte.is_ascii_digit())
    });
    all && (says || speaks && dots())
}
