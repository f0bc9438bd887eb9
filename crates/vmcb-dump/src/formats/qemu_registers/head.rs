//! The lines in front of a dump, which name the CPU or report a failure.

use crate::found::{Found, Notes, Seen};
use crate::kind::Kind;
use vmcb::{ExitCode, Phase};

/// What is said before a dump.
#[derive(Default)]
pub(super) struct Head {
    pub(super) notes: Notes,
    pub(super) line: u64,
    pub(super) vcpu: Option<u32>,
    pub(super) failure: Option<Seen>,
    pub(super) vmx: bool,
}

impl Head {
    pub(super) fn into_found(self) -> Found {
        let mut notes = self.notes;
        let phase = if self.failure.is_some() { Phase::After } else { Phase::Unknown };
        let mut found = Found::new(Kind::QemuRegisters, phase, notes.first_line());
        found.vcpu = self.vcpu;
        if let Some(seen) = self.failure {
            found.learn(seen);
        }
        std::mem::take(&mut notes).hand_over(&mut found);
        found
    }
}

/// The whole decimal number at the beginning of a text.
pub(super) fn number_at(text: &[u8]) -> Option<u32> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// What the number after `hardware error` stands for.
pub(super) enum Failure {
    /// An exit code of VMRUN.
    Svm(ExitCode),
    /// A reason of VMX: the exit reason of a failed VM entry, or the error of a VMX instruction.
    Vmx,
}

impl Failure {
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(b"0x")?;
        let value = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        let code = match digits.len() {
            8 => ExitCode::from_low_half(u32::try_from(value).ok()?),
            16 => ExitCode::from_bits(value),
            _ => ExitCode::from_bits(0),
        };
        if code.is_failure() {
            return Some(Self::Svm(code));
        }
        let entry = digits.len() == 8 && value >> 31 == 1;
        (entry || (1..=28).contains(&value)).then_some(Self::Vmx)
    }
}
