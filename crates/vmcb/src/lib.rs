#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod check;
mod cpu;
mod differ;
mod environment;
mod event;
mod exception;
mod exit_code;
mod feature;
mod injection;
mod judge;
mod known;
pub mod layout;
mod limits;
mod literal;
mod models;
mod moves;
mod notes;
mod phase;
mod register;
mod rules;
mod segment;
mod verdict;
mod view;
mod witness;
mod word;

pub use check::{Checked, Nothing, TakesOver, admit, check};
pub use cpu::{Cpu, CpuError, CpuidEntry, PHYS_BITS};
pub use environment::{Answer, Environment, Input, Inputs, Vmsa};
pub use event::{Event, EventType};
pub use exception::{EXCEPTIONS, Exception, ExceptionSet, Existence, Kind, RESERVED_VECTORS, Vector};
pub use exit_code::ExitCode;
pub use feature::{CpuidBit, Feature, Register};
pub use injection::{GuestMode, accepted_exceptions, check_event};
pub use judge::{Missing, View, judge};
pub use known::{Bits, KnownPage};
pub use limits::{CR4_GATES, EFER_GATES, Gate, Limits, LimitsError, Policy, crc32};
pub use literal::{Literal, Test};
pub use models::{MODELS, Model};
pub use notes::Note;
pub use phase::Phase;
pub use register::{
    AllowedSevFeatures, Asid, AvicPhysicalTable, Cr0, Cr4, CsAttributes, Dr6, Dr7, Efer, EventInj, Host,
    IntCtl, InterceptMisc1, InterceptMisc2, InterceptMisc3, Mode, NestedCtl, Rflags, SCet, SecureAvicCtl,
    SevFeatures, UCet, VintrCtrl, VirtExt,
};
pub use rules::{Class, Outcome, Row, Rule, RuleSet};
pub use segment::{Segment, SegmentAttributes};
pub use verdict::{Decision, Verdict};
pub use view::{Vmcb, VmsaView};
pub use witness::{Change, Contrast, Witness};
pub use word::{Source, Word};

/// The compiler miscompiles some functions that keep values of a large alignment on the stack (`docs/findings/`).
const _: () = {
    const MAX_ALIGN: usize = 64;
    assert!(align_of::<Limits>() <= MAX_ALIGN);
    assert!(align_of::<Cpu>() <= MAX_ALIGN);
    assert!(align_of::<KnownPage>() <= MAX_ALIGN);
    assert!(align_of::<Environment<'_>>() <= MAX_ALIGN);
    assert!(align_of::<View<'_>>() <= MAX_ALIGN);
    assert!(align_of::<Verdict>() <= MAX_ALIGN);
    assert!(align_of::<Witness>() <= MAX_ALIGN);
};
