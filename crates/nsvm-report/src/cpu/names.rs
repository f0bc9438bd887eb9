//! Names of models, features and settings, for messages about unknown ones.

use crate::error::Error;
use crate::suggest;
use vmcb::{CpuError, Feature, MODELS};

/// The settings with a value that `Cpu::parse` knows.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("phys-bits", "physical address width in bits, 32 to 52 (MAXPHYADDR, CPUID 8000_0008 EAX[7:0])"),
    ("c-bit", "position of the memory encryption bit (CPUID 8000_001F EBX[5:0])"),
    ("sev-asid-max", "number of encrypted guests (CPUID 8000_001F ECX)"),
    ("sev-asid-min", "lowest ASID for SEV without SEV-ES (CPUID 8000_001F EDX)"),
];

/// Turns an error of `Cpu::parse` into a message with suggestions.
pub(super) fn explain(error: &CpuError<'_>) -> Error {
    let culprit = error.culprit();
    let name = culprit.split('=').next().unwrap_or(culprit);
    let help = match error {
        CpuError::UnknownModel(_) => suggest::help(name, model_names())
            .or_else(|| Some("`nsvm cpus` lists the models, features and settings".into())),
        CpuError::UnknownFeature(_) => suggest::help(name, feature_names())
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
