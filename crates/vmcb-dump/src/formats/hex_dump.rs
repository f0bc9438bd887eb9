//! Hex dumps: the text of `xxd`, `hexdump`, `od`, the kernel's `print_hex_dump` and their like.
//!
//! None of them says which tool wrote it. Whether offsets are hexadecimal, octal or decimal is found from
//! the rows, of which each must begin where the one before it ended; the order of bytes within a group
//! from the style, and from the column of characters where there is one.

mod block;
mod characters;
mod page;
mod plain;
mod read;
mod rest;
mod row;

use self::block::{Block, Item, Used};
use self::row::{Row, offsets};
use crate::format::{Format, Out, Taken};
use crate::text::{Text, has_cut, is_hex_row, without_remark};
use memchr::memmem;

pub(crate) use plain::PlainHex;

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;

pub(crate) struct HexDump {
    open: Option<Block>,
    /// What the dumps of the input have used up so far.
    used: Used,
}

impl HexDump {
    pub(crate) fn new() -> Self {
        Self { open: None, used: Used::default() }
    }
}

impl Format for HexDump {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        if let Some(row) = Row::read(line) {
            if let Some(block) = &mut self.open {
                block.flush(Some(&row), out);
                if block.accepts(&row) {
                    block.row(row);
                    return Taken::Yes;
                }
            }
            if self.open.as_ref().is_some_and(|block| block.is_doubted_by(&row)) {
                self.open = None;
            }
            if !row.may_begin() {
                // A row of which something was cut out.
                self.cut();
                return self.pass(out);
            }
            self.finish(out);
            let mut block = Block::new(&row);
            block.used = self.used;
            block.row(row);
            self.open = Some(block);
            return Taken::Began;
        }
        let Some(block) = &mut self.open else {
            return Taken::No;
        };
        if block.pending.as_mut().is_some_and(|row| row.take_rest(line, block.width)) {
            return Taken::Yes;
        }
        let message = without_remark(line.message()).trim_ascii_end();
        if message == b"*" {
            // It stands for rows like the last one, if that is whole and was the last one.
            if !block.pending.as_ref().is_some_and(|row| row.is_whole(block.width)) {
                block.cut();
                return Taken::Yes;
            }
            block.flush(None, out);
            block.item(Item::Star(line.number, line.text.to_owned()), out);
            return Taken::Yes;
        }
        if let Some(offsets) = lone_offset(message) {
            block.flush(None, out);
            if block.accepts_end(&offsets) {
                block.item(Item::End(offsets, line.number, line.text.to_owned()), out);
                self.finish(out);
                return Taken::Yes;
            }
        }
        // A row of which something was cut out. Dots may end a sentence, or what was left of it.
        let dots = message.ends_with(b"...");
        if is_hex_row(message) || has_cut(message) || dots || has_characters(message) {
            block.cut();
        }
        self.pass(out)
    }

    fn claims(&mut self, line: &Text<'_>) -> bool {
        // A page may hold text that looks like a dump: the characters of a row are no line of one.
        let Some(block) = &mut self.open else {
            return false;
        };
        let width = block.width;
        let rest = line.text.trim_start_matches(['>', '|', ' ', '\t']);
        let start = line.text.len() - rest.len();
        block.pending.as_mut().is_some_and(|row| {
            let without = rest.get(..without_remark(rest.as_bytes()).len()).unwrap_or_default();
            let shows = row.shows_as(rest) || row.shows_as(without);
            (shows || row.lacks_group(rest, width)) && row.take_rest_from(line, start, width)
        })
    }

    fn finish(&mut self, out: &mut Out) {
        if let Some(mut block) = self.open.take() {
            block.flush(None, out);
            block.decide(out);
            block.emit(out);
            self.used = block.used;
        }
    }

    fn cut(&mut self) {
        if let Some(block) = &mut self.open {
            block.cut();
        }
    }
}

impl HexDump {
    fn pass(&mut self, out: &mut Out) -> Taken {
        if let Some(block) = &mut self.open {
            block.idle += 1;
            if block.idle > MAX_IDLE {
                self.finish(out);
            }
        }
        Taken::No
    }
}

/// Whether a message shows bytes as characters: it is what was left of a row, or a mark of a cut among its dots.
fn has_characters(message: &[u8]) -> bool {
    memmem::find(message, b"....").is_some() || message.ends_with(b"|") || message.ends_with(b"<")
}

/// An offset without bytes, with which `hexdump` and `od` end.
fn lone_offset(message: &[u8]) -> Option<[Option<u64>; 3]> {
    let length = message.len();
    ((6..=16).contains(&length) && message.iter().all(u8::is_ascii_hexdigit)).then(|| offsets(message))
}
