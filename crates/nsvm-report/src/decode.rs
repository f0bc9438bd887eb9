//! `nsvm decode`: words in any spelling, bit by bit.

use crate::error::Error;
use crate::format::Format;
use crate::record::{Decoded, DecodedPart, Failure, Record, print};
use crate::status::Status;
use crate::{bits, suggest};
use std::io::Write;
use vmcb::{
    Cpu, Decision, Event, EventType, ExceptionSet, ExitCode, Feature, GuestMode, IntCtl, Limits, Policy,
    Vector, Verdict, Word, check_event,
};

/// What a word may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// EVENTINJ, 0A8h.
    Eventinj,
    /// EXITINTINFO, 088h.
    Exitintinfo,
    /// EXITCODE, 070h.
    Exitcode,
    /// Interrupt control, 060h.
    IntCtl,
    /// Attributes of a segment, packed as in the VMCB.
    Attributes,
    /// Intercepts at 00Ch.
    Intercepts1,
    /// Intercepts at 010h.
    Intercepts2,
    /// Intercepts at 014h.
    Intercepts3,
    /// Exception intercepts at 008h.
    Exceptions,
    /// CR intercepts at 000h.
    CrIntercepts,
    /// DR intercepts at 004h.
    DrIntercepts,
    /// CR0.
    Cr0,
    /// CR4.
    Cr4,
    /// EFER.
    Efer,
    /// Nested control at 090h; Linux: nested_ctl, misc_ctl.
    NestedCtl,
    /// Virtualization extensions at 0B8h; Linux: virt_ext, misc_ctl2.
    VirtExt,
    /// SEV_FEATURES, VMSA 3B0h.
    SevFeatures,
    /// G_PAT.
    Pat,
    /// Clean bits at 0C0h.
    Clean,
}

impl Field {
    /// All fields, with the name and the meaning of each.
    pub const ALL: [(Self, &str, &str); 19] = [
        (Self::Eventinj, "eventinj", "EVENTINJ, 0A8h"),
        (Self::Exitintinfo, "exitintinfo", "EXITINTINFO, 088h"),
        (Self::Exitcode, "exitcode", "EXITCODE, 070h"),
        (Self::IntCtl, "int_ctl", "Interrupt control, 060h"),
        (Self::Attributes, "attributes", "Attributes of a segment, packed as in the VMCB"),
        (Self::Intercepts1, "intercepts1", "Intercepts at 00Ch"),
        (Self::Intercepts2, "intercepts2", "Intercepts at 010h"),
        (Self::Intercepts3, "intercepts3", "Intercepts at 014h"),
        (Self::Exceptions, "exceptions", "Exception intercepts at 008h"),
        (Self::CrIntercepts, "cr_intercepts", "CR intercepts at 000h"),
        (Self::DrIntercepts, "dr_intercepts", "DR intercepts at 004h"),
        (Self::Cr0, "cr0", "CR0"),
        (Self::Cr4, "cr4", "CR4"),
        (Self::Efer, "efer", "EFER"),
        (Self::NestedCtl, "nested_ctl", "Nested control at 090h; Linux: nested_ctl, misc_ctl"),
        (Self::VirtExt, "virt_ext", "Virtualization extensions at 0B8h; Linux: virt_ext, misc_ctl2"),
        (Self::SevFeatures, "sev_features", "SEV_FEATURES, VMSA 3B0h"),
        (Self::Pat, "pat", "G_PAT"),
        (Self::Clean, "clean", "Clean bits at 0C0h"),
    ];

    /// Returns the name as `--field` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(field, ..)| *field == self).map_or("", |(_, name, _)| name)
    }

    /// Returns the field with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(field, ..)| *field)
    }
}

/// Clean bits: what each says is unchanged.
const CLEAN: [(u8, &str); 14] = [
    (0, "intercepts, TSC offset, PAUSE filter"),
    (1, "IOPM_BASE_PA and MSRPM_BASE_PA"),
    (2, "ASID"),
    (3, "int_ctl"),
    (4, "nested paging: N_CR3, G_PAT, nested control"),
    (5, "CR0, CR3, CR4, EFER"),
    (6, "DR6, DR7"),
    (7, "GDTR, IDTR"),
    (8, "CS, DS, ES, SS and CPL"),
    (9, "CR2"),
    (10, "LBR"),
    (11, "AVIC"),
    (12, "CET"),
    (31, "left to the hypervisor"),
];

/// A word as the user wrote it.
struct Read {
    value: u64,
    /// Said where the spelling leaves a choice.
    spelling: Option<String>,
    /// What the name stands for, where it is a name.
    named: Option<Field>,
}

/// A line of an answer; the first is its title.
enum Line {
    Part(Part),
    Said(String),
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::Said(text.to_owned())
    }
}

/// Bits of a word, for people and for machines.
struct Part {
    bits: String,
    name: String,
    value: String,
    meaning: String,
    shown: String,
}

impl Line {
    fn into_shown(self) -> String {
        match self {
            Self::Part(part) => part.shown,
            Self::Said(text) => text,
        }
    }
}

fn decoded(
    word: &str,
    read: &Read,
    field: Field,
    guess: Option<String>,
    title: String,
    lines: impl Iterator<Item = Line>,
) -> Decoded {
    let (mut parts, mut said) = (Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Part(Part { bits, name, value, meaning, .. }) => {
                parts.push(DecodedPart { bits, name, value, meaning });
            }
            Line::Said(text) => said.push(text),
        }
    }
    Decoded {
        word: suggest::shorten(word),
        field: field.name().to_owned(),
        value: format!("{:#x}", read.value),
        guess,
        spelling: read.spelling.clone(),
        title,
        parts,
        said,
    }
}

/// How words are decoded.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What the words are. Without it, it is guessed.
    pub field: Option<Field>,
    /// The virtual CPU, for whether it accepts an event.
    pub cpu: Option<&'a Cpu>,
    /// How the answers are printed.
    pub format: Format,
}

/// Decodes each word and prints it to `out`. `complain` is called with the error of each word that cannot be decoded,
/// after `out` was flushed.
///
/// # Errors
/// If the output cannot be written.
pub fn decode(
    words: &[String],
    options: Options<'_>,
    out: &mut dyn Write,
    complain: &mut dyn FnMut(&Error),
) -> Result<Status, Error> {
    let mut status = Status::Fine;
    for (index, word) in words.iter().enumerate() {
        match understand(word, options.field) {
            Ok((read, field, guess)) => print_answer(word, &read, field, guess, index > 0, options, out)?,
            // The other words are still decoded.
            Err(error) => {
                if options.format == Format::Json {
                    let failure = Failure { file: suggest::shorten(word), text: error.to_string() };
                    print(out, &Record::Error(failure))?;
                }
                out.flush()?;
                complain(&error);
                status = Status::Failed;
            }
        }
    }
    Ok(status)
}

/// Reads a word and finds out what it is. The text is why, if it is a guess.
fn understand(word: &str, field: Option<Field>) -> Result<(Read, Field, Option<String>), Error> {
    let read = read(word, field)?;
    let (field, guess) = match field.or(read.named) {
        Some(field) => (field, None),
        None => guess(word, read.value)?,
    };
    Ok((read, field, guess))
}

/// Prints what a word means.
fn print_answer(
    word: &str,
    read: &Read,
    field: Field,
    guess: Option<String>,
    separate: bool,
    options: Options<'_>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut lines = Vec::new();
    decode_field(field, read.value, options.cpu, &mut lines);
    let mut lines = lines.into_iter();
    let title = lines.next().map_or_else(String::new, Line::into_shown);
    if options.format == Format::Json {
        let decoded = decoded(word, read, field, guess, title, lines);
        return Ok(print(out, &Record::Decoded(decoded))?);
    }
    if separate {
        writeln!(out)?;
    }
    writeln!(out, "{title}")?;
    for reason in guess.iter().chain(&read.spelling) {
        writeln!(out, "  ({reason})")?;
    }
    for line in lines {
        writeln!(out, "  {}", line.into_shown().trim_end())?;
    }
    Ok(())
}

fn read(word: &str, field: Option<Field>) -> Result<Read, Error> {
    let text = word.trim().replace('_', "");
    let plain = |value| Ok(Read { value, spelling: None, named: None });
    if let Some(digits) = text.strip_prefix('-') {
        return match digits.parse::<u64>() {
            Ok(value) => plain(value.wrapping_neg()),
            Err(_) => Err(unreadable(word)),
        };
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let hexadecimal = hexadecimal.or_else(|| {
        let digits = text.strip_suffix(['h', 'H'])?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)
    });
    if let Some(digits) = hexadecimal {
        return u64::from_str_radix(digits, 16).map_or_else(|_| Err(unreadable(word)), plain);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The kernel prints words in 8 or 16 digits, without 0x.
        if matches!(text.len(), 8 | 16) {
            let value = u64::from_str_radix(&text, 16).map_err(|_| unreadable(word))?;
            let spelling = Some(format!("{} digits: read as hexadecimal", text.len()));
            return Ok(Read { value, spelling, named: None });
        }
        let value = text.parse().map_err(|_| unreadable(word))?;
        let other = u64::from_str_radix(&text, 16).ok().filter(|&other| other != value);
        // 400 is the nested page fault in nearly every log, and no exit code as a decimal number.
        let code = |value| ExitCode::from_bits(value).name().is_some() || value < 0xA0;
        if let Some(other) = other.filter(|&other| field.is_none() && code(other) && !code(value)) {
            let spelling = Some("read as hexadecimal, in which it is an exit code".into());
            return Ok(Read { value: other, spelling, named: Some(Field::Exitcode) });
        }
        let spelling = other.map(|_| format!("read as decimal; write 0x{text} for hexadecimal"));
        return Ok(Read { value, spelling, named: None });
    }
    // Names come before hexadecimal digits without 0x only where they are none: `db` is a number.
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let value = u64::from_str_radix(&text, 16).map_err(|_| unreadable(word))?;
        return Ok(Read { value, spelling: Some("read as hexadecimal".into()), named: None });
    }
    name(word, field)
}

fn name(word: &str, field: Option<Field>) -> Result<Read, Error> {
    let upper = word.trim().to_uppercase();
    if let Some(number) = (0..32).find(|&number| {
        Vector::new(number).mnemonic().is_some_and(|name| name == upper && name.starts_with('#'))
    }) {
        let vector = Vector::new(number);
        let wanted = field.unwrap_or(Field::Eventinj);
        let value = match wanted {
            Field::Exitcode => 0x40 + u64::from(number),
            Field::Exceptions => ExceptionSet::EMPTY.with(vector).intercept_word().into(),
            _ => {
                let event = Event::new(EventType::EXCEPTION, vector);
                let event = if vector.exception().is_some_and(|row| row.error_code) {
                    event.with_error_code(0)
                } else {
                    event
                };
                event.bits()
            }
        };
        let spelling = (wanted == Field::Eventinj).then(|| {
            format!(
                "the event that injects {}; its #VMEXIT has exit code {:#x}",
                bits::vector(vector),
                0x40 + number
            )
        });
        return Ok(Read { value, spelling, named: Some(wanted) });
    }
    if let Some(code) = ExitCode::from_name(word.trim()) {
        return Ok(Read { value: code.bits(), spelling: None, named: Some(Field::Exitcode) });
    }
    Err(Error::unknown("neither a number nor the name of an exit code or exception", word, names()))
}

/// Names of exit codes and exceptions.
fn names() -> impl Iterator<Item = String> {
    let codes = (0..0xA7).chain(0x400..0x404).chain(u64::MAX - 3..=u64::MAX);
    let codes = codes.map(|code| ExitCode::from_bits(code).to_string());
    codes.chain((0..32).filter_map(|number| Vector::new(number).mnemonic().map(str::to_owned)))
}

fn unreadable(word: &str) -> Error {
    Error::usage(format!("`{}` is no number of at most 64 bits", suggest::shorten(word)), None)
}

/// The bits of int_ctl that have a meaning.
const INT_CTL: u64 = {
    let (mut mask, mut index) = (0xF_00FF, 0);
    while index < IntCtl::NAMES.len() {
        mask |= 1 << IntCtl::NAMES[index].0;
        index += 1;
    }
    mask
};

/// What a bare number most probably is.
fn guess(word: &str, value: u64) -> Result<(Field, Option<String>), Error> {
    let code = ExitCode::from_bits(value);
    let event = Event::from_bits(value);
    let (field, reason) = if code.is_failure() {
        (Field::Exitcode, "guessed: an exit code, since it is one of -1 to -4")
    } else if event.valid() && event.reserved() == 0 {
        (Field::Eventinj, "guessed: EVENTINJ, since V is set and bits 30:12 are clear")
    } else if code.name().is_some() || value < 0xA0 {
        (Field::Exitcode, "guessed: an exit code, since the manual has one of this value")
    } else if value <= 0xFFF {
        (Field::Attributes, "guessed: attributes of a segment, which have 12 bits")
    } else if value >> 24 != 0 && value & !INT_CTL == 0 {
        (Field::IntCtl, "guessed: int_ctl, since only bits are set that it has")
    } else {
        return Err(Error::usage(
            format!("`{}` can be many things: say which with --field", suggest::shorten(word)),
            Some("`nsvm decode --help` lists the fields".to_owned()),
        ));
    };
    Ok((field, Some(format!("{reason}; --field says otherwise"))))
}

fn decode_field(field: Field, value: u64, cpu: Option<&Cpu>, out: &mut Vec<Line>) {
    let register = |word: Word, out: &mut Vec<Line>| register(word, value, out);
    match field {
        Field::Eventinj => event("EVENTINJ", value, cpu, out),
        Field::Exitintinfo => event("EXITINTINFO", value, None, out),
        Field::Exitcode => exit_code(value, out),
        Field::IntCtl => {
            register(Word::IntCtl, out);
            out.push(row("7:0", "V_TPR", value & 0xFF, "virtual task priority"));
            out.push(row("19:16", "V_INTR_PRIO", value >> 16 & 0xF, "priority of the virtual interrupt"));
        }
        Field::Attributes => attributes(value, out),
        Field::Intercepts1 => register(Word::InterceptMisc1, out),
        Field::Intercepts2 => register(Word::InterceptMisc2, out),
        Field::Intercepts3 => register(Word::InterceptMisc3, out),
        Field::Exceptions => {
            out.push(Line::Said(format!("exception intercepts {value:#x}")));
            for vector in ExceptionSet::from_intercept_word(value as u32).iter() {
                let (bit, meaning) = (vector.number(), bits::vector(vector));
                let name = vector.mnemonic().unwrap_or_default();
                out.push(part(&bit.to_string(), name, 1, &meaning, format!("bit {bit:2}  {meaning}")));
            }
        }
        Field::CrIntercepts => accesses("CR", value, out),
        Field::DrIntercepts => accesses("DR", value, out),
        Field::Cr0 => register(Word::Cr0, out),
        Field::Cr4 => register(Word::Cr4, out),
        Field::Efer => register(Word::Efer, out),
        Field::NestedCtl => register(Word::NestedCtl, out),
        Field::VirtExt => register(Word::VirtExt, out),
        Field::SevFeatures => register(Word::SevFeatures, out),
        Field::Pat => {
            out.push(Line::Said(format!("G_PAT {value:#x}")));
            for (index, text) in bits::pat(value).split(" PA").enumerate() {
                let shown = if index == 0 { text.to_owned() } else { format!("PA{text}") };
                let (low, byte) = (index * 8, value.to_le_bytes().get(index).copied().unwrap_or(0));
                let meaning = shown.clone();
                out.push(part(
                    &format!("{}:{low}", low + 7),
                    &format!("PA{index}"),
                    byte.into(),
                    &meaning,
                    shown,
                ));
            }
        }
        Field::Clean => {
            out.push(Line::Said(format!(
                "clean bits {value:#x}: a set bit says that this is as VMRUN has it cached"
            )));
            let mut rest = value;
            for (bit, what) in CLEAN {
                if value >> bit & 1 == 1 {
                    out.push(part(&bit.to_string(), "", 1, what, format!("bit {bit:2}  {what}")));
                    rest &= !(1 << bit);
                }
            }
            if rest != 0 {
                out.push(Line::Said(format!("{}: reserved", bits::bits(rest))));
            }
        }
    }
}

fn row(at: &str, name: &str, value: u64, meaning: &str) -> Line {
    let shown = format!("{at:>5}  {name:<11} {value:<#10x} {meaning}");
    part(at, name, value, meaning, shown)
}

fn part(bits: &str, name: &str, value: u64, meaning: &str, shown: String) -> Line {
    let (name, meaning, value) = (name.to_owned(), meaning.to_owned(), format!("{value:#x}"));
    Line::Part(Part { bits: bits.to_owned(), name, value, meaning, shown })
}

/// The named bits that are set, and what remains.
fn register(word: Word, value: u64, out: &mut Vec<Line>) {
    out.push(Line::Said(format!("{} {value:#x}", word.name())));
    let mut rest = value;
    for &(bit, name, meaning) in word.bit_names() {
        if value >> bit & 1 == 1 {
            let shown = format!("bit {bit:2}  {name:<18} {meaning}");
            out.push(part(&bit.to_string(), name, 1, meaning, shown));
            rest &= !(1 << bit);
        }
    }
    // V_TPR and the priority have more than one bit.
    if word == Word::IntCtl {
        rest &= !0xF_00FF;
    }
    if rest != 0 {
        out.push(Line::Said(format!(
            "{}: no name in the manual, or more than one bit wide",
            bits::bits(rest)
        )));
    }
}

fn accesses(kind: &str, value: u64, out: &mut Vec<Line>) {
    out.push(Line::Said(format!("{kind} intercepts {value:#x}")));
    for (shift, what) in [(0, "reads"), (16, "writes")] {
        let set: Vec<String> = (0..16)
            .filter(|number| value >> (shift + number) & 1 == 1)
            .map(|number| format!("{kind}{number}"))
            .collect();
        out.push(Line::Said(format!(
            "{what}: {}",
            if set.is_empty() { "none".into() } else { set.join(", ") }
        )));
    }
}

fn attributes(value: u64, out: &mut Vec<Line>) {
    let attributes = vmcb::SegmentAttributes::from_bits(value as u16);
    out.push(Line::Said(format!("segment attributes {value:#x}")));
    let (kind, dpl) = (attributes.kind(), attributes.dpl());
    out.push(part("3:0", "type", kind.into(), "", format!("bits 3:0   type {kind:#x}")));
    out.push(part("6:5", "DPL", dpl.into(), "", format!("bits 6:5   DPL {dpl}")));
    for (bit, name) in vmcb::SegmentAttributes::NAMES {
        let set = value >> bit & 1;
        out.push(part(&bit.to_string(), name, set, "", format!("bit {bit:2}     {name} = {set}")));
    }
    if attributes.beyond() != 0 {
        out.push(
            "bits 15:12 are set, which the packed layout of the VMCB never has: is this the unpacked layout of a \
             descriptor, with L at bit 13 and D/B at bit 14?"
                .into(),
        );
    }
}

fn exit_code(value: u64, out: &mut Vec<Line>) {
    let code = ExitCode::from_bits(value);
    let name = match code.to_string() {
        number if number.starts_with("0x") => "no exit code of the manual".into(),
        name => format!("VMEXIT_{name}"),
    };
    out.push(Line::Said(format!("EXITCODE {value:#x}: {name}")));
    if code.is_failure() {
        out.push(Line::Said(format!(
            "{}: VMRUN refused the VMCB and did not enter the guest",
            code.widened().bits().cast_signed()
        )));
        if code.widened() != code {
            out.push(
                "32 bits of ones and a zero upper half: some hypervisors write this for the 64-bit value"
                    .into(),
            );
        }
    } else if let Some(vector) = code.exception() {
        out.push(Line::Said(format!("the intercepted exception {}", bits::vector(vector))));
    }
    if (0xF000_0000..0xFFFF_FFFC).contains(&value) {
        out.push("F000_0000h and up are left to the hypervisor's software".into());
    }
}

fn event(name: &str, value: u64, cpu: Option<&Cpu>, out: &mut Vec<Line>) {
    let event = Event::from_bits(value);
    out.push(Line::Said(format!("{name} {value:#x}")));
    out.push(row("31", "V", event.valid().into(), if event.valid() { "an event" } else { "no event" }));
    out.push(row("10:8", "TYPE", event.event_type().bits().into(), event.event_type().name()));
    let meaning = match event.event_type() {
        EventType::EXCEPTION => bits::vector(event.vector()),
        EventType::NMI => "ignored for an NMI".into(),
        _ => event.vector().number().to_string(),
    };
    out.push(row("7:0", "VECTOR", event.vector().number().into(), &meaning));
    let pushes = if event.pushes_error_code() { "ERRORCODE is pushed" } else { "no ERRORCODE is pushed" };
    out.push(row("11", "EV", event.pushes_error_code().into(), pushes));
    if event.error_code() != 0 || event.pushes_error_code() {
        let used = if event.pushes_error_code() { "" } else { "ignored, since EV is clear" };
        out.push(row("63:32", "ERRORCODE", event.error_code().into(), used));
    }
    if event.reserved() != 0 {
        out.push(row(
            "30:12",
            "",
            event.reserved() >> 12,
            "should be zero; VMRUN's checks do not look at it",
        ));
    }
    if name == "EVENTINJ" && event.valid() {
        accepted(event, cpu, out);
    }
}

/// Whether VMRUN accepts it, in each mode that matters, by `vmcb`.
fn accepted(event: Event, cpu: Option<&Cpu>, out: &mut Vec<Line>) {
    let limits = Limits::compile(cpu.unwrap_or(&Cpu::ANY), Policy::VirtualCpu);
    let whose = if cpu.is_some() { "this CPU" } else { "AMD CPUs" };
    let verdicts: Vec<(Verdict, &str)> =
        modes(cpu).map(|(mode, name)| (check_event(event, mode, &limits), name)).collect();
    let always = verdicts.iter().fold(vmcb::RuleSet::ALL, |all, (one, _)| all.intersection(one.broken()));
    if !always.is_empty() {
        out.push(Line::Said(format!("{whose}, any guest: refused ({})", ids(always))));
        return;
    }
    let mut answers: Vec<(String, Vec<&str>)> = Vec::new();
    for (verdict, name) in verdicts {
        let answer = answer(&verdict);
        match answers.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, names)) => names.push(name),
            None => answers.push((answer, vec![name])),
        }
    }
    if let [(answer, _)] = answers.as_slice() {
        out.push(Line::Said(format!("{whose}, any guest: {answer}")));
        return;
    }
    for (answer, names) in answers {
        let whom = match names.len() {
            // All but the last.
            4 if !names.contains(&RESTRICTED) => "any guest without Restricted Injection".into(),
            _ => names.join("; "),
        };
        out.push(Line::Said(format!("{whose}, {whom}: {answer}")));
    }
}

const RESTRICTED: &str = "guest with Restricted Injection";

/// The modes of a guest that can differ.
fn modes(cpu: Option<&Cpu>) -> impl Iterator<Item = (GuestMode, &'static str)> {
    let sev = move |feature| cpu.is_none_or(|cpu| cpu.has(feature) != Some(false));
    let (es, restricted) = (sev(Feature::SevEs), sev(Feature::RestrictedInjection));
    let bits64 = GuestMode::BITS_64;
    let other = GuestMode::OTHER;
    [
        (true, other, "guest outside 64-bit mode"),
        (true, bits64, "guest in 64-bit mode"),
        (es, other.with_sev_es(), "SEV-ES guest outside 64-bit mode"),
        (es, bits64.with_sev_es(), "SEV-ES guest in 64-bit mode"),
        (es && restricted, bits64.with_restricted_injection(), RESTRICTED),
    ]
    .into_iter()
    .filter_map(|(exists, mode, name)| exists.then_some((mode, name)))
}

fn answer(verdict: &Verdict) -> String {
    match verdict.decision() {
        Decision::Accepted => "accepted".into(),
        Decision::Refused => format!("refused ({})", ids(verdict.broken())),
        Decision::Undecided => {
            let features: Vec<String> = verdict
                .unknown()
                .iter()
                .flat_map(|rule| rule.row().when)
                .filter_map(|literal| match literal {
                    vmcb::Literal::Is { word: Word::Cpu, mask, .. } => Some(*mask),
                    _ => None,
                })
                .flat_map(crate::explain::features)
                .map(|feature| format!("{} ({})", feature.cpuid(), feature.name()))
                .collect();
            let depends = if features.is_empty() {
                String::new()
            } else {
                format!(", depends on {}", features.join(", "))
            };
            format!("undecided ({}){depends}", ids(verdict.undecided()))
        }
    }
}

fn ids(rules: vmcb::RuleSet) -> String {
    rules.iter().map(vmcb::Rule::id).collect::<Vec<_>>().join(", ")
}
