//! `nsvm lab` and `nsvm l0` run programs of their own.

use crate::common::{file, plain, stderr, stdout};
use snapbox::cmd::{Command, cargo_bin};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The command in a folder without its companions, with this PATH.
fn alone(path: &Path) -> Command {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let nsvm = file(&format!("nsvm-alone-{number}"), b"");
    std::fs::remove_file(&nsvm).expect("it was just made");
    // A link: a program that was just written may be busy.
    std::fs::hard_link(cargo_bin!("nsvm"), &nsvm).expect("the same file system");
    plain(Command::new(nsvm)).env("PATH", path)
}

/// A folder whose `nsvm-lab` is this program.
fn folder_with(name: &str, program: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("external-{name}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let link = folder.join("nsvm-lab");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(program, link).expect("a link");
    folder
}

#[test]
fn a_missing_program_is_named_with_how_to_install_it() {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty");
    let output = alone(&empty).args(["lab", "run", "model"]).assert().code(3);
    let text = stderr(&output);
    assert!(text.contains("error: `nsvm lab` needs the program `nsvm-lab`"), "{text}");
    assert!(text.contains("cargo install --path crates/nsvm-lab"), "{text}");
    let output = alone(&empty).args(["l0", "run", "--l1", "kernel"]).assert().code(3);
    assert!(stderr(&output).contains("needs the program `nsvm-l0`"), "{}", stderr(&output));
}

#[test]
fn a_program_in_path_gets_the_arguments_and_sets_the_status() {
    let arguments = ["--color", "never", "lab", "run", "model"];
    let output = alone(&folder_with("echo", "/bin/echo")).args(arguments).assert().code(0);
    assert_eq!(stdout(&output), "--color never run model\n");
    alone(&folder_with("false", "/bin/false")).args(arguments).assert().code(1);
    // Wrong arguments and help need no program.
    alone(Path::new("")).args(["lab", "run", "--nonsense"]).assert().code(3);
    alone(Path::new("")).args(["lab", "--help"]).assert().code(0);
}

#[test]
fn a_file_that_cannot_be_executed_hides_no_program() {
    let first = Path::new(env!("CARGO_TARGET_TMPDIR")).join("external-text");
    std::fs::create_dir_all(&first).expect("a folder");
    std::fs::write(first.join("nsvm-lab"), "text").expect("a file");
    let path = std::env::join_paths([first.clone(), folder_with("second", "/bin/echo")]).expect("folders");
    let output = alone(Path::new(&path)).args(["lab", "list"]).assert().code(0);
    assert_eq!(stdout(&output), "list\n");
    let missing = alone(&first).args(["lab", "list"]).assert().code(3);
    assert!(stderr(&missing).contains("needs the program `nsvm-lab`"), "{}", stderr(&missing));
}

/// A process that runs another verb inside itself must not become another program.
#[test]
fn an_external_verb_is_refused_inside_a_process() {
    let mut out = Vec::new();
    let refused = nsvm::output(["nsvm", "lab", "list"], &mut out).expect_err("it is a separate program");
    assert_eq!(refused.to_string(), "this verb is a separate program");
    assert!(out.is_empty());
}
