//! Events, and which guests accept them.

use super::line::{Line, row};
use crate::bits;
use vmcb::{Cpu, Decision, Event, EventType, Feature, GuestMode, Limits, Policy, Verdict, Word, check_event};

pub(super) fn event(name: &str, value: u64, cpu: Option<&Cpu>, out: &mut Vec<Line>) {
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

pub(super) fn ids(rules: vmcb::RuleSet) -> String {
    rules.iter().map(vmcb::Rule::id).collect::<Vec<_>>().join(", ")
}
