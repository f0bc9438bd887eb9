//! Hex dumps: the text of `xxd`, `hexdump`, `od`, the kernel's `print_hex_dump` and their like.
//!
//! None of them says which tool wrote it. Whether offsets are hexadecimal, octal or decimal is found from
//! the rows, of which each must begin where the one before it ended; the order of bytes within a group
//! from the style, and from the column of characters where there is one.

mod plain;

use crate::found::{Found, Notes, Place, RemarkKind};
use crate::kind::Kind;
use crate::kvm_nested_state::{self, HEADER, Header};
use crate::lines::{Text, skip_spaces};
use crate::page;
use crate::{Format, Out, Taken};
use std::collections::VecDeque;
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
    line: u64,
    text: String,
    /// Where each group begins.
    columns: Vec<usize>,
    /// Bytes in the order in which they are printed.
    printed: Vec<u8>,
    /// Bytes with each group turned round.
    turned: Vec<u8>,
    /// Characters that fit the first order, and the second, better than the other.
    votes: (u32, u32),
}

/// A dump under way.
struct Block {
    style: Style,
    /// Index in [`BASES`], once only one is possible.
    base: Option<usize>,
    candidates: [bool; 3],
    held: VecDeque<Item>,
    /// Where the next row must begin.
    next: u64,
    last: Option<Row>,
    /// A `*` stands after the last row.
    repeats: bool,
    page: Option<PageBytes>,
    rows: usize,
    votes: (u32, u32),
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
    line: u64,
    columns: Vec<usize>,
}

impl HexDump {
    pub(crate) fn new() -> Self {
        Self { open: None, used: Used::default() }
    }
}

impl Format for HexDump {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        if let Some(row) = Row::read(line) {
            let goes_on = self.open.as_mut().is_some_and(|block| block.accepts(&row));
            if goes_on {
                if let Some(block) = &mut self.open {
                    block.item(Item::Row(row), out);
                }
                return Taken::Yes;
            }
            if !row.may_begin() {
                return self.pass(out);
            }
            self.finish(out);
            let mut block = Block::new(&row);
            block.used = self.used;
            block.item(Item::Row(row), out);
            self.open = Some(block);
            return Taken::Began;
        }
        let Some(block) = &mut self.open else {
            return Taken::No;
        };
        let message = line.message().trim_ascii_end();
        if message == b"*" {
            block.item(Item::Star(line.number, line.text.to_owned()), out);
            return Taken::Yes;
        }
        if let Some(offsets) = lone_offset(message)
            && block.accepts_end(&offsets)
        {
            block.item(Item::End(offsets, line.number, line.text.to_owned()), out);
            self.finish(out);
            return Taken::Yes;
        }
        self.pass(out)
    }

    fn finish(&mut self, out: &mut Out) {
        if let Some(mut block) = self.open.take() {
            block.decide(out);
            block.emit(out);
            self.used = block.used;
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
                Some(_) => {}
            }
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let group = rest.get(..length)?;
            let wanted = style.map_or(length, |style| style.digits);
            // The column of characters may begin like a group, but is never longer than the row has bytes.
            let so_far = columns.len() * style.map_or(0, |style| style.bytes);
            let gap = at - from > 1 && colon && rest.trim_ascii_end().len() <= so_far;
            if length != wanted || !group.iter().all(u8::is_ascii_hexdigit) || gap {
                if !colon {
                    return None;
                }
                characters = Some(rest);
                break;
            }
            if style.is_none() {
                style = Some(Style::of(group, colon)?);
            }
            if columns.len() >= MAX_ROW {
                return None;
            }
            columns.push(at);
            at += length;
        }
        let style = style?;
        // A table of words as wide as its first column is no dump.
        if !colon && digits >= 8 && style.digits >= digits {
            return None;
        }
        let mut row = Self::of_groups(line, style, offsets(offset), digits, columns)?;
        if let Some(characters) = characters {
            row.votes =
                (fits(&row.printed, &row.turned, characters), fits(&row.turned, &row.printed, characters));
        }
        Some(row)
    }

    /// A row of the groups that begin at `columns`.
    fn of_groups(
        line: &Text<'_>,
        style: Style,
        offsets: [Option<u64>; 3],
        offset_digits: usize,
        columns: Vec<usize>,
    ) -> Option<Self> {
        let mut row = Self {
            style,
            offsets,
            offset_digits,
            line: line.number,
            text: line.text.to_owned(),
            printed: Vec::with_capacity(columns.len() * style.bytes),
            turned: Vec::new(),
            votes: (0, 0),
            columns,
        };
        for &column in &row.columns {
            let group = line.text.as_bytes().get(column..column + style.digits)?;
            if style.octal {
                let word = group
                    .iter()
                    .try_fold(0u32, |value, &digit| Some(value << 3 | char::from(digit).to_digit(8)?))?;
                let [low, high] = u16::try_from(word).ok()?.to_le_bytes();
                // Printed high byte first, as a number is.
                row.printed.extend([high, low]);
            } else {
                for pair in group.chunks_exact(2) {
                    let byte = pair
                        .iter()
                        .try_fold(0u32, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))?;
                    row.printed.push(u8::try_from(byte).ok()?);
                }
            }
        }
        if row.printed.len() > MAX_ROW {
            return None;
        }
        for group in row.printed.chunks(style.bytes) {
            row.turned.extend(group.iter().rev());
        }
        Some(row)
    }

    /// Whether a dump may begin with this row: other texts have lines of hex digits too.
    fn may_begin(&self) -> bool {
        let aligned = self.offsets.iter().flatten().any(|offset| offset % PAGE == 0);
        aligned || self.printed.len() >= 8
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

/// How many of `characters` stand for the bytes of `one` where `other` has another byte.
fn fits(one: &[u8], other: &[u8], characters: &[u8]) -> u32 {
    let shown = |byte: u8| if (0x20..0x7F).contains(&byte) { byte } else { b'.' };
    let votes = one
        .iter()
        .zip(other)
        .zip(characters)
        .filter(|&((&one, &other), &character)| shown(one) == character && shown(other) != character);
    u32::try_from(votes.count()).unwrap_or(u32::MAX)
}

impl Block {
    fn new(row: &Row) -> Self {
        Self {
            style: row.style,
            base: None,
            candidates: row.offsets.map(|offset| offset.is_some()),
            held: VecDeque::new(),
            next: 0,
            last: None,
            repeats: false,
            page: None,
            rows: 0,
            votes: (0, 0),
            offset_digits: row.offset_digits,
            idle: 0,
            used: Used::default(),
            plain: false,
            nested: false,
        }
    }

    /// Whether the row goes on with this dump.
    fn accepts(&mut self, row: &Row) -> bool {
        if row.style != self.style {
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
        if self.base.is_some() {
            self.place(item, out);
            return;
        }
        let ends = matches!(item, Item::End(..));
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
        // The first of these that is possible: `hexdump -C` and `xxd` write 8 digits, `od -Ax` 6, `od` 7
        // in octal and `hexdump` 7 in hexadecimal. Only where all rows but one are repeats of it can more
        // than one be possible.
        let order = if self.style.colon || self.offset_digits != 7 { [0, 1, 2] } else { [1, 0, 2] };
        let possible = |&base: &usize| self.candidates.get(base).copied().unwrap_or(false);
        let whole = order.iter().copied().filter(possible).find(|&base| {
            matches!(self.held.back(), Some(Item::End(offsets, ..))
                if offsets.get(base).copied().flatten().is_some_and(|end| end % PAGE == 0))
        });
        self.base = whole.or_else(|| order.into_iter().find(possible)).or(Some(0));
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
                self.rows += 1;
                self.used.text = self.used.text.saturating_add(row.text.len() as u64);
                self.repeat_until(offset, out);
                self.votes.0 = self.votes.0.saturating_add(row.votes.0);
                self.votes.1 = self.votes.1.saturating_add(row.votes.1);
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
                page.notes.keep(row.line, &row.text);
            }
            if !repeats {
                page.text += row.text.len();
            }
            let skipped = usize::try_from((at - from) % period as u64).unwrap_or(0);
            page.put(row, start, length, skipped);
            page.leave_out(&mut left_out, row.line);
            at = at.saturating_add(length as u64);
            if at == u64::MAX {
                return;
            }
        }
        if let Some(page) = &mut self.page {
            page.leave_out(&mut left_out, row.line);
        }
    }

    /// Hands the page out.
    fn emit(&mut self, out: &mut Out) {
        let Some(mut page) = self.page.take() else {
            return;
        };
        // One row alone may be anything.
        if self.rows < 2 || page.count < MIN_BYTES {
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
            (printed, turned) if printed != turned => turned > printed,
            _ => style.is_turned(),
        };
        let assumed = match (self.plain, style.colon) {
            (true, false) if style.bytes > 1 => Some(RemarkKind::NumbersAssumed),
            (false, true) if style.bytes > 2 && self.votes == (0, 0) => Some(RemarkKind::ByteOrderAssumed),
            _ => None,
        };
        if let Some(kind) = assumed {
            let place = page.notes.first_line();
            page.notes.remark(kind, place);
        }
        let bytes = if turned { &page.turned } else { &page.printed };
        if self.nested {
            self.behind_nested(page, out);
            return;
        }
        if page.count == PAGE_SIZE
            && let Some(Header::Guest { vmcb, pending }) = Header::read(bytes.as_slice())
        {
            self.nested = true;
            let start = page.notes.first_line();
            let state = bytes.get(HEADER..).unwrap_or_default();
            let mut found = kvm_nested_state::found((vmcb, pending), state, start, |field| {
                page.place(field.offset.saturating_add(HEADER as u16), field.size, style, turned)
            });
            found.printed_offset = (!self.plain).then_some(page.base);
            page.notes.take_over(&mut found);
            out.push_back(found);
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
        let place = page.notes.first_line();
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

impl Block {
    /// A page behind a nested state, of which the first bytes are the state's last and what follows does not
    /// begin with a page.
    fn behind_nested(&self, mut page: PageBytes, out: &mut Out) {
        if page.count <= HEADER {
            return;
        }
        let place = page.notes.first_line();
        page.notes.remark(RemarkKind::BehindNestedState, place.clone());
        let mut found = Found::new(Kind::KvmNestedState, Phase::Unknown, place);
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
            self.rows.push(RowPlace { offset, length, skipped, period, line: row.line, columns });
        }
    }

    /// Where the first bytes of a field stand: those that are in the row of its first known byte.
    fn place(&self, offset: u16, size: u16, style: Style, turned: bool) -> Option<Place> {
        let end = offset.saturating_add(size);
        let after = self.rows.partition_point(|row| row.offset + row.length <= offset);
        let row = self.rows.get(after).filter(|row| row.offset < end)?;
        let from = offset.max(row.offset);
        let to = end.min(row.offset + row.length);
        let mut columns: Option<std::ops::Range<usize>> = None;
        for byte in from..to {
            let byte = row.byte(byte, style, turned)?;
            columns = Some(match columns {
                None => byte,
                Some(all) => all.start.min(byte.start)..all.end.max(byte.end),
            });
        }
        Some(Place::Text { line: row.line, columns: columns? })
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
    fn byte(&self, offset: u16, style: Style, turned: bool) -> Option<std::ops::Range<usize>> {
        let index = (usize::from(offset.checked_sub(self.offset)?) + self.skipped) % self.period.max(1);
        let column = *self.columns.get(index / style.bytes)?;
        if style.octal {
            return Some(column..column + style.digits);
        }
        let within = index % style.bytes;
        let start = column + 2 * if turned { style.bytes - 1 - within } else { within };
        Some(start..start + 2)
    }

    /// All its groups.
    fn whole(&self, style: Style) -> Place {
        let first = self.columns.first().copied().unwrap_or(0);
        let last = self.columns.last().copied().unwrap_or(0);
        Place::Text { line: self.line, columns: first..last + style.digits }
    }
}
