//! QEMU's log of the SVM instructions that it emulates (`-d in_asm`): `vmrun! PA` and `vmexit(...)!`.
//!
//! A `vmexit` shows what #VMEXIT writes into the VMCB; the address is that of the `vmrun` before it. QEMU does
//! not say which CPU it is, so where two `vmrun` follow each other no address is trusted any more.

use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, RemarkKind, Seen};
use crate::kind::Kind;
use crate::number;
use crate::text::{Text, skip_spaces};
use vmcb::Phase;
use vmcb::layout::{Field, Page, vmcb_field as f};

/// Lines over which a mail program may spread a `vmexit`.
const MAX_WRAPS: usize = 2;
/// Lines after a broken `vmexit` within which its rest may come, and be taken for that of another.
const MAX_STRAY: u64 = 64;

const VMRUN: &[u8] = b"vmrun! ";
const VMEXIT: &[u8] = b"vmexit(";
const END: &[u8] = b")!";

/// The numbers of a `vmexit` in order: name, field, digits.
const NUMBERS: [(&str, Field, usize); 4] = [
    ("exit code", f::exitcode, 8),
    ("exit info 1", f::exitinfo1, 16),
    ("exit info 2", f::exitinfo2, 16),
    ("rip", f::rip, 16),
];

#[derive(Default)]
pub(crate) struct QemuLog {
    /// Address of the VMCB that runs.
    running: Option<u64>,
    /// Several CPUs run VMRUN.
    several: bool,
    open: Option<Exit>,
    /// No line up to this one is taken as the rest of a `vmexit`.
    stray_until: u64,
}

/// A `vmexit` that may go on.
struct Exit {
    notes: Notes,
    address: Option<u64>,
    numbers: Vec<(Vec<u8>, Place)>,
    /// Numbers that its first line shows whole.
    sure: usize,
    last_line: u64,
    wraps: usize,
    /// `)!` has come.
    ended: bool,
    /// Its rest could be that of another.
    doubtful: bool,
}

impl QemuLog {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn close(&mut self, out: &mut Out) {
        if let Some(exit) = self.open.take() {
            if !exit.ended {
                self.stray_until = exit.last_line + MAX_STRAY;
            }
            out.extend(exit.into_found());
        }
    }
}

impl Format for QemuLog {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let message = line.message();
        if let Some(rest) = message.strip_prefix(VMRUN) {
            self.close(out);
            let address = match number::hex(rest.trim_ascii_end(), "vmrun", 16) {
                Ok(address) => Some(address),
                Err(_) => number::hex(rest.trim_ascii_end(), "vmrun", 8)
                    .ok()
                    .filter(|_| !line.maybe_cut(line.text.trim_ascii_end().len())),
            };
            self.several |= self.running.is_some();
            self.running = address;
            return Taken::No;
        }
        if message.starts_with(VMEXIT) {
            self.close(out);
            let address = self.running.take().filter(|_| !self.several);
            let mut exit = Exit::new(address, line.number, line.number <= self.stray_until);
            exit.scan(line, line.start + VMEXIT.len());
            exit.sure = exit.numbers.len();
            if exit.sure == 0 {
                return Taken::No;
            }
            self.open = Some(exit);
            return Taken::Began;
        }
        if let Some(exit) = &mut self.open {
            if exit.goes_on(line) {
                exit.wraps += 1;
                exit.scan(line, line.start);
                return Taken::Yes;
            }
            self.close(out);
        }
        Taken::No
    }

    fn finish(&mut self, out: &mut Out) {
        self.close(out);
    }
}

impl Exit {
    fn new(address: Option<u64>, line: u64, doubtful: bool) -> Self {
        Self {
            notes: Notes::default(),
            address,
            numbers: Vec::new(),
            sure: 0,
            last_line: line,
            wraps: 0,
            ended: false,
            doubtful,
        }
    }

    fn goes_on(&self, line: &Text<'_>) -> bool {
        let word = line.message().split(|byte| !byte.is_ascii_hexdigit()).next().unwrap_or_default();
        !self.ended
            && self.wraps < MAX_WRAPS
            && line.number == self.last_line + 1
            && matches!(word.len(), 8 | 16)
            && line.message().get(word.len()).is_some_and(|&after| matches!(after, b',' | b')'))
    }

    /// Takes the numbers of a line that stand whole in it: a comma or the end comes after them.
    fn scan(&mut self, line: &Text<'_>, start: usize) {
        self.notes.keep(line.number, line.text);
        self.last_line = line.last;
        let text = line.text.as_bytes();
        let mut at = start;
        while !self.ended && self.numbers.len() <= NUMBERS.len() {
            at = skip_spaces(text, at);
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let after = rest.get(length..).unwrap_or_default();
            self.ended = after.starts_with(END);
            if length == 0 || !self.ended && !after.starts_with(b",") {
                return;
            }
            let place = Place::Text { line: line.number, columns: at..at + length };
            self.numbers.push((rest.get(..length).unwrap_or_default().to_vec(), place));
            at += length + 1;
        }
    }

    fn into_found(mut self) -> Option<Found> {
        // A line lost or repeated shifts the numbers on the lines after the first.
        let whole = self.ended && self.numbers.len() == NUMBERS.len() && (self.wraps == 0 || !self.doubtful);
        let count = match self.numbers.len() {
            _ if whole => NUMBERS.len(),
            numbers if self.ended && self.wraps == 0 || numbers > NUMBERS.len() => 1,
            _ => self.sure,
        };
        let mut found = Found::new(Kind::QemuLog, Phase::After, self.notes.first_line());
        found.vmcb_address = self.address;
        let mut last = None;
        for ((name, field, digits), (word, place)) in NUMBERS.into_iter().zip(self.numbers).take(count) {
            last = Some((name, place.clone()));
            match read(&word, name, field, digits) {
                Ok((value, mask)) => found.learn(Seen {
                    name,
                    page: Page::Vmcb,
                    offset: field.offset,
                    size: field.size,
                    value: value & mask,
                    mask,
                    place,
                }),
                Err(kind) => self.notes.remark(kind, place),
            }
        }
        let (name, end) = last?;
        if !whole {
            self.notes.remark(RemarkKind::EndsAfter { name }, end);
        } else if self.wraps > 0 {
            self.notes.remark(RemarkKind::WrapJoined { count: (count - self.sure) as u64 }, end);
        }
        self.notes.hand_over(&mut found);
        Some(found)
    }
}

/// The value of a number, and which of its bits the VMCB has.
fn read(word: &[u8], name: &'static str, field: Field, digits: usize) -> Result<(u64, u64), RemarkKind> {
    let low = u64::from(u32::MAX);
    if field.offset == f::rip.offset && word.len() == 8 {
        // QEMU for 32-bit guests.
        return Ok((number::hex(word, name, 8)?, low));
    }
    let value = number::hex(word, name, digits)?;
    // QEMU of 2017 to 2021 kept EXITINFO1 in 32 bits with a sign before it wrote it.
    let kept = value as u32 as i32;
    let cut = field.offset == f::exitinfo1.offset && i64::from(kept) != value.cast_signed();
    // Of the exit code every version prints 32 bits.
    let mask = if digits == 8 || cut { low } else { u64::MAX };
    Ok((value, mask))
}
