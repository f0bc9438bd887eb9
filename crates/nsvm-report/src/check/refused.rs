//! What an implementation itself said when it refused.

use super::case::Case;
use super::field::hex;
use crate::explain;
use crate::record::{Field, Finding, MANUAL, Mark, REVISION, Standing};
use vmcb::{Outcome, Rule};
use vmcb_dump::{Kind, Place, Refusal, Refuser};

impl Case<'_> {
    /// What an implementation itself said, unless a finding says it already.
    pub(super) fn refusal(&self, refusal: &Refusal, findings: &mut Vec<Finding>) {
        let said = |finding: &Finding| finding.candidates.iter().any(|id| refusal.rules.contains(&&**id));
        if findings.iter().any(said) {
            return;
        }
        let candidates: Vec<String> = refusal.rules.iter().map(|id| (*id).to_owned()).collect();
        let note = match (refusal.by, self.found.kind) {
            (Refuser::Kvm, Kind::KvmTraceFailed) => {
                "this line shows the condition that KVM found, and none of the VMCB's values; kvm_nested_vmenter \
                 and a dump of the VMCB show them"
            }
            (Refuser::Kvm, _) => {
                "KVM checked this after kvm_nested_vmenter, on values that its lines do not show"
            }
            (_, Kind::XenChecks) => {
                "this line shows what Xen found, and of the VMCB only what it names; a dump of the VMCB shows the rest"
            }
            _ => "Xen found this; what the dump shows of the VMCB does not decide it",
        };
        let mut notes = vec![note.to_owned()];
        let certain = match refusal.rules {
            [id] => Rule::from_id(id),
            _ => None,
        };
        if let [id] = refusal.rules
            && let Some(habit) = explain::habit(id)
        {
            notes.push(format!("no rule of the manual, but a habit of {}: {}", refusal.by, habit.text));
        }
        for id in refusal.rules.iter().filter(|_| refusal.rules.len() > 1) {
            if let Some(rule) = Rule::from_id(id) {
                notes.push(format!("{id}: {}", rule.row().title));
            }
        }
        if refusal.rules.is_empty() {
            notes.push("no rule of the manual is known to stand for this condition".to_owned());
        }
        let row = certain.map(Rule::row);
        let place = self.at(&refusal.place);
        let mark = match &refusal.place {
            Place::Text { line, columns } => {
                Some(Mark::Text { file: self.file.to_owned(), line: *line, columns: columns.clone() })
            }
            Place::Byte { .. } => None,
        };
        findings.push(Finding {
            vmcb: self.vmcb,
            standing: Standing::refused_by(refusal.by),
            rule: certain.map(|rule| rule.id().to_owned()),
            candidates,
            title: format!("{} refused: {}", refusal.by, refusal.condition),
            class: row.map(|row| row.class.letter()),
            outcome: Some(Outcome::Invalid.name()),
            manual: MANUAL,
            revision: REVISION,
            section: row.map(|row| row.section),
            inferred: false,
            condition: Some(refusal.condition.clone()),
            place: Some(place.clone()),
            fields: vec![Field {
                name: "condition".into(),
                page: "vmcb",
                offset: None,
                value: String::new(),
                known: hex(0),
                mask: hex(0),
                decoded: row.map_or_else(String::new, |row| row.title.to_owned()),
                primary: true,
                place: Some(place),
                mark,
            }],
            cpu: Vec::new(),
            help: row.map(|row| row.mend),
            notes,
        });
    }
}
