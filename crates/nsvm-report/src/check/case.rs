//! One VMCB under judgement.

use super::judged_for::JudgedFor;
use super::question::Question;
use crate::record::{At, Decision};
use vmcb::layout::vmcb_field;
use vmcb::{Environment, ExitCode, KnownPage, Phase, View};
use vmcb_dump::{Found, Kind, Place};

/// One VMCB under judgement.
pub(super) struct Case<'a> {
    pub(super) question: &'a Question,
    pub(super) file: &'a str,
    pub(super) vmcb: u64,
    pub(super) found: &'a Found,
    pub(super) judged_for: &'a JudgedFor,
    pub(super) vmsa: Option<&'a KnownPage>,
    pub(super) phase: Phase,
    pub(super) environment: &'a Environment<'a>,
    pub(super) view: View<'a>,
}

impl Case<'_> {
    /// A line that says only why KVM refused shows no VMCB to judge.
    pub(super) fn shows_a_vmcb(&self) -> bool {
        !self.only_reasons() || !self.found.vmcb.is_empty()
    }

    pub(super) fn at(&self, place: &Place) -> At {
        At::new(self.file, place, self.found)
    }

    /// The exit code, where the input shows one that counts.
    pub(super) fn exit_code(&self) -> Option<ExitCode> {
        if self.phase != Phase::After {
            return None;
        }
        let bits = self.found.vmcb.field(vmcb_field::exitcode);
        let low = u64::from(u32::MAX);
        if bits.known_mask() == u64::MAX {
            Some(ExitCode::from_bits(bits.value()).widened())
        } else if bits.known_mask() & low == low {
            Some(ExitCode::from_low_half(bits.value() as u32))
        } else {
            None
        }
    }

    /// What the machine did that made the dump.
    pub(super) fn machine(&self) -> Option<Decision> {
        let code = self.exit_code()?;
        Some(if code.is_failure() { Decision::Refused } else { Decision::Accepted })
    }

    /// Whether the input shows why an implementation refused and nothing of the VMCB.
    pub(super) fn only_reasons(&self) -> bool {
        matches!(self.found.kind, Kind::KvmTraceFailed | Kind::XenChecks)
    }
}
