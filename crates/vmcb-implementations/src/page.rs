//! The table as a page.

use crate::table::{Check, Implementation, Row, TABLE, ids};
use std::fmt::Write as _;

/// What was read in sources, or noted of earlier runs, and came out otherwise; the table has what came out.
const CORRECTED: &[(&str, &str)] = &[
    (
        "Linux before 2026 has no check of N_CR3 and of CS.L with CS.D",
        "6.1.192, 6.12.90, 6.12.95 and 6.12.118 have both, as backports; 6.1.170, 6.12.73, 6.16.12 and 6.18.15 have not",
    ),
    ("older KVM refuses every TLB_CONTROL but 0 and 1", "6.1.170 and 6.1.192 accept every value"),
    (
        "KVM 6.12 runs L2 again and again when its CR3 points outside RAM",
        "not so on 6.12.73, 6.12.90, 6.12.95 and 6.12.118: L2 ends with a page fault or a nested page fault",
    ),
    (
        "KVM refuses the last legal page of the MSR permission map, since it cannot be read there",
        "so it does with every map outside the RAM of L1, by VMEXIT_INVALID and without a word in the trace",
    ),
    (
        "KVM checks CR4 as the rulebook does",
        "CR4.VME and CR4.PVI, among bits 10:0, are accepted without their features",
    ),
    (
        "KVM accepts EFER.LMSLE where nesting is on",
        "so it does, and QEMU below refuses it: L1 sees VMEXIT_INVALID",
    ),
    (
        "Bochs panics on high bits of CR3",
        "bits 52 to 63 do nothing, 40 to 44 and 48 end in a page fault, 45 to 47 kill it by a memory fault of its own",
    ),
    (
        "QEMU hangs on LME without LMA where paging is on",
        "there L2 runs; where EFER.LME is set without paging, #VMEXIT leaves L2's CR0 to L1, in 7.2.22 to 11.1.3, and an L1 that does not write its own again hangs or resets",
    ),
];

/// `docs/peers.md`: rules by implementations, then what differs, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What implementations check\n\nGenerated from `crates/vmcb-implementations/src/table.rs`; do not edit.\n\n\
         **yes**: as the rulebook. **no**: no check. **differs**: a check that refuses other values, see below. \
         **stops**: no check,\nand the machine stops. **?**: nobody has looked. In brackets the versions; of other \
         versions it is not known.\n\n",
    );
    page.push_str("| rule |");
    for of in Implementation::ALL {
        match only_version(of) {
            Some(version) => _ = write!(page, " {} ({version}) |", of.title()),
            None => _ = write!(page, " {} |", of.title()),
        }
    }
    page.push_str("\n| --- |");
    page.push_str(&" --- |".repeat(Implementation::ALL.len()));
    page.push('\n');
    for id in ids() {
        let _ = write!(page, "| `{id}` |");
        for of in Implementation::ALL {
            let _ = write!(page, " {} |", cell(of, id));
        }
        page.push('\n');
    }
    for of in Implementation::ALL {
        let _ = writeln!(
            page,
            "\n## {}\n\n| versions | rules | what it does | known from |\n| --- | --- | --- | --- |",
            of.title()
        );
        for row in TABLE.iter().filter(|row| row.of == of && !row.does.is_empty()) {
            let ids: Vec<String> = row.ids.split(' ').map(|id| format!("`{id}`")).collect();
            let versions = if row.versions == "*" { "all" } else { row.versions };
            let _ =
                writeln!(page, "| {versions} | {} | {} | {} |", ids.join(" "), row.in_words(), row.evidence);
        }
    }
    page.push_str(
        "\n## Where measurement corrected what was read\n\nMeasured on 2026-11-24; `results/` has the runs.\n\n\
         | was read | came out |\n| --- | --- |\n",
    );
    for (read, came_out) in CORRECTED {
        let _ = writeln!(page, "| {read} | {came_out} |");
    }
    page
}

/// The version of all observations of an implementation, where it is one.
fn only_version(of: Implementation) -> Option<&'static str> {
    let mut versions = TABLE.iter().filter(|row| row.of == of && row.versions != "*").map(|row| row.versions);
    let first = versions.next()?;
    versions.all(|version| version == first).then_some(first)
}

/// What one implementation does with one rule: each word once, with its versions.
fn cell(of: Implementation, id: &str) -> String {
    let mut words: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in Row::all(of, id) {
        let word = match row.check {
            Check::Same => "yes",
            Check::Absent => "no",
            Check::Differs(_) => "differs",
            Check::Stops => "stops",
            Check::NotSeen => continue,
        };
        match words.iter_mut().find(|(other, _)| *other == word) {
            Some((_, versions)) => versions.push(row.versions),
            None => words.push((word, vec![row.versions])),
        }
    }
    let with_versions = |(word, versions): &(&str, Vec<&str>)| match only_version(of) {
        Some(_) => (*word).to_owned(),
        None => format!("{word} ({})", versions.join(" ")),
    };
    let parts: Vec<String> = words.iter().map(with_versions).collect();
    if parts.is_empty() { "?".to_owned() } else { parts.join("<br>") }
}
