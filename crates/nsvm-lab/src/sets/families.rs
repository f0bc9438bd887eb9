//! The generated families.

use super::bases::{MODES, NESTED, V86, read, tables};
use super::builder::{Builder, Write};
use crate::protocol::memory;
use std::collections::BTreeSet;
use vmcb::layout::{Field, Page, vmcb_field as field};
use vmcb::{Cr0, Cr4, CsAttributes, Efer, Event, EventType, Rule, Source, Vector, Word};

/// ERRORCODE where EV is set. 16 bits wide, so that the whole of it is pushed whatever the width of a stack word,
/// and as no exception of the guest would make it.
const ERROR_CODE: u32 = 0x5A5A;

/// A field of the VMCB by the name that the rows use.
struct Named {
    name: String,
    field: Field,
}

impl Named {
    fn of(field: Field) -> Self {
        Self { name: field.name.to_owned(), field }
    }

    fn attributes(segment: Field) -> Self {
        let field = Field { offset: segment.offset + 2, size: 2, ..segment };
        Self { name: format!("{}.attributes", segment.name), field }
    }
}

/// The fields that rules read, in the order of the words; those that only rules about SEV guests read apart.
fn checked() -> (Vec<Named>, Vec<Named>) {
    let (mut plain, mut all) = (BTreeSet::new(), BTreeSet::new());
    for rule in Rule::ALL {
        let about_sev = ["sev-", "seves-", "snp-"].iter().any(|group| rule.id().starts_with(group));
        for (word, _) in rule.reads() {
            all.insert(word);
            if !about_sev {
                plain.insert(word);
            }
        }
    }
    let fields = |words: &mut dyn Iterator<Item = &Word>| {
        words
            .filter(|word| matches!(word.source(), Source::Control(_) | Source::Save(_)))
            .filter_map(|word| word.field(false))
            .filter(|field| field.page == Page::Vmcb)
            .map(Named::of)
            .collect()
    };
    (fields(&mut plain.iter()), fields(&mut all.difference(&plain)))
}

/// What people expect to be checked and is not (`cases/legal.txt`).
fn neighbours() -> Vec<Named> {
    let whole = [
        field::intercept_misc3,
        field::tlb_control,
        field::erap_control,
        field::v_intr_vector,
        field::interrupt_state,
        field::virt_ext,
        field::cpl,
    ];
    let segments = [field::es, field::ss, field::ds, field::fs, field::gs, field::ldtr, field::tr];
    whole.into_iter().map(Named::of).chain(segments.into_iter().map(Named::attributes)).collect()
}

/// Every base as it is; each bit of the checked fields and of their neighbours alone, in all modes.
pub(super) fn bases_and_flips(builder: &mut Builder) {
    let (plain, sev) = checked();
    let neighbours = neighbours();
    let is_new = |field: &&Named| !neighbours.iter().any(|other| other.field.offset == field.field.offset);
    let names: Vec<_> = builder.bases().iter().map(|base| base.name.clone()).collect();
    for (base, name) in names.iter().enumerate() {
        builder.add(format!("base.{name}"), base, &[]);
        if !MODES.contains(&name.as_str()) && !NESTED.contains(&name.as_str()) {
            continue;
        }
        // First: what a clean bit keeps is then the base itself.
        flip(builder, base, &Named::of(field::clean), 0..32);
        for named in plain.iter().chain(&neighbours) {
            flip(builder, base, named, 0..8 * named.field.size);
        }
        if matches!(name.as_str(), "long64" | "np64") {
            for named in sev.iter().filter(is_new) {
                flip(builder, base, named, 0..8 * named.field.size);
            }
            // Bits below lead to code that is none of ours.
            flip(builder, base, &Named::of(field::rip), 21..64);
        }
    }
}

fn flip(builder: &mut Builder, base: usize, named: &Named, bits: std::ops::Range<u16>) {
    let Named { name, field } = named;
    let (stem, value) = {
        let base = &builder.bases()[base];
        (format!("flip.{}.{name}", base.name), read(&base.page, *field))
    };
    for bit in bits {
        builder.add(format!("{stem}#{bit:x}"), base, &[Write::field(*field, value ^ 1 << bit)]);
    }
}

/// EVENTINJ.
pub(super) fn events(builder: &mut Builder) {
    for (base, name) in builder.named(&[&MODES[..], &NESTED, &V86].concat()) {
        for number in 0..0x2000_u64 {
            let (valid, kind) = (number >> 12 & 1 == 1, (number >> 9 & 7) as u8);
            let (vector, error) = ((number >> 1) as u8, number & 1 == 1);
            let few = valid && (kind == 3 || matches!(vector, 0x0D | 0x20));
            if name != "long64" && !few {
                continue;
            }
            let event = Event::new(EventType::from_bits(kind), Vector::new(vector));
            let event = if error { event.with_error_code(ERROR_CODE) } else { event };
            let bits = if valid { event.bits() } else { event.bits() & !Event::V };
            let id = format!("eventinj.{name}#{number:x}");
            builder.add(id, base, &[Write::field(field::eventinj, bits)]);
        }
    }
    let legal = [
        Event::new(EventType::EXCEPTION, Vector::new(14)).with_error_code(ERROR_CODE),
        Event::new(EventType::INTERRUPT, Vector::new(0x20)),
        Event::new(EventType::NMI, Vector::new(2)),
        Event::new(EventType::SOFTWARE, Vector::new(0x80)),
    ];
    for (base, name) in builder.named(&[&MODES[..], &NESTED, &V86].concat()) {
        for event in legal {
            for bit in 12..31 {
                let id = format!("eventbit.{name}.{:08x}#{bit:x}", event.bits() as u32);
                builder.add(id, base, &[Write::field(field::eventinj, event.bits() | 1 << bit)]);
            }
        }
    }
}

/// Values that no single bit gives.
pub(super) fn values(builder: &mut Builder) {
    for (base, name) in builder.named(&["long64", "np64"]) {
        for (field, values) in [(field::tlb_control, 0..=7), (field::interrupt_state, 0..=3)] {
            for value in values {
                let id = format!("value.{name}.{}#{value:x}", field.name);
                builder.add(id, base, &[Write::field(field, value)]);
            }
        }
    }
}

/// Addresses around 2^W: the last legal places of tables of one, two and three pages for a CPU of that width, and the
/// first illegal ones.
pub(super) fn maps(builder: &mut Builder) {
    const WIDTHS: [u32; 8] = [32, 36, 39, 40, 43, 46, 48, 52];
    let places = |width: u32| {
        (0..6_u64).flat_map(move |page| [0, 1, 0xFFF].map(|low| (1 << width) - 0x4000 + page * 0x1000 + low))
    };
    for (names, fields) in [
        (&["long64", "np64"][..], &[field::iopm_base_pa, field::msrpm_base_pa][..]),
        (&["np64", "np-pae", "np-real"], &[field::n_cr3]),
        (&["long64", "compat", "pae", "prot32", "paged-real", "np64"], &[field::cr3]),
        (
            &["avic64", "x2avic64"],
            &[field::avic_backing_page, field::avic_logical_table, field::avic_physical_table],
        ),
    ] {
        for (base, name) in builder.named(names) {
            for field in fields {
                for width in WIDTHS {
                    for (number, address) in places(width).enumerate() {
                        let id = format!("map.{name}.{}.w{width}#{number:x}", field.name);
                        builder.add(id, base, &[Write::field(*field, address)]);
                    }
                }
            }
        }
    }
    for (base, name) in builder.named(&["long64"]) {
        for width in WIDTHS {
            for (number, address) in places(width).enumerate() {
                builder.add(format!("map.{name}.rax.w{width}#{number:x}"), base, &[]).rax = address;
            }
        }
        for bit in 0..12 {
            let case = builder.add(format!("flip.{name}.rax#{bit:x}"), base, &[]);
            case.rax = memory::VMCB ^ 1 << bit;
        }
    }
}

/// Each byte of G_PAT.
pub(super) fn memory_types(builder: &mut Builder) {
    for (name, bytes) in [("np64", 0..8), ("long64", 0..1)] {
        for (base, name) in builder.named(&[name]) {
            for byte in bytes.clone() {
                for value in 0..=0xFF {
                    let id = format!("pat.{name}.byte{byte}#{value:x}");
                    let write = Write { offset: field::g_pat.offset + byte, size: 1, value };
                    builder.add(id, base, &[write]);
                }
            }
        }
    }
}

/// The four page directory pointer entries.
pub(super) fn pdptes(builder: &mut Builder) {
    for (base, name) in builder.named(&["pae", "np-pae"]) {
        let entries = builder.bases()[base].tables;
        for entry in 0..4 {
            for bit in 0..64 {
                let mut changed = entries;
                // Present ones: of others no bit is looked at.
                changed[entry] = entries[0] ^ 1 << bit;
                builder.add(format!("pdpte.{name}.{entry}#{bit:x}"), base, &[]).tables = Some(changed);
            }
        }
    }
}

/// All combinations of the bits that make the guest's mode.
pub(super) fn modes(builder: &mut Builder) {
    for (base, name) in builder.named(&["long64", "np64"]) {
        let page = *builder.bases()[base].page;
        let cs = Named::attributes(field::cs).field;
        for bits in 0..1 << 8 {
            let on = |bit: u32, mask: u64| if bits >> bit & 1 == 1 { mask } else { 0 };
            let with =
                |field: Field, clear: u64, set: u64| Write::field(field, read(&page, field) & !clear | set);
            let named = [(7, "pg"), (6, "pe"), (5, "lme")]
                .map(|(bit, name)| if bits >> bit & 1 == 1 { name } else { "" });
            let named: Vec<_> = named.into_iter().filter(|name| !name.is_empty()).collect();
            let stem = if named.is_empty() { "none".to_owned() } else { named.join("-") };
            // As VMRUN would compute it: LMA alone is not what this is about.
            let lma = if bits >> 7 & bits >> 5 & 1 == 1 { Efer::LMA.bits() } else { 0 };
            let cr0 =
                on(7, Cr0::PG.bits()) | on(6, Cr0::PE.bits()) | on(4, Cr0::CD.bits()) | on(3, Cr0::NW.bits());
            let writes = [
                with(field::cr0, Cr0::PG.union(Cr0::PE).bits(), cr0),
                with(field::efer, Efer::LME.union(Efer::LMA).bits(), on(5, Efer::LME.bits()) | lma),
                with(field::cr4, Cr4::PAE.bits(), on(2, Cr4::PAE.bits())),
                with(
                    cs,
                    CsAttributes::L.union(CsAttributes::D).bits(),
                    on(1, CsAttributes::L.bits()) | on(0, CsAttributes::D.bits()),
                ),
            ];
            let mut changed = page;
            for (offset, byte) in writes.iter().flat_map(|write| write.bytes()) {
                changed[usize::from(offset)] = byte;
            }
            let id = format!("mode.{name}.{stem}#{:x}", bits & 0x1F);
            builder.add(id, base, &writes).tables = Some(tables(&changed));
        }
    }
}

/// Whether a case belongs into the set that is run often: all events in 64-bit mode and all rows; of the flips those
/// in 64-bit mode, and elsewhere the edges of the registers that make the mode.
pub(super) fn is_quick(id: &str) -> bool {
    const EDGES: [&str; 9] = ["0", "8", "c", "11", "1d", "1f", "20", "30", "3f"];
    const MODE: [&str; 9] = ["cr0", "cr3", "cr4", "efer", "dr6", "dr7", "rflags", "nested_ctl", "n_cr3"];
    let (stem, number) = id.split_once('#').unwrap_or((id, ""));
    let mut parts = stem.splitn(3, '.');
    let mut part = || parts.next().unwrap_or("");
    let (family, base, field) = (part(), part(), part());
    match family {
        "eventinj" | "eventbit" | "mode" => base == "long64",
        "pdpte" => base == "pae",
        "pat" => base == "np64" && field == "byte0",
        "map" => field.ends_with(".w40"),
        "flip" => {
            // Without SEV-ES and AVIC no rule reads these; the full set shows that nobody else does.
            let idle = ["perf_", "allowed_", "avic_"].iter().any(|begins| field.starts_with(begins));
            let nested = !idle && !neighbours().iter().any(|other| other.name == field) && field != "rip";
            match base {
                "long64" => !idle,
                "np64" => nested,
                _ => MODE.contains(&field) && EDGES.contains(&number) || field == "cs.attributes",
            }
        }
        _ => true,
    }
}
