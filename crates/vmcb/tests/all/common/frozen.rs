//! The corpus that published limits are held to. **Nothing here may change**: digests of the verdicts are
//! recorded against it in `tests/limits`. What is new goes elsewhere.

use super::fact;
use super::random::Random;
use super::reference::{read, write};
use vmcb::layout::Page;
use vmcb::{Answer, Environment, Host};

/// A field that some rule reads, and values at its edges; the first ones are legal.
pub const EDGES: &[(Page, usize, usize, &[u64])] = {
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

/// Facts about the host, and whether each holds where a real hypervisor executes VMRUN.
const FACTS: [(&str, bool); 20] = [
    ("svme", true),
    ("pe", true),
    ("vm", false),
    ("cpl", false),
    ("pg", true),
    ("long64", true),
    ("smm", false),
    ("hsave-pa-zero", false),
    ("smmlock", true),
    ("mem-encryption", true),
    ("snp-enabled", true),
    ("ibs-fetch", false),
    ("ibs-op", false),
    ("sibling-active", false),
    ("vmcb-not-hypervisor-owned", false),
    ("vmsa-not-hypervisor-owned", false),
    ("vmsa-rmp-check-fails", false),
    ("avic-page-not-hypervisor-owned", false),
    ("vmsa-load-fails", false),
    // Once more, so that it is the other way round as often as not.
    ("mem-encryption", false),
];

/// Offset and value of 8 bytes each.
type Fields = &'static [(usize, u64)];

/// Fields of the legal states: 64-bit, PAE, SEV-ES with SNP, AVIC, virtual-8086
/// with shadow stacks, SEV, SNP with IBS virtualization and Secure AVIC. Registers stand in both pages.
const STATES: [(Fields, Fields); 7] = [
    (
        &[(0x10, 1), (0x40, 0x10000), (0x48, 0x20000), (0x58, 100), (0x90, 1), (0xB0, 0x5000)],
        &[(0x10, 0x29B_0000), (0xD0, 0x1500), (0x148, 0x20), (0x150, 0x3000), (0x158, 0x8000_0011)],
    ),
    (
        &[(0x10, 1), (0x40, 0x10000), (0x48, 0x20000), (0x58, 100)],
        &[(0x10, 0xC9B_0000), (0xD0, 0x1000), (0x148, 0x20), (0x150, 0x3000), (0x158, 0x8000_0011)],
    ),
    (
        &[(0x10, 1), (0x40, 0x10000), (0x48, 0x20000), (0x58, 100), (0x90, 7), (0xB0, 0x5000), (0xB8, 1)],
        &[
            (0x10, 0x29B_0000),
            (0xD0, 0x1500),
            (0x148, 0x20),
            (0x150, 0x3000),
            (0x158, 0x8000_0011),
            (0x3B0, 1),
        ],
    ),
    (
        &[
            (0x10, 1),
            (0x40, 0x10000),
            (0x48, 0x20000),
            (0x58, 100),
            (0x60, 0x8000_0000),
            (0x90, 7),
            (0xB0, 0x5000),
            (0xB8, 1),
        ],
        &[(0x10, 0xC9B_0000), (0xD0, 0x1000), (0x148, 0x20), (0x150, 0x3000), (0x158, 0x8000_0011)],
    ),
    (
        &[(0x10, 1), (0x40, 0x10000), (0x48, 0x20000), (0x58, 100)],
        &[(0x10, 0xF3_0000), (0xD0, 0x1000), (0x148, 0x80_0000), (0x158, 0x8001_0011), (0x170, 0x2_0002)],
    ),
    (
        &[(0x10, 1), (0x40, 0x10000), (0x48, 0x20000), (0x58, 99), (0x90, 3), (0xB0, 0x5000)],
        &[(0x10, 0x29B_0000), (0xD0, 0x1500), (0x148, 0x20), (0x150, 0x3000), (0x158, 0x8000_0011)],
    ),
    (
        &[(0x10, 1), (0x40, 0x10000), (0x48, 0x20000), (0x58, 1), (0x90, 7), (0xB0, 0x5000), (0xB8, 1)],
        &[
            (0x10, 0xC9B_0000),
            (0xD0, 0x1000),
            (0x148, 0x20),
            (0x158, 0x8000_0011),
            (0x320, 0x3001),
            (0x3B0, 0x1_1001),
        ],
    ),
];

/// A VMCB, its VMSA and its environment.
pub struct State {
    pub vmcb: [u8; 4096],
    pub vmsa: [u8; 4096],
    pub environment: Environment<'static>,
}

/// The `number`th state of the corpus.
pub fn state(number: u64) -> State {
    let random = &mut Random::new(number);
    let (mut vmcb, mut vmsa) = ([0; 4096], [0; 4096]);
    let (control, registers) = random.pick(&STATES);
    for &(offset, value) in control {
        write(&mut vmcb, offset, 8, value);
    }
    for &(offset, value) in registers {
        if offset < 0x300 {
            write(&mut vmcb, 0x400 + offset, 8, value);
        }
        write(&mut vmsa, offset, 8, value);
    }
    for _ in 0..random.below(10) {
        let (page, offset, size, values) = random.pick(EDGES);
        let page = if page == Page::Vmcb { &mut vmcb } else { &mut vmsa };
        let before = read(page, offset, size);
        let bit = 1 << random.below(8 * size);
        write(page, offset, size, if random.one_in(8) { before ^ bit } else { random.pick(values) });
    }
    let mut environment = Environment::unknown();
    for (name, holds) in FACTS {
        let holds = holds != random.one_in(16);
        let answer = match (random.one_in(32), holds) {
            (true, _) => Answer::Unknown,
            (_, true) => Answer::Yes,
            (_, false) => Answer::No,
        };
        // Of CPL, both bits.
        environment = environment.with(fact(name).unwrap_or(Host::from_bits(0)), answer);
    }
    environment = match random.below(4) {
        0 => environment.with_vmcb_address(random.next() >> random.below(64)),
        _ => environment.with_vmcb_address(0x7000),
    };
    environment = environment.with_u_cet(random.pick(&[0, 0, 1, 4]));
    let entry = random.next() >> random.below(64) & random.next();
    environment = environment.with_pdptes([0x6001, entry, 0, 0]);
    State { vmcb, vmsa, environment }
}
