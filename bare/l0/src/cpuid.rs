//! CPUID as L1 sees it: what the CPU below says, with the features of the virtual CPU.

use bare_common::cpu;
use nested_svm::Nested;
use vmcb::{Cr4, Feature, Register, Vmcb};

/// The leaves that state some feature, or the width of physical addresses.
const LEAVES: [(u32, u32); 9] = [
    (1, 0),
    (7, 0),
    (7, 1),
    (0x8000_0001, 0),
    (0x8000_0007, 0),
    (0x8000_0008, 0),
    (0x8000_000A, 0),
    (0x8000_001F, 0),
    (0x8000_0021, 0),
];

/// Returns the CPU below.
pub(crate) fn host() -> vmcb::Cpu {
    vmcb::Cpu::ask_cpuid(cpu::cpuid)
}

/// Whether the CPU below has pages of 1 GiB, and so L1's: a bit that no rule reads is passed on as it is.
pub(crate) fn gib_pages() -> bool {
    cpu::cpuid(0x8000_0001, 0)[3] >> 26 & 1 == 1
}

/// Logs L1's virtual CPU, as `cpuid -r` prints it: `nsvm check LOG --cpu cpuid:LOG` reads that.
pub(crate) fn tell(nested: &Nested, vmcb: Vmcb<'_>) {
    crate::log::line(format_args!("L1's CPU by its CPUID:"));
    for (leaf, subleaf) in [(0, 0), (0x8000_0000, 0)].into_iter().chain(LEAVES) {
        let [eax, ebx, ecx, edx] = answer(nested, vmcb, leaf, subleaf);
        crate::log::plain(format_args!(
            "0x{leaf:08x} 0x{subleaf:02x}: eax=0x{eax:08x} ebx=0x{ebx:08x} ecx=0x{ecx:08x} edx=0x{edx:08x}"
        ));
    }
}

/// The answer to CPUID of L1, or of an L2 whose CPUID L1 does not intercept.
pub(crate) fn answer(nested: &Nested, vmcb: Vmcb<'_>, leaf: u32, subleaf: u32) -> [u32; 4] {
    let mut answer = cpu::cpuid(leaf, subleaf);
    if leaf > cpu::cpuid(leaf & 0x8000_0000, 0)[0] {
        return answer;
    }
    if leaf == 0x8000_000A {
        return nested.cpuid_svm();
    }
    let [eax, ebx, ecx, edx] = &mut answer;
    let virtual_cpu = nested.limits().cpu();
    for &feature in Feature::ALL {
        let bit = feature.cpuid();
        // Leaf 7 has subleaves, the others ignore ECX.
        if bit.leaf != leaf || leaf == 7 && bit.subleaf != subleaf {
            continue;
        }
        let register = match bit.register {
            Register::Eax => &mut *eax,
            Register::Ebx => &mut *ebx,
            Register::Ecx => &mut *ecx,
            Register::Edx => &mut *edx,
        };
        let mask = 1 << bit.bit;
        *register = *register & !mask | if virtual_cpu.has(feature) == Some(true) { mask } else { 0 };
    }
    // These two show bits of CR4, which here is L0's.
    let shown = |cr4: Cr4, bit: u32| if vmcb.cr4().contains(cr4) { 1 << bit } else { 0 };
    match (leaf, subleaf) {
        (1, _) => *ecx = *ecx & !(1 << 27) | shown(Cr4::OSXSAVE, 27),
        (7, 0) => *ecx = *ecx & !(1 << 4) | shown(Cr4::PKE, 4),
        (0x8000_0008, _) => {
            if let Some(bits) = virtual_cpu.phys_bits() {
                *eax = *eax & !0xFF | u32::from(bits);
            }
        }
        _ => {}
    }
    answer
}
