//! What is legal and almost surely wrong. Notes never change a verdict.

use super::judge::View;
use crate::cpu::feature::Feature;
use crate::defs::event::{Event, EventType};
use crate::defs::exception::{BP, OF};
use crate::defs::layout::{Field, vmcb_field};
use crate::defs::register::Cr0;
use crate::defs::word::Word;
use crate::rules::state::State as _;

/// Something legal that a guest is likely to misread, or that hides what the page shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Note {
    /// EV differs from what the exception pushes in protected mode.
    ErrorCodeDiffers,
    /// A software interrupt, #BP or #OF is injected without a next RIP to return to.
    NoNextRip,
    /// EVENTINJ bits 30:12 are set.
    EventReservedBits,
    /// ERRORCODE bits 31:16 are set.
    WideErrorCode,
    /// Clean bits are set: VMRUN may use cached values instead of those in the page.
    CleanBits,
}

impl Note {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::ErrorCodeDiffers,
        Self::NoNextRip,
        Self::EventReservedBits,
        Self::WideErrorCode,
        Self::CleanBits,
    ];

    /// Its stable name.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::ErrorCodeDiffers => "note-error-code-differs",
            Self::NoNextRip => "note-no-next-rip",
            Self::EventReservedBits => "note-event-reserved-bits",
            Self::WideErrorCode => "note-wide-error-code",
            Self::CleanBits => "note-clean-bits",
        }
    }

    /// What to know, one sentence without a full stop.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::ErrorCodeDiffers => {
                "EV differs from what this exception pushes: the guest's handler will misread its frame"
            }
            Self::NoNextRip => {
                "no next RIP is known for this event: the CPU pushes nRIP (0C8h) where it has NRIPS, else RIP"
            }
            Self::EventReservedBits => {
                "EVENTINJ has bits 30:12 set, which should be zero; no check is stated"
            }
            Self::WideErrorCode => "ERRORCODE has bits 31:16 set, which no exception of a guest has",
            Self::CleanBits => {
                "clean bits are set: VMRUN may use cached values of these groups, so a rule can be broken by a value that the page does not show"
            }
        }
    }

    /// Section of the manual, volume 2.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::CleanBits => "15.15, 15.5.1",
            _ => "15.20",
        }
    }

    /// The field that it is about.
    #[must_use]
    pub const fn field(self) -> Field {
        match self {
            Self::CleanBits => vmcb_field::clean,
            _ => vmcb_field::eventinj,
        }
    }
}

impl View<'_> {
    /// The notes on this VMCB. What is not known for certain makes no note.
    pub fn notes(&self) -> impl Iterator<Item = Note> {
        let mut notes = [None; Note::ALL.len()];
        let mut places = notes.iter_mut();
        self.each_note(&mut |note| {
            if let Some(place) = places.next() {
                *place = Some(note);
            }
        });
        notes.into_iter().flatten()
    }

    /// Calls `visit` with each note, once.
    fn each_note(&self, visit: &mut dyn FnMut(Note)) {
        let clean = self.control(vmcb_field::clean);
        if clean.value() != 0 {
            visit(Note::CleanBits);
        }
        let bits = self.word(Word::EventInj);
        // EXITINTINFO is the processor's own writing.
        if self.event_is_inferred() || bits.value() & Event::V == 0 {
            return;
        }
        let event = Event::from_bits(bits.value());
        if event.reserved() != 0 {
            visit(Note::EventReservedBits);
        }
        if event.pushes_error_code() && event.error_code() >> 16 != 0 {
            visit(Note::WideErrorCode);
        }
        let shape = Event::TYPE | Event::VECTOR | Event::EV;
        if bits.known_mask() & shape != shape {
            return;
        }
        let (kind, vector) = (event.event_type(), event.vector());
        let protected = self.word(Word::Cr0).value() & Cr0::PE.bits() != 0;
        if let (EventType::EXCEPTION, true, Some(row)) = (kind, protected, vector.exception()) {
            if row.error_code != event.pushes_error_code() {
                visit(Note::ErrorCodeDiffers);
            }
        }
        let soft =
            kind == EventType::SOFTWARE || kind == EventType::EXCEPTION && (vector == BP || vector == OF);
        let nrip = self.control(vmcb_field::nrip);
        let no_nrip = nrip.unknown_mask() == 0 && nrip.value() == 0;
        if soft && (no_nrip || self.bounds().cpu.has(Feature::NripSave) == Some(false)) {
            visit(Note::NoNextRip);
        }
    }
}
