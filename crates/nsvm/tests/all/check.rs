//! What `nsvm check` says of real dumps and of pages, and what it rests on.

use crate::common::{MILAN, file, legal, nsvm, put, run, status, stderr, stdout, verdicts};
use snapbox::file as snapshot;

#[test]
fn a_refused_dump_is_explained_at_its_place() {
    run(&["check", "samples/kvm-6.1-dmesg-refused-cs-l-d.txt"])
        .code(1)
        .stdout_eq(snapshot!["snapshots/cs-l-d.txt"])
        .stderr_eq("");
}

#[test]
fn a_moved_event_is_inferred() {
    run(&["check", "samples/kvm-7.2-dmesg-refused-event-moved.txt"])
        .code(1)
        .stdout_eq(snapshot!["snapshots/event-moved.txt"])
        .stderr_eq("");
}

#[test]
fn an_exit_code_shows_that_vmrun_accepted() {
    run(&["check", "samples/kvm-dmesg-dump_vmcb-npf.txt"])
        .code(0)
        .stdout_eq(snapshot!["snapshots/npf.txt"])
        .stderr_eq("");
}

/// A healthy guest: no finding, and what the debug key does not tell is said.
#[test]
fn a_dump_by_xens_debug_key() {
    let sample = "samples/xen-debugkey-v-vmcb-vcpu0.txt";
    run(&["check", sample]).code(2).stdout_eq(snapshot!["snapshots/xen-key.txt"]).stderr_eq("");
    let after = stdout(&run(&["check", sample, "--phase", "after"]).code(0));
    assert!(after.contains(":3: accepted: VMRUN accepted it: exit code 0x78 (HLT)\n"), "{after}");
    let host = ["--host", "hsave-pa-zero=0,snp=0", "--cpu", MILAN];
    let before = stdout(&run(&[&["check", sample, "--phase", "before"], &host[..]].concat()).code(0));
    assert!(before.contains(":3: accepted\n"), "{before}");
}

#[test]
fn for_a_cpu_that_is_asked_about_the_exit_code_is_a_note() {
    run(&["check", "samples/kvm-dmesg-dump_vmcb-npf.txt", "--cpu", "EPYC-Milan,phys-bits=48"])
        .code(2)
        .stdout_eq(snapshot!["snapshots/npf-milan.txt"])
        .stderr_eq("");
}

#[test]
fn traces_are_judged_line_by_line() {
    let seven = run(&["check", "samples/ftrace-kvm_nested-7.2.txt"]).code(1);
    let text = stdout(&seven);
    for rule in ["sav-efer-svme-clear", "sav-cs-l-and-d", "ctl-asid-zero", "ctl-vmrun-intercept-clear"] {
        assert!(text.contains(&format!("error[{rule}]: KVM refused: ")), "{rule}: {text}");
        assert!(text.contains(&format!(": refused by KVM: {rule}\n")), "{rule}");
    }
    // This one KVM checks after the line that shows the entry: the two are one VMCB.
    assert!(text.contains("error[sav-pdpte-reserved]: KVM refused: !load_pdptrs(vcpu, cr3)"), "{text}");
    assert!(text.contains("after kvm_nested_vmenter, on values that its lines do not show"), "{text}");
    let failed =
        std::fs::read_to_string(crate::common::root().join("samples/ftrace-kvm_nested-7.2.txt")).unwrap();
    let refused = failed.lines().filter(|line| line.contains("kvm_nested_vmenter_failed: ")).count();
    let said = verdicts(&text).iter().filter(|line| line.contains(": refused by KVM")).count();
    assert_eq!(said, refused, "each kvm_nested_vmenter_failed has its verdict");

    run(&["check", "samples/ftrace-kvm_nested-6.1.txt"])
        .code(1)
        .stdout_eq(snapshot!["snapshots/ftrace-6.1.txt"])
        .stderr_eq("6 VMCBs in 1 file: 0 accepted, 3 refused, 3 undecided\n");
}

#[test]
fn a_trace_of_an_entry_is_undecided() {
    run(&["check", "samples/tracecmd-kvm_nested_vmrun-eventinj.txt"])
        .code(2)
        .stdout_eq(snapshot!["snapshots/tracecmd.txt"]);
}

#[test]
fn registers_that_qemu_dumps_accuse_nobody() {
    let sample = "samples/qemu-register-dump-prot32.txt";
    let text = stdout(&run(&["check", sample]).code(2));
    assert!(!text.contains("error["), "{text}");
    assert!(text.contains("warning: KVM stopped with internal error 1, "), "{text}");
    assert!(text.contains("warning: a register dump shows the guest's view"), "{text}");
    assert!(text.contains(&format!("{sample}:1: undecided: ")), "{text}");

    // What KVM told QEMU is a refusal; the registers do not explain it.
    let dump = std::fs::read_to_string(crate::common::root().join(sample)).unwrap();
    let failed = format!("KVM: entry failed, hardware error 0xffffffff\n{dump}");
    let text = stdout(&run(&["check", &file("entry-failed.txt", failed.as_bytes())]).code(2));
    assert!(text.contains("note: VMRUN refused it with exit code -1 (INVALID)"), "{text}");
    assert!(!text.contains("error["), "{text}");

    // Of what VMX says nothing is judged.
    let intel = failed.replace("0xffffffff\n", "0x80000021\n");
    run(&["check", &file("entry-failed-vmx.txt", intel.as_bytes())]).code(3);
}

#[test]
fn exits_that_qemu_logs_show_that_vmrun_accepted() {
    let text = stdout(&run(&["check", "samples/qemu-tcg-in_asm-vmrun-vmexit.txt"]).code(0));
    assert_eq!(
        verdicts(&text),
        [
            "samples/qemu-tcg-in_asm-vmrun-vmexit.txt:2: accepted: VMRUN accepted it: exit code 0x60 (INTR)",
            "samples/qemu-tcg-in_asm-vmrun-vmexit.txt:10: accepted: VMRUN accepted it: exit code 0x4e (EXCP_PF)",
        ]
    );
}

#[test]
fn a_condition_with_several_rules_names_no_culprit() {
    let line = b"kvmrun-1 [000] ..... 1.000000: kvm_nested_vmenter_failed: !nested_svm_check_event_inj(vcpu, control->event_inj)\n";
    let path = file("event-inj.txt", line);
    let text = stdout(&run(&["check", &path]).code(1));
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("error[evt-type-reserved|evt-exc-vector-2|"), "{first}");
    assert!(text.contains(": refused by KVM: one of evt-type-reserved, "), "{text}");
    assert!(text.contains("none of the VMCB's values"), "{text}");

    let path = file("unknown.txt", b"a-1 [000] ..... 1.0: kvm_nested_vmenter_failed: save->quux & 1\n");
    let text = stdout(&run(&["check", &path]).code(1));
    assert!(text.starts_with("error: KVM refused: save->quux & 1\n"), "{text}");
    assert!(text.contains("stands for no rule of the manual"), "{text}");

    let path = file("habit.txt", b"a-1 [000] ..... 1.0: kvm_nested_vmenter_failed: !nested_svm_check_tlb_ctl(vcpu, control->tlb_ctl)\n");
    let text = stdout(&run(&["check", &path]).code(1));
    assert!(text.starts_with("error[ctl-tlb-control-reserved]: "), "{text}");
    assert!(text.contains("no rule of the manual, but a habit"), "{text}");
}

#[test]
fn an_snp_guest_is_judged_on_its_vmsa() {
    let sample = "samples/kvm-6.14-dmesg-refused-snp-allowed-sev-features.txt";
    // Without a CPU nothing says that there is such a rule; the note says on which CPU.
    run(&["check", sample]).code(2).stdout_eq(snapshot!["snapshots/snp.txt"]);
    let cpu = "EPYC-Milan,+sev,+sev-es,+sev-snp,+allowed-sev-features,phys-bits=52,c-bit=51";
    run(&["check", sample, "--cpu", cpu, "--host", "memenc=1,snp=1"])
        .code(1)
        .stdout_eq(snapshot!["snapshots/snp-cpu.txt"]);
    // A VMSA that is given does not replace the one that the dump shows.
    let empty = file("empty-vmsa.bin", &[0; 4096]);
    run(&["check", sample, "--cpu", cpu, "--host", "memenc=1,snp=1", "--vmsa", &empty])
        .code(1)
        .stdout_eq(snapshot!["snapshots/snp-cpu.txt"]);
}

#[test]
fn pages_are_shown_as_decoded_lines() {
    let mut page = legal();
    put(&mut page, 0x548, 0x0100_0000_0080_0020);
    put(&mut page, 0x668, 0x0007_0406_0007_0302);
    page[0x90] = 1;
    put(&mut page, 0xA8, 0x8000_0315);
    put(&mut page, 0xB0, 1 << 52 | 1 << 48);
    let path = file("page.bin", &page);
    let output = run(&["check", &path, "--cpu", MILAN, "--phase", "before"]).code(1);
    let text = stdout(&output).replace(&path, "page.bin");
    snapbox::assert_data_eq!(text, snapshot!["snapshots/page.txt"]);
}

#[test]
fn all_is_known_and_nothing_broken() {
    let path = file("legal.bin", &legal());
    let text =
        stdout(&run(&["check", &path, "--cpu", MILAN, "--phase", "before", "--host", "rax=0x1000"]).code(0));
    assert!(text.starts_with(&format!("{path}:0x0: accepted\n")), "{text}");
    // The address is judged too.
    let text =
        stdout(&run(&["check", &path, "--cpu", MILAN, "--phase", "before", "--host", "rax=0x1008"]).code(1));
    assert!(text.starts_with("error[pre-vmcb-address]: "), "{text}");
    assert!(text.contains("= value: rAX = 0x1008"), "{text}");
}

#[test]
fn what_is_assumed_of_the_host_is_said_and_can_be_changed() {
    let path = file("host.bin", &legal());
    let ask = |host: &[&str]| {
        let mut arguments = vec!["check", path.as_str(), "--cpu", MILAN, "--phase", "before"];
        arguments.extend(host);
        run(&arguments)
    };
    let output = ask(&["--host", "rax=0x1000"]);
    assert_eq!(stdout(&output).matches("assumed of the host: ").count(), 1);
    assert!(stdout(&output).contains("paging on"), "{}", stdout(&output));
    let output = ask(&["--host", "rax=0x1000,pg=1"]);
    assert!(!stdout(&output).contains("paging on"), "stated is not assumed: {}", stdout(&output));
    let output = ask(&["--host", "rax=0x1000,cpl=3"]);
    assert_eq!(status(&output), 1);
    assert!(stdout(&output).starts_with("error[pre-cpl]: "), "{}", stdout(&output));
    let output = ask(&["--host", "unknown,rax=0x1000"]);
    assert_eq!(status(&output), 2);
    assert!(!stdout(&output).contains("assumed"), "{}", stdout(&output));
    let output = ask(&["--host", "rax=0x1000,smm=1"]);
    assert_eq!(status(&output), 2);
    let text = stdout(&output);
    assert!(text.starts_with("warning[pre-in-smm]: "), "{text}");
    assert!(text.contains("required, outcome not stated"), "{text}");
    assert!(
        text.contains("undecided: 1 rule required and not met, outcome not stated (pre-in-smm)"),
        "{text}"
    );
}

#[test]
fn an_unexplained_refusal_is_said_to_be_one() {
    let mut page = legal();
    put(&mut page, 0x70, u64::MAX);
    let path = file("unexplained.bin", &page);
    let output = run(&["check", &path, "--phase", "after", "--cpu", MILAN, "--host", "rax=0x1000"]).code(2);
    let text = stdout(&output).replace(&path, "page.bin");
    snapbox::assert_data_eq!(text, snapshot!["snapshots/unexplained.txt"]);
    // Not even where everything is decided is a refused one accepted.
    put(&mut page, 0x88, 0x8000_0020);
    let decided = file("decided.bin", &page);
    let text = stdout(
        &run(&["check", &decided, "--phase", "after", "--cpu", MILAN, "--host", "rax=0x1000"]).code(2),
    );
    assert!(
        text.contains(": undecided: VMRUN refused it with exit code -1 (INVALID), and nothing"),
        "{text}"
    );
    assert!(!text.contains("missing"), "{text}");
    // With the phase unknown the exit code may be an old one.
    let text = stdout(&run(&["check", &path, "--cpu", MILAN]));
    assert!(!text.contains("VMRUN refused it"), "{text}");
    assert!(text.contains("--phase after"), "{text}");
}

#[test]
fn exit_codes_of_their_own_name_their_rules() {
    for (code, rule) in [(-2_i64, "snp-vmsa-busy"), (-3, "snp-smt-protection"), (-4, "seves-pmc-state")] {
        let mut page = legal();
        put(&mut page, 0x70, code as u64);
        let path = file(&format!("family{code}.bin"), &page);
        let text = stdout(&run(&["check", &path, "--phase", "after"]).code(2));
        assert!(text.contains(&format!("with exit code {code} (")), "{text}");
        assert!(text.contains(&format!("= note: {rule}: ")), "{text}");
        assert!(!text.contains("the hypervisor below"), "{text}");
    }
}

#[test]
fn a_broken_rule_on_a_machine_that_accepted_is_for_the_cpu_asked() {
    let mut page = legal();
    put(&mut page, 0x548, 0x20_0020); // SMAP
    put(&mut page, 0x70, 0x400);
    let path = file("smap.bin", &page);
    let text = stdout(&run(&["check", &path, "--phase", "after"]).code(0));
    assert!(text.contains("accepted: VMRUN accepted it: exit code 0x400 (NPF)"), "{text}");
    let text = stdout(&run(&["check", &path, "--phase", "after", "--cpu", "Opteron_G5"]).code(1));
    assert!(text.starts_with("error[sav-cr4-mbz]: "), "{text}");
    assert!(text.contains("bit 21 (SMAP) depends on CPUID 7.0 EBX[20], here 0 (smap)"), "{text}");
    assert!(text.contains("note: VMRUN accepted it on the machine that made the dump"), "{text}");
    assert!(text.contains("the verdict is for the CPU asked about: Opteron_G5"), "{text}");
    assert!(text.contains("after #VMEXIT the save area holds the guest's state"), "{text}");
}

#[test]
fn the_policies_differ_in_cp() {
    let mut page = legal();
    put(&mut page, 0xA8, 0x8000_0B15);
    let path = file("cp.bin", &page);
    let ask = |policy| {
        run(&[
            "check",
            &path,
            "--cpu",
            MILAN,
            "--phase",
            "before",
            "--host",
            "rax=0x1000",
            "--policy",
            policy,
        ])
    };
    let text = stdout(&ask("virtual-cpu").code(1));
    assert!(text.starts_with("error[evt-exc-cp-without-shstk]: "), "{text}");
    assert!(text.contains("= cpu: it lacks shadow stacks: CPUID 7.0 ECX[7] = 0 (shstk)"), "{text}");
    ask("fixed-vectors").code(0);
}

#[test]
fn notes_change_no_verdict() {
    let mut page = legal();
    put(&mut page, 0xA8, 0x8000_030D); // #GP without its error code
    page[0xC0] = 1;
    let path = file("notes.bin", &page);
    let output = run(&["check", &path, "--cpu", MILAN, "--phase", "before", "--host", "rax=0x1000"]).code(0);
    let text = stdout(&output);
    assert!(text.contains("note: clean bits are set"), "{text}");
    assert!(text.contains("note: EV differs from what this exception pushes"), "{text}");
    assert!(text.contains(": accepted\n"), "{text}");
}

#[test]
fn a_vmsa_can_be_given_apart() {
    let mut page = legal();
    page[0x90] = 7;
    put(&mut page, 0xB8, 1);
    let mut vmsa = [0; 4096];
    put(&mut vmsa, 0x3B0, 0b11001); // SNP, Restricted and Alternate Injection
    let (page, vmsa) = (file("snp.bin", &page), file("vmsa.bin", &vmsa));
    let cpu = "EPYC-Milan,phys-bits=48,+sev,+sev-es,+sev-snp,+restricted-injection,+alternate-injection";
    let text = stdout(&run(&["check", &page, "--vmsa", &vmsa, "--cpu", cpu, "--phase", "before"]).code(1));
    assert!(text.contains("error[snp-restricted-and-alternate]: "), "{text}");
    assert!(text.contains(&format!("::: {vmsa}:0x3b0")), "{text}");
    assert!(text.contains("3B0 SEV_FEATURES = 0000000000000019"), "{text}");
    let refused = run(&["check", &page, "--vmsa", "samples/kvm-dmesg-dump_vmcb-npf.txt"]).code(3);
    assert!(
        stderr(&refused).contains("a VMSA is read from a raw page or a hex dump"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn several_inputs_have_a_verdict_each_and_a_summary() {
    let legal = file("several.bin", &legal());
    let output = run(&[
        "check",
        "samples/kvm-6.1-dmesg-refused-cs-l-d.txt",
        "samples/kvm-dmesg-dump_vmcb-npf.txt",
        &legal,
    ])
    .code(1);
    assert_eq!(verdicts(&stdout(&output)).len(), 3);
    assert_eq!(stderr(&output), "3 VMCBs in 3 files: 1 accepted, 1 refused, 1 undecided\n");
    let two = file("two.bin", &[crate::common::legal(), crate::common::legal()].concat());
    let text = stdout(&run(&["check", &two]).code(2));
    assert!(text.contains(&format!("{two}:0x0: undecided")), "{text}");
    assert!(text.contains(&format!("{two}:0x1000: undecided")), "{text}");
}

#[test]
fn verbose_lists_what_is_missing() {
    let path = file("verbose.bin", &legal());
    let ask = ["check", &path, "--cpu", "EPYC-Milan,lmsle-unsupported=off", "--phase", "before"];
    let plain = stdout(&run(&ask).code(2));
    assert!(!plain.contains("undecided["), "{plain}");
    let verbose = stdout(&nsvm(&ask).arg("--verbose").assert().code(2));
    assert!(verbose.contains("undecided[pre-vmcb-address]: "), "{verbose}");
    assert!(verbose.contains("= missing: rax; phys-bits"), "{verbose}");
    assert_eq!(verbose.matches("undecided[").count(), {
        let line = verdicts(&plain)[0];
        let count = line.split("undecided: ").nth(1).unwrap().split(' ').next().unwrap();
        count.parse::<usize>().unwrap()
    });
}

#[test]
fn colours_only_where_they_are_asked_for() {
    let sample = "samples/kvm-6.1-dmesg-refused-cs-l-d.txt";
    assert!(!stdout(&run(&["check", sample])).contains('\x1b'), "not into a pipe");
    assert!(stdout(&run(&["check", sample, "--color", "always"])).contains('\x1b'));
    assert!(!stdout(&run(&["check", sample, "--color", "never"])).contains('\x1b'));
}

#[test]
fn a_cpuid_table_is_a_cpu() {
    let table = "CPU 0:\n   0x00000007 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000080 edx=0x00000000\n   \
                 0x80000008 0x00: eax=0x00003030 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\nCPU 1:\n   \
                 0x00000007 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n";
    // Of the second CPU nothing is taken, not even what the first one does not list.
    let table =
        format!("{table}   0x80000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n");
    let table = file("cpuid.txt", table.as_bytes());
    let mut page = legal();
    put(&mut page, 0x5E0, 4);
    put(&mut page, 0x40, 1 << 48);
    let page = file("cpuid.bin", &page);
    let cpu = format!("cpuid:{table}");
    let text = stdout(&run(&["check", &page, "--cpu", &cpu, "--phase", "before"]).code(1));
    assert!(text.contains("error[sav-s-cet-reserved]: "), "{text}");
    assert!(!text.contains("sav-efer-long-mode-unsupported]"), "{text}");
    assert!(text.contains("error[ctl-iopm-beyond-maxphyaddr]: "), "{text}");
    assert!(text.contains("physical addresses have 48 bits"), "{text}");
}

#[test]
fn the_readme_shows_what_the_command_prints() {
    let readme = std::fs::read_to_string(crate::common::root().join("crates/nsvm/README.md")).unwrap();
    let (_, shown) = readme.split_once("$ nsvm check samples/kvm-6.1-dmesg-refused-cs-l-d.txt\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let printed = stdout(&run(&["check", "samples/kvm-6.1-dmesg-refused-cs-l-d.txt"]));
    assert!(printed.starts_with(shown), "{printed}");
}

#[test]
fn lines_between_are_not_shown_as_part_of_the_dump() {
    let dump =
        std::fs::read_to_string(crate::common::root().join("samples/kvm-6.1-dmesg-refused-cs-l-d.txt"))
            .unwrap();
    let mut lines: Vec<&str> = dump.lines().collect();
    lines.insert(48, "[  102.335493] usb 1-1: new high-speed USB device");
    lines.insert(40, "[  102.334598] usb 1-1: new high-speed USB device");
    let path = file("between.txt", lines.join("\n").as_bytes());
    let text = stdout(&run(&["check", &path]).code(1));
    assert!(!text.contains("usb"), "{text}");
    // What the finding is about comes first, the rest in the order of the input.
    let arrows: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains(&path)).collect();
    let places = [format!("--> {path}:38:38"), format!("::: {path}:48:"), format!("::: {path}:51:")];
    for (arrow, place) in arrows.iter().zip(&places) {
        assert!(arrow.starts_with(place.as_str()), "{arrow} {place}: {text}");
    }
    assert!(text.contains("CR4 = 0x60: PAE=1"), "{text}");
}
