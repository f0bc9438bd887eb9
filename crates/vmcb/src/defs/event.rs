//! EVENTINJ (0A8h) and EXITINTINFO (088h): one layout for both.

use super::exception::Vector;
use core::fmt;

/// TYPE of an event, bits 10:8: 3 bits, every encoding kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(u8);

impl EventType {
    /// External or virtual interrupt.
    pub const INTERRUPT: Self = Self(0);
    /// Non-maskable interrupt; VECTOR is ignored.
    pub const NMI: Self = Self(2);
    /// Exception: fault or trap.
    pub const EXCEPTION: Self = Self(3);
    /// Software interrupt: INTn.
    pub const SOFTWARE: Self = Self(4);

    /// From the low 3 bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// The encoding, 0 to 7.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Its name in the manual; `reserved` for 1, 5, 6 and 7.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::INTERRUPT => "interrupt",
            Self::NMI => "NMI",
            Self::EXCEPTION => "exception",
            Self::SOFTWARE => "software interrupt",
            _ => "reserved",
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

/// The 64 bits of EVENTINJ or EXITINTINFO, every bit kept.
///
/// # Source
/// Manual volume 2, 15.20, figure 15-5.
///
/// # Examples
/// ```
/// use vmcb::{Event, EventType, Vector};
/// let event = Event::from_bits(0x8000_031f);
/// assert!(event.valid() && event.event_type() == EventType::EXCEPTION);
/// assert_eq!(event.vector(), Vector::new(31));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Event(u64);

impl Event {
    /// Mask of VECTOR, bits 7:0.
    pub const VECTOR: u64 = 0xFF;
    /// Mask of TYPE, bits 10:8.
    pub const TYPE: u64 = 0x700;
    /// EV, bit 11: push ERRORCODE.
    pub const EV: u64 = 1 << 11;
    /// V, bit 31: inject.
    pub const V: u64 = 1 << 31;
    /// Bits 30:12: should be zero; no check is stated.
    pub const RESERVED: u64 = 0x7FFF_F000;

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

    /// An event to inject, without error code.
    #[must_use]
    pub const fn new(kind: EventType, vector: Vector) -> Self {
        Self(Self::V | (kind.bits() as u64) << 8 | vector.number() as u64)
    }

    /// The same event with an error code to push.
    #[must_use]
    pub const fn with_error_code(self, code: u32) -> Self {
        Self(self.0 & 0xFFFF_FFFF | Self::EV | (code as u64) << 32)
    }

    /// Returns the event with only V, TYPE and VECTOR, so that it pushes no error code.
    #[must_use]
    pub const fn without_error_code(self) -> Self {
        Self(self.0 & (Self::V | Self::TYPE | Self::VECTOR))
    }

    /// Returns whether V, TYPE and VECTOR of both events are equal. Error codes and reserved bits may differ.
    #[must_use]
    #[inline(always)]
    pub const fn same_vector(self, other: Self) -> bool {
        self.without_error_code().0 == other.without_error_code().0
    }

    /// V: whether there is an event.
    #[must_use]
    #[inline(always)]
    pub const fn valid(self) -> bool {
        self.0 & Self::V != 0
    }

    /// TYPE.
    #[must_use]
    #[inline(always)]
    pub const fn event_type(self) -> EventType {
        EventType::from_bits((self.0 >> 8) as u8)
    }

    /// VECTOR; its meaning depends on TYPE.
    #[must_use]
    #[inline(always)]
    pub const fn vector(self) -> Vector {
        Vector::new(self.0 as u8)
    }

    /// EV: whether ERRORCODE is pushed.
    #[must_use]
    #[inline(always)]
    pub const fn pushes_error_code(self) -> bool {
        self.0 & Self::EV != 0
    }

    /// ERRORCODE, bits 63:32.
    #[must_use]
    pub const fn error_code(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bits 30:12.
    #[must_use]
    pub const fn reserved(self) -> u64 {
        self.0 & Self::RESERVED
    }
}

impl fmt::Display for Event {
    /// `V=1 EV=1 TYPE=3 (exception) VECTOR=13 (#GP) ERRORCODE=0x18`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.event_type();
        write!(f, "V={} EV={} ", u8::from(self.valid()), u8::from(self.pushes_error_code()))?;
        write!(f, "TYPE={} ({}) VECTOR={}", kind.bits(), kind.name(), self.vector().number())?;
        // A vector names an exception only where TYPE says that it is one.
        if let (EventType::EXCEPTION, Some(name)) = (kind, self.vector().mnemonic()) {
            write!(f, " ({name})")?;
        }
        if self.pushes_error_code() {
            write!(f, " ERRORCODE={:#x}", self.error_code())?;
        }
        if self.reserved() != 0 {
            write!(f, " bits 30:12={:#x}", self.reserved() >> 12)?;
        }
        Ok(())
    }
}

impl fmt::LowerHex for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x} {self}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn an_event_keeps_every_bit_and_reads_its_fields() {
        let event = Event::new(EventType::EXCEPTION, Vector::new(13)).with_error_code(0x18);
        assert_eq!(event.bits(), 0x18_8000_0b0d);
        assert_eq!(event.to_string(), "V=1 EV=1 TYPE=3 (exception) VECTOR=13 (#GP) ERRORCODE=0x18");
        assert_eq!((event.error_code(), event.pushes_error_code(), event.reserved()), (0x18, true, 0));
        // A vector names an exception only where TYPE says that it is one.
        assert_eq!(Event::from_bits(0x8000_000d).to_string(), "V=1 EV=0 TYPE=0 (interrupt) VECTOR=13");
        assert_eq!(
            Event::from_bits(0x7000).to_string(),
            "V=0 EV=0 TYPE=0 (interrupt) VECTOR=0 bits 30:12=0x7"
        );
        assert_eq!(
            format!("{:?}", Event::from_bits(2)),
            "0x0000000000000002 V=0 EV=0 TYPE=0 (interrupt) VECTOR=2"
        );
        assert_eq!(format!("{:?}", EventType::from_bits(13)), "5 (reserved)");
        let names = [0, 1, 2, 3, 4].map(|bits| EventType::from_bits(bits).name());
        assert_eq!(names, ["interrupt", "reserved", "NMI", "exception", "software interrupt"]);
        // Whatever the word had above, an error code takes its place.
        assert_eq!(Event::from_bits(0xFFFF_FFFF_8000_0308).with_error_code(0).bits(), 0x8000_0b08);
    }
}
