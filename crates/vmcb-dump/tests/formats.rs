//! `docs/formats.md`: what each format shows, and which rules it can decide. `cargo xtask generate` writes the page.
//!
//! What a form shows is measured, not declared: dumps are written at random and read back, and a bit counts as shown
//! if some dump of that form gave it. A rule can be decided if it is, for the minimal legal guest seen through those
//! bits, a CPU of which everything is known, and a host of which everything is known.

use crate::common;
use crate::common::sample;
use crate::generate::{Random, WRITERS};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vmcb::layout::{Page, VMCB, vmcb_field as f};
use vmcb::{Answer, Cpu, Environment, Input, KnownPage, Limits, Phase, Policy, Rule, View};
use vmcb_dump::{Found, Kind, read_all};

/// Inputs that have no writer: the samples, and what is made here.
fn others() -> Vec<Vec<u8>> {
    let mut state =
        [&3u16.to_le_bytes()[..], &1u16.to_le_bytes(), &4224u32.to_le_bytes(), &0x1000u64.to_le_bytes()]
            .concat();
    state.resize(128, 0);
    state.resize(4224, 0xFF);
    let mut inputs = vec![vec![0; 4096], common::fixture("xxd.txt"), state];
    inputs.extend(common::READ.iter().map(|name| sample(name).into_bytes()));
    inputs
}

/// The bits of the VMCB that some dump of each form showed, and the phase of each form's dumps.
fn shown() -> BTreeMap<Kind, ([u64; 512], Vec<Phase>)> {
    let mut all: BTreeMap<Kind, ([u64; 512], Vec<Phase>)> = BTreeMap::new();
    let mut take = |found: &[Found]| {
        for found in found {
            let (bits, phases) = all.entry(found.kind).or_insert(([0; 512], Vec::new()));
            for (index, word) in bits.iter_mut().enumerate() {
                *word |= found.vmcb.read(index as u16 * 8, 8).known_mask();
            }
            if !phases.contains(&found.phase) {
                phases.push(found.phase);
            }
        }
    };
    for input in others() {
        take(&read_all(&input).0);
    }
    for (_, write) in WRITERS {
        let mut random = Random(7);
        for _ in 0..500 {
            take(&read_all(write(&mut random).text.as_bytes()).0);
        }
    }
    all
}

/// The minimal legal guest, in 64-bit mode with nested paging, so far as `bits` show it.
fn legal(bits: &[u64; 512]) -> KnownPage {
    let mut page = [0u8; 4096];
    for (field, value) in [
        (f::intercept_misc2, 1u64),
        (f::guest_asid, 1),
        (f::nested_ctl, 1),
        (f::g_pat, 0x0007_0406_0007_0406),
        (f::efer, 0x1500),
        (f::cr0, 0x8001_0011),
        (f::cr4, 0x20),
        (f::cs, 0x029B_0000),
        (f::dr6, 0xFFFF_0FF0),
        (f::dr7, 0x400),
        (f::rflags, 2),
    ] {
        let (at, size) = (usize::from(field.offset), usize::from(field.size).min(8));
        page[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    let mut known = KnownPage::nothing();
    for (index, mask) in bits.iter().enumerate() {
        let word = u64::from_le_bytes(page[index * 8..index * 8 + 8].try_into().unwrap());
        known.learn(index as u16 * 8, 8, word, *mask);
    }
    known
}

/// The rules that a form leaves open, of those that the CPU can break.
fn open(bits: &[u64; 512], phase: Phase) -> Vec<Rule> {
    let cpu = Cpu::parse("EPYC-Genoa-v2,+shstk,-lmsle-unsupported,phys-bits=52").unwrap();
    let limits = Limits::compile(&cpu, Policy::VirtualCpu);
    let environment = Environment::real_host()
        .with(Input::HostMsrs.facts(), Answer::No)
        .with_vmcb_address(0x1000)
        .with_pdptes([0; 4])
        .with_u_cet(0);
    let page = legal(bits);
    View::new(&page, phase, &limits, &environment).judge().undecided().iter().collect()
}

fn page() -> String {
    let shown = shown();
    let everything = open(&[u64::MAX; 512], Phase::Before);
    let mut text = String::from(
        "<!-- Made by `cargo xtask generate`. -->\n\
         # Formats: what each shows, and what it can decide\n\n\
         `nsvm check` reads all of these, several in one input. A rule is *open* for a format where it stays undecided \
         even for a legal guest (64-bit, nested paging) on a CPU and a host of which everything is known, because the \
         format does not show what the rule reads. Which bits a format shows is measured: by reading dumps that were \
         written at random, and the samples. One dump may show less.\n\n\
         | format | shows | does not show | bytes of named fields | open rules |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    let mut lists = String::new();
    for kind in Kind::ALL {
        let (bits, phases) = shown.get(kind).unwrap_or_else(|| panic!("no dump of {kind} was read"));
        let phase = if phases.contains(&Phase::Before) { Phase::Before } else { phases[0] };
        let named: u32 = VMCB
            .iter()
            .filter(|field| !field.is_reserved() && field.page == Page::Vmcb)
            .flat_map(|field| field.offset..field.offset + field.size)
            .map(|byte| u32::from(bits[usize::from(byte / 8)] >> (byte % 8 * 8) & 0xFF != 0))
            .sum();
        let rules: Vec<&str> =
            open(bits, phase).into_iter().filter(|rule| !everything.contains(rule)).map(Rule::id).collect();
        writeln!(
            text,
            "| {} (`{}`) | {} | {} | {named} | {} |",
            kind,
            kind.id(),
            kind.shows(),
            kind.lacks(),
            rules.len()
        )
        .unwrap();
        if !rules.is_empty() && rules.len() < 25 {
            writeln!(
                lists,
                "- {kind}: {}.",
                rules.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")
            )
            .unwrap();
        }
    }
    text.push_str("\nThe open rules, where they are few:\n\n");
    text.push_str(&lists);
    text.push_str(
        "\nWhat these numbers do not say: a rule that is open for legal guests may still be decided for a broken one, by the \
         bits that are shown; and a reason that KVM or Xen itself gives (`kvm-trace-failed`, `xen-checks`) names the rule \
         without the fields.\n",
    );
    text
}

#[test]
fn generated_file_docs_formats() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats.md");
    let text = page();
    if std::env::var_os("NSVM_GENERATE").is_some() {
        std::fs::write(&path, &text).expect("the page");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/formats.md is stale: run `cargo xtask generate`");
}
