//! What a subject did with one case, as a word that can be kept and compared.

use std::fmt;
use std::str::FromStr;

/// What was seen of one case on one subject.
///
/// Its text form is the token that result files keep: see [`Seen`], with the condition that the layer which
/// refused has printed after ` by: `, and `, ` between what VMRUN left behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Outcome {
    /// What happened.
    pub seen: Seen,
    /// What changed although VMRUN refused: rulebook section 9.
    pub left: Left,
    /// The condition that the nested hypervisor printed as the reason of its refusal; nothing if it printed none,
    /// or if there is no nested hypervisor.
    pub by: Option<String>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Seen {
    /// `invalid`: EXITCODE -1, VMEXIT_INVALID, in all 64 bits.
    Invalid,
    /// `invalid32`: EXITCODE -1 in the low half, zero above.
    Invalid32,
    /// `busy`, `idle`, `pmc`: EXITCODE -2, -3, -4.
    Busy,
    /// EXITCODE -3, VMEXIT_IDLE_REQUIRED.
    IdleRequired,
    /// EXITCODE -4, VMEXIT_INVALID_PMC.
    InvalidPmc,
    /// `fault VECTOR ERRORCODE`: VMRUN itself faulted in L1.
    Fault {
        /// The exception's vector.
        vector: u8,
        /// Its error code.
        error: u64,
    },
    /// `ran`: L2's first instruction was executed, no event arrived.
    Ran,
    /// `took`: the injected event arrived in L2 first. `took 0e` where another vector arrived, `, error` where
    /// the error code of EVENTINJ was pushed, `, error=VALUE` where another was, `, return=ADDRESS` where the
    /// return address is not L2's RIP.
    Took {
        /// The vector, if it is not the one that was injected.
        other: Option<u8>,
        /// The error code pushed, if one was.
        error: Option<ErrorCode>,
        /// The return address, if it is not where L2 began.
        elsewhere: Option<u64>,
    },
    /// `exit CODE`: another #VMEXIT: VMRUN had accepted. `, during` where EXITINTINFO.V = 1.
    Exit {
        /// EXITCODE.
        code: u64,
        /// Whether it happened during delivery of an event.
        during: bool,
    },
    /// `killed WHY`: the machine died of it.
    Killed(String),
    /// `hung`: nothing more came within the time limit.
    Hung,
    /// `skipped WHY`: it was not run.
    Skipped(String),
}

/// The error code that arrived with an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ErrorCode {
    /// That of EVENTINJ.
    Injected,
    /// Another one.
    Other(u64),
}

/// What VMRUN changed although it refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct Left {
    /// `, exitinfo1`: it is not zero.
    pub exitinfo1: bool,
    /// `, exitinfo2`: it is not zero.
    pub exitinfo2: bool,
    /// `, exitintinfo`: it is not zero; cases begin with zero there.
    pub exitintinfo: bool,
    /// `, eventinj`: EVENTINJ.V is not as it was.
    pub eventinj: bool,
    /// `, save`: the state save area was written.
    pub save: bool,
}

/// The three answers that VMRUN can give to a VMCB, and no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Answer {
    /// Accepted: L2 was entered.
    Accepted,
    /// Refused, in the way that the [rule's outcome](vmcb::Outcome) names.
    Refused(vmcb::Outcome),
    /// It faulted in a way that no rule names.
    Fault,
    /// The machine died or hung.
    Broken,
    /// It was not run.
    Skipped,
}

impl Outcome {
    /// Nothing left behind, no condition printed.
    #[must_use]
    pub fn of(seen: Seen) -> Self {
        Self { seen, left: Left::default(), by: None }
    }

    /// What VMRUN said.
    #[must_use]
    pub fn answer(&self) -> Answer {
        match &self.seen {
            Seen::Invalid | Seen::Invalid32 => Answer::Refused(vmcb::Outcome::Invalid),
            Seen::Busy => Answer::Refused(vmcb::Outcome::Busy),
            Seen::IdleRequired => Answer::Refused(vmcb::Outcome::IdleRequired),
            Seen::InvalidPmc => Answer::Refused(vmcb::Outcome::InvalidPmc),
            Seen::Fault { vector: 6, .. } => Answer::Refused(vmcb::Outcome::InvalidOpcode),
            Seen::Fault { vector: 13, error: 0 } => Answer::Refused(vmcb::Outcome::GeneralProtection),
            Seen::Fault { .. } => Answer::Fault,
            Seen::Ran | Seen::Took { .. } | Seen::Exit { .. } => Answer::Accepted,
            Seen::Killed(_) | Seen::Hung => Answer::Broken,
            Seen::Skipped(_) => Answer::Skipped,
        }
    }
}

/// The marks of [`Left`], in the order in which they are written.
const MARKS: [&str; 5] = ["exitinfo1", "exitinfo2", "exitintinfo", "eventinj", "save"];

impl Left {
    fn flags(self) -> [bool; 5] {
        [self.exitinfo1, self.exitinfo2, self.exitintinfo, self.eventinj, self.save]
    }

    fn of([exitinfo1, exitinfo2, exitintinfo, eventinj, save]: [bool; 5]) -> Self {
        Self { exitinfo1, exitinfo2, exitintinfo, eventinj, save }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.seen {
            Seen::Invalid => f.write_str("invalid")?,
            Seen::Invalid32 => f.write_str("invalid32")?,
            Seen::Busy => f.write_str("busy")?,
            Seen::IdleRequired => f.write_str("idle")?,
            Seen::InvalidPmc => f.write_str("pmc")?,
            Seen::Fault { vector, error } => write!(f, "fault {vector:02x} {error:x}")?,
            Seen::Ran => f.write_str("ran")?,
            Seen::Took { other, error, elsewhere } => {
                f.write_str("took")?;
                if let Some(vector) = other {
                    write!(f, " {vector:02x}")?;
                }
                match error {
                    Some(ErrorCode::Injected) => f.write_str(", error")?,
                    Some(ErrorCode::Other(code)) => write!(f, ", error={code:x}")?,
                    None => {}
                }
                if let Some(address) = elsewhere {
                    write!(f, ", return={address:x}")?;
                }
            }
            Seen::Exit { code, during } => {
                write!(f, "exit {code:x}")?;
                if *during {
                    f.write_str(", during")?;
                }
            }
            Seen::Killed(why) => write!(f, "killed {why}")?,
            Seen::Hung => f.write_str("hung")?,
            Seen::Skipped(why) => write!(f, "skipped {why}")?,
        }
        for (mark, set) in MARKS.into_iter().zip(self.left.flags()) {
            if set {
                write!(f, ", {mark}")?;
            }
        }
        match &self.by {
            Some(condition) => write!(f, " by: {condition}"),
            None => Ok(()),
        }
    }
}

/// A token that is no outcome.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no outcome")]
pub struct NoOutcome(pub String);

impl FromStr for Outcome {
    type Err = NoOutcome;

    fn from_str(text: &str) -> Result<Self, NoOutcome> {
        let wrong = || NoOutcome(text.to_owned());
        // These two end in words of anybody.
        if let Some(why) = text.strip_prefix("killed ") {
            return Ok(Self::of(Seen::Killed(why.to_owned())));
        }
        if let Some(why) = text.strip_prefix("skipped ") {
            return Ok(Self::of(Seen::Skipped(why.to_owned())));
        }
        let (text, by) = match text.split_once(" by: ") {
            Some((text, condition)) => (text, Some(condition.to_owned())),
            None => (text, None),
        };
        let mut parts = text.split(", ");
        let mut head = parts.next().ok_or_else(wrong)?.split(' ');
        let kind = head.next().ok_or_else(wrong)?;
        let mut number = || -> Result<Option<u64>, NoOutcome> {
            head.next().map(|digits| hex(digits).ok_or_else(wrong)).transpose()
        };
        let mut seen = match kind {
            "invalid" => Seen::Invalid,
            "invalid32" => Seen::Invalid32,
            "busy" => Seen::Busy,
            "idle" => Seen::IdleRequired,
            "pmc" => Seen::InvalidPmc,
            "ran" => Seen::Ran,
            "hung" => Seen::Hung,
            "fault" => Seen::Fault {
                vector: number()?.and_then(|n| u8::try_from(n).ok()).ok_or_else(wrong)?,
                error: number()?.ok_or_else(wrong)?,
            },
            "took" => Seen::Took {
                other: number()?.map(|n| u8::try_from(n).map_err(|_| wrong())).transpose()?,
                error: None,
                elsewhere: None,
            },
            "exit" => Seen::Exit { code: number()?.ok_or_else(wrong)?, during: false },
            _ => return Err(wrong()),
        };
        if head.next().is_some() {
            return Err(wrong());
        }
        let mut flags = [false; 5];
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, digits)) => (name, Some(hex(digits).ok_or_else(wrong)?)),
                None => (part, None),
            };
            match (&mut seen, name, value) {
                (Seen::Took { error, .. }, "error", None) => *error = Some(ErrorCode::Injected),
                (Seen::Took { error, .. }, "error", Some(code)) => *error = Some(ErrorCode::Other(code)),
                (Seen::Took { elsewhere, .. }, "return", Some(address)) => *elsewhere = Some(address),
                (Seen::Exit { during, .. }, "during", None) => *during = true,
                (_, name, None) => {
                    let mark = MARKS.iter().position(|&mark| mark == name).ok_or_else(wrong)?;
                    flags[mark] = true;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(Self { seen, left: Left::of(flags), by })
    }
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_went() {
        for token in [
            "invalid",
            "invalid32, exitinfo2, exitintinfo, eventinj, save",
            "invalid by: control->asid == 0, by: itself",
            "fault 0d 0",
            "ran",
            "took",
            "took 0e, error=2, return=19002",
            "took, error",
            "exit 4e, during",
            "exit ffffffffffffff00",
            "killed qemu: fatal, bad CR0",
            "hung",
            "skipped needs a host in compatibility mode",
        ] {
            let outcome: Outcome = token.parse().expect(token);
            assert_eq!(outcome.to_string(), token);
        }
        for token in ["", "none", "exit", "exit +4", "took 100", "ran, during", "invalid, x", "took, return"]
        {
            assert!(token.parse::<Outcome>().is_err(), "{token}");
        }
    }
}
