//! A hex dump under way: rows in order, which fill pages.

use super::page::{ByteOrder, PageBytes};
use super::row::{BASES, PAGE, Row, Style};
use crate::format::Out;
use crate::formats::kvm_nested_state::HEADER;
use crate::found::RemarkKind;
use std::collections::VecDeque;
use vmcb::layout::PAGE_SIZE;

/// Rows held until the base of the offsets is known.
const MAX_HELD: usize = 64;
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

/// What keeps the work in proportion to the input: a `*` of two bytes can stand for any number of pages.
#[derive(Clone, Copy, Default)]
pub(super) struct Used {
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

/// A dump under way.
pub(super) struct Block {
    style: Style,
    /// Index in [`BASES`], once only one is possible.
    pub(super) base: Option<usize>,
    candidates: [bool; 3],
    held: VecDeque<Item>,
    /// The last row, as long as its rest may come.
    pub(super) pending: Option<Row>,
    /// Bytes of a row, once two of them show it.
    pub(super) width: Option<usize>,
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
    pub(super) idle: u64,
    pub(super) used: Used,
    /// The rows have no offsets.
    pub(super) plain: bool,
    /// A nested state of KVM's has been handed out, which is no whole number of pages.
    nested: bool,
}

/// What a dump consists of.
#[derive(Clone)]
pub(super) enum Item {
    Row(Row),
    Star(u64, String),
    End([Option<u64>; 3], u64, String),
}

impl Block {
    pub(super) fn new(row: &Row) -> Self {
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

    /// Takes a row. The next line may continue it.
    pub(super) fn row(&mut self, mut row: Row) {
        if let Some(width) = self.width.filter(|_| self.style.colon) {
            row.trim(width);
        }
        self.idle = 0;
        self.pending = Some(row);
    }

    /// Ends the pending row. `next` is the row that follows, if the next line is a row.
    pub(super) fn flush(&mut self, next: Option<&Row>, out: &mut Out) {
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

    /// Notes that lines are missing here that no `*` stands for.
    pub(super) fn cut(&mut self) {
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

    /// Checks whether the row continues this dump.
    pub(super) fn accepts(&mut self, row: &Row) -> bool {
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
    pub(super) fn is_doubted_by(&self, row: &Row) -> bool {
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

    pub(super) fn accepts_end(&mut self, offsets: &[Option<u64>; 3]) -> bool {
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

    /// Returns the bases in which `offsets` follows the held rows.
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

    pub(super) fn item(&mut self, item: Item, out: &mut Out) {
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

    /// Decides the base of the offsets and places the held rows.
    pub(super) fn decide(&mut self, out: &mut Out) {
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

    /// Repeats the last row for the rows that a `*` stands for.
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

    /// Emits the page.
    pub(super) fn emit(&mut self, out: &mut Out) {
        let Some(mut page) = self.page.take() else {
            return;
        };
        if !self.is_a_page(&page) || !self.has_room_for(&mut page) {
            return;
        }
        let style = self.style;
        let order = self.byte_order();
        let place = page.notes.first_line();
        if self.plain && !style.colon && style.bytes > 1 {
            page.notes.remark(RemarkKind::NumbersAssumed, place.clone());
        }
        if order.unknown {
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
        page.remark_missing_bytes(style);
        if (order.unknown || page.count < PAGE_SIZE) && page.may_be_nested_state() {
            self.nested = true;
            page.without_fields(out);
            return;
        }
        let printed_offset = (!self.plain).then_some(page.base);
        let mut found = match page.nested_guest(order.turned) {
            Some(guest) => {
                self.nested = true;
                page.into_nested_state(guest, style, order)
            }
            None => page.into_found(style, order),
        };
        found.printed_offset = printed_offset;
        out.push_back(found);
    }

    /// Checks whether the rows show a page at all: a few rows that resemble a hex dump may be anything.
    fn is_a_page(&self, page: &PageBytes) -> bool {
        // Two rows of hexadecimal offsets, with a row lost between them, pass for rows of octal ones.
        let doubtful =
            self.base != Some(0) && !self.style.octal && !self.plain && self.rows < 4 && !self.ended;
        self.rows >= 2 && !doubtful && page.count >= MIN_BYTES
    }

    /// Checks whether the limit for pages with little text allows this one, and counts it.
    fn has_room_for(&mut self, page: &mut PageBytes) -> bool {
        if page.text >= SPARSE {
            return true;
        }
        if self.used.sparse_pages >= MAX_SPARSE_PAGES {
            return false;
        }
        self.used.sparse_pages += 1;
        if self.used.sparse_pages == MAX_SPARSE_PAGES {
            let place = page.notes.first_line();
            page.notes.remark(RemarkKind::SparsePagesLeftOut, place);
        }
        true
    }

    /// Returns the order of the bytes within a group, from the characters of the rows or else from the style.
    fn byte_order(&self) -> ByteOrder {
        let style = self.style;
        let turned = match self.votes {
            (0, 0) => style.is_turned(),
            (printed, turned) => turned > printed,
        };
        // `xxd` prints groups in the order of memory, the kernel and `xxd -e` as numbers.
        let unknown = !self.plain && style.colon && style.bytes > 2 && self.votes == (0, 0)
            || style.bytes > 1 && self.votes.0 > 0 && self.votes.1 > 0;
        ByteOrder { turned, unknown }
    }
}
