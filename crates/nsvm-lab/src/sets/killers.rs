//! Cases that kill or hang a subject, and cases of which the outcome says nothing.

use super::bases::read;
use vmcb::Efer;
use vmcb::layout::{PAGE_SIZE, vmcb_field as field};

/// Cases that kill or hang a subject. Patterns: `*` is any text, `?` one character, `[ab]` and `[a-c]` one of these.
#[derive(Clone, Copy, Debug)]
pub struct Killer {
    /// The subject: `bochs`, `kvm`, `qemu-tcg`.
    pub subject: &'static str,
    /// Pattern of its versions.
    pub versions: &'static str,
    /// Patterns of the cases' ids.
    pub cases: &'static [&'static str],
    /// What happens.
    pub reason: &'static str,
}

impl Killer {
    /// Whether the case of this id is one of them.
    #[must_use]
    pub fn takes(&self, case: &str) -> bool {
        self.cases.iter().any(|pattern| matches(pattern, case))
    }
}

/// The known killers.
pub const KILLERS: &[Killer] = &[
    Killer {
        subject: "bochs",
        versions: "*",
        cases: &[
            "flip.long64.cr0#0",
            "flip.compat.cr0#0",
            "flip.np64.cr0#0",
            "flip.np-compat.cr0#0",
            "flip.*paged-real.efer#8",
            "mode.*.pg-lme#*",
            "row.sav-lme-pg-without-pe.cr0",
            "pair.*sav-lme-pg-without-pe*",
        ],
        reason: "Bochs takes EFER.LME and CR0.PG without CR0.PE for paged real mode and panics",
    },
    Killer { subject: "bochs", versions: "*", cases: HIGH_CR3, reason: "Bochs panics on bits 63:32 of CR3" },
    Killer {
        subject: "kvm",
        versions: "6.12*",
        cases: CR3_OUTSIDE_RAM,
        reason: "KVM of Linux 6.12 runs L2 again and again when its CR3 points outside RAM",
    },
    Killer {
        subject: "kvm",
        versions: "6.12*",
        cases: HIGH_CR3,
        reason: "KVM of Linux 6.12 runs L2 again and again when its CR3 points outside RAM",
    },
    Killer {
        subject: "kvm",
        versions: "7.*",
        cases: &[
            "map.*.rax.*",
            "row.pre-vmcb-address.limit*",
            "row.pre-vmcb-address.bit-63",
            "row.unknown.vmcb-address-*",
        ],
        reason: "KVM of Linux 7 stops with an internal error when the VMCB is outside RAM",
    },
    Killer {
        subject: "qemu-tcg",
        versions: "*",
        cases: &[
            "flip.long64.efer#a",
            "flip.compat.efer#a",
            "flip.np64.efer#a",
            "flip.np-compat.efer#a",
            "flip.pae.efer#8",
            "flip.np-pae.efer#8",
            "row.legal.lme-without-lma",
        ],
        reason: "QEMU takes LMA from the VMCB: LME without it, with paging, ends in shutdown or a hang",
    },
];

const HIGH_CR3: &[&str] = &[
    "flip.*.cr3#[23]?",
    "map.*.cr3.w*",
    "row.sav-cr3-*",
    "row.letter.cr3-high-*",
    "row.many.ones",
    "row.unknown.cr3-bit-*",
    "row.c-bit.feature-*",
    "row.partial.lme-unknown-cr3",
    "pair.*sav-cr3-*",
];

/// Below 2^32; the payload needs 32 MiB.
const CR3_OUTSIDE_RAM: &[&str] = &["flip.*.cr3#1[9a-f]"];

/// The killer, if this case is known to kill or hang this version of the subject.
#[must_use]
pub fn killer(subject: &str, version: &str, case: &str) -> Option<&'static Killer> {
    let of = |killer: &&Killer| killer.subject == subject && matches(killer.versions, version);
    KILLERS.iter().filter(of).find(|killer| killer.takes(case))
}

/// Cases of which the outcome is not compared: what they do depends on more than their VMCB.
#[derive(Clone, Copy, Debug)]
pub struct Meaningless {
    /// Patterns of the cases' ids, as in [`Killer`].
    pub cases: &'static str,
    /// Which of them.
    when: fn(&[u8; PAGE_SIZE]) -> bool,
    /// Why.
    pub reason: &'static str,
}

/// The table of them.
pub const MEANINGLESS: &[Meaningless] = &[
    Meaningless {
        cases: "*",
        when: |page| {
            let (efer, lme, lma) = (read(page, field::efer), Efer::LME.bits(), Efer::LMA.bits());
            efer & (lme | lma) == lma
        },
        reason: "EFER.LMA without LME: on KVM the outcome was seen to change from run to run",
    },
    Meaningless {
        // The flips of clean bits follow their base: what is cached is the same.
        cases: "row.*",
        when: |page| read(page, field::clean) != 0,
        reason: "clean bits let the CPU use what it has cached of the case before",
    },
];

/// Why the outcome of this case is not compared.
pub(super) fn meaningless(id: &str, page: &[u8; PAGE_SIZE]) -> Option<&'static str> {
    MEANINGLESS.iter().find(|row| matches(row.cases, id) && (row.when)(page)).map(|row| row.reason)
}

/// Whether the pattern is the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    let (Some(first), rest) = (pattern.chars().next(), pattern.get(1..).unwrap_or("")) else {
        return text.is_empty();
    };
    let mut left = text.chars();
    match first {
        '*' => (0..=text.len()).any(|end| text.get(end..).is_some_and(|text| matches(rest, text))),
        '?' => left.next().is_some() && matches(rest, left.as_str()),
        '[' => match (rest.split_once(']'), left.next()) {
            (Some((class, rest)), Some(letter)) => in_class(class, letter) && matches(rest, left.as_str()),
            _ => false,
        },
        letter => left.next() == Some(letter) && matches(rest, left.as_str()),
    }
}

fn in_class(class: &str, letter: char) -> bool {
    let class: Vec<_> = class.chars().collect();
    class.contains(&letter)
        || class.windows(3).any(|range| range[1] == '-' && (range[0]..=range[2]).contains(&letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c", "abcbc"),
            ("#[23]?", "#3f"),
            ("#1[9a-f]", "#1c"),
            ("a*b*", "axbx"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", "ab"), ("a*c", "abcb"), ("#[23]?", "#2"), ("#1[9a-f]", "#18"), ("?", "")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(killer("bochs", "3.0", "flip.np64.cr3#2a").is_some());
        assert!(killer("kvm", "6.12.48+deb13-amd64", "flip.np64.cr3#1b").is_some());
        assert!(killer("kvm", "6.1.0-47-amd64", "flip.np64.cr3#1b").is_none());
        assert!(killer("qemu-tcg", "7.2.22", "flip.np64.cr3#2a").is_none());
    }
}
