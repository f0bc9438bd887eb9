//! One VMCB under judgement.

use super::Report;
use super::encrypted::JudgedFor;
use super::prediction::{Asked, Peers};
use super::question::Question;
use crate::record::{At, Decision, Finding, Mark, Missing, Predicted, Said, Standing, Undecided};
use vmcb::layout::vmcb_field;
use vmcb::{Environment, ExitCode, KnownPage, Phase, RuleSet, View, Vmsa};
use vmcb_dump::{Found, Kind, Place};

/// One VMCB under judgement.
pub(super) struct Case<'a> {
    pub(super) question: &'a Question,
    pub(super) file: &'a str,
    pub(super) vmcb: u64,
    pub(super) found: &'a Found,
    pub(super) judged_for: &'a JudgedFor,
    pub(super) vmsa: Option<&'a KnownPage>,
    pub(super) phase: Phase,
    pub(super) environment: &'a Environment<'a>,
    pub(super) view: View<'a>,
}

impl<'a> Case<'a> {
    pub(super) fn report(
        question: &'a Question,
        peers: &Peers<'_>,
        file: &'a str,
        vmcb: u64,
        found: &'a Found,
        also: &mut dyn FnMut(&Case<'_>, &Report),
    ) -> Report {
        let given = question.vmsa.as_ref().map(|(_, page)| &**page);
        let vmsa = found.vmsa.as_deref().or(given);
        let environment =
            question.host.environment(found.vmcb_address).with_vmsa(vmsa.map_or(Vmsa::Unknown, Vmsa::Known));
        let judged_for = question.judged_for(found.vm_type);
        let phase = question.phase.unwrap_or(found.phase);
        let view = View::new(&found.vmcb, phase, &judged_for.limits, &environment);
        let case =
            Case { question, file, vmcb, found, judged_for, vmsa, phase, environment: &environment, view };
        let report = case.judge(peers);
        also(&case, &report);
        report
    }

    fn judge(&self, peers: &Peers<'_>) -> Report {
        let shown = self.shows_a_vmcb();
        let judged = self.view.judge();
        let (broken, unstated, unknown) = if shown {
            (judged.broken(), judged.unstated(), judged.unknown())
        } else {
            (RuleSet::EMPTY, RuleSet::EMPTY, RuleSet::EMPTY)
        };
        let inferred = judged.inferred().intersection(broken);
        let machine = self.machine();
        let mut findings: Vec<Finding> = Vec::new();
        for rule in broken.iter() {
            findings.push(self.finding(rule, Standing::Broken, inferred.contains(rule)));
        }
        for refusal in &self.found.refusals {
            self.refusal(refusal, &mut findings);
        }
        for rule in unstated.iter() {
            findings.push(self.finding(rule, Standing::Required, false));
        }
        let undecided: Vec<Undecided> = unknown.iter().map(|rule| self.undecided(rule)).collect();
        let mut missing: Vec<Missing> = Vec::new();
        for item in undecided.iter().flat_map(|undecided| &undecided.missing) {
            if !missing.iter().any(|known| known.kind == item.kind && known.name == item.name) {
                missing.push(Missing { bits: None, ..item.clone() });
            }
        }
        let verdict = self.verdict(broken, unstated, unknown, inferred, machine, missing);
        let mut notes = self.notes();
        self.cpu_notes(&mut notes);
        self.machine_notes(machine, &verdict, &mut notes);
        let remarks = self.found.remarks.iter().map(|remark| Said {
            vmcb: self.vmcb,
            text: remark.to_string(),
            place: self.at(&remark.place),
            mark: match &remark.place {
                Place::Text { line, columns } => {
                    Some(Mark::Text { file: self.file.to_owned(), line: *line, columns: columns.clone() })
                }
                Place::Byte { .. } => None,
            },
        });
        let ask = |asked: &Vec<Asked<'_>>| -> Vec<Predicted> {
            asked.iter().filter(|_| shown).map(|asked| self.predicted(asked)).collect()
        };
        let (predictions, who) = (ask(&peers.stacks), ask(&peers.everyone));
        Report { findings, undecided, remarks: remarks.collect(), notes, predictions, who, verdict }
    }

    /// A line that says only why KVM refused shows no VMCB to judge.
    pub(super) fn shows_a_vmcb(&self) -> bool {
        !self.only_reasons() || !self.found.vmcb.is_empty()
    }

    pub(super) fn at(&self, place: &Place) -> At {
        At::new(self.file, place, self.found)
    }

    /// The exit code, where the input shows one that counts.
    pub(super) fn exit_code(&self) -> Option<ExitCode> {
        if self.phase != Phase::After {
            return None;
        }
        let bits = self.found.vmcb.field(vmcb_field::exitcode);
        let low = u64::from(u32::MAX);
        if bits.known_mask() == u64::MAX {
            Some(ExitCode::from_bits(bits.value()).widened())
        } else if bits.known_mask() & low == low {
            Some(ExitCode::from_low_half(bits.value() as u32))
        } else {
            None
        }
    }

    /// What the machine did that made the dump.
    pub(super) fn machine(&self) -> Option<Decision> {
        let code = self.exit_code()?;
        Some(if code.is_failure() { Decision::Refused } else { Decision::Accepted })
    }

    /// Whether the input shows why an implementation refused and nothing of the VMCB.
    pub(super) fn only_reasons(&self) -> bool {
        matches!(self.found.kind, Kind::KvmTraceFailed | Kind::XenChecks)
    }
}
