//! A row of a hex dump: its offset and its groups.

use crate::text::Text;
use vmcb::layout::PAGE_SIZE;

/// Bytes of one row.
pub(super) const MAX_ROW: usize = 256;

pub(super) const PAGE: u64 = PAGE_SIZE as u64;

/// How offsets may be written.
pub(super) const BASES: [u32; 3] = [16, 8, 10];

/// What all rows of a dump have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// A colon after the offset, as `xxd` and the kernel write it.
    pub(super) colon: bool,
    /// Characters of a group.
    pub(super) digits: usize,
    /// Bytes of a group.
    pub(super) bytes: usize,
    /// The groups are octal words of 16 bits.
    pub(super) octal: bool,
}

#[derive(Clone)]
pub(super) struct Row {
    pub(super) style: Style,
    /// The offset in each of [`BASES`].
    pub(super) offsets: [Option<u64>; 3],
    pub(super) offset_digits: usize,
    /// The lines that it was read from.
    pub(super) lines: Vec<(u64, String)>,
    /// The line of each group, and where in it the group begins.
    pub(super) columns: Vec<(u64, usize)>,
    /// The line after it, if a mail program may have put its rest there.
    pub(super) rest_line: Option<u64>,
    /// The column of characters began, so that no group follows.
    pub(super) has_characters: bool,
    /// What stands on the lines behind that of the last group.
    pub(super) tail: Vec<u8>,
    /// The orders that characters on the next line allow.
    pub(super) allowed: Option<(bool, bool)>,
    /// Lines are missing behind it.
    pub(super) cut: bool,
    /// Bytes in the order in which they are printed.
    pub(super) printed: Vec<u8>,
    /// Bytes with each group turned round.
    pub(super) turned: Vec<u8>,
}

/// Returns the number that the digits are in each of [`BASES`].
pub(super) fn offsets(digits: &[u8]) -> [Option<u64>; 3] {
    BASES.map(|base| {
        digits.iter().try_fold(0u64, |value, &digit| {
            value.checked_mul(u64::from(base))?.checked_add(u64::from(char::from(digit).to_digit(base)?))
        })
    })
}

impl Row {
    /// A row of the groups that begin at `columns`.
    pub(super) fn of_groups(
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
    pub(super) fn take_group(&mut self, text: &[u8], column: (u64, usize)) -> Option<()> {
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

    /// The bases in which its offset may be written: `od` in octal or decimal and `hexdump` in hexadecimal write 7
    /// digits; `hexdump -C`, `xxd` and `od -Ax` write others, in hexadecimal.
    pub(super) fn bases(&self) -> [bool; 3] {
        if self.style.colon || self.offset_digits != 7 {
            return [true, false, false];
        }
        self.offsets.map(|offset| offset.is_some())
    }

    /// Where it begins.
    pub(super) fn line(&self) -> u64 {
        self.lines.first().map_or(1, |&(line, _)| line)
    }

    /// Bytes of the lines that it was read from.
    pub(super) fn text(&self) -> usize {
        self.lines.iter().map(|(_, text)| text.len()).sum()
    }

    /// Leaves out what is not of the row's `width` bytes: characters that look like a group.
    pub(super) fn trim(&mut self, width: usize) {
        self.printed.truncate(width);
        self.turned.truncate(width);
        self.columns.truncate(width.div_ceil(self.style.bytes));
    }

    /// Whether a dump may begin with this row: other texts have lines of hex digits too.
    pub(super) fn may_begin(&self) -> bool {
        let aligned = self.offsets.iter().flatten().any(|offset| offset % PAGE == 0);
        aligned || self.printed.len() >= 4 && self.offset_digits >= 6
    }
}

impl Style {
    pub(super) fn of(group: &[u8], colon: bool) -> Option<Self> {
        let digits = group.len();
        let octal = !colon && digits == 6 && group.iter().all(|byte| (b'0'..=b'7').contains(byte));
        let fits =
            octal || matches!(digits, 2 | 4 | 8 | 16) || colon && digits.is_multiple_of(2) && digits <= 128;
        fits.then_some(Self { colon, digits, bytes: if octal { 2 } else { digits / 2 }, octal })
    }

    /// Whether groups are printed with their last byte first, as numbers are, where nothing else tells.
    pub(super) fn is_turned(self) -> bool {
        !self.colon && self.bytes > 1
    }
}
