//! One trace line of KVM, read without allocating.
//!
//! tracefs, `trace-cmd report` and `perf script` each print their own columns in front of an event's name. The kernel
//! prints the arguments, and has printed them in several ways since 2.6.3x. trace-cmd and perf print some events by
//! their own plugins instead.

use super::event::{EVENTS, Event};
use super::value::decimal;
use memchr::{memchr, memmem, memrchr};
use std::ops::Range;

/// What stands before an event's name. What a tool does not print is empty or `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Columns<'a> {
    /// The task's name.
    pub task: &'a [u8],
    /// Its number: of KVM's events, that of the thread that runs the virtual CPU.
    pub pid: Option<u32>,
    /// The CPU that it ran on.
    pub cpu: Option<u32>,
    /// tracefs' flags, `d..2.` and the like.
    pub flags: &'a [u8],
    /// Seconds, as printed.
    pub time: &'a [u8],
}

/// A trace line.
///
/// # Examples
/// ```
/// use vmcb_dump::trace::{Event, Line, Slot};
/// let text = b"CPU 0/KVM-1234 [003] d..2. 54.665919: kvm_nested_vmenter: rip: 0x0000000000100142 \
///     vmcb: 0x000000000010a000 nested_rip: 0x00000000001003b0 int_ctl: 0x00000000 event_inj: 0x80000b0e";
/// let line = Line::parse(text).expect("a trace line");
/// assert_eq!(line.event(), Event::Enter);
/// assert_eq!(line.columns().pid, Some(1234));
/// assert_eq!(line.arguments().get(Slot::EventInj), Some(0x8000_0b0e));
/// assert_eq!(line.arguments().get(Slot::NCr3), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    event: Event,
    text: &'a [u8],
    name: usize,
    arguments: usize,
}

impl<'a> Line<'a> {
    /// The event of a line, which may be anything: `None` if it is no trace line of KVM.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        // A task may be called kvm_something.
        memmem::find_iter(text, b"kvm_").find_map(|name| Self::parse_at(text, name))
    }

    /// The same where it is known that a `kvm_` stands at `name`.
    #[must_use]
    // In a register each, and not by way of memory: this is asked of each line of a trace.
    #[inline(always)]
    pub fn parse_at(text: &'a [u8], name: usize) -> Option<Self> {
        let rest = text.get(name + "kvm_".len()..)?;
        let word = |at: usize| rest.get(at..)?.first_chunk().map(|bytes| u128::from_le_bytes(*bytes));
        let head = word(0);
        let known = EVENTS.iter().find(|known| match head {
            Some(head) => {
                let length = known.text.len();
                known.start.is_in(head)
                    && (length <= 16 || word(length - 16).is_some_and(|last| known.end.is_in(last)))
            }
            None => rest.starts_with(known.text),
        });
        let (event, length) = match known {
            Some(known) => (known.event, known.text.len()),
            None => (Event::Other, other(rest)?),
        };
        Some(Self { event, text, name, arguments: name + "kvm_".len() + length })
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> Event {
        self.event
    }

    /// The bytes of the event's name.
    #[must_use]
    pub fn name(&self) -> Range<usize> {
        self.name..self.arguments.saturating_sub(1)
    }

    /// The same event of a line that was looked for in a longer text, if its name stands in the line.
    #[inline]
    pub(crate) fn within(self, line: Range<usize>) -> Option<Self> {
        let (name, arguments) = (self.name.checked_sub(line.start)?, self.arguments - line.start);
        let text = self.text.get(line)?;
        (arguments <= text.len()).then_some(Self { text, name, arguments, ..self })
    }

    /// The whole line.
    #[must_use]
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Where the arguments begin.
    pub(crate) const fn start(&self) -> usize {
        self.arguments
    }

    /// The condition of [`Event::EnterFailed`]: the bytes after the name, without spaces around.
    #[must_use]
    pub fn condition(&self) -> &'a [u8] {
        self.text.get(self.arguments..).unwrap_or_default().trim_ascii()
    }

    /// The numbers of the task and of the CPU, as in [`Self::columns`].
    #[must_use]
    #[inline]
    pub fn ids(&self) -> (Option<u32>, Option<u32>) {
        let (columns, _) = self.task();
        (columns.pid, columns.cpu)
    }

    /// What stands before the name.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        let (mut columns, after) = self.task();
        let mut words = after.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let last = words.next_back().and_then(|word| word.strip_suffix(b":"));
        columns.time = last.unwrap_or_default();
        columns.flags = words.next().unwrap_or_default();
        columns
    }

    /// The columns up to the CPU, and what stands after it.
    #[inline]
    fn task(&self) -> (Columns<'a>, &'a [u8]) {
        let head = self.text.get(..self.name).unwrap_or_default();
        let head = head.strip_suffix(b"kvm:").unwrap_or(head);
        let mut columns = Columns::default();
        let bracket = memrchr(b']', head).and_then(|close| {
            let open = memrchr(b'[', head.get(..close)?)?;
            let digits = head.get(open + 1..close)?;
            Some((open, close, decimal(digits).filter(|_| !digits.is_empty())?))
        });
        let Some((open, close, cpu)) = bracket else { return (columns, b"") };
        columns.cpu = Some(cpu);
        let mut task = head.get(..open).unwrap_or_default().trim_ascii_end();
        // tracefs' option record-tgid: `(  1234)`.
        if let Some(group) = task.strip_suffix(b")").and_then(|task| memrchr(b'(', task)) {
            task = task.get(..group).unwrap_or_default().trim_ascii_end();
        }
        let digits = task.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (before, number) = task.split_at(task.len() - digits);
        if let Some((b'-' | b' ' | b'/', before)) = before.split_last() {
            columns.pid = decimal(number).filter(|_| digits > 0);
            // perf prints `4321/4322` where it is asked for both.
            let slashed = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let cut = if task.get(before.len()) == Some(&b'/') { slashed } else { 0 };
            columns.task = before.get(..before.len() - cut).unwrap_or_default().trim_ascii();
        }
        (columns, head.get(close + 1..).unwrap_or_default())
    }
}

/// The length of the name of another event that `rest` begins with, and of the colon after it.
fn other(rest: &[u8]) -> Option<usize> {
    let length = memchr(b':', rest.get(..rest.len().min(48))?)?;
    let word = rest.get(..length)?;
    // `kvm_amd:` and its like begin messages of the kernel log.
    let named = !matches!(word, b"amd" | b"intel")
        && !word.is_empty()
        && word.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
    named.then_some(length + 1)
}

/// Whether a line says that the tracer lost events, and of which CPU: `CPU:3 [LOST 17 EVENTS]` of tracefs,
/// `CPU:3 [17 EVENTS DROPPED]` of trace-cmd. `Some(None)` where it names no CPU.
#[must_use]
pub fn lost_events(line: &[u8]) -> Option<Option<u32>> {
    let open = memchr(b'[', line)?;
    let text = line.get(open..)?;
    let lost = text.starts_with(b"[LOST ") && memmem::find(text, b" EVENTS]").is_some();
    if !lost && memmem::find(text, b"EVENTS DROPPED]").is_none() {
        return None;
    }
    let head = line.get(..open)?.trim_ascii_end();
    let digits = head.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = head.split_at(head.len() - digits);
    Some(if before.ends_with(b"CPU:") && digits > 0 { decimal(number) } else { None })
}

#[cfg(test)]
mod tests {
    use super::super::table::Slot;
    use super::*;

    #[test]
    fn columns_of_every_tool() {
        for (head, task, pid, cpu, flags, time) in [
            ("          kvmrun-130     [000] .....    25.887778: ", "kvmrun", 130, 0, ".....", "25.887778"),
            (
                "qemu-system-x86-3456  (   3456) [012] d..2. 54.6: ",
                "qemu-system-x86",
                3456,
                12,
                "d..2.",
                "54.6",
            ),
            (" CPU 0/KVM-1234  [003] 123.456789: ", "CPU 0/KVM", 1234, 3, "", "123.456789"),
            ("qemu [kvm]  1234 [001]   123.456789: kvm:", "qemu [kvm]", 1234, 1, "", "123.456789"),
            ("CPU 1/KVM 4321/4322 [001]   123.45: kvm:", "CPU 1/KVM", 4322, 1, "", "123.45"),
            ("a-b-7 [005] 1.0: ", "a-b", 7, 5, "", "1.0"),
        ] {
            let text = format!("{head}kvm_exit: reason npf rip 0x0");
            let line = Line::parse(text.as_bytes()).expect(head);
            let columns = line.columns();
            assert_eq!(columns.task, task.as_bytes(), "{head}");
            assert_eq!((columns.pid, columns.cpu), (Some(pid), Some(cpu)), "{head}");
            assert_eq!((columns.flags, columns.time), (flags.as_bytes(), time.as_bytes()), "{head}");
            assert_eq!(line.arguments().get(Slot::ExitCode), Some(0x400));
        }
        let task = Line::parse(b"kvm_stat-12 [001] 1.0: kvm_exit: reason npf rip 0x0").expect("a trace line");
        assert_eq!((task.event(), task.columns().pid), (Event::Exit, Some(12)));
        for head in ["", "   ", "[   12.345678] ", "] ", "[] ", "[1x] ", "[99999999999] "] {
            let text = format!("{head}kvm_exit: reason npf rip 0x0");
            assert_eq!(Line::parse(text.as_bytes()).expect(head).columns(), Columns::default(), "{head}");
        }
    }

    #[test]
    fn lost() {
        assert_eq!(lost_events(b"CPU:3 [LOST 17 EVENTS]"), Some(Some(3)));
        assert_eq!(lost_events(b"CPU:12 [17 EVENTS DROPPED]"), Some(Some(12)));
        assert_eq!(lost_events(b"CPU:0 [EVENTS DROPPED]"), Some(Some(0)));
        assert_eq!(lost_events(b"[LOST 17 EVENTS]"), Some(None));
        for text in ["CPU:3 [LOST 17", "", "[", "a [001] LOST 3 EVENTS", "CPU:1 [FOUND 3 EVENTS]"] {
            assert_eq!(lost_events(text.as_bytes()), None, "{text}");
        }
    }
}
