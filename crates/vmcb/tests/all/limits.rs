//! Limits as data: stored, refused, loaded, upgraded; and what was published keeps its verdicts.

use crate::common::check;
use crate::common::random::Random;
use crate::common::{Case, cases, frozen};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use vmcb::{
    Cpu, Decision, Environment, Event, Feature, GuestMode, Limits, LimitsError, MODELS, Policy, Rule,
    RuleSet, Verdict, Vmsa, check_event,
};

const POLICIES: [Policy; 2] = [Policy::VirtualCpu, Policy::FixedVectors];

fn encoded(limits: &Limits) -> Vec<u8> {
    let mut buffer = [0; Limits::ENCODED_MAX];
    limits.encode(&mut buffer).to_vec()
}

/// Every version of every model, and CPUs of which little or much is known.
fn cpus() -> Vec<(String, Cpu)> {
    let mut cpus = Vec::new();
    for model in MODELS {
        for version in 1..=model.versions.len() {
            let name = format!("{}-v{version}", model.name);
            let cpu = Cpu::parse(&name).unwrap();
            cpus.push((name, cpu));
        }
    }
    for text in [
        "any",
        "any,phys-bits=48",
        "EPYC-Milan-v3,+shstk,phys-bits=48",
        "EPYC-Genoa-v2,+shstk,+avic,+x2avic,+sme,+sev,+sev-es,+sev-snp,+sev-64bit-host,+restricted-injection,\
         +alternate-injection,+prevent-host-ibs,+ibs-virt-guest-ctl,+pmc-virt-guest-ctl,+smt-protection,\
         +secure-avic,+allowed-sev-features,phys-bits=52,c-bit=51,sev-asid-max=509,sev-asid-min=100",
        "EPYC-Milan,-lm,-nx,-pae",
        "EPYC-Milan-v3,+avic,+x2avic,+sev,+sev-es,+sev-snp,+secure-avic,phys-bits=48,c-bit=47",
    ] {
        cpus.push((text.to_owned(), Cpu::parse(text).unwrap()));
    }
    cpus
}

fn random_cpu(random: &mut Random) -> Cpu {
    let mut text = "any".to_owned();
    let mut setting = |name: &str, value: u64, random: &mut Random| {
        if random.one_in(2) {
            write!(text, ",{name}={value}").unwrap();
        }
    };
    setting("phys-bits", 32 + random.below(21) as u64, random);
    setting("c-bit", 32 + random.below(32) as u64, random);
    setting("sev-asid-max", random.next() >> 32, random);
    setting("sev-asid-min", random.next() >> 32, random);
    Feature::ALL.iter().fold(Cpu::parse(&text).unwrap(), |cpu, &feature| match random.below(3) {
        0 => cpu.without_knowing(feature),
        1 => cpu.with(feature, true),
        _ => cpu.with(feature, false),
    })
}

#[test]
fn what_is_stored_is_what_is_loaded() {
    let mut random = Random::new(5);
    let cpus = cpus().into_iter().map(|(_, cpu)| cpu);
    for cpu in cpus.chain((0..200).map(|_| random_cpu(&mut random))) {
        for policy in POLICIES {
            let limits = Limits::compile(&cpu, policy);
            let bytes = encoded(&limits);
            let loaded = Limits::decode(&bytes).unwrap();
            assert_eq!(loaded, limits);
            assert_eq!(loaded.cpu(), &cpu);
            assert_eq!(loaded.policy(), policy);
            assert_eq!(encoded(&loaded), bytes, "the same limits give the same bytes");
            assert_eq!(limits.upgrade(), limits, "of this build already");
        }
    }
}

#[test]
fn limits_are_shown_with_what_they_were_made_for() {
    let text = format!("{:?}", milan());
    assert!(text.starts_with("Limits {") && text.contains("VirtualCpu"), "{text}");
    assert!(text.contains("sav-cr0-high"), "{text}");
}

#[test]
fn the_buffer_is_just_large_enough() {
    let everything = Feature::ALL
        .iter()
        .fold(Cpu::parse("phys-bits=52,c-bit=51,sev-asid-max=1,sev-asid-min=1").unwrap(), |cpu, &feature| {
            cpu.with(feature, true)
        });
    assert_eq!(encoded(&Limits::compile(&everything, Policy::VirtualCpu)).len(), Limits::ENCODED_MAX);
}

#[test]
fn policies_have_names_and_differ_in_three_rules() {
    for policy in POLICIES {
        assert_eq!(Policy::from_name(policy.name()), Some(policy));
    }
    assert_eq!(Policy::from_name("fixed"), None);
    let [derived, fixed] = POLICIES.map(|policy| Limits::compile(&Cpu::ANY, policy).rules());
    assert_eq!(derived, RuleSet::ALL);
    let missing: Vec<_> = derived.difference(fixed).iter().map(Rule::id).collect();
    assert_eq!(
        missing,
        ["evt-exc-cp-without-shstk", "evt-exc-vc-without-seves", "evt-exc-hv-without-restricted-injection"]
    );
}

#[test]
fn a_corrupt_byte_is_refused_wherever_it_is() {
    let limits = Limits::compile(&Cpu::parse("EPYC-Milan-v3,phys-bits=48").unwrap(), Policy::VirtualCpu);
    let bytes = encoded(&limits);
    for position in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut corrupt = bytes.clone();
            corrupt[position] ^= flip;
            let error = Limits::decode(&corrupt).expect_err("a corrupt byte");
            match error {
                LimitsError::NotLimits => assert!(position < 8, "{position}"),
                LimitsError::Corrupt { offset, reason } => {
                    assert_eq!((offset, reason), (bytes.len() - 4, "the checksum does not match"));
                    assert!(position >= 8);
                }
                other => panic!("byte {position}: {other}"),
            }
        }
        assert!(Limits::decode(&bytes[..position]).is_err(), "cut at {position}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Limits::decode(&longer).is_err());
    assert_eq!(Limits::decode(b""), Err(LimitsError::NotLimits));
    assert_eq!(Limits::decode(b"nsvmLim2...."), Err(LimitsError::NotLimits));
    let short = LimitsError::Corrupt { offset: 11, reason: "no checksum" };
    assert_eq!(Limits::decode(b"nsvmLim1abc"), Err(short));
}

/// The stored form, taken apart by its description: entries of key and value.
fn entries(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rest = &bytes[8..bytes.len() - 4];
    let mut entries = Vec::new();
    while let [length, after @ ..] = rest {
        let (key, after) = after.split_at(usize::from(*length));
        let length = usize::from(u16::from_le_bytes([after[0], after[1]]));
        let (value, after) = after[2..].split_at(length);
        entries.push((key.to_vec(), value.to_vec()));
        rest = after;
    }
    entries
}

fn assemble(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"nsvmLim1".to_vec();
    for (key, value) in entries {
        bytes.push(key.len() as u8);
        bytes.extend(key);
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
    }
    seal(bytes)
}

/// Appends the checksum: CRC-32 of IEEE 802.3, bit by bit.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in &bytes {
        for bit in 0..8 {
            let low = crc & 1 ^ u32::from(byte >> bit & 1);
            crc >>= 1;
            if low == 1 {
                crc ^= 0xEDB8_8320;
            }
        }
    }
    bytes.extend((!crc).to_le_bytes());
    bytes
}

/// The same limits with one entry changed: `None` takes it out.
fn with(limits: &Limits, key: &str, change: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut entries = entries(&encoded(limits));
    let index = entries.iter().position(|(found, _)| found == key.as_bytes()).expect(key);
    match change {
        Some((key, value)) => entries[index] = (key.as_bytes().to_vec(), value.to_vec()),
        None => drop(entries.remove(index)),
    }
    assemble(&entries)
}

fn milan() -> Limits {
    Limits::compile(
        &Cpu::parse("EPYC-Milan-v3,phys-bits=48,c-bit=47,sev-asid-max=9,sev-asid-min=5").unwrap(),
        Policy::VirtualCpu,
    )
}

#[test]
fn what_this_build_does_not_know_is_refused_and_named() {
    let limits = milan();
    assert_eq!(assemble(&entries(&encoded(&limits))), encoded(&limits), "the description is right");
    for (key, changed, name) in [
        ("rule:sav-cr0-high", "rule:sav-cr0-height", "sav-cr0-height"),
        ("rule:sav-cr0-high", "rule:", ""),
        ("cpu:shstk", "cpu:fred", "fred"),
        // An alias is no stable name.
        ("cpu:shstk", "cpu:cet-ss", "cet-ss"),
        ("cr4.reserved", "cr5.reserved", "cr5.reserved"),
    ] {
        let bytes = with(&limits, key, Some((changed, &[1])));
        let error = Limits::decode(&bytes).expect_err("an unknown name");
        assert_eq!(error, LimitsError::Unknown(name));
        assert!(error.to_string().contains(&format!("name `{name}`")), "{error}");
    }
    let bytes = with(&limits, "policy", Some(("policy", &[2])));
    assert_eq!(Limits::decode(&bytes), Err(LimitsError::UnknownPolicy(2)));
}

#[test]
fn what_does_not_make_sense_is_refused_with_its_place_and_reason() {
    let limits = milan();
    let reason = |bytes: &[u8]| match Limits::decode(bytes) {
        Err(LimitsError::Corrupt { offset, reason }) => {
            let error = LimitsError::Corrupt { offset, reason };
            assert_eq!(error.to_string(), format!("corrupt limits at byte {offset}: {reason}"));
            assert!(offset <= bytes.len());
            (offset, reason)
        }
        other => panic!("{other:?}"),
    };
    let changed = |key: &str, value: &[u8]| {
        let bytes = with(&limits, key, Some((key, value)));
        let (offset, reason) = reason(&bytes);
        // Where a single entry is wrong, its place is named; otherwise the end.
        let at = &bytes[offset..];
        let names_entry = at.get(1..=key.len()).is_some_and(|found| found == key.as_bytes());
        (names_entry, reason)
    };
    assert_eq!(changed("cpu:shstk", &[2]), (true, "a feature is neither present nor absent"));
    assert_eq!(changed("cpu:shstk", &[]), (true, "a feature is neither present nor absent"));
    assert_eq!(changed("cr4.reserved", &[0; 4]), (true, "a number has the wrong size"));
    assert_eq!(changed("phys-bits", &[48, 0]), (true, "a number has the wrong size"));
    assert_eq!(changed("phys-bits", &[31]), (false, "a number is out of range"));
    assert_eq!(changed("phys-bits", &[53]), (false, "a number is out of range"));
    assert_eq!(changed("c-bit", &[64]), (false, "a number is out of range"));
    let subset = "a bit is reserved for certain and yet not possibly";
    assert_eq!(changed("cr4.reserved-maybe", &[0; 8]), (false, subset));
    assert_eq!(changed("efer.reserved-maybe", &[0; 8]), (false, subset));
    for key in ["cr4.reserved", "cr4.reserved-maybe", "efer.reserved", "efer.reserved-maybe"] {
        assert_eq!(reason(&with(&limits, key, None)).1, "a number is missing", "{key}");
    }
    for key in ["vectors.reserved", "policy"] {
        assert_eq!(reason(&with(&limits, key, None)).1, "a number is missing", "{key}");
    }
    let mut twice = entries(&encoded(&limits));
    let first = twice[0].clone();
    twice.push(first);
    assert_eq!(reason(&assemble(&twice)).1, "a number is given twice");
    // Nothing is said twice, be it the same or the opposite; so the bytes of limits are always the same.
    for (key, value, why) in [
        ("cpu:shstk", &[0][..], "a feature is given twice"),
        ("cpu:shstk", &[1], "a feature is given twice"),
        ("rule:sav-cr0-high", &[], "a rule is named twice, or with a value"),
    ] {
        let mut twice = entries(&encoded(&limits));
        twice.push((key.as_bytes().to_vec(), value.to_vec()));
        assert_eq!(reason(&assemble(&twice)).1, why);
    }
    assert_eq!(changed("rule:sav-cr0-high", &[1]), (true, "a rule is named twice, or with a value"));
    let not_text = with(&limits, "cpu:shstk", Some(("cpu:shstk", &[0])));
    let place = not_text.windows(9).position(|window| window == b"cpu:shstk").unwrap();
    let mut not_text = not_text[..not_text.len() - 4].to_vec();
    not_text[place] = 0xFF;
    assert_eq!(reason(&seal(not_text)), (place - 1, "the key is no text"));
    // Lengths that lead beyond the end.
    assert_eq!(reason(&seal(b"nsvmLim1\x05abc".to_vec())), (8, "the key is cut"));
    assert_eq!(reason(&seal(b"nsvmLim1\x03abc\x01".to_vec())), (8, "the value is cut"));
    assert_eq!(reason(&seal(b"nsvmLim1\x03abc\x02\x00x".to_vec())), (8, "the value is cut"));
    // The bounds themselves are fine.
    for (key, value) in [("phys-bits", 32), ("phys-bits", 52), ("c-bit", 63)] {
        let bytes = with(&limits, key, Some((key, &[value])));
        assert_eq!(encoded(&Limits::decode(&bytes).unwrap()), bytes);
    }
    // What need not be known may be left out.
    for key in ["phys-bits", "c-bit", "sev-asid-max", "sev-asid-min", "cpu:shstk"] {
        let bytes = with(&limits, key, None);
        assert_eq!(encoded(&Limits::decode(&bytes).unwrap()), bytes);
    }
}

/// What is stored decides, not what this build would make of the same CPU.
#[test]
fn stored_limits_decide_until_they_are_upgraded() {
    let limits = milan();
    let mut page = [0; 4096];
    for (offset, value) in [(0x10, 1_u64), (0x58, 1), (0x4D0, 0x1000), (0x548, 0x80_0000), (0x558, 0x10)] {
        page[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
    let environment = vmcb::Input::ALL.iter().copied().fold(Environment::unknown(), Environment::take_over);
    let broken = |limits: &Limits| check(&page, limits, &environment).broken();
    assert_eq!(broken(&limits), RuleSet::only(Rule::SavCr4Mbz));

    // An older build, which did not know the rule.
    let bytes = with(&limits, "rule:sav-cr4-mbz", None);
    let older = Limits::decode(&bytes).unwrap();
    assert_eq!(broken(&older), RuleSet::EMPTY);
    assert_eq!(older.rules(), RuleSet::ALL.difference(RuleSet::only(Rule::SavCr4Mbz)));
    assert_eq!(encoded(&older), bytes);
    assert_eq!(older.upgrade(), limits);

    // A newer one, for which the bit is no longer reserved.
    let defined = limits.cr4_maybe().bits() | 0x80_0000;
    let mut entries = entries(&encoded(&limits));
    for (key, value) in &mut entries {
        if key.starts_with(b"cr4.") {
            *value = (!defined).to_le_bytes().to_vec();
        }
    }
    let newer = assemble(&entries);
    assert_eq!(broken(&Limits::decode(&newer).unwrap()), RuleSet::EMPTY);

    // One for which vector 30 was reserved, and vector 31 was not.
    let vectors = |limits: &Limits| {
        [30, 31].map(|vector| {
            let event = Event::from_bits(0x8000_0300 | vector);
            assert_eq!(
                limits.accepts_event(event, GuestMode::OTHER),
                check_event(event, GuestMode::OTHER, limits).is_accepted()
            );
            check_event(event, GuestMode::OTHER, limits).decision()
        })
    };
    assert_eq!(vectors(&limits), [Decision::Accepted, Decision::Refused]);
    let other = (1_u32 << 30).to_le_bytes();
    let bytes = with(&limits, "vectors.reserved", Some(("vectors.reserved", &other)));
    let other = Limits::decode(&bytes).unwrap();
    assert_eq!(vectors(&other), [Decision::Refused, Decision::Accepted]);
    assert_eq!(vectors(&other.upgrade()), [Decision::Accepted, Decision::Refused]);

    // EFER likewise: LMSLE, of which the model says nothing.
    assert_eq!(limits.efer_maybe().bits() & !limits.efer_always().bits(), 0x2000);
    let all = (!0x2000_u64 & !limits.efer_always().bits()).to_le_bytes();
    let bytes = with(&limits, "efer.reserved-maybe", Some(("efer.reserved-maybe", &all)));
    let bytes_of = Limits::decode(&bytes).unwrap();
    assert_eq!(bytes_of.efer_always(), limits.efer_maybe());
    assert_eq!(bytes_of.upgrade(), limits);
}

// --- What was published ------------------------------------------------------------------------------------
//
// `tests/limits/VERSION/` holds the bytes of limits as that version made them, and digests of their
// verdicts. Neither ever changes: a guest that was started with such limits is judged by them for as long as
// it lives. `VMCB_RECORD_LIMITS=1` adds what is missing (a new version, new rows) and changes nothing.

const VERSIONS: [&str; 1] = ["v0.1"];
/// States of the frozen corpus that each limits' verdicts are recorded on.
const STATES: u64 = 6_000;

fn published(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/limits").join(version)
}

/// The limits that a version publishes: name, CPU, policy.
fn to_publish() -> Vec<(String, Limits)> {
    let mut all = Vec::new();
    for (text, cpu) in cpus() {
        let name = match text.as_str() {
            "any,phys-bits=48" => "any-48".to_owned(),
            "EPYC-Milan-v3,+shstk,phys-bits=48" => "milan-shstk".to_owned(),
            text if text.starts_with("EPYC-Genoa-v2,") => "genoa-snp".to_owned(),
            text if text.contains("phys-bits=48,c-bit=47") => "milan-snp".to_owned(),
            "EPYC-Milan,-lm,-nx,-pae" => "milan-without-long-mode".to_owned(),
            text => text.to_lowercase(),
        };
        if matches!(name.as_str(), "any" | "milan-shstk" | "genoa-snp") {
            all.push((format!("{name}-fixed"), Limits::compile(&cpu, Policy::FixedVectors)));
        }
        all.push((name, Limits::compile(&cpu, Policy::VirtualCpu)));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// FNV-1a, 64 bits.
struct Digest(u64);

impl Digest {
    const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn text(&mut self, text: &str) {
        for &byte in text.as_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    /// By ids, in the order of the alphabet: positions of rules may change.
    fn verdict(&mut self, verdict: &Verdict) {
        for set in [verdict.broken(), verdict.unstated(), verdict.unknown()] {
            let ids: BTreeSet<_> = set.iter().map(Rule::id).collect();
            for id in ids {
                self.text(id);
                self.text(",");
            }
            self.text(";");
        }
    }
}

fn of_corpus(limits: &Limits) -> String {
    let mut digest = Digest::new();
    for number in 0..STATES {
        let state = frozen::state(number);
        let environment = state.environment.with_vmsa(Vmsa::Page(&state.vmsa));
        digest.verdict(&check(&state.vmcb, limits, &environment));
    }
    format!("{:016x}", digest.0)
}

/// One digest a row: its verdicts under all of the version's limits.
fn of_case(case: &Case, limits: &BTreeMap<String, Limits>) -> String {
    let mut digest = Digest::new();
    for (name, limits) in limits {
        digest.text(name);
        digest.verdict(&case.judge(limits));
    }
    format!("{:016x}", digest.0)
}

/// Compares lines `NAME DIGEST` with those that were recorded, and adds what is new where that is asked for.
fn compare(path: &Path, found: &[(String, String)], recording: bool) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let recorded: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let names: BTreeSet<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let mut errors = Vec::new();
    for name in recorded.keys().filter(|name| !names.contains(*name)) {
        errors.push(format!("{path:?}: `{name}` is gone; what verdicts are recorded on stays"));
    }
    let mut added = text.clone();
    for (name, digest) in found {
        match recorded.get(name.as_str()) {
            Some(same) if same == digest => {}
            Some(_) => errors.push(format!("{path:?}: the verdicts on `{name}` have changed")),
            None if recording => writeln!(added, "{name} {digest}").unwrap(),
            None => errors.push(format!("{path:?}: `{name}` is not recorded; VMCB_RECORD_LIMITS=1 adds it")),
        }
    }
    if added != text {
        std::fs::write(path, added).expect("the file can be written");
    }
    errors
}

#[test]
fn published_limits_keep_their_verdicts() {
    let recording = std::env::var("VMCB_RECORD_LIMITS").is_ok_and(|value| value == "1");
    let mut errors = Vec::new();
    for version in VERSIONS {
        let directory = published(version);
        if recording && !directory.exists() {
            std::fs::create_dir_all(&directory).unwrap();
            for (name, limits) in to_publish() {
                std::fs::write(directory.join(name + ".bin"), encoded(&limits)).unwrap();
            }
        }
        let mut loaded = BTreeMap::new();
        let files = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
        for path in files.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|extension| extension == "bin") {
                let bytes = std::fs::read(&path).unwrap();
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                match Limits::decode(&bytes) {
                    Ok(limits) => drop(loaded.insert(name, limits)),
                    Err(error) => errors.push(format!("{path:?}: {error}")),
                }
            }
        }
        let corpus: Vec<_> = loaded.iter().map(|(name, limits)| (name.clone(), of_corpus(limits))).collect();
        let rows: Vec<_> = cases().iter().map(|case| (case.id.clone(), of_case(case, &loaded))).collect();
        errors.extend(compare(&directory.join("corpus.txt"), &corpus, recording));
        errors.extend(compare(&directory.join("cases.txt"), &rows, recording));
    }
    assert!(errors.is_empty(), "\n{}", errors.join("\n"));
}

/// A digest is worth no more than what it was made of: each rule is broken by some state of the corpus.
#[test]
fn the_frozen_corpus_breaks_every_rule_of_its_time() {
    let all: Vec<_> = to_publish().into_iter().map(|(_, limits)| limits).collect();
    let mut seen = RuleSet::EMPTY;
    let mut accepted = 0;
    for number in 0..STATES {
        let state = frozen::state(number);
        let environment = state.environment.with_vmsa(Vmsa::Page(&state.vmsa));
        for limits in &all {
            let verdict = check(&state.vmcb, limits, &environment);
            seen = seen.union(verdict.broken()).union(verdict.unstated());
            accepted += u32::from(verdict.is_accepted());
        }
    }
    // A rule that comes later needs no state here, only rows.
    let first: RuleSet =
        Limits::decode(&std::fs::read(published("v0.1").join("any.bin")).unwrap()).unwrap().rules();
    let never: Vec<_> = first.difference(seen).iter().map(Rule::id).collect();
    assert!(never.is_empty(), "never broken: {never:?}");
    assert!(accepted > 1_000, "{accepted} accepted");
}
