//! Exit status, streams, bad usage and bad input.

use crate::common::{MILAN, file, legal, nsvm, run, status, stderr, stdout};
use std::io::Read as _;
use std::process::{Command, Stdio};

#[test]
fn the_four_exit_statuses() {
    let legal = file("status.bin", &legal());
    let decided = ["check", &legal, "--cpu", MILAN, "--phase", "before", "--host", "rax=0"];
    assert_eq!(status(&run(&decided)), 0);
    assert_eq!(status(&run(&["check", "samples/kvm-6.1-dmesg-refused-cs-l-d.txt"])), 1);
    assert_eq!(status(&run(&["check", &legal])), 2);
    assert_eq!(status(&run(&["check", "no-such-file"])), 3);
}

#[test]
fn of_several_the_most_important_counts() {
    let undecided = file("order.bin", &legal());
    let refused = "samples/kvm-6.1-dmesg-refused-cs-l-d.txt";
    let accepted = "samples/kvm-dmesg-dump_vmcb-npf.txt";
    for (files, expected) in [
        (vec![accepted, &undecided], 2),
        (vec![&undecided, accepted], 2),
        (vec![refused, accepted, &undecided], 1),
        (vec![&undecided, refused], 1),
        (vec!["no-such-file", refused], 3),
        (vec![refused, "no-such-file"], 3),
    ] {
        let output = run(&[&["check"], &files[..]].concat());
        assert_eq!(status(&output), expected, "{files:?}");
    }
    // An unreadable one does not keep the others from being judged.
    let output = run(&["check", "no-such-file", refused]);
    assert!(stdout(&output).contains("error[sav-cs-l-and-d]"));
    assert!(stderr(&output).contains("error: no-such-file: no such file"), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 of the files could not be read"), "{}", stderr(&output));
}

#[test]
fn bad_usage_is_3() {
    for arguments in [
        &[][..],
        &["chekc"],
        &["check", "--cpuu", "x"],
        &["check", "--phase", "during"],
        &["check", "--cpu"],
        &["check", "--cpu", "EPYC-Milano"],
        &["check", "--host", "pg=2"],
        &["check", "--host", "cpl=4"],
        &["check", "--host", "rax=zz"],
        &["check", "--host", "rax=+1"],
        &["check", "--host", "pdptes=1:2:3"],
        &["check", "--vmsa", "no-such-file", "samples/INDEX.md"],
        &["decode"],
        &["rules", "--class", "I"],
        &["completions", "no-such-shell"],
    ] {
        let output = nsvm(arguments).stdin("").assert();
        assert_eq!(status(&output), 3, "{arguments:?}");
        assert!(stdout(&output).is_empty(), "{arguments:?}: {}", stdout(&output));
        assert!(!stderr(&output).is_empty(), "{arguments:?}");
    }
    for arguments in
        [&["--help"][..], &["-h"], &["--version"], &["help"], &["check", "--help"], &["help", "decode"]]
    {
        let output = run(arguments);
        assert_eq!(status(&output), 0, "{arguments:?}");
        assert!(!stdout(&output).is_empty() && stderr(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn near_matches_are_offered() {
    for (arguments, wanted) in [
        (&["check", "--cpu", "EPYC-Milano"][..], "`EPYC-Milan`"),
        (&["check", "--cpu", "epyc-rome"], "`EPYC-Rome`"),
        (&["check", "--cpu", "EPYC,+shstkk"], "`shstk`"),
        (&["check", "--cpu", "EPYC,phys-bit=40"], "`phys-bits`"),
        (&["check", "--cpu", "EPYC-v9"], "newest version of this model is v5"),
        (&["check", "--cpu", "max"], "name a model, or give a CPUID table"),
        (&["check", "--host", "smn=1"], "`smm`"),
        (&["check", "--host", "hsave=1"], "`hsave-pa-zero`"),
    ] {
        let error = stderr(&nsvm(arguments).stdin("").assert().code(3));
        assert!(error.contains(wanted), "{arguments:?}: {error}");
    }
}

#[test]
fn bad_inputs_are_named() {
    let page = legal();
    for (name, bytes, message) in [
        ("empty", &b""[..], "the input is empty"),
        ("three", &b"abc"[..], "no VMCB found in 1 line (3 bytes of text)"),
        ("short.bin", &page[..4095], "lacks 1"),
        ("long.bin", &[&page[..], b"\0"].concat(), "lacks 4095"),
        (
            "invalid-utf8",
            b"\xFFvmcb \xC0\x80 in text\n a line of text that is long enough\n",
            "no VMCB found",
        ),
    ] {
        let path = file(name, bytes);
        let output = run(&["check", &path]).code(3);
        let error = stderr(&output);
        assert!(error.contains(message), "{name}: {error}");
        assert!(error.contains(&path), "{name}: {error}");
    }
    let folder = stderr(&run(&["check", "samples"]).code(3));
    assert!(folder.contains("error: samples: is a directory"), "{folder}");
    // What was whole before the end is judged.
    assert!(stdout(&run(&["check", &file("long2.bin", &[&page[..], b"\0"].concat())])).contains(":0x0: "));
    let vmx = file("vmx.txt", b"kvm_intel: VMCS 00000000b5b1a3a2, last attempted VM-entry on CPU 3\n");
    assert!(stderr(&run(&["check", &vmx]).code(3)).contains("VMX"));
}

#[test]
fn a_dump_cut_anywhere_is_read_without_a_panic() {
    let text = std::fs::read(crate::common::root().join("samples/kvm-6.1-dmesg-refused-cs-l-d.txt")).unwrap();
    for end in (0..text.len()).step_by(97) {
        let output = nsvm(&["check", "-"]).stdin(&text[..end]).assert();
        let status = status(&output);
        assert!((0..=3).contains(&status), "cut at {end}: {status}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "cut at {end}: {}", stderr(&output));
    }
}

#[test]
fn the_standard_input_is_read() {
    let text = std::fs::read(crate::common::root().join("samples/kvm-6.1-dmesg-refused-cs-l-d.txt")).unwrap();
    for arguments in [&["check"][..], &["check", "-"]] {
        let output = nsvm(arguments).stdin(text.as_slice()).assert().code(1);
        assert!(stdout(&output).contains("--> <stdin>:38:38"), "{}", stdout(&output));
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn names_of_files_cannot_disturb_the_terminal() {
    let error = stderr(&run(&["check", "no\x1b[31mfile"]).code(3));
    assert!(!error.contains('\x1b'), "{error:?}");
    let error = stderr(&run(&["explain", "no\x1b[31mrule"]).code(3));
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    // More than a pipe holds, so that writing meets the closed end.
    let trace = std::fs::read(crate::common::root().join("samples/ftrace-kvm_nested-7.2.txt")).unwrap();
    let path = file("pipe.txt", &trace.repeat(40));
    for arguments in [
        vec!["check", &path],
        vec!["check", &path, "--format", "json"],
        vec!["completions", "zsh"],
        vec!["man"],
        vec!["cpus"],
        vec!["cpu", "EPYC-Milan"],
        vec!["compare", "EPYC-Rome", "EPYC-Milan"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_nsvm"))
            .args(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut byte = [0];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut byte).expect("it says something");
        drop(out);
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(error, "", "{arguments:?}");
        assert!(status.code().is_some(), "{arguments:?}: {status}");
    }
}

#[test]
fn completions_and_the_man_page_know_every_verb() {
    let verbs: Vec<String> =
        nsvm::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = stdout(&run(&["completions", shell]).code(0));
        for verb in &verbs {
            assert!(text.contains(verb.as_str()), "{shell}: {verb}");
        }
        assert!(text.contains("vmsa"), "{shell} knows the options");
    }
    let man = stdout(&run(&["man"]).code(0));
    assert!(man.contains(".TH nsvm 1"), "{man}");
    for verb in &verbs {
        assert!(man.contains(&format!("nsvm\\-{verb}")), "{verb}");
    }
    assert!(man.contains("EXIT STATUS"), "{man}");
}

#[test]
fn a_flood_of_junk_ends() {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_nsvm"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().unwrap();
    let line =
        b"0123456789 abcdef: asid kvm_nested SVM: some words of a log that say nothing at all 00000000\n";
    let block = line.repeat(1 << 13);
    for _ in 0..24 {
        stdin.write_all(&block).expect("it reads");
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no VMCB found in"));
}

/// The last `--color` counts, also if both sides of the verb have one.
#[test]
fn color_can_be_given_twice() {
    let text = stdout(&run(&["--color", "always", "cpus", "--color", "never"]).code(0));
    assert!(!text.contains('\u{1b}'), "{text}");
    run(&["cpus", "--color", "always", "--color", "never"]).code(0);
}
