//! Types whose values have stable names: they are displayed as the name, and parsed from it.

use core::fmt;

/// The error for a text that is not the name of a value of the type. Its `Display` names the type.
///
/// # Examples
/// ```
/// use vmcb::{Feature, Rule};
/// assert_eq!("pre-cpl".parse(), Ok(Rule::PreCpl));
/// assert_eq!("shstkk".parse::<Feature>().unwrap_err().to_string(), "no feature has this name");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct UnknownName(pub(crate) &'static str);

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for UnknownName {}

/// Implements `FromStr` of a type by its function from a name.
macro_rules! from_name {
    ($name:ident, $parse:ident, $unknown:literal) => {
        impl core::str::FromStr for $name {
            type Err = $crate::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::$parse(text).ok_or($crate::defs::named::UnknownName($unknown))
            }
        }
    };
}
pub(crate) use from_name;

/// Implements `Display` and `FromStr` of a type by its functions to and from a name.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident: $show:ident, $parse:ident, $unknown:literal) => {
        impl core::fmt::Display for $name {
            $(#[$doc])*
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.$show())
            }
        }

        $crate::defs::named::from_name!($name, $parse, $unknown);

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.$show())
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Name;

                impl serde::de::Visitor<'_> for Name {
                    type Value = $name;

                    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        f.write_str("a name")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Name)
            }
        }
    };
}
pub(crate) use named;
