//! Which intercept of VMCB12 an exit code belongs to.

use crate::l0::page::Page;
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
    /// What no virtual CPU of this engine has: AVIC, SEV-ES guests and their write traps, bus locks, idle HLT. Such an
    /// exit is L0's, if L0 turned it on in VMCB01.
    NotOffered,
}

impl Cause {
    /// The cause of every exit code, those that the manual does not define included.
    #[must_use]
    #[inline(always)]
    pub const fn of(code: ExitCode) -> Self {
        let number = code.bits();
        match number {
            0x00..=0x1F => Self::Bit(f::intercept_cr, number as u8),
            0x20..=0x3F => Self::Bit(f::intercept_dr, number as u8 - 0x20),
            0x40..=0x5F => Self::Bit(f::intercept_exceptions, number as u8 - 0x40),
            IOIO => Self::Port,
            MSR => Self::Msr,
            0x60..=0x7F => Self::Bit(f::intercept_misc1, number as u8 - 0x60),
            0x80..=0x8E => Self::Bit(f::intercept_misc2, number as u8 - 0x80),
            0xA0..=0xA4 => Self::Bit(f::intercept_misc3, number as u8 - 0xA0),
            0x400 => Self::NestedPageFault,
            _ if code.is_failure() => Self::Refused,
            _ => Self::NotOffered,
        }
    }

    /// Whether VMCB12 intercepts it. Of ports and MSRs this is the enabling bit: the map decides then.
    #[must_use]
    #[inline(always)]
    pub fn intercepted(self, vmcb12: &Page) -> bool {
        let bit = |field: Field, position: u8| vmcb12.get(field) >> position & 1 != 0;
        match self {
            Self::Bit(field, position) => bit(field, position),
            Self::Port => vmcb12.vmcb().intercept_misc1().contains(InterceptMisc1::IOIO_PROT),
            Self::Msr => vmcb12.vmcb().intercept_misc1().contains(InterceptMisc1::MSR_PROT),
            Self::NestedPageFault | Self::Refused | Self::NotOffered => false,
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
        assert_eq!(compared, 45);
    }

    /// Every code that the manual defines has a cause of its own kind, and so has every other.
    #[test]
    fn all_codes_are_classified() {
        let defined = (0..0xA7).chain(0x400..0x404).chain(u64::MAX - 3..=u64::MAX);
        let others = (0xA7..0x400).chain([0x404, 0xF000_0000, 0xFFFF_FFFF, u64::MAX - 4]);
        for number in defined.chain(others) {
            let cause = Cause::of(ExitCode::from_bits(number));
            let wanted = match number {
                0x00..=0x1F => Cause::Bit(f::intercept_cr, number as u8),
                0x20..=0x3F => Cause::Bit(f::intercept_dr, number as u8 - 0x20),
                0x40..=0x5F => Cause::Bit(f::intercept_exceptions, number as u8 - 0x40),
                0x7B => Cause::Port,
                0x7C => Cause::Msr,
                0x60..=0x7F => Cause::Bit(f::intercept_misc1, number as u8 - 0x60),
                0x80..=0x8E => Cause::Bit(f::intercept_misc2, number as u8 - 0x80),
                0xA0..=0xA4 => Cause::Bit(f::intercept_misc3, number as u8 - 0xA0),
                0x400 => Cause::NestedPageFault,
                // The last one is 32 bits of -1, as some processors write it.
                0xFFFF_FFFC_FFFF_FFFC.. | 0xFFFF_FFFF => Cause::Refused,
                _ => Cause::NotOffered,
            };
            let wanted = if number == u64::MAX - 4 { Cause::NotOffered } else { wanted };
            assert_eq!(cause, wanted, "{number:#x}");
        }
    }
}
