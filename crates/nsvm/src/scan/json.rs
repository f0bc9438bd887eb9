//! The report on a trace as JSON lines.

use super::words::{event_text, source, standing};
use nsvm_report::Decision;
use serde::Serialize;
use std::io::{Result, Write};
use vmcb::Event;
use vmcb_scan::{Report, VcpuKey};

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

fn put(row: &impl Serialize, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", serde_json::to_string(row)?)
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

/// Prints the report as JSON lines.
pub(super) fn print(file: &str, report: &Report, out: &mut dyn Write) -> Result<()> {
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
        let (count, line, decision) = (row.count, row.line, Decision::from(row.decision));
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
