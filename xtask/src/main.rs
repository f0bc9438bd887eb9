//! `cargo xtask`: the tasks of this workspace.

mod arguments;
mod bench;
mod check_targets;
mod ci;
mod counted_tests;
mod generate;
mod house;
mod images;
mod lab;
mod msrv;
mod nightly;
mod prose;
mod steps;
mod syntax;
mod tokens;
mod workspace;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use std::process::ExitCode;
use workspace::Workspace;

/// A verb of the command line.
struct Verb {
    name: &'static str,
    summary: &'static str,
    run: fn(&Workspace, &mut lexopt::Parser) -> Result<()>,
}

const VERBS: &[Verb] = &[
    Verb { name: "ci", summary: "Run the steps that every commit must pass", run: ci::run_verb },
    Verb {
        name: "nightly",
        summary: "Run the long tests, which must pass before an issue is resolved",
        run: nightly::run_verb,
    },
    Verb { name: "generate", summary: "Write or check all generated files", run: generate::run },
    Verb { name: "house", summary: "Check the rules of this repository", run: house::run },
    Verb { name: "prose", summary: "Count the writing guide's patterns, and draw samples", run: prose::run },
    Verb { name: "msrv", summary: "Compile each package with its oldest promised Rust", run: msrv::run },
    Verb {
        name: "check-targets",
        summary: "Compile for other systems and WebAssembly",
        run: check_targets::run,
    },
    Verb { name: "images", summary: "Build and lint the bare-metal programs", run: images::run },
    Verb { name: "bench", summary: "Count the instructions of the accepting paths", run: bench::run },
];

fn main() -> ExitCode {
    exit_if_the_reader_is_gone();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program without a message if it writes to a pipe that nothing reads any more, as in `ci --list | head -1`.
/// `println!` panics then.
fn exit_if_the_reader_is_gone() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if message.starts_with("failed printing to stdout: Broken pipe") {
            // The status that a shell reports for SIGPIPE.
            std::process::exit(141);
        }
        report(info);
    }));
}

fn start() -> Result<()> {
    let mut parser = lexopt::Parser::from_env();
    let name = match parser.next()? {
        Some(Value(name)) => name.to_string_lossy().into_owned(),
        Some(Short('h') | Long("help")) | None => {
            print!("{}", help());
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        let names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        bail!("unknown verb `{name}`: expected one of {}", names.join(", "));
    };
    (verb.run)(&Workspace::enter()?, &mut parser)
}

fn help() -> String {
    let mut text = String::from("Usage: cargo xtask VERB [OPTIONS]\n\nVerbs:\n");
    for verb in VERBS {
        text += &format!("  {:14} {}\n", verb.name, verb.summary);
    }
    text += "\n`cargo xtask VERB --help` shows the options of a verb.\n\n\
             Examples:\n  \
             cargo xtask ci --list          list the steps that every commit must pass\n  \
             cargo xtask house              check the rules of this repository\n  \
             cargo xtask generate           write all generated files again\n";
    text
}
