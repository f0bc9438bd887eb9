//! `nsvm lab run`: finds the subjects, runs the set on each, and compares the outcomes.

use crate::files::{Outputs, expected_list, failed, open_store};
use crate::progress::ProgressBars;
use crate::set::set_of;
use crate::show::show;
use nsvm::cli::LabRun;
use nsvm::{Error, Status, suggest};
use nsvm_lab::case::Set;
use nsvm_lab::compare::compare;
use nsvm_lab::driver;
use nsvm_lab::results::{Results, Shards};
use nsvm_lab::run::{self, Questions};
use nsvm_lab::subject::{DEFAULT, Finder, HOST, Ready, Spec, Unavailable};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The subjects of a run, as far as they were found.
#[derive(Default)]
struct Found<'a> {
    ready: Vec<Ready>,
    /// Subjects that this machine does not have, and why.
    missing: Vec<(&'a Spec, Unavailable)>,
    /// Messages about subjects that are there and could not be run.
    broken: Vec<String>,
}

pub(crate) fn run(arguments: &LabRun, out: &mut dyn Write) -> Result<Status, Error> {
    let whole = set_of(&arguments.set, arguments.only.as_deref())?;
    let shard = arguments.shard.as_deref().map(shard_of).transpose()?;
    let list = expected_list(arguments.show.expected.as_deref())?;
    let specs = specs_of(arguments)?;
    let mut outputs = Outputs::open(arguments.output.as_deref(), &arguments.show)?;
    // The second signal ends the process at once.
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(failed)?;

    let mut found = find(&specs, arguments.offline)?;
    let set = match shard {
        Some((number, of)) => run::shard(&whole, number, of),
        None => whole.clone(),
    };
    let shards = shard.map(|(number, of)| Shards::one(number, of));
    let questions = Questions { set: &set, all: whole.cases.len(), shard: shards };
    let results = ask(&mut found, &questions, arguments.jobs)?;
    if let Some(output) = outputs.results.take() {
        output.write(results.to_text().map_err(failed)?.as_bytes())?;
    }
    compare_and_print(arguments, (&set, &results, &list), &specs, &found, outputs, out)
}

fn shard_of(text: &str) -> Result<(u32, u32), Error> {
    let wrong = || {
        Error::usage(format!("--shard: `{text}` is no part"), "such as 2/4: the second of four".to_owned())
    };
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let (number, of) = (number.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
    if (1..=of).contains(&number) && of <= 4096 { Ok((number, of)) } else { Err(wrong()) }
}

fn spec_of(name: &str) -> Result<Spec, Error> {
    name.parse().map_err(|error: Unavailable| {
        let sort = name.split(['@', '=', ':']).next().unwrap_or(name);
        let known = ["model", "qemu", "bochs", "kvm", "kvm-host", "kvm-l0", "l0"];
        let similar =
            (!known.contains(&sort)).then(|| suggest::help(sort, known.map(str::to_owned))).flatten();
        Error::usage(error.to_string(), similar)
    })
}

/// Returns the subjects that the arguments name, or the default ones.
fn specs_of(arguments: &LabRun) -> Result<Vec<Spec>, Error> {
    let mut names: Vec<&str> = arguments.subjects.iter().map(String::as_str).collect();
    if arguments.host {
        names.push(HOST);
    } else if names.is_empty() {
        names.extend(DEFAULT);
    }
    let specs: Vec<Spec> = names.iter().map(|name| spec_of(name)).collect::<Result<_, _>>()?;
    for wanted in &arguments.require {
        if !specs.iter().any(|spec| spec.is(wanted)) {
            let names = names.join(" ");
            return Err(failed(format!("--require: `{wanted}` is not among the subjects {names}")));
        }
    }
    Ok(specs)
}

/// Finds or fetches the programs and kernels of the subjects.
fn find(specs: &[Spec], offline: bool) -> Result<Found<'_>, Error> {
    let store = open_store()?;
    let mut progress = |line: &str| eprintln!("{line}");
    let mut finder = Finder { store: &store, may_fetch: !offline, progress: &mut progress, fetcher: None };
    let mut found = Found::default();
    for spec in specs {
        match finder.find(spec) {
            Ok(subject) => found.ready.push(subject),
            Err(why) if spec.is_exact() => found.broken.push(format!("{spec}: {why}")),
            Err(why) => found.missing.push((spec, why)),
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(failed(driver::Error::Interrupted));
        }
    }
    Ok(found)
}

/// Runs the cases on every subject that is ready.
fn ask(found: &mut Found<'_>, questions: &Questions<'_>, jobs: Option<u16>) -> Result<Results, Error> {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.map_or_else(processors, usize::from);
    let bars = ProgressBars::new(found.ready.iter().map(|subject| subject.head.label()).collect());
    let update = |number, progress| bars.update(number, progress);
    let done = run::run(&found.ready, questions, jobs, &INTERRUPTED, &update);
    bars.end();
    let mut results = Results::default();
    for (subject, result) in found.ready.iter().zip(done) {
        match result {
            Ok(section) => results.sections.push(section),
            Err(driver::Error::Interrupted) => return Err(failed(driver::Error::Interrupted)),
            Err(error) => found.broken.push(format!("{}: {error}", subject.head.label())),
        }
    }
    Ok(results)
}

/// Prints the table and which subjects did not run.
fn compare_and_print(
    arguments: &LabRun,
    (set, results, list): (&Set, &Results, &nsvm_lab::expected::Expected),
    specs: &[Spec],
    found: &Found<'_>,
    outputs: Outputs,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    let all = arguments.only.is_none() && arguments.shard.is_none();
    let mut status = show(compare(set, results, list, all), all, outputs, out)?;
    let Found { missing, broken, .. } = found;
    for (spec, why) in missing {
        writeln!(out, "skipped: {spec}: {why}")?;
    }
    for line in broken {
        writeln!(out, "error: {line}")?;
        status = status.and(Status::Failed);
    }
    writeln!(
        out,
        "{} of {} subjects run, {} skipped, {} failed",
        results.sections.len(),
        specs.len(),
        missing.len(),
        broken.len()
    )?;
    let required = missing.iter().find(|(spec, _)| arguments.require.iter().any(|wanted| spec.is(wanted)));
    if let Some((spec, _)) = required {
        writeln!(out, "error: {spec} is required")?;
        status = status.and(Status::Failed);
    }
    if results.sections.is_empty() && broken.is_empty() {
        writeln!(out, "error: nothing was run")?;
        status = status.and(Status::Failed);
    }
    Ok(status)
}
