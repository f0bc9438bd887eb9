//! What a scan finds, whatever the blocks are, and what becomes of events.

use std::path::Path;
use vmcb_scan::{Fate, Options, Report, Source, Standing, VcpuKey, scan, scan_bytes};

#[path = "../examples/generate/mod.rs"]
mod generate;

fn with(text: impl AsRef<[u8]>, block: usize, jobs: usize) -> Report {
    let options = Options { events: true, block, jobs, ..Options::default() };
    scan(text.as_ref(), &options, |_| {}).expect("memory can be read")
}

fn all(text: impl AsRef<[u8]>) -> Report {
    with(text, 1 << 20, 1)
}

fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const SAMPLES: [&str; 10] = [
    "ftrace-kvm_nested-6.1.txt",
    "ftrace-kvm_nested-7.2.txt",
    "tracecmd-kvm_nested_vmrun-eventinj.txt",
    "kvm-6.1-dmesg-refused-cs-l-d.txt",
    "kvm-7.2-dmesg-refused-event-moved.txt",
    "kvm-dmesg-dump_vmcb-npf.txt",
    "kvm-6.14-dmesg-refused-snp-allowed-sev-features.txt",
    "xen-debugkey-v-vmcb-vcpu0.txt",
    "qemu-register-dump-prot32.txt",
    "INDEX.md",
];

fn enter(line: &str) -> String {
    format!("q-1 [000] 1.0: kvm_nested_vmenter: rip: 0x0000000000000001 vmcb: {line} nested_npt=n\n")
}

const VMCB: &str = "0x000000000010a000 nested_rip: 0x0000000000000000 int_ctl: 0x00000000 event_inj:";

fn ran(info: &str) -> String {
    format!(
        "q-1 [000] 1.0: kvm_nested_vmexit: vcpu 0 reason npf rip 0x1 info1 0x0000000000000000 \
         info2 0x0000000000000000 intr_info {info} error_code 0x00000000\n"
    )
}

fn told(info: &str) -> String {
    format!(
        "q-1 [000] 1.0: kvm_nested_vmexit_inject: reason: npf ext_inf1: 0x0000000000000000 \
         ext_inf2: 0x0000000000000000 ext_int: {info} ext_int_err: 0x00000000\n"
    )
}

const NONE: &str = "0x00000000";
const TIMER: &str = "0x80000036";

fn vmrun(word: &str) -> String {
    enter(&format!("{VMCB} {word}"))
}

#[test]
fn what_only_looks_like_a_name_is_no_event() {
    for text in ["VMCB rip: 0x1\n", "SVM:exit: vcpu 0\n", "a VMCB_exit: vcpu 0 reason npf rip 0x1\n"] {
        assert!(all(text).trace.is_empty(), "{text}");
    }
}

/// The fates of one event, and what its problem is.
fn fates(text: &str) -> Vec<(Fate, u64)> {
    let followed = all(text).events.expect("it was asked");
    assert_eq!(followed.wrong, followed.problems.len() as u64);
    followed.fates.iter().map(|((fate, _), count)| (*fate, *count)).collect()
}

#[test]
fn no_answer_depends_on_blocks_or_threads() {
    let mut texts: Vec<Vec<u8>> = SAMPLES.iter().map(|name| sample(name)).collect();
    texts.push(SAMPLES.iter().flat_map(|name| sample(name)).collect());
    for (seed, dense) in [(1, true), (2, false), (3, true)] {
        let mut text = Vec::new();
        generate::Trace::new(seed, dense).write(&mut text, 120_000).expect("memory can be written");
        texts.push(text);
    }
    // Two VMRUNs whose intercepts come late, no line end, NUL bytes, a line longer than any block.
    let mut odd = vmrun(TIMER).into_bytes();
    odd.extend(vec![b'x'; 200_000]);
    odd.extend(b"kvm_nested_vmenter: event_inj: 0x8000031f\n\0\0\n\r\n");
    odd.extend(vmrun("0x8000031f").into_bytes());
    odd.extend(b"kvm_nested_intercepts: cr_read: 0000 cr_write: 0000 excp: 00000000 intercepts: 0 0 0\n");
    odd.extend(b"q-1 [000] 1.0: kvm_nested_vmenter: event_inj: 0x80000");
    texts.push(odd);
    for text in &texts {
        let reference = with(text, usize::MAX >> 8, 1);
        assert_eq!(reference.bytes, text.len() as u64);
        let lines = text.iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(reference.lines, lines as u64 + u64::from(text.last().is_some_and(|&last| last != b'\n')));
        for (block, jobs) in [(1, 1), (7, 1), (100, 3), (999, 2), (4096, 1), (70_000, 4)] {
            let other = with(text, block, jobs);
            assert_eq!(other, reference, "block {block}, {jobs} jobs");
            let options = Options { events: true, block, jobs, ..Options::default() };
            let other = scan_bytes(text, &options);
            assert_eq!(other, reference, "in memory, block {block}, {jobs} jobs");
        }
    }
}

#[test]
fn a_lost_event_is_told() {
    let report = all(sample("tracecmd-kvm_nested_vmrun-eventinj.txt"));
    let events = report.events.expect("it was asked");
    assert_eq!(events.problems.len(), 1);
    let problem = events.problems[0];
    assert_eq!((problem.fate, problem.word), (Fate::Lost, 0x8000_0036));
    assert_eq!((problem.vmrun, problem.line, problem.vcpu), (2, 21, VcpuKey::Number(0)));
    assert_eq!(problem.vmcb, Some(0x1_0359_4000));
    assert!(report.rules.is_empty());
}

#[test]
fn fates_of_events() {
    let (enter, again) = (vmrun(TIMER), vmrun(NONE));
    let seen = ran(NONE) + &told(NONE);
    for (text, expected) in [
        (enter.clone() + &ran(NONE) + &told(NONE), vec![(Fate::Delivered, 1)]),
        (
            enter.clone() + &ran(TIMER) + &told(TIMER) + &enter + &ran(NONE) + &told(NONE),
            vec![(Fate::Delivered, 1), (Fate::InjectedAgain, 1)],
        ),
        (enter.clone() + &ran(TIMER) + &told(TIMER) + &again, vec![(Fate::NotInjectedAgain, 1)]),
        (enter.clone() + &ran(TIMER) + &told(NONE), vec![(Fate::Lost, 1)]),
        (seen.clone() + &enter + &told(NONE), vec![(Fate::Lost, 1)]),
        (seen.clone() + &enter + &again, vec![(Fate::Overwritten, 1)]),
        // L0 injects it again by itself.
        (enter.clone() + &ran(TIMER) + &ran(NONE) + &told(NONE), vec![(Fate::Delivered, 1)]),
        (
            enter.clone() + &ran(TIMER) + &ran(NONE) + &told(TIMER) + &enter,
            vec![(Fate::DeliveredTwice, 1), (Fate::Open, 1)],
        ),
        // Nothing is said where the lines that would tell are not recorded, or are lost.
        (enter.clone() + &again, vec![(Fate::Unknown, 1)]),
        (enter.clone() + &told(NONE), vec![(Fate::Unknown, 1)]),
        (seen.clone() + &enter + "CPU:0 [LOST 3 EVENTS]\n" + &told(NONE), vec![(Fate::Unknown, 1)]),
        (seen.clone() + &enter + &ran("0x8000003") + &told(NONE), vec![(Fate::Unknown, 1)]),
        (seen.clone() + &enter, vec![(Fate::Open, 1)]),
        (enter.clone() + &ran(TIMER) + &told(TIMER), vec![(Fate::Open, 1)]),
        (
            enter.clone() + "q-1 [000] 1.0: kvm_nested_vmenter_failed: control->asid == 0\n",
            vec![(Fate::Refused, 1)],
        ),
        // A fault comes again by itself; another event may come first.
        (
            vmrun("0x80000b0e") + &ran("0x80000b0e") + &told("0x80000b0e") + &again,
            vec![(Fate::MayComeAgain, 1)],
        ),
        (
            enter.clone() + &ran(TIMER) + &told(TIMER) + &vmrun("0x80000030") + &seen,
            vec![(Fate::Delivered, 1), (Fate::AnotherFirst, 1)],
        ),
    ] {
        assert_eq!(fates(&text), expected, "{text}");
    }
    // Another virtual CPU in between changes nothing.
    let other = told(NONE).replace("q-1", "q-2");
    assert_eq!(fates(&(seen + &enter + &other + &ran(NONE) + &told(NONE))), [(Fate::Delivered, 1)]);
}

#[test]
fn rules_and_refusals_are_counted() {
    let report = all(sample("ftrace-kvm_nested-7.2.txt"));
    assert!(report.is_refused());
    let said: u64 = report.conditions.iter().map(|condition| condition.count).sum();
    let text = String::from_utf8(sample("ftrace-kvm_nested-7.2.txt")).unwrap();
    let failed = text.lines().filter(|line| line.contains("kvm_nested_vmenter_failed: ")).count();
    assert_eq!(said, failed as u64);
    let text = vmrun("0x8000031f").repeat(3) + &vmrun("0x80000036");
    let report = all(&text);
    assert_eq!(report.rules.len(), 1);
    let rule = &report.rules[0];
    assert_eq!((rule.rule.id(), rule.count, rule.line), ("evt-exc-vector-reserved", 3, 1));
    assert_eq!((rule.standing, rule.host), (Standing::Broken, false));
    assert_eq!(report.injected[&(Source::Vmcb12, 0x31F)].count, 3);
    assert_eq!(report.injected[&(Source::Vmcb12, 0x36)].count, 1);
    assert_eq!((report.vcpus[0].1.vmruns, report.vcpus[0].1.refused), (4, 3));
    // What a newer kernel's kvm_entry shows is judged, unless the trace is one of VMX.
    let entry = "q-1 [000] 1.0: kvm_entry: vcpu 0, rip 0x1 intr_info 0x8000031f error_code 0x00000000\n";
    assert!(all(entry).rules[0].host);
    let vmx = format!("{entry}q-1 [000] 1.0: kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x1\n");
    let report = all(vmx);
    assert_eq!((report.rules.len(), report.findings.len(), report.vmx_line), (0, 0, Some(2)));
    assert!(!report.is_refused());
    // A task may be called kvm_something, or as a dump's lines begin.
    for task in ["kvm_stat", "VMCB", "SVM: x"] {
        assert_eq!(all(vmrun("0x8000031f").replace("q-1", &format!("{task}-1"))).rules.len(), 1, "{task}");
    }
    // The intercepts of the line after belong to the VMRUN.
    let intercepts = "q-1 [000] 1.0: kvm_nested_intercepts: cr_read: 0000 cr_write: 0000 excp: 00000000 \
        intercepts: 00000000 00000000 00000000\n";
    let report = all(vmrun(NONE) + intercepts);
    assert_eq!(report.rules[0].rule.id(), "ctl-vmrun-intercept-clear");
    assert!(all(vmrun(NONE)).rules.is_empty());
}

#[test]
fn dumps_in_a_log_are_judged() {
    let report = all(sample("kvm-6.1-dmesg-refused-cs-l-d.txt"));
    assert_eq!(report.dumps, 1);
    assert_eq!(report.rules[0].rule.id(), "sav-cs-l-and-d");
    // However few findings are kept.
    let unexplained = sample("kvm-7.2-dmesg-refused-event-moved.txt");
    let options = Options { lines: 0, ..Options::default() };
    assert!(scan_bytes(&unexplained, &options).is_refused());
    let noise = "[    1.0] systemd[1]: Started something.\n".repeat(400);
    let two = [sample("kvm-6.1-dmesg-refused-cs-l-d.txt"), noise.clone().into(), vmrun(NONE).into()].concat();
    let twice = [two.clone(), two].concat();
    let report = all(&twice);
    assert_eq!((report.dumps, report.rules[0].count, report.trace.len()), (2, 2, 1));
}

/// What is searched at a time ends somewhere, and its bytes stand in other words too.
#[test]
fn needles_are_found_wherever_they_stand() {
    let other = "kvfree SVG MCE (X86) KVM: [ACCESS] SUPPORTED EVENTS Kvm_x\n";
    let dump = sample("kvm-6.1-dmesg-refused-cs-l-d.txt");
    for before in [4096_usize, 8192, 16_384, 65_536] {
        for shift in 0..48 {
            let lines = other.repeat((before - 24) / other.len());
            let pad = "x".repeat(before - 24 - lines.len() + shift);
            let line = other.len() as u64;
            let count = lines.len() as u64 / line;
            let report = all(format!("{lines}{pad}kvm_nested_vmenter: event_inj: 0x8000031f\n{other}"));
            assert_eq!((report.rules.len(), report.rules[0].line), (1, count + 1), "{before} {shift}");
            assert_eq!((report.lines, report.dumps), (count + 2, 0));
            for mark in ["[LOST 3 EVENTS]", "[3 EVENTS DROPPED]"] {
                assert_eq!(
                    all(format!("{lines}{pad}CPU:0 {mark}\n{other}")).lost,
                    1,
                    "{before} {shift} {mark}"
                );
            }
        }
    }
    let noisy = [other.repeat(500).as_bytes(), &dump, other.repeat(500).as_bytes()].concat();
    assert_eq!(all(noisy).dumps, 1);
}

#[test]
fn lists_are_bounded_and_the_rest_counted() {
    let mut text = String::new();
    for index in 0..6000_u32 {
        text.push_str(&vmrun("0x8000031f").replace("q-1", &format!("q-{index}")));
        text.push_str(&format!("q-1 [000] 1.0: kvm_nested_vmenter_failed: condition {index}\n"));
    }
    let report = with(&text, 5000, 2);
    assert_eq!(report.findings.len(), 20);
    assert_eq!(report.found, 12_000);
    assert_eq!(report.findings.last().map(|finding| finding.line), Some(20));
    assert_eq!(report.conditions.len(), vmcb_scan::MOST_CONDITIONS);
    assert_eq!(report.more_conditions as usize, 6000 - vmcb_scan::MOST_CONDITIONS);
    assert_eq!(report.vcpus.len(), vmcb_scan::MOST_VCPUS);
    let listed: u64 = report.vcpus.iter().map(|(_, vcpu)| vcpu.lines).sum();
    assert_eq!(listed + report.more_vcpus, 12_000);
}

#[test]
fn hostile_inputs_end() {
    for text in ["", "\n", "kvm_", "kvm_nested_vmenter:", "SVM:", "VMCB", "(XEN)", "[LOST  EVENTS]", "\0"] {
        for block in [1, 3, 1 << 16] {
            assert!(!with(text, block, 1).is_refused(), "{text:?}");
        }
    }
    let long = "kvm_nested_vmenter: event_inj: 0x8000031f ".repeat(20_000);
    for block in [1, 4096, 1 << 20] {
        let report = with(&long, block, 2);
        assert_eq!((report.bytes, report.lines), (long.len() as u64, 1));
        assert_eq!(report.rules[0].count, 1);
    }
    // A number cut off by the end of the input, or of what is read of a line, is unknown.
    let half = "q-1 [000] 1.0: kvm_nested_vmexit: vcpu 0 reason 0xffffffff";
    assert!(!all(half).is_refused());
    assert!(all(format!("{half}\n")).is_refused());
}
