//! The values of a trace line, read word by word.

use super::arguments::{Arguments, Slots};
use super::event::Event;
use super::exit_reason;
use super::layout::Layout;
use super::line::Line;
use super::reason::{Reason, reason};
use super::scanner::Scanner;
use super::table::{Form, Slot};
use super::value::{decimal, hex, number, switch, word_end};

impl Line<'_> {
    /// Reads the arguments. A value that is incomplete, shown twice with different values or not a number counts as
    /// unknown.
    #[must_use]
    #[inline]
    pub fn arguments(&self) -> Arguments {
        let mut found = Arguments::NONE;
        self.read(&mut found);
        found
    }

    /// Reads the arguments into `found`, which must be empty.
    pub(super) fn read(&self, found: &mut Arguments) {
        match self.event() {
            Event::InjectInterrupt | Event::InjectException => self.injected(found),
            event if event.arguments().is_empty() => {}
            _ => {
                self.walk(found, &mut Layout::default(), Slots::default());
            }
        }
    }

    /// `irq 54`, `IRQ 0x36 [reinjected]`, `Soft/INTn 0x80`; `#GP (0x18)`, `#UD [reinjected]`, `0x1f (0x0)`.
    fn injected(&self, found: &mut Arguments) {
        let mut words = self.condition().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let prefixed = |word: &[u8]| {
            let digits = word.strip_prefix(b"0x")?;
            let (value, used) = hex(digits);
            (used == digits.len() && (1..=8).contains(&used)).then_some(value)
        };
        let vector = match first {
            b"irq" => words.next().filter(|word| !word.is_empty()).and_then(decimal).map(u64::from),
            b"IRQ" => words.next().and_then(prefixed),
            b"Soft/INTn" => {
                found.soft = true;
                words.next().and_then(prefixed)
            }
            name => prefixed(name).or_else(|| exit_reason::exception(name)),
        };
        if let Some(vector) = vector.filter(|&vector| vector <= 0xFF) {
            found.learn(Slot::Vector, vector);
        }
        for word in words {
            if word == b"[reinjected]" {
                found.reinjected = true;
            } else if let Some(code) = word.strip_prefix(b"(").and_then(|word| word.strip_suffix(b")"))
                && let Some(code) = prefixed(code)
            {
                found.learn(Slot::ErrorCode, code);
            }
        }
    }

    /// Reads the arguments word by word and records their layout in `layout`.
    #[inline(never)]
    pub(super) fn walk(&self, found: &mut Arguments, layout: &mut Layout, wanted: Slots) {
        found.clear();
        let text = self.text();
        let mut scanner = Scanner::new(self.event());
        let (mut at, mut end) = (self.start(), self.start());
        layout.begin(wanted);
        while let Some(arg) = scanner.next(text, &mut at) {
            let rest = text.get(at..).unwrap_or_default();
            let value = match arg.form {
                Form::Hex(digits) => number(rest, |used, _| used == usize::from(digits)),
                Form::Free(digits) => number(rest, |used, _| (1..=usize::from(digits)).contains(&used)),
                Form::HexOrFree(digits) => number(rest, |used, marked| {
                    used == usize::from(digits) || !marked && (1..usize::from(digits)).contains(&used)
                }),
                Form::Words => {
                    let (value, used) = hex(rest);
                    let whole = rest.get(used).is_none_or(|&byte| byte <= b' ');
                    match used {
                        16 if whole => {
                            found.learn(Slot::Misc2, value >> 32);
                            found.learn(Slot::Misc1, value & u64::from(u32::MAX));
                            layout.known = false;
                            at += used;
                            continue;
                        }
                        // Half of 16 digits would be the wrong half.
                        8 if whole && used < rest.len() => Some((value, used)),
                        _ => None,
                    }
                }
                Form::Decimal => {
                    let used = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let ends = rest.get(used).is_none_or(|&byte| byte <= b' ' || byte == b',');
                    let digits = rest.get(..used).filter(|digits| ends && !digits.is_empty());
                    digits.and_then(decimal).map(|value| (value.into(), used))
                }
                Form::Switch => {
                    let end = word_end(rest, 0);
                    switch(rest.get(..end).unwrap_or_default()).map(|value| (value, end))
                }
                Form::Reason => {
                    let (reason, used) = reason(rest, 0);
                    match reason {
                        Reason::Code(code) => Some((code.into(), used)),
                        Reason::Vmx | Reason::Unknown => {
                            found.vmx |= reason == Reason::Vmx;
                            layout.known = false;
                            at += used;
                            continue;
                        }
                    }
                }
                Form::Vmx | Form::Prefix => None,
            };
            let Some((value, used)) = value else {
                layout.known = false;
                at = word_end(text, at);
                continue;
            };
            found.learn(arg.slot, value);
            // Of numbers `0x` is text too; as many digits as the form says, or some.
            let marked =
                !matches!(arg.form, Form::Decimal | Form::Switch | Form::Reason) && rest.starts_with(b"0x");
            let before = text.get(end..if marked { at + 2 } else { at });
            let form = match arg.form {
                Form::HexOrFree(digits) if marked => Form::Hex(digits),
                Form::HexOrFree(digits) => Form::Free(digits),
                Form::Words => Form::Hex(8),
                form => form,
            };
            layout.value(before, form, arg.slot);
            at += used;
            end = at;
            if arg.form != Form::Reason {
                scanner.pending = arg.then;
            }
        }
        found.vmx |= scanner.vmx;
        layout.text(text.get(end..).unwrap_or_default());
        layout.end(None);
        layout.known &= !found.vmx;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str, slot: Slot) -> Option<u64> {
        Line::parse(text.as_bytes()).expect("a trace line").arguments().get(slot)
    }

    #[test]
    fn exits_of_every_kernel() {
        let new = "kvm_exit: vcpu 3 reason npf rip 0x1003b0 info1 0x0000000200000006 \
            info2 0x0000000000104000 intr_info 0x80000b0e error_code 0x00000002 requests 0x0000000000000000";
        assert_eq!(get(new, Slot::Vcpu), Some(3));
        assert_eq!(get(new, Slot::ExitInfo1), Some(0x2_0000_0006));
        assert_eq!(get(new, Slot::ExitInfo2), Some(0x10_4000));
        assert_eq!(get(new, Slot::ExitIntInfo), Some(0x8000_0B0E));
        assert_eq!(get(new, Slot::ExitIntInfoError), Some(2));
        let old = "kvm_exit: reason read_rt rip 0xffffffff81000000 info 1f 0";
        assert_eq!(get(old, Slot::ExitCode), Some(0x69));
        assert_eq!((get(old, Slot::ExitInfo1), get(old, Slot::ExitInfo2)), (Some(0x1F), Some(0)));
        let nested = "kvm_nested_vmexit: rip: 0x0000000000001000 reason: GP excp ext_inf1: 0x0000000000000018 \
            ext_inf2: 0x0000000000000000 ext_int: 0x80000b0d ext_int_err: 0x00000018";
        assert_eq!(get(nested, Slot::ExitCode), Some(0x4D));
        assert_eq!(get(nested, Slot::ExitIntInfo), Some(0x8000_0B0D));
        let plugin =
            "kvm_nested_vmexit_inject: reason EXIT_VMMCALL info1 0 info2 1f int_info 80000b0e int_info_err 2";
        assert_eq!(get(plugin, Slot::ExitCode), Some(0x81));
        assert_eq!(get(plugin, Slot::ExitInfo2), Some(0x1F));
        assert_eq!(get(plugin, Slot::ExitIntInfo), Some(0x8000_0B0E));
    }

    #[test]
    fn reasons() {
        for (printed, code) in [
            ("npf", Some(0x400)),
            ("invalid_guest_state", Some(u32::MAX)),
            ("0xffffffff", Some(u32::MAX)),
            ("0xffffffffffffffff", Some(u32::MAX)),
            ("0xfffffffffffffffe", Some(u32::MAX - 1)),
            ("0x403", Some(0x403)),
            ("UNKNOWN (1027)", Some(0x403)),
            ("EXIT_NPF", Some(0x400)),
            // trace-cmd's plugin prints this for every code that it does not know.
            ("EXIT_ERR", None),
            ("UNKNOWN", None),
            ("UNKNOWN (", None),
            ("UNKNOWN ()", None),
            ("0x", None),
            ("0xfffffffff", None),
            ("0x4g", None),
            ("0xfffffffffffffffff", None),
            ("QQ excp", None),
            ("write_rt", Some(0x6D)),
            ("XF excp", Some(0x53)),
        ] {
            let text = format!("kvm_exit: vcpu 0 reason {printed} rip 0x1 info1 0x0000000000000001");
            assert_eq!(get(&text, Slot::ExitCode), code.map(u64::from), "{printed}");
            assert_eq!(get(&text, Slot::ExitInfo1), Some(1), "{printed}");
            assert!(!Line::parse(text.as_bytes()).unwrap().arguments().is_vmx(), "{printed}");
        }
        for name in ["EPT_VIOLATION", "HLT", "EXCEPTION_NMI FAILED_VMENTRY"] {
            let text = format!("kvm_exit: vcpu 0 reason {name} rip 0x1");
            let arguments = Line::parse(text.as_bytes()).unwrap().arguments();
            assert!(arguments.is_vmx() && arguments.exit_code().is_none(), "{name}");
        }
    }

    #[test]
    fn injections() {
        for (text, vector, soft, again, code) in [
            ("kvm_inj_virq: irq 54", Some(54), false, false, None),
            ("kvm_inj_virq: IRQ 0x36", Some(0x36), false, false, None),
            ("kvm_inj_virq: Soft/INTn 0x80 [reinjected]", Some(0x80), true, true, None),
            ("kvm_inj_virq: irq 256", None, false, false, None),
            ("kvm_inj_virq: irq", None, false, false, None),
            ("kvm_inj_exception: #GP (0x18)", Some(13), false, false, Some(0x18)),
            ("kvm_inj_exception: #UD [reinjected]", Some(6), false, true, None),
            ("kvm_inj_exception: 0x1f (0x0)", Some(31), false, false, Some(0)),
            ("kvm_inj_exception: #ZZ", None, false, false, None),
        ] {
            let arguments = Line::parse(text.as_bytes()).expect(text).arguments();
            assert_eq!(arguments.get(Slot::Vector), vector, "{text}");
            assert_eq!((arguments.is_soft(), arguments.is_reinjected()), (soft, again), "{text}");
            assert_eq!(arguments.get(Slot::ErrorCode), code, "{text}");
        }
        let entry =
            "kvm_entry: vcpu 1, rip 0x1000 intr_info 0x80000b0e error_code 0x00000002[immediate exit]";
        assert_eq!((get(entry, Slot::Vcpu), get(entry, Slot::EventInj)), (Some(1), Some(0x8000_0B0E)));
        assert_eq!(get(entry, Slot::EventInjError), Some(2));
        assert_eq!(get("kvm_entry: vcpu 1, rip 0xfff0[immediate exit]", Slot::Rip), Some(0xFFF0));
        assert_eq!(get("kvm_entry: vcpu 1", Slot::Vcpu), Some(1));
    }

    #[test]
    fn what_is_cut_or_contradicts_itself_is_unknown() {
        for text in [
            "kvm_nested_vmenter: event_inj: 0x8000031",
            "kvm_nested_vmenter: event_inj: 0x80000310f",
            "kvm_nested_vmenter: event_inj: 0x8000031g",
            "kvm_nested_vmenter: event_inj:",
            "kvm_nested_vmenter: event_inj: int_ctl: 0x80000310",
            "kvm_nested_vmenter: event_inj: 0x80000310 event_inj: 0x80000311 event_inj: 0x80000310",
            "kvm_nested_vmenter: event_inj: 0x80000310;",
        ] {
            assert_eq!(get(text, Slot::EventInj), None, "{text}");
        }
        assert_eq!(get("kvm_nested_intercepts: intercepts: 81000000", Slot::Misc1), None);
        assert_eq!(get("kvm_nested_intercepts: intercepts: 81000000 00000003", Slot::Misc2), Some(3));
        let old = "kvm_nested_intercepts: intercept: 0000000381000000";
        assert_eq!((get(old, Slot::Misc1), get(old, Slot::Misc2)), (Some(0x8100_0000), Some(3)));
        for text in ["kvm_amd: x", "kvm_", "kvm_exit", "kvm_exit reason", "kvm_Exit: x", "kvm_: x", ""] {
            assert!(Line::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(Line::parse(b"kvm_mmu_get_page: sp gfn 0").unwrap().event(), Event::Other);
    }
}
