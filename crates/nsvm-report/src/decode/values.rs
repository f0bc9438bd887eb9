//! The bits of each kind of word.

use super::event::event;
use super::field::Field;
use super::line::{Line, part, row};
use crate::bits;
use vmcb::{Cpu, ExceptionSet, ExitCode, Word};

/// Clean bits: what each says is unchanged.
const CLEAN: [(u8, &str); 14] = [
    (0, "intercepts, TSC offset, PAUSE filter"),
    (1, "IOPM_BASE_PA and MSRPM_BASE_PA"),
    (2, "ASID"),
    (3, "int_ctl"),
    (4, "nested paging: N_CR3, G_PAT, nested control"),
    (5, "CR0, CR3, CR4, EFER"),
    (6, "DR6, DR7"),
    (7, "GDTR, IDTR"),
    (8, "CS, DS, ES, SS and CPL"),
    (9, "CR2"),
    (10, "LBR"),
    (11, "AVIC"),
    (12, "CET"),
    (31, "left to the hypervisor"),
];

pub(super) fn decode_field(field: Field, value: u64, cpu: Option<&Cpu>, out: &mut Vec<Line>) {
    let register = |word: Word, out: &mut Vec<Line>| register(word, value, out);
    match field {
        Field::Eventinj => event("EVENTINJ", value, cpu, out),
        Field::Exitintinfo => event("EXITINTINFO", value, None, out),
        Field::Exitcode => exit_code(value, out),
        Field::IntCtl => {
            register(Word::IntCtl, out);
            out.push(row("7:0", "V_TPR", value & 0xFF, "virtual task priority"));
            out.push(row("19:16", "V_INTR_PRIO", value >> 16 & 0xF, "priority of the virtual interrupt"));
        }
        Field::Attributes => attributes(value, out),
        Field::Intercepts1 => register(Word::InterceptMisc1, out),
        Field::Intercepts2 => register(Word::InterceptMisc2, out),
        Field::Intercepts3 => register(Word::InterceptMisc3, out),
        Field::Exceptions => {
            out.push(Line::Said(format!("exception intercepts {value:#x}")));
            for vector in ExceptionSet::from_intercept_word(value as u32).iter() {
                let (bit, meaning) = (vector.number(), bits::vector(vector));
                let name = vector.mnemonic().unwrap_or_default();
                out.push(part(&bit.to_string(), name, 1, &meaning, format!("bit {bit:2}  {meaning}")));
            }
        }
        Field::CrIntercepts => accesses("CR", value, out),
        Field::DrIntercepts => accesses("DR", value, out),
        Field::Cr0 => register(Word::Cr0, out),
        Field::Cr4 => register(Word::Cr4, out),
        Field::Efer => register(Word::Efer, out),
        Field::NestedCtl => register(Word::NestedCtl, out),
        Field::VirtExt => register(Word::VirtExt, out),
        Field::SevFeatures => register(Word::SevFeatures, out),
        Field::Pat => {
            out.push(Line::Said(format!("G_PAT {value:#x}")));
            for (index, text) in bits::pat(value).split(" PA").enumerate() {
                let shown = if index == 0 { text.to_owned() } else { format!("PA{text}") };
                let (low, byte) = (index * 8, value.to_le_bytes().get(index).copied().unwrap_or(0));
                let meaning = shown.clone();
                out.push(part(
                    &format!("{}:{low}", low + 7),
                    &format!("PA{index}"),
                    byte.into(),
                    &meaning,
                    shown,
                ));
            }
        }
        Field::Clean => {
            out.push(Line::Said(format!(
                "clean bits {value:#x}: a set bit says that this is as VMRUN has it cached"
            )));
            let mut rest = value;
            for (bit, what) in CLEAN {
                if value >> bit & 1 == 1 {
                    out.push(part(&bit.to_string(), "", 1, what, format!("bit {bit:2}  {what}")));
                    rest &= !(1 << bit);
                }
            }
            if rest != 0 {
                out.push(Line::Said(format!("{}: reserved", bits::bits(rest))));
            }
        }
    }
}

/// The named bits that are set, and what remains.
fn register(word: Word, value: u64, out: &mut Vec<Line>) {
    out.push(Line::Said(format!("{} {value:#x}", word.name())));
    let mut rest = value;
    for &(bit, name, meaning) in word.bit_names() {
        if value >> bit & 1 == 1 {
            let shown = format!("bit {bit:2}  {name:<18} {meaning}");
            out.push(part(&bit.to_string(), name, 1, meaning, shown));
            rest &= !(1 << bit);
        }
    }
    // V_TPR and the priority have more than one bit.
    if word == Word::IntCtl {
        rest &= !0xF_00FF;
    }
    if rest != 0 {
        out.push(Line::Said(format!(
            "{}: no name in the manual, or more than one bit wide",
            bits::bits(rest)
        )));
    }
}

fn accesses(kind: &str, value: u64, out: &mut Vec<Line>) {
    out.push(Line::Said(format!("{kind} intercepts {value:#x}")));
    for (shift, what) in [(0, "reads"), (16, "writes")] {
        let set: Vec<String> = (0..16)
            .filter(|number| value >> (shift + number) & 1 == 1)
            .map(|number| format!("{kind}{number}"))
            .collect();
        out.push(Line::Said(format!(
            "{what}: {}",
            if set.is_empty() { "none".into() } else { set.join(", ") }
        )));
    }
}

fn attributes(value: u64, out: &mut Vec<Line>) {
    let attributes = vmcb::SegmentAttributes::from_bits(value as u16);
    out.push(Line::Said(format!("segment attributes {value:#x}")));
    let (kind, dpl) = (attributes.kind(), attributes.dpl());
    out.push(part("3:0", "type", kind.into(), "", format!("bits 3:0   type {kind:#x}")));
    out.push(part("6:5", "DPL", dpl.into(), "", format!("bits 6:5   DPL {dpl}")));
    for (bit, name) in vmcb::SegmentAttributes::NAMES {
        let set = value >> bit & 1;
        out.push(part(&bit.to_string(), name, set, "", format!("bit {bit:2}     {name} = {set}")));
    }
    if attributes.beyond() != 0 {
        out.push(
            "bits 15:12 are set, which the packed layout of the VMCB never has: is this the unpacked layout of a \
             descriptor, with L at bit 13 and D/B at bit 14?"
                .into(),
        );
    }
}

fn exit_code(value: u64, out: &mut Vec<Line>) {
    let code = ExitCode::from_bits(value);
    let name = match code.to_string() {
        number if number.starts_with("0x") => "no exit code of the manual".into(),
        name => format!("VMEXIT_{name}"),
    };
    out.push(Line::Said(format!("EXITCODE {value:#x}: {name}")));
    if code.is_failure() {
        out.push(Line::Said(format!(
            "{}: VMRUN refused the VMCB and did not enter the guest",
            code.widened().bits().cast_signed()
        )));
        if code.widened() != code {
            out.push(
                "32 bits of ones and a zero upper half: some hypervisors write this for the 64-bit value"
                    .into(),
            );
        }
    } else if let Some(vector) = code.exception() {
        out.push(Line::Said(format!("the intercepted exception {}", bits::vector(vector))));
    }
    if (0xF000_0000..0xFFFF_FFFC).contains(&value) {
        out.push("F000_0000h and up are left to the hypervisor's software".into());
    }
}
