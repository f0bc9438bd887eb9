//! The verdict, as data and as a line of text.

use super::case::Case;
use super::field::hex;
use crate::record::{By, Decision, Missing, MissingKind, Verdict};
use vmcb::{Phase, Rule, RuleSet, Word};

impl Case<'_> {
    pub(super) fn verdict(
        &self,
        broken: RuleSet,
        unstated: RuleSet,
        unknown: RuleSet,
        inferred: RuleSet,
        machine: Option<Decision>,
        missing: Vec<Missing>,
    ) -> Verdict {
        let refusal = self.found.refusals.first();
        let undecided = !unstated.is_empty() || !unknown.is_empty();
        let unexplained = machine == Some(Decision::Refused) && broken.is_empty();
        let (decision, by) = if !broken.is_empty() {
            (Decision::Refused, By::Rules)
        } else if let Some(refusal) = refusal {
            (Decision::Refused, By::of(refusal.by))
        } else if machine == Some(Decision::Accepted) && !self.question.cpu_given {
            (Decision::Accepted, By::ExitCode)
        } else if undecided || unexplained {
            (Decision::Undecided, By::Rules)
        } else {
            (Decision::Accepted, By::Rules)
        };
        let exit = self.exit_code();
        let mut verdict = Verdict {
            vmcb: self.vmcb,
            place: self.at(&self.found.place),
            form: self.found.kind.id(),
            phase: match self.phase {
                Phase::Before => "before",
                Phase::After => "after",
                Phase::Unknown => "unknown",
            },
            decision,
            by,
            broken: ids(broken).map(str::to_owned).collect(),
            required: ids(unstated).collect(),
            undecided: ids(unknown).collect(),
            inferred: ids(inferred).collect(),
            missing,
            exit_code: exit.map(|code| hex(code.bits())),
            exit_name: exit.map(|code| code.to_string()),
            machine,
            unexplained,
            cpu: self.judged_for.text.clone(),
            policy: self.question.policy.name(),
            encrypted: self.is_encrypted(),
            assumed: self.question.host.assumed(),
            text: String::new(),
        };
        if matches!(by, By::Kvm | By::Xen) {
            for refusal in &self.found.refusals {
                if let [rule] = refusal.rules
                    && !verdict.broken.iter().any(|id| id == rule)
                {
                    verdict.broken.push((*rule).to_owned());
                }
            }
        }
        verdict.text = self.verdict_text(&verdict);
        if verdict.encrypted {
            verdict.text.push_str("; ");
            verdict.text.push_str(&self.encrypted_text());
        }
        verdict
    }

    /// The verdict line without its place.
    pub(super) fn verdict_text(&self, verdict: &Verdict) -> String {
        let open = verdict.undecided.len() + verdict.required.len();
        match (verdict.decision, verdict.by) {
            (Decision::Refused, By::Kvm | By::Xen) => {
                let who = self.found.refusals.first().map_or(String::new(), |refusal| refusal.by.to_string());
                let mut reasons: Vec<String> = Vec::new();
                for refusal in &self.found.refusals {
                    let reason = match refusal.rules {
                        [] => continue,
                        [rule] => (*rule).to_owned(),
                        several => format!("one of {}", several.join(", ")),
                    };
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
                match &reasons[..] {
                    [] => format!("refused by {who}, for a condition that stands for no rule of the manual"),
                    reasons => format!("refused by {who}: {}", reasons.join("; ")),
                }
            }
            (Decision::Refused, _) => {
                let count = verdict.broken.len();
                let mut text = format!("refused: {} broken ({})", rules(count), verdict.broken.join(", "));
                if !verdict.inferred.is_empty() {
                    text.push_str(", inferred from EXITINTINFO");
                }
                if open > 0 {
                    text.push_str(&format!(", {open} undecided"));
                }
                text
            }
            (Decision::Accepted, By::ExitCode) => {
                format!("accepted: VMRUN accepted it: {}", self.exit_text())
            }
            (Decision::Accepted, _) => "accepted".into(),
            (Decision::Undecided, _) => {
                let mut parts = Vec::new();
                if verdict.unexplained {
                    parts.push(format!(
                        "VMRUN refused it with {}, and nothing that is known of the VMCB explains it",
                        self.exit_text()
                    ));
                }
                if !verdict.required.is_empty() {
                    parts.push(format!(
                        "{} required and not met, outcome not stated ({})",
                        rules(verdict.required.len()),
                        verdict.required.join(", ")
                    ));
                }
                if !verdict.undecided.is_empty() {
                    parts.push(rules(verdict.undecided.len()));
                    parts.push(format!("missing: {}", self.missing_text(&verdict.missing)));
                }
                format!("undecided: {}", parts.join("; "))
            }
        }
    }

    /// `exit code 0x400 (NPF)`.
    pub(super) fn exit_text(&self) -> String {
        match self.exit_code() {
            Some(code) if code.is_failure() => format!("exit code {} ({code})", code.bits().cast_signed()),
            Some(code) => format!("exit code {:#x} ({code})", code.bits()),
            None => "no exit code".into(),
        }
    }

    /// What is missing, shortly.
    pub(super) fn missing_text(&self, missing: &[Missing]) -> String {
        let cpu = match (self.question.cpu_given, self.judged_for.cpu.phys_bits()) {
            (false, _) => "--cpu MODEL,phys-bits=N",
            (true, None) => "add ,phys-bits=N to --cpu",
            (true, Some(_)) => "add to --cpu",
        };
        let event = missing.iter().any(|item| item.name == Word::EventInj.name());
        let vmcb = match self.phase {
            Phase::After if event => "EVENTINJ is cleared by #VMEXIT",
            Phase::Unknown if event => {
                "EVENTINJ is cleared by #VMEXIT: --phase before, if this is not after one"
            }
            _ => "",
        };
        let groups = [
            (MissingKind::Vmcb, "VMCB field", vmcb),
            (MissingKind::Cpu, "CPU fact", cpu),
            (MissingKind::Vmsa, "VMSA field", "--vmsa FILE"),
            (MissingKind::Host, "host fact", "--host"),
        ];
        let mut parts = Vec::new();
        for (kind, what, how) in groups {
            let names: Vec<&str> =
                missing.iter().filter(|item| item.kind == kind).map(|item| item.name.as_str()).collect();
            if names.is_empty() {
                continue;
            }
            let plural = if names.len() == 1 { "" } else { "s" };
            let how = if how.is_empty() { String::new() } else { format!("; {how}") };
            parts.push(format!("{} {what}{plural} ({}{how})", names.len(), some_of(&names)));
        }
        parts.join(", ")
    }
}

/// `1 rule`, `5 rules`.
pub(super) fn rules(count: usize) -> String {
    format!("{count} rule{}", if count == 1 { "" } else { "s" })
}

pub(super) fn are(count: usize) -> String {
    format!("{} {}", rules(count), if count == 1 { "is" } else { "are" })
}

/// The first few of a list.
pub(super) fn some_of(names: &[&str]) -> String {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{shown}, ...") } else { shown }
}

fn ids(set: RuleSet) -> impl Iterator<Item = &'static str> {
    set.iter().map(Rule::id).collect::<Vec<_>>().into_iter()
}
