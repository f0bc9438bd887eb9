//! Merges the values of a dump into one VMCB.

use super::dump::{Asked, Dump, Value};
use super::labels::{LAST, VMSAVE};
use crate::found::{Found, Place, RemarkKind, Seen};
use crate::kind::Kind;
use vmcb::layout::{Page, vmcb_field as f};
use vmcb::{ExitCode, Phase};

impl Dump {
    pub(super) fn into_found(mut self) -> Option<Found> {
        self.settle();
        let last = self.last?;
        if self.values.is_empty() && self.address.is_none() {
            return None;
        }
        let place = self.notes.first_line();
        let mut found = Found::new(Kind::XenDump, Phase::Unknown, place.clone());
        found.vcpu = self.vcpu;
        found.vmcb_address = self.address.filter(|_| !self.addresses);
        if let Some(first) = self.first.filter(|first| first.line > 2) {
            self.notes.remark(RemarkKind::BeginsAt { name: first.text }, place.clone());
        }
        if let Some((place, count)) = self.joined.take() {
            self.notes.remark(RemarkKind::WrapJoined { count }, place);
        }
        if self.vmsa {
            self.notes.remark(RemarkKind::VmsaShown, place.clone());
        }
        if last.text != LAST {
            if self.values.last().is_some_and(|value| value.ends.is_some()) {
                self.void_last();
            }
            let end = self.values.last().map_or(place.clone(), |value| value.place.clone());
            self.notes.remark(RemarkKind::EndsAfter { name: last.text }, end);
        }
        self.doubt();
        for seen in self.merge() {
            found.learn(seen);
        }
        self.phase(&mut found, place);
        self.notes.hand_over(&mut found);
        Some(found)
    }

    /// Takes back what the dump as a whole makes doubtful.
    fn doubt(&mut self) {
        for value in self.values.iter_mut().filter(|value| value.good) {
            let name = value.slot.name;
            let kind = match (value.short_of, value.ends) {
                (Some(expected), _) if self.padded => {
                    let digits = match &value.place {
                        Place::Text { columns, .. } => columns.len().saturating_sub(2).max(1),
                        Place::Byte { .. } => 0,
                    };
                    RemarkKind::NumberTooShort { name, digits, expected }
                }
                (Some(_), Some(length)) if self.clipped.contains(&length) => {
                    RemarkKind::LineMaybeCut { name }
                }
                _ => continue,
            };
            value.good = false;
            self.notes.remark(kind, value.place.clone());
        }
    }

    /// Which side of #VMEXIT the VMCB is seen from.
    ///
    /// `svm_vmexit_handler` dumps it as #VMEXIT left it. The debug key does not stop the virtual CPU: it may run, or
    /// Xen may have written what the next VMRUN shall read (EVENTINJ, control registers), and EXITCODE is that of
    /// the VMRUN before; of a virtual CPU that never ran it is 0. So the key's dump is neither, unless EXITCODE is
    /// that of a refusal: Xen crashes the domain then, and no VMRUN comes after.
    fn phase(&mut self, found: &mut Found, place: Place) {
        let code = found.vmcb.field(f::exitcode);
        let refused = code.known_mask() == u64::MAX && ExitCode::from_bits(code.value()) == ExitCode::INVALID;
        if refused || self.asked == Asked::ExitHandler {
            found.phase = Phase::After;
        } else {
            self.notes.remark(RemarkKind::XenMayHaveChanged, place.clone());
        }
        let vmsave = |seen: &Seen| VMSAVE.iter().any(|&(from, to)| (from..to).contains(&seen.offset));
        let shown = found.fields.iter().any(|seen| seen.page == Page::Vmcb && vmsave(seen));
        if shown && !(self.synced && self.asked == Asked::ExitHandler) {
            self.notes.remark(RemarkKind::VmsaveStateMaybeStale, place);
        }
    }

    /// The values, each field once, without those that something else contradicts.
    fn merge(&mut self) -> Vec<Seen> {
        let mut fields: Vec<(Seen, bool)> = Vec::new();
        let values = std::mem::take(&mut self.values);
        // A copy of a doubtful number is no better.
        let doubtful: Vec<_> = values
            .iter()
            .filter(|value| !value.good)
            .map(|value| (value.page, value.slot.offset, value.value))
            .collect();
        for Value { slot, page, value, mask, place, .. } in values {
            if doubtful.contains(&(page, slot.offset, value)) {
                continue;
            }
            let name = slot.name;
            let known = fields.iter_mut().find(|(seen, _)| seen.page == page && seen.offset == slot.offset);
            match known {
                None => fields.push((
                    Seen { name, page, offset: slot.offset, size: slot.size, value, mask, place },
                    true,
                )),
                Some((first, good)) if (first.value ^ value) & first.mask & mask != 0 => {
                    *good = false;
                    let first = first.value;
                    self.notes.remark(RemarkKind::Contradiction { name, first, second: value }, place);
                }
                Some(_) => self.notes.remark(RemarkKind::Duplicate { name }, place),
            }
        }
        for check in &self.checks {
            let all = (1 << check.bits) - 1;
            let field = fields.iter_mut().find(|(seen, good)| {
                *good && seen.page == Page::Vmcb && seen.offset == check.offset && seen.size == 8
            });
            if let Some((seen, good)) = field
                && seen.value >> check.shift & all != check.value
            {
                *good = false;
                let second = seen.value & !(all << check.shift) | (check.value & all) << check.shift;
                let kind = RemarkKind::Contradiction { name: seen.name, first: seen.value, second };
                self.notes.remark(kind, seen.place.clone());
            }
        }
        fields.into_iter().filter_map(|(seen, good)| good.then_some(seen)).collect()
    }
}
