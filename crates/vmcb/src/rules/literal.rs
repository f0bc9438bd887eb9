//! One condition of a rule, and whether it may hold of what is known.
//!
//! A rule is a conjunction of literals, each over bits of its own. So what is known decides a rule
//! exactly: it may be broken when each literal may hold, and it is broken for certain when moreover
//! none may fail. Both questions have one answer function here, [`Literal::may_be`]; nothing else
//! knows what a literal means.

use super::mode::MODE_SOURCES;
use super::predicate::Test;
use super::state::State;
use crate::cpu::feature::Feature;
use crate::defs::register::for_each_register;
use crate::defs::word::Word;

/// One condition of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Literal {
    /// The bits of `mask` read as in `value`.
    Is {
        /// The word.
        word: Word,
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// Some bit of `mask` differs from `value`.
    IsNot {
        /// The word.
        word: Word,
        /// The bits that count.
        mask: u64,
        /// What they must not all be.
        value: u64,
    },
    /// A named test says so.
    Holds(Test),
}

impl Literal {
    /// The CPU has this feature.
    pub(super) const fn has(feature: Feature) -> Self {
        Self::Is { word: Word::Cpu, mask: feature.mask(), value: feature.mask() }
    }

    /// The CPU lacks this feature.
    pub(super) const fn lacks(feature: Feature) -> Self {
        Self::Is { word: Word::Cpu, mask: feature.mask(), value: 0 }
    }

    /// Whether some completion of what is known makes the literal `wanted`.
    #[inline(always)]
    pub(crate) fn may_be<S: State>(self, state: &S, wanted: bool) -> bool {
        match (self, wanted) {
            (Self::Is { word, mask, value }, true) | (Self::IsNot { word, mask, value }, false) => {
                state.bits(word).may_be(mask, value)
            }
            (Self::Is { word, mask, value }, false) | (Self::IsNot { word, mask, value }, true) => {
                let bits = state.bits(word);
                (bits.may_set() & !value | bits.may_clear() & value) & mask != 0
            }
            (Self::Holds(test), _) => test.may_be(state, wanted),
        }
    }

    /// The test, if it is one.
    pub(crate) const fn test(self) -> Option<Test> {
        match self {
            Self::Holds(test) => Some(test),
            Self::Is { .. } | Self::IsNot { .. } => None,
        }
    }

    /// Each word that it reads, with the bits that count. For a derived word, these are the words that it is derived
    /// from.
    pub fn reads(self) -> impl Iterator<Item = (Word, u64)> {
        let (derived, plain, test) = match self {
            Self::Is { word: Word::Mode, mask, .. } | Self::IsNot { word: Word::Mode, mask, .. } => {
                (mask, None, None)
            }
            Self::Is { word, mask, .. } | Self::IsNot { word, mask, .. } => (0, Some((word, mask)), None),
            Self::Holds(test) => (0, None, Some(test)),
        };
        let sources = MODE_SOURCES.iter().filter(move |(bit, _)| derived & bit.bits() != 0);
        let sources = sources.flat_map(|(_, sources)| sources.iter().copied());
        sources.chain(plain).chain(test.into_iter().flat_map(Test::reads))
    }
}

macro_rules! literals_of {
    ($register:ident) => {
        #[allow(dead_code, reason = "each type offers the same literals; not every rule set needs all")]
        impl crate::defs::register::$register {
            /// Literal: all these bits are one.
            pub(super) const fn set(self) -> Literal {
                self.are(self)
            }

            /// Literal: all these bits are zero.
            pub(super) const fn clear(self) -> Literal {
                self.are(Self::from_bits(0))
            }

            /// Literal: some of these bits are one.
            pub(super) const fn any_set(self) -> Literal {
                Literal::IsNot { word: Word::$register, mask: self.bits(), value: 0 }
            }

            /// Literal: these bits read as in `value`.
            pub(super) const fn are(self, value: Self) -> Literal {
                Literal::Is { word: Word::$register, mask: self.bits(), value: value.bits() }
            }

            /// Literal: some of these bits differ from `value`.
            pub(super) const fn are_not(self, value: Self) -> Literal {
                Literal::IsNot { word: Word::$register, mask: self.bits(), value: value.bits() }
            }
        }
    };
}

for_each_register!(literals_of);
