//! A virtual CPU compiled into what checking needs: masks, ranges and the set of enabled rules.
//!
//! Limits are data and travel with the VM. What is stored decides, not what the loading build would
//! make of the same CPU today: a rule, a CR4 bit or a vector that is learned later reaches only VMs
//! that ask for it by [`Limits::upgrade`], on any host and in either direction of a migration.

use crate::cpu::{Cpu, PHYS_BITS};
use crate::exception::{ExceptionSet, RESERVED_VECTORS};
use crate::feature::Feature;
use crate::injection::EventTable;
use crate::known::Bits;
use crate::literal::{Reserved, pat_invalid};
use crate::register::{Cr4, Efer};
use crate::rules::{Rule, RuleSet};
use core::fmt;

/// Which exception vectors EVENTINJ may carry: the two ways that the discussion of Linux's check
/// left open. See `docs/migration-policies.md` for what each does to a guest that migrates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Option 1: derived from the virtual CPU. #CP needs SHSTK, #VC SEV-ES, #HV Restricted Injection.
    #[default]
    VirtualCpu,
    /// Option 2: a fixed, permissive set. #CP, #VC and #HV are always let through, and whether they
    /// exist is left to the hardware below.
    FixedVectors,
}

impl Policy {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VirtualCpu => "virtual-cpu",
            Self::FixedVectors => "fixed-vectors",
        }
    }

    /// The policy with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::VirtualCpu, Self::FixedVectors].into_iter().find(|policy| policy.name() == name)
    }

    /// The rules that it enables.
    fn rules(self) -> RuleSet {
        const BY_FEATURE: [Rule; 3] = [
            Rule::EvtExcCpWithoutShstk,
            Rule::EvtExcVcWithoutSeves,
            Rule::EvtExcHvWithoutRestrictedInjection,
        ];
        match self {
            Self::VirtualCpu => RuleSet::ALL,
            Self::FixedVectors => RuleSet::ALL.without(BY_FEATURE.into_iter().collect()),
        }
    }
}

/// A number of which the smallest and the largest possible value are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Range<T> {
    pub(crate) lowest: T,
    pub(crate) highest: T,
}

/// What makes a bit of CR4 or EFER legal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Gate {
    /// Every CPU has it.
    Always,
    /// CPUs with this feature have it.
    With(Feature),
    /// CPUs have it but those with this feature.
    Without(Feature),
}

impl Gate {
    /// Whether a CPU has the bit; `None` where that is not known.
    #[must_use]
    pub fn is_open(self, cpu: &Cpu) -> Option<bool> {
        match self {
            Self::Always => Some(true),
            Self::With(feature) => cpu.has(feature),
            Self::Without(feature) => cpu.has(feature).map(|has| !has),
        }
    }
}

/// CR4, one row a bit that is ever legal; the rest must be zero on every CPU.
///
/// # Source
/// Manual volume 2, 3.1.3.
pub const CR4_GATES: &[(Cr4, Gate)] = {
    use Gate::{Always, With};
    &[
        (Cr4::VME, With(Feature::Vme)),
        (Cr4::PVI, With(Feature::Vme)),
        (Cr4::TSD, With(Feature::Tsc)),
        (Cr4::DE, With(Feature::De)),
        (Cr4::PSE, With(Feature::Pse)),
        (Cr4::PAE, With(Feature::Pae)),
        (Cr4::MCE, With(Feature::Mce)),
        (Cr4::PGE, With(Feature::Pge)),
        (Cr4::PCE, Always),
        (Cr4::OSFXSR, With(Feature::Fxsr)),
        (Cr4::OSXMMEXCPT, With(Feature::Sse)),
        (Cr4::UMIP, With(Feature::Umip)),
        (Cr4::LA57, With(Feature::La57)),
        (Cr4::FSGSBASE, With(Feature::Fsgsbase)),
        (Cr4::PCIDE, With(Feature::Pcid)),
        (Cr4::OSXSAVE, With(Feature::Xsave)),
        (Cr4::SMEP, With(Feature::Smep)),
        (Cr4::SMAP, With(Feature::Smap)),
        (Cr4::PKE, With(Feature::Pku)),
        (Cr4::CET, With(Feature::Shstk)),
    ]
};

/// EFER, likewise. Of LME and LMA a rule of their own says so, [`Rule::SavEferLongModeUnsupported`].
///
/// # Source
/// Manual volume 2, 3.1.7.
pub const EFER_GATES: &[(Efer, Gate)] = {
    use Gate::{Always, With, Without};
    &[
        (Efer::SCE, With(Feature::Syscall)),
        (Efer::from_bits(0xFE), Always),
        (Efer::LME, With(Feature::Lm)),
        (Efer::LMA, With(Feature::Lm)),
        (Efer::NXE, With(Feature::Nx)),
        (Efer::SVME, With(Feature::Svm)),
        (Efer::LMSLE, Without(Feature::LmsleUnsupported)),
        (Efer::FFXSR, With(Feature::Ffxsr)),
        (Efer::TCE, With(Feature::Tce)),
        (Efer::MCOMMIT, With(Feature::Mcommit)),
        (Efer::INTWB, With(Feature::IntWbinvd)),
        (Efer::UAIE, With(Feature::Uai)),
        (Efer::AIBRSE, With(Feature::AutoIbrs)),
    ]
};

/// The EFER bits of which a rule of their own says whether they are legal.
const OF_LONG_MODE: u64 = Efer::LME.union(Efer::LMA).bits();

/// What a CPU with these features does not define, given the rows above.
fn reserved(gates: impl Iterator<Item = (u64, Gate)>, features: Bits) -> Reserved {
    let mut reserved = Reserved { certain: u64::MAX, possible: u64::MAX, exempt: 0 };
    for (bits, gate) in gates {
        let (may_be_legal, may_be_reserved) = match gate {
            Gate::Always => (true, false),
            Gate::With(feature) => {
                (features.may_set() & feature.mask() != 0, features.may_clear() & feature.mask() != 0)
            }
            Gate::Without(feature) => {
                (features.may_clear() & feature.mask() != 0, features.may_set() & feature.mask() != 0)
            }
        };
        if may_be_legal {
            reserved.certain &= !bits;
        }
        if !may_be_reserved {
            reserved.possible &= !bits;
        }
    }
    reserved
}

/// The features that decide which bits of `mask` are legal in CR4 (or EFER), as bits of `Word::Cpu`.
pub(crate) fn features_of_cr4(mask: u64) -> u64 {
    features_of(CR4_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), mask)
}

pub(crate) fn features_of_efer(mask: u64) -> u64 {
    features_of(EFER_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), mask & !OF_LONG_MODE)
}

fn features_of(gates: impl Iterator<Item = (u64, Gate)>, mask: u64) -> u64 {
    gates.filter(|(bits, _)| bits & mask != 0).fold(0, |set, (_, gate)| match gate {
        Gate::Always => set,
        Gate::With(feature) | Gate::Without(feature) => set | feature.mask(),
    })
}

/// A virtual CPU, compiled.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Limits, Policy};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let mut buffer = [0; Limits::ENCODED_MAX];
/// let bytes = limits.encode(&mut buffer);
/// assert_eq!(Limits::decode(bytes).unwrap(), limits);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    cpu: Cpu,
    policy: Policy,
    pub(crate) rules: RuleSet,
    pub(crate) cr4: Reserved,
    pub(crate) efer: Reserved,
    pub(crate) reserved_vectors: ExceptionSet,
    pub(crate) sev_asid_maximum: Range<u32>,
    pub(crate) sev_asid_minimum: Range<u32>,
    pub(crate) phys_bits: Range<u8>,
    /// Bits that may be the C-bit.
    pub(crate) c_bit: u64,
    pub(crate) events: EventTable,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("cpu", &self.cpu)
            .field("policy", &self.policy)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Limits {
    /// What this build knows of such a CPU.
    #[must_use]
    pub fn compile(cpu: &Cpu, policy: Policy) -> Self {
        let cr4 = reserved(CR4_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), cpu.features);
        let mut efer = reserved(EFER_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), cpu.features);
        efer.certain &= !OF_LONG_MODE;
        efer.possible &= !OF_LONG_MODE;
        Self::assemble(*cpu, policy, policy.rules(), cr4, efer, RESERVED_VECTORS)
    }

    /// The same virtual CPU and policy with everything that this build knows: the explicit way to new
    /// verdicts.
    #[must_use]
    pub fn upgrade(&self) -> Self {
        Self::compile(&self.cpu, self.policy)
    }

    /// Fills in what follows from the rest.
    fn assemble(
        cpu: Cpu,
        policy: Policy,
        rules: RuleSet,
        cr4: Reserved,
        efer: Reserved,
        reserved_vectors: ExceptionSet,
    ) -> Self {
        let phys_bits = match cpu.phys_bits {
            Some(bits) => Range { lowest: bits, highest: bits },
            None => Range { lowest: PHYS_BITS.0, highest: PHYS_BITS.1 },
        };
        let range = |known: Option<u32>| match known {
            Some(number) => Range { lowest: number, highest: number },
            None => Range { lowest: 0, highest: u32::MAX },
        };
        let encrypts = cpu.features.may_set() & (Feature::Sme.mask() | Feature::Sev.mask()) != 0;
        let c_bit = match cpu.c_bit {
            _ if !encrypts => 0,
            Some(position) => 1 << (position & 63),
            // Where all known parts have it.
            None => 1 << 47 | 1 << 51,
        };
        let mut limits = Self {
            cpu,
            policy,
            rules,
            cr4,
            efer,
            reserved_vectors,
            sev_asid_maximum: range(cpu.sev_asid_maximum),
            sev_asid_minimum: range(cpu.sev_asid_minimum),
            phys_bits,
            c_bit,
            events: EventTable::NONE,
        };
        limits.events = EventTable::of(&limits);
        limits
    }

    /// Whether an address names a page of this CPU: 4 KiB aligned, and below 2^MAXPHYADDR. What VMRUN, VMLOAD and VMSAVE
    /// take in rAX, and VM_HSAVE_PA. Where the width is not known, what every AMD CPU takes.
    ///
    /// # Source
    /// Manual volume 2, 15.5.1, 15.5.2 and 15.30.4.
    #[must_use]
    #[inline(always)]
    pub const fn accepts_page_address(&self, address: u64) -> bool {
        address & 0xFFF == 0 && address >> self.phys_bits.lowest == 0
    }

    /// Whether every byte of a value for the PAT MSR is a memory type: what WRMSR takes, and G_PAT.
    ///
    /// # Source
    /// Manual volume 2, 7.8.1.
    #[must_use]
    pub const fn accepts_pat(&self, pat: u64) -> bool {
        !pat_invalid(Bits::known(pat), true)
    }

    /// The virtual CPU that they were made for.
    #[must_use]
    #[inline(always)]
    pub const fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The policy that they were made by.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// The rules that they enable.
    #[must_use]
    pub const fn rules(&self) -> RuleSet {
        self.rules
    }

    /// CR4 bits that every such CPU defines; one outside `cr4_maybe` too is legal on none.
    #[must_use]
    pub const fn cr4_always(&self) -> Cr4 {
        Cr4::from_bits(!self.cr4.possible)
    }

    /// CR4 bits that some such CPU defines.
    #[must_use]
    pub const fn cr4_maybe(&self) -> Cr4 {
        Cr4::from_bits(!self.cr4.certain)
    }

    /// EFER bits that every such CPU defines.
    #[must_use]
    pub const fn efer_always(&self) -> Efer {
        Efer::from_bits(!self.efer.possible)
    }

    /// EFER bits that some such CPU defines.
    #[must_use]
    pub const fn efer_maybe(&self) -> Efer {
        Efer::from_bits(!self.efer.certain)
    }

    /// 2^MAXPHYADDR, the smallest that it can be.
    #[inline(always)]
    pub(crate) const fn lowest_limit(&self) -> u64 {
        1 << (self.phys_bits.lowest & 63)
    }

    /// 2^MAXPHYADDR, the largest that it can be.
    #[inline(always)]
    pub(crate) const fn highest_limit(&self) -> u64 {
        1 << (self.phys_bits.highest & 63)
    }
}

// The stored form: a magic, a list of entries (key length, key, value length, value), a CRC-32.
// Everything is named by text, so that a build which does not know a name can say which.
const MAGIC: &[u8; 8] = b"nsvmLim1";
const RULE: &str = "rule:";
const FEATURE: &str = "cpu:";

/// Why stored limits were not loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LimitsError<'a> {
    /// They do not begin with the magic `nsvmLim1`.
    NotLimits,
    /// They end early, have bytes left over, or the checksum does not match.
    Corrupt {
        /// Where in the bytes.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// They name something that this build does not know: a newer build made them.
    Unknown(&'a str),
}

impl fmt::Display for LimitsError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLimits => f.write_str("these bytes are no limits: they do not begin with `nsvmLim1`"),
            Self::Corrupt { offset, reason } => write!(f, "corrupt limits at byte {offset}: {reason}"),
            Self::Unknown(name) => write!(
                f,
                "these limits name `{name}`, which this build does not know; load them with a newer one"
            ),
        }
    }
}

impl core::error::Error for LimitsError<'_> {}

/// The numbers of the stored form, other than rules and features: key, size in bytes.
const NUMBERS: [(&str, u8); 10] = [
    ("cr4.reserved", 8),
    ("cr4.reserved-maybe", 8),
    ("efer.reserved", 8),
    ("efer.reserved-maybe", 8),
    ("vectors.reserved", 4),
    ("phys-bits", 1),
    ("sev-asid-max", 4),
    ("sev-asid-min", 4),
    ("c-bit", 1),
    ("policy", 1),
];

impl Limits {
    /// Room that [`encode`](Self::encode) never exceeds, in bytes.
    pub const ENCODED_MAX: usize = {
        let mut size = MAGIC.len() + 4;
        let mut index = 0;
        while index < NUMBERS.len() {
            size += 3 + NUMBERS[index].0.len() + NUMBERS[index].1 as usize;
            index += 1;
        }
        index = 0;
        while index < Feature::ALL.len() {
            size += 3 + FEATURE.len() + Feature::ALL[index].name().len() + 1;
            index += 1;
        }
        index = 0;
        while index < crate::rules::ROWS.len() {
            size += 3 + RULE.len() + crate::rules::ROWS[index].id.len();
            index += 1;
        }
        size
    };

    /// Writes the stored form and returns it. The same limits always give the same bytes.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; Self::ENCODED_MAX]) -> &'a [u8] {
        let mut out = Writer { buffer: &mut buffer[..], length: 0 };
        out.bytes(MAGIC);
        for &(key, size) in &NUMBERS {
            let value = match key {
                "cr4.reserved" => Some(self.cr4.certain),
                "cr4.reserved-maybe" => Some(self.cr4.possible),
                "efer.reserved" => Some(self.efer.certain),
                "efer.reserved-maybe" => Some(self.efer.possible),
                "vectors.reserved" => Some(self.reserved_vectors.intercept_word().into()),
                "phys-bits" => self.cpu.phys_bits.map(u64::from),
                "sev-asid-max" => self.cpu.sev_asid_maximum.map(u64::from),
                "sev-asid-min" => self.cpu.sev_asid_minimum.map(u64::from),
                "c-bit" => self.cpu.c_bit.map(u64::from),
                _ => Some(self.policy as u64),
            };
            if let Some(value) = value {
                out.entry("", key, value.to_le_bytes().get(..usize::from(size)).unwrap_or(&[]));
            }
        }
        for &feature in Feature::ALL {
            if let Some(present) = self.cpu.has(feature) {
                out.entry(FEATURE, feature.name(), &[u8::from(present)]);
            }
        }
        for rule in self.rules.iter() {
            out.entry(RULE, rule.id(), &[]);
        }
        let checksum = crc32(out.written());
        out.bytes(&checksum.to_le_bytes());
        let length = out.length;
        buffer.get(..length).unwrap_or(&[])
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// With the reason, when the bytes are corrupt or name what this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, LimitsError<'_>> {
        let corrupt = |offset, reason| LimitsError::Corrupt { offset, reason };
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err(LimitsError::NotLimits) };
        let Some((mut rest, stored)) = rest.split_last_chunk::<4>() else {
            return Err(corrupt(bytes.len(), "no checksum"));
        };
        let body = MAGIC.len() + rest.len();
        if crc32(bytes.get(..body).unwrap_or(&[])) != u32::from_le_bytes(*stored) {
            return Err(corrupt(body, "the checksum does not match"));
        }
        let mut cpu = Cpu { features: Cpu::NO_FEATURE_KNOWN, ..Cpu::ANY };
        let mut rules = RuleSet::EMPTY;
        let mut numbers = [None::<u64>; NUMBERS.len()];
        while !rest.is_empty() {
            let offset = body - rest.len();
            let (key, after) = sized(rest, 1).ok_or(corrupt(offset, "the key is cut"))?;
            let (value, after) = sized(after, 2).ok_or(corrupt(offset, "the value is cut"))?;
            rest = after;
            let key = core::str::from_utf8(key).map_err(|_| corrupt(offset, "the key is no text"))?;
            if let Some(id) = key.strip_prefix(RULE) {
                let rule = Rule::from_id(id).ok_or(LimitsError::Unknown(id))?;
                if rules.contains(rule) || !value.is_empty() {
                    return Err(corrupt(offset, "a rule is named twice, or with a value"));
                }
                rules = rules.union(RuleSet::only(rule));
            } else if let Some(name) = key.strip_prefix(FEATURE) {
                let feature = Feature::from_name(name)
                    .filter(|f| f.name() == name)
                    .ok_or(LimitsError::Unknown(name))?;
                if cpu.has(feature).is_some() {
                    return Err(corrupt(offset, "a feature is given twice"));
                }
                cpu = match value {
                    [0] => cpu.with(feature, false),
                    [1] => cpu.with(feature, true),
                    _ => return Err(corrupt(offset, "a feature is neither present nor absent")),
                };
            } else {
                let index = NUMBERS.iter().position(|&(known, _)| known == key);
                let index = index.ok_or(LimitsError::Unknown(key))?;
                let (slot, size) = match (numbers.get_mut(index), NUMBERS.get(index)) {
                    (Some(slot), Some(&(_, size))) => (slot, usize::from(size)),
                    _ => return Err(LimitsError::Unknown(key)),
                };
                if value.len() != size {
                    return Err(corrupt(offset, "a number has the wrong size"));
                }
                let number = value.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
                if slot.replace(number).is_some() {
                    return Err(corrupt(offset, "a number is given twice"));
                }
            }
        }
        let [cr4, cr4_maybe, efer, efer_maybe, vectors, phys_bits, sev_max, sev_min, c_bit, policy] = numbers;
        let missing = corrupt(body, "a number is missing");
        let range = corrupt(body, "a number is out of range");
        cpu.phys_bits = match phys_bits.map(u8::try_from) {
            None => None,
            Some(Ok(bits)) if (PHYS_BITS.0..=PHYS_BITS.1).contains(&bits) => Some(bits),
            Some(_) => return Err(range),
        };
        cpu.c_bit = match c_bit.map(u8::try_from) {
            None => None,
            Some(Ok(bit)) if bit < 64 => Some(bit),
            Some(_) => return Err(range),
        };
        cpu.sev_asid_maximum = sev_max.map(u32::try_from).transpose().map_err(|_| range)?;
        cpu.sev_asid_minimum = sev_min.map(u32::try_from).transpose().map_err(|_| range)?;
        let policy = match policy.ok_or(missing)? {
            0 => Policy::VirtualCpu,
            1 => Policy::FixedVectors,
            _ => return Err(LimitsError::Unknown("policy")),
        };
        let both = |certain: Option<u64>, possible: Option<u64>| {
            Some(Reserved { certain: certain?, possible: possible?, exempt: 0 })
        };
        let cr4 = both(cr4, cr4_maybe).ok_or(missing)?;
        let efer = both(efer, efer_maybe).ok_or(missing)?;
        if cr4.certain & !cr4.possible != 0 || efer.certain & !efer.possible != 0 {
            return Err(corrupt(body, "a bit is reserved for certain and yet not possibly"));
        }
        let vectors = u32::try_from(vectors.ok_or(missing)?).map_err(|_| range)?;
        Ok(Self::assemble(cpu, policy, rules, cr4, efer, ExceptionSet::from_intercept_word(vectors)))
    }
}

/// Splits off what a length of `width` bytes announces.
fn sized(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length.iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    rest.split_at_checked(length)
}

struct Writer<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Writer<'_> {
    /// Appends; `ENCODED_MAX` leaves room for all there can be.
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.buffer.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn entry(&mut self, prefix: &str, name: &str, value: &[u8]) {
        self.bytes(&[(prefix.len() + name.len()) as u8]);
        self.bytes(prefix.as_bytes());
        self.bytes(name.as_bytes());
        self.bytes(&(value.len() as u16).to_le_bytes());
        self.bytes(value);
    }

    fn written(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or(&[])
    }
}

/// CRC-32 as in IEEE 802.3, reflected: the checksum of stored forms.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (crc & 1).wrapping_neg() & 0xEDB8_8320)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_all_its_bytes() {
        let mut bytes = [7; 300];
        bytes[..2].copy_from_slice(&257_u16.to_le_bytes());
        let (value, rest) = sized(&bytes, 2).unwrap();
        assert_eq!((value.len(), rest.len()), (257, 41));
        assert_eq!(sized(&bytes[..258], 2), None);
        assert_eq!(sized(&bytes[..1], 2), None);
    }

    #[test]
    fn memory_types_of_pat() {
        let limits = Limits::compile(&Cpu::ANY, Policy::VirtualCpu);
        for byte in 0..=255_u64 {
            for place in 0..8 {
                let legal = matches!(byte, 0 | 1 | 4..=7);
                assert_eq!(
                    limits.accepts_pat(0x0007_0406_0007_0406 & !(0xFF << (8 * place)) | byte << (8 * place)),
                    legal
                );
            }
        }
    }

    #[test]
    fn the_checksum_is_that_of_ieee_802_3() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
