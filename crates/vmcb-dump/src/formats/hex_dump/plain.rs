//! Hex dumps without offsets: `xxd -p`, `od -An -v`.
//!
//! Nothing in a row says where it belongs, so a row that is lost moves all that follow. Such a dump counts
//! only where it stands alone and is whole: rows of one width, one after the other, that make whole pages.

use super::block::{Block, Item, Used};
use super::row::{MAX_ROW, Row, Style};
use crate::format::{Format, Out, Taken};
use crate::text::Text;
use vmcb::layout::PAGE_SIZE;

/// Pages of one dump: they are held until its end is known.
const MAX_PAGES: usize = 64;
/// Digits of a row in one piece: fewer are a number, and `xxd` writes no more than 256 bytes.
const PIECE: std::ops::RangeInclusive<usize> = 32..=512;
/// Bytes of a row of groups.
const MIN_ROW: usize = 8;

#[derive(Default)]
pub(crate) struct PlainHex {
    open: Option<Plain>,
    used: Used,
}

/// A dump under way.
struct Plain {
    rows: Vec<Row>,
    bytes: usize,
    /// The line with which it goes on.
    next_line: u64,
    /// A shorter row has come, which is the last, or more than is held.
    ended: bool,
}

impl PlainHex {
    pub(crate) fn new() -> Self {
        Self::default()
    }
}

impl Format for PlainHex {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let Some(row) = Row::plain(line) else {
            self.finish(out);
            return Taken::No;
        };
        if !self.open.as_ref().is_some_and(|plain| plain.accepts(&row)) {
            self.finish(out);
        }
        let plain = self.open.get_or_insert_with(|| Plain::new(line.number));
        let before = plain.bytes;
        plain.push(row);
        if before < PAGE_SIZE && plain.bytes >= PAGE_SIZE { Taken::Began } else { Taken::Yes }
    }

    fn cut(&mut self) {
        if let Some(plain) = &mut self.open {
            plain.ended = true;
        }
    }

    fn finish(&mut self, out: &mut Out) {
        let Some(plain) = self.open.take() else {
            return;
        };
        let Some(first) = plain.rows.first().filter(|_| plain.is_whole()) else {
            return;
        };
        let mut block = Block::new(first);
        block.plain = true;
        block.base = Some(0);
        block.used = self.used;
        let mut offset = 0;
        for mut row in plain.rows {
            let next = offset + row.printed.len() as u64;
            row.offsets = [Some(offset); 3];
            block.item(Item::Row(row), out);
            offset = next;
        }
        block.emit(out);
        self.used = block.used;
    }
}

impl Plain {
    fn new(line: u64) -> Self {
        Self { rows: Vec::new(), bytes: 0, next_line: line, ended: false }
    }

    fn accepts(&self, row: &Row) -> bool {
        let same = |first: &Row| {
            let piece = first.style.colon && row.style.colon;
            (piece || first.style == row.style) && row.printed.len() <= first.printed.len()
        };
        !self.ended && row.line() == self.next_line && self.rows.first().is_some_and(same)
    }

    fn push(&mut self, row: Row) {
        self.next_line = row.rest_line.unwrap_or(u64::MAX);
        self.bytes += row.printed.len();
        self.ended = self.rows.first().is_some_and(|first| row.printed.len() < first.printed.len());
        if self.bytes > MAX_PAGES * PAGE_SIZE {
            self.rows = Vec::new();
            self.ended = true;
            return;
        }
        self.rows.push(row);
    }

    fn is_whole(&self) -> bool {
        self.bytes >= PAGE_SIZE && self.bytes.is_multiple_of(PAGE_SIZE)
    }
}

impl Row {
    /// Reads a line of nothing but groups of one width, or of one long group.
    fn plain(line: &Text<'_>) -> Option<Self> {
        let message = line.message();
        let mut columns = Vec::new();
        let mut digits = 0;
        let mut at = line.start;
        for word in message.split(|byte| matches!(byte, b' ' | b'\t')) {
            if !word.is_empty() {
                if columns.len() >= MAX_ROW || !word.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                if columns.is_empty() {
                    digits = word.len();
                }
                if word.len() != digits {
                    return None;
                }
                columns.push((line.number, at));
            }
            at += word.len() + 1;
        }
        let piece = columns.len() == 1 && PIECE.contains(&digits) && digits.is_multiple_of(2);
        if !piece && !matches!(digits, 2 | 4 | 8 | 16) {
            return None;
        }
        // One long group is printed as the bytes are, as after the colon of `xxd`.
        let style = Style { colon: piece, digits, bytes: digits / 2, octal: false };
        if columns.len() * style.bytes < MIN_ROW && columns.len() < 2 {
            return None;
        }
        Self::of_groups(line, style, [None; 3], 0, columns)
    }
}
