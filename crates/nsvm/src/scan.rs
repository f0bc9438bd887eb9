//! `nsvm scan`: what `vmcb_scan` counts, for people and as lines of JSON.

use crate::cli;
use crate::error::Error;
use crate::human::{BOLD, PLAIN, RED};
use crate::record::{Decision, Failure, Record};
use crate::{Status, complain, cpu, input};
use serde::Serialize;
use std::cell::Cell;
use std::io::{IsTerminal as _, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use vmcb::{Cpu, Event};
use vmcb_scan::{Fate, Followed, Options, Report, Source, Standing, VcpuKey};

/// Virtual CPUs and kinds of events that people are shown; JSON has all.
const MOST_ROWS: usize = 24;

pub(crate) fn run(arguments: &cli::Scan, out: &mut dyn Write) -> Result<Status, Error> {
    let defaults = Options::default();
    let options = Options {
        cpu: arguments.cpu.as_deref().map_or(Ok(Cpu::ANY), cpu::parse)?,
        policy: arguments.policy.into(),
        events: arguments.events,
        lines: arguments.lines.into(),
        jobs: arguments.jobs.map_or(defaults.jobs, usize::from),
        ..defaults
    };
    let mut status = Status::Fine;
    for path in &arguments.files {
        let file = input::name(path);
        match scan(path, &file, &options) {
            Ok(report) => {
                status = status.and(judge(&report));
                match arguments.format {
                    cli::Format::Json => json(&file, &report, out)?,
                    cli::Format::Human => human(&file, &report, out)?,
                }
            }
            Err(error) => {
                status = status.and(Status::Failed);
                if arguments.format == cli::Format::Json {
                    let text = error.to_string();
                    put(&Record::Error(Failure { file: file.clone(), text }), out)?;
                }
                complain(&error);
            }
        }
    }
    Ok(status)
}

fn scan(path: &Path, file: &str, options: &Options) -> Result<Report, Error> {
    let (opened, size) = input::stream(path)?;
    let bar = Bar::new(file, size);
    let input: Box<dyn Read + Send> = opened;
    let report = vmcb_scan::scan(input, options, |bytes| bar.update(bytes));
    bar.end(report.as_ref().ok().map(|report| report.bytes));
    report.map_err(|error| Error::Input { file: file.to_owned(), message: error.to_string() })
}

/// A trace of VMX is not judged, which is an error as in `nsvm check`.
fn judge(report: &Report) -> Status {
    let wrong = report.events.as_ref().is_some_and(|events| events.wrong > 0);
    if report.vmx > 0 {
        Status::Failed
    } else if report.is_refused() || wrong {
        Status::Refused
    } else if report.is_undecided() {
        Status::Undecided
    } else {
        Status::Fine
    }
}

/// Progress on stderr: only on a terminal, and only where it takes longer than a second.
struct Bar<'a> {
    file: &'a str,
    size: Option<u64>,
    began: Instant,
    drawn: Cell<Option<Instant>>,
    terminal: bool,
}

impl<'a> Bar<'a> {
    fn new(file: &'a str, size: Option<u64>) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        Self { file, size, began: Instant::now(), drawn: Cell::new(None), terminal }
    }

    fn update(&self, bytes: u64) {
        let elapsed = self.began.elapsed();
        let fresh = self.drawn.get().is_some_and(|drawn| drawn.elapsed() < Duration::from_millis(100));
        if !self.terminal || elapsed < Duration::from_secs(1) || fresh {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        // A line wider than the terminal must be cut, or the next would not cover it.
        eprint!("\x1b[?7l\r\x1b[K{}\x1b[?7h", line(self.file, bytes, self.size, elapsed));
    }

    /// Takes the progress away. What it took is told of large inputs, and where progress was shown.
    fn end(&self, bytes: Option<u64>) {
        let drawn = self.drawn.get().is_some();
        if drawn {
            eprint!("\r\x1b[K");
        }
        if let Some(bytes) = bytes.filter(|&bytes| drawn || bytes >= LARGE) {
            eprintln!("note: {}", took(self.file, bytes, self.began.elapsed(), peak()));
        }
    }
}

/// Bytes of an input of which it is told what it took.
const LARGE: u64 = 1_000_000_000;

/// The most memory that this process had at once, in bytes, where the system says it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// `trace.txt: 10.0 GB in 8.3 s, 1.2 GB/s; 12.3 MB of memory at most`.
fn took(file: &str, bytes: u64, elapsed: Duration, peak: Option<u64>) -> String {
    let rate = (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let memory = peak.map_or_else(String::new, |peak| format!("; {} of memory at most", human_bytes(peak)));
    let seconds = elapsed.as_secs_f64();
    format!("{file}: {} in {seconds:.1} s, {}/s{memory}", human_bytes(bytes), human_bytes(rate))
}

/// `trace.txt: 3.2 GB of 10.0 GB (32 %), 1.1 GB/s`.
fn line(file: &str, bytes: u64, size: Option<u64>, elapsed: Duration) -> String {
    let rate = (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let of = match size {
        Some(size) if size > 0 => {
            format!(" of {} ({} %)", human_bytes(size), u128::from(bytes) * 100 / u128::from(size))
        }
        _ => String::new(),
    };
    format!("{file}: {}{of}, {}/s", human_bytes(bytes), human_bytes(rate))
}

fn human_bytes(bytes: u64) -> String {
    let scaled = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..=999 => format!("{bytes} bytes"),
        1000..=999_999 => format!("{:.1} kB", scaled(1000)),
        1_000_000..=999_999_999 => format!("{:.1} MB", scaled(1_000_000)),
        _ => format!("{:.1} GB", scaled(1_000_000_000)),
    }
}

fn plural(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// `interrupt 0x36`, `exception 14 (#PF)`.
fn event_text(low: u16) -> String {
    let event = Event::from_bits(low.into());
    let (kind, vector) = (event.event_type(), event.vector());
    match vector.mnemonic().filter(|_| kind == vmcb::EventType::EXCEPTION) {
        Some(name) => format!("{} {} ({name})", kind.name(), vector.number()),
        None if kind == vmcb::EventType::EXCEPTION => format!("{} {}", kind.name(), vector.number()),
        None => format!("{} {:#04x}", kind.name(), vector.number()),
    }
}

fn vcpu_text(key: VcpuKey, number: Option<u32>) -> String {
    let number = number.map_or_else(String::new, |number| format!(" (vcpu {number})"));
    match key {
        VcpuKey::Thread(pid) => format!("thread {pid}{number}"),
        VcpuKey::Cpu(cpu) => format!("CPU {cpu}{number}"),
        VcpuKey::Number(number) => format!("vcpu {number}"),
        _ => "not named".to_owned(),
    }
}

const fn source(source: Source) -> (&'static str, &'static str) {
    match source {
        Source::Vmcb12 => ("vmcb12", "EVENTINJ of nested VMRUNs"),
        Source::Entry => ("entry", "EVENTINJ of kvm_entry"),
        _ => ("kvm", "injected by KVM itself"),
    }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Broken => "broken",
        Standing::Required => "required",
        Standing::Refused => "refused",
        _ => "exit-code",
    }
}

const fn decision(decision: vmcb::Decision) -> Decision {
    match decision {
        vmcb::Decision::Accepted => Decision::Accepted,
        vmcb::Decision::Refused => Decision::Refused,
        vmcb::Decision::Undecided => Decision::Undecided,
    }
}

fn human(file: &str, report: &Report, out: &mut dyn Write) -> Result<(), Error> {
    let trace: u64 = report.trace.values().sum();
    writeln!(
        out,
        "{BOLD}{file}{PLAIN}: {}, {}: {} of KVM, {}",
        plural(report.lines, "line"),
        human_bytes(report.bytes),
        plural(trace, "trace line"),
        plural(report.dumps, "dump")
    )?;
    for (event, count) in &report.trace {
        writeln!(out, "  {count:>12}  {event}")?;
    }
    if report.lost > 0 {
        writeln!(out, "the tracer says in {} that it lost events", plural(report.lost, "place"))?;
    }
    if let Some(line) = report.vmx_line {
        writeln!(
            out,
            "{RED}error{PLAIN}: {} of VMX (Intel), the first in line {line}; not judged, and nor is what may be VMX's",
            plural(report.vmx, "trace line")
        )?;
    }
    if !report.rules.is_empty() {
        writeln!(out, "\n{BOLD}rules broken{PLAIN}\n         count    first line  rule")?;
        for rule in &report.rules {
            let how = match (rule.standing, rule.host) {
                (Standing::Required, _) => " (required, outcome not stated)",
                (_, true) => " (an event of the host)",
                _ => "",
            };
            writeln!(out, "  {:>12}  {:>12}  {}{how}", rule.count, rule.line, rule.rule.id())?;
            writeln!(out, "{:30}{}", "", rule.text.trim_start())?;
        }
    }
    if !report.conditions.is_empty() {
        writeln!(
            out,
            "\n{BOLD}refused, in KVM's or Xen's own words{PLAIN}\n         count    first line  condition"
        )?;
        for condition in &report.conditions {
            let rules = match condition.rules {
                [] => String::new(),
                rules => format!("  [{}]", rules.join("|")),
            };
            writeln!(
                out,
                "  {:>12}  {:>12}  {}{rules}",
                condition.count, condition.line, condition.condition
            )?;
        }
        if report.more_conditions > 0 {
            writeln!(out, "  {:>12}  for other conditions, not listed", report.more_conditions)?;
        }
    }
    for (event, count) in &report.failed_exits {
        writeln!(out, "\n{} of {event} with an exit code by which VMRUN refused", plural(*count, "line"))?;
    }
    for wanted in [Source::Vmcb12, Source::Entry, Source::Kvm] {
        let mut rows: Vec<_> = report.injected.iter().filter(|((source, _), _)| *source == wanted).collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_by_key(|((_, low), row)| {
            (row.decision != vmcb::Decision::Refused, std::cmp::Reverse(row.count), *low)
        });
        writeln!(out, "\n{BOLD}{}{PLAIN}\n         count    first line  event", source(wanted).1)?;
        for ((_, low), row) in rows.iter().take(MOST_ROWS) {
            let decision = match row.decision {
                vmcb::Decision::Accepted => "",
                vmcb::Decision::Refused => ": refused",
                vmcb::Decision::Undecided => ": undecided, depends on the CPU or on the guest's mode",
            };
            writeln!(out, "  {:>12}  {:>12}  {}{decision}", row.count, row.line, event_text(*low))?;
        }
        more(rows.len(), "kind", out)?;
    }
    if !report.vcpus.is_empty() {
        writeln!(
            out,
            "\n{BOLD}virtual CPUs{PLAIN}\n         lines        VMRUNs        events       refused"
        )?;
        for (key, vcpu) in report.vcpus.iter().take(MOST_ROWS) {
            writeln!(
                out,
                "  {:>12}  {:>12}  {:>12}  {:>12}  {}",
                vcpu.lines,
                vcpu.vmruns,
                vcpu.events,
                vcpu.refused,
                vcpu_text(*key, vcpu.number)
            )?;
        }
        more(report.vcpus.len(), "virtual CPU", out)?;
        if report.more_vcpus > 0 {
            writeln!(out, "  {:>12}  of other virtual CPUs, not told apart", report.more_vcpus)?;
        }
    }
    if let Some(events) = &report.events {
        followed(file, events, out)?;
    }
    if !report.findings.is_empty() {
        writeln!(out, "\n{BOLD}lines{PLAIN}")?;
        for found in &report.findings {
            let what = found.rule.unwrap_or(match found.standing {
                Standing::Exit => "exit code",
                _ => "refused",
            });
            writeln!(out, "{file}:{}: {RED}{what}{PLAIN}: {}", found.line, found.text.trim_start())?;
        }
        let left = report.found.saturating_sub(report.findings.len() as u64);
        if left > 0 {
            writeln!(out, "and {} (`--lines` lists more)", plural(left, "more finding"))?;
        }
    }
    Ok(())
}

fn more(all: usize, what: &str, out: &mut dyn Write) -> Result<(), Error> {
    if let Some(more) = all.checked_sub(MOST_ROWS).filter(|&more| more > 0) {
        writeln!(out, "  and {} (`--format json` lists all)", plural(more as u64, &format!("more {what}")))?;
    }
    Ok(())
}

fn followed(file: &str, events: &Followed, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "\n{BOLD}injected events, followed to their exits{PLAIN}")?;
    let mut fates: Vec<Fate> = events.fates.keys().map(|(fate, _)| *fate).collect();
    fates.dedup();
    if fates.is_empty() {
        writeln!(out, "             0")?;
    }
    for fate in fates {
        writeln!(out, "  {:>12}  {}", events.count(fate), fate.text())?;
    }
    for problem in &events.problems {
        let event = event_text(problem.word as u16 & 0x7FF);
        let vmcb = problem.vmcb.map_or_else(String::new, |vmcb| format!(" of VMCB {vmcb:#x}"));
        writeln!(
            out,
            "{file}:{}: {RED}{}{PLAIN}: {event} ({:#010x}), injected by the VMRUN{vmcb} in line {}, {}",
            problem.line,
            problem.fate.text(),
            problem.word,
            problem.vmrun,
            vcpu_text(problem.vcpu, None)
        )?;
    }
    let left = events.wrong.saturating_sub(events.problems.len() as u64);
    if left > 0 {
        writeln!(out, "and {} (`--lines` lists more)", plural(left, "more event"))?;
    }
    Ok(())
}

/// One line of `nsvm scan --format json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(clippy::enum_variant_names, reason = "the types have these names in JSON")]
enum Row<'a> {
    ScanRule {
        file: &'a str,
        rule: &'a str,
        standing: &'a str,
        host: bool,
        count: u64,
        line: u64,
        text: &'a str,
    },
    ScanCondition {
        file: &'a str,
        condition: &'a str,
        rules: &'a [&'a str],
        count: u64,
        line: u64,
    },
    ScanInjected {
        file: &'a str,
        source: &'a str,
        event_type: u8,
        vector: u8,
        text: String,
        count: u64,
        decision: Decision,
        line: u64,
    },
    ScanVcpu {
        file: &'a str,
        thread: Option<u32>,
        cpu: Option<u32>,
        vcpu: Option<u32>,
        lines: u64,
        vmruns: u64,
        events: u64,
        refused: u64,
    },
    ScanFate {
        file: &'a str,
        fate: &'a str,
        event_type: u8,
        vector: u8,
        count: u64,
    },
    ScanProblem {
        file: &'a str,
        fate: &'a str,
        line: u64,
        vmrun: u64,
        event_inj: String,
        vmcb: Option<String>,
        thread: Option<u32>,
        cpu: Option<u32>,
        vcpu: Option<u32>,
        text: &'a str,
    },
    ScanFinding {
        file: &'a str,
        standing: &'a str,
        rule: Option<&'a str>,
        host: bool,
        line: u64,
        text: &'a str,
    },
    ScanEvent {
        file: &'a str,
        event: &'a str,
        count: u64,
        failed: u64,
    },
    ScanSummary {
        file: &'a str,
        bytes: u64,
        lines: u64,
        trace_lines: u64,
        dumps: u64,
        findings: u64,
        undecided: u64,
        wrong_events: Option<u64>,
        lost_marks: u64,
        vmx_lines: u64,
        other_conditions: u64,
        other_vcpu_lines: u64,
    },
}

fn put(row: &impl Serialize, out: &mut dyn Write) -> Result<(), Error> {
    let line = serde_json::to_string(row).map_err(std::io::Error::from)?;
    writeln!(out, "{line}")?;
    Ok(())
}

/// Thread, CPU and number of a virtual CPU.
fn names(key: VcpuKey, number: Option<u32>) -> (Option<u32>, Option<u32>, Option<u32>) {
    match key {
        VcpuKey::Thread(pid) => (Some(pid), None, number),
        VcpuKey::Cpu(cpu) => (None, Some(cpu), number),
        VcpuKey::Number(number) => (None, None, Some(number)),
        _ => (None, None, number),
    }
}

/// TYPE and VECTOR.
fn parts(low: u16) -> (u8, u8) {
    let event = Event::from_bits(low.into());
    (event.event_type().bits(), event.vector().number())
}

fn json(file: &str, report: &Report, out: &mut dyn Write) -> Result<(), Error> {
    for (&event, &count) in &report.trace {
        let failed = report.failed_exits.get(&event).copied().unwrap_or(0);
        put(&Row::ScanEvent { file, event: event.name(), count, failed }, out)?;
    }
    for rule in &report.rules {
        let (host, count, line) = (rule.host, rule.count, rule.line);
        let (text, standing) = (rule.text.as_str(), standing(rule.standing));
        put(&Row::ScanRule { file, rule: rule.rule.id(), standing, host, count, line, text }, out)?;
    }
    for condition in &report.conditions {
        let (count, line, rules) = (condition.count, condition.line, condition.rules);
        put(&Row::ScanCondition { file, condition: &condition.condition, rules, count, line }, out)?;
    }
    for (&(from, low), row) in &report.injected {
        let (event_type, vector) = parts(low);
        let (count, line, decision) = (row.count, row.line, decision(row.decision));
        let (source, text) = (source(from).0, event_text(low));
        put(&Row::ScanInjected { file, source, event_type, vector, text, count, decision, line }, out)?;
    }
    for &(key, counts) in &report.vcpus {
        let (thread, cpu, vcpu) = names(key, counts.number);
        let vmcb_scan::Vcpu { lines, vmruns, events, refused, .. } = counts;
        put(&Row::ScanVcpu { file, thread, cpu, vcpu, lines, vmruns, events, refused }, out)?;
    }
    for (&(fate, low), &count) in report.events.iter().flat_map(|events| &events.fates) {
        let (event_type, vector) = parts(low);
        put(&Row::ScanFate { file, fate: fate.name(), event_type, vector, count }, out)?;
    }
    for problem in report.events.iter().flat_map(|events| &events.problems) {
        let (thread, cpu, vcpu) = names(problem.vcpu, None);
        let row = Row::ScanProblem {
            file,
            fate: problem.fate.name(),
            line: problem.line,
            vmrun: problem.vmrun,
            event_inj: format!("{:#x}", problem.word),
            vmcb: problem.vmcb.map(|vmcb| format!("{vmcb:#x}")),
            thread,
            cpu,
            vcpu,
            text: problem.fate.text(),
        };
        put(&row, out)?;
    }
    for found in &report.findings {
        let (line, host, rule) = (found.line, found.host, found.rule);
        let (standing, text) = (standing(found.standing), found.text.as_str());
        put(&Row::ScanFinding { file, standing, rule, host, line, text }, out)?;
    }
    let row = Row::ScanSummary {
        file,
        bytes: report.bytes,
        lines: report.lines,
        trace_lines: report.trace.values().sum(),
        dumps: report.dumps,
        findings: report.found,
        undecided: report.undecided,
        wrong_events: report.events.as_ref().map(|events| events.wrong),
        lost_marks: report.lost,
        vmx_lines: report.vmx,
        other_conditions: report.more_conditions,
        other_vcpu_lines: report.more_vcpus,
    };
    put(&row, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_far_and_how_fast() {
        let two = Duration::from_secs(2);
        assert_eq!(
            line("a", 3_200_000_000, Some(10_000_000_000), two),
            "a: 3.2 GB of 10.0 GB (32 %), 1.6 GB/s"
        );
        assert_eq!(line("-", 512, None, two), "-: 512 bytes, 256 bytes/s");
        assert_eq!(line("-", 1500, Some(0), two), "-: 1.5 kB, 750 bytes/s");
        assert_eq!(
            took("a", 10_000_000_000, Duration::from_millis(12_500), Some(12_345_678)),
            "a: 10.0 GB in 12.5 s, 800.0 MB/s; 12.3 MB of memory at most"
        );
        assert_eq!(took("-", 512, two, None), "-: 512 bytes in 2.0 s, 256 bytes/s");
        assert!(!cfg!(target_os = "linux") || peak().is_some_and(|peak| peak > 1_000_000));
    }

    #[test]
    fn events_are_named_by_type_and_vector() {
        assert_eq!(event_text(0x036), "interrupt 0x36");
        assert_eq!(event_text(0x30E), "exception 14 (#PF)");
        assert_eq!(event_text(0x3FF), "exception 255");
        assert_eq!(event_text(0x480), "software interrupt 0x80");
    }
}
