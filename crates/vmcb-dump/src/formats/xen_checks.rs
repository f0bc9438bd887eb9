//! Lines of Xen's own check of a VMCB for a nested VMRUN, `svm_vmcb_isvalid`: it prints one for each reason.

use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, Refusal, Refuser, RemarkKind, Seen};
use crate::kind::Kind;
use crate::number;
use crate::refusal::{self, XenCheck};
use crate::text::Text;
use memchr::{memchr, memmem};
use vmcb::Phase;
use vmcb::layout::{Field, Page, vmcb_field as f};

/// Lines of others that may stand between two lines of one check.
const MAX_BETWEEN: u64 = 3;
/// Reasons after which no more are taken: Xen has about 15.
const MAX_REASONS: usize = 64;

/// What a reason begins with, and the field whose value it shows.
const FIELDS: &[(&str, Field)] = &[
    ("EFER:", f::efer),
    ("CR0:", f::cr0),
    ("CR3:", f::cr3),
    ("CR4:", f::cr4),
    ("DR6:", f::dr6),
    ("DR7:", f::dr7),
    ("GENERAL2_INTERCEPT:", f::intercept_misc2),
    ("eventinj:", f::eventinj),
];

/// What Xen says after the check, and of which VMCB.
const VERDICTS: &[(&str, &str)] = &[
    ("virtual vmcb invalid", "the VMCB of the nested hypervisor (VMCB12)"),
    ("n2vmcb invalid", "the VMCB that it made of the nested hypervisor's, to run it (VMCB02)"),
];

pub(crate) struct XenChecks {
    invalid: memmem::Finder<'static>,
    open: Option<Group>,
}

/// One call of the check.
struct Group {
    found: Found,
    notes: Notes,
    /// The virtual CPU and the function, as printed.
    who: Vec<u8>,
    /// The last reason, counted in the order in which Xen looks.
    order: usize,
    last_line: u64,
    /// Fields shown with different values.
    forgotten: Vec<u16>,
}

impl XenChecks {
    pub(crate) fn new() -> Self {
        Self { invalid: memmem::Finder::new("vmcb invalid"), open: None }
    }
}

/// A line with a reason: who says it, and where in the message the reason begins.
fn reason(message: &[u8]) -> Option<(&[u8], usize, XenCheck)> {
    let end = memchr(b':', message.get(..message.len().min(96))?)?;
    let who = message.get(..end)?;
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'[' | b']' | b'?');
    let start = end + 2;
    let text = message.get(start..)?;
    if !who.iter().all(name) || message.get(end + 1) != Some(&b' ') {
        return None;
    }
    Some((who, start, refusal::xen_check(text)?))
}

impl Format for XenChecks {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let message = line.message();
        if self.open.as_ref().is_some_and(|open| line.number > open.last_line + MAX_BETWEEN) {
            self.finish(out);
        }
        if let Some((who, start, check)) = reason(message) {
            let goes_on = self.open.as_ref().is_some_and(|open| {
                let later = check.order > open.order || check.order == open.order && check.repeats;
                open.who == who && later && open.found.refusals.len() < MAX_REASONS
            });
            if !goes_on {
                self.finish(out);
            }
            let open = self.open.get_or_insert_with(|| Group::new(who, line.number));
            open.take(line, line.start + start, &check);
            return if goes_on { Taken::Yes } else { Taken::Began };
        }
        if let Some(open) = &mut self.open
            && self.invalid.find(message).is_some()
            && let Some(&(vmcb, meaning)) = VERDICTS.iter().find(|(text, _)| {
                message
                    .trim_ascii_end()
                    .strip_suffix(text.as_bytes())
                    .is_some_and(|rest| !rest.ends_with(b"n"))
            })
        {
            open.notes.keep(line.number, line.text);
            let end = line.text.trim_ascii_end().len();
            let place = Place::Text { line: line.number, columns: end - vmcb.len()..end };
            open.notes.remark(RemarkKind::XenChecked { vmcb, meaning }, place);
            self.finish(out);
            return Taken::Yes;
        }
        Taken::No
    }

    fn finish(&mut self, out: &mut Out) {
        if let Some(mut group) = self.open.take() {
            group.found.place = group.notes.first_line();
            group.notes.hand_over(&mut group.found);
            out.push_back(group.found);
        }
    }
}

impl Group {
    fn new(who: &[u8], line: u64) -> Self {
        let mut found = Found::new(Kind::XenChecks, Phase::Before, Place::Text { line, columns: 0..0 });
        found.vcpu = vcpu_of(who);
        let (who, notes) = (who.to_vec(), Notes::default());
        Self { found, notes, who, order: 0, last_line: line, forgotten: Vec::new() }
    }

    fn take(&mut self, line: &Text<'_>, start: usize, check: &XenCheck) {
        self.notes.keep(line.number, line.text);
        self.order = check.order;
        self.last_line = line.number;
        let text = line.text.get(start..).unwrap_or_default();
        let same = check.text.bytes().zip(text.bytes()).take_while(|(wanted, found)| wanted == found).count();
        let condition = text.get(..same).unwrap_or_default().trim_end().to_owned();
        let place = Place::Text { line: line.number, columns: start..start + condition.len() };
        let value = FIELDS
            .iter()
            .find(|(begin, _)| text.starts_with(begin))
            .and_then(|&(begin, field)| self.value(begin, field, text, same, line.number, start));
        let rules = refusal::xen_rules(check, value);
        self.found.refusals.push(Refusal { by: Refuser::Xen, condition, rules, place });
    }

    /// The value that a reason shows behind its words, if it is whole: something stands behind it that closes it.
    fn value(
        &mut self,
        begin: &'static str,
        field: Field,
        text: &str,
        after: usize,
        line: u64,
        start: usize,
    ) -> Option<u64> {
        let rest = text.get(after..)?;
        let at = after + rest.find(|c: char| c != ' ' && c != '(')?;
        let rest = text.get(at..)?;
        let length = rest.find([')', ',', ' '])?;
        let closed =
            rest.get(length..).is_some_and(|rest| rest.starts_with([')', ',']) || rest.starts_with(" ("));
        if !closed {
            return None;
        }
        let digits = rest.get(..length)?.as_bytes();
        let name = begin.strip_suffix(':').unwrap_or(begin);
        let place = Place::Text { line, columns: start + at..start + at + length };
        let size = usize::from(field.size) * 2;
        let value = match number::hex(digits, name, number::hex_digits(digits).len().min(size)) {
            Ok(value) if digits.len() > 2 || digits == b"0" => value,
            Ok(_) => return None,
            Err(kind) => {
                self.notes.remark(kind, place);
                return None;
            }
        };
        if let Some(second) = contradicts(rest.get(length..)?, value) {
            self.notes.remark(RemarkKind::Contradiction { name, first: value, second }, place);
            return None;
        }
        let (offset, mask) = (field.offset, number::mask(field.size));
        let seen = Seen { name, page: Page::Vmcb, offset, size: field.size, value, mask, place };
        let known = self.found.fields.iter().position(|seen| seen.offset == offset);
        match known.and_then(|index| self.found.fields.get(index).map(|seen| (index, seen.value))) {
            None if self.forgotten.contains(&offset) => return None,
            None => self.found.learn(seen),
            Some((_, first)) if first == value => {}
            Some((index, first)) => {
                self.found.fields.remove(index);
                self.found.vmcb.forget(offset, field.size);
                self.forgotten.push(offset);
                let kind = RemarkKind::Contradiction { name, first, second: value };
                self.notes.remark(kind, seen.place);
                return None;
            }
        }
        Some(value)
    }
}

/// What CR4 is by the bits that Xen allows and those that it rejects, if that is another value.
fn contradicts(rest: &str, value: u64) -> Option<u64> {
    let number = |name: &str, end: char| {
        let digits = rest.split_once(name)?.1.split_once(end)?.0;
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    };
    let (valid, rejected) = (number("(valid ", ',')?, number("rejected ", ')')?);
    (value & !valid != rejected).then_some(value & valid | rejected)
}

/// The number of the virtual CPU in `d1v0[function]`.
fn vcpu_of(who: &[u8]) -> Option<u32> {
    let who = std::str::from_utf8(who).ok()?;
    let (domain, vcpu) = who.split_once('[')?.0.strip_prefix('d')?.split_once('v')?;
    domain.parse::<u32>().ok()?;
    vcpu.parse().ok()
}
