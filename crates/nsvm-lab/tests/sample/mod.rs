//! A report like one that a run gives: the whole EVENTINJ space, a family for each rule, peers with habits.

use nsvm_lab::outcome::{Answer, Outcome};
use nsvm_lab::report::{Agreement, CaseReport, Expected, Row};
use nsvm_lab::results::{Head, event_of};
use vmcb::{Cpu, Decision, Event, GuestMode, Limits, Policy, Rule, check_event};

/// Name, version, what is below, the vectors above 31 or of another kind that TYPE 3 refuses.
type Peer = (&'static str, &'static str, Option<&'static str>, fn(u8) -> bool);

const PEERS: [Peer; 6] = [
    ("qemu-tcg", "7.2.22", None, |v| v == 2 || v > 30),
    ("bochs", "2.7", None, |v| v == 2 || v > 31),
    (
        "kvm",
        "7.2.6-amd64",
        Some("qemu-tcg 11.1.3, cpu max"),
        |v| matches!(v, 2 | 9 | 15 | 20..=27 | 29 | 31..),
    ),
    ("kvm", "6.12.48+deb13-amd64", Some("qemu-tcg 11.1.3, cpu max"), |v| v == 2 || v > 30),
    ("qemu-tcg", "11.1.3", None, |v| v == 2 || v > 30),
    ("model", "0.1.0", None, |v| matches!(v, 2 | 9 | 15 | 20..=27 | 29 | 31..)),
];

/// So many subjects; beside the 8,192 events, each rule has so many cases.
pub(crate) fn rows(subjects: usize, each: u32) -> Vec<Row> {
    let cpu = Cpu::parse("EPYC-v4").expect("QEMU has it");
    let limits = Limits::compile(&cpu, Policy::VirtualCpu);
    PEERS.iter().take(subjects).map(|peer| row(peer, &limits, each)).collect()
}

fn row(&(subject, version, below, refuses): &Peer, limits: &Limits, each: u32) -> Row {
    let plain = subject == "model";
    let mut cases = Vec::new();
    for number in 0..1_u32 << 13 {
        let id = format!("eventinj.long64#{number:x}");
        let event = event_of(&id).expect("it is one");
        let bits = u64::from(event.valid) << 31
            | u64::from(event.error) << 11
            | u64::from(event.kind) << 8
            | u64::from(event.vector);
        let verdict = check_event(Event::from_bits(bits), GuestMode::BITS_64, limits);
        let expected = match verdict.decision() {
            Decision::Accepted => Expected::Accept,
            Decision::Refused => Expected::Refuse(vmcb::Outcome::Invalid),
            _ => Expected::Undecided,
        };
        let rules = verdict.broken().union(verdict.undecided()).iter().map(Rule::id).collect();
        let mut refused =
            event.valid && (matches!(event.kind, 1 | 5..) || event.kind == 3 && refuses(event.vector));
        // A peer that is somewhat at odds with itself.
        if subject == "bochs" && event.valid && number.wrapping_mul(0x9E37_79B1) >> 27 == 0 {
            refused = !refused;
        }
        let token = match (refused, subject, event.valid) {
            (true, "qemu-tcg", _) => "invalid32, exitintinfo",
            (true, ..) => "invalid",
            (false, _, false) => "ran",
            (false, "bochs", _) if event.error => "took, error",
            (false, "kvm", _) if event.kind == 4 && event.vector == 77 => {
                "killed KVM: <internal error>, \"RIP\" & more"
            }
            (false, ..) => "took",
        };
        cases.push(case(id, rules, expected, token, subject, plain));
    }
    for (index, rule) in (0_u32..).zip(Rule::ALL) {
        for number in 0..each {
            let roll = (index * 131 + number).wrapping_mul(0x9E37_79B1) >> 24;
            let token = match subject {
                _ if rule.id().starts_with("pre-") && roll > 40 => {
                    "skipped needs a host in compatibility mode"
                }
                _ if rule.id().starts_with("sev") || rule.id().contains("vmsa") => "skipped needs a VMSA",
                "model" => "invalid",
                "bochs" if index % 7 == 0 => "killed CR3 > 52 bits | panic `x`",
                "qemu-tcg" if roll < 20 || index % 3 == 0 => "ran",
                "kvm" if roll < 9 || index % 11 == 0 => "exit 4e, during",
                "kvm" => "invalid by: !(save->efer & EFER_SVME)",
                _ => "invalid",
            };
            let expected = match rule.row().class.refuses() {
                true => Expected::Refuse(vmcb::Outcome::Invalid),
                false => Expected::Undecided,
            };
            let id = format!("flip.{}#{number:x}", rule.id());
            cases.push(case(id, vec![rule.id()], expected, token, subject, plain));
        }
    }
    let head = Head {
        subject: subject.to_owned(),
        version: version.to_owned(),
        below: below.map(str::to_owned),
        cpu: "max".to_owned(),
        date: "2026-11-22".to_owned(),
        set: "commit".to_owned(),
        cases: cases.len() + usize::from(subject == "bochs") * 12,
        notes: if below.is_some() { vec!["run twice, the same <both> times".to_owned()] } else { Vec::new() },
        ..Head::default()
    };
    Row { head, cases }
}

fn case(
    id: String,
    rules: Vec<&'static str>,
    expected: Expected,
    token: &str,
    subject: &str,
    plain: bool,
) -> CaseReport {
    let outcome: Outcome = token.parse().expect(token);
    let agreement = match (outcome.answer(), expected) {
        (Answer::Skipped, _) => Agreement::Skipped,
        (Answer::Broken, _) => Agreement::Broken,
        (_, Expected::Undecided) => Agreement::NotComparable,
        (Answer::Accepted, Expected::Accept) => Agreement::Agrees,
        (Answer::Refused(seen), Expected::Refuse(wanted)) if seen == wanted => Agreement::Agrees,
        _ => Agreement::Differs,
    };
    let differs = agreement == Agreement::Differs;
    let known = differs && subject != "bochs";
    let reason = known.then(|| match id.starts_with("eventinj") {
        true => format!("{subject} does not know which vectors are <reserved> on AMD"),
        false => format!("{subject} checks a part of the state only"),
    });
    let layer = (!plain && subject == "kvm")
        .then(|| if outcome.by.is_some() { "kvm" } else { "qemu-tcg" }.to_owned());
    CaseReport {
        id,
        rules,
        expected,
        outcome,
        agreement,
        reason,
        prediction: differs.then_some(known),
        layer,
    }
}
