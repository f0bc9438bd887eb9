//! QEMU's register dumps and its log of emulated SVM instructions.

use crate::common;
use crate::common::{all, error, marked, one, remarks, sample, seen, value};
use crate::generate;
use vmcb::Phase;
use vmcb::layout::vmcb_field as f;
use vmcb_dump::{Error, Found, Kind, RemarkKind};

/// A guest in 64-bit mode, as QEMU 6 prints it.
const LONG: &str = "\
RAX=ffffffff81a2b3c0 RBX=0000000000000003 RCX=0000000000000001 RDX=0000000000000000
RSI=0000000000000083 RDI=0000000000000003 RBP=ffffc9000007be90 RSP=ffffc9000007be88
R8 =0000000000000001 R9 =0000000000000002 R10=0000000000000000 R11=0000000000000000
R12=0000000000000003 R13=0000000000000000 R14=0000000000000000 R15=0000000000000000
RIP=ffffffff81a2b7ae RFL=00000346 [---ZP--] CPL=0 II=0 A20=1 SMM=0 HLT=1
ES =0000 0000000000000000 ffffffff 00000000
CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
DS =0000 0000000000000000 ffffffff 00000000
FS =0000 0000000000000000 ffffffff 00000000
GS =0000 ffff88803ed80000 ffffffff 00000000
LDT=0000 0000000000000000 ffffffff 00000000
TR =0040 fffffe00000a3000 0000206f 00008b00 DPL=0 TSS64-busy
GDT=     fffffe00000a1000 0000007f
IDT=     fffffe0000000000 00000fff
CR0=80050033 CR2=00007f0f9a2fdd40 CR3=000000003a8f6000 CR4=000006e0
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000 
DR6=00000000fffe0ff0 DR7=0000000000000400
EFER=0000000000000d01
Code=00 00 90 eb 07 <f4> c3
";

fn known(found: &Found, field: vmcb::layout::Field) -> u64 {
    value(found, field).1
}

#[test]
fn the_sample_shows_what_every_host_keeps() {
    let found = one(sample("qemu-register-dump-prot32.txt"));
    assert_eq!((found.kind, found.phase, found.vcpu), (Kind::QemuRegisters, Phase::Unknown, None));
    assert_eq!(remarks(&found), [&RemarkKind::KvmInternalError { suberror: 1 }, &RemarkKind::GuestView]);
    assert_eq!(value(&found, f::rip), (0x000F_C95A, 0xFFFF_FFFF), "32 bits are shown");
    assert_eq!(value(&found, f::rsp), (0x6D88, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::cr0), (0x11, 0x7FFE_FFF7), "PG and WP may be forced");
    assert_eq!(value(&found, f::efer), (0, !0x1800), "SVME and NXE may be forced");
    assert_eq!(value(&found, f::cr4), (0, 0xFFFF_EF9F));
    for field in [f::cr2, f::cr3, f::dr6, f::dr7, f::exitcode, f::eventinj] {
        assert_eq!(known(&found, field), 0, "{}", field.name);
    }
    assert_eq!(found.vmcb.read(f::cs.offset + 2, 2).value(), 0x49B);
    assert_eq!(marked(&found, &seen(&found, "CS.attrib").place), "00c09b00");
    assert_eq!(found.vmcb.read(f::tr.offset, 8).known_mask(), 0, "VMRUN does not load TR");
    assert_eq!(value(&found, f::cpl), (0, 0xFF));
}

#[test]
fn sixty_four_bits() {
    let found = one(LONG);
    assert_eq!(remarks(&found), [&RemarkKind::GuestView]);
    assert_eq!(value(&found, f::rax), (0xFFFF_FFFF_81A2_B3C0, u64::MAX));
    assert_eq!(value(&found, f::rip).0, 0xFFFF_FFFF_81A2_B7AE);
    assert_eq!(value(&found, f::rflags), (0x246, 0xFFFE_FEFF), "TF and RF are the debugger's");
    assert_eq!(value(&found, f::cr0), (0x8005_0033, 0xFFFF_FFF7));
    assert_eq!(value(&found, f::efer), (0xD01, !0x1000));
    assert_eq!(found.vmcb.read(f::es.offset + 2, 2).known_mask() & 0xFFFF, 0x80, "not present, no more");
    assert_eq!(found.vmcb.read(f::cs.offset + 2, 2).value(), 0x29B, "L, and G unknown");
    assert_eq!(found.vmcb.read(f::ss.offset + 2, 2).known_mask() & 0x60, 0, "the DPL of SS is made up");
    assert_eq!(found.vmcb.read(f::idtr.offset + 8, 8).value(), 0xFFFF_FE00_0000_0000);
    assert_eq!(found.vmcb.read(f::gdtr.offset + 4, 4).known_mask() & 0xFFFF_FFFF, 0xFFFF);
    assert!(found.lines.iter().all(|line| !line.text.starts_with("Code")), "of no use");
}

#[test]
fn in_one_line_quoted_and_quoted_printable() {
    let whole = one(LONG);
    let line = LONG.lines().collect::<Vec<_>>().join(" ") + "\n";
    assert_eq!(one(&line).vmcb, whole.vmcb);
    let quoted: String = LONG.lines().map(|line| format!("> {line}\r\n")).collect();
    assert_eq!(one(&quoted).vmcb, whole.vmcb);
    assert_eq!(one(LONG.replace('=', "=3D")).vmcb, whole.vmcb);
    assert_eq!(one(LONG.replace(' ', "\t")).vmcb, whole.vmcb);
    assert_eq!(one(LONG.replace(" R", "\nR").replace(" C", "\nC")).vmcb, whole.vmcb);
}

/// Every prefix gives no more than the whole: a half of 16 digits is no register of 8.
#[test]
fn cut_anywhere() {
    let short = sample("qemu-register-dump-prot32.txt");
    for text in [LONG, &short, &LONG.replace('=', "=3D")] {
        let whole = one(text);
        for end in 0..text.len() {
            let (found, _) = vmcb_dump::read_all(&text.as_bytes()[..end]);
            common::check(&found);
            for found in found {
                for offset in (0..4096).step_by(8) {
                    let (cut, all) = (found.vmcb.read(offset, 8), whole.vmcb.read(offset, 8));
                    assert_eq!(cut.known_mask() & !all.known_mask(), 0, "{end} {offset:#x}");
                    assert_eq!(cut.value(), all.value() & cut.known_mask(), "{end} {offset:#x}");
                }
                if end + 30 < text.len() && !text[..end].contains("EFER=") {
                    assert!(
                        found
                            .remarks
                            .iter()
                            .any(|remark| matches!(remark.kind, RemarkKind::EndsAfter { .. })),
                        "{end}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_failed_entry_is_a_refusal() {
    for (code, kept) in [("0xffffffff", -1), ("0xffffffffffffffff", -1), ("0xfffffffffffffffe", -2)] {
        let found = one(format!("KVM: entry failed, hardware error {code}\n{LONG}"));
        assert_eq!(found.phase, Phase::After);
        assert_eq!(value(&found, f::exitcode), (kept as u64 & 0xFFFF_FFFF, 0xFFFF_FFFF));
        assert_eq!(remarks(&found), [&RemarkKind::EntryFailed { code: kept }, &RemarkKind::GuestView]);
        assert_eq!(value(&found, f::efer).0, 0xD01);
    }
    // The message alone shows as much of the VMCB as it says.
    let found = one("qemu-system-x86_64: KVM: entry failed, hardware error 0xffffffff\n");
    assert_eq!(value(&found, f::exitcode).0, 0xFFFF_FFFF);
    assert_eq!(found.fields.len(), 1);
    // Digits may be missing at the end of the input, and of other numbers nothing is known.
    for text in ["KVM: entry failed, hardware error 0xffffffff", "KVM: entry failed, hardware error 0x0\n"] {
        assert!(matches!(error(text), Error::NothingFound { .. }), "{text}");
    }
    let found = one(format!("KVM: entry failed, hardware error 0x0\n{LONG}"));
    assert_eq!(found.phase, Phase::Unknown);
}

#[test]
fn a_failed_entry_of_vmx_is_not_judged() {
    for code in ["0x80000021", "0x80000022", "0x7", "0x8"] {
        let text = format!("KVM: entry failed, hardware error {code}\n{LONG}");
        assert!(matches!(error(text), Error::Vmx { line: 1, .. }), "{code}");
    }
    let message = "\nIf you're running a guest on an Intel machine without unrestricted mode\nsupport\n\n";
    assert!(matches!(error(format!("{message}{LONG}")), Error::Vmx { line: 2, .. }));
}

#[test]
fn several_cpus() {
    let other = LONG.replace("RIP=ffffffff81a2b7ae", "RIP=ffffffff81a2b7b0").replace("SMM=0", "SMM=1");
    for (first, second) in [("\nCPU#0\n", "\nCPU#1\n"), ("CPU Reset (CPU 0)\n", "CPU Reset (CPU 1)\n")] {
        let found = all(format!("{first}{LONG}{second}{other}"));
        assert_eq!(found.iter().map(|found| found.vcpu).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert_eq!(value(&found[1], f::rip).0, 0xFFFF_FFFF_81A2_B7B0);
        assert!(remarks(&found[1]).contains(&&RemarkKind::SystemManagementMode));
        assert!(!remarks(&found[0]).contains(&&RemarkKind::SystemManagementMode));
    }
    // Without a line between them.
    let found = all(format!("{LONG}{other}"));
    assert_eq!(found.len(), 2);
    assert_eq!(value(&found[1], f::rip).0, 0xFFFF_FFFF_81A2_B7B0);
}

/// However the lines of two dumps mingle, and lines are lost, no value of one stands beside one of the other.
#[test]
fn dumps_that_mingle() {
    let other = LONG.replace('3', "4").replace("0000000000000001", "00000000000000a1").replace("fe", "fd");
    let (first, second) = (one(LONG), one(&other));
    let mut state = 1u64;
    let mut below = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let mut read = 0;
    for round in 0..2000 {
        let (mut one, mut two) = (LONG.lines().peekable(), other.lines().peekable());
        let mut text = String::new();
        while one.peek().is_some() || two.peek().is_some() {
            let line = if below(2) == 0 { one.next() } else { two.next() };
            let Some(line) = line else { continue };
            if round % 2 == 0 || below(20) > 0 {
                text += line;
                text += "\n";
            }
        }
        let (found, _) = vmcb_dump::read_all(text.as_bytes());
        for found in &found {
            read += found.fields.len();
            let of = |whole: &Found| {
                found
                    .fields
                    .iter()
                    .all(|seen| whole.vmcb.read(seen.offset, seen.size).value() & seen.mask == seen.value)
            };
            assert!(of(&first) || of(&second), "{round}\n{text}\n{:?}", found.fields);
        }
    }
    assert!(read > 0, "something is read at times");
}

#[test]
fn a_line_twice_is_the_same_dump() {
    let whole = one(LONG);
    for index in 0..LONG.lines().count() {
        let text: String = LONG
            .lines()
            .enumerate()
            .map(|(at, line)| if at == index { format!("{line}\n{line}\n") } else { format!("{line}\n") })
            .collect();
        assert_eq!(one(&text).vmcb, whole.vmcb, "{index}");
    }
}

#[test]
fn other_texts_are_no_dump() {
    for text in [
        "EAX=00000001 CS=017f EIP=bff7b9a6 EFLGS=00010216\nEBX=8164f2a4 SS=0167 ESP=0064fd10\n",
        "RAX: 0000000000000001 RBX: 0000000000000001\n",
        "eax=00000001 ebx=00000002\n",
        "CS =0010 0000000000000000 ffffffff 00af9b00\nCR0=80050033\nEFER=0000000000000d01\n",
        "RAX=\nRAX=0\nEAX=123\nRIP=123 RFL=00000002\n",
        "CPU#0\nCPU Reset (CPU 1)\nKVM internal error. Suberror: 3\n",
    ] {
        assert!(matches!(error(text), Error::NothingFound { .. }), "{text}");
    }
}

#[test]
fn values_that_cannot_be_are_unknown() {
    for (from, to) in [
        ("CPL=0", "CPL=3"),
        ("CPL=0", "CPL=x"),
        ("CS =0010 0000000000000000 ffffffff 00af9b00", "CS =0010 0000000000000000 ffffffff 00afFB00"),
    ] {
        let found = one(LONG.replace(from, to));
        assert_eq!(known(&found, f::cpl), 0, "{to}");
    }
    let found = one(LONG.replace("EFER=0000000000000d01", "EFER=0000000000000D01"));
    assert_eq!(known(&found, f::efer), 0);
    // Eight digits of a table's base in a dump of 32-bit registers, without the limit behind them.
    let short = sample("qemu-register-dump-prot32.txt");
    let found = one(short.replace("GDT=     000f50a0 00000037", "GDT=     000f50a0"));
    assert_eq!(found.vmcb.read(f::gdtr.offset + 8, 8).known_mask(), 0);
    // A 32-bit process of a 64-bit guest.
    let found = one(short.replace("GDT=     000f50a0 00000037", "GDT=     fffffe00000a1000 0000007f"));
    assert_eq!(found.vmcb.read(f::gdtr.offset + 8, 8).value(), 0xFFFF_FE00_000A_1000);
}

#[test]
fn the_log_of_emulated_instructions() {
    let found = all(sample("qemu-tcg-in_asm-vmrun-vmexit.txt"));
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.kind == Kind::QemuLog && found.phase == Phase::After));
    assert_eq!(value(&found[0], f::exitcode), (0x60, 0xFFFF_FFFF), "32 bits are shown");
    assert_eq!(value(&found[1], f::exitinfo2), (0xF5EA0, u64::MAX));
    assert_eq!(value(&found[1], f::rip), (0xEECC4, u64::MAX));
    assert_eq!((found[0].vmcb_address, found[1].vmcb_address), (None, Some(0xB72E_9000)));
    assert!(found.iter().all(|found| found.remarks.is_empty()));

    assert!(matches!(
        error("vmload! 0000000000001000\nvmrun! 0000000000001000\n"),
        Error::QemuSvmLog { line: 2 }
    ));
    assert!(matches!(error("vmexit(x)!\n"), Error::QemuSvmLog { line: 1 }));
    // A 32-bit QEMU; an EXITINFO1 that some versions cut before they wrote it.
    let found = one("vmrun! 00001000\nvmexit(ffffffff, 00000000ffffffff, 0000000000000000, 000f3694)!\n");
    assert_eq!(found.vmcb_address, Some(0x1000));
    assert_eq!(value(&found, f::exitcode), (0xFFFF_FFFF, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::exitinfo1), (0xFFFF_FFFF, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::rip), (0xF3694, 0xFFFF_FFFF));
}

#[test]
fn addresses_of_several_cpus_are_not_told_apart() {
    let exit = "vmexit(00000060, 0000000000000000, 0000000000000000, 00000000000eecc4)!\n";
    let text = format!(
        "vmrun! 0000000000001000\nvmrun! 0000000000002000\n{exit}{exit}vmrun! 0000000000001000\n{exit}"
    );
    assert!(all(text).iter().all(|found| found.vmcb_address.is_none()));
}

#[test]
fn a_wrapped_exit() {
    let whole = one("vmexit(0000004e, 0000000000000005, 00000000000f5ea0, 00000000000eecc4)!\n");
    let found = one("> vmexit(0000004e, 0000000000000005,\n> 00000000000f5ea0, 00000000000eecc4)!\n");
    assert_eq!(found.vmcb, whole.vmcb);
    assert_eq!(remarks(&found), [&RemarkKind::WrapJoined { count: 2 }]);
    // The second line lost, repeated, or another's.
    for text in [
        "vmexit(0000004e, 0000000000000005,\nsomething else\n00000000000f5ea0, 00000000000eecc4)!\n",
        "vmexit(0000004e, 0000000000000005,\n00000000000f5ea0,\n00000000000f5ea0,\n00000000000eecc4)!\n",
        "vmexit(0000004e, 0000000000000005,\n00000000000eecc4)!\n",
        "vmexit(0000004e, 0000000000000005,\n",
        "vmexit(0000004e, 0000000000000005, 00000000000f5e",
    ] {
        let found = one(text);
        assert_eq!(value(&found, f::exitcode).0, 0x4E, "{text}");
        assert_eq!((known(&found, f::exitinfo2), known(&found, f::rip)), (0, 0), "{text}");
        assert!(remarks(&found).iter().any(|kind| matches!(kind, RemarkKind::EndsAfter { .. })), "{text}");
    }
    let mingled = "vmexit(00000060, 0000000000000001,\nx\nvmexit(0000004e, 0000000000000005,\n\
                   0000000000000002, 0000000000000003)!\n00000000000f5ea0, 00000000000eecc4)!\n";
    for found in all(mingled) {
        assert_eq!((known(&found, f::exitinfo2), known(&found, f::rip)), (0, 0));
    }
}

/// What logs and mails do to lines.
fn damage(random: &mut generate::Random, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..random.below(4) {
        let at = random.below(lines.len() as u64) as usize;
        match random.below(9) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines.insert(at, "and then it said: foo=1 bar".to_owned()),
            3 => {
                let end = random.below(lines[at].len() as u64 + 1) as usize;
                lines[at].truncate(end);
            }
            4 => {
                let from = random.below(lines[at].len() as u64 + 1) as usize;
                let to = (from + random.below(20) as usize).min(lines[at].len());
                lines[at].replace_range(from..to, "[...]");
            }
            5 => lines = lines.iter().map(|line| format!("> {line}\r")).collect(),
            6 => lines = lines.iter().map(|line| line.replace(' ', "\t")).collect(),
            7 => {
                let width = 20 + random.below(60) as usize;
                lines = lines.iter().flat_map(|line| wrapped(line, width)).collect();
            }
            _ => lines = lines.iter().flat_map(|line| quoted_printable(line)).collect(),
        }
        if lines.is_empty() {
            break;
        }
    }
    let mut text = lines.join("\n") + "\n";
    if random.one_in(4) {
        text.truncate(random.below(text.len() as u64) as usize);
    }
    text
}

fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    for word in line.split(' ') {
        let last = out.last_mut().unwrap();
        if last.len() + word.len() > width && !last.is_empty() {
            out.push(word.to_owned());
        } else {
            *last = format!("{last} {word}");
        }
    }
    out
}

fn quoted_printable(line: &str) -> Vec<String> {
    let encoded = line.replace('=', "=3D");
    let pieces: Vec<&[u8]> = encoded.as_bytes().chunks(75).collect();
    let count = pieces.len();
    let soft = |(at, piece): (usize, &[u8])| {
        String::from_utf8_lossy(piece).into_owned() + if at + 1 < count { "=" } else { "" }
    };
    pieces.into_iter().enumerate().map(soft).collect()
}

/// However a dump is damaged, no bit is read otherwise than it was written.
#[test]
fn damaged_dumps() {
    for (name, write) in generate::WRITERS.iter().filter(|(name, _)| name.starts_with("qemu")) {
        let mut random = generate::Random(7);
        let mut read = 0;
        for round in 0..4000 {
            let written = write(&mut random);
            let text = damage(&mut random, &written.text);
            let (found, _) = vmcb_dump::read_all(text.as_bytes());
            common::check(&found);
            for seen in found.iter().flat_map(|found| &found.fields) {
                read += 1;
                let shown = written.shows.iter().find(|shown| shown.offset == seen.offset);
                let shown = shown.unwrap_or_else(|| panic!("{name} {round}: {seen:?}\n{text}"));
                assert_eq!(seen.mask & !shown.mask, 0, "{name} {round}: {seen:?} {shown:?}\n{text}");
                assert_eq!(seen.value, shown.value & seen.mask, "{name} {round}: {seen:?} {shown:?}\n{text}");
            }
        }
        assert!(read > 1000, "{name}: {read}");
    }
}
