//! The values that one line shows.

use super::table::{SLOTS, Slot};
use vmcb::ExitCode;

/// A set of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slots(u32);

impl Slots {
    #[cfg(test)]
    pub(super) const ALL: Self = Self(u32::MAX);

    pub(super) const fn has(self, slot: Slot) -> bool {
        self.0 & 1 << slot as u8 != 0
    }

    pub(super) const fn with(self, slot: Slot) -> Self {
        Self(self.0 | 1 << slot as u8)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }
}

/// What the arguments of one line show.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// Those that are not known are those of lines before.
    values: [u64; SLOTS],
    known: u32,
    /// Shown with different values.
    doubtful: u32,
    /// The line is one of VMX.
    pub(super) vmx: bool,
    pub(super) soft: bool,
    pub(super) reinjected: bool,
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        let marks = |one: &Self| (one.vmx, one.soft, one.reinjected);
        marks(self) == marks(other) && self.shown().eq(other.shown())
    }
}

impl Eq for Arguments {}

impl Arguments {
    pub(super) const NONE: Self =
        Self { values: [0; SLOTS], known: 0, doubtful: 0, vmx: false, soft: false, reinjected: false };

    /// Nothing is shown.
    #[must_use]
    pub const fn none() -> Self {
        Self::NONE
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        let Self { values: _, known, doubtful, vmx, soft, reinjected } = self;
        (*known, *doubtful) = (0, 0);
        (*vmx, *soft, *reinjected) = (false, false, false);
    }

    /// Forgets what is not wanted.
    #[inline]
    pub(super) const fn keep(&mut self, wanted: Slots) {
        self.known &= wanted.bits();
    }

    /// A value, if the line shows it.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<u64> {
        (self.known & !self.doubtful & 1 << slot as u8 != 0)
            .then(|| self.values.get(slot as usize).copied())
            .flatten()
    }

    /// What the line shows, slot by slot.
    fn shown(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let known = self.known & !self.doubtful;
        self.values.iter().copied().enumerate().filter(move |&(slot, _)| known & 1 << slot != 0)
    }

    /// The exit code. Trace lines show its low half; [`ExitCode::from_low_half`] says what that means.
    #[must_use]
    pub fn exit_code(&self) -> Option<ExitCode> {
        self.get(Slot::ExitCode).map(|low| ExitCode::from_low_half(low as u32))
    }

    /// Whether the line is one of VMX, whose numbers mean other things.
    #[must_use]
    pub const fn is_vmx(&self) -> bool {
        self.vmx
    }

    /// Whether KVM injects a software interrupt.
    #[must_use]
    pub const fn is_soft(&self) -> bool {
        self.soft
    }

    /// Whether KVM says that it injects this again.
    #[must_use]
    pub const fn is_reinjected(&self) -> bool {
        self.reinjected
    }

    /// A value that no other may contradict.
    #[inline]
    pub(super) fn set(&mut self, slot: Slot, value: u64) {
        if let Some(place) = self.values.get_mut(slot as usize) {
            *place = value;
            self.known |= 1 << slot as u8;
        }
    }

    #[inline]
    pub(super) fn learn(&mut self, slot: Slot, value: u64) {
        let bit = 1 << slot as u8;
        let Some(place) = self.values.get_mut(slot as usize) else { return };
        if self.known & bit == 0 {
            *place = value;
            self.known |= bit;
        } else if *place != value {
            self.doubtful |= bit;
        }
    }
}
