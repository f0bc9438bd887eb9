//! A dump of which lines are still expected.

use super::labels::{INTERCEPTS, LABELS, Slot};
use super::printed::{first_number, part_of};
use crate::found::{Notes, Place, RemarkKind, VmType};
use crate::text::Text;

/// Values after which a dump counts as ended: real ones have about 130.
const MAX_VALUES: usize = 1024;

/// A dump of which lines are still expected.
#[derive(Default)]
pub(super) struct Dump {
    /// The thread or CPU that prints it, where the log says so.
    pub(super) caller: Vec<u8>,
    /// What began before it and may still have been printing.
    pub(super) others: Others,
    pub(super) order: Order,
    pub(super) notes: Notes,
    pub(super) vm_type: Option<VmType>,
    pub(super) vcpu: Option<u32>,
    pub(super) last_cpu: Option<u32>,
    pub(super) pointer: Option<String>,
    /// Its lines have the module's prefix.
    pub(super) prefixed: bool,
    pub(super) control_area: bool,
    pub(super) save_area: bool,
    pub(super) values: Vec<Value>,
    pub(super) first: Option<usize>,
    pub(super) last: Option<usize>,
    /// The label before the one at hand, if nothing was cut out since.
    pub(super) before: Option<usize>,
    /// The line within which something was cut out, until a label comes.
    pub(super) cut_in: Option<u64>,
    pub(super) labels: usize,
    /// The label whose value comes next.
    pub(super) pending: Pending,
    /// It is of KVM's list of general registers.
    pub(super) copy: bool,
    /// The first row that shows what it shows, until a value of it came.
    pub(super) place_in_order: Option<usize>,
    /// The segment whose parts come next.
    pub(super) segment: Option<usize>,
    /// The first value that stood on the line after its label, and how many did.
    pub(super) joined: Option<(Place, u64)>,
    /// The last value, if its line ended with it and nothing shows how many digits it should have.
    pub(super) open_end: bool,
    /// Where the rest of its last line may stand.
    pub(super) rest_line: u64,
    pub(super) idle: u64,
}

/// Dumps that were not seen to have ended when this one began. Two CPUs may print at once, and what then
/// follows may be of either.
#[derive(Default)]
pub(super) struct Others {
    pub(super) count: usize,
    /// Rows below this one were printed by all of them already: shown again, they are of this dump.
    pub(super) rows: usize,
}

/// What the rows of the labels say about whether all lines are of one dump: the kernel prints them in the order
/// of [`LABELS`].
#[derive(Default)]
pub(super) struct Order {
    /// One more than the last row.
    pub(super) rows: usize,
    pub(super) seen: Vec<bool>,
    /// A row came again or too late.
    pub(super) goes_back: bool,
    /// A row came too late that had not been seen, or with another value.
    pub(super) mixed: bool,
}

impl Order {
    fn take(&mut self, row: usize) {
        self.seen.resize(LABELS.len(), false);
        let seen = self.seen.get_mut(row).is_some_and(|seen| std::mem::replace(seen, true));
        if row < self.rows {
            self.goes_back = true;
            self.mixed |= !seen;
        }
        self.rows = self.rows.max(row + 1);
    }

    /// One more than the last row of those before `end`.
    pub(super) fn rows_before(&self, end: usize) -> usize {
        let seen = self.seen.get(..end.min(self.seen.len())).unwrap_or_default();
        seen.iter().rposition(|&seen| seen).map_or(0, |row| row + 1)
    }
}

pub(super) struct Value {
    pub(super) row: usize,
    pub(super) slot: Slot,
    pub(super) value: u64,
    pub(super) mask: u64,
    pub(super) place: Place,
    /// KVM's list of general registers repeats rax and rsp.
    pub(super) copy: bool,
}

#[derive(Default)]
pub(super) enum Pending {
    #[default]
    Nothing,
    One {
        row: usize,
        slot: Slot,
        label: Place,
    },
    Intercepts {
        row: usize,
        label: Place,
        words: Vec<(u64, Place)>,
    },
    /// The value of a label that is not known.
    Skip,
}

impl Dump {
    pub(super) fn touch(&mut self, line: &Text<'_>) {
        self.notes.keep(line.number, line.text);
        if line.truncated {
            let end = line.text.len();
            self.notes.remark(RemarkKind::LineTooLong, Place::Text { line: line.number, columns: end..end });
        }
        self.rest_line = line.last + 1;
        self.prefixed |= line.prefixed;
        self.idle = 0;
        self.open_end = false;
    }

    /// Checks whether a label shows that another dump begins here.
    pub(super) fn ends_before(&self, row: usize) -> bool {
        let text = LABELS.get(row).map_or("", |label| label.text);
        self.values.len() >= MAX_VALUES
            || row == 0 && (self.save_area || self.first == Some(0))
            || self.first == Some(row) && self.labels > 3 && !matches!(text, "rax" | "rsp" | "rbp")
    }

    /// Notes that something was cut out here: what follows belongs to another label.
    pub(super) fn cut(&mut self) {
        self.settle();
        self.segment = None;
        self.before = None;
        self.open_end = false;
    }

    /// Drops the last value: a number on the next line shows that it was broken in two.
    pub(super) fn forget_last(&mut self) {
        if let Some(Value { slot, place, .. }) = self.values.pop() {
            self.notes.remark(RemarkKind::MaybeCut { name: slot.name }, place);
        }
        self.open_end = false;
    }

    /// Checks whether a line without a label continues the last one.
    pub(super) fn continues_with(&self, message: &[u8]) -> bool {
        match &self.pending {
            Pending::Nothing => self.segment.is_some() && part_of(message).is_some(),
            _ => first_number(message),
        }
    }

    /// Ends the label that waits for its value.
    pub(super) fn settle(&mut self) {
        match std::mem::take(&mut self.pending) {
            Pending::One { slot, label, .. } => {
                self.notes.remark(RemarkKind::NoValue { name: slot.name }, label);
            }
            Pending::Intercepts { row, label, words } => self.settle_intercepts(row, label, words),
            Pending::Nothing | Pending::Skip => {}
        }
    }

    pub(super) fn settle_intercepts(&mut self, row: usize, label: Place, words: Vec<(u64, Place)>) {
        let name = INTERCEPTS[0].name;
        match words.len() {
            0 => self.notes.remark(RemarkKind::NoValue { name }, label),
            // One word of 8 digits may be the first of two or the cut half of one of 16, and those two
            // begin with different words.
            1 => self.notes.remark(RemarkKind::NumberTooShort { name, digits: 8, expected: 16 }, label),
            _ => {
                for ((value, place), slot) in words.into_iter().zip(INTERCEPTS) {
                    self.push(row, slot, value, u64::from(u32::MAX), place);
                }
            }
        }
    }

    pub(super) fn push(&mut self, row: usize, slot: Slot, value: u64, mask: u64, place: Place) {
        if self.values.len() >= MAX_VALUES {
            return;
        }
        // Some labels have several values.
        if let Some(place) = self.place_in_order.take()
            && !self.copy
        {
            self.order.take(place);
        }
        // The kernel shows a field once: two values before the end are of two dumps, however their rows follow each other.
        let again = self.order.goes_back && !self.copy && !self.saw("excp_to");
        self.order.mixed |= again && self.contradicts(slot, value, mask);
        self.values.push(Value { row, slot, value, mask, place, copy: self.copy });
    }

    fn contradicts(&self, slot: Slot, value: u64, mask: u64) -> bool {
        self.values.iter().any(|known| {
            !known.copy
                && (known.slot.page, known.slot.offset) == (slot.page, slot.offset)
                && (known.value ^ value) & known.mask & mask != 0
        })
    }

    pub(super) fn saw(&self, text: &str) -> bool {
        self.values.iter().any(|value| LABELS.get(value.row).is_some_and(|label| label.text == text))
    }
}
