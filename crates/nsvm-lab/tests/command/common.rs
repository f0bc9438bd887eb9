//! Running the programs of this package on files of the repository.

use super::shared::plain;
pub(crate) use super::shared::{file, root, status, stderr, stdout};
use snapbox::cmd::{Command, OutputAssert, cargo_bin};

/// `nsvm lab` or `nsvm l0` with these arguments, started at the root of the repository.
pub(crate) fn nsvm(arguments: &[&str]) -> Command {
    let (verb, rest) = arguments.split_first().expect("a verb");
    let program = match *verb {
        "lab" => cargo_bin!("nsvm-lab"),
        "l0" => cargo_bin!("nsvm-l0"),
        other => panic!("`{other}` is not a verb of this package"),
    };
    plain(Command::new(program)).current_dir(root()).args(rest)
}

pub(crate) fn run(arguments: &[&str]) -> OutputAssert {
    nsvm(arguments).assert()
}

/// Runs `nsvm check` with these arguments inside this process. Returns its exit status and output.
pub(crate) fn check(arguments: &[&str]) -> (u8, String) {
    let words: Vec<_> = ["nsvm", "check"].iter().chain(arguments).collect();
    let mut output = anstream::StripStream::new(Vec::new());
    let status = nsvm::output(words, &mut output).expect("the arguments are right");
    (status, String::from_utf8(output.into_inner()).expect("the output is UTF-8"))
}

/// The kept results, each with its file's name.
pub(crate) fn results() -> Vec<(String, nsvm_lab::results::Results)> {
    let mut folders = vec![root().join("results")];
    let mut results = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("results/ is there") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "txt") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let text = std::fs::read(&path).expect("a result file can be read");
                let parsed = nsvm_lab::results::Results::parse(&name, &text).expect("a result file is whole");
                results.push((name, parsed));
            }
        }
    }
    results
}
