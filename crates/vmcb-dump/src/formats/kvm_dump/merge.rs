//! Merges the values of a dump into one VMCB.

use super::dump::{Dump, Others, Value};
use super::labels::Slot;
use super::printed::label_text;
use crate::found::{Found, RemarkKind, Seen, VmType};
use crate::kind::Kind;
use std::collections::BTreeMap;
use vmcb::Phase;
use vmcb::layout::{Page, SAVE_AREA};

/// Bit of `nested_ctl` that says that the registers are in a VMSA (manual volume 2, 15.35.4).
const NESTED_CTL_SEV_ES: u64 = 1 << 2;

impl Dump {
    pub(super) fn into_found(mut self) -> Option<Found> {
        self.settle();
        if self.labels == 0 {
            return None;
        }
        let place = self.notes.first_line();
        let mut found = Found::new(Kind::KvmDump, Phase::After, place.clone());
        found.vm_type = self.vm_type;
        found.vcpu = self.vcpu;
        found.last_cpu = self.last_cpu;
        found.label = self.pointer.take();

        let end = self.values.last().map_or(place.clone(), |value| value.place.clone());
        let save_shown = self.values.iter().any(|value| in_save_area(&value.slot) && !value.copy);
        let sev_es = self.values.iter().any(|value| {
            value.slot.page == Page::Vmcb
                && value.slot.offset == vmcb::layout::vmcb_field::nested_ctl.offset
                && value.value & NESTED_CTL_SEV_ES != 0
        });
        // Kernels that name the kind of guest print the VMSA or nothing; those before them print the
        // save area of the VMCB, which such a guest does not use.
        let newer = self.vm_type.map_or_else(|| self.saw("sev_features"), VmType::has_vmsa);
        // Of dumps that were mixed, what tells whether it is a VMSA may be another's, but for the heading.
        let mixed = self.vm_type.is_none() && self.own_rows() != usize::MAX;
        let shows_vmsa = newer && save_shown && !mixed;
        let drop_save = !newer && sev_es || mixed;
        if let Some(name) = self.first.filter(|&row| row > 0).and_then(label_text) {
            self.notes.remark(RemarkKind::BeginsAt { name }, place.clone());
        }
        if let Some((place, count)) = self.joined.take() {
            self.notes.remark(RemarkKind::WrapJoined { count }, place);
        }
        if shows_vmsa {
            self.notes.remark(RemarkKind::VmsaShown, place.clone());
        } else if mixed && save_shown {
            let count = self.values.iter().filter(|value| in_save_area(&value.slot)).count() as u64;
            self.notes.remark(RemarkKind::DumpsMixed { count }, place.clone());
        } else if drop_save && save_shown {
            self.notes.remark(RemarkKind::SaveAreaMeaningless, place.clone());
        }
        if (newer || sev_es) && !save_shown && self.saw("avic_physical_id") {
            self.notes.remark(RemarkKind::VmsaNotShown, place);
        } else if !self.saw("excp_to")
            && let Some(name) = self.last.and_then(label_text)
        {
            self.notes.remark(RemarkKind::EndsAfter { name }, end);
        }

        for seen in self.merge(shows_vmsa, drop_save) {
            found.learn(seen);
        }
        self.notes.hand_over(&mut found);
        Some(found)
    }

    /// Rows below this one are this dump's own for certain; what the others show must come twice.
    fn own_rows(&self) -> usize {
        let order = &self.order;
        let Others { count, rows } = self.others;
        let own = match count {
            0 if order.mixed => 0,
            0 => usize::MAX,
            _ => rows,
        };
        // A dump in the kernel's order up to its end, in which the row is not missing that the one before it
        // ended with: that one was cut, and nothing of it came later.
        let follows = rows > 0 && order.seen.get(rows - 1) == Some(&true) && self.saw("excp_to");
        if count > 0 && follows && !order.goes_back { usize::MAX } else { own }
    }

    /// The values, each field once, without those that contradict each other.
    fn merge(&mut self, shows_vmsa: bool, drop_save: bool) -> Vec<Seen> {
        let own = self.own_rows();
        // Of two dumps that were mixed, a value that both show is the value of either.
        let twice = self.others.count < 2;
        let mut fields: Vec<Merged> = Vec::new();
        let mut known: BTreeMap<(Page, u16), usize> = BTreeMap::new();
        for Value { row, slot, value, mask, place, copy } in std::mem::take(&mut self.values) {
            let (page, offset) = match slot.page {
                // Without a VMSA this is KVM's own copy of a register: no part of the VMCB.
                Page::Vmsa if !shows_vmsa => continue,
                Page::Vmcb if in_save_area(&slot) && drop_save => continue,
                Page::Vmcb if in_save_area(&slot) && shows_vmsa => (Page::Vmsa, slot.offset - SAVE_AREA),
                page => (page, slot.offset),
            };
            let name = slot.name;
            match known.get(&(page, offset)).and_then(|&index| fields.get_mut(index)) {
                None if copy && !shows_vmsa => {}
                None => {
                    known.insert((page, offset), fields.len());
                    let seen = Seen { name, page, offset, size: slot.size, value, mask, place };
                    fields.push(Merged { seen, good: true, sure: row < own });
                }
                Some(Merged { seen, good, sure }) => {
                    let same = (seen.value ^ value) & seen.mask & mask == 0;
                    let first = seen.value;
                    if copy && !shows_vmsa {
                        if !same {
                            let kind = RemarkKind::CopyDiffers { name, saved: first, copy: value };
                            self.notes.remark(kind, place);
                        }
                    } else if !same {
                        *good = false;
                        self.notes.remark(RemarkKind::Contradiction { name, first, second: value }, place);
                    } else if !copy {
                        if !*sure && twice {
                            // Of two dumps, only the bits that both show.
                            *sure = true;
                            seen.mask &= mask;
                            seen.value &= seen.mask;
                        }
                        self.notes.remark(RemarkKind::Duplicate { name }, place);
                    }
                }
            }
        }
        let doubtful = fields.iter().filter(|field| field.good && !field.sure);
        if let Some(Merged { seen, .. }) = doubtful.clone().next() {
            let (count, place) = (doubtful.count() as u64, seen.place.clone());
            self.notes.remark(RemarkKind::DumpsMixed { count }, place);
        }
        fields.into_iter().filter(|field| field.good && field.sure).map(|field| field.seen).collect()
    }
}

/// A field as one dump or several show it.
struct Merged {
    seen: Seen,
    /// It is shown with one value.
    good: bool,
    /// The value is of this dump.
    sure: bool,
}

fn in_save_area(slot: &Slot) -> bool {
    slot.page == Page::Vmcb && slot.offset >= SAVE_AREA
}
