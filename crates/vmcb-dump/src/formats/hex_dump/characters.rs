//! The column of characters of a row, which repeats its bytes.

use super::row::Row;
use crate::text::has_cut;

impl Row {
    /// How many groups there are if the last ones are the characters of those before: spaces between them became fewer,
    /// and the characters have the form of groups.
    pub(super) fn groups_before_characters(&self, text: &[u8]) -> Option<usize> {
        let count = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte != b' ').count();
        let behind = |group: usize| {
            let (_, column) = self.columns.get(group)?;
            text.get(column + self.style.digits..)
        };
        // Nothing is compared where more is left than the groups before have characters.
        (1..self.columns.len()).rev().find_map(|groups| {
            let bytes = self.printed.get(..groups * self.style.bytes)?;
            let turned = self.turned.get(..groups * self.style.bytes)?;
            let behind = behind(groups - 1)?;
            let shows = |bytes: &[u8]| {
                count(bytes) == count(behind) && characters_of(bytes) == without_spaces(behind)
            };
            (behind.len() <= 2 * bytes.len() && (shows(bytes) || shows(turned))).then_some(groups)
        })
    }

    /// What stands behind the last group.
    pub(super) fn behind(&self) -> &[u8] {
        let (line, column) = self.columns.last().copied().unwrap_or((0, 0));
        let text = self.lines.iter().find(|(number, _)| *number == line).map_or("", |(_, text)| text);
        text.as_bytes().get(column + self.style.digits..).unwrap_or_default()
    }

    /// The column of characters, and what stands behind it.
    fn characters(&self) -> (&[u8], &[u8]) {
        let column = match self.behind().trim_ascii_start() {
            [b'|' | b'>', characters @ ..] if !self.style.colon => characters,
            // The characters may begin with spaces themselves. One space is what a web page makes of two.
            characters if self.style.colon => match self.behind() {
                [b' ', b' ', characters @ ..] => characters,
                [b' ', ..] if !self.begins_with_space() => characters,
                _ => &[],
            },
            _ => &[],
        };
        column.split_at_checked(self.printed.len()).unwrap_or((column, &[]))
    }

    /// Whether the characters begin with a space in either order.
    fn begins_with_space(&self) -> bool {
        self.printed.first() == Some(&b' ') || self.turned.first() == Some(&b' ')
    }

    /// Which orders of the bytes within a group the column of characters allows: the first, the second.
    pub(super) fn orders(&self) -> (bool, bool) {
        if let Some(allowed) = self.allowed {
            return allowed;
        }
        let (column, rest) = self.characters();
        // What goes on is no column: the last of it may be a mark of a cut, `[...]`.
        if rest.first().is_some_and(|&byte| !byte.is_ascii_whitespace() && !matches!(byte, b'|' | b'<')) {
            return (false, false);
        }
        let allows = |bytes: &[u8]| {
            let (column, bytes) = match self.style.colon {
                true => (trim_spaces(column), trim_spaces(bytes)),
                false => (column, bytes),
            };
            !column.is_empty() && column.iter().copied().eq(bytes.iter().map(shown))
        };
        (allows(&self.printed), allows(&self.turned))
    }

    /// Whether nothing is missing of it, as far as that can be told.
    pub(super) fn is_whole(&self, width: Option<usize>) -> bool {
        let length = self.printed.len();
        let orders = self.orders();
        let fits = orders.0 || orders.1;
        let whole = match width {
            Some(width) => length == width,
            // Behind a colon anything may be taken for characters.
            None if self.style.colon => {
                let characters = self.behind().trim_ascii();
                fits || characters.is_empty() || characters.len() == length
            }
            None => true,
        };
        let rest = if fits { self.characters().1 } else { self.behind() };
        whole && !self.cut && !has_cut(rest) && self.is_followed()
    }

    /// Whether nothing stands behind the groups but their characters and a remark. Spaces among the characters are
    /// often lost.
    fn is_followed(&self) -> bool {
        let behind: Vec<u8> = self.behind().iter().chain(&self.tail).copied().collect();
        let behind = behind.trim_ascii_start();
        let fenced = !self.style.colon && matches!(behind, [b'|' | b'>', ..]);
        let behind = behind.get(usize::from(fenced)..).unwrap_or_default();
        if behind.is_empty() || !self.style.colon && !fenced || matches!(behind, [b'#' | b'<' | b'(', ..]) {
            return true;
        }
        let follow = |bytes: &[u8]| {
            let mut rest = behind;
            for byte in bytes.iter().map(shown).filter(|&byte| byte != b' ') {
                rest = rest.trim_ascii_start();
                match rest.split_first() {
                    Some((&first, after)) if first == byte => rest = after,
                    _ => return false,
                }
            }
            if fenced {
                let Some((b'|' | b'<', after)) = rest.trim_ascii_start().split_first() else {
                    return false;
                };
                rest = after;
            }
            rest.first().is_none_or(u8::is_ascii_whitespace)
        };
        follow(&self.printed) || follow(&self.turned)
    }

    /// Whether a line, without quote marks, is exactly the characters of this row or the last of them, and they are not
    /// all dots. Spaces among them are often lost.
    pub(super) fn shows_as(&self, text: &str) -> bool {
        let text = without_spaces(text.as_bytes());
        self.printed.len() >= 8
            && text.iter().any(|&byte| byte != b'.')
            && (characters_of(&self.printed).ends_with(&text) || characters_of(&self.turned).ends_with(&text))
    }

    /// Takes a line as the characters of this row or the last of them.
    pub(super) fn take_characters(&mut self, message: &[u8]) -> bool {
        let message = message.trim_ascii();
        let message = message.strip_suffix(b"|").or_else(|| message.strip_suffix(b"<")).unwrap_or(message);
        let message = without_spaces(message);
        let (one, other) = (characters_of(&self.printed), characters_of(&self.turned));
        if one == message || other == message {
            self.allowed = Some((one == message, other == message));
        }
        !message.is_empty() && (one.ends_with(&message) || other.ends_with(&message))
    }
}

/// The character that stands for a byte.
fn shown(&byte: &u8) -> u8 {
    if (0x20..0x7F).contains(&byte) { byte } else { b'.' }
}

/// The characters that stand for bytes, without those that are spaces.
fn characters_of(bytes: &[u8]) -> Vec<u8> {
    without_spaces(bytes).iter().map(shown).collect()
}

fn without_spaces(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|&byte| byte != b' ').collect()
}

/// Bytes without the spaces at their end.
fn trim_spaces(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().rev().take_while(|&&byte| byte == b' ').count();
    bytes.get(..bytes.len() - spaces).unwrap_or_default()
}
