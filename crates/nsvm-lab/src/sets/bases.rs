//! The bases of the rows, made to run: what no rule reads is set so that L2 executes, takes events and comes back.
//!
//! This is the *plumbing*. Which bits no rule reads is taken from the rules themselves, so plumbing cannot change a
//! verdict.

use crate::case::Base;
use crate::protocol::{BASE, IMAGE_LIMIT, case_flag, memory, selector};
use std::sync::LazyLock;
use vmcb::layout::{Field, PAGE_SIZE, vmcb_field as field};
use vmcb::{
    Cr0, Cr4, CsAttributes, Efer, InterceptMisc1, InterceptMisc2, NestedCtl, Rflags, Rule, Segment,
    SegmentAttributes,
};
use vmcb_cases::Rows;

/// The six modes without nested paging; `v86` is a seventh, for events.
pub(super) const MODES: [&str; 6] = ["long64", "compat", "pae", "prot32", "paged-real", "real"];
/// The same with nested paging.
pub(super) const NESTED: [&str; 6] = ["np64", "np-compat", "np-pae", "np-prot32", "np-paged-real", "np-real"];
/// Virtual-8086 mode.
pub(super) const V86: [&str; 2] = ["v86", "np-v86"];

/// The bits of the VMCB that some rule reads.
static READ: LazyLock<[u8; PAGE_SIZE]> = LazyLock::new(|| {
    let mut read = [0; PAGE_SIZE];
    for literal in Rule::ALL.iter().flat_map(|rule| rule.row().when) {
        for (word, mask) in literal.reads() {
            if let Some(field) = word.field(false).filter(|field| field.page == vmcb::layout::Page::Vmcb) {
                let bytes = read.iter_mut().skip(usize::from(field.offset)).take(usize::from(field.size));
                for (byte, mask) in bytes.zip(mask.to_le_bytes()) {
                    *byte |= mask;
                }
            }
        }
    }
    read
});

/// The field, or its first 8 bytes, as a number.
pub(super) fn read(page: &[u8; PAGE_SIZE], field: Field) -> u64 {
    let mut value = [0; 8];
    let bytes = page.iter().skip(usize::from(field.offset)).take(usize::from(field.size));
    for (byte, from) in value.iter_mut().zip(bytes) {
        *byte = *from;
    }
    u64::from_le_bytes(value)
}

/// Writes what no rule reads, and leaves the rest as it is.
fn put(page: &mut [u8; PAGE_SIZE], offset: u16, size: u16, value: u64) {
    let range = usize::from(offset)..usize::from(offset) + usize::from(size);
    for (place, byte) in range.zip(value.to_le_bytes()) {
        page[place] = page[place] & READ[place] | byte & !READ[place];
    }
}

fn put_segment(page: &mut [u8; PAGE_SIZE], field: Field, segment: Segment) {
    put(page, field.offset, 2, segment.selector.into());
    put(page, field.offset + 2, 2, segment.attributes.bits().into());
    put(page, field.offset + 4, 4, segment.limit.into());
    put(page, field.offset + 8, 8, segment.base);
}

/// What of a guest's mode decides on its segments and its handlers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Real,
    V86,
    Protected,
    Long,
}

fn has(page: &[u8; PAGE_SIZE], field: Field, bits: u64) -> bool {
    read(page, field) & bits == bits
}

fn mode(page: &[u8; PAGE_SIZE]) -> Mode {
    if !has(page, field::cr0, Cr0::PE.bits()) {
        Mode::Real
    } else if has(page, field::efer, Efer::LME.bits()) && has(page, field::cr0, Cr0::PG.bits()) {
        Mode::Long
    } else if has(page, field::rflags, Rflags::VM.bits()) {
        Mode::V86
    } else {
        Mode::Protected
    }
}

/// The top level of page tables that map the guest's memory, for the kind of paging that the registers name.
pub(super) fn tables(page: &[u8; PAGE_SIZE]) -> [u64; 4] {
    // Supervisor pages, or CR4.SMEP and CR4.SMAP alone would end in page faults.
    let rights = if read(page, field::cpl) == 3 { 7 } else { 3 };
    let top = if !has(page, field::cr0, Cr0::PG.bits()) {
        0
    } else if has(page, field::efer, Efer::LME.bits()) {
        memory::PDPT | rights
    } else if has(page, field::cr4, Cr4::PAE.bits()) {
        // A PDPTE's other low bits are reserved.
        memory::PD | 1
    } else {
        memory::PT | rights
    };
    [top, 0, 0, 0]
}

const CODE: u16 = 0x9B;
const DATA: u16 = 0x93;
/// In virtual-8086 mode every segment is this one.
const DATA_RING3: u16 = 0xF3;
/// G and D of a flat segment.
const FLAT: u16 = 0xC00;

/// TLB_CONTROL: the whole TLB is flushed.
const FLUSH_ALL: u64 = 1;

/// Makes a VMCB run.
pub(super) fn plumb(page: &mut [u8; PAGE_SIZE]) {
    contain(page);
    let mode = mode(page);
    let segment = |selector: u16, attributes: u16, limit: u32, base: u64| Segment {
        selector,
        attributes: SegmentAttributes::from_bits(attributes),
        limit,
        base,
    };
    // The lowest byte of the real-mode stack: 4 KiB that end at STACK_TOP.
    const STACK: u64 = memory::STACK_TOP - 0x1000;
    let by_paragraph = |base: u64, attributes| segment((base >> 4) as u16, attributes, 0xFFFF, base);
    let flat = segment(selector::DATA, DATA | FLAT, u32::MAX, 0);
    let (data, stack, rsp) = match mode {
        Mode::Real => (segment(0, DATA, 0xFFFF, 0), by_paragraph(STACK, DATA), 0x1000),
        // Its handlers run on the TSS's stack; this one stands below it.
        Mode::V86 => (segment(0, DATA_RING3, 0xFFFF, 0), by_paragraph(STACK - 0x1000, DATA_RING3), 0x800),
        Mode::Protected | Mode::Long => (flat, flat, memory::STACK_TOP),
    };
    let given = read(page, Field { offset: field::cs.offset + 2, size: 2, ..field::cs }) as u16;
    let attributes = if given == 0 { CODE } else { given };
    let (code, rip) = match mode {
        Mode::Real | Mode::V86 => (by_paragraph(memory::START, attributes), 0),
        Mode::Protected | Mode::Long => {
            let long = u64::from(given) & CsAttributes::L.bits() != 0;
            let number = if mode == Mode::Long && long { selector::CODE64 } else { selector::CODE32 };
            (segment(number, attributes, u32::MAX, 0), memory::START)
        }
    };
    for other in [field::es, field::ds, field::fs, field::gs] {
        put_segment(page, other, data);
    }
    put_segment(page, field::cs, code);
    put_segment(page, field::ss, stack);
    let (table, limit) = match mode {
        Mode::Real => (memory::IVT, 256 * 4 - 1),
        Mode::V86 | Mode::Protected => (memory::IDT32, 256 * 8 - 1),
        Mode::Long => (memory::IDT64, 256 * 16 - 1),
    };
    put_segment(page, field::idtr, segment(0, 0, limit, table));
    put_segment(page, field::gdtr, segment(0, 0, u32::from(selector::TSS) + 7, memory::GDT));
    put_segment(page, field::ldtr, segment(0, 0x82, 0xFFFF, 0));
    // Not the busy type: QEMU 7.2 aborts on it when an event leaves virtual-8086 mode. VMRUN does not look at it.
    put_segment(page, field::tr, segment(selector::TSS, 0x89, 0x67, memory::TSS));
    put(page, field::rip.offset, 8, rip);
    put(page, field::rsp.offset, 8, rsp);
    put(page, field::rax.offset, 8, 0);
    // Cases share an ASID and not their tables: what one left in the TLB must not decide what the next one does.
    if read(page, field::tlb_control) == 0 {
        put(page, field::tlb_control.offset, 1, FLUSH_ALL);
    }
    let cpl = if mode == Mode::V86 { 3 } else { 0 };
    put(page, field::cpl.offset, 1, cpl);
}

/// Intercepts what L2 could do beside its VMMCALL, so that it comes back wherever it runs. Not accesses to control
/// and debug registers: the first quadword stays zero, so that the VMCB is an empty table to a CR3 that points at it.
pub(super) fn contain(page: &mut [u8; PAGE_SIZE]) {
    // Beyond these, bits of 010h are traps after the instruction, or reserved.
    const MISC2: InterceptMisc2 = InterceptMisc2::from_bits(0x7FFF);
    const MISC1: u64 = 0xFFFF_FFFF & !InterceptMisc1::NMI.bits();
    for (field, bits) in [
        (field::intercept_exceptions, 0xFFFF_FFFF),
        (field::intercept_misc1, MISC1),
        (field::intercept_misc2, MISC2.bits()),
    ] {
        put(page, field.offset, field.size, read(page, field) | bits);
    }
}

/// The flags that a guest in the mode of this VMCB needs.
pub(super) fn flags(page: &[u8; PAGE_SIZE]) -> u16 {
    match mode(page) {
        Mode::Real => case_flag::SLOT2,
        Mode::V86 => case_flag::VMLOAD,
        Mode::Protected => 0,
        Mode::Long => case_flag::SLOT8,
    }
}

/// Whether a page walk of this guest starts in the payload's own memory, to which it would write accessed bits.
pub(super) fn walks_the_payload(page: &[u8; PAGE_SIZE], tables: [u64; 4]) -> bool {
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    let inside = |entry: u64| (BASE..IMAGE_LIMIT).contains(&(entry & ADDRESS));
    if has(page, field::nested_ctl, NestedCtl::NP_ENABLE.bits()) && inside(read(page, field::n_cr3)) {
        return true;
    }
    // With nested paging what a guest names is not mapped beyond 2 MiB; but a CPU may have none and ignore the bit.
    let cr3 = read(page, field::cr3);
    let paging = has(page, field::cr0, Cr0::PG.bits());
    paging && (inside(cr3) || cr3 & ADDRESS == memory::CR3 && tables[0] & 1 == 1 && inside(tables[0]))
}

/// A row's VMCB that runs.
fn base(name: String, mut page: Box<[u8; PAGE_SIZE]>) -> Base {
    plumb(&mut page);
    Base { name, tables: tables(&page), flags: flags(&page), page }
}

/// All bases of the rows that have no VMSA, and of each mode one with nested paging.
pub(super) fn bases(rows: &Rows) -> Vec<Base> {
    let plain = rows.bases.iter().filter(|base| base.vmsa.is_none());
    let whole = plain.filter_map(|base| Some((base.name.clone(), *base.vmcb.complete()?)));
    let mut bases: Vec<_> = whole.map(|(name, page)| base(name, Box::new(page))).collect();
    for (plain, nested) in MODES.iter().zip(NESTED).chain([(&V86[0], V86[1])]) {
        let from = bases.iter().find(|base| base.name == *plain).map(|base| base.page.clone());
        if let Some(mut page) = from.filter(|_| bases.iter().all(|base| base.name != nested)) {
            let (control, root) = (usize::from(field::nested_ctl.offset), usize::from(field::n_cr3.offset));
            page[control..control + 8].copy_from_slice(&NestedCtl::NP_ENABLE.bits().to_le_bytes());
            page[root..root + 8].copy_from_slice(&memory::N_CR3.to_le_bytes());
            bases.push(base(nested.to_owned(), page));
        }
    }
    bases
}
