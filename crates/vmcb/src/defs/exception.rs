//! The exceptions: vectors 0 to 31 of an AMD CPU, each classified once.
//!
//! # Source
//! Manual volume 2, revision 3.44, section 8.2 and table 8-1; 15.20 for injection, 15.36.16 for #HV.

use super::set::{set_of, set_operations};
use core::fmt;

/// The number of an interrupt or exception vector, 0 to 255.
///
/// A number, not a set: it converts into no mask. The first draft of Linux's EVENTINJ check or-ed a
/// vector's number into a mask of bits and so refused vector 1 and accepted NMI; here that does not
/// compile:
///
/// ```compile_fail,E0308
/// # use vmcb::{ExceptionSet, Vector};
/// // "4 Nov 2025, v1": NMI_VECTOR where BIT_ULL(NMI_VECTOR) was meant.
/// let reserved = ExceptionSet::of(&[Vector::new(9), Vector::new(15)]).unwrap();
/// let invalid: ExceptionSet = reserved.union(Vector::new(2));
/// ```
///
/// The second draft or-ed nothing but numbers:
///
/// ```compile_fail,E0369
/// # use vmcb::{ExceptionSet, Vector};
/// // "8 Nov 2025 sketch": DE_VECTOR | DB_VECTOR | BP_VECTOR ... as the set of valid vectors.
/// let valid: ExceptionSet = Vector::new(0) | Vector::new(1) | Vector::new(3);
/// ```
///
/// What they meant:
///
/// ```
/// # use vmcb::{ExceptionSet, Vector};
/// const INVALID: ExceptionSet =
///     ExceptionSet::of(&[Vector::new(9), Vector::new(15), Vector::new(2)]).unwrap();
/// assert!(INVALID.contains(Vector::new(2)) && !INVALID.contains(Vector::new(1)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vector(u8);

impl Vector {
    /// The vector with this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The row of the exception table; `None` above 31.
    #[must_use]
    pub fn exception(self) -> Option<&'static Exception> {
        EXCEPTIONS.get(usize::from(self.0))
    }

    /// `#GP`, `NMI`; `None` where the vector has no name.
    #[must_use]
    pub fn mnemonic(self) -> Option<&'static str> {
        self.exception().and_then(|row| row.mnemonic)
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A set of vectors 0 to 31.
///
/// It is built from [`Vector`]s and asked with [`contains`](Self::contains), which does the only shift
/// there is; vectors above 31 are in no set. No integer converts into it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExceptionSet(u32);

set_operations!(ExceptionSet, "vectors");
set_of!(ExceptionSet, Vector);

impl ExceptionSet {
    /// The set of these vectors; `None` when one is above 31. In a constant, `unwrap` makes that a
    /// compile error.
    #[must_use]
    pub const fn of(vectors: &[Vector]) -> Option<Self> {
        let mut set = Self::EMPTY;
        let mut index = 0;
        while index < vectors.len() {
            if vectors[index].0 > 31 {
                return None;
            }
            set = set.with(vectors[index]);
            index += 1;
        }
        Some(set)
    }

    /// The set of this one vector; empty for vectors above 31.
    #[must_use]
    pub const fn only(vector: Vector) -> Self {
        Self::EMPTY.with(vector)
    }

    /// The vectors whose row of the table satisfies `existence`.
    const fn existing(existence: Existence) -> Self {
        let mut set = 0;
        let mut number = 0;
        while number < 32 {
            if EXCEPTIONS[number].existence as u8 == existence as u8 {
                set |= 1 << number;
            }
            number += 1;
        }
        Self(set)
    }

    /// Whether the vector is in the set; `false` for vectors above 31.
    #[must_use]
    #[inline(always)]
    pub const fn contains(self, vector: Vector) -> bool {
        vector.0 < 32 && self.0 >> (vector.0 & 31) & 1 == 1
    }

    /// The set with this vector too; vectors above 31 change nothing.
    #[must_use]
    pub const fn with(self, vector: Vector) -> Self {
        if vector.0 < 32 { Self(self.0 | 1 << (vector.0 & 31)) } else { self }
    }

    /// The vectors, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Vector> {
        (0..32).map(Vector).filter(move |&vector| self.contains(vector))
    }

    /// Bit n for vector n: the form of the VMCB's exception intercepts (008h).
    #[must_use]
    pub const fn intercept_word(self) -> u32 {
        self.0
    }

    /// The set that an exception intercept word (008h) names.
    #[must_use]
    pub const fn from_intercept_word(word: u32) -> Self {
        Self(word)
    }
}

impl fmt::Debug for ExceptionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What makes an exception exist, and so injectable with TYPE 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Existence {
    /// On every CPU that has SVM.
    Always,
    /// With shadow stacks: CPUID 7.0 ECX\[7\].
    ShadowStacks,
    /// With SEV-ES: CPUID 8000_001F EAX\[3\].
    SevEs,
    /// In an SNP guest that runs with Restricted Injection.
    RestrictedInjection,
    /// Vector 9, the coprocessor segment overrun of the 386: reserved on AMD64 CPUs.
    Overrun,
    /// Vector 2: an interrupt of its own TYPE, not an exception.
    Nmi,
    /// Reserved on AMD CPUs, whatever another vendor does with it.
    Never,
}

/// How an exception counts when it meets another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// Neither contributory nor a page fault.
    Benign,
    /// Two of these make a double fault.
    Contributory,
    /// A page fault.
    PageFault,
    /// Cannot be resumed.
    Abort,
    /// Not an exception.
    Interrupt,
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Exception {
    /// `#GP`; `None` where reserved.
    pub mnemonic: Option<&'static str>,
    /// What it is.
    pub meaning: &'static str,
    /// Its class.
    pub kind: Kind,
    /// Whether the CPU pushes an error code when it raises this exception in protected mode.
    pub error_code: bool,
    /// What makes it exist.
    pub existence: Existence,
}

const fn row(
    mnemonic: &'static str,
    meaning: &'static str,
    kind: Kind,
    error_code: bool,
    existence: Existence,
) -> Exception {
    let mnemonic = if mnemonic.is_empty() { None } else { Some(mnemonic) };
    Exception { mnemonic, meaning, kind, error_code, existence }
}

/// Vectors 0 to 31, each classified: with a row missing this does not compile.
pub static EXCEPTIONS: [Exception; 32] = TABLE;

const TABLE: [Exception; 32] = {
    use Existence::{Always, Never, Nmi, Overrun, RestrictedInjection, SevEs, ShadowStacks};
    use Kind::{Abort, Benign, Contributory, Interrupt, PageFault};
    [
        row("#DE", "divide error", Contributory, false, Always),
        row("#DB", "debug", Benign, false, Always),
        row("NMI", "non-maskable interrupt", Interrupt, false, Nmi),
        row("#BP", "breakpoint (INT3)", Benign, false, Always),
        row("#OF", "overflow (INTO)", Benign, false, Always),
        row("#BR", "bound range", Benign, false, Always),
        row("#UD", "invalid opcode", Benign, false, Always),
        row("#NM", "device not available", Benign, false, Always),
        row("#DF", "double fault", Abort, true, Always),
        row("", "coprocessor segment overrun (reserved)", Benign, false, Overrun),
        row("#TS", "invalid TSS", Contributory, true, Always),
        row("#NP", "segment not present", Contributory, true, Always),
        row("#SS", "stack", Contributory, true, Always),
        row("#GP", "general protection", Contributory, true, Always),
        row("#PF", "page fault", PageFault, true, Always),
        row("", "reserved", Benign, false, Never),
        row("#MF", "x87 floating point", Benign, false, Always),
        row("#AC", "alignment check", Benign, true, Always),
        row("#MC", "machine check", Abort, false, Always),
        row("#XF", "SIMD floating point", Benign, false, Always),
        row("", "reserved (Intel's #VE)", Benign, false, Never),
        row("#CP", "control protection", Contributory, true, ShadowStacks),
        row("", "reserved", Benign, false, Never),
        row("", "reserved", Benign, false, Never),
        row("", "reserved", Benign, false, Never),
        row("", "reserved", Benign, false, Never),
        row("", "reserved", Benign, false, Never),
        row("", "reserved", Benign, false, Never),
        row("#HV", "hypervisor injection", Benign, false, RestrictedInjection),
        row("#VC", "VMM communication", Contributory, true, SevEs),
        row("#SX", "security", Benign, true, Always),
        row("", "reserved", Benign, false, Never),
    ]
};

/// The vectors that no AMD CPU defines: 15, 20, 22 to 27 and 31. Vectors 2 and 9 have rules of their own.
pub const RESERVED_VECTORS: ExceptionSet = ExceptionSet::existing(Existence::Never);

pub(crate) const OVERRUN: Vector = only(Existence::Overrun);
pub(crate) const NMI: Vector = only(Existence::Nmi);
pub(crate) const CP: Vector = only(Existence::ShadowStacks);
pub(crate) const VC: Vector = only(Existence::SevEs);
pub(crate) const HV: Vector = only(Existence::RestrictedInjection);
pub(crate) const BP: Vector = named("#BP");
pub(crate) const OF: Vector = named("#OF");
pub(crate) const BR: Vector = named("#BR");
pub(crate) const UD: Vector = named("#UD");
pub(crate) const GP: Vector = named("#GP");

/// The one vector with this existence: a second one would need a rule of its own, so it does not compile.
const fn only(existence: Existence) -> Vector {
    let set = ExceptionSet::existing(existence).0;
    assert!(set.count_ones() == 1);
    Vector(set.trailing_zeros() as u8)
}

const fn named(mnemonic: &str) -> Vector {
    let mut number = 0;
    while number < 32 {
        if let Some(name) = TABLE[number as usize].mnemonic {
            if crate::defs::layout::same(name, mnemonic) {
                return Vector(number);
            }
        }
        number += 1;
    }
    panic!("no such mnemonic in the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_that_push_an_error_code() {
        let pushing = (0..32).filter(|&n| EXCEPTIONS[n].error_code).collect::<std::vec::Vec<_>>();
        assert_eq!(pushing, [8, 10, 11, 12, 13, 14, 17, 21, 29, 30]);
    }

    #[test]
    fn a_vector_has_the_name_of_its_row() {
        use std::format;
        assert_eq!(Vector::new(13).mnemonic(), Some("#GP"));
        assert_eq!(Vector::new(9).mnemonic(), None);
        assert_eq!(Vector::new(32).exception(), None);
        assert_eq!(Vector::new(9).exception().map(|row| row.existence), Some(Existence::Overrun));
        assert_eq!(
            format!("{} {:?} {}", Vector::new(13), Vector::new(2), Vector::new(200)),
            "13 (#GP) 2 (NMI) 200"
        );
        let set = ExceptionSet::of(&[Vector::new(1), Vector::new(31)]).unwrap();
        assert_eq!(format!("{set:?}"), "{1 (#DB), 31}");
        assert_eq!(set.intercept_word(), 0x8000_0002);
        assert_eq!(ExceptionSet::of(&[Vector::new(32)]), None);
        assert!(ExceptionSet::EMPTY.is_empty() && !set.is_empty());
        assert_eq!(set.with(Vector::new(1)), set);
        assert_eq!(set.union(set), set);
        assert_eq!(set.intersection(set), set);
        assert_eq!(set.intersection(ExceptionSet::EMPTY.with(Vector::new(1))).iter().count(), 1);
        assert_eq!(set.union(ExceptionSet::EMPTY.with(Vector::new(3))).iter().count(), 3);
    }

    #[test]
    fn reserved_is_the_list_of_the_manual() {
        let reserved = RESERVED_VECTORS.iter().map(Vector::number).collect::<std::vec::Vec<_>>();
        assert_eq!(reserved, [15, 20, 22, 23, 24, 25, 26, 27, 31]);
    }

    /// Both drafts of the kernel's check, computed as the plain integers that they were, and the
    /// answers that they gave.
    #[test]
    fn the_drafts_of_the_kernels_check_were_wrong() {
        let bit = |n: u32| 1_u64 << n;
        let reserved = [9, 15, 20, 22, 23, 24, 25, 26, 27, 31].map(bit).iter().sum::<u64>();
        // v1 or-ed the *number* of the NMI's vector into a set of bits.
        let first = 2 | reserved;
        assert_eq!(first, 0x8fd0_8202);
        let refused = (0..32).filter(|&n| first >> n & 1 == 1).collect::<std::vec::Vec<_>>();
        assert_eq!(refused, [1, 9, 15, 20, 22, 23, 24, 25, 26, 27, 31]);
        assert_eq!(first >> 2 & 1, 0, "it accepts NMI, the one case that the manual names");
        // The sketch or-ed nothing but numbers into the set of valid vectors.
        let second = [0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 28, 29, 30]
            .iter()
            .fold(0_u64, |set, number| set | number);
        assert_eq!(second, 0x1f);
        assert_eq!((0..32).filter(|&n| second >> n & 1 == 1).collect::<std::vec::Vec<_>>(), [0, 1, 2, 3, 4]);
        // The table has neither error.
        assert!(!RESERVED_VECTORS.contains(Vector::new(1)));
        assert_eq!(u64::from(RESERVED_VECTORS.with(OVERRUN).intercept_word()), reserved);
        assert_eq!(NMI, Vector::new(2));
    }

    #[test]
    fn no_vector_above_31_is_in_a_set() {
        let all = ExceptionSet::from_intercept_word(u32::MAX);
        assert_eq!(all.iter().count(), 32);
        assert!((32..=255).all(|n| !all.contains(Vector::new(n))));
        assert!((32..=255).all(|n| ExceptionSet::EMPTY.with(Vector::new(n)).is_empty()));
    }
}
