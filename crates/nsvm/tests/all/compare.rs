//! `nsvm compare`: what two virtual CPUs judge differently.

use crate::common::{plain, run, status, stderr, stdout};
use serde_json::Value;
use snapbox::assert_data_eq;
use snapbox::str;
use std::path::{Path, PathBuf};
use vmcb::{Cpu, Decision, Limits, Policy, Rule, check};

const ROME: &str = "EPYC-Rome,phys-bits=48,lmsle-unsupported=off";
const MILAN: &str = "EPYC-Milan,phys-bits=48,lmsle-unsupported=off";
const GENOA: &str = "EPYC-Genoa,phys-bits=48,lmsle-unsupported=off";
const SEV: &str = "EPYC-Milan,phys-bits=48,lmsle-unsupported=off,+shstk,+sme,+sev,+sev-es,+sev-snp,c-bit=47,\
    sev-asid-max=509,sev-asid-min=100";

fn lines(cpus: &[&str]) -> Vec<Value> {
    let text = stdout(&run(&[&["compare", "--format", "json"], cpus].concat()));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// A directory of this test that is not there yet.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string()).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[test]
fn two_models_in_full() {
    let ran = run(&["compare", ROME, MILAN]).code(1);
    assert_data_eq!(
        stdout(&ran),
        str![[r#"
A = EPYC-Rome,phys-bits=48,lmsle-unsupported=off
B = EPYC-Milan,phys-bits=48,lmsle-unsupported=off

B ACCEPTS, A DOES NOT
  sav-cr4-mbz                              CR4 bit 17 (PCIDE)
      because A lacks pcid (CPUID 1 ECX[17])
      VMCB: CR4 (548h) = 0x20020
  sav-cr4-mbz                              CR4 bit 22 (PKE)
      because A lacks pku (CPUID 7.0 ECX[3])
      VMCB: CR4 (548h) = 0x400020

MIGRATION (as if the guest saw the other CPU from then on)
  a guest started on A may move to B? yes: B accepts every VMCB that A accepts, and more
  a guest started on B may move to A? no: A does not accept all that B accepts: sav-cr4-mbz

SAFE FOR ALL: --cpu EPYC-Rome,lmsle-unsupported=off,phys-bits=48
  every VMCB that it accepts, all of them accept

"#]]
    );
    assert_eq!(stderr(&ran), "");
}

#[test]
fn the_status_says_what_was_found() {
    for (cpus, expected) in [
        (&[MILAN, MILAN][..], 0),
        (&[ROME, MILAN], 1),
        (&[MILAN, MILAN, ROME], 1),
        // Twice the same name is not twice the same CPU.
        (&["EPYC-Milan", "EPYC-Milan"], 2),
        (&["any", "any"], 2),
        // What is sure counts more than what is open.
        (&["EPYC-Rome", "EPYC-Milan"], 1),
        (&[MILAN], 3),
        (&[MILAN, "EPYC-Milano"], 3),
    ] {
        assert_eq!(status(&run(&[&["compare"], cpus].concat())), expected, "{cpus:?}");
    }
}

#[test]
fn what_is_not_known_is_never_equal() {
    let lines = lines(&["EPYC-Milan", "EPYC-Milan,phys-bits=48"]);
    let open = of(&lines, "open");
    let facts: Vec<_> = open.iter().map(|open| open["fact"].as_str().unwrap()).collect();
    assert_eq!(facts, ["phys-bits", "lmsle-unsupported"]);
    assert_eq!(open[0]["cpus"], serde_json::json!(["EPYC-Milan"]));
    assert_eq!(open[1]["cpus"].as_array().unwrap().len(), 2);
    assert!(open[0]["rules"].as_array().unwrap().iter().any(|rule| rule == "ctl-msrpm-beyond-maxphyaddr"));
    assert_eq!(of(&lines, "difference").len(), 0);
    assert!(of(&lines, "migration").iter().all(|migration| migration["answer"] == "undecided"));
    assert_eq!(of(&lines, "safe-cpu")[0]["missing"], serde_json::json!(["phys-bits"]));
}

#[test]
fn a_feature_that_checks_more_is_an_exception_by_name() {
    let lines = lines(&[MILAN, GENOA]);
    let vnmi = of(&lines, "difference")
        .into_iter()
        .find(|difference| difference["rule"] == "ctl-vnmi-without-nmi-intercept")
        .expect("Genoa has vNMI");
    assert_eq!((&vnmi["refused_by"], &vnmi["accepted_by"]), (&GENOA.into(), &MILAN.into()));
    assert_eq!(vnmi["unseen"], serde_json::json!(["vnmi"]));
    let safe = of(&lines, "safe-cpu")[0];
    assert_eq!(safe["exceptions"][0]["rule"], "ctl-vnmi-without-nmi-intercept");
    assert_eq!(safe["exceptions"].as_array().unwrap().len(), 1);
    let answers: Vec<_> =
        of(&lines, "migration").iter().map(|line| line["answer"].as_str().unwrap()).collect();
    // Milan to Genoa: as long as it sets no bit of vNMI, which Milan does not show.
    assert_eq!(answers, ["if-unused", "no"]);
}

/// The address width, in both directions and with three CPUs.
#[test]
fn the_narrowest_width_is_safe() {
    let narrow = "EPYC-Milan,phys-bits=43,lmsle-unsupported=off";
    let lines = lines(&[narrow, MILAN, ROME]);
    let safe = of(&lines, "safe-cpu")[0];
    assert_eq!(safe["cpu"], "EPYC-Rome,lmsle-unsupported=off,phys-bits=43");
    assert_eq!(safe["exceptions"], serde_json::json!([]));
    assert_eq!(safe["missing"], serde_json::json!([]));
    let widths: Vec<_> = of(&lines, "difference")
        .into_iter()
        .filter(|difference| difference["rule"] == "ctl-iopm-beyond-maxphyaddr")
        .collect();
    assert_eq!(widths.len(), 2);
    assert!(widths.iter().all(|difference| difference["refused_by"] == narrow));
    // The lowest page that the narrow CPU refuses.
    assert_eq!(widths[0]["witness"][0]["after"], "0x7ffffffe000");
}

/// What is written is what is said, on both CPUs, also with a VMSA and with facts about the host.
#[test]
fn the_files_are_what_the_index_says() {
    let path = directory("witness");
    let directory = path.to_str().unwrap();
    let text = stdout(&run(&["compare", MILAN, SEV, "--witness", directory, "--format", "json"]).code(1));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let index = std::fs::read_to_string(path.join("INDEX.txt")).expect("an index");
    let differences = of(&lines, "difference");
    let mut with_vmsa = 0;
    for difference in &differences {
        let file = difference["vmcb"].as_str().expect("a file");
        let page = std::fs::read(path.join(file)).expect("it was written");
        assert_eq!(page.len(), 4096);
        assert!(index.contains(file), "{file}");
        assert!(file.contains(difference["rule"].as_str().unwrap()), "{file}");
        with_vmsa += usize::from(difference["vmsa"].is_string());
    }
    assert!(differences.len() > 20 && with_vmsa > 3, "{} {with_vmsa}", differences.len());
    // Each command of the index, as it stands there, says what is expected of that CPU.
    let mut commands = 0;
    for entry in index.split("\n\n").skip(1) {
        let command = entry.lines().find_map(|line| line.trim().strip_prefix("nsvm ")).expect("a command");
        let words: Vec<String> = command.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        let ran = plain(snapbox::cmd::Command::new(snapbox::cmd::cargo_bin!("nsvm")))
            .current_dir(&path)
            .args(&words)
            .assert();
        let cpu = words.iter().position(|word| word == "--cpu").and_then(|at| words.get(at + 1)).unwrap();
        let letter = if cpu == MILAN { 'A' } else { 'B' };
        let expected = entry
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("expected on {letter}: ")))
            .expect("what is expected");
        let wanted = if expected.starts_with("refused") { 1 } else { 2 };
        assert_eq!(status(&ran), wanted, "{command}\n{expected}\n{}", stdout(&ran));
        commands += 1;
    }
    assert_eq!(commands, differences.len());
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let ran = run(&["compare", ROME, MILAN, "--witness", "Cargo.toml/here"]);
    assert_eq!(status(&ran), 3);
    assert!(stderr(&ran).contains("Cargo.toml/here"), "{}", stderr(&ran));
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.next() as usize % of.len()]
    }
}

/// Whenever two CPUs decide otherwise on a page, the comparison names a rule behind it; and what its safe CPU
/// accepts, both accept, or the rule is among the exceptions.
#[test]
fn no_difference_on_random_pages_is_left_out() {
    let mut random = Random(7);
    let models = ["EPYC", "EPYC-Rome-v5", "EPYC-Milan", "EPYC-Genoa", "EPYC-Genoa-v2", "Opteron_G3"];
    let extras = ["", ",+shstk", ",+avic", ",-npt", ",+tce", ",-vnmi", ",+avic,+x2avic", ",-nx", ",-lm"];
    let widths = ["40", "43", "48", "52"];
    let (mut apart, mut narrower) = (0, 0);
    for _ in 0..24 {
        let mut cpu = || {
            let (model, extra, width) = (random.pick(&models), random.pick(&extras), random.pick(&widths));
            let lmsle = random.pick(&["on", "off"]);
            format!("{model}{extra},phys-bits={width},lmsle-unsupported={lmsle}")
        };
        let (one, other) = (cpu(), cpu());
        let lines = lines(&[&one, &other]);
        let limits = |text: &str| Limits::compile(&Cpu::parse(text).unwrap(), Policy::VirtualCpu);
        let safe = of(&lines, "safe-cpu")[0];
        let (a, b, both) = (limits(&one), limits(&other), limits(safe["cpu"].as_str().unwrap()));
        let listed = |refusing: &str| -> Vec<&str> {
            let differences = of(&lines, "difference").into_iter();
            let kept = differences.filter(|line| line["refused_by"] == refusing && line["kind"] == "verdict");
            kept.map(|line| line["rule"].as_str().unwrap()).collect()
        };
        let excepted = |refusing: &str| -> Vec<&str> {
            let exceptions = safe["exceptions"].as_array().unwrap().iter();
            let kept = exceptions.filter(|exception| exception["refused_by"] == refusing);
            kept.map(|exception| exception["rule"].as_str().unwrap()).collect()
        };
        let (of_a, of_b) = (listed(&one), listed(&other));
        let (except_a, except_b) = (excepted(&one), excepted(&other));
        let environment = vmcb::Witness::legal().environment(&[0; 4096]);
        for _ in 0..3_000 {
            let page = page(&mut random);
            let verdicts = [&a, &b, &both].map(|limits| check(&page, limits, &environment));
            let [on_a, on_b, on_both] = &verdicts;
            let named = |verdict: &vmcb::Verdict, rules: &[&str]| {
                let all = verdict.broken().union(verdict.undecided());
                all.iter().map(Rule::id).any(|rule| rules.contains(&rule))
            };
            apart += usize::from(on_a.is_accepted() != on_b.is_accepted());
            if on_b.is_accepted() && !on_a.is_accepted() {
                assert!(named(on_a, &of_a), "{one} {other}: {on_a:?}");
            }
            if on_a.is_accepted() && !on_b.is_accepted() {
                assert!(named(on_b, &of_b), "{one} {other}: {on_b:?}");
            }
            if on_both.decision() == Decision::Accepted {
                narrower += 1;
                assert!(on_a.is_accepted() || named(on_a, &except_a), "{one} {other}: {on_a:?}");
                assert!(on_b.is_accepted() || named(on_b, &except_b), "{one} {other}: {on_b:?}");
            }
        }
    }
    assert!(apart > 3_000 && narrower > 10_000, "{apart} {narrower}");
}

/// The legal page with one to three fields changed: a bit, or a likely value.
fn page(random: &mut Random) -> [u8; 4096] {
    let mut page = crate::common::legal();
    for _ in 0..=random.next() % 3 {
        let offset = [
            0x00C, 0x040, 0x048, 0x058, 0x060, 0x090, 0x0A8, 0x0B0, 0x0F8, 0x4D0, 0x548, 0x550, 0x558, 0x5E0,
            0x668,
        ][random.next() as usize % 15];
        let mut value = u64::from_le_bytes(page[offset..offset + 8].try_into().unwrap());
        match offset {
            0x0A8 => value = 0x8000_0300 + random.next() % 32,
            0x060 => value ^= 1 << (26 + random.next() % 6),
            0x090 => value = random.next() % 2,
            0x00C => value ^= 2,
            _ => value ^= 1 << (random.next() % 53),
        }
        crate::common::put(&mut page, offset, value);
    }
    page
}
