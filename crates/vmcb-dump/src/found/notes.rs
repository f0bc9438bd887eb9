//! Lines and remarks of a VMCB that is being read.

use super::place::{Line, Place};
use super::remark::{Remark, RemarkKind};
use super::vmcb::Found;

/// Lines and remarks under way, both bounded.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    lines: Vec<Line>,
    line_bytes: usize,
    lines_dropped: u64,
    remarks: Vec<Remark>,
    remarks_dropped: u64,
}

/// A hex dump of one byte a row has 4096 rows.
const MAX_LINES: usize = 4200;
const MAX_LINE_BYTES: usize = 1 << 20;
const MAX_REMARKS: usize = 64;

impl Notes {
    pub(crate) fn keep(&mut self, number: u64, text: &str) {
        if self.lines.last().is_some_and(|last| last.number == number) {
            return;
        }
        if self.lines.len() >= MAX_LINES || self.line_bytes + text.len() > MAX_LINE_BYTES {
            self.lines_dropped += 1;
            return;
        }
        self.line_bytes += text.len();
        self.lines.push(Line { number, text: text.to_owned() });
    }

    pub(crate) fn remark(&mut self, kind: RemarkKind, place: Place) {
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(Remark { kind, place });
        } else {
            self.remarks_dropped += 1;
        }
    }

    /// The whole first line, for [`Found::place`].
    pub(crate) fn first_line(&self) -> Place {
        self.lines.first().map_or(Place::Text { line: 1, columns: 0..0 }, |line| Place::Text {
            line: line.number,
            columns: 0..line.text.len(),
        })
    }

    /// As [`Self::hand_over`], behind the remarks that `found` has.
    pub(crate) fn take_over(self, found: &mut Found) {
        let before = std::mem::take(&mut found.remarks);
        self.hand_over(found);
        found.remarks.splice(0..0, before);
    }

    pub(crate) fn hand_over(mut self, found: &mut Found) {
        let at = found.place.clone();
        if self.lines_dropped > 0 {
            let kind = RemarkKind::LinesNotKept { count: self.lines_dropped };
            self.remarks.push(Remark { kind, place: at.clone() });
        }
        if self.remarks_dropped > 0 {
            let kind = RemarkKind::RemarksNotKept { count: self.remarks_dropped };
            self.remarks.push(Remark { kind, place: at });
        }
        found.lines = self.lines;
        found.remarks = self.remarks;
    }
}
