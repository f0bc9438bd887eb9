//! `--cpu`: the virtual CPU, by name, from a file, or that of this machine.

mod cpuinfo;
mod decoded;
mod libvirt;
mod machine;
mod spec;
mod table;

pub(crate) use spec::spec;

use crate::error::Error;
use crate::near;
use std::io::{Read as _, Write as _};
use std::path::Path;
use vmcb::{Cpu, CpuError, Feature, MODELS};

/// The settings with a value that `Cpu::parse` knows.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("phys-bits", "physical address width in bits, 32 to 52 (MAXPHYADDR, CPUID 8000_0008 EAX[7:0])"),
    ("c-bit", "position of the memory encryption bit (CPUID 8000_001F EBX[5:0])"),
    ("sev-asid-max", "number of encrypted guests (CPUID 8000_001F ECX)"),
    ("sev-asid-min", "lowest ASID for SEV without SEV-ES (CPUID 8000_001F EDX)"),
];

/// Where a CPU may come from, other than from a name.
pub(crate) const SOURCES: [(&str, &str); 3] = [
    ("file:PATH", "cpuid's output (raw or decoded), libvirt's XML (domain, capabilities), /proc/cpuinfo"),
    ("cpuid:PATH", "the same, by its older name"),
    ("host", "CPUID of this machine"),
];

/// No description of a CPU is larger than this.
const MOST_BYTES: u64 = 16 << 20;

/// A CPU, and what should be known of where it comes from.
pub(crate) struct Described {
    pub(crate) cpu: Cpu,
    /// Sentences without a full stop.
    pub(crate) remarks: Vec<String>,
}

impl From<Cpu> for Described {
    fn from(cpu: Cpu) -> Self {
        Self { cpu, remarks: Vec::new() }
    }
}

/// The CPU of `--cpu`; remarks go to the standard error.
pub(crate) fn parse(text: &str) -> Result<Cpu, Error> {
    describe_aloud(text).map(|described| described.cpu)
}

/// [`describe`], with the remarks printed to the standard error.
pub(crate) fn describe_aloud(text: &str) -> Result<Described, Error> {
    let described = describe(text)?;
    let mut stderr = anstream::stderr().lock();
    for remark in &described.remarks {
        // Where it cannot be said, the answer still holds.
        let _ = writeln!(stderr, "note: --cpu: {remark}");
    }
    Ok(described)
}

/// The CPU of `--cpu`: a source and changes after commas.
fn describe(text: &str) -> Result<Described, Error> {
    let file = text.strip_prefix("file:").or_else(|| text.strip_prefix("cpuid:"));
    let (described, changes) = if let Some(file) = file {
        let (path, changes) = split(file);
        (from_file(Path::new(path))?, changes)
    } else if let Some(changes) =
        text.strip_prefix("host").filter(|rest| rest.is_empty() || rest.starts_with(','))
    {
        (machine::this()?, changes.strip_prefix(',').unwrap_or(""))
    } else {
        return Ok(Cpu::parse(text).map_err(|error| explain(&error))?.into());
    };
    let Described { mut cpu, mut remarks } = described;
    for change in changes.split(',').map(str::trim).filter(|change| !change.is_empty()) {
        cpu = cpu.change(change).map_err(|error| explain(&error))?;
    }
    // What a change has settled needs no remark.
    remarks.retain(|remark| !(remark.contains("phys-bits") && cpu.phys_bits().is_some()));
    Ok(Described { cpu, remarks })
}

/// A path, and the changes after its first comma; a file with that comma in its name is a path as a whole.
fn split(text: &str) -> (&str, &str) {
    match text.split_once(',') {
        Some(parts) if !Path::new(text).exists() => parts,
        _ => (text, ""),
    }
}

fn explain(error: &CpuError<'_>) -> Error {
    let culprit = error.culprit();
    let name = culprit.split('=').next().unwrap_or(culprit);
    let help = match error {
        CpuError::UnknownModel(_) => near::help(name, model_names())
            .or_else(|| Some("`nsvm cpus` lists the models, features and settings".into())),
        CpuError::UnknownFeature(_) => near::help(name, feature_names())
            .or_else(|| Some("`nsvm cpus` lists the models, features and settings".into())),
        _ => None,
    };
    Error::usage(format!("--cpu: {error}"), help)
}

fn model_names() -> impl Iterator<Item = String> {
    let versions = MODELS.iter().flat_map(|model| {
        let several = model.versions.len() > 1;
        let numbered = (1..=model.versions.len())
            .filter(move |_| several)
            .map(move |version| format!("{}-v{version}", model.name));
        let aliases = model.aliases.iter().map(|(alias, _)| (*alias).to_owned());
        std::iter::once(model.name.to_owned()).chain(numbered).chain(aliases)
    });
    versions.chain(["any", "host", "file:PATH", "cpuid:PATH"].map(str::to_owned))
}

fn feature_names() -> impl Iterator<Item = String> {
    let features = Feature::ALL.iter().flat_map(|feature| {
        std::iter::once(feature.name()).chain(feature.aliases().iter().copied()).map(str::to_owned)
    });
    features.chain(SETTINGS.iter().map(|(name, _)| (*name).to_owned()))
}

/// A file of any kind that is understood.
fn from_file(path: &Path) -> Result<Described, Error> {
    let fail = |message: String| Error::Input { file: crate::input::name(path), message };
    let mut text = Vec::new();
    let opened = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    opened.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(|error| fail(error.to_string()))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(fail(format!("no description of a CPU has more than {} MiB", MOST_BYTES >> 20)));
    }
    from_text(&String::from_utf8_lossy(&text)).map_err(fail)
}

/// Which kind a text is, is seen by lines that only that kind has.
fn from_text(text: &str) -> Result<Described, String> {
    let trimmed = text.trim_start_matches('\u{FEFF}').trim_start();
    if trimmed.starts_with('<') {
        return libvirt::read(trimmed);
    }
    let found = table::read(text).or_else(|| decoded::read(text)).or_else(|| cpuinfo::read(text));
    found.unwrap_or_else(|| {
        Err("no CPU is described here: expected lines of `cpuid -r` (`0x80000001 0x00: eax=0x... ebx=0x...`), the \
             text of `cpuid -1`, libvirt's XML of a domain or of its capabilities, or /proc/cpuinfo"
            .into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_ends_in_an_answer() {
        let deep = "<a>".repeat(100_000);
        let wide = format!("<domain><cpu mode='custom'>{}</cpu></domain>", "<feature/>".repeat(200_000));
        let texts = [
            "",
            "<",
            "<domain>",
            &deep,
            &wide,
            "<!DOCTYPE d [<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;'>]><domain>&b;</domain>",
            "<domain/>",
            "<cpu><model>EPYC</model><maxphysaddr mode='emulate' bits='99'/></cpu>",
            "<cpu><model>EPYC</model><feature policy='maybe' name='npt'/></cpu>",
            "0x80000001 0x00: eax=0x0",
            "0x80000001 0x00: eax=0x0 ebx=0x0 ecx=0x0 edx=0xfffffffffff",
            "   maximum physical address bits         = true",
            "flags : svm",
            "flags\t: \u{0}\u{7f}",
            "address sizes\t: 99999999999 bits physical",
        ];
        for text in texts {
            let _ = from_text(text);
        }
        for text in [&deep, texts[5], texts[7], texts[8], texts[9], texts[10]] {
            assert!(from_text(text).is_err(), "{}", near::shorten(text));
        }
    }

    #[test]
    fn a_path_ends_at_its_first_comma() {
        assert_eq!(split("dom.xml,+shstk,phys-bits=48"), ("dom.xml", "+shstk,phys-bits=48"));
        assert_eq!(split("dom.xml"), ("dom.xml", ""));
    }
}
