//! The CPU models that have names: QEMU's, each with its versions.
//!
//! # Source
//! QEMU's documentation and target/i386/cpu.c, read in two trees (spring 2025 and 2026). Only the
//! features that some rule reads; between the versions of a model only the SVM features differ.

use super::feature::Feature;

/// A model: what QEMU offers under this name.
#[derive(Debug)]
#[non_exhaustive]
pub struct Model {
    /// Its name without a version.
    pub name: &'static str,
    /// The features of each version, from version 1 on.
    pub versions: &'static [&'static [&'static [Feature]]],
    /// Other names: (alias, version).
    pub aliases: &'static [(&'static str, u8)],
    /// What part it describes.
    pub part: &'static str,
}

use Feature as F;
/// Every CPU that has SVM has these.
pub(crate) const BASE: &[Feature] = &[
    F::Vme,
    F::De,
    F::Pse,
    F::Tsc,
    F::Pae,
    F::Mce,
    F::Pge,
    F::Fxsr,
    F::Sse,
    F::Syscall,
    F::Nx,
    F::Lm,
    F::Svm,
];
const BULLDOZER: &[Feature] = &[F::Xsave];
const ZEN: &[Feature] = &[F::Fsgsbase, F::Smep, F::Smap, F::Ffxsr];
const ROME: &[Feature] = &[F::Umip];
const MILAN: &[Feature] = &[F::Pcid, F::Pku];
const GENOA: &[Feature] = &[F::La57, F::AutoIbrs];
const NP: &[Feature] = &[F::Npt, F::NripSave];
const ADDRESS_CHECK: &[Feature] = &[F::SvmeAddrChk];
const VNMI: &[Feature] = &[F::Vnmi];
/// What the last version of each EPYC adds: 8000_000A EDX 1947bh without NP and NRIPS.
const SVM_EXTRAS: &[Feature] = &[
    F::Lbrv,
    F::TscScale,
    F::VmcbClean,
    F::FlushByAsid,
    F::PauseFilter,
    F::PfThreshold,
    F::VmsaveVmload,
    F::Vgif,
];

const EPYC: &[&[Feature]] = &[BASE, BULLDOZER, ZEN, NP];
const EPYC_ROME: &[&[Feature]] = &[BASE, BULLDOZER, ZEN, ROME, NP];
const EPYC_MILAN: &[&[Feature]] = &[BASE, BULLDOZER, ZEN, ROME, MILAN, NP, ADDRESS_CHECK];
const EPYC_GENOA: &[&[Feature]] = &[BASE, BULLDOZER, ZEN, ROME, MILAN, GENOA, NP, ADDRESS_CHECK, VNMI];
const EPYC_GENOA_2: &[&[Feature]] =
    &[BASE, BULLDOZER, ZEN, ROME, MILAN, GENOA, NP, ADDRESS_CHECK, VNMI, SVM_EXTRAS];

/// The models, oldest first.
pub static MODELS: &[Model] = &[
    Model { name: "Opteron_G2", versions: &[&[BASE]], aliases: &[], part: "Opteron 22xx, 2006" },
    Model { name: "Opteron_G3", versions: &[&[BASE]], aliases: &[], part: "Opteron 23xx, 2007" },
    Model {
        name: "Opteron_G4",
        versions: &[&[BASE, BULLDOZER, NP]],
        aliases: &[],
        part: "Opteron 62xx, 2011",
    },
    Model {
        name: "Opteron_G5",
        versions: &[&[BASE, BULLDOZER, NP]],
        aliases: &[],
        part: "Opteron 63xx, 2012",
    },
    Model {
        name: "EPYC",
        versions: &[EPYC, EPYC, EPYC, EPYC, &[BASE, BULLDOZER, ZEN, NP, SVM_EXTRAS]],
        aliases: &[("EPYC-IBPB", 2)],
        part: "EPYC 7001 (Naples), 2017",
    },
    Model {
        name: "EPYC-Rome",
        versions: &[
            EPYC_ROME,
            EPYC_ROME,
            EPYC_ROME,
            EPYC_ROME,
            &[BASE, BULLDOZER, ZEN, ROME, NP, SVM_EXTRAS],
        ],
        aliases: &[],
        part: "EPYC 7002, 2019",
    },
    Model {
        name: "EPYC-Milan",
        versions: &[
            EPYC_MILAN,
            EPYC_MILAN,
            &[BASE, BULLDOZER, ZEN, ROME, MILAN, NP, ADDRESS_CHECK, SVM_EXTRAS],
        ],
        aliases: &[],
        part: "EPYC 7003, 2021",
    },
    Model {
        name: "EPYC-Genoa",
        versions: &[EPYC_GENOA, EPYC_GENOA_2],
        aliases: &[],
        part: "EPYC 9004, 2022",
    },
    Model {
        // QEMU gave Turin the SVM features of Genoa's second version from the start.
        name: "EPYC-Turin",
        versions: &[EPYC_GENOA_2],
        aliases: &[],
        part: "EPYC 9005, 2024",
    },
];

impl Model {
    /// The mask of the features of a version, counted from 1.
    pub(crate) fn features(&self, version: u8) -> Option<u64> {
        let groups = self.versions.get(usize::from(version).checked_sub(1)?)?;
        Some(groups.iter().copied().flatten().fold(0, |set, feature| set | feature.mask()))
    }
}
