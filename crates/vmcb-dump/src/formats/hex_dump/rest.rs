//! The rest of a row that a mail program put on the next line.

use super::row::{MAX_ROW, Row};
use crate::text::{Text, has_cut, skip_spaces, without_remark};

impl Row {
    /// Takes a line as the rest of this row, if it can be that.
    pub(super) fn take_rest(&mut self, line: &Text<'_>, width: Option<usize>) -> bool {
        line.is_rest() && self.take_rest_from(line, line.start, width)
    }

    /// Takes what begins at `start` of a line as the rest of this row, if it can be that.
    pub(super) fn take_rest_from(&mut self, line: &Text<'_>, start: usize, width: Option<usize>) -> bool {
        let message = line.text.as_bytes().get(start..).unwrap_or_default();
        let limit = width.unwrap_or(MAX_ROW);
        // All characters were there, or a `*` that stands for rows.
        let ended = self.orders() != (false, false) || message.trim_ascii() == b"*";
        if self.rest_line != Some(line.number) || ended {
            return false;
        }
        let text = line.text.as_bytes();
        let mut at = start;
        let before = self.columns.len();
        let mut cut = false;
        while self.printed.len() < limit && !self.has_characters {
            at = skip_spaces(text, at);
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let group = rest.get(..length).unwrap_or_default();
            let is_group = length == self.style.digits && group.iter().all(u8::is_ascii_hexdigit);
            if !is_group || self.take_group(text, (line.number, at)).is_none() {
                // A part of a group is what a cut left of it.
                let part = length < self.style.digits && group.iter().all(u8::is_ascii_hexdigit);
                cut = has_cut(rest) || part && !group.is_empty();
                break;
            }
            at += length;
        }
        let without = without_remark(message);
        if self.columns.len() == before && !self.take_characters(message) && !self.take_characters(without) {
            return false;
        }
        if self.columns.len() == before {
            // Dots that are not all characters of the row may be what is left of a mark where lines were cut out.
            cut |= self.allowed.is_none() && message.iter().all(|byte| b". \t".contains(byte));
            self.tail.extend_from_slice(message);
        } else {
            self.tail.clear();
        }
        self.lines.push((line.number, line.text.to_owned()));
        self.cut |= cut;
        self.rest_line = (!cut).then_some(line.last + 1);
        true
    }

    /// Whether this row has fewer groups than others, and a line begins with one.
    pub(super) fn lacks_group(&self, text: &str, width: Option<usize>) -> bool {
        let group = text.split_ascii_whitespace().next().unwrap_or_default();
        group.len() == self.style.digits
            && group.bytes().all(|byte| byte.is_ascii_hexdigit())
            && width.is_some_and(|width| self.printed.len() < width)
    }
}
