//! Which intercept of VMCB12 an exit code belongs to.

use crate::page::Page;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{ExitCode, InterceptMisc1};

/// What decides whether an exit of L2 is L1's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A bit of an intercept word: the field, and the position of the bit in it.
    Bit(Field, u8),
    /// IN or OUT: the intercept IOIO_PROT, and the I/O permission map.
    Port,
    /// RDMSR or WRMSR: the intercept MSR_PROT, and the MSR permission map.
    Msr,
    /// A nested page fault: whose table did not map.
    NestedPageFault,
    /// VMRUN refused VMCB02.
    Refused,
    /// AVIC and SEV-ES guests have these exits; VMCB02 has neither.
    Impossible,
}

impl Cause {
    /// The cause of every exit code, those that the manual does not define included.
    #[must_use]
    #[inline]
    pub const fn of(code: ExitCode) -> Self {
        let number = code.bits();
        match number {
            0x00..=0x1F => Self::Bit(f::intercept_cr, number as u8),
            0x20..=0x3F => Self::Bit(f::intercept_dr, number as u8 - 0x20),
            0x40..=0x5F => Self::Bit(f::intercept_exceptions, number as u8 - 0x40),
            IOIO => Self::Port,
            MSR => Self::Msr,
            0x60..=0x7F => Self::Bit(f::intercept_misc1, number as u8 - 0x60),
            0x80..=0x9F => Self::Bit(f::intercept_misc2, number as u8 - 0x80),
            0xA0..=0xBF => Self::Bit(f::intercept_misc3, number as u8 - 0xA0),
            0x400 => Self::NestedPageFault,
            _ if code.is_failure() => Self::Refused,
            _ => Self::Impossible,
        }
    }

    /// Whether VMCB12 intercepts it. Of ports and MSRs this is the enabling bit: the map decides then.
    #[must_use]
    #[inline]
    pub fn intercepted(self, vmcb12: &Page) -> bool {
        let bit = |field: Field, position: u8| vmcb12.get(field) >> position & 1 != 0;
        match self {
            Self::Bit(field, position) => bit(field, position),
            Self::Port => vmcb12.vmcb().intercepts1().contains(InterceptMisc1::IOIO_PROT),
            Self::Msr => vmcb12.vmcb().intercepts1().contains(InterceptMisc1::MSR_PROT),
            Self::NestedPageFault | Self::Refused | Self::Impossible => false,
        }
    }
}

const IOIO: u64 = 0x7B;
const MSR: u64 = 0x7C;

#[cfg(test)]
mod tests {
    use super::*;
    use vmcb::Word;

    /// The name of the exit code and the name of the intercept bit agree: two tables that were written apart.
    #[test]
    fn codes_meet_the_bits_of_their_names() {
        let words = [(f::intercept_misc1, Word::InterceptMisc1), (f::intercept_misc2, Word::InterceptMisc2)];
        let mut compared = 0;
        for code in 0x60..0x90 {
            let code = ExitCode::from_bits(code);
            let Cause::Bit(field, position) = Cause::of(code) else {
                continue;
            };
            let word = words.iter().find(|(known, _)| *known == field).map(|&(_, word)| word).unwrap();
            let Some(&(_, name, _)) = word.bit_names().iter().find(|(bit, ..)| *bit == position) else {
                continue;
            };
            let alias = match name {
                "MWAIT_ARMED" => "MWAIT_CONDITIONAL",
                name => name,
            };
            assert_eq!(code.name(), Some(alias));
            compared += 1;
        }
        assert_eq!(compared, 46);
    }

    /// Every code that the manual defines has a cause of its own kind.
    #[test]
    fn all_codes_are_classified() {
        for number in (0..0xA7).chain(0x400..0x404).chain(u64::MAX - 3..=u64::MAX) {
            let code = ExitCode::from_bits(number);
            let cause = Cause::of(code);
            match number {
                0x7B => assert_eq!(cause, Cause::Port),
                0x7C => assert_eq!(cause, Cause::Msr),
                0x400 => assert_eq!(cause, Cause::NestedPageFault),
                0x401..=0x403 => assert_eq!(cause, Cause::Impossible),
                0..0xA7 => assert!(matches!(cause, Cause::Bit(..)), "{code:?}"),
                _ => assert_eq!(cause, Cause::Refused),
            }
        }
        assert_eq!(Cause::of(ExitCode::from_bits(0xF000_0000)), Cause::Impossible);
        assert_eq!(Cause::of(ExitCode::from_bits(0xFFFF_FFFF)), Cause::Refused, "32 bits of -1");
    }
}
