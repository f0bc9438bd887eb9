//! The report on one VMCB, put together from its findings, notes and predictions.

use super::case::Case;
use super::prediction::{Asked, Peers};
use super::question::Question;
use crate::record::{Finding, Mark, Missing, Predicted, Report, Said, Standing, Undecided};
use vmcb::{RuleSet, View, Vmsa};
use vmcb_dump::{Found, Place};

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
}
