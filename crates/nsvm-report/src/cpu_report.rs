//! What a virtual CPU allows, and the CPUID bit that allows it.

use crate::cpu::{self, Described};
use crate::format::Format;
use crate::list::{VectorLine, vector_heading, vector_lines};
use crate::record::print;
use crate::suggest;
use serde::Serialize;
use std::io::Write;
use vmcb::{CR4_GATES, Cpu, EFER_GATES, Feature, Gate, Limits, Policy, Word};

/// The three answers to "does it have this?".
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    const fn of(known: Option<bool>) -> Self {
        match known {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Unknown,
        }
    }

    const fn allowed(self) -> &'static str {
        match self {
            Self::Yes => "allowed",
            Self::No => "not allowed",
            Self::Unknown => "unknown",
        }
    }
}

/// A CPU as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "cpu")]
struct CpuLine {
    /// As given.
    cpu: String,
    /// The nearest model and changes to it.
    spec: String,
    phys_bits: Option<u8>,
    c_bit: Option<u8>,
    sev_asid_max: Option<u32>,
    sev_asid_min: Option<u32>,
    cr4: RegisterLine,
    efer: RegisterLine,
    vectors: Vec<VectorLine>,
    features: Vec<FeatureAnswer>,
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct RegisterLine {
    /// Bits that are allowed.
    allowed: String,
    /// Bits of which it is not known whether they are.
    unknown: String,
    bits: Vec<BitAnswer>,
}

#[derive(Serialize)]
struct BitAnswer {
    bit: u8,
    name: Option<&'static str>,
    answer: Answer,
    /// The CPUID bit that decides; null where none does.
    cpuid: Option<String>,
    /// The bit is allowed where the CPUID bit is clear.
    inverted: bool,
}

#[derive(Serialize)]
struct FeatureAnswer {
    name: &'static str,
    answer: Answer,
    cpuid: String,
    meaning: &'static str,
}

fn register(word: Word, gates: impl Iterator<Item = (u64, Gate)>, cpu: &Cpu) -> RegisterLine {
    let (mut allowed, mut unknown, mut bits) = (0_u64, 0_u64, Vec::new());
    for (mask, gate) in gates {
        let answer = Answer::of(gate.is_open(cpu));
        match answer {
            Answer::Yes => allowed |= mask,
            Answer::Unknown => unknown |= mask,
            Answer::No => {}
        }
        let decides = match gate {
            Gate::Always => None,
            Gate::With(feature) | Gate::Without(feature) => Some(feature.cpuid().to_string()),
        };
        let inverted = matches!(gate, Gate::Without(_));
        for bit in (0..64_u8).filter(|bit| mask >> bit & 1 == 1) {
            let name = word.bit_names().iter().find(|(at, ..)| *at == bit).map(|(_, name, _)| *name);
            bits.push(BitAnswer { bit, name, answer, cpuid: decides.clone(), inverted });
        }
    }
    bits.sort_by_key(|answer| answer.bit);
    RegisterLine { allowed: format!("{allowed:#x}"), unknown: format!("{unknown:#x}"), bits }
}

/// Prints what the CPU allows. `text` is its description as the user wrote it.
///
/// # Errors
/// If the output cannot be written.
pub fn cpu_report(
    text: &str,
    described: Described,
    format: Format,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let Described { cpu, remarks } = described;
    let limits = Limits::compile(&cpu, Policy::VirtualCpu);
    let line = CpuLine {
        cpu: suggest::clean(text),
        spec: cpu::spec(&cpu),
        phys_bits: cpu.phys_bits(),
        c_bit: cpu.c_bit(),
        sev_asid_max: cpu.sev_asid_maximum(),
        sev_asid_min: cpu.sev_asid_minimum(),
        cr4: register(Word::Cr4, CR4_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), &cpu),
        efer: register(Word::Efer, EFER_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), &cpu),
        vectors: vector_lines(&limits).collect(),
        features: Feature::ALL
            .iter()
            .map(|&feature| FeatureAnswer {
                name: feature.name(),
                answer: Answer::of(cpu.has(feature)),
                cpuid: feature.cpuid().to_string(),
                meaning: feature.meaning(),
            })
            .collect(),
        remarks,
    };
    if format == Format::Json { print(out, &line) } else { human(&line, out) }
}

fn human(line: &CpuLine, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}", line.spec)?;
    match line.phys_bits {
        Some(bits) => writeln!(out, "\nADDRESSES are below 2^{bits} (CPUID 8000_0008 EAX[7:0])")?,
        None => {
            writeln!(out, "\nADDRESSES: the width is unknown; give phys-bits (CPUID 8000_0008 EAX[7:0])")?
        }
    }
    for (name, register) in [("CR4", &line.cr4), ("EFER", &line.efer)] {
        writeln!(
            out,
            "\n{name}: allowed {}, unknown {}; all other bits must be zero",
            register.allowed, register.unknown
        )?;
        for answer in &register.bits {
            let name = answer.name.unwrap_or("(read as zero)");
            let by = match (&answer.cpuid, answer.inverted) {
                (Some(cpuid), true) => format!("{cpuid}, where it is clear"),
                (Some(cpuid), false) => cpuid.clone(),
                (None, _) => "every CPU".to_owned(),
            };
            writeln!(out, "  {:>2}  {name:<14}  {:<11}  {by}", answer.bit, answer.answer.allowed())?;
        }
    }
    writeln!(out, "\nEXCEPTIONS")?;
    vector_heading(out)?;
    line.vectors.iter().try_for_each(|vector| vector.human(out))?;
    writeln!(out, "\nFEATURES that rules read")?;
    for feature in &line.features {
        let answer = match feature.answer {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "unknown",
        };
        writeln!(out, "  {:<22} {answer:<8} {:<24} {}", feature.name, feature.cpuid, feature.meaning)?;
    }
    for (name, value) in [
        ("c-bit", line.c_bit.map(u32::from)),
        ("sev-asid-max", line.sev_asid_max),
        ("sev-asid-min", line.sev_asid_min),
    ] {
        if let Some(value) = value {
            writeln!(out, "  {name:<22} {value}")?;
        }
    }
    Ok(())
}
