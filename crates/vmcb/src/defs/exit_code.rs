//! EXITCODE (070h).

use super::exception::Vector;
use super::named::from_name;
use core::fmt;

/// EXITCODE, 64 bits, every value kept.
///
/// # Source
/// Manual volume 2, appendix C.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExitCode(u64);

impl ExitCode {
    /// VMRUN refused the VMCB: all ones.
    pub const INVALID: Self = Self(u64::MAX);
    /// The VMSA is in use (-2).
    pub const BUSY: Self = Self(-2_i64 as u64);
    /// The sibling thread is not idle (-3).
    pub const IDLE_REQUIRED: Self = Self(-3_i64 as u64);
    /// Bad PMC state (-4).
    pub const INVALID_PMC: Self = Self(-4_i64 as u64);
    /// Nested page fault.
    pub const NPF: Self = Self(0x400);

    /// From all 64 bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The code of which only the low half is known: `ffff_ffff` is read as -1, since several peers
    /// write 32 bits of ones and a zero upper half, and no exit code has these values otherwise.
    #[must_use]
    pub const fn from_low_half(low: u32) -> Self {
        Self(low as i32 as i64 as u64)
    }

    /// This code, or the failure code that a peer wrote with its low half only.
    #[must_use]
    pub const fn widened(self) -> Self {
        match self.0 {
            0xFFFF_FFFC..=0xFFFF_FFFF => Self::from_low_half(self.0 as u32),
            _ => self,
        }
    }

    /// Whether VMRUN did not enter the guest: -1 to -4.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        self.widened().0 >= Self::INVALID_PMC.0
    }

    /// The name after `VMEXIT_` in the manual's table; `None` for a value that the manual does not define.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let code = self.widened().0;
        NAMES.iter().find(|&&(value, _)| value == code).map(|&(_, name)| name)
    }

    /// For codes 40h to 5Fh: the exception that was intercepted.
    #[must_use]
    pub const fn exception(self) -> Option<Vector> {
        match self.0 {
            0x40..=0x5F => Some(Vector::new((self.0 - 0x40) as u8)),
            _ => None,
        }
    }

    /// For codes 00h to 3Fh and 90h to 9Fh: which register and how.
    const fn register(self) -> Option<(&'static str, u64, &'static str)> {
        match self.0 {
            0x00..=0x0F => Some(("CR", self.0, "_READ")),
            0x10..=0x1F => Some(("CR", self.0 - 0x10, "_WRITE")),
            0x20..=0x2F => Some(("DR", self.0 - 0x20, "_READ")),
            0x30..=0x3F => Some(("DR", self.0 - 0x30, "_WRITE")),
            0x90..=0x9F => Some(("CR", self.0 - 0x90, "_WRITE_TRAP")),
            _ => None,
        }
    }

    /// The code with this name, as [`fmt::Display`] writes it, with or without `VMEXIT_`, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("VMEXIT_").or_else(|| name.strip_prefix("vmexit_")).unwrap_or(name);
        let named = NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|&(code, _)| code);
        named.map(Self).or_else(|| {
            (0..0xA0).map(Self).find(|code| {
                let mut rest = Expect(name);
                fmt::write(&mut rest, format_args!("{code}")).is_ok() && rest.0.is_empty()
            })
        })
    }
}

from_name!(ExitCode, from_name, "no exit code has this name");

/// Compares what is written with a text, without a buffer.
struct Expect<'a>(&'a str);

impl fmt::Write for Expect<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.0.get(..text.len()) {
            Some(head) if head.eq_ignore_ascii_case(text) => {
                self.0 = self.0.get(text.len()..).unwrap_or("");
                Ok(())
            }
            _ => Err(fmt::Error),
        }
    }
}

impl fmt::Display for ExitCode {
    /// `NPF`, `INVALID`, `CR0_READ`, `EXCP_GP`, or the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        if let Some((kind, number, access)) = self.register() {
            return write!(f, "{kind}{number}{access}");
        }
        match self.exception() {
            Some(vector) => match vector.mnemonic() {
                Some(name) => write!(f, "EXCP_{}", name.trim_start_matches('#')),
                None => write!(f, "EXCP{}", vector.number()),
            },
            None => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::LowerHex for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Debug for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} ({self})", self.0)
    }
}

static NAMES: [(u64, &str); 63] = [
    (0x60, "INTR"),
    (0x61, "NMI"),
    (0x62, "SMI"),
    (0x63, "INIT"),
    (0x64, "VINTR"),
    (0x65, "CR0_SEL_WRITE"),
    (0x66, "IDTR_READ"),
    (0x67, "GDTR_READ"),
    (0x68, "LDTR_READ"),
    (0x69, "TR_READ"),
    (0x6A, "IDTR_WRITE"),
    (0x6B, "GDTR_WRITE"),
    (0x6C, "LDTR_WRITE"),
    (0x6D, "TR_WRITE"),
    (0x6E, "RDTSC"),
    (0x6F, "RDPMC"),
    (0x70, "PUSHF"),
    (0x71, "POPF"),
    (0x72, "CPUID"),
    (0x73, "RSM"),
    (0x74, "IRET"),
    (0x75, "SWINT"),
    (0x76, "INVD"),
    (0x77, "PAUSE"),
    (0x78, "HLT"),
    (0x79, "INVLPG"),
    (0x7A, "INVLPGA"),
    (0x7B, "IOIO"),
    (0x7C, "MSR"),
    (0x7D, "TASK_SWITCH"),
    (0x7E, "FERR_FREEZE"),
    (0x7F, "SHUTDOWN"),
    (0x80, "VMRUN"),
    (0x81, "VMMCALL"),
    (0x82, "VMLOAD"),
    (0x83, "VMSAVE"),
    (0x84, "STGI"),
    (0x85, "CLGI"),
    (0x86, "SKINIT"),
    (0x87, "RDTSCP"),
    (0x88, "ICEBP"),
    (0x89, "WBINVD"),
    (0x8A, "MONITOR"),
    (0x8B, "MWAIT"),
    (0x8C, "MWAIT_CONDITIONAL"),
    (0x8D, "XSETBV"),
    (0x8E, "RDPRU"),
    (0x8F, "EFER_WRITE_TRAP"),
    (0xA0, "INVLPGB"),
    (0xA1, "INVLPGB_ILLEGAL"),
    (0xA2, "INVPCID"),
    (0xA3, "MCOMMIT"),
    (0xA4, "TLBSYNC"),
    (0xA5, "BUSLOCK"),
    (0xA6, "IDLE_HLT"),
    (0x400, "NPF"),
    (0x401, "AVIC_INCOMPLETE_IPI"),
    (0x402, "AVIC_NOACCEL"),
    (0x403, "VMGEXIT"),
    (u64::MAX, "INVALID"),
    (u64::MAX - 1, "BUSY"),
    (u64::MAX - 2, "IDLE_REQUIRED"),
    (u64::MAX - 3, "INVALID_PMC"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for code in (0..=0xA6).chain(0x400..=0x403).chain(u64::MAX - 3..=u64::MAX) {
            let code = ExitCode::from_bits(code);
            assert_eq!(ExitCode::from_name(&code.to_string()), Some(code), "{code}");
        }
        assert_eq!(ExitCode::from_name("vmexit_npf"), Some(ExitCode::NPF));
        assert_eq!(ExitCode::from_name("CR17_READ"), None);
        assert_eq!(ExitCode::from_name(""), None);
    }

    #[test]
    fn failures_of_both_widths() {
        for code in [0xFFFF_FFFC, 0xFFFF_FFFF, u64::MAX, u64::MAX - 3] {
            assert!(ExitCode::from_bits(code).is_failure(), "{code:#x}");
        }
        for code in [0, 0x400, 0xFFFF_FFFB, u64::MAX - 4, 0xF000_0000] {
            assert!(!ExitCode::from_bits(code).is_failure(), "{code:#x}");
        }
        assert_eq!(ExitCode::from_low_half(u32::MAX), ExitCode::INVALID);
    }
}
