#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod cpu;
mod defs;
mod eval;
#[cfg(feature = "explore")]
mod explore;
mod limits;
mod rules;

pub use cpu::feature::{CpuidBit, Feature, Register};
pub use cpu::gates::{CR4_GATES, EFER_GATES, Gate};
pub use cpu::models::{MODELS, Model};
pub use cpu::virtual_cpu::{Cpu, CpuError, CpuidEntry, PHYS_BITS};
pub use defs::event::{Event, EventType};
pub use defs::exception::{EXCEPTIONS, Exception, ExceptionSet, Existence, Kind, RESERVED_VECTORS, Vector};
pub use defs::exit_code::ExitCode;
pub use defs::known::{Bits, KnownPage};
pub use defs::layout;
pub use defs::named::UnknownName;
pub use defs::phase::Phase;
pub use defs::register::{
    AllowedSevFeatures, Asid, AvicPhysicalTable, Cr0, Cr4, CsAttributes, Dr6, Dr7, Efer, EventInj, Host,
    IntCtl, InterceptMisc1, InterceptMisc2, InterceptMisc3, Mode, NestedCtl, Rflags, SCet, SecureAvicCtl,
    SevFeatures, UCet, VintrCtrl, VirtExt,
};
pub use defs::segment::{Segment, SegmentAttributes};
pub use defs::view::{Vmcb, VmcbMut, VmsaMut, VmsaView};
pub use defs::word::{Source, Word};
pub use eval::check::{check, check_out_of_line};
pub use eval::environment::{Answer, Environment, Input, Inputs, Nothing, TakesOver, Vmsa};
pub use eval::injection::{accepted_exceptions, check_event};
pub use eval::judge::{Missing, View, judge};
pub use eval::notes::Note;
pub use eval::proof::{Checked, admit};
pub use eval::verdict::{Decision, Verdict};
#[cfg(feature = "explore")]
pub use explore::witness::{Change, Contrast, Witness};
pub use limits::accepted_events::GuestMode;
pub use limits::compiled::Limits;
pub use limits::policy::Policy;
pub use limits::stored::{LimitsError, crc32};
pub use rules::literal::Literal;
pub use rules::predicate::Test;
pub use rules::set::RuleSet;
pub use rules::table::{Class, Outcome, Row, Rule};

/// The compiler miscompiles some functions that keep values of a large alignment on the stack (`docs/findings/`).
const _: () = {
    const MAX_ALIGN: usize = 64;
    assert!(align_of::<Limits>() <= MAX_ALIGN);
    assert!(align_of::<Cpu>() <= MAX_ALIGN);
    assert!(align_of::<KnownPage>() <= MAX_ALIGN);
    assert!(align_of::<Environment<'_>>() <= MAX_ALIGN);
    assert!(align_of::<View<'_>>() <= MAX_ALIGN);
    assert!(align_of::<Verdict>() <= MAX_ALIGN);
    #[cfg(feature = "explore")]
    assert!(align_of::<Witness>() <= MAX_ALIGN);
};
