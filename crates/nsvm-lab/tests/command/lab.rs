//! `nsvm lab` with the emulators of this machine.
//!
//! Tests that need QEMU or Bochs in PATH are ignored unless `cargo xtask ci` runs them.

use super::common::{file, nsvm, status, stderr, stdout};
use nsvm_lab::outcome::{Answer, Seen};
use nsvm_lab::results::{EventCase, Results, Section, event_of};
use snapbox::cmd::OutputAssert;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A new folder of this test.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lab-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

/// The command with an empty cache, so that only what is installed is there.
fn lab(arguments: &[&str]) -> OutputAssert {
    let cache = folder("cache");
    nsvm(&[&["lab"], arguments].concat()).env("NSVM_LAB_CACHE", cache).assert()
}

/// Results of subjects, with what was printed.
fn results(name: &str, arguments: &[&str]) -> (Results, OutputAssert) {
    let path = file(name, b"");
    let output = lab(&[&["run", "--offline", "-o", &path], arguments].concat());
    let text = fs::read(&path).expect("results");
    let read = Results::parse(name, &text);
    (read.unwrap_or_else(|error| panic!("{error}: {}{}", stdout(&output), stderr(&output))), output)
}

fn only(results: &Results) -> &Section {
    let [section] = &results.sections[..] else { panic!("one subject: {results:?}") };
    section
}

/// Vectors that a subject refuses with one TYPE, in 64-bit mode and V = 1; EV must not matter.
fn refused(section: &Section, kind: u8) -> BTreeSet<u8> {
    let vectors = |error: bool| -> BTreeSet<u8> {
        let events = section.outcomes.iter().filter_map(|(id, outcome)| Some((event_of(id)?, outcome)));
        events
            .filter(|(event, _)| {
                let EventCase { base, valid, kind: of, error: ev, .. } = *event;
                (base, valid, of, ev) == ("long64", true, kind, error)
            })
            .filter(|(event, outcome)| match outcome.answer() {
                Answer::Refused(_) => true,
                Answer::Accepted => false,
                other => panic!("{event:?}: {other:?}"),
            })
            .map(|(event, _)| event.vector)
            .collect()
    };
    let (without, with) = (vectors(false), vectors(true));
    assert_eq!(without, with, "EV changes the verdict of TYPE {kind}");
    with
}

/// The known answers to EVENTINJ of an emulator that refuses these vectors with TYPE 3.
fn check_events(subject: &str, exceptions: impl IntoIterator<Item = u8>) {
    let (results, output) = results(subject, &[subject, "--only", "base.*,eventinj.long64"]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
    let section = only(&results);
    for kind in [0, 2, 4] {
        assert_eq!(refused(section, kind), BTreeSet::new(), "TYPE {kind}");
    }
    for kind in [1, 5, 6, 7] {
        assert_eq!(refused(section, kind).len(), 256, "TYPE {kind}");
    }
    assert_eq!(refused(section, 3), exceptions.into_iter().collect());
    let events = section.outcomes.iter().filter_map(|(id, outcome)| Some((event_of(id)?, outcome)));
    let mut without = events.filter(|(event, _)| !event.valid);
    assert!(without.all(|(_, outcome)| outcome.seen == Seen::Ran), "V = 0 injects nothing");
    let bases = section.outcomes.iter().filter(|(id, _)| id.starts_with("base."));
    let mut count = 0;
    for (id, outcome) in bases {
        assert_eq!(outcome.answer(), Answer::Accepted, "{id}: {outcome}");
        count += 1;
    }
    assert!(count > 10, "{count} bases");
}

#[test]
fn the_model_agrees_with_itself() {
    let (results, output) = results("model", &["model", "--only", "base.*,eventinj.long64"]);
    assert_eq!(status(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("model 0."), "{text}");
    assert!(text.lines().any(|line| line.starts_with("differ ") && line.ends_with(" 0")), "{text}");
    assert!(text.contains("1 of 1 subjects run, 0 skipped, 0 failed"), "{text}");
    assert!(!text.contains("Not measured"), "a part says nothing of the rest: {text}");
    assert_eq!(refused(only(&results), 1).len(), 256);
    let whole = stdout(&lab(&["run", "model"]).code(0));
    assert!(whole.contains("Not measured on any subject"), "{whole}");
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU 7.2; `cargo xtask ci` runs it")]
fn qemu_gives_the_known_answers() {
    let version = Command::new("qemu-system-x86_64").arg("--version").output().expect("QEMU runs");
    let version = String::from_utf8_lossy(&version.stdout);
    assert!(version.contains("version 7.2."), "the known answers are those of QEMU 7.2, not of {version}");
    check_events("qemu", [2].into_iter().chain(31..=255));
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs Bochs; `cargo xtask ci` runs it")]
fn bochs_gives_the_known_answers() {
    check_events("bochs", [2].into_iter().chain(32..=255));
}

/// The text without what tells when, and which part, it was.
fn timeless(text: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.starts_with("date: ") && !line.starts_with("shard: "))
        .collect()
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn a_run_repeats_itself_and_shards_make_the_whole() {
    let path = |name: &str| file(name, b"");
    let run = |name: &str, more: &[&str]| {
        let path = path(name);
        let output = lab(&[&["run", "qemu", "--offline", "-o", &path], more].concat());
        assert!(status(&output) < 2, "{}{}", stdout(&output), stderr(&output));
        path
    };
    let (once, again) = (run("once", &[]), run("again", &[]));
    let text = |path: &str| timeless(&fs::read_to_string(path).expect("results"));
    assert!(
        text(&once) == text(&again),
        "two runs of QEMU differ: {}",
        stdout(&lab(&["diff", &once, &again]))
    );
    assert_eq!(status(&lab(&["diff", &once, &again])), 0);
    let parts = ["1/3", "2/3", "3/3"].map(|part| run(&part.replace('/', "-"), &["--shard", part]));
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let merged = path("merged");
        let files = order.map(|index| parts[index].as_str());
        let output = lab(&["merge", files[0], files[1], files[2], "-o", &merged]);
        assert_eq!((status(&output), stderr(&output)), (0, String::new()));
        assert!(text(&merged) == text(&once), "{}", stdout(&lab(&["diff", &once, &merged])));
    }
    let two = lab(&["merge", &parts[2], &parts[0]]).code(0);
    assert!(stderr(&two).contains("cases are missing: shards 2 of 3"), "{}", stderr(&two));
    let report = stdout(&lab(&["report", &parts[0], &parts[2]]));
    assert!(report.contains("cases are missing: shards 2 of 3"), "{report}");
}

#[test]
fn what_is_wrong_is_told() {
    let good = file("good.txt", b"");
    lab(&["run", "model", "--only", "base.*", "-o", &good]).code(0);
    let text = fs::read_to_string(&good).expect("results");
    let cut = file("cut.txt", &text.as_bytes()[..text.len() / 2]);
    let other = file("other.txt", text.replace("nsvm-results 1", "nsvm-results 2").as_bytes());
    let foreign = file("foreign.txt", b"#!/bin/sh\n");
    let part = ["run", "model", "--offline", "--only", "base.*"];
    let unwritable = folder("unwritable").join("no/such/folder/x");
    let unwritable = unwritable.to_str().expect("a name in UTF-8");
    let cases: &[(&[&str], &str)] = &[
        (&["run", "qemu=/bin/true"], "/bin/true: this is no qemu: asked for its version, it said"),
        (&["run", "bochs=/bin/true"], "/bin/true: this is no bochs"),
        (&["run", "qemu=/nonexistent"], "/nonexistent: cannot be executed: No such file"),
        (&["run", "kvm=/nonexistent"], "expected kvm=VMLINUZ,MODULES"),
        (&["run", "kvm=/nonexistent,/"], "/nonexistent: no such file or folder"),
        (&["run", "model:EPYC-Milano"], "EPYC-Milano"),
        (&["run", "qmeu"], "did you mean `qemu`?"),
        (&["run", "model", "--set", "comit"], "did you mean `commit`?"),
        (&["run", "model", "--only", "nothing"], "no case of the set commit matches `nothing`"),
        (&["run", "model", "--only", "a{b"], "a brace is not closed"),
        (&["run", "model", "--shard", "0/3"], "--shard: `0/3` is no part"),
        (&["run", "model", "--shard", "4/3"], "--shard: `4/3` is no part"),
        (&["run", "model", "--jobs", "0"], "0 is not in 1.."),
        (&["run", "model", "--require", "qemu"], "`qemu` is not among the subjects model"),
        (&["run", "model", "kvm@9.9", "--offline", "--require", "kvm"], "error: kvm@9.9 is required"),
        (&["run", "kvm@9.9", "--offline"], "error: nothing was run"),
        (&["run", "model", "--expected", &good], "good.txt:1: "),
        (&["run", "model", "-o", unwritable], "it cannot be written: No such file"),
        (&["run", "model", "-o", "/dev/full"], "it cannot be written: No space left"),
        (&["run", "model", "--html", "/"], "it cannot be written: Is a directory"),
        (&["diff", &good, &cut], "cut.txt:"),
        (&["merge", &cut], "the file is truncated: it has no `end` line"),
        (&["report", &cut], "the file is truncated"),
        (&["diff", &other, &good], "other.txt:1: version 2 of the format; this nsvm reads version 1"),
        (&["merge", &good, &other], "version 2 of the format"),
        (&["report", &foreign], "this is no file of results"),
        (
            &["diff", &good, &good, "--between", "kvm*", "*"],
            "no subject is called `kvm*`; there are: model 0.",
        ),
        (&["import", &good, "--machine", "x"], "no line of it says that cases begin"),
        (&["fetch", "qemu@nowhere"], "nowhere"),
        (&["fetch", "vmware@sid"], "vmware"),
    ];
    for (arguments, message) in cases {
        let output = lab(arguments);
        let text = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(status(&output), 3, "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    }
    // A failed run leaves what was there before, and nothing beside it.
    assert_eq!(fs::read_to_string(&good).expect("results"), text);
    let output = lab(&[&part[..], &["-o", &good, "--html", "/"]].concat()).code(3);
    assert!(stderr(&output).contains("cannot be written"));
    assert_eq!(fs::read_to_string(&good).expect("results"), text);
    let beside = fs::read_dir(Path::new(&good).parent().expect("a folder")).expect("a folder");
    let names: Vec<_> = beside.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with('.')), "{names:?}");
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
fn an_image_that_cannot_be_written_is_an_error() {
    let unwritable = folder("unwritable-image").join("no/such/folder/x");
    let output = lab(&["image", "-o", unwritable.to_str().expect("a name in UTF-8")]).code(3);
    assert!(stderr(&output).contains("it cannot be written: No such file"), "{}", stderr(&output));
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn errors_of_qemu_are_reported() {
    let vmlinuz = file("good.txt", b"");
    let empty = folder("modules").join("9.9-none");
    fs::create_dir(&empty).expect("a folder");
    let no_kvm = format!("kvm={vmlinuz},{}", empty.display());
    for (subject, message) in [
        (no_kvm.as_str(), "no module kvm-amd is here"),
        ("qemu:no-such-model", "unable to find CPU model"),
        ("qemu:qemu64,-svm", "payload"),
    ] {
        let output = lab(&["run", subject, "--only", "base.*"]);
        assert_eq!(status(&output), 3, "{subject}: {}", stdout(&output));
        assert!(stdout(&output).contains(message), "{subject}: {}", stdout(&output));
    }
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn a_kernel_that_is_none_is_told_in_qemus_words() {
    // A folder of modules that satisfies: all are part of the kernel.
    let modules = folder("built-in").join("9.9-none");
    fs::create_dir(&modules).expect("a folder");
    fs::write(modules.join("modules.builtin"), "kernel/arch/x86/kvm/kvm-amd.ko\n").expect("a file");
    let kernel = file("no-kernel", &[0; 4096]);
    let output = lab(&["run", &format!("kvm={kernel},{}", modules.display()), "--only", "base.*"]);
    let text = stdout(&output);
    assert_eq!(status(&output), 3, "{text}");
    assert!(text.contains("qemu") && text.contains("kernel"), "{text}");
    assert!(text.contains("0 of 1 subjects run, 0 skipped, 1 failed"), "{text}");
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU and the right to mount a file system; `cargo xtask ci` runs it")]
fn a_full_disk_is_told_and_leaves_no_half_file() {
    let mount = folder("full");
    let tmpfs =
        |arguments: &[&str]| Command::new("mount").args(arguments).arg(&mount).stderr(Stdio::null()).status();
    let mounted = tmpfs(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    assert!(mounted.is_ok_and(|status| status.success()), "this user has no right to mount a file system");
    let there = mount.to_str().expect("a name in UTF-8");
    let target = format!("{there}/results.txt");
    fs::write(&target, "before").expect("it fits");
    fs::write(format!("{there}/rest"), vec![1; 56 << 10]).expect("it fits");
    let output = lab(&["run", "model", "-o", &target]);
    let (code, said) = (status(&output), stderr(&output));
    let kept = fs::read_to_string(&target);
    let count = fs::read_dir(&mount).map(Iterator::count);
    let cache = folder("full-cache");
    let run = ["lab", "run", "qemu", "--offline", "--only", "base.*"];
    let machine = nsvm(&run).env("NSVM_LAB_CACHE", cache).env("TMPDIR", &mount).assert();
    let unmounted = Command::new("umount").arg(&mount).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("results.txt: it cannot be written: No space left"), "{said}");
    assert_eq!(kept.expect("it is there"), "before");
    assert_eq!(count.expect("a folder"), 2, "nothing is left beside it");
    assert_eq!(status(&machine), 3, "{}", stdout(&machine));
    assert!(stdout(&machine).contains("No space left"), "{}", stdout(&machine));
}

/// Processes whose command line names something below the folder.
fn processes(of: &Path) -> Vec<String> {
    let wanted = of.to_str().expect("a name in UTF-8");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(wanted) {
                found.push(format!("{name}: {line}"));
            }
        }
    }
    found
}

fn wait_until(what: &str, limit: u64, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(limit), "not within {limit} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run of the full set on QEMU, its machine running, with the folder where it keeps its files.
fn begin(name: &str) -> (Child, PathBuf) {
    let files = folder(name);
    let child = Command::new(env!("CARGO_BIN_EXE_nsvm-lab"))
        .args(["run", "qemu", "--offline", "--set", "full"])
        .env("NSVM_LAB_CACHE", folder(&format!("{name}-cache")))
        .env("TMPDIR", &files)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_until("a machine", 60, || !processes(&files).is_empty());
    (child, files)
}

fn signal(name: &str, child: &Child) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn an_interrupted_run_leaves_nothing_behind() {
    for name in ["INT", "TERM"] {
        let (mut child, files) = begin(&format!("interrupted-{name}"));
        signal(name, &child);
        let begin = Instant::now();
        wait_until("the end", 5, || child.try_wait().expect("it is our child").is_some());
        eprintln!("{name}: ended after {} ms", begin.elapsed().as_millis());
        let output = child.wait_with_output().expect("it is our child");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(error.contains("interrupted"), "{error}");
        assert_eq!(processes(&files), [""; 0]);
        assert_eq!(fs::read_dir(&files).expect("a folder").count(), 0, "its files are gone");
    }
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU and setpriv; `cargo xtask ci` runs it")]
fn a_machine_does_not_outlive_a_killed_run() {
    let setpriv = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).status();
    assert!(setpriv.is_ok_and(|status| status.success()), "setpriv does not support --pdeathsig");
    let (mut child, files) = begin("killed");
    signal("KILL", &child);
    child.wait().expect("it is our child");
    wait_until("the end of its machine", 5, || processes(&files).is_empty());
}

#[test]
fn a_damaged_cache_stops_nothing() {
    let cache = folder("damaged");
    let tree = cache.join("kernel/6.1.0-1-amd64_6.1.1-1@bookworm");
    fs::create_dir_all(&tree).expect("a folder");
    fs::write(tree.join("subject.txt"), "nsvm-lab subject 1\nkind: ker").expect("a file");
    let run =
        |arguments: &[&str]| nsvm(&[&["lab"], arguments].concat()).env("NSVM_LAB_CACHE", &cache).assert();
    let list = stdout(&run(&["list"]).code(0));
    assert!(list.contains("damaged: ") && list.contains("fetch it again"), "{list}");
    let arguments = ["run", "model", "kvm@6.1", "--only", "base.*", "--offline"];
    let output = run(&arguments).code(0);
    let text = stdout(&output);
    assert!(text.contains("skipped: kvm@6.1: "), "{text}");
    assert!(text.contains("1 of 2 subjects run, 1 skipped, 0 failed"), "{text}");
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn hardware_results_come_over_a_serial_port() {
    let files = folder("hardware");
    let path = |name: &str| files.join(name).to_str().expect("a name in UTF-8").to_owned();
    let (disk, capture, imported, direct) = (path("disk"), path("capture"), path("imported"), path("direct"));
    lab(&["image", "--form", "disk", "-o", &disk]).code(0);
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-M", "pc", "-cpu", "max", "-m", "128", "-display", "none", "-no-reboot"])
        .args(["-monitor", "none", "-serial", &format!("file:{capture}")])
        .args(["-drive", &format!("format=raw,if=ide,snapshot=on,file={disk}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("QEMU starts");
    let begin = Instant::now();
    let ended =
        || fs::read_to_string(&capture).is_ok_and(|text| text.lines().any(|line| line.starts_with("end ")));
    while !ended()
        && begin.elapsed() < Duration::from_secs(240)
        && machine.try_wait().is_ok_and(|end| end.is_none())
    {
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = machine.kill();
    let _ = machine.wait();
    assert!(ended(), "{:?}", fs::read_to_string(&capture).map(|text| text.len()));
    lab(&["import", &capture, "--machine", "a test", "-o", &imported]).code(0);
    assert!(status(&lab(&["run", "qemu", "--offline", "-o", &direct])) < 2);
    let read = |path: &str| Results::parse(path, &fs::read(path).expect("results")).expect("results");
    let (imported, direct) = (read(&imported), read(&direct));
    let (imported, direct) = (only(&imported), only(&direct));
    assert_eq!(imported.head.label(), "hardware a test");
    assert_eq!(imported.head.cpuid, direct.head.cpuid);
    for (id, outcome) in &direct.outcomes {
        assert_eq!(imported.outcomes.get(id), Some(outcome), "{id}");
    }
    assert_eq!(imported.outcomes.len(), direct.outcomes.len());
}
