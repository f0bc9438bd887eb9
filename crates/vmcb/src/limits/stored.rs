//! The stored form of limits: a magic, a list of entries (key length, key, value length, value), a CRC-32.
//!
//! Everything is named by text, so that a build which does not know a name can report it.

use super::compiled::Limits;
use super::policy::Policy;
use crate::cpu::bounds::Bounds;
use crate::cpu::feature::Feature;
use crate::cpu::reserved::Reserved;
use crate::cpu::virtual_cpu::{Cpu, PHYS_BITS};
use crate::defs::exception::ExceptionSet;
use crate::rules::set::RuleSet;
use crate::rules::table::{ROWS, Rule};
use core::fmt;

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
    /// They name something unknown: a newer build stored them.
    Unknown(&'a str),
    /// Their policy has an unknown number: a newer build stored them.
    UnknownPolicy(u64),
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
            Self::UnknownPolicy(number) => write!(
                f,
                "these limits have policy {number}, which this build does not know; load them with a newer one"
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
        while index < ROWS.len() {
            size += 3 + RULE.len() + ROWS[index].id.len();
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
                "cr4.reserved" => Some(self.bounds.cr4.certain),
                "cr4.reserved-maybe" => Some(self.bounds.cr4.possible),
                "efer.reserved" => Some(self.bounds.efer.certain),
                "efer.reserved-maybe" => Some(self.bounds.efer.possible),
                "vectors.reserved" => Some(self.bounds.reserved_vectors.intercept_word().into()),
                "phys-bits" => self.bounds.cpu.phys_bits.map(u64::from),
                "sev-asid-max" => self.bounds.cpu.sev_asid_maximum.map(u64::from),
                "sev-asid-min" => self.bounds.cpu.sev_asid_minimum.map(u64::from),
                "c-bit" => self.bounds.cpu.c_bit.map(u64::from),
                _ => Some(self.policy.number()),
            };
            if let Some(value) = value {
                out.entry("", key, value.to_le_bytes().get(..usize::from(size)).unwrap_or(&[]));
            }
        }
        for &feature in Feature::ALL {
            if let Some(present) = self.bounds.cpu.has(feature) {
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
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err(LimitsError::NotLimits) };
        let Some((mut rest, stored)) = rest.split_last_chunk::<4>() else {
            return Err(corrupt(bytes.len(), "no checksum"));
        };
        let body = MAGIC.len() + rest.len();
        if crc32(bytes.get(..body).unwrap_or(&[])) != u32::from_le_bytes(*stored) {
            return Err(corrupt(body, "the checksum does not match"));
        }
        let mut entries = Entries::NONE;
        while !rest.is_empty() {
            let offset = body - rest.len();
            let (key, after) = sized(rest, 1).ok_or(corrupt(offset, "the key is cut"))?;
            let (value, after) = sized(after, 2).ok_or(corrupt(offset, "the value is cut"))?;
            rest = after;
            let key = core::str::from_utf8(key).map_err(|_| corrupt(offset, "the key is no text"))?;
            entries.add(key, value, offset)?;
        }
        entries.limits(body)
    }
}

const fn corrupt(offset: usize, reason: &'static str) -> LimitsError<'static> {
    LimitsError::Corrupt { offset, reason }
}

/// The entries of a stored form that were read.
struct Entries {
    /// Only the features.
    cpu: Cpu,
    rules: RuleSet,
    /// In the order of [`NUMBERS`].
    numbers: [Option<u64>; NUMBERS.len()],
}

impl Entries {
    const NONE: Self = Self {
        cpu: Cpu { features: Cpu::NO_FEATURE_KNOWN, ..Cpu::ANY },
        rules: RuleSet::EMPTY,
        numbers: [None; NUMBERS.len()],
    };

    fn add<'a>(&mut self, key: &'a str, value: &[u8], offset: usize) -> Result<(), LimitsError<'a>> {
        if let Some(id) = key.strip_prefix(RULE) {
            self.add_rule(id, value, offset)
        } else if let Some(name) = key.strip_prefix(FEATURE) {
            self.add_feature(name, value, offset)
        } else {
            self.add_number(key, value, offset)
        }
    }

    fn add_rule<'a>(&mut self, id: &'a str, value: &[u8], offset: usize) -> Result<(), LimitsError<'a>> {
        let rule = Rule::from_id(id).ok_or(LimitsError::Unknown(id))?;
        if self.rules.contains(rule) || !value.is_empty() {
            return Err(corrupt(offset, "a rule is named twice, or with a value"));
        }
        self.rules = self.rules.union(RuleSet::only(rule));
        Ok(())
    }

    fn add_feature<'a>(&mut self, name: &'a str, value: &[u8], offset: usize) -> Result<(), LimitsError<'a>> {
        let feature =
            Feature::from_name(name).filter(|f| f.name() == name).ok_or(LimitsError::Unknown(name))?;
        if self.cpu.has(feature).is_some() {
            return Err(corrupt(offset, "a feature is given twice"));
        }
        self.cpu = match value {
            [0] => self.cpu.with(feature, false),
            [1] => self.cpu.with(feature, true),
            _ => return Err(corrupt(offset, "a feature is neither present nor absent")),
        };
        Ok(())
    }

    fn add_number<'a>(&mut self, key: &'a str, value: &[u8], offset: usize) -> Result<(), LimitsError<'a>> {
        let index = NUMBERS.iter().position(|&(known, _)| known == key);
        let index = index.ok_or(LimitsError::Unknown(key))?;
        let (slot, size) = match (self.numbers.get_mut(index), NUMBERS.get(index)) {
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
        Ok(())
    }

    /// Checks the numbers and assembles the limits. Errors are reported at `end`, after the last entry.
    fn limits(self, end: usize) -> Result<Limits, LimitsError<'static>> {
        let Self { mut cpu, rules, numbers } = self;
        let [cr4, cr4_maybe, efer, efer_maybe, vectors, phys_bits, sev_max, sev_min, c_bit, policy] = numbers;
        let missing = corrupt(end, "a number is missing");
        let range = corrupt(end, "a number is out of range");
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
        let policy = policy.ok_or(missing)?;
        let policy = Policy::from_number(policy).ok_or(LimitsError::UnknownPolicy(policy))?;
        let both = |certain: Option<u64>, possible: Option<u64>| {
            Some(Reserved { certain: certain?, possible: possible?, exempt: 0 })
        };
        let cr4 = both(cr4, cr4_maybe).ok_or(missing)?;
        let efer = both(efer, efer_maybe).ok_or(missing)?;
        if cr4.certain & !cr4.possible != 0 || efer.certain & !efer.possible != 0 {
            return Err(corrupt(end, "a bit is reserved for certain and yet not possibly"));
        }
        let vectors = u32::try_from(vectors.ok_or(missing)?).map_err(|_| range)?;
        let bounds = Bounds::assemble(cpu, cr4, efer, ExceptionSet::from_intercept_word(vectors));
        Ok(Limits::assemble(policy, rules, bounds))
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
    fn the_checksum_is_that_of_ieee_802_3() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
