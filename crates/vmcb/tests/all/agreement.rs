//! Two formulations, two paths, and any state of knowledge: all agree.
//!
//! On random machines near the edges of the rules; the seed is fixed, `VMCB_SEED` sets another one.

use crate::common::Expected;
use crate::common::check;
use crate::common::generate::{bit_of_some_rule, machine, places_of, reads_of, vary};
use crate::common::random::Random;
use crate::common::reference::{Machine, NO_C_BIT, all_facts, feature_bit, read, write};
use vmcb::layout::Page;
use vmcb::{
    Answer, Cpu, Environment, Feature, Host, KnownPage, Limits, Phase, Policy, Rule, RuleSet, View, Vmsa,
    judge,
};

fn seed() -> u64 {
    std::env::var("VMCB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// How many rounds; `VMCB_ROUNDS` multiplies them.
fn rounds(count: usize) -> usize {
    count * std::env::var("VMCB_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

#[test]
fn check_judge_and_the_second_formulation_agree() {
    let mut random = Random::new(seed());
    let mut broken_by = [0_u32; Rule::ALL.len()];
    let mut accepted = 0;
    // Compiling limits costs more than using them: each CPU has ten machines.
    let mut of_cpu = machine(&mut random);
    let mut limits = Limits::compile(&of_cpu.cpu(), Policy::VirtualCpu);
    for round in 0..rounds(60_000) {
        if round % 10 == 0 {
            of_cpu = machine(&mut random);
            limits = Limits::compile(&of_cpu.cpu(), Policy::VirtualCpu);
        }
        let machine = vary(&of_cpu, &mut random);
        let environment = machine.environment();
        let found = check(&machine.vmcb, &limits, &environment);
        let (broken, unstated) = machine.broken();
        let wanted = Expected { broken, unstated, unknown: RuleSet::EMPTY };
        assert_eq!(Expected::of(&found), wanted, "round {round}: check\n{}", describe(&machine));
        let (vmcb, vmsa) = (KnownPage::all(&machine.vmcb), KnownPage::all(&machine.vmsa));
        let environment = environment.with_vmsa(Vmsa::Known(&vmsa));
        let judged = judge(&vmcb, Phase::Before, &limits, &environment);
        assert_eq!(judged, found, "round {round}: judge\n{}", describe(&machine));
        accepted += u32::from(found.is_accepted());
        for rule in broken.union(unstated).iter() {
            broken_by[Rule::ALL.iter().position(|&other| other == rule).unwrap()] += 1;
        }
    }
    // The generator is worth its name: each rule is broken often, and the legal is frequent.
    let rare: Vec<_> = Rule::ALL.iter().zip(broken_by).filter(|&(_, count)| count < 20).collect();
    assert!(rare.is_empty(), "hardly ever broken: {rare:?}");
    assert!(accepted > 3_000, "{accepted} accepted");
}

/// A hypervisor may know little of CPU and environment: the pass that accepts gives the judge's verdict.
#[test]
fn check_agrees_with_judge_where_cpu_and_environment_are_partly_known() {
    let mut random = Random::new(seed() ^ 0x10);
    let mut of_cpu = machine(&mut random);
    let mut known_of_cpu = Hidden::default();
    let mut limits = Limits::compile(&of_cpu.cpu(), Policy::VirtualCpu);
    for round in 0..rounds(40_000) {
        if round % 10 == 0 {
            of_cpu = machine(&mut random);
            known_of_cpu = Hidden {
                phys_bits: random.one_in(3),
                c_bit: random.one_in(3),
                asids: random.one_in(3),
                ..Hidden::default()
            };
            for _ in 0..random.below(6) {
                known_of_cpu.features |= 1 << random.below(Feature::ALL.len());
            }
            limits = Limits::compile(&known_of_cpu.cpu(&of_cpu), Policy::VirtualCpu);
        }
        let machine = vary(&of_cpu, &mut random);
        let mut hidden = known_of_cpu.clone();
        hidden.host = all_facts() & random.next() & random.next() & random.next();
        hidden.u_cet = random.one_in(3);
        hidden.vmcb_address = random.one_in(3);
        hidden.pdptes = random.one_in(3);
        let vmsa = KnownPage::all(&machine.vmsa);
        let mut environment = hidden.environment(&machine, &vmsa);
        match random.below(4) {
            0 => environment = environment.with_vmsa(Vmsa::Unknown),
            1 => environment = environment.with_vmsa(Vmsa::Page(&machine.vmsa)),
            _ => {}
        }
        for &input in vmcb::Input::ALL {
            if random.one_in(8) {
                environment = environment.take_over(input);
            }
        }
        let found = check(&machine.vmcb, &limits, &environment);
        let judged = judge(&KnownPage::all(&machine.vmcb), Phase::Before, &limits, &environment);
        assert_eq!(found, judged, "round {round}\n{}\n{hidden:?}", describe(&machine));
    }
}

/// What is not known of a machine.
#[derive(Clone, Debug, Default)]
struct Hidden {
    features: u64,
    host: u64,
    /// Single bits of the pages: page, offset, size, bit.
    bits: Vec<(Page, usize, usize, u64)>,
    phys_bits: bool,
    c_bit: bool,
    asids: bool,
    u_cet: bool,
    vmcb_address: bool,
    pdptes: bool,
}

impl Hidden {
    fn cpu(&self, machine: &Machine) -> Cpu {
        // What is not parsed is not known.
        let mut text = vec!["any".to_owned()];
        if !self.phys_bits {
            text.push(format!("phys-bits={}", machine.phys_bits));
        }
        if !self.c_bit {
            text.push(format!("c-bit={}", machine.c_bit));
        }
        if !self.asids {
            text.push(format!("sev-asid-max={}", machine.asid_max));
            text.push(format!("sev-asid-min={}", machine.asid_min));
        }
        let text = text.join(",");
        let cpu = Cpu::parse(&text).unwrap();
        Feature::ALL.iter().fold(cpu, |cpu, &feature| {
            if self.features & feature_bit(feature) == 0 {
                cpu.with(feature, machine.has(feature))
            } else {
                cpu.without_knowing(feature)
            }
        })
    }

    fn page(&self, page: &[u8; 4096], which: Page) -> KnownPage {
        let mut known = KnownPage::all(page);
        for &(at, offset, size, bit) in self.bits.iter().filter(|(at, ..)| *at == which) {
            let byte = (offset + bit.trailing_zeros() as usize / 8) as u16;
            let mask = 1 << (bit.trailing_zeros() % 8);
            let before = known.read(byte, 1);
            let kept = before.known_mask() & 0xFF & !mask;
            known.forget(byte, 1);
            known.learn(byte, 1, before.value() & kept, kept);
            assert!(at == which && size <= 8);
        }
        known
    }

    fn environment<'a>(&self, machine: &Machine, vmsa: &'a KnownPage) -> Environment<'a> {
        let known = all_facts() & !self.host;
        let mut environment = Environment::unknown()
            .with(Host::from_bits(known & !machine.host), Answer::No)
            .with(Host::from_bits(known & machine.host), Answer::Yes)
            .with_vmsa(Vmsa::Known(vmsa));
        if !self.vmcb_address {
            environment = environment.with_vmcb_address(machine.vmcb_address);
        }
        if !self.pdptes {
            environment = environment.with_pdptes(machine.pdptes);
        }
        if !self.u_cet {
            environment = environment.with_u_cet(machine.u_cet);
        }
        environment
    }

    /// Calls `visit` with every completion; of what has too many, with those that differ for some rule.
    fn completions(&self, machine: &Machine, visit: &mut dyn FnMut(&Machine)) {
        let mut choices: Vec<Vec<Change>> = Vec::new();
        let flip = |change: Change| vec![Change::Nothing, change];
        let bits = |mask: u64| (0..64).map(|bit| 1_u64 << bit).filter(move |bit| mask & bit != 0);
        choices.extend(bits(self.features).map(|bit| flip(Change::Feature(bit))));
        choices.extend(bits(self.host).map(|bit| flip(Change::Host(bit))));
        let mut seen = Vec::new();
        for &(page, offset, _, bit) in &self.bits {
            let byte = offset + bit.trailing_zeros() as usize / 8;
            let place = (page, byte, 1 << (bit.trailing_zeros() % 8));
            if !seen.contains(&place) {
                seen.push(place);
                choices.push(flip(Change::Bit(place.0, place.1, place.2)));
            }
        }
        if self.phys_bits {
            choices.push((32..=52).map(Change::PhysBits).collect());
        }
        if self.c_bit {
            // Where all parts that are known have it, or elsewhere.
            choices.push([47, 51, NO_C_BIT].map(Change::CBit).to_vec());
        }
        if self.asids {
            // Every number is possible: those about the ASID tell all answers from each other.
            let asid = read(&machine.vmcb, 0x58, 4) as u32;
            let numbers = [0, asid.saturating_sub(1), asid, asid.saturating_add(1), u32::MAX];
            choices.push(numbers.map(Change::AsidMax).to_vec());
            choices.push(numbers.map(Change::AsidMin).to_vec());
        }
        if self.u_cet {
            choices.push([0, 1, 4, 5].map(Change::UCet).to_vec());
        }
        if self.vmcb_address {
            choices.push([0x1000, 0x1001].map(Change::VmcbAddress).to_vec());
        }
        if self.pdptes {
            choices.push([[0; 4], [3, 0, 0, 0]].map(Change::Pdptes).to_vec());
        }
        each(&choices, machine, &mut machine.clone(), visit);
    }
}

#[derive(Clone, Copy)]
enum Change {
    Nothing,
    Feature(u64),
    Host(u64),
    Bit(Page, usize, u8),
    PhysBits(u8),
    CBit(u8),
    AsidMax(u32),
    AsidMin(u32),
    UCet(u64),
    VmcbAddress(u64),
    Pdptes([u64; 4]),
}

impl Change {
    /// Makes `changed` differ from `machine` by this, or by nothing in the same place.
    fn make(self, machine: &Machine, changed: &mut Machine, undo: bool) {
        match self {
            Self::Nothing => {}
            Self::Feature(bit) => {
                changed.features = changed.features & !bit | (machine.features ^ once(bit, undo)) & bit
            }
            Self::Host(bit) => changed.host = changed.host & !bit | (machine.host ^ once(bit, undo)) & bit,
            Self::Bit(page, byte, bit) => {
                let (from, to) = match page {
                    Page::Vmcb => (&machine.vmcb, &mut changed.vmcb),
                    Page::Vmsa => (&machine.vmsa, &mut changed.vmsa),
                };
                let flip = if undo { 0 } else { bit };
                to[byte] = to[byte] & !bit | (from[byte] ^ flip) & bit;
            }
            Self::PhysBits(bits) => changed.phys_bits = if undo { machine.phys_bits } else { bits },
            Self::CBit(bit) => changed.c_bit = if undo { machine.c_bit } else { bit },
            Self::AsidMax(number) => changed.asid_max = if undo { machine.asid_max } else { number },
            Self::AsidMin(number) => changed.asid_min = if undo { machine.asid_min } else { number },
            Self::UCet(value) => changed.u_cet = if undo { machine.u_cet } else { value },
            Self::VmcbAddress(value) => {
                changed.vmcb_address = if undo { machine.vmcb_address } else { value }
            }
            Self::Pdptes(entries) => changed.pdptes = if undo { machine.pdptes } else { entries },
        }
    }
}

const fn once(bit: u64, undo: bool) -> u64 {
    if undo { 0 } else { bit }
}

fn each(choices: &[Vec<Change>], machine: &Machine, changed: &mut Machine, visit: &mut dyn FnMut(&Machine)) {
    let Some((first, rest)) = choices.split_first() else { return visit(changed) };
    for &change in first {
        change.make(machine, changed, false);
        each(rest, machine, changed, visit);
        change.make(machine, changed, true);
    }
}

/// A rule is decided exactly when all completions agree.
#[test]
fn judging_is_exact() {
    let mut random = Random::new(seed() ^ 0x20);
    let (mut completions, mut undecided) = (0_u64, 0_u64);
    for round in 0..rounds(3_000) {
        let machine = vary(&machine(&mut random), &mut random);
        // What one rule reads, so that much of what is hidden matters to it.
        let rule = random.pick(Rule::ALL);
        let places = places_of(rule);
        let (features, facts) = reads_of(rule);
        let mut hidden = Hidden::default();
        for _ in 0..random.below(7) {
            if random.one_in(8) || places.is_empty() {
                hidden.bits.extend(bit_of_some_rule(&mut random));
            } else {
                let (page, offset, size, mask) = random.pick(&places);
                let bits: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0).collect();
                hidden.bits.push((page, offset, size, random.pick(&bits)));
            }
        }
        for _ in 0..random.below(3) {
            let any = random.pick(Feature::ALL);
            let feature = if features.is_empty() || random.one_in(6) { any } else { random.pick(&features) };
            hidden.features |= feature_bit(feature);
        }
        if random.one_in(3) {
            let facts: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| facts & bit != 0).collect();
            hidden.host |= if facts.is_empty() { 1 << random.below(20) } else { random.pick(&facts) };
        }
        hidden.phys_bits = random.one_in(6);
        hidden.c_bit = random.one_in(6);
        hidden.asids = random.one_in(12);
        hidden.u_cet = random.one_in(10);
        hidden.vmcb_address = random.one_in(10);
        hidden.pdptes = random.one_in(10);

        let limits = Limits::compile(&hidden.cpu(&machine), Policy::VirtualCpu);
        let vmcb = hidden.page(&machine.vmcb, Page::Vmcb);
        let vmsa = hidden.page(&machine.vmsa, Page::Vmsa);
        let environment = hidden.environment(&machine, &vmsa);
        let view = View::new(&vmcb, Phase::Before, &limits, &environment);
        let found = view.judge();
        for rule in found.unknown().iter() {
            assert!(
                view.missing(rule).next().is_some(),
                "round {round}: {} lacks nothing\n{}",
                rule.id(),
                describe(&machine)
            );
        }

        let (mut always_refused, mut always, mut sometimes) = (RuleSet::ALL, RuleSet::ALL, RuleSet::EMPTY);
        hidden.completions(&machine, &mut |completion| {
            let (broken, unstated) = completion.broken();
            let met = broken.union(unstated);
            always_refused = always_refused.intersection(broken);
            always = always.intersection(met);
            sometimes = sometimes.union(met);
            completions += 1;
        });
        let wanted = Expected {
            broken: always_refused,
            unstated: always.difference(always_refused),
            unknown: sometimes.difference(always),
        };
        undecided += u64::from(!wanted.unknown.is_empty());
        assert_eq!(
            Expected::of(&found),
            wanted,
            "round {round}\n{}\n{hidden:x?}\nhidden features {:?}",
            describe(&machine),
            Feature::ALL.iter().filter(|&&f| hidden.features & feature_bit(f) != 0).collect::<Vec<_>>()
        );
    }
    // Not vacuous.
    assert!(completions > 50_000 && undecided > 500, "{completions} completions, {undecided} undecided");
}

/// However much is hidden: what is decided stays decided when everything is revealed.
#[test]
fn revealing_never_changes_a_decided_answer() {
    let mut random = Random::new(seed() ^ 0x30);
    for round in 0..rounds(6_000) {
        let machine = vary(&machine(&mut random), &mut random);
        let full = {
            let limits = Limits::compile(&machine.cpu(), Policy::VirtualCpu);
            Expected::of(&check(&machine.vmcb, &limits, &machine.environment()))
        };
        let mut hidden = Hidden {
            features: random.next() & random.next(),
            host: random.next() & random.next(),
            phys_bits: random.one_in(2),
            // Elsewhere than at bits 47 and 51 the C-bit has to be said.
            c_bit: random.one_in(2) && matches!(machine.c_bit, 47 | 51),
            asids: random.one_in(2),
            u_cet: random.one_in(2),
            vmcb_address: random.one_in(2),
            pdptes: random.one_in(2),
            bits: Vec::new(),
        };
        hidden.host &= all_facts();
        let hide = |page: &[u8; 4096], random: &mut Random| {
            let mut known = KnownPage::all(page);
            let range = [(0x000, 0x150), (0x400, 0x270)];
            for (start, length) in range {
                for _ in 0..random.below(80) {
                    let at = start + random.below(length) as u16;
                    let mask = random.next() & random.next() & 0xFF;
                    let value = known.read(at, 1);
                    known.forget(at, 1);
                    known.learn(at, 1, value.value() & mask, mask & value.known_mask());
                }
            }
            known
        };
        let (vmcb, vmsa) = (hide(&machine.vmcb, &mut random), hide(&machine.vmsa, &mut random));
        let limits = Limits::compile(&hidden.cpu(&machine), Policy::VirtualCpu);
        let mut environment = hidden.environment(&machine, &vmsa);
        if random.one_in(3) {
            environment = environment.with_vmsa(Vmsa::Unknown);
        }
        let found = judge(&vmcb, Phase::Before, &limits, &environment);
        let what = || format!("round {round}\n{}\n{hidden:x?}\n{found:?}\n{full:?}", describe(&machine));
        assert_eq!(found.broken().difference(full.broken), RuleSet::EMPTY, "{}", what());
        let met = full.broken.union(full.unstated);
        assert_eq!(found.unstated().difference(met), RuleSet::EMPTY, "{}", what());
        let possible = found.broken().union(found.undecided());
        assert_eq!(met.difference(possible), RuleSet::EMPTY, "not even possible: {}", what());
    }
}

/// The machine in the words of a case's row, or near enough to make one.
fn describe(machine: &Machine) -> String {
    let mut text = format!(
        "phys-bits={} c-bit={} asids {}..={} host {:#x} rax {:#x} pdptes {:x?} u-cet {:#x}\n  features",
        machine.phys_bits,
        machine.c_bit,
        machine.asid_min,
        machine.asid_max,
        machine.host,
        machine.vmcb_address,
        machine.pdptes,
        machine.u_cet,
    );
    for feature in Feature::ALL.iter().filter(|&&feature| machine.has(feature)) {
        text += &format!(" {}", feature.name());
    }
    for (name, page, fields) in [
        ("\n  ", &machine.vmcb, &vmcb::layout::VMCB[..]),
        ("\n  vmsa.", &machine.vmsa, &vmcb::layout::VMSA[..]),
    ] {
        for field in fields {
            for part in (0..field.size.min(16)).step_by(8) {
                let size = usize::from(field.size - part).min(8);
                let value = read(page, usize::from(field.offset + part), size);
                if value != 0 {
                    text += &format!("{name}{}+{part}={value:#x}", field.name);
                }
            }
        }
    }
    text
}

/// The helpers themselves: a page is written and read back.
#[test]
fn reading_gives_what_was_written() {
    let mut page = [0; 4096];
    write(&mut page, 0x10, 4, 0x1234_5678);
    assert_eq!((read(&page, 0x10, 8), read(&page, 0x12, 2)), (0x1234_5678, 0x1234));
}
