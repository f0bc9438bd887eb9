//! Events about to be injected: which EVENTINJ accepts, in a few instructions.

use super::verdict::Verdict;
use crate::defs::event::{Event, EventType};
use crate::defs::exception::{ExceptionSet, Vector};
use crate::limits::accepted_events::{GuestMode, Injection};
use crate::limits::compiled::Limits;

/// Which rules an event breaks that is about to be written to EVENTINJ.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Event, EventType, GuestMode, Limits, Policy, Rule, Vector, check_event};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan").unwrap(), Policy::VirtualCpu);
/// let page_fault = Event::new(EventType::EXCEPTION, Vector::new(14)).with_error_code(2);
/// assert!(check_event(page_fault, GuestMode::BITS_64, &limits).is_accepted());
/// let nmi_as_exception = Event::new(EventType::EXCEPTION, Vector::new(2));
/// let verdict = check_event(nmi_as_exception, GuestMode::BITS_64, &limits);
/// assert!(verdict.broken().iter().eq([Rule::EvtExcVector2]));
/// ```
#[inline]
pub fn check_event(event: Event, mode: GuestMode, limits: &Limits) -> Verdict {
    if limits.accepts_event(event, mode) { Verdict::ACCEPTED } else { judge_event(event, mode, limits) }
}

#[cold]
#[inline(never)]
fn judge_event(event: Event, mode: GuestMode, limits: &Limits) -> Verdict {
    let injection = Injection { event, mode, bounds: &limits.bounds };
    let possible = injection.may_break(limits.rules());
    Verdict::of(injection.breaks(possible), possible)
}

/// The vectors that TYPE 3 may carry for such a guest, for certain, without an error code.
#[must_use]
pub fn accepted_exceptions(limits: &Limits, mode: GuestMode) -> ExceptionSet {
    (0..32).map(Vector::new).fold(ExceptionSet::EMPTY, |set, vector| {
        let event = Event::new(EventType::EXCEPTION, vector);
        if limits.accepts_event(event, mode) { set.with(vector) } else { set }
    })
}
