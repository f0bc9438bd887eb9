//! Which bits of a register the guest may see otherwise than the VMCB has them.
//!
//! A register dump shows what the guest would read. Between that and the VMCB stands whoever runs the guest:
//! KVM with nested paging, KVM with shadow page tables, KVM that runs a nested guest, or QEMU itself. A bit
//! counts as known only where all of them keep it, in every version.
//!
//! Registers of which nothing can be known have no place here and are never learned: CR3 is the shadow page
//! table's root without nested paging; DR6 and DR7 are the debugger's while one is used, and KVM keeps the
//! guest's DR6 elsewhere; CR2 is replaced when a page fault that waits is delivered; FS, GS, LDTR and TR are
//! VMLOAD's, so those of a nested guest stand in another VMCB and VMRUN does not look at them.

use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Cr0, Cr4, CsAttributes, Efer, Rflags};

/// Bits of one field that may differ.
struct Differs {
    field: Field,
    /// Counted in bytes from the field's first byte, as the attributes of a segment are a part of one.
    from: u16,
    /// May differ where the guest sees a one.
    ones: u64,
    /// May differ where the guest sees a zero.
    zeros: u64,
    /// With all of these shown as ones, none differs.
    unless: u64,
}

const NEVER: u64 = u64::MAX;

const fn differs(field: Field, ones: u64, zeros: u64) -> Differs {
    Differs { field, from: 0, ones, zeros, unless: NEVER }
}

const fn attributes(field: Field, ones: u64, zeros: u64) -> Differs {
    Differs { field, from: 2, ones, zeros, unless: NEVER }
}

/// Bits of a descriptor's type: accessed.
const ACCESSED: u64 = 1;
const DPL: u64 = 3 << 5;
const G: u64 = CsAttributes::G.bits();

const DIFFERS: &[Differs] = &[
    // A debugger that steps, and KVM itself where it waits for the end of an NMI handler, set both.
    differs(f::rflags, STEP, STEP),
    // Shadow page tables need paging, and they need write protection.
    differs(f::cr0, 0, Cr0::PG.bits() | Cr0::WP.bits()),
    // KVM lets the guest believe that caches are off.
    differs(f::cr0, Cr0::CD.bits() | Cr0::NW.bits(), 0),
    // Older KVM sets TS until the guest uses the FPU; the processor reads ET as one.
    differs(f::cr0, 0, Cr0::TS.bits() | Cr0::ET.bits()),
    // The host's machine checks stay on; shadow page tables are those of PAE.
    differs(f::cr4, 0, Cr4::MCE.bits() | Cr4::PAE.bits()),
    // Shadow page tables of a guest without paging are walked without these.
    differs(f::cr4, Cr4::SMEP.bits() | Cr4::SMAP.bits() | Cr4::PKE.bits(), 0),
    // Shadow page tables may have the host's levels.
    differs(f::cr4, Cr4::LA57.bits(), Cr4::LA57.bits()),
    // VMRUN demands it, so KVM sets it whatever the guest has written.
    differs(f::efer, 0, Efer::SVME.bits()),
    // Shadow page tables use no-execute.
    differs(f::efer, 0, Efer::NXE.bits()),
    // KVM takes LME away while the guest's paging is off.
    Differs { field: f::efer, from: 0, ones: Efer::LME.bits(), zeros: 0, unless: Efer::LMA.bits() },
    // KVM makes up G from the limit, since processors and other hypervisors drop it.
    attributes(f::es, G, G),
    attributes(f::cs, G, G),
    attributes(f::ss, G, G),
    attributes(f::ds, G, G),
    // KVM shows data segments as accessed.
    attributes(f::es, ACCESSED, 0),
    attributes(f::ds, ACCESSED, 0),
    // KVM shows CPL as the DPL of SS.
    attributes(f::ss, DPL, DPL),
];

const STEP: u64 = Rflags::TF.bits() | Rflags::RF.bits();

/// The bits of `shown`, what a dump shows for the part of `field` that begins `from` bytes into it, that
/// are the same in the VMCB.
pub(crate) fn same(field: Field, from: u16, shown: u64) -> u64 {
    DIFFERS
        .iter()
        .filter(|row| {
            row.field.offset == field.offset && row.from == from && shown & row.unless != row.unless
        })
        .fold(u64::MAX, |same, row| same & !(row.ones & shown | row.zeros & !shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_that_may_be_forced_is_known_only_the_other_way() {
        let cr0 = |shown| same(f::cr0, 0, shown);
        assert_eq!(cr0(Cr0::PE.bits()) & Cr0::PG.bits(), 0);
        assert_eq!(cr0(Cr0::PE.union(Cr0::PG).bits()) & Cr0::PG.bits(), Cr0::PG.bits());
        assert_eq!(cr0(0) & Cr0::CD.bits(), Cr0::CD.bits());
        assert_eq!(cr0(Cr0::CD.bits()) & Cr0::CD.bits(), 0);
        assert_eq!(cr0(0) & Cr0::PE.bits(), Cr0::PE.bits());
        let efer = |shown| same(f::efer, 0, shown);
        assert_eq!(efer(0) & Efer::SVME.bits(), 0);
        assert_eq!(efer(0) & Efer::LME.bits(), Efer::LME.bits());
        assert_eq!(efer(Efer::LME.bits()) & Efer::LME.bits(), 0);
        assert_eq!(efer(Efer::LME.union(Efer::LMA).bits()) & Efer::LME.bits(), Efer::LME.bits());
        assert_eq!(efer(0) & Efer::LMA.bits(), Efer::LMA.bits(), "LMA is the guest's in every case");
        assert_eq!(same(f::ss, 2, 0x93) & DPL, 0);
        assert_eq!(same(f::cs, 2, 0x93) & DPL, DPL);
        assert_eq!(same(f::cs, 0, 0x93), u64::MAX, "the selector");
        assert_eq!(same(f::rip, 0, 0), u64::MAX);
    }
}
