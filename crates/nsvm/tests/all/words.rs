//! `decode`, `explain`, `rules`, `vectors`, `cpus`.

use crate::common::{run, stderr, stdout};
use snapbox::file as snapshot;
use vmcb::{Cpu, EXCEPTIONS, Feature, MODELS, Rule};

fn decode(arguments: &[&str]) -> String {
    stdout(&run(&[&["decode"], arguments].concat()).code(0))
}

#[test]
fn words_in_every_spelling() {
    let words = [
        "-1",
        "ffffffff",
        "18446744073709551615",
        "0xffffffffffffffff",
        "400",
        "0x400",
        "npf",
        "VMEXIT_HLT",
        "78h",
        "00000400",
        "8000031f",
        "0x8000_0b0d",
        "#GP",
        "80000315",
        "80000202",
        "4d",
    ];
    run(&[&["decode"], &words[..]].concat()).code(0).stdout_eq(snapshot!["snapshots/decode.txt"]);
    for minus_one in
        ["-1", "ffffffff", "18446744073709551615", "0xffffffffffffffff", "INVALID", "vmexit_invalid"]
    {
        assert!(decode(&[minus_one]).contains("VMEXIT_INVALID"), "{minus_one}");
    }
}

#[test]
fn fields_by_name() {
    for (field, word, expected) in [
        ("cr4", "0xb506f0", "CET"),
        ("cr0", "80010031", "PG"),
        ("efer", "0x1d01", "SVME"),
        ("int_ctl", "07000200", "V_NMI_ENABLE"),
        ("attributes", "0x0e9b", "bit 10     D/B = 1"),
        ("attributes", "0xa09b", "unpacked layout"),
        ("intercepts1", "bd4c8027", "HLT"),
        ("intercepts2", "00006e7f", "VMRUN"),
        ("intercepts3", "0x20", "BUS_LOCK"),
        ("exceptions", "00060042", "17 (#AC, alignment check)"),
        ("exceptions", "#UD", "0x40"),
        ("cr_intercepts", "0x01100010", "writes: CR4, CR8"),
        ("dr_intercepts", "0x00ff0000", "reads: none"),
        ("nested_ctl", "7", "SEV_ES"),
        ("virt_ext", "0x2", "VMLOAD_VMSAVE"),
        ("sev_features", "0x81", "BTB_ISOLATION"),
        ("pat", "0007040600070406", "PA2=0x7 (UC-)"),
        ("clean", "0x20", "CR0, CR3, CR4, EFER"),
        ("exitcode", "0x4d", "VMEXIT_EXCP_GP"),
        ("exitcode", "#GP", "0x4d"),
        ("exitintinfo", "8000030d", "13 (#GP, general protection)"),
        ("eventinj", "0x80000000", "accepted"),
    ] {
        let text = decode(&["--field", field, word]);
        assert!(text.contains(expected), "{field} {word}: {text}");
        assert!(!text.contains("guessed"), "{text}");
    }
}

#[test]
fn a_guess_is_said() {
    assert!(decode(&["8000031f"]).contains("guessed: EVENTINJ"));
    assert!(decode(&["0x400"]).contains("guessed: an exit code"));
    assert!(decode(&["0e9b"]).contains("guessed: attributes of a segment"));
    assert!(decode(&["03000200"]).contains("guessed: int_ctl"));
    assert!(!decode(&["npf"]).contains("guessed"));
    for (word, message) in [
        ("0x12345678", "say which with --field"),
        ("nfp", "did you mean"),
        ("0x10000000000000000", "no number of at most 64 bits"),
        ("-99999999999999999999", "no number of at most 64 bits"),
        ("99999999999999999999999", "no number of at most 64 bits"),
        ("", "neither a number nor"),
    ] {
        let error = stderr(&run(&["decode", word]).code(3));
        assert!(error.contains(message), "{word}: {error}");
    }
    // One word that is not understood does not keep the others from their answer.
    let both = run(&["decode", "nfp", "npf"]).code(3);
    assert!(stdout(&both).contains("VMEXIT_NPF"));
}

#[test]
fn whether_an_event_is_accepted_depends_on_the_cpu() {
    assert!(decode(&["80000315"]).contains("depends on CPUID 7.0 ECX[7] (shstk)"));
    let text = decode(&["80000315", "--cpu", "EPYC-Milan"]);
    assert!(text.contains("this CPU, any guest: refused (evt-exc-cp-without-shstk)"), "{text}");
    let text = decode(&["80000315", "--cpu", "EPYC-Milan,+shstk"]);
    assert!(text.contains("this CPU, any guest: accepted"), "{text}");
    assert!(decode(&["80000302"]).contains("AMD CPUs, any guest: refused (evt-exc-vector-2)"));
    let text = decode(&["80000305", "--cpu", "EPYC-Milan"]);
    assert!(text.contains("guest in 64-bit mode: refused (evt-br-in-64-bit-mode)"), "{text}");
    assert!(text.contains("guest outside 64-bit mode: accepted"), "{text}");
}

#[test]
fn every_rule_has_a_page() {
    for rule in Rule::ALL {
        let page = stdout(&run(&["explain", rule.id()]).code(0));
        assert_eq!(page, nsvm::rule_page(*rule));
        for heading in ["\n## Broken when\n\n", "\n## Reads\n\n", "\n## How to mend it\n\n"] {
            assert!(page.contains(heading), "{}: {heading}", rule.id());
        }
        assert!(page.contains(rule.row().section), "{}", rule.id());
        assert!(!page.contains("Holds("), "{}: a condition has no words: {page}", rule.id());
    }
    run(&["explain", "sav-cs-l-and-d"]).code(0).stdout_eq(snapshot!["snapshots/explain.txt"]);
}

#[test]
fn habits_are_no_rules() {
    let mut ids: Vec<&str> = nsvm::HABITS.iter().map(|habit| habit.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["ctl-tlb-control-reserved", "evt-reserved-bits", "sav-efer-lma-without-lme"]);
    for id in ids {
        assert_eq!(Rule::from_id(id), None);
        let page = stdout(&run(&["explain", id]).code(0));
        assert!(page.contains("a habit of some implementations and no rule of the manual"), "{page}");
    }
}

#[test]
fn unknown_ids_list_near_ones() {
    let error = stderr(&run(&["explain", "sav-cs-l-d"]).code(3));
    assert!(error.contains("`sav-cs-l-and-d`"), "{error}");
    let error = stderr(&run(&["explain", "qqqq"]).code(3));
    assert!(error.contains("`nsvm rules` lists all rules"), "{error}");
}

#[test]
fn rules_are_listed_and_filtered() {
    let count = |arguments: &[&str]| stdout(&run(&[&["rules"], arguments].concat()).code(0)).lines().count();
    assert_eq!(count(&[]), Rule::ALL.len());
    let classes: usize = ["A", "d", "R", "T"].iter().map(|class| count(&["--class", class])).sum();
    assert_eq!(classes, Rule::ALL.len());
    let groups: usize = ["P", "C", "S", "e", "V"].iter().map(|group| count(&["--group", group])).sum();
    assert_eq!(groups, Rule::ALL.len());
    let cr4 = stdout(&run(&["rules", "--reads", "cr4"]));
    assert!(cr4.contains("sav-cr4-mbz") && !cr4.contains("ctl-asid-zero"), "{cr4}");
    let shstk = stdout(&run(&["rules", "--reads", "shstk"]));
    assert!(shstk.contains("evt-exc-cp-without-shstk") && !shstk.contains("sav-cs-l-and-d"), "{shstk}");
    let grep = stdout(&run(&["rules", "--grep", "MEMORY TYPE"]));
    assert_eq!(grep.lines().count(), 1, "{grep}");
    assert!(stderr(&run(&["rules", "--reads", "cr44"]).code(3)).contains("did you mean"));
    for line in stdout(&run(&["rules", "--format", "json"]).code(0)).lines() {
        let rule: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(Rule::from_id(rule["rule"].as_str().unwrap()).is_some());
    }
}

#[test]
fn vectors_of_any_cpu_and_of_one() {
    run(&["vectors"]).code(0).stdout_eq(snapshot!["snapshots/vectors.txt"]);
    let of = |cpu: &str, vector: usize| {
        let text = stdout(&run(&["vectors", "--cpu", cpu]).code(0));
        assert_eq!(text.lines().count(), 1 + EXCEPTIONS.len());
        text.lines().nth(vector + 1).unwrap().to_owned()
    };
    assert!(of("EPYC-Milan", 21).ends_with("no: needs shadow stacks, CPUID 7.0 ECX[7]"));
    assert!(of("EPYC-Milan,+shstk", 21).ends_with("yes"));
    assert!(of("EPYC-Milan,+sev-es", 3).ends_with("yes, but not into SEV-ES guests"));
    assert!(of("EPYC-Milan", 3).ends_with("  yes"));
}

#[test]
fn cpus_lists_what_is_understood() {
    let text = stdout(&run(&["cpus"]).code(0));
    for model in MODELS {
        for version in 1..=model.versions.len() {
            assert!(Cpu::parse(&format!("{}-v{version}", model.name)).is_ok());
        }
        assert!(text.contains(model.name), "{}", model.name);
    }
    for feature in Feature::ALL {
        assert!(text.contains(&format!("  {} ", feature.name())), "{}", feature.name());
    }
    for setting in ["phys-bits", "c-bit", "sev-asid-max", "sev-asid-min"] {
        assert!(text.contains(setting));
        assert!(Cpu::parse(&format!("any,{setting}=40")).is_ok(), "{setting}");
    }
}
