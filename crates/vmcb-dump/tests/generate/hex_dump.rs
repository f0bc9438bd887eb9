//! Hex dumps of a page or of a part of it, as `xxd`, `hexdump`, `od` and the kernel's `print_hex_dump`
//! print them.

use super::{Random, Shown, Written, prefix};
use std::fmt::Write as _;
use vmcb::layout::{PAGE_SIZE, Page};

/// How a tool prints a row.
#[derive(Clone, Copy)]
struct Style {
    offset: Offset,
    /// Bytes of a row.
    row: usize,
    /// Bytes of a group.
    group: usize,
    /// Groups are printed as numbers, so with their last byte first.
    turned: bool,
    octal: bool,
    /// Spaces before a group.
    gap: usize,
    /// One more space in the middle of the row.
    halves: bool,
    upper: bool,
    characters: Characters,
    /// Equal rows become a `*`.
    squeezes: bool,
    /// A last line shows the offset of the end.
    ends: bool,
}

#[derive(Clone, Copy)]
enum Offset {
    /// Hexadecimal with this many digits, and a colon.
    Colon(usize),
    Hex(usize),
    Octal(usize),
    Decimal(usize),
}

#[derive(Clone, Copy, PartialEq)]
enum Characters {
    Nothing,
    /// Behind two spaces.
    Plain,
    /// Between two of these.
    Between(char, char),
}

const XXD: Style = Style {
    offset: Offset::Colon(8),
    row: 16,
    group: 2,
    turned: false,
    octal: false,
    gap: 1,
    halves: false,
    upper: false,
    characters: Characters::Plain,
    squeezes: false,
    ends: false,
};
const HEXDUMP: Style = Style {
    offset: Offset::Hex(7),
    turned: true,
    characters: Characters::Nothing,
    squeezes: true,
    ends: true,
    ..XXD
};
const OD: Style = Style { offset: Offset::Octal(7), ..HEXDUMP };

const STYLES: [Style; 24] = [
    XXD,
    Style { squeezes: true, ..XXD },
    Style { group: 1, ..XXD },
    Style { group: 8, ..XXD },
    Style { row: 24, ..XXD },
    Style { row: 10, upper: true, ..XXD },
    Style { group: 4, turned: true, ..XXD },
    HEXDUMP,
    Style { gap: 4, ..HEXDUMP },
    Style {
        offset: Offset::Hex(8),
        group: 1,
        halves: true,
        characters: Characters::Between('|', '|'),
        ..HEXDUMP
    },
    Style {
        offset: Offset::Hex(8),
        group: 1,
        halves: true,
        characters: Characters::Between('|', '|'),
        squeezes: false,
        ..HEXDUMP
    },
    Style { octal: true, ..OD },
    OD,
    Style { group: 1, turned: false, ..OD },
    Style { group: 1, turned: false, row: 32, ..OD },
    Style { group: 4, ..OD },
    Style { group: 8, ..OD },
    Style { offset: Offset::Decimal(7), group: 1, turned: false, ..OD },
    Style { offset: Offset::Hex(6), group: 1, turned: false, ..OD },
    Style { offset: Offset::Hex(6), group: 4, squeezes: false, ..OD },
    Style {
        offset: Offset::Hex(6),
        group: 1,
        turned: false,
        characters: Characters::Between('>', '<'),
        ..OD
    },
    // print_hex_dump, with characters and without.
    Style { group: 1, characters: Characters::Plain, ..XXD },
    Style { group: 1, characters: Characters::Nothing, ..XXD },
    Style { row: 32, group: 1, characters: Characters::Plain, ..XXD },
];

/// A page as VMCBs are: mostly zeros, some fields, some of it any bytes.
fn page(random: &mut Random) -> [u8; PAGE_SIZE] {
    let mut page = [0; PAGE_SIZE];
    for _ in 0..random.below(24) {
        let at = random.below(PAGE_SIZE as u64 / 8) as usize * 8;
        page[at..at + 8].copy_from_slice(&random.value(8).to_le_bytes());
    }
    if random.one_in(2) {
        // Characters that formats and logs use themselves.
        let at = random.below(PAGE_SIZE as u64 - 64) as usize;
        let text = random.pick(&[
            &b"[...] ... =3D =20 &gt; <br> 1000 2000 dead beef "[..],
            b"0000 1111 2222 3333 4444 5555 6666 7777 8888 9999",
            b"* | > < = : SVM: asid:               1 [snip] <snip>",
            b"\x1b[31m === 00 11 22 33 44 55 66 77 88 99 aa bb cc",
        ]);
        let length = text.len().min(64);
        page[at..at + length].copy_from_slice(&text[..length]);
    }
    for _ in 0..random.below(3) {
        let at = random.below(PAGE_SIZE as u64 - 256) as usize;
        let length = random.below(256) as usize;
        let fill = random.next() as u8;
        let any = random.one_in(2);
        page[at..at + length]
            .iter_mut()
            .for_each(|byte| *byte = if any { random.next() as u8 } else { fill });
    }
    page
}

/// Writes a dump.
pub(crate) fn write(random: &mut Random) -> Written {
    let style = random.pick(&STYLES);
    let mut page = page(random);
    // A part is enough for most rounds, and of a part no more may be read than of the whole.
    let whole = random.one_in(8) || style.squeezes && random.one_in(2);
    let rows = PAGE_SIZE.div_ceil(style.row);
    let (from, to) = if whole {
        (0, rows)
    } else {
        let from = if random.one_in(2) { 0 } else { random.below(rows as u64 - 4) as usize };
        (from, (from + 4 + random.below(36) as usize).min(rows))
    };
    // Of offsets of 7 digits only two rows tell the base.
    if !matches!(style.offset, Offset::Colon(_) | Offset::Hex(6 | 8)) {
        page[(from + 1) * style.row] = !page[from * style.row];
    }
    // Of groups behind a colon only characters tell the order.
    if matches!(style.offset, Offset::Colon(_)) && style.group > 2 {
        page[from * style.row..][..8].copy_from_slice(b"0123abcd");
    }
    // Where the page begins in what was dumped: a file's first page, or an address.
    let base = match (style.offset, random.below(4)) {
        (Offset::Colon(_) | Offset::Hex(8), 0) => random.below(0xFFFF) << 12,
        _ => 0,
    };
    let mut lines = Vec::with_capacity(to - from + 1);
    let mut squeezed = false;
    let bytes = |row: usize| &page[row * style.row..((row + 1) * style.row).min(PAGE_SIZE)];
    for row in from..to {
        let same = row > from && bytes(row) == bytes(row - 1);
        // `xxd` shows the last row in any case.
        if style.squeezes && same && (style.ends || row + 1 < to) {
            if !squeezed {
                lines.push("*".to_owned());
            }
            squeezed = true;
            continue;
        }
        squeezed = false;
        lines.push(line(style, base + (row * style.row) as u64, bytes(row)));
    }
    let end = (to * style.row).min(PAGE_SIZE);
    if style.ends {
        lines.push(offset(style, base + end as u64));
    }
    let shows = (from * style.row..end)
        .map(|at| Shown { page: Page::Vmcb, offset: at as u16, size: 1, value: page[at].into(), mask: 0xFF })
        .collect();
    let text = if random.one_in(3) { prefix::log(&lines, "", random) } else { lines.join("\n") + "\n" };
    Written { text, shows }
}

fn offset(style: Style, offset: u64) -> String {
    match style.offset {
        Offset::Colon(digits) => format!("{offset:0digits$x}:"),
        Offset::Hex(digits) => format!("{offset:0digits$x}"),
        Offset::Octal(digits) => format!("{offset:0digits$o}"),
        Offset::Decimal(digits) => format!("{offset:0digits$}"),
    }
}

fn line(style: Style, at: u64, bytes: &[u8]) -> String {
    let mut line = offset(style, at);
    let start = line.len();
    let groups = |bytes: &[u8], line: &mut String| {
        for (index, group) in bytes.chunks(style.group).enumerate() {
            let middle = style.halves && (index == 0 || index * style.group == style.row / 2);
            let _ = write!(line, "{:1$}", "", style.gap + usize::from(middle));
            if style.octal {
                let word = group.iter().rev().fold(0u16, |word, &byte| word << 8 | u16::from(byte));
                let _ = write!(line, "{word:06o}");
                continue;
            }
            let mut put = |byte: u8| {
                let _ = if style.upper { write!(line, "{byte:02X}") } else { write!(line, "{byte:02x}") };
            };
            match style.turned {
                true => group.iter().rev().for_each(|&byte| put(byte)),
                false => group.iter().for_each(|&byte| put(byte)),
            }
        }
    };
    groups(bytes, &mut line);
    if style.characters == Characters::Nothing {
        return line;
    }
    // The column of characters stands where it stands in a whole row.
    let mut whole = String::new();
    groups(&[0; 32][..style.row], &mut whole);
    let width = start + whole.len() + 2;
    let _ = write!(line, "{:1$}", "", width - line.len());
    let text = bytes.iter().map(|&b| if (0x20..0x7F).contains(&b) { char::from(b) } else { '.' });
    match style.characters {
        Characters::Between(open, close) => {
            line.push(open);
            line.extend(text);
            line.push(close);
        }
        _ => line.extend(text),
    }
    line
}
