//! The sets of cases are what they say.

use nsvm_lab::case::{Case, Set};
use nsvm_lab::protocol::{case_flag, memory};
use nsvm_lab::sets::{KILLERS, killer, names, set};
use nsvm_lab::verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use vmcb::layout::{Field, vmcb_field as field};
use vmcb::{Cpu, Decision, Limits, Policy, Rule, Source, Word};

static FULL: LazyLock<Set> = LazyLock::new(|| set("full").expect("the full set"));
static COMMIT: LazyLock<Set> = LazyLock::new(|| set("commit").expect("the commit set"));
static ROWS: LazyLock<vmcb_cases::Rows> =
    LazyLock::new(|| vmcb_cases::read(vmcb_cases::embedded()).expect("the rows"));

const MODES: [&str; 6] = ["long64", "compat", "pae", "prot32", "paged-real", "real"];
const NESTED: [&str; 6] = ["np64", "np-compat", "np-pae", "np-prot32", "np-paged-real", "np-real"];

fn limits(cpu: &str) -> Limits {
    Limits::compile(&Cpu::parse(cpu).expect(cpu), Policy::VirtualCpu)
}

fn milan() -> Limits {
    limits("EPYC-Milan-v3,phys-bits=40")
}

fn find<'a>(set: &'a Set, id: &str) -> &'a Case {
    set.cases.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("no case `{id}`"))
}

fn read(page: &[u8; 4096], field: Field) -> u64 {
    let mut bytes = [0; 8];
    let (start, size) = (usize::from(field.offset), usize::from(field.size).min(8));
    bytes[..size].copy_from_slice(&page[start..start + size]);
    u64::from_le_bytes(bytes)
}

/// The families with their sizes: what a set costs is seen here first.
#[test]
fn sets_have_the_sizes_that_they_should() {
    for (set, from, to) in [(&*COMMIT, 10_000, 14_000), (&*FULL, 25_000, 45_000)] {
        let mut families: BTreeMap<&str, usize> = BTreeMap::new();
        for case in &set.cases {
            *families.entry(case.id.split('.').next().unwrap_or("")).or_default() += 1;
        }
        let idle = set.cases.iter().filter(|case| case.cannot_run.is_some()).count();
        println!("{}: {} cases, {idle} cannot run, {} bases", set.name, set.cases.len(), set.bases.len());
        println!("  {families:?}");
        assert!((from..=to).contains(&set.cases.len()), "{}: {}", set.name, set.cases.len());
    }
    assert!(names().iter().eq(&["commit", "full"]));
    assert_eq!(
        set("ful").unwrap_err().to_string(),
        "no set of cases is named `ful`; there are commit and full"
    );
}

#[test]
fn ids_are_unique_and_plain() {
    let mut ids = BTreeSet::new();
    for case in &FULL.cases {
        assert!(ids.insert(&case.id), "`{}` is there twice", case.id);
        assert!(case.id.bytes().all(|byte| byte.is_ascii_graphic()), "{}", case.id);
    }
    assert!(COMMIT.cases.iter().all(|case| ids.contains(&case.id)));
}

#[test]
fn differences_are_ascending_and_differ() {
    for case in &FULL.cases {
        let base = &FULL.bases[case.base].page;
        let mut next = 0;
        for (offset, bytes) in &case.differences {
            assert!(usize::from(*offset) >= next && !bytes.is_empty(), "{}", case.id);
            next = usize::from(*offset) + bytes.len();
            assert!(next <= base.len() && base[usize::from(*offset)] != bytes[0], "{}", case.id);
        }
    }
}

#[test]
fn sets_are_the_same_each_time() {
    let again = set("full").expect("the full set");
    assert_eq!(format!("{:?}", again.cases), format!("{:?}", FULL.cases));
    for (one, other) in again.bases.iter().zip(&FULL.bases) {
        assert!(one.page == other.page && one.tables == other.tables && one.flags == other.flags);
    }
}

#[test]
fn every_base_of_a_mode_is_accepted() {
    for name in MODES.into_iter().chain(NESTED).chain(["v86", "np-v86", "kvm64", "avic64"]) {
        let case = find(&FULL, &format!("base.{name}"));
        let verdict = verdict::expected(&FULL, case, &milan());
        assert_eq!(verdict.decision(), Decision::Accepted, "{name}: {verdict:?}");
        assert_eq!(case.meaningless, None, "{name}");
    }
}

/// The row's own VMCB and what we made of it: the same verdict on every CPU.
#[test]
fn plumbing_changes_no_verdict() {
    let mut compared = 0;
    let vmsa = |name: &str| ROWS.bases.iter().any(|base| base.name == name && base.vmsa.is_some());
    for row in &ROWS.cases {
        let case = find(&FULL, &format!("row.{}", row.id));
        let (Some(page), None, false) = (row.vmcb.complete(), &row.vmsa, vmsa(&row.base)) else { continue };
        for limits in [&row.limits, &milan(), &limits("EPYC-Genoa-v2,+shstk,+avic,+x2avic,phys-bits=52")] {
            let host = row.environment();
            let (plain, plumbed) =
                (vmcb::check(page, limits, &host), vmcb::check(&FULL.page(case), limits, &host));
            assert_eq!(plain, plumbed, "{}", row.id);
            compared += 1;
        }
    }
    assert!(compared > 1_000, "{compared}");
}

/// What a subject with the row's CPU must say is what the row says.
#[test]
fn rows_have_their_own_verdicts() {
    let mut compared = 0;
    for row in &ROWS.cases {
        let case = find(&FULL, &format!("row.{}", row.id));
        let item = |name: &str| match row.environment.get(name).map(String::as_str) {
            None | Some("taken") => "?",
            Some(value) => value,
        };
        // Where less is known than of the payload, or of another page, the answers may differ.
        let known = ["svme", "cpl", "mem-encryption", "u-cet"].iter().all(|name| item(name) != "?");
        if case.cannot_run.is_some() || !known || item("pdptes") == "?" || case.rax != memory::VMCB {
            continue;
        }
        let verdict = verdict::expected(&FULL, case, &row.limits);
        assert_eq!(vmcb_cases::Expected::of(&verdict), row.expected, "{}", row.id);
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn rows_that_need_more_than_a_vmcb_say_so() {
    let row = |id: &str| find(&FULL, &format!("row.{id}"));
    assert_eq!(row("pre-svme-off.clear").flags, case_flag::SVME_OFF);
    assert_eq!(row("legal.hsave-pa-zero-without-snp").flags, case_flag::HSAVE_ZERO);
    assert_eq!(row("pre-vmcb-address.unaligned").rax, 0x7800);
    assert_eq!(row("sav-pdpte-reserved.bit-5").tables, Some([0, 0x6021, 0, 0]));
    assert_eq!(row("legal.pae").tables, None);
    for (id, why) in [
        ("pre-cpl.ring-3", "it asks for a host with cpl=3; the payload has 0"),
        ("legal.seves64", "it has a VMSA, which the payload does not make"),
        ("partial.cr0-unknown", "parts of its VMCB are not known"),
        ("phase.unknown-v-set", "its VMCB is one as #VMEXIT left it"),
    ] {
        assert_eq!(row(id).cannot_run.as_deref(), Some(why), "{id}");
    }
    let ids: BTreeSet<_> = FULL.cases.iter().map(|case| case.id.as_str()).collect();
    assert!(ROWS.cases.iter().all(|row| ids.contains(format!("row.{}", row.id).as_str())));
}

/// Rules that need neither SEV nor a feature that no subject of ours has.
fn plain_rules() -> Vec<Rule> {
    let refusing = Rule::ALL.iter().copied().filter(|rule| rule.row().class.refuses());
    let groups = ["ctl-", "sav-", "evt-"];
    let of_group = refusing.filter(|rule| groups.iter().any(|group| rule.id().starts_with(group)));
    // What the payload's host or the CPU does not have.
    let beyond =
        ["avic", "vnmi", "cet", "seves", "restricted-injection", "host-paging", "long-mode-unsupported"];
    of_group
        .filter(|rule| {
            let evt_hv = rule.id() == "evt-exc-hv-without-restricted-injection";
            let vc = rule.id() == "evt-exc-vc-without-seves";
            evt_hv || vc || !beyond.iter().any(|word| rule.id().contains(word))
        })
        .collect()
}

#[test]
fn each_plain_rule_is_broken_alone() {
    let mut alone = BTreeSet::new();
    for case in FULL.cases.iter().filter(|case| case.cannot_run.is_none() && case.meaningless.is_none()) {
        let verdict = verdict::expected(&FULL, case, &milan());
        if verdict.broken().len() == 1 && verdict.undecided().is_empty() {
            alone.extend(verdict.broken().iter());
        }
    }
    let rules = plain_rules();
    assert!(rules.len() >= 24, "{rules:?}");
    let missing: Vec<_> = rules.iter().filter(|rule| !alone.contains(rule)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    println!("{} rules are broken alone: {alone:?}", alone.len());
}

/// Each bit that a rule reads is flipped alone, in each mode.
#[test]
fn flips_cover_each_bit_that_a_rule_reads() {
    let ids: BTreeSet<_> = FULL.cases.iter().map(|case| case.id.as_str()).collect();
    let mut reads: BTreeMap<Word, u64> = BTreeMap::new();
    for rule in
        Rule::ALL.iter().filter(|rule| ["ctl-", "sav-", "evt-"].iter().any(|g| rule.id().starts_with(g)))
    {
        for (word, mask) in rule.reads() {
            *reads.entry(word).or_default() |= mask;
        }
    }
    let mut bits = 0;
    for (word, mask) in reads {
        let (Source::Control(field) | Source::Save(field)) = word.source() else { continue };
        for base in MODES.into_iter().chain(NESTED) {
            for bit in (0..u32::from(field.size) * 8).filter(|bit| mask >> bit & 1 == 1) {
                let id = format!("flip.{base}.{}#{bit:x}", field.name);
                assert!(ids.contains(id.as_str()), "{id}");
                bits += 1;
            }
        }
    }
    assert!(bits > 5_000, "{bits}");
    let (case, base) = (find(&FULL, "flip.np-pae.cr4#17"), find(&FULL, "base.np-pae"));
    let differ = read(&FULL.page(case), field::cr4) ^ read(&FULL.page(base), field::cr4);
    assert_eq!(differ, vmcb::Cr4::CET.bits());
}

#[test]
fn eventinj_is_complete() {
    let mut seen = BTreeSet::new();
    for case in COMMIT.cases.iter().filter(|case| case.id.starts_with("eventinj.long64#")) {
        let bits = read(&COMMIT.page(case), field::eventinj);
        assert_eq!(bits >> 32, if bits >> 11 & 1 == 1 { 0x5A5A } else { 0 }, "{}", case.id);
        assert_eq!(bits & vmcb::Event::RESERVED, 0, "{}", case.id);
        seen.insert((bits >> 31 & 1, bits >> 11 & 1, bits & 0x7FF));
    }
    assert_eq!(seen.len(), 8192);
    let case = find(&FULL, "eventinj.long64#161c");
    assert_eq!(read(&FULL.page(case), field::eventinj), 0x8000_030E);
}

#[test]
fn pairs_break_both_rules() {
    let pairs: Vec<_> = FULL.cases.iter().filter(|case| case.id.starts_with("pair.")).collect();
    assert!(pairs.len() > 100, "{}", pairs.len());
    for case in pairs {
        let rules: Vec<_> = case.id["pair.".len()..].split('+').collect();
        let verdict = verdict::expected(&FULL, case, &milan());
        assert!(verdict.broken().iter().map(Rule::id).eq(rules), "{}: {verdict:?}", case.id);
    }
}

#[test]
fn the_commit_set_kills_nobody() {
    for case in &COMMIT.cases {
        assert!(!KILLERS.iter().any(|killer| killer.cases.matches(&case.id)), "{}", case.id);
    }
    for killer in KILLERS.iter() {
        assert_eq!(killer.cases.unused(|| FULL.cases.iter().map(|case| case.id.as_str())), None);
    }
    assert!(killer("qemu-tcg", "7.2.22", "row.evt-br-in-64-bit-mode.real-with-l").is_some());
    let first =
        FULL.cases.iter().position(|case| KILLERS.iter().any(|killer| killer.cases.matches(&case.id)));
    let rest = &FULL.cases[first.expect("there are killers")..];
    assert!(
        rest.iter().all(|case| KILLERS.iter().any(|killer| killer.cases.matches(&case.id))),
        "they come last"
    );
}

/// The patterns hold all cases in the states that they are about.
#[test]
fn killers_are_named_by_what_kills() {
    let missed = |subject: &str, version: &str, kills: &dyn Fn(&Case, &[u8; 4096]) -> bool| {
        let cases = FULL.cases.iter().filter(|case| case.cannot_run.is_none() && case.meaningless.is_none());
        let missed = cases
            .filter(|case| kills(case, &FULL.page(case)) && killer(subject, version, &case.id).is_none());
        missed.map(|case| case.id.as_str()).collect::<Vec<_>>()
    };
    let has = |page: &[u8; 4096], field: Field, mask: u64, value: u64| read(page, field) & mask == value;
    let (pg, pe, lme) = (vmcb::Cr0::PG.bits(), vmcb::Cr0::PE.bits(), vmcb::Efer::LME.bits());
    let long =
        |page: &[u8; 4096]| has(page, field::efer, lme, lme) && has(page, field::cr0, pg | pe, pg | pe);
    let limits = milan();
    let verdict = |case: &Case| verdict::expected(&FULL, case, &limits);
    let none: [&str; 0] = [];
    let no_pe = |case: &Case, _: &[u8; 4096]| {
        verdict(case).broken().iter().eq([Rule::from_id("sav-lme-pg-without-pe").expect("a rule")])
    };
    assert_eq!(missed("bochs", "2.7", &no_pe), none);
    let high_cr3 = |case: &Case, page: &[u8; 4096]| {
        let plain = !has(page, field::nested_ctl, 1, 1);
        let alone = verdict(case).broken().iter().all(|rule| rule.id() == "sav-cr3-mbz-long");
        alone && long(page) && plain && read(page, field::cr3) >> 52 == 0 && read(page, field::cr3) >> 40 != 0
    };
    assert_eq!(missed("bochs", "2.7", &high_cr3), none);
    let v86 = |case: &Case, page: &[u8; 4096]| {
        let vm = vmcb::Rflags::VM.bits();
        has(page, field::rflags, vm, vm) && !long(page) && verdict(case).broken().is_empty()
    };
    assert_eq!(missed("bochs", "2.7", &v86), none);
    let outside = |case: &Case, _: &[u8; 4096]| case.rax >> 25 != 0 && verdict(case).broken().is_empty();
    assert_eq!(missed("kvm", "7.2.13", &outside), none);
    let real = |case: &Case, page: &[u8; 4096]| {
        let cs = Field { offset: field::cs.offset + 8, size: 8, ..field::cs };
        let real = has(page, field::cr0, pg | pe, 0) && read(page, cs) != 0;
        let event = read(page, field::eventinj) >> 31 & 1 == 1;
        real && event
            && has(page, field::efer, lme | vmcb::Efer::LMA.bits(), lme)
            && verdict(case).broken().is_empty()
    };
    assert_eq!(missed("qemu-tcg", "7.2.22", &real), none);
}

#[test]
fn what_is_not_compared_has_a_reason() {
    let case = find(&FULL, "flip.long64.efer#8");
    assert!(case.meaningless.as_deref().is_some_and(|why| why.contains("LMA")));
    let few = FULL.cases.iter().filter(|case| case.meaningless.is_some()).count();
    assert!((10..60).contains(&few), "{few}");
}

/// Stacks end at STACK_TOP, whatever the mode, but for virtual-8086 mode, whose handlers use the TSS's.
#[test]
fn handlers_find_their_stack() {
    for base in FULL.bases.iter().filter(|base| MODES.contains(&base.name.as_str())) {
        let ss = Field { offset: field::ss.offset + 8, size: 8, ..field::ss };
        assert_eq!(read(&base.page, ss) + read(&base.page, field::rsp), memory::STACK_TOP, "{}", base.name);
        let cs = Field { offset: field::cs.offset + 8, size: 8, ..field::cs };
        assert_eq!(read(&base.page, cs) + read(&base.page, field::rip), memory::START, "{}", base.name);
    }
    let flags = |name: &str| FULL.flags(find(&FULL, &format!("base.{name}")));
    assert_eq!(flags("np-compat"), case_flag::SLOT8);
    assert_eq!(flags("np-paged-real"), case_flag::SLOT2);
    assert_eq!(flags("v86"), case_flag::VMLOAD);
    assert_eq!(flags("pae"), 0);
}
