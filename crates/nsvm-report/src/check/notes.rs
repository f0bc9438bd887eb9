//! What is legal and almost surely wrong, and what the exit code says.

use super::case::Case;
use super::field::{hex, width_mask};
use super::verdict::are;
use crate::bits;
use crate::record::{By, Decision, Field, MissingKind, Note, Verdict};
use vmcb::layout::vmcb_field;
use vmcb::{ExitCode, Feature, Limits, Phase, Rule, View, Word};

impl Case<'_> {
    /// Notes of the rulebook.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.only_reasons() {
            return notes;
        }
        for note in self.view.notes() {
            let layout = note.field();
            let word = if layout == vmcb_field::eventinj { Some(Word::EventInj) } else { None };
            let bits = self.found.vmcb.field(layout);
            let value = word.map_or(bits, |word| self.view.word(word)).value();
            let name = word.map_or(layout.name, Word::name);
            let mark = self.mark(layout, name, value, 1);
            let field = Field {
                name: name.into(),
                page: "vmcb",
                offset: Some(format!("{:#05x}", layout.offset)),
                value: hex(value),
                known: hex(bits.known_mask() & width_mask(layout.size.into())),
                mask: hex(bits.known_mask() & width_mask(layout.size.into())),
                decoded: word.map_or_else(|| bits::bits(value), |_| bits::event(value)),
                primary: true,
                place: mark.as_ref().map(|mark| self.place_of(mark)),
                mark,
            };
            notes.push(Note {
                vmcb: self.vmcb,
                id: note.id(),
                text: note.title().into(),
                more: Vec::new(),
                section: Some(note.section()),
                fields: vec![field],
            });
        }
        notes
    }

    /// What the exit code says, where it says more than the verdict line.
    pub(super) fn machine_notes(&self, machine: Option<Decision>, verdict: &Verdict, notes: &mut Vec<Note>) {
        let mut say = |id, text: String, more: Vec<String>, marked: bool| {
            let fields = if marked { self.exit_field().into_iter().collect() } else { Vec::new() };
            notes.push(Note { vmcb: self.vmcb, id, text, more, section: None, fields });
        };
        match machine {
            Some(Decision::Accepted) if verdict.by != By::ExitCode => {
                let mut more = Vec::new();
                if verdict.decision == Decision::Refused {
                    more.push(
                        "after #VMEXIT the save area holds the guest's state at its exit, not what VMRUN loaded"
                            .to_owned(),
                    );
                    if self.question.cpu_given {
                        more.push(format!(
                            "the verdict is for the CPU asked about: {}",
                            self.judged_for.text
                        ));
                    }
                }
                let text =
                    format!("VMRUN accepted it on the machine that made the dump: {}", self.exit_text());
                say("machine-accepted", text, more, true);
            }
            Some(Decision::Refused) => self.refusal_notes(verdict, &mut say),
            None if self.phase == Phase::Unknown => {
                let code = self.found.vmcb.field(vmcb_field::exitcode);
                if code.known_mask() == u64::MAX && code.value() != 0 {
                    let code = ExitCode::from_bits(code.value()).widened();
                    let text = format!(
                        "EXITCODE is {:#x} ({code}), and the input does not tell whether it was seen before VMRUN \
                         or after #VMEXIT: --phase after takes it as what VMRUN did",
                        code.bits()
                    );
                    say("phase-unknown", text, Vec::new(), false);
                }
            }
            _ => {}
        }
    }

    pub(super) fn refusal_notes(
        &self,
        verdict: &Verdict,
        say: &mut dyn FnMut(&'static str, String, Vec<String>, bool),
    ) {
        let Some(code) = self.exit_code() else {
            return;
        };
        let family: Vec<Rule> = Rule::ALL
            .iter()
            .copied()
            .filter(|rule| code != ExitCode::INVALID && rule.row().outcome.name() == format!("VMEXIT_{code}"))
            .collect();
        if !family.is_empty() {
            let text = format!("VMRUN refused it with {}, which only these rules do", self.exit_text());
            let more = family.iter().map(|rule| format!("{}: {}", rule.id(), rule.row().title)).collect();
            say("refused-by-family", text, more, true);
        } else if verdict.unexplained {
            let mut more = Vec::new();
            if !verdict.undecided.is_empty() {
                more.push(format!(
                    "{} not decided, so the cause may be in what the dump does not show: {}",
                    are(verdict.undecided.len()),
                    self.missing_text(&verdict.missing)
                ));
            }
            more.extend(self.on_other_cpus(verdict));
            more.extend(OTHER_CAUSES.map(str::to_owned));
            let text =
                format!("VMRUN refused it with {}, and no rule is broken for certain", self.exit_text());
            say("refused-unexplained", text, more, true);
        }
    }

    /// The undecided rules that a CPU with, or without, certain features would refuse for.
    pub(super) fn on_other_cpus(&self, verdict: &Verdict) -> Vec<String> {
        let mut found = Vec::new();
        for rule in verdict.undecided.iter().filter_map(|id| Rule::from_id(id)) {
            let missing = self.undecided(rule).missing;
            let features: Option<Vec<Feature>> = missing
                .iter()
                .map(|item| (item.kind == MissingKind::Cpu).then(|| Feature::from_name(&item.name)).flatten())
                .collect();
            let Some(features) = features.filter(|features| !features.is_empty()) else {
                continue;
            };
            for has in [true, false] {
                let cpu = features.iter().fold(self.judged_for.cpu, |cpu, &feature| cpu.with(feature, has));
                let limits = Limits::compile(&cpu, self.question.policy);
                let view = View::new(&self.found.vmcb, self.phase, &limits, self.environment);
                if view.judge().broken().contains(rule) {
                    let sign = if has { '+' } else { '-' };
                    let names: Vec<String> =
                        features.iter().map(|feature| format!("{sign}{}", feature.name())).collect();
                    let (id, title) = (rule.id(), rule.row().title);
                    found.push(format!("on a CPU with {}: {id} would be broken: {title}", names.join(",")));
                    break;
                }
            }
        }
        found
    }

    /// EXITCODE as a field to mark.
    pub(super) fn exit_field(&self) -> Option<Field> {
        let field = vmcb_field::exitcode;
        let bits = self.found.vmcb.field(field);
        let value = bits.value();
        let mark = self.mark(field, "EXITCODE", value, 1);
        let code = self.exit_code()?;
        Some(Field {
            name: "EXITCODE".into(),
            page: "vmcb",
            offset: Some(format!("{:#05x}", field.offset)),
            value: hex(value),
            known: hex(bits.known_mask()),
            mask: hex(bits.known_mask()),
            decoded: code.to_string(),
            primary: true,
            place: mark.as_ref().map(|mark| self.place_of(mark)),
            mark,
        })
    }
}

/// What ends in VMEXIT_INVALID without a trace in the VMCB.
const OTHER_CAUSES: [&str; 6] = [
    "else: the hypervisor below, where this machine is itself a guest: it runs a VMCB of its own making, which \
     the CPU may refuse for reasons that are not in this one",
    "else: VMRUN in SMM, or under an SMM monitor",
    "else: the contents of an encrypted VMSA, or its checksum",
    "else: memory: a permission map, a table or the VMSA where there is no memory",
    "else: the RMP, where SEV-SNP is enabled",
    "else: MSRs of the host (SYSCFG, HWCR, VM_HSAVE_PA, IBS), or a field cached by the clean bits",
];
