//! Hex dumps: the text of `xxd`, `hexdump`, `od`, the kernel's `print_hex_dump` and their like.
//!
//! None of them says which tool wrote it. Whether offsets are hexadecimal, octal or decimal is found from
//! the rows, of which each must begin where the one before it ended; the order of bytes within a group
//! from the style, and from the column of characters where there is one.

mod plain;

use super::kvm_nested_state::{self, HEADER, Header};
use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, RemarkKind};
use crate::kind::Kind;
use crate::page;
use crate::text::{Text, begins_with_cut, has_cut, is_hex_row, skip_spaces, without_remark};
use memchr::memmem;
use std::collections::VecDeque;
use std::ops::Range;
use vmcb::layout::PAGE_SIZE;
use vmcb::{KnownPage, Phase};

pub(crate) use plain::PlainHex;

/// Bytes of one row.
const MAX_ROW: usize = 256;
/// Characters of one row, with a column of characters.
const MAX_TEXT: usize = 2048;
/// Rows held while it is open how offsets are written.
const MAX_HELD: usize = 64;
/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;
/// Pages of nothing but a repeated row that are handed out of one input.
const MAX_REPEATED_PAGES: u64 = 256;
/// Bytes without which a page is not worth showing.
const MIN_BYTES: usize = 16;
/// Bytes of text that show a page with some care: with less most of it is a `*` or missing.
const SPARSE: usize = 512;
/// Pages with less text that are handed out of one input.
const MAX_SPARSE_PAGES: u64 = 1024;
/// Bytes that a `*` may stand for in one input, and how many more with each byte of text.
const MAX_REPEATED: u64 = 2 * MAX_REPEATED_PAGES * PAGE;
const REPEATED_PER_BYTE: u64 = 8;

const PAGE: u64 = PAGE_SIZE as u64;

pub(crate) struct HexDump {
    open: Option<Block>,
    /// What the dumps of the input have used up so far.
    used: Used,
}

/// What keeps the work in proportion to the input: a `*` of two bytes can stand for any number of pages.
#[derive(Clone, Copy, Default)]
struct Used {
    /// Bytes of text read as rows.
    text: u64,
    /// Bytes that a `*` stood for.
    repeated: u64,
    /// Pages of nothing but repeats that were handed out.
    repeated_pages: u64,
    /// Pages with little text that were handed out.
    sparse_pages: u64,
}

impl Used {
    /// Whether a `*` may stand for so many bytes more.
    fn repeat(&mut self, bytes: u64) -> bool {
        let limit = MAX_REPEATED.saturating_add(self.text.saturating_mul(REPEATED_PER_BYTE));
        let fits = self.repeated.saturating_add(bytes) <= limit;
        if fits {
            self.repeated += bytes;
        }
        fits
    }
}

/// How offsets may be written.
const BASES: [u32; 3] = [16, 8, 10];

/// What all rows of a dump have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Style {
    /// A colon after the offset, as `xxd` and the kernel write it.
    colon: bool,
    /// Characters of a group.
    digits: usize,
    /// Bytes of a group.
    bytes: usize,
    /// The groups are octal words of 16 bits.
    octal: bool,
}

#[derive(Clone)]
struct Row {
    style: Style,
    /// The offset in each of [`BASES`].
    offsets: [Option<u64>; 3],
    offset_digits: usize,
    /// The lines that it was read from.
    lines: Vec<(u64, String)>,
    /// The line of each group, and where in it the group begins.
    columns: Vec<(u64, usize)>,
    /// The line after it, if a mail program may have put its rest there.
    rest_line: Option<u64>,
    /// The column of characters began, so that no group follows.
    has_characters: bool,
    /// What stands on the lines behind that of the last group.
    tail: Vec<u8>,
    /// The orders that characters on the next line allow.
    allowed: Option<(bool, bool)>,
    /// Lines are missing behind it.
    cut: bool,
    /// Bytes in the order in which they are printed.
    printed: Vec<u8>,
    /// Bytes with each group turned round.
    turned: Vec<u8>,
}

/// A dump under way.
struct Block {
    style: Style,
    /// Index in [`BASES`], once only one is possible.
    base: Option<usize>,
    candidates: [bool; 3],
    held: VecDeque<Item>,
    /// The last row, as long as its rest may come.
    pending: Option<Row>,
    /// Bytes of a row, once two of them show it.
    width: Option<usize>,
    /// Where the next row must begin.
    next: u64,
    last: Option<Row>,
    /// A `*` stands after the last row.
    repeats: bool,
    page: Option<PageBytes>,
    rows: usize,
    /// The first of them is at 0.
    from_start: bool,
    /// The offset of the end stood behind the rows, and shows how offsets are written: behind a `*` only where the rows
    /// began at 0.
    ended: bool,
    /// Rows whose characters are those of the first order alone, and those of the second alone.
    votes: (u64, u64),
    offset_digits: usize,
    idle: u64,
    used: Used,
    /// The rows have no offsets.
    plain: bool,
    /// A nested state of KVM's has been handed out, which is no whole number of pages.
    nested: bool,
}

/// What a dump consists of.
#[derive(Clone)]
enum Item {
    Row(Row),
    Star(u64, String),
    End([Option<u64>; 3], u64, String),
}

/// A page under way, in both orders.
struct PageBytes {
    base: u64,
    printed: Box<[u8; PAGE_SIZE]>,
    turned: Box<[u8; PAGE_SIZE]>,
    known: Box<[bool; PAGE_SIZE]>,
    count: usize,
    /// Bytes of text that show it.
    text: usize,
    rows: Vec<RowPlace>,
    notes: Notes,
}

/// Where the bytes of a row stand in the text.
struct RowPlace {
    /// Offset of its first byte in the page.
    offset: u16,
    length: u16,
    /// Which byte of the printed row comes first.
    skipped: usize,
    /// Bytes of the printed row; a longer range repeats it.
    period: usize,
    columns: Vec<(u64, usize)>,
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

fn offsets(digits: &[u8]) -> [Option<u64>; 3] {
    BASES.map(|base| {
        digits.iter().try_fold(0u64, |value, &digit| {
            value.checked_mul(u64::from(base))?.checked_add(u64::from(char::from(digit).to_digit(base)?))
        })
    })
}

impl Row {
    /// Reads a line as a row, if it has the form of one.
    fn read(line: &Text<'_>) -> Option<Self> {
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

    /// How many groups there are if the last ones are the characters of those before: spaces between them became fewer,
    /// and the characters have the form of groups.
    fn groups_before_characters(&self, text: &[u8]) -> Option<usize> {
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

    /// A row of the groups that begin at `columns`.
    fn of_groups(
        line: &Text<'_>,
        style: Style,
        offsets: [Option<u64>; 3],
        offset_digits: usize,
        columns: Vec<(u64, usize)>,
    ) -> Option<Self> {
        let mut row = Self {
            style,
            offsets,
            offset_digits,
            lines: vec![(line.number, line.text.to_owned())],
            rest_line: Some(line.last + 1),
            has_characters: false,
            tail: Vec::new(),
            allowed: None,
            cut: false,
            printed: Vec::with_capacity(columns.len() * style.bytes),
            turned: Vec::with_capacity(columns.len() * style.bytes),
            columns: Vec::new(),
        };
        for column in columns {
            row.take_group(line.text.as_bytes(), column)?;
        }
        Some(row)
    }

    /// Takes the group at a column of a line.
    fn take_group(&mut self, text: &[u8], column: (u64, usize)) -> Option<()> {
        let group = text.get(column.1..column.1 + self.style.digits)?;
        if self.printed.len() + self.style.bytes > MAX_ROW {
            return None;
        }
        let start = self.printed.len();
        if self.style.octal {
            let word = group
                .iter()
                .try_fold(0u32, |value, &digit| Some(value << 3 | char::from(digit).to_digit(8)?))?;
            let [low, high] = u16::try_from(word).ok()?.to_le_bytes();
            // Printed high byte first, as a number is.
            self.printed.extend([high, low]);
        } else {
            let digit = |digit: u8| Some(u8::try_from(char::from(digit).to_digit(16)?).unwrap_or(0));
            for pair in group.chunks_exact(2) {
                let &[high, low] = pair else { return None };
                self.printed.push(digit(high)? << 4 | digit(low)?);
            }
        }
        self.turned.extend(self.printed.get(start..)?.iter().rev());
        self.columns.push(column);
        Some(())
    }

    /// Takes a line as the rest of this row, if it can be that.
    fn take_rest(&mut self, line: &Text<'_>, width: Option<usize>) -> bool {
        line.is_rest() && self.take_rest_from(line, line.start, width)
    }

    /// Takes what begins at `start` of a line as the rest of this row, if it can be that.
    fn take_rest_from(&mut self, line: &Text<'_>, start: usize, width: Option<usize>) -> bool {
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

    /// What stands behind the last group.
    fn behind(&self) -> &[u8] {
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

    /// The bases in which its offset may be written: `od` in octal or decimal and `hexdump` in hexadecimal write 7
    /// digits; `hexdump -C`, `xxd` and `od -Ax` write others, in hexadecimal.
    fn bases(&self) -> [bool; 3] {
        if self.style.colon || self.offset_digits != 7 {
            return [true, false, false];
        }
        self.offsets.map(|offset| offset.is_some())
    }

    /// Whether the characters begin with a space in either order.
    fn begins_with_space(&self) -> bool {
        self.printed.first() == Some(&b' ') || self.turned.first() == Some(&b' ')
    }

    /// Which orders of the bytes within a group the column of characters allows: the first, the second.
    fn orders(&self) -> (bool, bool) {
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
    fn is_whole(&self, width: Option<usize>) -> bool {
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

    /// Where it begins.
    fn line(&self) -> u64 {
        self.lines.first().map_or(1, |&(line, _)| line)
    }

    /// Bytes of the lines that it was read from.
    fn text(&self) -> usize {
        self.lines.iter().map(|(_, text)| text.len()).sum()
    }

    /// Whether a line, without quote marks, is exactly the characters of this row or the last of them, and they are not
    /// all dots. Spaces among them are often lost.
    fn shows_as(&self, text: &str) -> bool {
        let text = without_spaces(text.as_bytes());
        self.printed.len() >= 8
            && text.iter().any(|&byte| byte != b'.')
            && (characters_of(&self.printed).ends_with(&text) || characters_of(&self.turned).ends_with(&text))
    }

    /// Whether this row has fewer groups than others, and a line begins with one.
    fn lacks_group(&self, text: &str, width: Option<usize>) -> bool {
        let group = text.split_ascii_whitespace().next().unwrap_or_default();
        group.len() == self.style.digits
            && group.bytes().all(|byte| byte.is_ascii_hexdigit())
            && width.is_some_and(|width| self.printed.len() < width)
    }

    /// Takes a line as the characters of this row or the last of them.
    fn take_characters(&mut self, message: &[u8]) -> bool {
        let message = message.trim_ascii();
        let message = message.strip_suffix(b"|").or_else(|| message.strip_suffix(b"<")).unwrap_or(message);
        let message = without_spaces(message);
        let (one, other) = (characters_of(&self.printed), characters_of(&self.turned));
        if one == message || other == message {
            self.allowed = Some((one == message, other == message));
        }
        !message.is_empty() && (one.ends_with(&message) || other.ends_with(&message))
    }

    /// Leaves out what is not of the row's `width` bytes: characters that look like a group.
    fn trim(&mut self, width: usize) {
        self.printed.truncate(width);
        self.turned.truncate(width);
        self.columns.truncate(width.div_ceil(self.style.bytes));
    }

    /// Whether a dump may begin with this row: other texts have lines of hex digits too.
    fn may_begin(&self) -> bool {
        let aligned = self.offsets.iter().flatten().any(|offset| offset % PAGE == 0);
        aligned || self.printed.len() >= 4 && self.offset_digits >= 6
    }
}

impl Style {
    fn of(group: &[u8], colon: bool) -> Option<Self> {
        let digits = group.len();
        let octal = !colon && digits == 6 && group.iter().all(|byte| (b'0'..=b'7').contains(byte));
        let fits =
            octal || matches!(digits, 2 | 4 | 8 | 16) || colon && digits.is_multiple_of(2) && digits <= 128;
        fits.then_some(Self { colon, digits, bytes: if octal { 2 } else { digits / 2 }, octal })
    }

    /// Whether groups are printed with their last byte first, as numbers are, where nothing else tells.
    fn is_turned(self) -> bool {
        !self.colon && self.bytes > 1
    }
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count()
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

impl Block {
    fn new(row: &Row) -> Self {
        Self {
            style: row.style,
            base: None,
            candidates: row.bases(),
            held: VecDeque::new(),
            pending: None,
            width: None,
            next: 0,
            last: None,
            repeats: false,
            page: None,
            rows: 0,
            from_start: false,
            ended: false,
            votes: (0, 0),
            offset_digits: row.offset_digits,
            idle: 0,
            used: Used::default(),
            plain: false,
            nested: false,
        }
    }

    /// Takes a row, whose rest may come.
    fn row(&mut self, mut row: Row) {
        if let Some(width) = self.width.filter(|_| self.style.colon) {
            row.trim(width);
        }
        self.idle = 0;
        self.pending = Some(row);
    }

    /// No rest comes any more: `next` is the row that follows, if it is one.
    fn flush(&mut self, next: Option<&Row>, out: &mut Out) {
        let Some(mut row) = self.pending.take() else {
            return;
        };
        if let Some(next) = next.filter(|next| self.width.is_none() && next.style == self.style) {
            let offsets = row.offsets;
            let width = |base: usize| {
                let (from, to) = (offsets.get(base).copied()??, next.offsets.get(base).copied()??);
                usize::try_from(to.checked_sub(from)?).ok().filter(|&width| width > 0)
            };
            if self.style.colon
                && let Some(width) = width(0)
            {
                row.trim(width);
            }
            let length = row.printed.len();
            self.width = (0..BASES.len()).any(|base| width(base) == Some(length)).then_some(length);
        }
        self.item(Item::Row(row), out);
    }

    /// Lines are missing here, of which a `*` says nothing.
    fn cut(&mut self) {
        if let Some(row) = &mut self.pending {
            row.rest_line = None;
            row.cut = true;
        }
        self.repeats = false;
        if self.base.is_none() {
            // Whether the next row continues this one in some base would say nothing.
            self.held.clear();
            self.pending = None;
            self.candidates = [false; 3];
        }
    }

    /// Whether the row goes on with this dump.
    fn accepts(&mut self, row: &Row) -> bool {
        // Offsets only become wider.
        if row.style != self.style || row.offset_digits < self.offset_digits {
            return false;
        }
        if let Some(base) = self.base {
            let offset = row.offsets.get(base).copied().flatten();
            return offset.is_some_and(|offset| offset >= self.next);
        }
        let candidates = self.narrowed(&row.offsets, false);
        if candidates.contains(&true) {
            self.candidates = candidates;
            return true;
        }
        false
    }

    /// Whether a row that does not go on with this dump would do so if the offsets were of another base: rows were lost,
    /// and where the ones before it stand cannot be told.
    fn is_doubted_by(&self, row: &Row) -> bool {
        let Some((base, last)) = self.base.zip(self.pending.as_ref().or(self.last.as_ref())) else {
            return false;
        };
        let goes_on = |other: usize| {
            let (from, to) = (last.offsets.get(other).copied()??, row.offsets.get(other).copied()??);
            Some(to >= from.saturating_add(last.printed.len() as u64))
        };
        row.style == self.style
            && row.offset_digits == self.offset_digits
            && (0..BASES.len()).any(|other| other != base && goes_on(other) == Some(true))
    }

    fn accepts_end(&mut self, offsets: &[Option<u64>; 3]) -> bool {
        if let Some(base) = self.base {
            let offset = offsets.get(base).copied().flatten();
            return offset.is_some_and(|end| end == self.next || end > self.next && self.repeats);
        }
        let candidates = self.narrowed(offsets, true);
        if candidates.contains(&true) {
            self.candidates = candidates;
            return true;
        }
        false
    }

    /// The bases in which `offsets` follows what is held.
    fn narrowed(&self, offsets: &[Option<u64>; 3], end: bool) -> [bool; 3] {
        let mut candidates = self.candidates;
        let star = matches!(self.held.back(), Some(Item::Star(..)));
        let last = self.held.iter().rev().find_map(|item| match item {
            Item::Row(row) => Some(row),
            _ => None,
        });
        let Some(last) = last else {
            return candidates;
        };
        for (index, candidate) in candidates.iter_mut().enumerate() {
            let before = last.offsets.get(index).copied().flatten();
            let length = last.printed.len() as u64;
            let next = before.and_then(|before| before.checked_add(length));
            let offset = offsets.get(index).copied().flatten();
            *candidate &= match (offset, next) {
                (Some(offset), Some(next)) if star => {
                    offset >= next && (end || (offset - next) % length.max(1) == 0)
                }
                (Some(offset), Some(next)) => offset == next,
                _ => false,
            };
        }
        candidates
    }

    fn item(&mut self, item: Item, out: &mut Out) {
        self.idle = 0;
        let ends = matches!(item, Item::End(..));
        if self.base.is_some() {
            self.place(item, out);
            return;
        }
        self.held.push_back(item);
        let rows = self.held.iter().filter(|item| matches!(item, Item::Row(..))).count();
        let left = self.candidates.iter().filter(|&&candidate| candidate).count();
        if rows > 1 && left == 1 || self.held.len() >= MAX_HELD || ends {
            self.decide(out);
        }
    }

    /// Settles how offsets are written and places what was held.
    fn decide(&mut self, out: &mut Out) {
        if self.base.is_some() {
            return;
        }
        // Where the rows leave more than one base possible nothing is known, but for one page that is all the same.
        let possible: Vec<usize> =
            (0..BASES.len()).filter(|&base| self.candidates.get(base) == Some(&true)).collect();
        let aligned = |item: Option<&Item>, base: usize| {
            let offsets = match item {
                Some(Item::Row(Row { offsets, .. }) | Item::End(offsets, ..)) => offsets,
                _ => return false,
            };
            offsets.get(base).copied().flatten().is_some_and(|offset| offset % PAGE == 0)
        };
        // From the beginning on: of a later part the first offset tells nothing.
        let begins = |base: usize| match self.held.front() {
            Some(Item::Row(row)) => row.offsets.get(base).copied().flatten() == Some(0),
            _ => false,
        };
        let page = |base: &usize| begins(*base) && aligned(self.held.back(), *base);
        self.base = match possible.as_slice() {
            &[base] => Some(base),
            // Octal, in which the same digits are the fewest bytes, before hexadecimal.
            _ if self.held.len() > 1 => [1, 0].into_iter().filter(|base| possible.contains(base)).find(page),
            _ => None,
        };
        if self.base.is_none() {
            self.held.clear();
            self.candidates = [false; 3];
        }
        for item in std::mem::take(&mut self.held) {
            self.place(item, out);
        }
    }

    fn place(&mut self, item: Item, out: &mut Out) {
        let base = self.base.unwrap_or(0);
        match item {
            Item::Star(line, text) => {
                self.repeats = true;
                if let Some(page) = &mut self.page {
                    page.notes.keep(line, &text);
                }
            }
            Item::End(offsets, line, text) => {
                if let Some(end) = offsets.get(base).copied().flatten() {
                    self.rows += 1;
                    self.ended = !self.repeats || self.from_start;
                    self.repeat_until(end, out);
                    if let Some(page) = &mut self.page {
                        page.notes.keep(line, &text);
                    }
                }
            }
            Item::Row(row) => {
                let Some(offset) = row.offsets.get(base).copied().flatten() else {
                    return;
                };
                self.from_start |= self.rows == 0 && offset == 0;
                self.rows += 1;
                self.used.text = self.used.text.saturating_add(row.text() as u64);
                self.repeat_until(offset, out);
                match row.orders() {
                    (true, false) => self.votes.0 += 1,
                    (false, true) => self.votes.1 += 1,
                    _ => {}
                }
                self.next = offset.saturating_add(row.printed.len() as u64);
                self.fill(&row, offset, self.next, false, out);
                self.last = Some(row);
            }
        }
    }

    /// Fills with the last row what a `*` leaves out.
    fn repeat_until(&mut self, end: u64, out: &mut Out) {
        if self.repeats
            && end > self.next
            && let Some(row) = self.last.take()
        {
            self.fill(&row, self.next, end, true, out);
            self.next = end;
            self.last = Some(row);
        }
        self.repeats = false;
    }

    /// Puts the bytes of a row, again and again, into the page or pages from `from` up to `to`.
    fn fill(&mut self, row: &Row, from: u64, to: u64, repeats: bool, out: &mut Out) {
        let period = row.printed.len();
        if period == 0 {
            return;
        }
        let mut left_out = 0;
        let mut at = from;
        while at < to {
            let base = at / PAGE * PAGE;
            let start = usize::try_from(at - base).unwrap_or(0);
            let length = usize::try_from(to - at).unwrap_or(PAGE_SIZE).min(PAGE_SIZE - start);
            let whole = repeats && at == base && to - at > PAGE;
            // A hostile end would yield pages of nothing but repeats for ever.
            let many = whole && self.used.repeated_pages >= MAX_REPEATED_PAGES;
            if many || repeats && !self.used.repeat(length as u64) {
                let next = if whole { (to - 1) / PAGE * PAGE } else { at.saturating_add(length as u64) };
                left_out += (next - at).div_ceil(PAGE);
                at = next;
                continue;
            }
            if self.page.as_ref().is_some_and(|page| page.base != base) {
                self.emit(out);
            }
            self.used.repeated_pages += u64::from(whole);
            let begins = self.page.is_none();
            let page = self.page.get_or_insert_with(|| PageBytes::new(base));
            if begins || !repeats {
                for (line, text) in &row.lines {
                    page.notes.keep(*line, text);
                }
            }
            if !repeats {
                page.text += row.text();
            }
            let skipped = usize::try_from((at - from) % period as u64).unwrap_or(0);
            page.put(row, start, length, skipped);
            page.leave_out(&mut left_out, row.line());
            at = at.saturating_add(length as u64);
            if at == u64::MAX {
                return;
            }
        }
        if let Some(page) = &mut self.page {
            page.leave_out(&mut left_out, row.line());
        }
    }

    /// Hands the page out.
    fn emit(&mut self, out: &mut Out) {
        let Some(mut page) = self.page.take() else {
            return;
        };
        // Two rows of hexadecimal offsets, with a row lost between them, pass for rows of octal ones.
        let doubtful =
            self.base != Some(0) && !self.style.octal && !self.plain && self.rows < 4 && !self.ended;
        // One row alone may be anything.
        if self.rows < 2 || doubtful || page.count < MIN_BYTES {
            return;
        }
        if page.text < SPARSE {
            if self.used.sparse_pages >= MAX_SPARSE_PAGES {
                return;
            }
            self.used.sparse_pages += 1;
            if self.used.sparse_pages == MAX_SPARSE_PAGES {
                let place = page.notes.first_line();
                page.notes.remark(RemarkKind::SparsePagesLeftOut, place);
            }
        }
        let style = self.style;
        let turned = match self.votes {
            (0, 0) => style.is_turned(),
            (printed, turned) => turned > printed,
        };
        // `xxd` prints groups in the order of memory, the kernel and `xxd -e` as numbers.
        let unknown = !self.plain && style.colon && style.bytes > 2 && self.votes == (0, 0)
            || style.bytes > 1 && self.votes.0 > 0 && self.votes.1 > 0;
        let place = page.notes.first_line();
        if self.plain && !style.colon && style.bytes > 1 {
            page.notes.remark(RemarkKind::NumbersAssumed, place.clone());
        }
        if unknown {
            page.notes.remark(RemarkKind::ByteOrderUnknown, place.clone());
        }
        if self.nested {
            // The first bytes are the state's last, and what follows does not begin with a page.
            if page.count > HEADER {
                page.notes.remark(RemarkKind::BehindNestedState, place);
                page.without_fields(out);
            }
            return;
        }
        if page.count < PAGE_SIZE
            && let Some(first) = page.known.iter().position(|known| !known)
        {
            let place = page.rows.last().map_or(page.notes.first_line(), |row| row.whole(style));
            let first = u16::try_from(first).unwrap_or(0);
            let count = u16::try_from(PAGE_SIZE - page.count).unwrap_or(0);
            page.notes.remark(RemarkKind::BytesMissing { first, count }, place);
        }
        let bytes = if turned { &page.turned } else { &page.printed };
        let other = if turned { &page.printed } else { &page.turned };
        let header = page.known.iter().take(HEADER).all(|&known| known);
        let guest = |bytes: &[u8; PAGE_SIZE]| match Header::read(bytes) {
            Some(Header::Guest { vmcb, pending }) if header => Some((vmcb, pending)),
            _ => None,
        };
        if (unknown || page.count < PAGE_SIZE) && (guest(bytes).is_some() || guest(other).is_some()) {
            self.nested = true;
            page.without_fields(out);
            return;
        }
        if let Some(header) = guest(bytes) {
            self.nested = true;
            let state = bytes.get(HEADER..).unwrap_or_default();
            let mut found = kvm_nested_state::found(header, state, place, |field| {
                page.place(field.offset.saturating_add(HEADER as u16), field.size, style, turned)
            });
            found.printed_offset = (!self.plain).then_some(page.base);
            page.notes.take_over(&mut found);
            out.push_back(found);
            return;
        }
        if unknown {
            let both = page.printed.iter().zip(page.turned.iter());
            for (known, (one, other)) in page.known.iter_mut().zip(both) {
                *known &= one == other;
            }
            page.count = page.known.iter().filter(|&&known| known).count();
        }
        let mut found = Found::new(Kind::HexDump, Phase::Unknown, place);
        found.printed_offset = (!self.plain).then_some(page.base);
        let bytes = if turned { &page.turned } else { &page.printed };
        if page.count == PAGE_SIZE {
            *found.vmcb = KnownPage::all(bytes);
        } else {
            let words = bytes.chunks_exact(8).zip(page.known.chunks_exact(8));
            for (offset, (bytes, known)) in (0u16..).step_by(8).zip(words) {
                let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
                let mask =
                    known.iter().rev().fold(0, |mask, &known| mask << 8 | if known { 0xFF } else { 0 });
                found.vmcb.learn(offset, 8, value, mask);
            }
        }
        found.fields = page::fields(&found.vmcb, |offset, size| page.place(offset, size, style, turned));
        page.notes.hand_over(&mut found);
        out.push_back(found);
    }
}

impl PageBytes {
    fn new(base: u64) -> Self {
        Self {
            base,
            printed: Box::new([0; PAGE_SIZE]),
            turned: Box::new([0; PAGE_SIZE]),
            known: Box::new([false; PAGE_SIZE]),
            count: 0,
            text: 0,
            rows: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Hands out that a part of KVM's nested state is shown of which nothing is certain.
    fn without_fields(self, out: &mut Out) {
        let mut found = Found::new(Kind::KvmNestedState, Phase::Unknown, self.notes.first_line());
        self.notes.hand_over(&mut found);
        out.push_back(found);
    }

    /// Remarks that pages beside this one were left out.
    fn leave_out(&mut self, pages: &mut u64, line: u64) {
        if *pages > 0 {
            let place = Place::Text { line, columns: 0..0 };
            self.notes.remark(RemarkKind::RepeatTooLong { pages: std::mem::take(pages) }, place);
        }
    }

    /// Takes `length` bytes from byte `skipped` of the row on, which repeats.
    fn put(&mut self, row: &Row, start: usize, length: usize, skipped: usize) {
        let range = start..start + length;
        for (page, from) in [(&mut self.printed, &row.printed), (&mut self.turned, &row.turned)] {
            spread(page.get_mut(range.clone()).unwrap_or_default(), from, skipped);
        }
        let known = self.known.get_mut(range).unwrap_or_default();
        self.count += known.iter().filter(|known| !**known).count();
        known.fill(true);
        if let (Ok(offset), Ok(length)) = (u16::try_from(start), u16::try_from(length)) {
            let (columns, period) = (row.columns.clone(), row.printed.len());
            self.rows.push(RowPlace { offset, length, skipped, period, columns });
        }
    }

    /// Where the first bytes of a field stand: those that are in the row of its first known byte.
    fn place(&self, offset: u16, size: u16, style: Style, turned: bool) -> Option<Place> {
        let end = offset.saturating_add(size);
        let after = self.rows.partition_point(|row| row.offset + row.length <= offset);
        let row = self.rows.get(after).filter(|row| row.offset < end)?;
        let from = offset.max(row.offset);
        let to = end.min(row.offset + row.length);
        let (line, mut columns) = row.byte(from, style, turned)?;
        for byte in from..to {
            // Bytes that a mail program put on another line are not shown.
            let Some((_, byte)) = row.byte(byte, style, turned).filter(|&(of, _)| of == line) else {
                break;
            };
            columns = columns.start.min(byte.start)..columns.end.max(byte.end);
        }
        Some(Place::Text { line, columns })
    }
}

/// Fills `to` with `from`, again and again, beginning at byte `skipped` of it.
fn spread(to: &mut [u8], from: &[u8], skipped: usize) {
    if let [first, rest @ ..] = from
        && rest.iter().all(|byte| byte == first)
    {
        to.fill(*first);
        return;
    }
    let (head, tail) = from.split_at(skipped.min(from.len()));
    for (to, from) in to.iter_mut().zip(tail.iter().chain(head).cycle()) {
        *to = *from;
    }
}

impl RowPlace {
    /// The columns of the byte at `offset` of the page.
    fn byte(&self, offset: u16, style: Style, turned: bool) -> Option<(u64, Range<usize>)> {
        let index = (usize::from(offset.checked_sub(self.offset)?) + self.skipped) % self.period.max(1);
        let &(line, column) = self.columns.get(index / style.bytes)?;
        if style.octal {
            return Some((line, column..column + style.digits));
        }
        let within = index % style.bytes;
        let start = column + 2 * if turned { style.bytes - 1 - within } else { within };
        Some((line, start..start + 2))
    }

    /// All its groups.
    fn whole(&self, style: Style) -> Place {
        let (line, first) = self.columns.last().copied().unwrap_or((1, 0));
        let of_line = |&&(of, _): &&(u64, usize)| of == line;
        let start = self.columns.iter().find(of_line).map_or(first, |&(_, column)| column);
        Place::Text { line, columns: start..first + style.digits }
    }
}
