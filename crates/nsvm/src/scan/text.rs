//! The report on a trace for people.

use super::words::{event_text, human_bytes, plural, source, vcpu_text};
use nsvm_report::style::{BOLD, PLAIN, RED};
use std::io::{Result, Write};
use vmcb_scan::{Fate, Followed, Report, Source, Standing};

/// Virtual CPUs and kinds of events in the text. JSON has all.
const MOST_ROWS: usize = 24;

/// Prints the report for people.
pub(super) fn print(file: &str, report: &Report, out: &mut dyn Write) -> Result<()> {
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
    rules(report, out)?;
    conditions(report, out)?;
    for (event, count) in &report.failed_exits {
        writeln!(out, "\n{} of {event} with an exit code by which VMRUN refused", plural(*count, "line"))?;
    }
    injected(report, out)?;
    vcpus(report, out)?;
    if let Some(events) = &report.events {
        followed(file, events, out)?;
    }
    findings(file, report, out)
}

/// Prints the rules that are broken.
fn rules(report: &Report, out: &mut dyn Write) -> Result<()> {
    if report.rules.is_empty() {
        return Ok(());
    }
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
    Ok(())
}

/// Prints what KVM and Xen report about their refusals.
fn conditions(report: &Report, out: &mut dyn Write) -> Result<()> {
    if report.conditions.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{BOLD}refused, in KVM's or Xen's own words{PLAIN}\n         count    first line  condition"
    )?;
    for condition in &report.conditions {
        let rules = match condition.rules {
            [] => String::new(),
            rules => format!("  [{}]", rules.join("|")),
        };
        writeln!(out, "  {:>12}  {:>12}  {}{rules}", condition.count, condition.line, condition.condition)?;
    }
    if report.more_conditions > 0 {
        writeln!(out, "  {:>12}  for other conditions, not listed", report.more_conditions)?;
    }
    Ok(())
}

/// Prints the injected events by source.
fn injected(report: &Report, out: &mut dyn Write) -> Result<()> {
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
    Ok(())
}

/// Prints the virtual CPUs.
fn vcpus(report: &Report, out: &mut dyn Write) -> Result<()> {
    if report.vcpus.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}virtual CPUs{PLAIN}\n         lines        VMRUNs        events       refused")?;
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
    Ok(())
}

/// Prints the lines that break something.
fn findings(file: &str, report: &Report, out: &mut dyn Write) -> Result<()> {
    if report.findings.is_empty() {
        return Ok(());
    }
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
    Ok(())
}

fn more(all: usize, what: &str, out: &mut dyn Write) -> Result<()> {
    if let Some(more) = all.checked_sub(MOST_ROWS).filter(|&more| more > 0) {
        writeln!(out, "  and {} (`--format json` lists all)", plural(more as u64, &format!("more {what}")))?;
    }
    Ok(())
}

fn followed(file: &str, events: &Followed, out: &mut dyn Write) -> Result<()> {
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
