//! `--cpu`: the virtual CPU, by name or by a table of CPUID's answers.

use crate::error::Error;
use crate::near;
use std::path::Path;
use vmcb::{Cpu, CpuError, CpuidEntry, Feature, MODELS};

/// The settings with a value that `Cpu::parse` knows.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("phys-bits", "physical address width in bits, 32 to 52 (MAXPHYADDR, CPUID 8000_0008 EAX[7:0])"),
    ("c-bit", "position of the memory encryption bit (CPUID 8000_001F EBX[5:0])"),
    ("sev-asid-max", "number of encrypted guests (CPUID 8000_001F ECX)"),
    ("sev-asid-min", "lowest ASID for SEV without SEV-ES (CPUID 8000_001F EDX)"),
];

/// A CPUID table larger than this is none.
const MOST_BYTES: u64 = 16 << 20;

/// The CPU of `--cpu`.
pub(crate) fn parse(text: &str) -> Result<Cpu, Error> {
    if let Some(file) = text.strip_prefix("cpuid:") {
        return from_table(Path::new(file));
    }
    Cpu::parse(text).map_err(|error| {
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
    })
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
    versions.chain(["any".to_owned(), "cpuid:FILE".to_owned()])
}

fn feature_names() -> impl Iterator<Item = String> {
    let features = Feature::ALL.iter().flat_map(|feature| {
        std::iter::once(feature.name()).chain(feature.aliases().iter().copied()).map(str::to_owned)
    });
    features.chain(SETTINGS.iter().map(|(name, _)| (*name).to_owned()))
}

/// Lines as `cpuid -r` prints them: `   0x80000001 0x00: eax=0x... ebx=0x... ecx=0x... edx=0x...`.
///
/// Where several CPUs are listed, the first one counts.
fn from_table(path: &Path) -> Result<Cpu, Error> {
    let file = path.display().to_string();
    let fail = |message: String| Error::Input { file: file.clone(), message };
    let mut text = Vec::new();
    let opened = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(opened, MOST_BYTES), &mut text)
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&text);
    let mut table = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("CPU ") && !table.is_empty() {
            break;
        }
        if !line.starts_with("0x") {
            continue;
        }
        let entry = table_line(line).ok_or_else(|| {
            fail(format!(
                "line {}: expected `0x80000001 0x00: eax=0x... ebx=0x... ecx=0x... edx=0x...`, found `{}`",
                number + 1,
                near::shorten(line)
            ))
        })?;
        table.push(entry);
    }
    if table.is_empty() {
        return Err(fail("no line as `cpuid -r` prints them: `0x80000001 0x00: eax=0x... ebx=0x...`".into()));
    }
    Ok(Cpu::from_cpuid(&table))
}

fn table_line(line: &str) -> Option<CpuidEntry> {
    let hex = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let (input, output) = line.split_once(':')?;
    let mut input = input.split_whitespace();
    let mut entry = CpuidEntry { leaf: hex(input.next()?)?, ..CpuidEntry::default() };
    if let Some(subleaf) = input.next() {
        entry.subleaf = hex(subleaf)?;
    }
    let mut seen = 0;
    for word in output.split_whitespace() {
        let (register, value) = word.split_once('=')?;
        let slot = match register {
            "eax" => &mut entry.eax,
            "ebx" => &mut entry.ebx,
            "ecx" => &mut entry.ecx,
            "edx" => &mut entry.edx,
            _ => return None,
        };
        *slot = hex(value)?;
        seen += 1;
    }
    (seen == 4).then_some(entry)
}
