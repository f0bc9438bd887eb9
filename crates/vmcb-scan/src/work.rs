//! The lines of one block.

use crate::blocks::{AHEAD, Block, MAX_LINE};
use crate::follow::{Record, What};
use crate::judge::{Entry, Judge, SHOWN};
use crate::options::Options;
use crate::report::{Report, Source, Standing, shorten};
use crate::vcpu::VcpuKey;
use aho_corasick::{Span, packed::Searcher};
use memchr::{memchr, memmem, memrchr};
use std::ops::Range;
use vmcb::{EventType, ExitCode};
use vmcb_dump::trace::{Arguments, Event, Layouts, Line, Slot, condition, lost_events};

/// What the lines have that matter: trace lines and dumps, dumps, Xen's lines, marks of lost events. Searched are two
/// bytes of each, those from the place in the second column on, which are the rarest in logs: a search for four bytes
/// of each at once takes twice as long.
const NEEDLES: [(&[u8], usize); 6] =
    [(b"kvm_", 0), (b"SVM:", 0), (b"VMCB", 1), (b"(XEN)", 0), (b" EVENTS]", 6), (b"EVENTS DROPPED]", 10)];
const STEM: usize = 2;
/// No needle is longer.
const MOST_NEEDLE: usize = 16;

/// Bytes that are searched at a time: few where something was found just before, more where nothing is.
const STRETCH: Range<usize> = 4 << 10..32 << 10;

/// What is read of a trace line beside [`SHOWN`].
const READ: [Slot; 5] = [Slot::Vcpu, Slot::Vmcb, Slot::ExitCode, Slot::ExitIntInfo, Slot::Vector];

/// Conditions that are remembered.
const MOST_TOLD: usize = 64;

/// Nested VMRUNs of one block that may wait for their intercepts at a time.
const MOST_OPEN: usize = 64;

/// What one block gives.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) report: Report,
    /// Line numbers count from the block's first, 1.
    pub(crate) records: Vec<Record>,
    pub(crate) dump_lines: Vec<(u64, Vec<u8>)>,
}

pub(crate) struct Worker {
    searcher: Option<Searcher>,
    kvm: memmem::Finder<'static>,
    layouts: Layouts,
    judge: Judge,
    events: bool,
    limit: usize,
    open: Vec<Open>,
    conditions: Vec<Told>,
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The lines of the block.
    bytes: &'a [u8],
    /// Where in them it begins.
    start: usize,
    /// Its number, counted from 1.
    number: u64,
}

/// The values of a line, and the virtual CPU that it belongs to.
#[derive(Clone, Copy)]
struct Shown<'a> {
    arguments: &'a Arguments,
    key: VcpuKey,
    /// The line's number, counted from 1.
    number: u64,
    text: &'a [u8],
}

/// A condition that KVM named when it refused, and what it means. There are few different ones.
struct Told {
    words: Vec<u8>,
    text: String,
    rules: &'static [&'static str],
    vmx: bool,
}

impl Told {
    fn new(words: &[u8]) -> Self {
        let text = String::from_utf8_lossy(words);
        Self {
            words: words.to_vec(),
            rules: condition::rules(&text),
            vmx: condition::is_vmx(&text),
            text: shorten(words),
        }
    }
}

/// A nested VMRUN whose intercepts may come.
struct Open {
    key: VcpuKey,
    entry: Entry,
    line: u64,
    place: Range<usize>,
}

impl Worker {
    pub(crate) fn new(options: &Options) -> Self {
        let wanted: Vec<Slot> = READ.into_iter().chain(SHOWN.map(|(slot, ..)| slot)).collect();
        Self {
            searcher: Searcher::new(NEEDLES.iter().filter_map(|(text, at)| text.get(*at..at + STEM))),
            kvm: memmem::Finder::new("kvm_"),
            layouts: Layouts::new(&wanted),
            judge: Judge::new(options),
            events: options.events,
            limit: options.lines,
            open: Vec::new(),
            conditions: Vec::new(),
        }
    }

    /// The first line in `range` that matters: where a needle, or its two bytes, stand.
    #[inline]
    fn find(&self, bytes: &[u8], range: Range<usize>) -> Option<usize> {
        let Range { mut start, end } = range;
        let Some(searcher) = &self.searcher else {
            // Where the machine has no such instructions.
            let rest = bytes.get(start..end)?;
            return NEEDLES
                .iter()
                .filter_map(|(text, _)| memmem::find(rest, text))
                .min()
                .map(|at| start + at);
        };
        loop {
            let hit = searcher.find_in(bytes, Span { start, end })?.start();
            let stands = |&(text, at): &(&[u8], usize)| {
                hit.checked_sub(at)
                    .and_then(|begin| bytes.get(begin..))
                    .is_some_and(|rest| rest.starts_with(text))
            };
            if NEEDLES.iter().any(stands) {
                return Some(hit);
            }
            start = hit + 1;
        }
    }

    /// The first needle from `at` on, and how many lines end before it.
    fn next_hit(&self, bytes: &[u8], mut at: usize) -> (Option<usize>, u64) {
        let Range { start: mut size, end: most } = STRETCH;
        let mut lines = 0;
        loop {
            let end = bytes.len().min(at + size);
            // Counted before it is searched: counting fetches the bytes from memory as fast as they come, searching
            // does not.
            let all = count_lines(bytes, at..end);
            // A needle may stand across the end.
            if let Some(hit) = self.find(bytes, at..bytes.len().min(end + MOST_NEEDLE)) {
                return (Some(hit), lines + count_lines(bytes, at..hit));
            }
            lines += all;
            if end == bytes.len() {
                return (None, lines);
            }
            at = end;
            size = most.min(size * 2);
        }
    }

    pub(crate) fn work(&mut self, block: &Block<'_>) -> Part {
        let mut part = Part { report: Report::new(self.limit), records: Vec::new(), dump_lines: Vec::new() };
        let bytes = block.bytes.get(..block.own).unwrap_or_default();
        part.report.bytes = bytes.len() as u64 + block.passed;
        let mut counts = [0_u64; Event::Other as usize + 1];
        let mut at = 0;
        let mut lines = 0;
        let mut arguments = Arguments::none();
        loop {
            // Most often a line begins like the last, and is read from there.
            if let Some((name, ids)) = self.layouts.name(bytes, at)
                && let Some(line) = self.layouts.read(bytes, at, name, &mut arguments)
            {
                lines += 1;
                let text = line.text();
                let place = Place { bytes, start: at, number: lines };
                self.event(&line, &arguments, ids, text, place, &mut part, &mut counts);
                let end = at + text.len();
                at = end + if bytes.get(end) == Some(&b'\r') { 2 } else { 1 };
                continue;
            }
            let (hit, counted) = self.next_hit(bytes, at);
            lines += counted;
            let Some(hit) = hit else { break };
            let head = bytes.get(at..hit).unwrap_or_default();
            let start = memrchr(b'\n', head).map_or(at, |end| at + end + 1);
            let rest = bytes.get(start..).unwrap_or_default();
            let end = memchr(b'\n', rest);
            lines += 1;
            let whole = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let place = Place { bytes, start, number: lines };
            self.searched(whole, end.is_some(), hit, place, &mut arguments, &mut part, &mut counts);
            at = (start + whole.len() + 1).min(bytes.len());
        }
        let unfinished = bytes.get(at..).and_then(<[u8]>::last).is_some_and(|&last| last != b'\n');
        part.report.lines = lines + u64::from(unfinished);
        self.drain(block, &mut part);
        for (index, count) in counts.into_iter().enumerate().filter(|&(_, count)| count > 0) {
            if let Some(&event) = EVENTS.get(index) {
                part.report.trace.insert(event, count);
            }
        }
        part
    }

    /// A line that was found by a search: what mattered stood at `hit`.
    #[expect(clippy::too_many_arguments, reason = "the inner loop's state")]
    fn searched(
        &mut self,
        whole: &[u8],
        terminated: bool,
        hit: usize,
        place: Place<'_>,
        arguments: &mut Arguments,
        part: &mut Part,
        counts: &mut [u64],
    ) {
        if whole.len() <= MAX_LINE
            && let Some(line) = self.layouts.read(place.bytes, place.start, hit, arguments)
        {
            let ids = self.layouts.learn(&line);
            return self.event(&line, arguments, ids, whole, place, part, counts);
        }
        let text = readable(whole, terminated);
        match self.elsewhere(text) {
            Some(line) => {
                self.layouts.walk(&line, arguments);
                self.event(&line, arguments, line.ids(), whole, place, part, counts);
            }
            None => self.no_event(text, place.number, part),
        }
    }

    /// An event of KVM, and what its line shows.
    #[expect(clippy::too_many_arguments, reason = "the inner loop's state")]
    #[inline]
    fn event(
        &mut self,
        line: &Line<'_>,
        arguments: &Arguments,
        ids: (Option<u32>, Option<u32>),
        whole: &[u8],
        Place { bytes, start, number }: Place<'_>,
        part: &mut Part,
        counts: &mut [u64],
    ) {
        let (event, text) = (line.event(), line.text());
        if let Some(count) = counts.get_mut(event as usize) {
            *count += 1;
        }
        if event == Event::Other {
            return;
        }
        if arguments.is_vmx() {
            part.report.vmx(number);
            return;
        }
        let number_of = arguments.get(Slot::Vcpu).map(|number| number as u32);
        let key = key(ids, number_of);
        match part.report.vcpu(key) {
            Some(vcpu) => {
                vcpu.lines += 1;
                vcpu.number = vcpu.number.or(number_of);
            }
            None => part.report.more_vcpus += 1,
        }
        self.settle_old(start, bytes, part);
        if event != Event::Intercepts {
            self.settle(key, bytes, part);
        }
        let shown = Shown { arguments, key, number, text };
        match event {
            Event::Enter => self.enter(shown, bytes, start, part),
            Event::Intercepts => self.intercepts(key, arguments, start + text.len(), bytes, part),
            Event::EnterFailed => {
                self.failed(Line::parse_at(whole, line.name().start), key, number, whole, part)
            }
            Event::Exit | Event::NestedExit | Event::NestedExitInject => self.exit(event, shown, part),
            Event::NestedIntrExit => self.record(part, number, key, What::Left),
            Event::Entry => self.entry(shown, part),
            Event::InjectException | Event::InjectInterrupt => self.injected(event, shown, part),
            _ => {}
        }
    }

    /// L1's VMRUN.
    #[inline]
    fn enter(&mut self, shown: Shown<'_>, bytes: &[u8], start: usize, part: &mut Part) {
        let Shown { arguments, key, number, text } = shown;
        let word = arguments.get(Slot::EventInj).map(|word| word as u32);
        let mut entry = Entry::default();
        entry.learn(arguments);
        let injects = word.is_some_and(is_valid);
        if let Some(vcpu) = part.report.vcpu(key) {
            vcpu.vmruns += 1;
            vcpu.events += u64::from(injects);
        }
        if let Some(word) = word.filter(|_| injects) {
            let judged = self.judge.event(word);
            part.report.inject(Source::Vmcb12, word, judged, number, text);
        }
        if self.open.len() >= MOST_OPEN {
            self.settle_first(bytes, part);
        }
        self.open.push(Open { key, entry, line: number, place: start..start + text.len() });
        let vmcb = arguments.get(Slot::Vmcb);
        self.record(part, number, key, What::Enter { word, vmcb });
    }

    /// A #VMEXIT, or what L1 finds of it in VMCB12.
    #[inline]
    fn exit(&self, event: Event, shown: Shown<'_>, part: &mut Part) {
        let Shown { arguments, key, number, text } = shown;
        let code = arguments.get(Slot::ExitCode).map(|code| code as u32);
        let info = arguments.get(Slot::ExitIntInfo).map(|info| info as u32);
        if code.is_some_and(|code| ExitCode::from_low_half(code).is_failure()) {
            *part.report.failed_exits.entry(event).or_default() += 1;
            part.report.finding(Standing::Exit, None, number, text);
            if let Some(vcpu) = part.report.vcpu(key) {
                vcpu.refused += 1;
            }
        }
        let what = match event {
            Event::NestedExitInject => What::Told { code, info },
            _ => What::Ran { code, info },
        };
        self.record(part, number, key, what);
    }

    /// VMRUN of any guest.
    #[inline]
    fn entry(&mut self, shown: Shown<'_>, part: &mut Part) {
        let Shown { arguments, key, number, text } = shown;
        let word = arguments.get(Slot::EventInj).map(|word| word as u32);
        if let Some(word) = word.filter(|&word| is_valid(word)) {
            let judged = self.judge.event(word);
            part.report.inject(Source::Entry, word, judged, number, text);
        }
        if matches!(key, VcpuKey::Number(_)) {
            self.record(part, number, key, What::Named);
        }
    }

    /// An event that KVM writes to EVENTINJ.
    #[inline]
    fn injected(&mut self, event: Event, shown: Shown<'_>, part: &mut Part) {
        let Shown { arguments, number, text, .. } = shown;
        if let Some(vector) = arguments.get(Slot::Vector) {
            let kind = match event {
                Event::InjectException => EventType::EXCEPTION,
                _ if arguments.is_soft() => EventType::SOFTWARE,
                _ => EventType::INTERRUPT,
            };
            let word = vmcb::Event::new(kind, vmcb::Vector::new(vector as u8)).bits() as u32;
            let judged = self.judge.event(word);
            part.report.inject(Source::Kvm, word, judged, number, text);
        }
    }

    /// The line's event where it is not at the place that was found first: a task may be called kvm_something.
    #[cold]
    #[inline(never)]
    fn elsewhere<'a>(&self, text: &'a [u8]) -> Option<Line<'a>> {
        self.kvm.find_iter(text).find_map(|name| Line::parse_at(text, name))
    }

    /// A line that is no event of KVM's: it tells of lost ones, or may be of a dump.
    fn no_event(&self, text: &[u8], number: u64, part: &mut Part) {
        if lost_events(text).is_some() {
            part.report.lost += 1;
            self.record(part, number, VcpuKey::Unnamed, What::Lost);
        } else {
            part.dump_lines.push((number, text.to_vec()));
        }
    }

    #[inline]
    fn record(&self, part: &mut Part, line: u64, key: VcpuKey, what: What) {
        if self.events {
            part.records.push(Record { line, key, what });
        }
    }

    fn failed(&mut self, line: Option<Line<'_>>, key: VcpuKey, number: u64, text: &[u8], part: &mut Part) {
        let Some(words) = line.map(|line| line.condition()).filter(|words| !words.is_empty()) else { return };
        if !self.conditions.iter().any(|told| told.words == words) {
            if self.conditions.len() >= MOST_TOLD {
                self.conditions.clear();
            }
            self.conditions.push(Told::new(words));
        }
        let Some(told) = self.conditions.iter().find(|told| told.words == words) else { return };
        if told.vmx {
            part.report.vmx(number);
            return;
        }
        part.report.condition(&told.text, told.rules, number, text);
        if let Some(vcpu) = part.report.vcpu(key) {
            vcpu.refused += 1;
        }
        self.record(part, number, key, What::Failed);
    }

    /// Intercepts belong to the VMRUN before, if both stand close together.
    fn intercepts(&mut self, key: VcpuKey, arguments: &Arguments, end: usize, bytes: &[u8], part: &mut Part) {
        let index = self.open.iter().position(|open| open.key == key && end <= open.place.start + AHEAD);
        if let Some(index) = index {
            let mut open = self.open.remove(index);
            open.entry.learn(arguments);
            self.judge(&open, bytes, part);
        }
    }

    fn judge(&mut self, open: &Open, bytes: &[u8], part: &mut Part) {
        let mut broken = self.judge.entry(&open.entry);
        if let Some(word) = open.entry.event().filter(|&word| is_valid(word)) {
            // L2 is a guest without SEV, which the shown fields do not say.
            broken = broken.and(self.judge.event(word).1);
        }
        let text = bytes.get(open.place.clone()).unwrap_or_default();
        part.report.broken(broken, open.line, text);
        if !broken.refusing.is_empty()
            && let Some(vcpu) = part.report.vcpu(open.key)
        {
            vcpu.refused += 1;
        }
    }

    /// No intercepts come any more for this virtual CPU's VMRUN.
    fn settle(&mut self, key: VcpuKey, bytes: &[u8], part: &mut Part) {
        if let Some(index) = self.open.iter().position(|open| open.key == key) {
            let open = self.open.remove(index);
            self.judge(&open, bytes, part);
        }
    }

    fn settle_first(&mut self, bytes: &[u8], part: &mut Part) {
        if !self.open.is_empty() {
            let open = self.open.remove(0);
            self.judge(&open, bytes, part);
        }
    }

    /// Settles those whose intercepts would stand too far away.
    #[inline]
    fn settle_old(&mut self, at: usize, bytes: &[u8], part: &mut Part) {
        while self.open.first().is_some_and(|open| open.place.start + AHEAD < at) {
            self.settle_first(bytes, part);
        }
    }

    /// The end of the block: what is open may find its intercepts in the lines ahead.
    fn drain(&mut self, block: &Block<'_>, part: &mut Part) {
        let bytes = &block.bytes[..];
        let mut at = block.own;
        while !self.open.is_empty()
            && let Some(hit) = bytes.get(at..).and_then(|rest| self.kvm.find(rest)).map(|hit| at + hit)
        {
            let start =
                at + bytes.get(at..hit).and_then(|head| memrchr(b'\n', head)).map_or(0, |end| end + 1);
            let rest = bytes.get(start..).unwrap_or_default();
            // A line without its end here may have it in the next block: too far away all the same.
            let Some(end) = memchr(b'\n', rest) else { break };
            let whole = rest.get(..end).unwrap_or_default();
            at = start + end + 1;
            let whole = readable(whole, true);
            let Some(line) = Line::parse(whole) else { continue };
            let key = key(line.ids(), None);
            match line.event() {
                Event::Intercepts => {
                    self.intercepts(key, &line.arguments(), start + whole.len(), bytes, part)
                }
                Event::Other => {}
                _ => self.settle(
                    self::key(line.ids(), line.arguments().get(Slot::Vcpu).map(|n| n as u32)),
                    bytes,
                    part,
                ),
            }
        }
        while !self.open.is_empty() {
            self.settle_first(bytes, part);
        }
    }
}

/// Events in the order of their numbers.
const EVENTS: [Event; Event::Other as usize + 1] = [
    Event::Enter,
    Event::EnterFailed,
    Event::Intercepts,
    Event::Exit,
    Event::NestedExit,
    Event::NestedExitInject,
    Event::NestedIntrExit,
    Event::InjectException,
    Event::InjectInterrupt,
    Event::Entry,
    Event::Other,
];

fn is_valid(word: u32) -> bool {
    vmcb::Event::from_bits(word.into()).valid()
}

fn count_lines(bytes: &[u8], range: Range<usize>) -> u64 {
    bytecount::count(bytes.get(range).unwrap_or_default(), b'\n') as u64
}

/// What counts of a line: the last word of one that is cut may be half a word.
#[inline]
fn readable(line: &[u8], terminated: bool) -> &[u8] {
    if terminated && line.len() <= MAX_LINE {
        return line.strip_suffix(b"\r").unwrap_or(line);
    }
    let head = line.get(..line.len().min(MAX_LINE)).unwrap_or_default();
    let end = head.iter().rposition(|&byte| byte <= b' ').unwrap_or(0);
    head.get(..end).unwrap_or_default()
}

/// What tells a line's virtual CPU.
#[inline]
fn key(ids: (Option<u32>, Option<u32>), number: Option<u32>) -> VcpuKey {
    match (ids, number) {
        ((Some(pid), _), _) => VcpuKey::Thread(pid),
        ((_, Some(cpu)), _) => VcpuKey::Cpu(cpu),
        (_, Some(number)) => VcpuKey::Number(number),
        _ => VcpuKey::Unnamed,
    }
}
