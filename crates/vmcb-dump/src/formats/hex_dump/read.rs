//! Reads a line as a row of a hex dump.

use super::row::{MAX_ROW, Row, Style, offsets};
use crate::text::{Text, begins_with_cut, skip_spaces};

/// Characters of one row, with a column of characters.
const MAX_TEXT: usize = 2048;

impl Row {
    /// Reads a line as a row, if it has the form of one.
    pub(super) fn read(line: &Text<'_>) -> Option<Self> {
        let text = line.text.as_bytes();
        let message = line.message();
        let start = line.start + if message.starts_with(b"0x") { 2 } else { 0 };
        let digits = leading_digits(text.get(start..)?);
        let colon = text.get(start + digits) == Some(&b':');
        if !(4..=16).contains(&digits) || !colon && digits < 6 || text.len() - start > MAX_TEXT {
            return None;
        }
        let offset = text.get(start..start + digits)?;
        let mut at = start + digits + usize::from(colon);
        if !matches!(text.get(at), Some(b' ' | b'\t')) {
            return None;
        }

        let mut columns = Vec::new();
        let mut style: Option<Style> = None;
        let mut characters = None;
        // What stands between two groups.
        let mut usual: Option<&[u8]> = None;
        loop {
            let from = at;
            at = skip_spaces(text, at);
            let rest = text.get(at..).unwrap_or_default();
            match rest.first() {
                None => break,
                Some(b'|' | b'>') => {
                    characters = rest.get(1..);
                    break;
                }
                // Someone's remark.
                Some(b'#' | b'<' | b'(') if style.is_some() && !begins_with_cut(rest) => {
                    characters = Some(rest);
                    break;
                }
                Some(_) => {}
            }
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let group = rest.get(..length)?;
            let wanted = style.map_or(length, |style| style.digits);
            // The column of characters may begin like a group, but is never longer than the row has bytes.
            let so_far = columns.len() * style.map_or(0, |style| style.bytes);
            let space = text.get(from..at)?;
            let gap = usual.unwrap_or(b" ") != space && colon && rest.trim_ascii_end().len() <= so_far;
            if length != wanted || !group.iter().all(u8::is_ascii_hexdigit) || gap {
                if !colon {
                    return None;
                }
                characters = Some(rest);
                break;
            }
            if style.is_none() {
                style = Some(Style::of(group, colon)?);
            } else {
                usual.get_or_insert(space);
            }
            if columns.len() >= MAX_ROW {
                return None;
            }
            columns.push((line.number, at));
            at += length;
        }
        let style = style?;
        // A table of words as wide as its first column is no dump, nor are the words that a mail program put
        // on a line of their own.
        if !colon && (digits >= 8 && style.digits >= digits || style.octal && digits == style.digits) {
            return None;
        }
        let mut row = Self::of_groups(line, style, offsets(offset), digits, columns)?;
        row.has_characters = characters.is_some();
        if colon && let Some(groups) = row.groups_before_characters(text) {
            row.trim(groups * style.bytes);
            row.has_characters = true;
        }
        Some(row)
    }
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count()
}
