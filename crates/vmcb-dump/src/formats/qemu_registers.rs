//! Register dumps of QEMU: `info registers`, what it prints when KVM fails, `-d cpu` and `-d cpu_reset`.
//!
//! They show what the guest sees. What of it must stand in the VMCB too is decided in `guest_view`.

mod guest_view;

use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, RemarkKind, Seen};
use crate::kind::Kind;
use crate::number;
use crate::text::Text;
use memchr::{memchr, memmem};
use vmcb::layout::{Field, Page, vmcb_field as f};
use vmcb::{CsAttributes, ExitCode, Phase, SegmentAttributes};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 200;
/// Lines between a message of KVM and the dump that it announces.
const MAX_HEAD: u64 = 16;

pub(crate) struct QemuRegisters {
    failure: memmem::Finder<'static>,
    head: Option<Head>,
    open: Option<Dump>,
    /// The dump before ended before its end: its lines may still come, among those of another.
    broke_off: bool,
    last_line: u64,
    /// First line that shows VMX, and what it is.
    vmx: Option<(u64, &'static str)>,
}

/// What is said before a dump.
#[derive(Default)]
struct Head {
    notes: Notes,
    line: u64,
    vcpu: Option<u32>,
    failure: Option<Seen>,
    vmx: bool,
}

/// A dump of which lines are still expected.
struct Dump {
    head: Head,
    /// Registers are shown with 16 digits.
    long: bool,
    /// Its first register is not that with which dumps begin.
    beheaded: Option<&'static str>,
    /// All registers, to notice where another dump has a different value: index in [`KEYS`] and values.
    shown: Vec<(usize, [u64; 4])>,
    seen: Vec<Seen>,
    last: Option<(&'static str, Place)>,
    complete: bool,
    /// Where it was noticed that two dumps mingle.
    mingled: Option<Place>,
    /// Where its registers begin.
    start: Place,
}

/// What a name shows.
#[derive(Clone, Copy)]
enum Shows {
    /// A register of this mode alone, 16 digits in 64-bit mode and 8 otherwise: a field, or none that is of use.
    Mode { long: bool, field: Option<Field> },
    /// A number of so many digits in either mode.
    Fixed { digits: usize, field: Field },
    /// 8 or 16 digits, and of no use.
    Other,
    /// Selector, base, limit, attributes: of a segment that is learned, or of another.
    Segment(Option<Segment>),
    /// Base and limit.
    Table(Field, [&'static str; 2]),
    /// One digit: a field, or none.
    Digit(Option<Field>),
}

#[derive(Clone, Copy)]
struct Segment {
    field: Field,
    /// Names of the selector, the base, the limit and the attributes.
    names: [&'static str; 4],
}

macro_rules! segment {
    ($name:literal, $field:expr) => {
        (
            $name,
            Shows::Segment(Some(Segment {
                field: $field,
                names: [
                    concat!($name, ".selector"),
                    concat!($name, ".base"),
                    concat!($name, ".limit"),
                    concat!($name, ".attrib"),
                ],
            })),
        )
    };
}

const fn long(field: Option<Field>) -> Shows {
    Shows::Mode { long: true, field }
}

const fn short(field: Option<Field>) -> Shows {
    Shows::Mode { long: false, field }
}

/// Every register that tells one dump from another, in the order of a dump.
const KEYS: &[(&str, Shows)] = &[
    ("RAX", long(Some(f::rax))),
    ("EAX", short(Some(f::rax))),
    ("RBX", long(None)),
    ("RCX", long(None)),
    ("RDX", long(None)),
    ("RSI", long(None)),
    ("RDI", long(None)),
    ("RBP", long(None)),
    ("RSP", long(Some(f::rsp))),
    ("R8", long(None)),
    ("R9", long(None)),
    ("R10", long(None)),
    ("R11", long(None)),
    ("R12", long(None)),
    ("R13", long(None)),
    ("R14", long(None)),
    ("R15", long(None)),
    ("EBX", short(None)),
    ("ECX", short(None)),
    ("EDX", short(None)),
    ("ESI", short(None)),
    ("EDI", short(None)),
    ("EBP", short(None)),
    ("ESP", short(Some(f::rsp))),
    ("RIP", long(Some(f::rip))),
    ("EIP", short(Some(f::rip))),
    ("RFL", Shows::Fixed { digits: 8, field: f::rflags }),
    ("EFL", Shows::Fixed { digits: 8, field: f::rflags }),
    ("CPL", Shows::Digit(Some(f::cpl))),
    ("SMM", Shows::Digit(None)),
    segment!("ES", f::es),
    segment!("CS", f::cs),
    segment!("SS", f::ss),
    segment!("DS", f::ds),
    ("FS", Shows::Segment(None)),
    ("GS", Shows::Segment(None)),
    ("LDT", Shows::Segment(None)),
    ("TR", Shows::Segment(None)),
    ("GDT", Shows::Table(f::gdtr, ["GDT.base", "GDT.limit"])),
    ("IDT", Shows::Table(f::idtr, ["IDT.base", "IDT.limit"])),
    ("CR0", Shows::Fixed { digits: 8, field: f::cr0 }),
    ("CR2", Shows::Other),
    ("CR3", Shows::Other),
    ("CR4", Shows::Fixed { digits: 8, field: f::cr4 }),
    ("DR0", Shows::Other),
    ("DR1", Shows::Other),
    ("DR2", Shows::Other),
    ("DR3", Shows::Other),
    ("DR6", Shows::Other),
    ("DR7", Shows::Other),
    (LAST, Shows::Fixed { digits: 16, field: f::efer }),
];

/// The register with which a dump ends, as far as it is of interest.
const LAST: &str = "EFER";

/// A word of a line and where it begins.
type Word<'a> = (usize, &'a [u8]);

/// A name with what follows its `=`.
struct Pair<'a, 'b> {
    key: usize,
    /// The words behind `=`.
    values: &'b [Word<'a>],
    /// The first of them begins here, if it stands in the same word as `=`.
    first: Option<Word<'a>>,
}

impl Pair<'_, '_> {
    fn name(&self) -> &'static str {
        KEYS.get(self.key).map_or("", |key| key.0)
    }

    /// The word at `index`.
    fn word(&self, index: usize) -> Option<Word<'_>> {
        match (self.first, index) {
            (Some(first), 0) => Some(first),
            (Some(_), index) => self.values.get(index - 1).copied(),
            (None, index) => self.values.get(index).copied(),
        }
    }
}

fn words(text: &[u8], start: usize) -> Vec<Word<'_>> {
    let rest = text.get(start..).unwrap_or_default();
    let mut at = start;
    let mut words = Vec::new();
    for word in rest.split(u8::is_ascii_whitespace) {
        if !word.is_empty() {
            words.push((at, word));
        }
        at += word.len() + 1;
    }
    words
}

/// The registers among the words of a line.
fn pairs<'a, 'b>(words: &'b [Word<'a>]) -> Vec<Pair<'a, 'b>> {
    let mut pairs = Vec::new();
    for (index, &(at, word)) in words.iter().enumerate() {
        let Some(equals) = memchr(b'=', word) else {
            continue;
        };
        let before = index.checked_sub(1).and_then(|before| words.get(before));
        let name = match (equals, before) {
            (0, Some((_, before))) => before,
            _ => word.get(..equals).unwrap_or_default(),
        };
        let Some(key) = KEYS.iter().position(|(key, _)| key.as_bytes() == name) else {
            continue;
        };
        let mut value = word.get(equals + 1..).unwrap_or_default();
        // A mail's quoted-printable `=`; QEMU itself prints small letters.
        value = value.strip_prefix(b"3D").unwrap_or(value);
        let first = (!value.is_empty()).then(|| (at + word.len() - value.len(), value));
        pairs.push(Pair { key, values: words.get(index + 1..).unwrap_or_default(), first });
    }
    pairs
}

/// Reads exactly `digits` hexadecimal digits, as QEMU prints them: in small letters and, other than Xen, without `0x`.
fn digits(word: &[u8], name: &'static str, digits: usize) -> Result<u64, RemarkKind> {
    if word.iter().any(u8::is_ascii_uppercase) || word.starts_with(b"0x") {
        return Err(RemarkKind::NotANumber { name, text: number::shorten(word) });
    }
    number::hex(word, name, digits)
}

impl QemuRegisters {
    pub(crate) fn new() -> Self {
        Self {
            failure: memmem::Finder::new("KVM: entry failed, hardware error "),
            head: None,
            open: None,
            broke_off: false,
            last_line: 0,
            vmx: None,
        }
    }

    /// The line is of another matter.
    fn pass(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        if self.open.is_some() && line.number > self.last_line + MAX_IDLE {
            self.close(out);
            self.broke_off = false;
        }
        if self.head.as_ref().is_some_and(|head| line.number > head.line + MAX_HEAD) {
            self.drop_head(out);
        }
        Taken::No
    }

    /// Hands out the open dump.
    fn close(&mut self, out: &mut Out) {
        if let Some(dump) = self.open.take() {
            self.broke_off = !dump.complete;
            out.extend(dump.into_found());
        }
    }

    /// No dump came after what was said.
    fn drop_head(&mut self, out: &mut Out) {
        if let Some(head) = self.head.take()
            && head.failure.is_some()
            && !head.vmx
        {
            out.push_back(head.into_found());
        }
    }

    /// A line that comes before a dump.
    fn head(&mut self, line: &Text<'_>, out: &mut Out) -> bool {
        let message = line.message();
        let text = line.text.as_bytes();
        let whole = Place::Text { line: line.number, columns: line.start..line.text.len() };
        if let Some(at) = self.failure.find(text) {
            self.close(out);
            self.drop_head(out);
            let at = at + self.failure.needle().len();
            let code = text.get(at..).unwrap_or_default();
            let length = code.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let cut = line.maybe_cut(at + length);
            let head = self.touch_head(line);
            match Failure::read(code.get(..length).unwrap_or_default()) {
                Some(Failure::Svm(code)) if !cut => {
                    let low = u64::from(u32::MAX);
                    head.failure = Some(Seen {
                        name: "hardware error",
                        page: Page::Vmcb,
                        offset: f::exitcode.offset,
                        size: f::exitcode.size,
                        value: code.bits() & low,
                        mask: low,
                        place: Place::Text { line: line.number, columns: at..at + length },
                    });
                    head.notes.remark(RemarkKind::EntryFailed { code: code.bits().cast_signed() }, whole);
                }
                Some(Failure::Vmx) => self.set_vmx(line),
                _ => {}
            }
            return true;
        }
        if let Some(rest) = message.strip_prefix(b"KVM internal error. Suberror: ") {
            self.close(out);
            let suberror = number_at(rest);
            let head = self.touch_head(line);
            if let Some(suberror) = suberror {
                head.notes.remark(RemarkKind::KvmInternalError { suberror }, whole);
            }
            return true;
        }
        if message.starts_with(b"If you're running a guest on an Intel machine") {
            self.close(out);
            self.set_vmx(line);
            return true;
        }
        let cpu = message.strip_prefix(b"CPU#").or_else(|| message.strip_prefix(b"CPU Reset (CPU "));
        if let Some(number) =
            cpu.map(|rest| rest.trim_ascii_end()).map(|rest| rest.strip_suffix(b")").unwrap_or(rest))
            && let Some(vcpu) = number_at(number)
            && number.iter().all(u8::is_ascii_digit)
        {
            self.close(out);
            self.touch_head(line).vcpu = Some(vcpu);
            return true;
        }
        false
    }

    fn touch_head(&mut self, line: &Text<'_>) -> &mut Head {
        let head = self.head.get_or_insert_default();
        head.line = line.number;
        head.notes.keep(line.number, line.text);
        head
    }

    fn set_vmx(&mut self, line: &Text<'_>) {
        self.vmx.get_or_insert((line.number, "a message"));
        self.touch_head(line).vmx = true;
    }

    /// Whether a dump begins with these registers, and whether it is its proper beginning.
    fn begins(&self, line: &Text<'_>, pairs: &[Pair<'_, '_>], words: &[Word<'_>]) -> bool {
        let (Some(first), Some(&(at, _))) = (pairs.first(), words.first()) else {
            return false;
        };
        let name = first.name();
        let second = match name {
            "RAX" => "RBX",
            "EAX" => "EBX",
            "RIP" => "RFL",
            "EIP" => "EFL",
            _ => return false,
        };
        let width = if name.starts_with('R') { 16 } else { 8 };
        let is_number = first.first.is_some_and(|(_, word)| digits(word, name, width).is_ok());
        let alone = match pairs.get(1) {
            Some(next) => next.name() == second,
            None => words.len() == 1,
        };
        if at != line.start || !is_number || !alone {
            return false;
        }
        match &self.open {
            None => true,
            Some(dump) if name.ends_with("AX") => !dump.repeats(first, line),
            Some(dump) => dump.complete,
        }
    }
}

/// The whole decimal number at the beginning of a text.
fn number_at(text: &[u8]) -> Option<u32> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// What the number after `hardware error` stands for.
enum Failure {
    /// An exit code of VMRUN.
    Svm(ExitCode),
    /// A reason of VMX: the exit reason of a failed VM entry, or the error of a VMX instruction.
    Vmx,
}

impl Failure {
    fn read(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"0x")?;
        let value = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let code = match digits.len() {
            8 => ExitCode::from_low_half(u32::try_from(value).ok()?),
            16 => ExitCode::from_bits(value),
            _ => ExitCode::from_bits(0),
        };
        if code.is_failure() {
            return Some(Self::Svm(code));
        }
        let entry = digits.len() == 8 && value >> 31 == 1;
        (entry || (1..=28).contains(&value)).then_some(Self::Vmx)
    }
}

impl Format for QemuRegisters {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        if self.head(line, out) {
            return Taken::Began;
        }
        let text = line.text.as_bytes();
        if memchr(b'=', line.message()).is_none() {
            return self.pass(line, out);
        }
        let words = words(text, line.start);
        let pairs = pairs(&words);
        if pairs.is_empty() {
            return self.pass(line, out);
        }
        if self.begins(line, &pairs, &words) {
            self.close(out);
            let near = line.number <= self.last_line + MAX_IDLE;
            self.pass(line, out);
            let start = Place::Text { line: line.number, columns: line.start..line.text.trim_end().len() };
            let mut dump = Dump::new(self.head.take().unwrap_or_default(), start.clone());
            dump.mingled = (self.broke_off && near).then_some(start);
            self.last_line = line.number;
            dump.take(line, &pairs);
            self.open = Some(dump);
            return Taken::Began;
        }
        if self.open.is_none() || line.number > self.last_line + MAX_IDLE {
            return self.pass(line, out);
        }
        self.last_line = line.number;
        if let Some(dump) = &mut self.open {
            dump.take(line, &pairs);
        }
        Taken::Yes
    }

    fn finish(&mut self, out: &mut Out) {
        self.close(out);
        self.drop_head(out);
    }

    fn vmx(&self) -> Option<(u64, &'static str)> {
        self.vmx
    }
}

impl Head {
    fn into_found(self) -> Found {
        let mut notes = self.notes;
        let phase = if self.failure.is_some() { Phase::After } else { Phase::Unknown };
        let mut found = Found::new(Kind::QemuRegisters, phase, notes.first_line());
        found.vcpu = self.vcpu;
        if let Some(seen) = self.failure {
            found.learn(seen);
        }
        std::mem::take(&mut notes).hand_over(&mut found);
        found
    }
}

impl Dump {
    fn new(head: Head, start: Place) -> Self {
        Self {
            head,
            long: false,
            beheaded: None,
            shown: Vec::new(),
            seen: Vec::new(),
            last: None,
            complete: false,
            mingled: None,
            start,
        }
    }

    /// Whether the line is the first one again.
    fn repeats(&self, first: &Pair<'_, '_>, line: &Text<'_>) -> bool {
        let width = if self.long { 16 } else { 8 };
        let value = first.first.and_then(|(_, word)| digits(word, first.name(), width).ok());
        let same = |&(key, values): &(usize, [u64; 4])| key == first.key && Some(values[0]) == value;
        matches!(self.start, Place::Text { line: first, .. } if line.number == first + 1)
            && self.shown.first().is_some_and(same)
    }

    fn take(&mut self, line: &Text<'_>, pairs: &[Pair<'_, '_>]) {
        self.head.notes.keep(line.number, line.text);
        for pair in pairs {
            self.register(line, pair);
        }
    }

    fn register(&mut self, line: &Text<'_>, pair: &Pair<'_, '_>) {
        let Some(&(name, shows)) = KEYS.get(pair.key) else {
            return;
        };
        let place = |(at, word): Word<'_>| Place::Text { line: line.number, columns: at..at + word.len() };
        let whole = pair.word(0).map_or(Place::Text { line: line.number, columns: 0..0 }, place);
        if self.shown.is_empty() {
            self.long = name.starts_with('R');
            self.beheaded = (!name.ends_with("AX")).then_some(name);
        }
        if matches!(shows, Shows::Mode { long, .. } if long != self.long) {
            self.mingle(whole);
            return;
        }
        let parts = parts(name, shows, pair, self.long);
        let mut values = [0; 4];
        let mut seen = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let word = pair.word(index).ok_or((RemarkKind::NoValue { name: part.name }, whole.clone()));
            let read = word.and_then(|word| match digits(word.1, part.name, part.digits) {
                Ok(value) => Ok((value, place(word))),
                Err(kind) => Err((kind, place(word))),
            });
            match read {
                Ok((value, place)) => {
                    if let Some(slot) = values.get_mut(index) {
                        *slot = value;
                    }
                    seen.extend(part.learn(value, place));
                }
                Err((kind, place)) => {
                    if part.target.is_some() {
                        self.head.notes.remark(kind, place);
                    }
                    self.learn(seen);
                    return;
                }
            }
        }
        self.last = Some((name, whole.clone()));
        self.complete |= name == LAST;
        self.learn(seen);
        if self.remember(pair.key, values, name, &whole) && name == "SMM" && values[0] == 1 {
            self.head.notes.remark(RemarkKind::SystemManagementMode, whole);
        }
    }

    /// Keeps what is new; the same field with another value is that of another dump.
    fn learn(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match self.seen.iter().find(|before| before.offset == seen.offset) {
                None => self.seen.push(seen),
                Some(before) if before.value == seen.value && before.mask == seen.mask => {}
                Some(_) => self.mingle(seen.place),
            }
        }
    }

    /// Keeps the values of a register; `false` if it was known before.
    fn remember(&mut self, key: usize, values: [u64; 4], name: &'static str, place: &Place) -> bool {
        match self.shown.iter().find(|(known, _)| *known == key).map(|(_, values)| *values) {
            None => {
                self.shown.push((key, values));
                return true;
            }
            Some(before) if before == values => {
                self.head.notes.remark(RemarkKind::Duplicate { name }, place.clone());
            }
            Some(_) => self.mingle(place.clone()),
        }
        false
    }

    fn mingle(&mut self, place: Place) {
        self.mingled.get_or_insert(place);
    }

    /// The attributes of a segment, packed.
    fn attributes(&self, name: &str) -> Option<SegmentAttributes> {
        let key = KEYS.iter().position(|(key, _)| *key == name)?;
        let (_, values) = self.shown.iter().find(|(known, _)| *known == key)?;
        Some(SegmentAttributes::from_bits(packed(values[3]) as u16))
    }

    /// Whether everything that shows CPL agrees: older QEMU takes it from CS, newer from SS.
    fn shows_cpl(&self, cpl: u64) -> bool {
        let agrees = |segment: SegmentAttributes| u64::from(segment.dpl()) == cpl;
        match (self.attributes("CS"), self.attributes("SS")) {
            (Some(cs), Some(ss)) => cs.present() && agrees(cs) && (!ss.present() || agrees(ss)),
            _ => false,
        }
    }

    fn into_found(mut self) -> Option<Found> {
        if self.head.vmx {
            return None;
        }
        let (mingled, mut seen) = (self.mingled.take(), std::mem::take(&mut self.seen));
        seen.retain(|seen| seen.offset != f::cpl.offset || self.shows_cpl(seen.value));
        if seen.is_empty() && mingled.is_none() && self.head.failure.is_none() {
            return None;
        }
        let (start, notes) = (self.start, &mut self.head.notes);
        if let Some(place) = mingled {
            notes.remark(RemarkKind::DumpsMingle, place);
            return Some(self.head.into_found());
        }
        if let Some(name) = self.beheaded {
            notes.remark(RemarkKind::BeginsAt { name }, start.clone());
        }
        notes.remark(RemarkKind::GuestView, start);
        if let Some((name, place)) = self.last.filter(|_| !self.complete) {
            notes.remark(RemarkKind::EndsAfter { name }, place);
        }
        let mut found = self.head.into_found();
        for seen in seen {
            found.learn(seen);
        }
        Some(found)
    }
}

/// Attributes as the VMCB packs them, of the descriptor's high word.
fn packed(flags: u64) -> u64 {
    flags >> 8 & 0xFF | flags >> 12 & 0xF00
}

/// A number that stands behind a name.
struct Part {
    name: &'static str,
    digits: usize,
    target: Option<Target>,
}

/// Where in the VMCB a number belongs.
#[derive(Clone, Copy)]
struct Target {
    field: Field,
    /// First byte of the field that it shows, and how many.
    from: u16,
    size: u16,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Value,
    Attributes,
    /// KVM keeps 16 bits of it.
    TableLimit,
}

/// The numbers behind a name.
fn parts(name: &'static str, shows: Shows, pair: &Pair<'_, '_>, long: bool) -> Vec<Part> {
    let width = if long { 16 } else { 8 };
    let length = pair.word(0).map_or(0, |(_, word)| word.len());
    let value = |field: Field| Target { field, from: 0, size: field.size, what: What::Value };
    match shows {
        Shows::Mode { field, .. } => vec![Part { name, digits: width, target: field.map(value) }],
        Shows::Fixed { digits, field } => vec![Part { name, digits, target: Some(value(field)) }],
        Shows::Digit(field) => vec![Part { name, digits: 1, target: field.map(value) }],
        Shows::Other => vec![Part { name, digits: if length == 8 { 8 } else { 16 }, target: None }],
        Shows::Segment(segment) => {
            let parts = [
                (4, 0, 2, What::Value),
                (width, 8, 8, What::Value),
                (8, 4, 4, What::Value),
                (8, 2, 2, What::Attributes),
            ];
            let names = segment.map_or([name; 4], |segment| segment.names);
            let part = |((digits, from, size, what), name)| Part {
                name,
                digits,
                target: segment.map(|segment| Target { field: segment.field, from, size, what }),
            };
            parts.into_iter().zip(names).map(part).collect()
        }
        Shows::Table(field, [base, limit]) => {
            // 16 digits in long mode. Outside 64-bit mode eight may be all, or the half of sixteen unless the
            // limit stands behind them.
            let followed = pair.word(1).is_some_and(|(_, word)| digits(word, limit, 8).is_ok());
            let eight = !long && length == 8 && followed;
            let target = |from, size, what| Some(Target { field, from, size, what });
            vec![
                Part { name: base, digits: if eight { 8 } else { 16 }, target: target(8, 8, What::Value) },
                Part { name: limit, digits: 8, target: target(4, 4, What::TableLimit) },
            ]
        }
    }
}

impl Part {
    /// What the number tells of the VMCB.
    fn learn(&self, value: u64, place: Place) -> Option<Seen> {
        let Target { field, from, size, what } = self.target?;
        let (value, mask) = match what {
            What::Value => {
                let shown = number::mask(u16::try_from(self.digits.div_ceil(2)).unwrap_or(8));
                (value, shown & number::mask(size) & guest_view::same(field, from, value))
            }
            What::TableLimit => (value, 0xFFFF),
            What::Attributes => {
                let value = packed(value);
                let present = CsAttributes::P.bits();
                // Older QEMU shows nothing else of a segment that is not present.
                let shown = if value & present == 0 { present } else { 0xFFF };
                (value, shown & guest_view::same(field, from, value))
            }
        };
        let seen = Seen {
            name: self.name,
            page: Page::Vmcb,
            offset: field.offset + from,
            size,
            value: value & mask,
            mask,
            place,
        };
        (mask != 0).then_some(seen)
    }
}
