//! Random machines near the edges of the rules: a legal state in which a few things were changed.

use super::random::Random;
use super::reference::{Machine, all_facts, feature_bit, read, write};
use super::{Case, cases};
use vmcb::layout::Page;
use vmcb::{Feature, Rule, Word};

/// A field that some rule reads, and values at its edges; the first ones are legal.
const EDGES: &[(Page, usize, usize, &[u64])] = {
    use Page::{Vmcb, Vmsa};
    const EVENTS: &[u64] = &[
        0,
        0x8000_0020,
        0x8000_0202,
        0x8000_0306,
        0x8000_0480,
        0x8000_0B0E,
        0x8000_0120,
        0x8000_0302,
        0x8000_0303,
        0x8000_0304,
        0x8000_0305,
        0x8000_0309,
        0x8000_030F,
        0x8000_0315,
        0x8000_031C,
        0x8000_0B1C,
        0x8000_031D,
        0x8000_031F,
        0x8000_0320,
        0x8000_0520,
        0x8000_0718,
    ];
    const ADDRESSES: &[u64] = &[
        0,
        0x3000,
        0xFFFF_D000,
        0xFFFF_E000,
        0xFFFF_F000,
        0x1_0000_0000,
        0xFF_FFFF_D000,
        0xFF_FFFF_E000,
        0xFF_FFFF_F000,
        0x100_0000_0000,
        0x8000_0000_0000,
        0xFFFF_FFFF_D000,
        0xFFFF_FFFF_E000,
        0xFFFF_FFFF_F000,
        0x1_0000_0000_0000,
        0x8_0000_0000_0000,
        0x8_8000_0000_0000,
        0xF_FFFF_FFFF_D000,
        0xF_FFFF_FFFF_E000,
        0xF_FFFF_FFFF_F000,
        0x10_0000_0000_0000,
        0x8000_0000_0000_0000,
        0xFFFF_FFFF_FFFF_FFFF,
        0x3FE7,
    ];
    const EFER: &[u64] =
        &[0x1000, 0x1500, 0x1400, 0x1100, 0x500, 0x1D01, 0x3500, 0x9500, 0x15FE, 0x1700, 0x20_5D01];
    const CR0: &[u64] =
        &[0x10, 0x11, 0x8000_0011, 0x8001_0011, 0x8000_0010, 0xA000_0011, 0xE000_0011, 0x1_8000_0011];
    const CR4: &[u64] = &[0, 0x20, 0x7FF, 0x77_1FFF, 0x80_0020, 0x80_0000, 0x2020, 0x100_0020];
    const CS: &[u64] = &[0x9B, 0x29B, 0xC9B, 0x69B];
    const HIGH: &[u64] = &[0, 0x400, 0xFFFF_0FF0, 0x1_0000_0000, 0x8000_0000_0000_0000];
    const RFLAGS: &[u64] = &[2, 0x2_0002];
    const CET: &[u64] = &[0, 1, 2, 3, 4, 0x8000_0000_0000_0000];
    const PAT: &[u64] = &[
        0,
        0x0007_0406_0007_0406,
        0x0101_0101_0101_0101,
        2,
        0x0300,
        0x08_0000,
        0xF8_0000_0000,
        0x0200_0000_0000_0000,
    ];
    const COUNTER: &[u64] = &[0, 0x40_0000, 0xFFFF_FFFF_FFBF_FFFF];
    &[
        (Vmcb, 0x00C, 4, &[0, 2, 0xFFFF_FFFD]),
        (Vmcb, 0x010, 4, &[1, 0, 0xFFFF_FFFE]),
        (Vmcb, 0x040, 8, ADDRESSES),
        (Vmcb, 0x048, 8, ADDRESSES),
        (Vmcb, 0x058, 4, &[1, 0, 99, 100, 509, 510, 0xFFFF_FFFF]),
        (Vmcb, 0x060, 4, &[0, 0x8000_0000, 0xC000_0000, 0x4000_0000, 0x0400_0000, 0xFFFF_FFFF]),
        (Vmcb, 0x090, 8, &[0, 1, 2, 3, 4, 5, 6, 7]),
        (Vmcb, 0x0A8, 8, EVENTS),
        (Vmcb, 0x0B0, 8, ADDRESSES),
        (Vmcb, 0x0B8, 8, &[0, 1, 8, 9]),
        (Vmcb, 0x0E0, 8, ADDRESSES),
        (Vmcb, 0x0F0, 8, ADDRESSES),
        (Vmcb, 0x0F8, 8, ADDRESSES),
        (Vmcb, 0x0F8, 8, &[0, 0xFF, 0x100, 0x1FF, 0x200, 0xFFF]),
        (Vmcb, 0x138, 8, &[0, 1, 0x8000_0000_0000_0001, 0x8000_0000_0000_0081, 0xBFFF_FFFF_FFFF_FFFE]),
        (Vmcb, 0x412, 2, CS),
        (Vmcb, 0x4D0, 8, EFER),
        (Vmcb, 0x548, 8, CR4),
        (Vmcb, 0x550, 8, ADDRESSES),
        (Vmcb, 0x558, 8, CR0),
        (Vmcb, 0x560, 8, HIGH),
        (Vmcb, 0x568, 8, HIGH),
        (Vmcb, 0x570, 8, RFLAGS),
        (Vmcb, 0x5E0, 8, CET),
        (Vmcb, 0x668, 8, PAT),
        (Vmsa, 0x012, 2, CS),
        (Vmsa, 0x0C0, 8, CET),
        (Vmsa, 0x0D0, 8, EFER),
        (Vmsa, 0x0E0, 8, COUNTER),
        (Vmsa, 0x130, 8, COUNTER),
        (Vmsa, 0x148, 8, CR4),
        (Vmsa, 0x150, 8, ADDRESSES),
        (Vmsa, 0x158, 8, CR0),
        (Vmsa, 0x160, 8, HIGH),
        (Vmsa, 0x168, 8, HIGH),
        (Vmsa, 0x170, 8, RFLAGS),
        (Vmsa, 0x1D0, 8, &[0, 1, 0x20, 0x40]),
        (Vmsa, 0x1E0, 8, CET),
        (Vmsa, 0x268, 8, PAT),
        (Vmsa, 0x320, 8, ADDRESSES),
        (Vmsa, 0x320, 8, &[0, 1, 0x1_0000_0000_0001, 0x8_0000_0000_0001, 0xF_FFFF_FFFF_F001]),
        (Vmsa, 0x3B0, 8, &[0, 1, 9, 0x11, 0x19, 0x10, 0x1_0001, 0x1_0009, 0x1801, 0x8001, 0x40, 0x81]),
        (Vmsa, 0x3B8, 8, &[0, 0x0400_0000, 0x4000_0000, 0x8000_0000_0000_0000]),
        (Vmsa, 0x3E0, 8, EVENTS),
    ]
};

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
    for literal in rule.row().when {
        literal.reads(&mut |word, mask| {
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
        });
    }
    places
}

/// The features and facts that a rule reads.
pub fn reads_of(rule: Rule) -> (Vec<Feature>, u64) {
    let (mut features, mut facts) = (Vec::new(), 0);
    for literal in rule.row().when {
        literal.reads(&mut |word, mask| match word {
            Word::Cpu => {
                features.extend((0..64).filter(|bit| mask >> bit & 1 == 1).filter_map(Feature::at_bit))
            }
            Word::Host => facts |= mask & all_facts(),
            _ => {}
        });
    }
    (features, facts)
}
