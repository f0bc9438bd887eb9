//! The virtual CPU: which features it has, as far as is known.

use super::feature::{CpuidBit, Feature};
use super::models::{BASE, MODELS, Model};
use crate::defs::known::Bits;
use core::fmt;

/// The narrowest and the widest physical address that an AMD64 CPU may have, in bits.
pub const PHYS_BITS: (u8, u8) = (32, 52);

/// What is known of a virtual CPU: the CPU that the guest sees, never the one we run on.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Feature};
/// let cpu = Cpu::parse("EPYC-Genoa,+shstk,-vnmi,phys-bits=52").unwrap();
/// assert_eq!(cpu.has(Feature::Shstk), Some(true));
/// assert_eq!(cpu.has(Feature::Vnmi), Some(false));
/// assert_eq!(Cpu::ANY.has(Feature::Shstk), None);
/// assert!(Cpu::parse("EPYC-Milano").is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Cpu {
    pub(crate) features: Bits,
    pub(crate) phys_bits: Option<u8>,
    pub(crate) sev_asid_maximum: Option<u32>,
    pub(crate) sev_asid_minimum: Option<u32>,
    pub(crate) c_bit: Option<u8>,
}

/// One answer of CPUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct CpuidEntry {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry.
    pub subleaf: u32,
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

impl CpuidEntry {
    /// Returns EAX, EBX, ECX and EDX of the first entry for this leaf.
    fn find(table: &[Self], leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        let found = table.iter().find(|entry| entry.leaf == leaf && entry.subleaf == subleaf)?;
        Some([found.eax, found.ebx, found.ecx, found.edx])
    }
}

/// Why the description of a CPU was not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CpuError<'a> {
    /// No model has this name.
    UnknownModel(&'a str),
    /// The model has no such version.
    UnknownVersion {
        /// As given.
        name: &'a str,
        /// The newest version that there is.
        newest: u8,
    },
    /// A part between commas is empty.
    EmptyPart,
    /// No rule reads a feature of this name.
    UnknownFeature(&'a str),
    /// A setting of this name does not exist, or its value is not a number in range.
    BadSetting {
        /// As given.
        setting: &'a str,
        /// What is allowed.
        expected: &'static str,
    },
    /// `host` and `max` would ask the CPU that we run on, which no verdict may depend on.
    AsksTheHost(&'a str),
}

impl CpuError<'_> {
    /// The part of the description that was not understood.
    #[must_use]
    pub const fn culprit(&self) -> &str {
        match *self {
            Self::UnknownModel(name) | Self::UnknownVersion { name, .. } | Self::UnknownFeature(name) => name,
            Self::BadSetting { setting, .. } => setting,
            Self::AsksTheHost(name) => name,
            Self::EmptyPart => "",
        }
    }
}

impl fmt::Display for CpuError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownModel(name) => write!(f, "no CPU model is named `{name}`"),
            Self::UnknownVersion { name, newest } => {
                write!(f, "`{name}`: the newest version of this model is v{newest}")
            }
            Self::UnknownFeature(name) => {
                write!(f, "`{name}` is no feature that a rule of VMRUN reads; leave out what is none")
            }
            Self::EmptyPart => f.write_str("no feature or setting follows a comma"),
            Self::BadSetting { setting, expected } => write!(f, "`{setting}`: expected {expected}"),
            Self::AsksTheHost(name) => write!(
                f,
                "`{name}` would ask the CPU that this program runs on; name a model, or give a CPUID table"
            ),
        }
    }
}

impl core::error::Error for CpuError<'_> {}

impl Cpu {
    /// Any AMD CPU that has SVM: known is only what all of them have. That is long mode, the features
    /// of CR4 bits 0 to 10, SYSCALL and no-execute pages.
    pub const ANY: Self = {
        let mut mask = 0;
        let mut index = 0;
        while index < BASE.len() {
            mask |= BASE[index].mask();
            index += 1;
        }
        Self {
            features: Self::NO_FEATURE_KNOWN.with(mask, Bits::known(mask)),
            phys_bits: None,
            sev_asid_maximum: None,
            sev_asid_minimum: None,
            c_bit: None,
        }
    };

    /// Bits that stand for no feature are known to be zero, so that equal CPUs compare equal.
    pub(crate) const NO_FEATURE_KNOWN: Bits = Bits::partly(0, u64::MAX << Feature::ALL.len());

    /// A model by its name: `EPYC-Milan`, which is its first version, or `EPYC-Milan-v3`.
    ///
    /// A model does not state the physical address width, nor EFER.LMSLE's CPUID bit: unknown.
    ///
    /// # Errors
    /// [`CpuError::UnknownModel`], [`CpuError::UnknownVersion`] and [`CpuError::AsksTheHost`].
    pub fn model(name: &str) -> Result<Self, CpuError<'_>> {
        if matches!(name, "any" | "") {
            return Ok(Self::ANY);
        }
        if matches!(name, "host" | "max") {
            return Err(CpuError::AsksTheHost(name));
        }
        let (model, version) = find_model(name)?;
        let set = model.features(version).ok_or(CpuError::UnknownVersion {
            name,
            newest: u8::try_from(model.versions.len()).unwrap_or(u8::MAX),
        })?;
        // QEMU has no name for this bit, so no model states it.
        let unstated = Feature::LmsleUnsupported.mask();
        Ok(Self { features: Bits::partly(set, !unstated), ..Self::ANY })
    }

    /// QEMU's spelling: a model, then changes. `EPYC-Genoa,+shstk,-vnmi,svm=off,phys-bits=52`.
    ///
    /// Settings with a value: `phys-bits` (32 to 52, in bits), `c-bit` (bit position), `sev-asid-max` and
    /// `sev-asid-min` (CPUID 8000_001F ECX and EDX). The model may be `any`, or left out.
    ///
    /// # Errors
    /// The first part that is not understood.
    pub fn parse(text: &str) -> Result<Self, CpuError<'_>> {
        let mut parts = text.split([',']).map(str::trim);
        let first = parts.next().unwrap_or("");
        let mut cpu = if first.starts_with(['+', '-']) || first.contains(['=']) {
            Self::ANY.change(first)?
        } else {
            Self::model(first)?
        };
        for part in parts {
            cpu = cpu.change(part)?;
        }
        Ok(cpu)
    }

    /// One change in QEMU's spelling: `+shstk`, `-vnmi`, `svm=off`, `phys-bits=52`.
    ///
    /// # Errors
    /// What is not understood.
    pub fn change(self, part: &str) -> Result<Self, CpuError<'_>> {
        if part.is_empty() {
            return Err(CpuError::EmptyPart);
        }
        if let Some(name) = part.strip_prefix('+') {
            return Ok(self.with(find_feature(name)?, true));
        }
        if let Some(name) = part.strip_prefix('-') {
            return Ok(self.with(find_feature(name)?, false));
        }
        let Some((name, value)) = part.split_once(['=']) else {
            return Ok(self.with(find_feature(part)?, true));
        };
        let bad = |expected| CpuError::BadSetting { setting: part, expected };
        match name {
            "phys-bits" => {
                let bits = number(value).and_then(|bits| u8::try_from(bits).ok());
                bits.and_then(|bits| self.with_phys_bits(bits)).ok_or(bad("phys-bits from 32 to 52"))
            }
            "c-bit" | "cbitpos" => {
                let bit =
                    number(value).and_then(|bit| u8::try_from(bit).ok()).filter(|bit| (32..64).contains(bit));
                Ok(Self { c_bit: Some(bit.ok_or(bad("a bit position from 32 to 63"))?), ..self })
            }
            "sev-asid-max" => {
                Ok(Self { sev_asid_maximum: Some(number(value).ok_or(bad("a 32-bit number"))?), ..self })
            }
            "sev-asid-min" => {
                Ok(Self { sev_asid_minimum: Some(number(value).ok_or(bad("a 32-bit number"))?), ..self })
            }
            _ => match value {
                "on" => Ok(self.with(find_feature(name)?, true)),
                "off" => Ok(self.with(find_feature(name)?, false)),
                _ => find_feature(name).and(Err(bad("on or off"))),
            },
        }
    }

    /// Returns the CPU that these answers of CPUID describe.
    ///
    /// If leaf 0 or 8000_0000h reports the maximum leaf, the CPU lacks all features of leaves above it, and entries for
    /// such leaves are ignored: an emulator or KVM may return the values of another leaf there. Any other leaf that is
    /// not in the table is unknown. `sev-es` and the ASID bounds come from leaf 8000_001Fh, the address width from
    /// 8000_0008h.
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Cpu, CpuidEntry, Feature};
    /// let table = [CpuidEntry { leaf: 7, ecx: 1 << 7, ..CpuidEntry::default() }];
    /// assert_eq!(Cpu::from_cpuid(&table).has(Feature::Shstk), Some(true));
    /// assert_eq!(Cpu::from_cpuid(&table).has(Feature::SevEs), None);
    /// assert_eq!(Cpu::from_complete_cpuid(&table).has(Feature::SevEs), Some(false));
    /// ```
    #[must_use]
    pub fn from_cpuid(table: &[CpuidEntry]) -> Self {
        Self::from_leaves(|leaf, subleaf| CpuidEntry::find(table, leaf, subleaf), false)
    }

    /// Does the same as [`from_cpuid`](Self::from_cpuid) for a complete table, in which a missing leaf means zero: that
    /// of KVM (`KVM_GET_CPUID2`), or one that `cpuid -r` printed.
    #[must_use]
    pub fn from_complete_cpuid(table: &[CpuidEntry]) -> Self {
        Self::from_leaves(|leaf, subleaf| CpuidEntry::find(table, leaf, subleaf), true)
    }

    /// Returns the CPU whose CPUID instruction `ask` executes or emulates. Its parameters are EAX and ECX on entry, and
    /// it returns EAX, EBX, ECX and EDX. It is called for existing leaves only.
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Cpu, Feature};
    /// let cpu = Cpu::ask_cpuid(|leaf, _subleaf| match leaf {
    ///     0x8000_0000 => [0x8000_0008, 0, 0, 0],
    ///     0x8000_0008 => [48, 0, 0, 0],
    ///     _ => [0; 4],
    /// });
    /// assert_eq!((cpu.phys_bits(), cpu.has(Feature::SevEs)), (Some(48), Some(false)));
    /// ```
    #[must_use]
    pub fn ask_cpuid(mut ask: impl FnMut(u32, u32) -> [u32; 4]) -> Self {
        Self::from_leaves(|leaf, subleaf| Some(ask(leaf, subleaf)), true)
    }

    /// `complete`: a leaf without an answer is zero, else it is unknown.
    fn from_leaves(mut ask: impl FnMut(u32, u32) -> Option<[u32; 4]>, complete: bool) -> Self {
        let [standard, extended] = [0, 0x8000_0000].map(|first| {
            let maximum = ask(first, 0).map(|[eax, ..]| eax);
            // A CPU without extended leaves answers with the values of another leaf.
            maximum.filter(|&maximum| maximum >= first).or(if complete { maximum } else { None })
        });
        let exists = |leaf: u32| {
            let maximum = if leaf < 0x8000_0000 { standard } else { extended };
            maximum.is_none_or(|maximum| leaf <= maximum)
        };
        let mut answer = |leaf, subleaf| {
            let absent = if complete { Some([0; 4]) } else { None };
            if exists(leaf) { ask(leaf, subleaf).or(absent) } else { Some([0; 4]) }
        };
        let mut cpu = Self { features: Self::NO_FEATURE_KNOWN, ..Self::ANY };
        let mut last = ((0, 0), None);
        for &feature in Feature::ALL {
            let CpuidBit { leaf, subleaf, register, bit } = feature.cpuid();
            // Features of a leaf follow each other.
            if last.0 != (leaf, subleaf) || last.1.is_none() {
                last = ((leaf, subleaf), answer(leaf, subleaf));
            }
            if let Some(registers) = last.1 {
                cpu = cpu.with(feature, register.of(registers) >> bit & 1 == 1);
            }
        }
        if let Some([eax, ..]) = answer(0x8000_0008, 0) {
            cpu = cpu.with_phys_bits(eax as u8).unwrap_or(cpu);
        }
        if let Some([_, ebx, ecx, edx]) = answer(0x8000_001F, 0).filter(|_| exists(0x8000_001F)) {
            cpu.sev_asid_maximum = Some(ecx);
            cpu.sev_asid_minimum = Some(edx);
            cpu.c_bit = Some(ebx as u8 & 0x3F);
        }
        cpu
    }

    /// With or without this feature.
    #[must_use]
    pub const fn with(self, feature: Feature, present: bool) -> Self {
        let value = if present { u64::MAX } else { 0 };
        Self { features: self.features.with(feature.mask(), Bits::known(value)), ..self }
    }

    /// With this feature unknown.
    #[must_use]
    pub const fn without_knowing(self, feature: Feature) -> Self {
        Self { features: self.features.with(feature.mask(), Bits::UNKNOWN), ..self }
    }

    /// With this physical address width in bits, MAXPHYADDR; `None` unless it is 32 to 52.
    #[must_use]
    pub const fn with_phys_bits(self, bits: u8) -> Option<Self> {
        if bits >= PHYS_BITS.0 && bits <= PHYS_BITS.1 {
            Some(Self { phys_bits: Some(bits), ..self })
        } else {
            None
        }
    }

    /// Whether it has the feature; `None` where that is not known.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> Option<bool> {
        if self.features.unknown_mask() & feature.mask() != 0 {
            None
        } else {
            Some(self.features.value() & feature.mask() != 0)
        }
    }

    /// MAXPHYADDR in bits; `None` where it is not known.
    #[must_use]
    pub const fn phys_bits(&self) -> Option<u8> {
        self.phys_bits
    }

    /// The number of encrypted guests; `None` where it is not known.
    #[must_use]
    pub const fn sev_asid_maximum(&self) -> Option<u32> {
        self.sev_asid_maximum
    }

    /// The lowest ASID for SEV without SEV-ES; `None` where it is not known.
    #[must_use]
    pub const fn sev_asid_minimum(&self) -> Option<u32> {
        self.sev_asid_minimum
    }

    /// The position of the C-bit; `None` where it is not known.
    #[must_use]
    pub const fn c_bit(&self) -> Option<u8> {
        self.c_bit
    }

    /// What both CPUs offer: the features of both, the limits of either, the narrower width.
    ///
    /// A feature of which one CPU is known to lack it is absent; one that only one is known to have, unknown.
    /// So is a width or a position that is not known of both, or not the same.
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Cpu, Feature};
    /// let rome = Cpu::parse("EPYC-Rome,phys-bits=43").unwrap();
    /// let milan = Cpu::parse("EPYC-Milan,phys-bits=48,+shstk").unwrap();
    /// let both = rome.meet(&milan);
    /// assert_eq!((both.has(Feature::Shstk), both.phys_bits()), (Some(false), Some(43)));
    /// ```
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let restricting = Feature::ALL.iter().filter(|feature| feature.restricts());
        let restricting = restricting.fold(0, |mask, feature| mask | feature.mask());
        let features = self.features.and(other.features);
        let both = |a: Option<u32>, b: Option<u32>, choose: fn(u32, u32) -> u32| Some(choose(a?, b?));
        Self {
            features: features.with(restricting, self.features.or(other.features)),
            phys_bits: match (self.phys_bits, other.phys_bits) {
                (Some(a), Some(b)) => Some(a.min(b)),
                _ => None,
            },
            sev_asid_maximum: both(self.sev_asid_maximum, other.sev_asid_maximum, u32::min),
            sev_asid_minimum: both(self.sev_asid_minimum, other.sev_asid_minimum, u32::max),
            c_bit: self.c_bit.filter(|_| self.c_bit == other.c_bit),
        }
    }
}

fn find_feature(name: &str) -> Result<Feature, CpuError<'_>> {
    Feature::from_name(name).ok_or(CpuError::UnknownFeature(name))
}

fn find_model(name: &str) -> Result<(&'static Model, u8), CpuError<'_>> {
    for model in MODELS {
        if model.name == name {
            return Ok((model, 1));
        }
        if let Some(&(_, version)) = model.aliases.iter().find(|(alias, _)| *alias == name) {
            return Ok((model, version));
        }
        let version = name.strip_prefix(model.name).and_then(|rest| rest.strip_prefix("-v"));
        if let Some(version) = version.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            // A number beyond 255 is no version either: 0 is none.
            return Ok((model, version.parse().unwrap_or(0)));
        }
    }
    Err(CpuError::UnknownModel(name))
}

/// Decimal, or hexadecimal after 0x.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}
