//! The shell lines of the example for batch engines, run with three processes as machines.

use super::common::{nsvm, root};
use nsvm_lab::results::Results;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The block of shell in the manifest that begins with this comment, and what `env` gives it.
fn script(manifest: &str, mark: &str) -> (String, BTreeMap<String, String>) {
    let mut lines = manifest.lines().skip_while(|line| line.trim() != mark);
    let first = lines.next().unwrap_or_else(|| panic!("the manifest has no `{mark}`"));
    let indent = &first[..first.find('#').expect("a comment")];
    let mut script = String::new();
    let mut environment = BTreeMap::new();
    for line in lines {
        if let Some(code) = line.strip_prefix(indent) {
            script.push_str(code);
            script.push('\n');
        } else if let Some((name, value)) =
            line.trim().strip_prefix("- { name: ").and_then(|rest| rest.split_once(", value: \""))
        {
            environment.insert(name.to_owned(), value.trim_end_matches("\" }").to_owned());
        } else if line.trim() == "volumeMounts:" {
            break;
        }
    }
    (script, environment)
}

/// Runs the lines with a function `nsvm` that knows `nsvm lab` only: this package has no other program.
fn shell(script: &str, environment: &BTreeMap<String, String>) -> Command {
    let script = format!("nsvm() {{ shift; '{}' \"$@\"; }}\n{script}", env!("CARGO_BIN_EXE_nsvm-lab"));
    let mut command = Command::new("sh");
    command.args(["-euc", &script]).envs(environment).current_dir(root());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the example's lines on these subjects, and compares the merged results with those of one unsharded run.
fn check_shards_make_the_whole(subjects: &str) {
    const ONLY: &str = "base.*,eventinj.long64,flip.long64.*";
    let manifest = fs::read_to_string(root().join("batch/kubernetes-indexed-job.yaml")).expect("the example");
    let results: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "batch-{}-{}",
        subjects.replace(' ', "-"),
        std::process::id()
    ));
    fs::create_dir_all(&results).expect("a folder");
    let place = results.to_str().expect("a name in UTF-8").to_owned();

    let (shard, mut environment) = script(&manifest, "# shard");
    for (name, value) in [("SUBJECTS", subjects), ("ONLY", ONLY), ("SET", "commit"), ("RESULTS", &place)] {
        environment.insert(name.to_owned(), value.to_owned());
    }
    let machines: usize = environment["SHARDS"].parse().expect("a number");
    assert!(manifest.contains(&format!("completions: {machines}\n")));
    let running: Vec<_> = (0..machines)
        .map(|index| {
            shell(&shard, &environment).env("JOB_COMPLETION_INDEX", index.to_string()).spawn().expect("sh")
        })
        .collect();
    for machine in running {
        let output = machine.wait_with_output().expect("it is our child");
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let (merge, _) = script(&manifest, "# merge");
    let output = shell(&merge, &environment).output().expect("sh");
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(results.join("report.html")).expect("the report").contains("</html>"));

    let direct = results.join("direct.txt");
    let direct_name = direct.to_str().expect("a name in UTF-8").to_owned();
    let mut run = vec!["lab", "run", "--offline", "--only", ONLY, "-o", &direct_name];
    run.extend(subjects.split(' '));
    let whole_code = nsvm(&run).assert().get_output().status.code();
    assert_eq!(code, whole_code, "the merged report has the status of an unsharded run");
    let read = |name: &str| {
        let mut read =
            Results::parse(name, &fs::read(results.join(name)).expect("results")).expect("results");
        for section in &mut read.sections {
            section.head.date = "2000-01-01".to_owned();
        }
        read.sections.sort_by(|a, b| a.head.subject.cmp(&b.head.subject));
        read.to_text().expect("text")
    };
    assert!(read("whole.txt") == read("direct.txt"), "{} has both", results.display());
    fs::remove_dir_all(&results).expect("it is ours");
}

#[test]
fn the_examples_shards_make_the_whole_on_the_model() {
    check_shards_make_the_whole("model");
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn the_examples_shards_make_the_whole_on_qemu() {
    check_shards_make_the_whole("model qemu");
}
