//! Random machines near the edges of the rules: a legal state in which a few things were changed.

use super::frozen::EDGES;
use super::random::Random;
use super::reference::{Machine, all_facts, feature_bit, read, write};
use super::{Case, cases};
use vmcb::layout::Page;
use vmcb::{Feature, Rule, Word};

const WIDTHS: [u8; 8] = [32, 36, 40, 47, 48, 49, 51, 52];

/// The machine that a row of the cases describes; what the row does not know is chosen.
fn from_case(case: &Case, random: &mut Random) -> Machine {
    let page = |known: &vmcb::KnownPage| {
        let mut page = [0; 4096];
        for (offset, byte) in (0..).zip(&mut page) {
            *byte = known.read(offset, 1).value() as u8;
        }
        page
    };
    let item = |name: &str| case.environment.get(name).map_or("?", String::as_str);
    let mut host = all_facts() & random.next() & random.next() & random.next();
    for &(position, name, _) in vmcb::Host::NAMES {
        let name = name.to_lowercase().replace('_', "-");
        let ring = super::number(item("cpl")).unwrap_or(0);
        let known = match name.as_str() {
            "cpl0" => Some(ring & 1 == 1),
            "cpl1" => Some(ring & 2 == 2),
            name => super::number(item(name)).ok().map(|number| number == 1),
        };
        if let Some(set) = known {
            host = host & !(1 << position) | u64::from(set) << position;
        }
    }
    let features = Feature::ALL.iter().fold(0, |all, &feature| {
        let present = case.cpu.has(feature).unwrap_or_else(|| random.one_in(2));
        if present { all | feature_bit(feature) } else { all }
    });
    let pdptes = item("pdptes").split(',').filter_map(|entry| super::number(entry).ok()).collect::<Vec<_>>();
    Machine {
        features,
        phys_bits: case.cpu.phys_bits().unwrap_or_else(|| random.pick(&WIDTHS)),
        c_bit: 51,
        asid_max: 509,
        asid_min: 100,
        host,
        vmcb_address: super::number(item("vmcb-address")).unwrap_or(0x7000),
        pdptes: pdptes.try_into().unwrap_or([0; 4]),
        u_cet: super::number(item("u-cet")).unwrap_or(0),
        vmcb: page(&case.vmcb),
        vmsa: case.vmsa.as_ref().map_or([0; 4096], page),
    }
}

/// A random machine: that of some row, its CPU perhaps changed.
pub fn machine(random: &mut Random) -> Machine {
    let cases = cases();
    let mut machine = from_case(&cases[random.below(cases.len())], random);
    for _ in 0..random.below(4) {
        match random.below(6) {
            0 | 1 => machine.features ^= 1 << random.below(Feature::ALL.len()),
            2 => machine.phys_bits = random.pick(&WIDTHS),
            3 => machine.c_bit = random.pick(&[47, 51, 40, 33, 63]),
            4 => {
                let asid = read(&machine.vmcb, 0x58, 4) as u32;
                machine.asid_max = asid.wrapping_add(random.below(3) as u32).wrapping_sub(1);
            }
            _ => {
                let asid = read(&machine.vmcb, 0x58, 4) as u32;
                machine.asid_min = asid.wrapping_add(random.below(3) as u32).wrapping_sub(1);
            }
        }
    }
    machine
}

/// The same CPU, its pages and environment changed in up to five places.
pub fn vary(machine: &Machine, random: &mut Random) -> Machine {
    let mut machine = machine.clone();
    for _ in 0..random.below(6) {
        match random.below(10) {
            0 => machine.host ^= 1 << random.below(vmcb::Host::NAMES.len()),
            1 if random.one_in(3) => machine.vmcb_address = random.next() >> random.below(64),
            2 => machine.u_cet = random.pick(&[0, 1, 2, 3, 4, 1 << 63]),
            3 => {
                let entry = 1 << random.below(64) | random.below(2) as u64 | 0x6000;
                machine.pdptes[random.below(4)] = entry;
            }
            4 | 5 => {
                // A bit that some rule reads.
                if let Some((page, offset, size, bit)) = bit_of_some_rule(random) {
                    let page = if page == Page::Vmcb { &mut machine.vmcb } else { &mut machine.vmsa };
                    let value = read(page, offset, size);
                    write(page, offset, size, value ^ bit);
                }
            }
            _ => {
                let (page, offset, size, values) = random.pick(EDGES);
                let page = if page == Page::Vmcb { &mut machine.vmcb } else { &mut machine.vmsa };
                write(page, offset, size, random.pick(values));
            }
        }
    }
    machine
}

/// A place in a page: page, offset, size, one bit.
pub fn bit_of_some_rule(random: &mut Random) -> Option<(Page, usize, usize, u64)> {
    let places = places_of(random.pick(Rule::ALL));
    if places.is_empty() {
        return None;
    }
    let (page, offset, size, mask) = random.pick(&places);
    let bits: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0).collect();
    Some((page, offset, size, random.pick(&bits)))
}

/// The bits in the pages that a rule reads; a register in both pages that may hold it.
pub fn places_of(rule: Rule) -> Vec<(Page, usize, usize, u64)> {
    let mut places = Vec::new();
    for (word, mask) in rule.reads() {
        for field in [word.field(false), word.field(true)].into_iter().flatten() {
            let size = usize::from(field.size.min(8));
            let width = if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
            if mask & width != 0 {
                places.push((field.page, usize::from(field.offset), size, mask & width));
            }
        }
        if word == Word::EventInj {
            places.push((Page::Vmsa, 0x3E0, 8, mask));
        }
    }
    places
}

/// The features and facts that a rule reads.
pub fn reads_of(rule: Rule) -> (Vec<Feature>, u64) {
    let (mut features, mut facts) = (Vec::new(), 0);
    for (word, mask) in rule.reads() {
        match word {
            Word::Cpu => {
                features.extend((0..64).filter(|bit| mask >> bit & 1 == 1).filter_map(Feature::at_bit))
            }
            Word::Host => facts |= mask & all_facts(),
            _ => {}
        }
    }
    (features, facts)
}
