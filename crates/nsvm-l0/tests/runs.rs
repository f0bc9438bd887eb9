//! L0 under QEMU with test hypervisors as L1. `NSVM_QEMU` names another program than `qemu-system-x86_64`.

use nsvm_l0::{Setup, kernel, machine};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;
use vmcb::{Cpu, Limits, Policy};

/// The test hypervisors, a multiboot image.
fn image() -> &'static [u8] {
    nsvm_l0::HYPERVISORS.expect("tests are ignored without it")
}

/// The emulator.
fn qemu() -> Command {
    Command::new(std::env::var_os("NSVM_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into()))
}

/// What came of a run.
struct Ran {
    /// The value that was written to the debug exit; -1 where a signal ended the emulator.
    code: i32,
    /// L1's serial port.
    output: String,
    /// L0's log.
    log: String,
}

const COUNTING: [&str; 2] = ["-icount", "shift=0,sleep=off"];

/// Runs a test of the test hypervisors; on the bare emulator without a setup.
fn run(test: &str, setup: Option<&Setup>, more: &[&str]) -> Ran {
    let mut command = qemu();
    let name: String =
        test.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let reload = setup.map_or(0, |setup| setup.reload);
    let stem = format!("{name}-{}-{reload}-{:?}", setup.is_some(), std::thread::current().id());
    let file = |kind: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{stem}.{kind}"));
    machine(&mut command, setup.map_or(128, |setup| setup.memory));
    command.arg("-serial").arg(format!("file:{}", file("out").display()));
    command.arg("-serial").arg(format!("file:{}", file("log").display())).args(more).arg("-kernel");
    match setup {
        Some(setup) => {
            let setup = Setup { command_line: test.to_owned(), ..setup.clone() };
            std::fs::write(file("elf"), kernel(image(), &setup).expect("a kernel")).expect("a file");
            command.arg(file("elf"));
        }
        None => {
            std::fs::write(file("bin"), image()).expect("a file");
            command.arg(file("bin")).args(["-append", test]);
        }
    }
    let status = command.stdin(Stdio::null()).status().expect("QEMU starts");
    let read = |kind| String::from_utf8_lossy(&std::fs::read(file(kind)).unwrap_or_default()).into_owned();
    let ran = Ran { code: status.code().map_or(-1, |code| code / 2), output: read("out"), log: read("log") };
    println!("{test}: {}\n{}{}", ran.code, ran.output, ran.log);
    ran
}

fn passes(test: &str, setup: &Setup) -> Ran {
    let ran = run(test, Some(setup), &[]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.output, ran.log);
    assert!(ran.output.ends_with(": passed\n"), "{}", ran.output);
    ran
}

#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn l1_gets_its_memory_and_modules() {
    let modules = vec![(vec![7; 5000], "first one".to_owned()), (vec![9], String::new())];
    let setup = Setup { modules, memory: 64, ..Setup::default() };
    let ran = passes("hello", &setup);
    let sum =
        |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    for line in [
        "memory 638 KiB below 1 MiB, 64512 KiB above".to_owned(),
        "range 0x00100000 0x03f00000 1".to_owned(),
        format!("module of 5000 bytes, sum {:#x}, page-aligned true: first one", sum(&[7; 5000])),
        "module of 1 bytes, sum 0x9, page-aligned true: ".to_owned(),
    ] {
        assert!(ran.output.lines().any(|found| found == line), "{line}\n{}", ran.output);
    }
}

/// The line has the rule, the value and what VMRUN does; the dump is the VMCB that was refused.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn a_refused_vmrun_is_explained() {
    let ran = passes("refused", &Setup::default());
    let mut lines = ran.log.lines().skip_while(|line| !line.contains("refused"));
    let line = lines.next().unwrap_or("");
    assert!(line.starts_with("l0: VMRUN of 0x"), "{line}");
    assert!(
        line.ends_with(" refused: evt-exc-cp-without-shstk (EVENTINJ=0x80000315) VMEXIT_INVALID"),
        "{line}"
    );
    assert!(lines.next().is_some_and(|line| line.ends_with(" follows:")));
    let found: Vec<_> =
        vmcb_dump::Reader::new(ran.log.as_bytes()).collect::<Result<_, _>>().expect("it can be read");
    assert_eq!(found.len(), 1, "the log has one VMCB");
    let page = found[0].vmcb.complete().expect("all of it");
    assert_eq!(page[0xA8..0xB0], 0x8000_0315_u64.to_le_bytes());
    assert_eq!(page[0x4D0..0x4D8], 0x1500_u64.to_le_bytes(), "EFER as L1 wrote it");
    assert_eq!(ran.log.matches(" refused: ").count(), 1, "the second event is legal");
}

/// The refused set follows the virtual CPU, also one that the machine below cannot run.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn verdicts_follow_the_virtual_cpu() {
    for (cpu, second) in [
        ("EPYC-Genoa,+shstk,phys-bits=52", "0xf0000000, then 0xf0000000"),
        ("EPYC-Genoa,-shstk,phys-bits=52", "0xffffffffffffffff, then 0xf0000000"),
    ] {
        let limits = Limits::compile(&Cpu::parse(cpu).expect("a CPU"), Policy::VirtualCpu);
        let setup = Setup { limits: Some(limits), verdict_only: true, ..Setup::default() };
        let ran = run("refused", Some(&setup), &[]);
        assert!(ran.output.contains(&format!("EXITCODE {second}")), "{cpu}: {}", ran.output);
    }
    // To run it is another matter.
    let limits =
        Limits::compile(&Cpu::parse("EPYC-Genoa,+shstk,phys-bits=40").expect("a CPU"), Policy::VirtualCpu);
    let setup = Setup { limits: Some(limits), ..Setup::default() };
    let ran = run("refused", Some(&setup), &[]);
    assert_eq!(ran.code, i32::from(nsvm_l0::bundle::ended::FAILED));
    assert!(ran.log.contains("l0:   shstk (") && ran.log.contains(",-shstk"), "{}", ran.log);
}

/// The release bar is 100,000 rounds: `NSVM_L0_ROUNDS=100000`, which `cargo xtask nightly` sets.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn xmm_registers_are_intact() {
    let rounds = std::env::var("NSVM_L0_ROUNDS").unwrap_or_else(|_| "10000".to_owned());
    passes(&format!("xmm {rounds}"), &Setup::default());
}

#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn interrupts_are_l1s() {
    let bare = run("interrupts", None, &[]);
    assert_eq!(bare.code, 0, "the test itself holds on the bare emulator: {}", bare.output);
    passes("interrupts", &Setup::default());
}

/// The bare emulator skips the prefixes as L0 must.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn instructions_of_l2_have_prefixes() {
    let bare = run("prefixes", None, &[]);
    assert_eq!(bare.code, 0, "the test itself holds on the bare emulator: {}", bare.output);
    passes("prefixes", &Setup::default());
}

#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn msrs_that_l1_leaves_alone_are_l2s() {
    let bare = run("msrs", None, &[]);
    assert_eq!(bare.code, 0, "the test itself holds on the bare emulator: {}", bare.output);
    passes("msrs", &Setup::default());
}

/// Whatever passes on the bare emulator passes under L0, and what the manual says holds under L0 even where the bare
/// emulator breaks it: those checks are listed. Wall time is told, not held: two machines of the same test run at once
/// with others.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn what_passes_on_the_bare_emulator_passes_under_l0() {
    let verdict = |ran: &Ran, test: &str| -> Vec<(String, bool)> {
        let checks = ran.output.lines().filter_map(|line| {
            let (name, said) = line.strip_prefix("check ")?.split_once(": ")?;
            Some((name.to_owned(), said == "right"))
        });
        let whole = (test.to_owned(), ran.code == 0 && ran.output.ends_with(": passed\n"));
        checks.chain([whole]).collect()
    };
    println!("{:40} {:8} {:8}", "", "bare", "L0");
    for test in ["hello", "refused", "icount", "xmm 1000", "interrupts", "msrs", "pdptes", "checks"] {
        let (start, setup) = (Instant::now(), Setup::default());
        let bare = run(test, None, &[]);
        let middle = Instant::now();
        let ran = run(test, Some(&setup), &[]);
        let times = (middle - start, middle.elapsed());
        let (below, above) = (verdict(&bare, test), verdict(&ran, test));
        assert_eq!(below.len(), above.len(), "{}\n{}", bare.output, ran.output);
        for ((name, bare), (_, l0)) in below.iter().zip(&above) {
            let word = |right| if right { "right" } else { "wrong" };
            println!("{name:40} {:8} {:8}", word(*bare), word(*l0));
        }
        println!("{test:40} {:6.2} s {:6.2} s", times.0.as_secs_f32(), times.1.as_secs_f32());
        for (name, right) in above {
            assert!(right, "{name}: wrong under L0\n{}\n{}", ran.output, ran.log);
        }
    }
}

/// QEMU marks them as accessed, which the manual has reserved: L1 does not see it, and VMRUN is not refused for it.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn marked_pdptes_are_unmarked() {
    let bare = run("pdptes", None, &[]);
    assert_eq!(bare.code, 0, "the test itself holds on the bare emulator: {}", bare.output);
    let ran = passes("pdptes", &Setup::default());
    assert_eq!(ran.output.matches(", mark 0x0\n").count(), 2, "{}", ran.output);
}

#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn devices_cannot_write_to_memory() {
    passes("devices", &Setup::default());
}

/// The other machine of QEMU has its configuration space in memory, too.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn q35_is_another_machine() {
    const Q35: [&str; 2] = ["-M", "q35"];
    for test in ["devices", "hello", "interrupts", "attack 1000 1"] {
        let setup = Setup { quiet: true, ..Setup::default() };
        let ran = run(test, Some(&setup), &Q35);
        assert_eq!(ran.code, 0, "{test}: {}\n{}", ran.output, ran.log);
        assert!(ran.output.ends_with(": passed\n"), "{}", ran.output);
    }
    let bare = run("devices", None, &Q35);
    assert!(bare.output.contains("configuration space false"), "the test sees it: {}", bare.output);
}

/// The release bar is 1,000,000 rounds: `NSVM_L0_ATTACKS=1000000`, which `cargo xtask nightly` sets.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn an_attacker_gets_nowhere() {
    let rounds = std::env::var("NSVM_L0_ATTACKS").unwrap_or_else(|_| "10000".to_owned());
    for seed in [1, 2] {
        passes(&format!("attack {rounds} {seed}"), &Setup { quiet: true, ..Setup::default() });
    }
}

/// At every exit the nested state is saved, thrown away and loaded: nothing changes for the guests, interrupts and
/// injected events included.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn saved_and_loaded_at_each_exit() {
    let reload = |every| Setup { quiet: true, reload: every, ..Setup::default() };
    for (test, every) in [
        ("hello", 1),
        ("refused", 1),
        ("xmm 1000", 1),
        ("interrupts", 1),
        ("attack 500 1", 1),
        ("attack 1000 2", 3),
    ] {
        let plain = passes(test, &reload(0));
        let ran = passes(test, &reload(every));
        // How often the timer ticked, and what it cut short, is the emulator's affair.
        let settled = |output: &str| match test.split(' ').next() {
            Some("attack") => output.split(" refused").next().unwrap_or_default().to_owned(),
            Some("interrupts") => String::new(),
            _ => output.to_owned(),
        };
        assert_eq!(settled(&ran.output), settled(&plain.output), "{test}");
    }
}

/// Instructions of a nested round trip in the steady state, and the project's bars.
#[test]
#[cfg_attr(not(has_l0), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_l0, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn round_trips_are_short() {
    let setup = Setup { quiet: true, ..Setup::default() };
    let bare = run("icount", None, &COUNTING);
    let ran = run("icount", Some(&setup), &COUNTING);
    assert_eq!((bare.code, ran.code), (0, 0), "{}{}", ran.output, ran.log);
    let number = |text: &str, before: &str| -> u64 {
        let rest = text.split(before).nth(1).unwrap_or_default();
        rest.split(|letter: char| !letter.is_ascii_digit())
            .next()
            .and_then(|digits| digits.parse().ok())
            .expect(before)
    };
    for (before, bar) in
        [("first instruction ", 1000), ("L1's next ", 500), ("VMLOAD ", 300), ("VMSAVE ", 300)]
    {
        let (found, below) = (number(&ran.output, before), number(&bare.output, before));
        println!("{before}: {found} instructions, {below} without L0");
        assert!(found <= bar, "{before}: {found} instructions exceed {bar}");
    }
}
