//! One vocabulary for the sets of this crate: registers, exceptions, rules, inputs.

/// Gives a set, a tuple struct of one unsigned integer, its operations; `$members` names what it holds.
macro_rules! set_operations {
    ($name:ident, $members:literal) => {
        impl $name {
            /// The empty set.
            pub const EMPTY: Self = Self(0);

            #[doc = concat!("The ", $members, " that are in at least one of the two sets; also written `|`.")]
            #[must_use]
            #[inline(always)]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            #[doc = concat!("The ", $members, " that are in both sets; also written `&`.")]
            #[must_use]
            #[inline(always)]
            pub const fn intersection(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            #[doc = concat!("The ", $members, " that are not in `other`; also written `-`.")]
            #[must_use]
            #[inline(always)]
            pub const fn difference(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            #[doc = concat!("Whether all ", $members, " of `other` are in this set.")]
            #[must_use]
            #[inline(always)]
            pub const fn contains_all(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            #[doc = concat!("Whether the set holds no ", $members, ".")]
            #[must_use]
            #[inline(always)]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            #[doc = concat!("The number of ", $members, " in the set.")]
            #[must_use]
            pub const fn len(self) -> usize {
                self.0.count_ones() as usize
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.union(other)
            }
        }

        impl core::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                *self = self.union(other);
            }
        }

        impl core::ops::BitAnd for $name {
            type Output = Self;

            fn bitand(self, other: Self) -> Self {
                self.intersection(other)
            }
        }

        impl core::ops::Sub for $name {
            type Output = Self;

            fn sub(self, other: Self) -> Self {
                self.difference(other)
            }
        }
    };
}
pub(crate) use set_operations;

/// Lets a set with `EMPTY` and `with` be collected from its members.
macro_rules! set_of {
    ($name:ident, $member:ty) => {
        impl FromIterator<$member> for $name {
            fn from_iter<I: IntoIterator<Item = $member>>(members: I) -> Self {
                members.into_iter().fold(Self::EMPTY, Self::with)
            }
        }

        impl Extend<$member> for $name {
            fn extend<I: IntoIterator<Item = $member>>(&mut self, members: I) {
                *self = members.into_iter().fold(*self, Self::with);
            }
        }
    };
    // With the feature `serde`, a sequence of the members.
    (serde $name:ident, $member:ty) => {
        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.iter())
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;

                impl<'de> serde::de::Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str("a list of names")
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(
                        self,
                        mut members: A,
                    ) -> Result<$name, A::Error> {
                        let mut set = $name::EMPTY;
                        while let Some(member) = members.next_element::<$member>()? {
                            set = set.with(member);
                        }
                        Ok(set)
                    }
                }

                deserializer.deserialize_seq(Members)
            }
        }
    };
}
pub(crate) use set_of;
