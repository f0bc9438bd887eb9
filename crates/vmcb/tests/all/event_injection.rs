//! EVENTINJ completely: every (V, TYPE, VECTOR, EV) in six guest modes, for every combination of SHSTK,
//! SEV-ES, SNP, Restricted and Alternate Injection, against a second formulation.
//!
//! The second formulation is written from the manual's sentences, in plain numbers. It uses no table of
//! the library: where both agree, neither has a slip of the pen.

use crate::common::check;
use crate::common::random::Random;
use vmcb::{
    Answer, Cpu, Environment, Event, Feature, GuestMode, Host, Limits, Policy, Rule, RuleSet, Verdict, Vmsa,
    check_event,
};

/// What decides about an event, as VMRUN finds it.
#[derive(Clone, Copy, Debug)]
struct Guest {
    mode: &'static Mode,
    /// The CPU has shadow stacks.
    shstk: bool,
    /// The CPU has SEV-ES.
    cpu_has_seves: bool,
    /// The guest is an SEV-ES (or SNP) guest; the next two only ever where it is.
    seves: bool,
    restricted: bool,
    alternate: bool,
}

/// A mode of the guest and the registers that put it there.
#[derive(Debug)]
struct Mode {
    name: &'static str,
    efer: u64,
    cr0: u64,
    cr4: u64,
    cs_attributes: u16,
}

const MODES: [Mode; 6] = [
    Mode { name: "64-bit", efer: 0x1500, cr0: 0x8000_0011, cr4: 0x20, cs_attributes: 0x29B },
    Mode { name: "compatibility", efer: 0x1500, cr0: 0x8000_0011, cr4: 0x20, cs_attributes: 0xC9B },
    Mode { name: "PAE", efer: 0x1000, cr0: 0x8000_0011, cr4: 0x20, cs_attributes: 0xC9B },
    // CS.L means nothing outside long mode, so it may be set: the mode does not follow from CS alone.
    Mode { name: "32-bit", efer: 0x1000, cr0: 0x8000_0011, cr4: 0, cs_attributes: 0x29B },
    Mode { name: "paged real", efer: 0x1000, cr0: 0x8000_0010, cr4: 0, cs_attributes: 0x9B },
    // Nor does it follow from EFER.LME and CS.L without CR0.PG.
    Mode { name: "real", efer: 0x1100, cr0: 0x10, cr4: 0, cs_attributes: 0x29B },
];

/// The rules that an event breaks, as sets: those that refuse, and those whose outcome is not stated.
///
/// # Source
/// 15.20, "VECTOR", "TYPE" and the list of what exits with VMEXIT_INVALID; 8.2 and table 8-1 for the
/// vectors; 15.35.8 for SEV-ES; 15.36.16 for Restricted and Alternate Injection.
fn by_the_manual(low: u32, guest: Guest) -> (RuleSet, RuleSet) {
    let only = RuleSet::only;
    let mut refused = RuleSet::EMPTY;
    let mut unstated = RuleSet::EMPTY;
    // "V: set to 1 to inject."
    if low & 0x8000_0000 == 0 {
        return (refused, unstated);
    }
    let vector = low % 256;
    let kind = low / 256 % 8;
    let pushes_error_code = low & 0x800 != 0;
    // "TYPE: 0 external or virtual interrupt, 2 NMI, 3 exception, 4 software interrupt": "a reserved
    // value of TYPE has been specified".
    if kind != 0 && kind != 2 && kind != 3 && kind != 4 {
        refused = refused.union(only(Rule::EvtTypeReserved));
    }
    // "TYPE = 3 has been specified with a vector that does not correspond to an exception (this includes
    // vector 2, which is an NMI, not an exception)."
    if kind == 3 {
        refused = refused.union(match vector {
            0 | 1 | 3..=8 | 10..=14 | 16..=19 | 30 => RuleSet::EMPTY,
            2 => only(Rule::EvtExcVector2),
            9 => only(Rule::EvtExcVector9),
            15 | 20 | 22..=27 | 31 => only(Rule::EvtExcVectorReserved),
            21 if guest.shstk => RuleSet::EMPTY,
            21 => only(Rule::EvtExcCpWithoutShstk),
            // "#HV": only with Restricted Injection, which is for SNP-active guests.
            28 if guest.restricted => RuleSet::EMPTY,
            28 => only(Rule::EvtExcHvWithoutRestrictedInjection),
            29 if guest.cpu_has_seves => RuleSet::EMPTY,
            29 => only(Rule::EvtExcVcWithoutSeves),
            _ => only(Rule::EvtExcVectorAbove31),
        });
        // "An exception that cannot occur in the guest's mode": #BR in 64-bit mode is the example; #OF is
        // our application.
        if guest.mode.name == "64-bit" && vector == 5 {
            refused = refused.union(only(Rule::EvtBrIn64BitMode));
        }
        if guest.mode.name == "64-bit" && vector == 4 {
            unstated = unstated.union(only(Rule::EvtExcImpossibleForGuestMode));
        }
    }
    // "Software interrupts and exception vectors 3 and 4 may not be injected."
    if guest.seves && (kind == 4 || kind == 3 && (vector == 3 || vector == 4)) {
        refused = refused.union(only(Rule::EvtSevesSoftOrBpOf));
    }
    // "#HV with no error code is the only event that may be injected."
    if guest.restricted && !(kind == 3 && vector == 28 && !pushes_error_code) {
        refused = refused.union(only(Rule::EvtRestrictedInjection));
    }
    (refused, unstated)
}

/// V, TYPE, VECTOR and EV: 8,192 words; the bits that must not matter are filled from `random`.
fn words(random: &mut Random) -> impl Iterator<Item = u64> {
    (0..8192_u64).map(|index| {
        let meant = (index >> 12 & 1) << 31 | index & 0xFFF;
        random.next() & 0xFFFF_FFFF_7FFF_F000 | meant
    })
}

const SEV_FEATURES: [(Feature, u64); 3] =
    [(Feature::SevSnp, 1), (Feature::RestrictedInjection, 1 << 3), (Feature::AlternateInjection, 1 << 4)];

fn cpu(combination: u32) -> Cpu {
    let all = Cpu::parse("EPYC-Genoa-v2,+sme,+sev,phys-bits=52,c-bit=51,sev-asid-max=509,sev-asid-min=100");
    let [snp, restricted, alternate] = SEV_FEATURES.map(|(feature, _)| feature);
    [Feature::Shstk, Feature::SevEs, snp, restricted, alternate]
        .into_iter()
        .enumerate()
        .fold(all.unwrap(), |cpu, (bit, feature)| cpu.with(feature, combination >> bit & 1 == 1))
}

fn environment() -> Environment<'static> {
    let yes = Host::SMMLOCK.union(Host::MEM_ENCRYPTION).union(Host::SNP_ENABLED);
    let mode = Host::SVME.union(Host::PE).union(Host::PG).union(Host::LONG64);
    let all = Host::NAMES.iter().fold(0, |all, (position, ..)| all | 1 << position);
    Environment::unknown()
        .with(Host::from_bits(all), Answer::No)
        .with(yes.union(mode), Answer::Yes)
        .with_vmcb_address(0x7000)
        .with_pdptes([0; 4])
        .with_u_cet(0)
}

fn put(page: &mut [u8; 4096], offset: usize, value: u64) {
    page[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// A VMCB that is legal for a plain, an SEV and an SEV-ES guest, and its VMSA: the registers stand in both.
fn pages(mode: &Mode, nested_ctl: u64, sev_features: u64) -> ([u8; 4096], [u8; 4096]) {
    let (mut vmcb, mut vmsa) = ([0; 4096], [0; 4096]);
    for (offset, value) in [
        (0x10, 1),
        (0x40, 0x10000),
        (0x48, 0x20000),
        (0x58, 200),
        (0x90, nested_ctl),
        (0xB0, 0x5000),
        (0xB8, 1),
    ] {
        put(&mut vmcb, offset, value);
    }
    for (page, base) in [(&mut vmcb, 0x400), (&mut vmsa, 0)] {
        for (offset, value) in [
            (0x10, u64::from(mode.cs_attributes) << 16),
            (0xD0, mode.efer),
            (0x148, mode.cr4),
            (0x150, 0x3000),
            (0x158, mode.cr0),
            (0x168, 0xFFFF_0FF0),
            (0x160, 0x400),
            (0x170, 2),
            (0x268, 0x0007_0406_0007_0406),
        ] {
            put(page, base + offset, value);
        }
    }
    put(&mut vmsa, 0x3B0, sev_features);
    (vmcb, vmsa)
}

#[track_caller]
fn compare(word: u64, guest: Guest, how: &str, found: Verdict, broken: RuleSet, unstated: RuleSet) {
    let same = found.broken() == broken && found.unstated() == unstated && found.unknown().is_empty();
    assert!(same, "{word:#018x} by {how} for {guest:?}\n{found:?}\nthe manual: {broken:?} {unstated:?}");
}

/// One guest: all words, on a page and alone.
fn all_words(guest: Guest, limits: &Limits, nested_ctl: u64, sev_features: u64, random: &mut Random) {
    let (mut vmcb, mut vmsa) = pages(guest.mode, nested_ctl, sev_features);
    let both = if guest.restricted && guest.alternate {
        RuleSet::only(Rule::SnpRestrictedAndAlternate)
    } else {
        RuleSet::EMPTY
    };
    let injection = GuestMode::OTHER;
    let injection = if guest.mode.name == "64-bit" { GuestMode::BITS_64 } else { injection };
    let injection = match (guest.seves, guest.restricted, guest.alternate) {
        (false, ..) => Some(injection),
        (_, false, false) => Some(injection.with_sev_es()),
        (_, true, false) => Some(injection.with_restricted_injection()),
        (_, false, true) => Some(injection.with_alternate_injection()),
        // Refused whatever is injected, so nobody asks.
        (_, true, true) => None,
    };
    for word in words(random) {
        let (broken, unstated) = by_the_manual(word as u32, guest);
        put(&mut vmcb, 0xA8, word);
        let environment = environment().with_vmsa(Vmsa::Page(&vmsa));
        let found = check(&vmcb, limits, &environment);
        if guest.alternate {
            // "The EventInjCtlr field in the VMCB (offset A8h) is ignored on VMRUN."
            compare(word, guest, "check, 0A8h", found, both, RuleSet::EMPTY);
        } else {
            compare(word, guest, "check", found, broken, unstated);
        }
        if let Some(mode) = injection {
            let event = Event::from_bits(word);
            let found = check_event(event, mode, limits);
            if guest.alternate {
                compare(word, guest, "check_event", found, RuleSet::EMPTY, RuleSet::EMPTY);
            } else {
                compare(word, guest, "check_event", found, broken, unstated);
            }
            let yes = limits.accepts_event(event, mode);
            assert_eq!(yes, found.is_accepted(), "{word:#x} by accepts_event for {guest:?}");
        }
        if guest.alternate {
            // The event comes from the VMSA. That VMRUN checks it there, no section says: undecided.
            put(&mut vmcb, 0xA8, 0);
            let mut with_event = vmsa;
            put(&mut with_event, 0x3E0, word);
            let environment = environment.with_vmsa(Vmsa::Page(&with_event));
            let found = check(&vmcb, limits, &environment);
            compare(word, guest, "check, VMSA 3E0h", found, both, broken.union(unstated));
        }
    }
    // Whatever the field holds when nothing is to be injected.
    put(&mut vmcb, 0xA8, 0);
    put(&mut vmsa, 0x3E0, 0);
}

/// CPUs of every combination, and a guest that asks for everything: what the CPU lacks is off.
#[test]
fn every_event_on_every_cpu_for_a_guest_that_asks_for_everything() {
    let mut random = Random::new(1);
    for combination in 0..32 {
        let [shstk, seves, snp, restricted, alternate] =
            [0, 1, 2, 3, 4].map(|bit| combination >> bit & 1 == 1);
        let limits = Limits::compile(&cpu(combination), Policy::VirtualCpu);
        for mode in &MODES {
            let guest = Guest {
                mode,
                shstk,
                cpu_has_seves: seves,
                seves,
                restricted: seves && snp && restricted,
                alternate: seves && snp && alternate,
            };
            all_words(guest, &limits, 7, 0x19, &mut random);
        }
    }
}

/// One CPU that has everything, with and without shadow stacks, and guests that ask for every combination.
#[test]
fn every_event_for_every_guest_on_a_cpu_that_has_everything() {
    let mut random = Random::new(2);
    for combination in 0..32 {
        let [shstk, seves, snp, restricted, alternate] =
            [0, 1, 2, 3, 4].map(|bit| combination >> bit & 1 == 1);
        let limits = Limits::compile(&cpu(0b11110 | combination & 1), Policy::VirtualCpu);
        let sev_features = SEV_FEATURES
            .iter()
            .zip([snp, restricted, alternate])
            .fold(0, |all, ((_, bit), on)| if on { all | bit } else { all });
        for mode in &MODES {
            let guest = Guest {
                mode,
                shstk,
                cpu_has_seves: true,
                seves,
                restricted: seves && snp && restricted,
                alternate: seves && snp && alternate,
            };
            all_words(guest, &limits, if seves { 7 } else { 3 }, sev_features, &mut random);
        }
    }
}

/// Guests without any SEV, on the path that accepts; with the policy that lets the vectors by feature pass.
#[test]
fn every_event_for_plain_guests_by_both_policies() {
    let mut random = Random::new(3);
    let by_feature =
        [Rule::EvtExcCpWithoutShstk, Rule::EvtExcVcWithoutSeves, Rule::EvtExcHvWithoutRestrictedInjection];
    for (shstk, seves) in [(false, false), (false, true), (true, false), (true, true)] {
        let combination = u32::from(shstk) | u32::from(seves) << 1;
        let limits = Limits::compile(&cpu(combination), Policy::VirtualCpu);
        let fixed = Limits::compile(&cpu(combination), Policy::FixedVectors);
        for mode in &MODES {
            let guest = Guest {
                mode,
                shstk,
                cpu_has_seves: seves,
                seves: false,
                restricted: false,
                alternate: false,
            };
            all_words(guest, &limits, 1, 0, &mut random);
            let (mut vmcb, _) = pages(mode, 0, 0);
            let injection = if mode.name == "64-bit" { GuestMode::BITS_64 } else { GuestMode::OTHER };
            for word in words(&mut random) {
                let (broken, unstated) = by_the_manual(word as u32, guest);
                let broken = broken.difference(by_feature.into_iter().collect());
                put(&mut vmcb, 0xA8, word);
                compare(word, guest, "fixed", check(&vmcb, &fixed, &environment()), broken, unstated);
                let found = check_event(Event::from_bits(word), injection, &fixed);
                compare(word, guest, "fixed, check_event", found, broken, unstated);
            }
        }
    }
}
