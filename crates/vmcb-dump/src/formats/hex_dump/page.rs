//! A page that the rows of a hex dump show.

use super::row::{Row, Style};
use crate::format::Out;
use crate::formats::kvm_nested_state::{self, HEADER, Header};
use crate::found::{Found, Notes, Place, RemarkKind};
use crate::kind::Kind;
use crate::page;
use std::ops::Range;
use vmcb::layout::PAGE_SIZE;
use vmcb::{KnownPage, Phase};

/// A page under way, in both orders.
pub(super) struct PageBytes {
    pub(super) base: u64,
    printed: Box<[u8; PAGE_SIZE]>,
    turned: Box<[u8; PAGE_SIZE]>,
    known: Box<[bool; PAGE_SIZE]>,
    pub(super) count: usize,
    /// Bytes of text that show it.
    pub(super) text: usize,
    rows: Vec<RowPlace>,
    pub(super) notes: Notes,
}

/// The order of the bytes within a group.
#[derive(Clone, Copy)]
pub(super) struct ByteOrder {
    /// Groups are printed with their last byte first.
    pub(super) turned: bool,
    /// Nothing shows the order, or rows contradict each other.
    pub(super) unknown: bool,
}

/// The address of the VMCB of a nested guest, and whether its VMRUN is pending.
type NestedGuest = (u64, bool);

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

impl PageBytes {
    pub(super) fn new(base: u64) -> Self {
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

    /// Emits a part of KVM's nested state without fields, because none of its bytes is certain.
    pub(super) fn without_fields(self, out: &mut Out) {
        let mut found = Found::new(Kind::KvmNestedState, Phase::Unknown, self.notes.first_line());
        self.notes.hand_over(&mut found);
        out.push_back(found);
    }

    /// Returns the bytes in one of the two orders.
    fn bytes(&self, turned: bool) -> &[u8; PAGE_SIZE] {
        if turned { &self.turned } else { &self.printed }
    }

    /// Remarks that the dump does not show all bytes of the page.
    pub(super) fn remark_missing_bytes(&mut self, style: Style) {
        if self.count < PAGE_SIZE
            && let Some(first) = self.known.iter().position(|known| !known)
        {
            let place = self.rows.last().map_or(self.notes.first_line(), |row| row.whole(style));
            let first = u16::try_from(first).unwrap_or(0);
            let count = u16::try_from(PAGE_SIZE - self.count).unwrap_or(0);
            self.notes.remark(RemarkKind::BytesMissing { first, count }, place);
        }
    }

    /// Checks whether the page begins with KVM's nested state of a nested guest, in one of the two orders.
    pub(super) fn may_be_nested_state(&self) -> bool {
        self.nested_guest(false).is_some() || self.nested_guest(true).is_some()
    }

    /// Returns the guest of KVM's nested state, if the page begins with one.
    pub(super) fn nested_guest(&self, turned: bool) -> Option<NestedGuest> {
        let shown = self.known.iter().take(HEADER).all(|&known| known);
        match Header::read(self.bytes(turned)) {
            Some(Header::Guest { vmcb, pending }) if shown => Some((vmcb, pending)),
            _ => None,
        }
    }

    /// Reads the page as the beginning of KVM's nested state.
    pub(super) fn into_nested_state(self, guest: NestedGuest, style: Style, order: ByteOrder) -> Found {
        let state = self.bytes(order.turned).get(HEADER..).unwrap_or_default();
        let mut found = kvm_nested_state::found(guest, state, self.notes.first_line(), |field| {
            let offset = field.offset.saturating_add(HEADER as u16);
            self.place(offset, field.size, style, order.turned)
        });
        self.notes.take_over(&mut found);
        found
    }

    /// Reads the page as a VMCB.
    pub(super) fn into_found(mut self, style: Style, order: ByteOrder) -> Found {
        if order.unknown {
            let both = self.printed.iter().zip(self.turned.iter());
            for (known, (one, other)) in self.known.iter_mut().zip(both) {
                *known &= one == other;
            }
            self.count = self.known.iter().filter(|&&known| known).count();
        }
        let mut found = Found::new(Kind::HexDump, Phase::Unknown, self.notes.first_line());
        let bytes = self.bytes(order.turned);
        if self.count == PAGE_SIZE {
            *found.vmcb = KnownPage::all(bytes);
        } else {
            let words = bytes.chunks_exact(8).zip(self.known.chunks_exact(8));
            for (offset, (bytes, known)) in (0u16..).step_by(8).zip(words) {
                let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
                let mask =
                    known.iter().rev().fold(0, |mask, &known| mask << 8 | if known { 0xFF } else { 0 });
                found.vmcb.learn(offset, 8, value, mask);
            }
        }
        found.fields =
            page::fields(&found.vmcb, |offset, size| self.place(offset, size, style, order.turned));
        self.notes.hand_over(&mut found);
        found
    }

    /// Adds a remark that other pages were left out.
    pub(super) fn leave_out(&mut self, pages: &mut u64, line: u64) {
        if *pages > 0 {
            let place = Place::Text { line, columns: 0..0 };
            self.notes.remark(RemarkKind::RepeatTooLong { pages: std::mem::take(pages) }, place);
        }
    }

    /// Copies `length` bytes of the repeated row, from its byte `skipped` on.
    pub(super) fn put(&mut self, row: &Row, start: usize, length: usize, skipped: usize) {
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

    /// Returns the place of the first bytes of a field: those in the row of its first known byte.
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
    /// Returns the columns of the byte at `offset` of the page.
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

    /// Returns the place of all groups.
    fn whole(&self, style: Style) -> Place {
        let (line, first) = self.columns.last().copied().unwrap_or((1, 0));
        let of_line = |&&(of, _): &&(u64, usize)| of == line;
        let start = self.columns.iter().find(of_line).map_or(first, |&(_, column)| column);
        Place::Text { line, columns: start..first + style.digits }
    }
}
