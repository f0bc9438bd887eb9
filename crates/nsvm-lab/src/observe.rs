//! From a line of the payload to an outcome.

use crate::case::{Case, Set};
use crate::outcome::{ErrorCode, Left, Outcome, Seen};
use crate::protocol::{case_flag, memory};
use vmcb::layout::{PAGE_SIZE, vmcb_field as field};
use vmcb::{Event, EventType, Vmcb};

/// The numbers of a line `x CASE ...`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// EXITCODE.
    pub code: u64,
    /// EXITINFO1.
    pub info1: u64,
    /// EXITINFO2.
    pub info2: u64,
    /// EXITINTINFO.
    pub int_info: u64,
    /// EVENTINJ as it reads afterwards.
    pub event: u64,
    /// The guest's RIP.
    pub rip: u64,
    /// The guest's RSP.
    pub rsp: u64,
    /// Words on the guest's stack.
    pub slots: u64,
    /// The lowest two of them.
    pub words: [u64; 2],
    /// Whether a refusing VMRUN changed the state save area.
    pub save: bool,
}

impl Exit {
    /// From the fields after the case's number; nothing where one is missing or no number.
    #[must_use]
    pub fn parse(fields: &str) -> Option<Self> {
        let mut numbers = [0; 11];
        let mut parts = fields.split(' ');
        for number in &mut numbers {
            *number = u64::from_str_radix(parts.next()?, 16).ok()?;
        }
        let [code, info1, info2, int_info, event, rip, rsp, slots, a, b, save] = numbers;
        parts.next().is_none().then_some(Self {
            code,
            info1,
            info2,
            int_info,
            event,
            rip,
            rsp,
            slots,
            words: [a, b],
            save: save != 0,
        })
    }

    /// What was seen of this case.
    #[must_use]
    pub fn outcome(&self, set: &Set, case: &Case) -> Outcome {
        let page = set.page(case);
        let refusal = match self.code {
            0xFFFF_FFFF_FFFF_FFFF => Some(Seen::Invalid),
            0xFFFF_FFFF => Some(Seen::Invalid32),
            code if code as u32 == 0xFFFF_FFFE => Some(Seen::Busy),
            code if code as u32 == 0xFFFF_FFFD => Some(Seen::IdleRequired),
            code if code as u32 == 0xFFFF_FFFC => Some(Seen::InvalidPmc),
            _ => None,
        };
        if let Some(seen) = refusal {
            let injected = Vmcb::new(&page).read(field::eventinj);
            let left = Left {
                exitinfo1: self.info1 != 0,
                exitinfo2: self.info2 != 0,
                exitintinfo: self.int_info != 0,
                eventinj: (self.event ^ injected) & Event::V != 0,
                save: self.save,
            };
            return Outcome { seen, left, by: None };
        }
        Outcome::of(self.entered(&page, set.flags(case)))
    }

    /// What happened in L2.
    fn entered(&self, page: &[u8; PAGE_SIZE], flags: u16) -> Seen {
        const VMMCALL: u64 = 0x81;
        let vmcb = Vmcb::new(page);
        let begin = vmcb.read(field::rip);
        if self.code != VMMCALL {
            return Seen::Exit { code: self.code, during: self.int_info & Event::V != 0 };
        }
        if self.rip == begin && self.slots == 0 {
            return Seen::Ran;
        }
        // Handlers lie 16 bytes apart; in real mode their segment begins with the first.
        let stubs = if flags & case_flag::SLOT2 != 0 { 0 } else { memory::STUBS };
        let handler = self.rip.checked_sub(stubs).filter(|offset| offset % 16 == 0 && *offset < 16 * 256);
        let Some(vector) = handler.map(|offset| (offset / 16) as u8) else {
            return Seen::Exit { code: self.code, during: self.int_info & Event::V != 0 };
        };
        let event = Event::from_bits(vmcb.read(field::eventinj));
        // VECTOR is ignored for an NMI, which is vector 2.
        let injected = match event.event_type() {
            _ if !event.valid() => None,
            EventType::NMI => Some(2),
            _ => Some(event.vector().number()),
        };
        let frame = if flags & case_flag::SLOT8 != 0 {
            5
        } else if flags & case_flag::VMLOAD != 0 {
            // Out of virtual-8086 mode four data segments, SS and ESP are pushed too.
            9
        } else {
            3
        };
        let (error, back) = if self.slots == frame + 1 {
            (Some(self.words[0]), self.words[1])
        } else {
            (None, self.words[0])
        };
        Seen::Took {
            other: Some(vector).filter(|&vector| injected != Some(vector)),
            error: error.map(|code| {
                if code == u64::from(event.error_code()) {
                    ErrorCode::Injected
                } else {
                    ErrorCode::Other(code)
                }
            }),
            elsewhere: Some(back).filter(|&back| back != begin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets;

    /// The token of a case of the set on which VMRUN left these numbers.
    fn token(set: &Set, id: &str, exit: Exit) -> String {
        let case = set.cases.iter().find(|case| case.id == id).expect(id);
        exit.outcome(set, case).to_string()
    }

    fn vmmcall(rip: u64, slots: u64, words: [u64; 2]) -> Exit {
        Exit::parse(&format!("81 0 0 0 0 {rip:x} 0 {slots:x} {:x} {:x} 0", words[0], words[1]))
            .expect("a line")
    }

    #[test]
    fn what_arrived_is_told_by_handler_and_stack() {
        let set = sets::set("full").expect("the set");
        let stub = |vector: u64| memory::STUBS + 16 * vector;
        // #GP with an error code: V, TYPE 3, vector 13, EV.
        let gp = "eventinj.long64#161b";
        let case = set.cases.iter().find(|case| case.id == gp).expect(gp);
        let code = Vmcb::new(&set.page(case)).read(field::eventinj) >> 32;
        assert_eq!(token(&set, gp, vmmcall(memory::START, 0, [0, 0])), "ran");
        assert_eq!(token(&set, gp, vmmcall(stub(13), 6, [code, memory::START])), "took, error");
        assert_eq!(token(&set, gp, vmmcall(stub(13), 6, [7, memory::START])), "took, error=7");
        assert_eq!(token(&set, gp, vmmcall(stub(13), 5, [memory::START, 8])), "took");
        assert_eq!(token(&set, gp, vmmcall(stub(14), 5, [memory::START + 3, 8])), "took 0e, return=19003");
        // Between two handlers: nothing of ours.
        assert_eq!(token(&set, gp, vmmcall(stub(13) + 1, 5, [0, 0])), "exit 81");
        // In real mode the handler's offset counts, out of virtual-8086 mode four more segments are pushed.
        assert_eq!(token(&set, "eventinj.real#161a", vmmcall(0xD0, 3, [0, 0])), "took");
        assert_eq!(token(&set, "eventinj.v86#161a", vmmcall(stub(13), 9, [0, 0])), "took");
        assert_eq!(token(&set, "eventinj.v86#161b", vmmcall(stub(13), 10, [code, 0])), "took, error");
    }

    #[test]
    fn refusals_keep_their_width_and_what_they_left() {
        let set = sets::set("full").expect("the set");
        let seen = |line: &str| token(&set, "eventinj.long64#1604", Exit::parse(line).expect(line));
        assert_eq!(seen("ffffffffffffffff 0 0 0 80000302 0 0 0 0 0 0"), "invalid");
        assert_eq!(
            seen("ffffffff 1 2 80000302 0 0 0 0 0 0 1"),
            "invalid32, exitinfo1, exitinfo2, exitintinfo, eventinj, save"
        );
        assert_eq!(seen("fffffffffffffffe 0 0 0 80000302 0 0 0 0 0 0"), "busy");
        assert_eq!(seen("4e 0 0 80000b0e 0 0 0 0 0 0 0"), "exit 4e, during");
        for wrong in ["", "81", "81 0 0 0 0 0 0 0 0 0", "81 0 0 0 0 0 0 0 0 0 0 0", "x 0 0 0 0 0 0 0 0 0 0"] {
            assert_eq!(Exit::parse(wrong), None, "{wrong}");
        }
    }
}
