//! The bodies of the fuzz targets, as functions that tests run too.

pub mod nested;
pub mod tlb;

use arbitrary::Arbitrary;
use vmcb::{
    Answer, Bits, Cpu, Decision, Environment, Event, Feature, GuestMode, Host, KnownPage, Limits, Phase,
    Policy, RuleSet, Verdict, View, Vmsa, Word, check_out_of_line, judge as judge_page,
    layout::{Field, vmcb_field as field, vmsa_field},
};

/// All readers: no panic, and every place lies in the input.
pub fn readers(bytes: &[u8]) {
    let (found, _error) = vmcb_dump::read_all(bytes);
    let limits = Limits::compile(&Cpu::ANY, Policy::VirtualCpu);
    for vmcb in found {
        let vmsa = vmcb.vmsa.as_deref().map_or(Vmsa::Unknown, Vmsa::Known);
        let environment = Environment::real_host().with_vmsa(vmsa);
        let view = View::new(&vmcb.vmcb, vmcb.phase, &limits, &environment);
        let verdict = view.judge();
        consistent(&verdict);
        for _ in view.notes() {}
        for rule in verdict.unknown().iter() {
            for _ in view.missing(rule) {}
        }
    }
}

/// The scan of a trace or a log: no panic, and no answer depends on how the input is cut into blocks.
pub fn scan(bytes: &[u8]) {
    let scan = |block| {
        let options = vmcb_scan::Options { events: true, block, jobs: 1, ..Default::default() };
        format!("{:?}", vmcb_scan::scan_bytes(bytes, &options))
    };
    assert_eq!(scan(64), scan(1 << 19));
}

/// A case for the judgement.
#[derive(Arbitrary, Debug)]
pub struct Case {
    cpu: CpuCase,
    fixed_vectors: bool,
    phase: u8,
    /// Which base the page starts from.
    base: u8,
    patches: Vec<Patch>,
    host_known: u32,
    host: u32,
    host_taken: u32,
    vmcb_address: Option<u64>,
    pdptes: Option<[u64; 4]>,
    u_cet: Option<u64>,
    vmsa: VmsaCase,
    /// How the unknown bits are completed.
    completion: u64,
}

#[derive(Arbitrary, Debug)]
struct CpuCase {
    known: u64,
    features: u64,
    phys_bits: Option<u8>,
    extras: [Option<u8>; 3],
}

#[derive(Arbitrary, Debug)]
enum VmsaCase {
    Unknown,
    TakenOver,
    Known(Vec<Patch>),
}

/// One write to a page: a field that some rule reads, a value, and which bits of it are known.
#[derive(Arbitrary, Debug)]
struct Patch {
    field: u8,
    value: Value,
    unknown: Value,
}

#[derive(Arbitrary, Debug)]
enum Value {
    Zero,
    Bit(u8),
    TwoBits(u8, u8),
    Word(u64),
    Event(u16),
}

impl Value {
    fn bits(&self) -> u64 {
        match *self {
            Self::Zero => 0,
            Self::Bit(bit) => 1 << (bit & 63),
            Self::TwoBits(a, b) => 1 << (a & 63) | 1 << (b & 63),
            Self::Word(word) => word,
            Self::Event(low) => Event::V | u64::from(low),
        }
    }
}

const VMSA_ONLY: [Field; 5] = [
    vmsa_field::u_cet,
    vmsa_field::sev_features,
    vmsa_field::vintr_ctrl,
    vmsa_field::secure_avic_ctl,
    vmsa_field::eventinj,
];

/// The fields of the VMCB page that some rule reads, and those that decide the phase.
fn vmcb_fields() -> Vec<Field> {
    let read = Word::ALL.iter().filter_map(|word| word.field(false));
    let exit = [field::exitcode, field::exitintinfo, field::clean, field::nrip];
    read.chain(exit).filter(|field| field.page == vmcb::layout::Page::Vmcb).collect()
}

fn patch(page: &mut KnownPage, fields: &[Field], patches: &[Patch]) {
    for patch in patches.iter().take(64) {
        let field = fields[usize::from(patch.field) % fields.len()];
        page.forget(field.offset, field.size);
        page.learn(field.offset, field.size.min(8), patch.value.bits(), !patch.unknown.bits());
    }
}

/// A legal page to start from, so that one patch breaks one rule.
fn legal(base: u8) -> KnownPage {
    let mut page = KnownPage::all(&[0; 4096]);
    let long = base & 1 != 0;
    let mut put = |field: Field, value: u64| page.learn(field.offset, field.size.min(8), value, u64::MAX);
    put(field::intercept_misc2, 1);
    put(field::guest_asid, 1);
    put(field::nested_ctl, u64::from(base >> 1 & 1));
    put(field::g_pat, 0x0007_0406_0007_0406);
    put(field::efer, if long { 0x1500 } else { 0x1000 });
    put(field::cr0, if long { 0x8000_0011 } else { 0x10 });
    put(field::cr4, if long { 0x20 } else { 0 });
    put(field::cs, if long { 0x029b_0000 } else { 0 });
    page
}

fn cpu(case: &CpuCase) -> Cpu {
    let mut text = String::from("any");
    for (name, value) in ["sev-asid-max", "sev-asid-min"].iter().zip(case.extras) {
        if let Some(value) = value {
            text += &format!(",{name}={value}");
        }
    }
    if let Some(value) = case.extras[2] {
        text += &format!(",c-bit={}", 32 + value % 32);
    }
    let mut cpu = Cpu::parse(&text).expect("settings that exist");
    for (bit, &feature) in Feature::ALL.iter().enumerate() {
        cpu = match case.known >> bit & 1 {
            0 => cpu.without_knowing(feature),
            _ => cpu.with(feature, case.features >> bit & 1 == 1),
        };
    }
    if let Some(bits) = case.phys_bits {
        cpu = cpu.with_phys_bits(32 + bits % 21).expect("32 to 52");
    }
    cpu
}

/// The case's judgement holds what is promised.
///
/// # Panics
/// When it does not: that is the finding.
pub fn judge(case: &Case) {
    let policy = if case.fixed_vectors { Policy::FixedVectors } else { Policy::VirtualCpu };
    let limits = Limits::compile(&cpu(&case.cpu), policy);
    let mut buffer = [0; Limits::ENCODED_MAX];
    assert_eq!(Limits::decode(limits.encode(&mut buffer)).as_ref(), Ok(&limits));

    let phase = [Phase::Before, Phase::After, Phase::Unknown][usize::from(case.phase % 3)];
    let mut vmcb = legal(case.base);
    patch(&mut vmcb, &vmcb_fields(), &case.patches);
    let mut vmsa_page = KnownPage::all(&[0; 4096]);
    let vmsa = match &case.vmsa {
        VmsaCase::Unknown => Vmsa::Unknown,
        VmsaCase::TakenOver => Vmsa::TakenOver,
        VmsaCase::Known(patches) => {
            let fields: Vec<_> = vmcb_fields()
                .into_iter()
                .filter(|f| f.offset >= 0x400)
                .map(Field::in_vmsa)
                .chain(VMSA_ONLY)
                .collect();
            patch(&mut vmsa_page, &fields, patches);
            Vmsa::Known(&vmsa_page)
        }
    };
    let facts = |mask: u32| Host::from_bits(mask.into());
    let mut environment = Environment::unknown()
        .with(facts(case.host_known & case.host), Answer::Yes)
        .with(facts(case.host_known & !case.host), Answer::No)
        .with(facts(case.host_taken), Answer::TakenOver)
        .with_vmsa(vmsa);
    if let Some(address) = case.vmcb_address {
        environment = environment.with_vmcb_address(address);
    }
    if let Some(entries) = case.pdptes {
        environment = environment.with_pdptes(entries);
    }
    if let Some(value) = case.u_cet {
        environment = environment.with_u_cet(value);
    }
    let verdict = judge_page(&vmcb, phase, &limits, &environment);
    consistent(&verdict);
    if let (Phase::Before, Some(page)) = (phase, vmcb.complete()) {
        assert_eq!(check_out_of_line(page, &limits, &environment), verdict, "check and judge disagree");
    }
    for low in [case.completion, case.completion >> 12] {
        let event = Event::from_bits(Event::V | low);
        for mode in [GuestMode::OTHER, GuestMode::BITS_64, GuestMode::BITS_64.with_sev_es()] {
            let judged = vmcb::check_event(event, mode, &limits);
            assert_eq!(limits.accepts_event(event, mode), judged.is_accepted());
        }
    }

    // More knowledge never changes a decided answer.
    let known = completed(&vmcb, case.completion);
    let mut full_cpu = case.cpu.features ^ case.completion;
    full_cpu = full_cpu & !case.cpu.known | case.cpu.features & case.cpu.known;
    let known_cpu = CpuCase {
        known: u64::MAX,
        features: full_cpu,
        phys_bits: case.cpu.phys_bits,
        extras: case.cpu.extras,
    };
    let known_limits = Limits::compile(&cpu(&known_cpu), policy);
    for (page, limits) in [(&known, &limits), (&vmcb, &known_limits), (&known, &known_limits)] {
        let revealed = judge_page(page, phase, limits, &environment);
        // A page of which more is known may show after all that VMRUN refused it, and which event.
        let infers = |verdict: &Verdict| !verdict.inferred().is_empty();
        if phase == Phase::Before || infers(&verdict) == infers(&revealed) {
            assert_eq!(verdict.broken().difference(revealed.broken()), RuleSet::EMPTY, "no longer broken");
            let possible = |verdict: &Verdict| verdict.broken().union(verdict.undecided());
            assert_eq!(
                possible(&revealed).difference(possible(&verdict)),
                RuleSet::EMPTY,
                "no longer excluded"
            );
        }
    }
}

/// The same page with every unknown bit taken from `fill`, a word that repeats.
fn completed(page: &KnownPage, fill: u64) -> KnownPage {
    let mut known = page.clone();
    for field in vmcb_fields() {
        let bits: Bits = page.field(field);
        known.learn(field.offset, field.size.min(8), bits.value() | fill & bits.unknown_mask(), u64::MAX);
    }
    known
}

fn consistent(verdict: &Verdict) {
    assert!(verdict.broken().intersection(verdict.undecided()).is_empty());
    assert!(verdict.unstated().intersection(verdict.unknown()).is_empty());
    assert!(verdict.inferred().difference(verdict.broken()).is_empty());
    let decision = verdict.decision();
    assert_eq!(decision == Decision::Refused, !verdict.broken().is_empty());
    assert_eq!(decision == Decision::Accepted, verdict.is_accepted());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cheap generator, so that the bodies run without a fuzzer too.
    pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 24) as u8
            })
            .collect()
    }

    #[test]
    fn judge_holds_on_random_cases() {
        for seed in 0..3_000 {
            let bytes = bytes(seed, 900);
            let case = Case::arbitrary(&mut arbitrary::Unstructured::new(&bytes)).expect("enough bytes");
            judge(&case);
        }
    }

    /// What the fuzzers found once.
    #[test]
    fn findings_stay_mended() {
        let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
        let mut files = 0;
        for entry in std::fs::read_dir(regressions).expect("there are some") {
            let path = entry.expect("it can be listed").path();
            let bytes = std::fs::read(&path).expect("it can be read");
            let name = path.file_name().expect("it has a name").to_string_lossy();
            match name.split('-').next() {
                Some("judge") => {
                    judge(&Case::arbitrary_take_rest(arbitrary::Unstructured::new(&bytes)).expect("a case"));
                }
                Some("readers") => readers(&bytes),
                Some("scan") => scan(&bytes),
                Some("vmrun") => {
                    let case = nested::Attack::arbitrary_take_rest(arbitrary::Unstructured::new(&bytes));
                    nested::vmrun(&case.expect("a case"));
                }
                Some("state") => nested::load(
                    &nested::Stored::arbitrary_take_rest(arbitrary::Unstructured::new(&bytes))
                        .expect("a case"),
                ),
                Some("tlb") => tlb::trial(&bytes),
                _ => panic!("{name}: a file here begins with the name of its target"),
            }
            files += 1;
        }
        assert!(files > 0);
    }

    #[test]
    fn readers_and_scan_survive_mutated_samples() {
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples");
        for entry in std::fs::read_dir(samples).expect("the samples are there") {
            let sample = std::fs::read(entry.expect("it can be listed").path()).expect("it can be read");
            for seed in 0..40 {
                let mut mutated = sample.clone();
                for chunk in bytes(seed, 30).chunks(3) {
                    let place = usize::from(u16::from_le_bytes([chunk[0], chunk[1]])) % mutated.len();
                    mutated[place] = chunk[2];
                }
                readers(&mutated);
                scan(&mutated);
            }
        }
    }
}
