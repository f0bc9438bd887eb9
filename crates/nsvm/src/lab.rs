//! `nsvm lab`: the same cases on several implementations of VMRUN. The work is done in `nsvm-lab`; here are
//! arguments, files and what is printed.

use crate::Status;
use crate::cli::{Form, Lab, LabReport, LabRun, LabShow};
use crate::error::Error;
use nsvm_lab::case::Set;
use nsvm_lab::compare::{Comparison, compare};
use nsvm_lab::driver::{self, Progress};
use nsvm_lab::expected::{self, Expected, Globs};
use nsvm_lab::fetch::{Fetcher, Request};
use nsvm_lab::image::Image;
use nsvm_lab::protocol::console;
use nsvm_lab::report::Report;
use nsvm_lab::results::{self, Results, Shards};
use nsvm_lab::run::{self, Questions};
use nsvm_lab::store::{self, Store};
use nsvm_lab::subject::{DEFAULT, Finder, Ready, Spec};
use nsvm_lab::{sets, store::Subject};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest list of unlisted differences that is printed; the rest is counted.
const MOST_PRINTED: usize = 40;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(verb: &Lab, out: &mut dyn Write) -> Result<Status, Error> {
    match verb {
        Lab::Run(arguments) => run_subjects(arguments, out),
        Lab::Fetch { what, available: false } => fetch(what, out),
        Lab::Fetch { what, available: true } => available(what, out),
        Lab::List => list(out),
        Lab::Diff { old, new, between } => diff(old, new, between.as_deref(), out),
        Lab::Merge { files, output } => merge(files, output.as_deref(), out),
        Lab::Report(arguments) => report_files(arguments, out),
        Lab::Cases { set, only } => cases(set, only.as_deref(), out),
        Lab::Image { form, set, output } => image(*form, set, output, out),
        Lab::Import { capture, set, machine, output } => {
            import(capture, set, machine, output.as_deref(), out)
        }
    }
}

fn failed(error: impl Display) -> Error {
    Error::usage(error.to_string(), None)
}

fn in_file(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |error| Error::Input { file: path.display().to_string(), message: error.to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(in_file(path))
}

fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    std::fs::write(path, text).map_err(in_file(path))
}

fn read_results(path: &Path) -> Result<Results, Error> {
    Results::parse(&path.display().to_string(), &read(path)?).map_err(failed)
}

fn open_store() -> Result<Store, Error> {
    Store::open(&Store::default_root().map_err(failed)?).map_err(failed)
}

/// The set, or the part of it whose ids match.
fn set_of(name: &str, only: Option<&str>) -> Result<Set, Error> {
    let mut set = sets::set(name).map_err(failed)?;
    if let Some(only) = only {
        let globs = Globs::parse(only).map_err(failed)?;
        set.cases.retain(|case| globs.matches(&case.id));
        if set.cases.is_empty() {
            return Err(Error::usage(
                format!("--only: no case of the set {name} matches `{only}`"),
                "`nsvm lab cases` lists them".to_owned(),
            ));
        }
    }
    Ok(set)
}

fn shard_of(text: &str) -> Result<(u32, u32), Error> {
    let wrong = || {
        Error::usage(format!("--shard: `{text}` is no part"), "such as 2/4: the second of four".to_owned())
    };
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let (number, of) = (number.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
    if (1..=of).contains(&number) && of <= 4096 { Ok((number, of)) } else { Err(wrong()) }
}

fn expected_list(path: Option<&Path>) -> Result<Expected, Error> {
    let parsed = match path {
        Some(path) => {
            let text = String::from_utf8(read(path)?).map_err(|_| Error::Input {
                file: path.display().to_string(),
                message: "it is no text in UTF-8".to_owned(),
            })?;
            Expected::parse(&path.display().to_string(), &text)
        }
        None => Expected::parse(expected::FILE, expected::TEXT),
    };
    parsed.map_err(|errors| failed(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn run_subjects(arguments: &LabRun, out: &mut dyn Write) -> Result<Status, Error> {
    let whole = set_of(&arguments.set, arguments.only.as_deref())?;
    let shard = arguments.shard.as_deref().map(shard_of).transpose()?;
    let list = expected_list(arguments.show.expected.as_deref())?;
    let names: Vec<&str> = if arguments.subjects.is_empty() {
        DEFAULT.to_vec()
    } else {
        arguments.subjects.iter().map(String::as_str).collect()
    };
    let specs: Vec<Spec> = names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(failed)?;
    for wanted in &arguments.require {
        if !specs.iter().any(|spec| spec.is(wanted)) {
            return Err(failed(format!(
                "--require: `{wanted}` is not among the subjects {}",
                names.join(" ")
            )));
        }
    }
    // A second signal ends us at once.
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(failed)?;

    let store = open_store()?;
    let mut tell = |line: &str| eprintln!("{line}");
    let mut finder =
        Finder { store: &store, may_fetch: !arguments.offline, progress: &mut tell, fetcher: None };
    let mut ready: Vec<Ready> = Vec::new();
    let mut missing = Vec::new();
    for spec in &specs {
        match finder.find(spec) {
            Ok(subject) => ready.push(subject),
            Err(why) => missing.push((spec, why)),
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(failed(driver::Error::Interrupted));
        }
    }

    let set = match shard {
        Some((number, of)) => run::shard(&whole, number, of),
        None => whole.clone(),
    };
    let questions = Questions {
        set: &set,
        all: whole.cases.len(),
        shard: shard.map(|(number, of)| Shards::one(number, of)),
    };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let bars = Bars::new(ready.iter().map(|subject| subject.head.label()).collect());
    let done =
        run::run(&ready, &questions, jobs, &INTERRUPTED, &|number, progress| bars.update(number, progress));
    bars.end();

    let mut found = Results::default();
    let mut broken = Vec::new();
    for (subject, result) in ready.iter().zip(done) {
        match result {
            Ok(section) => found.sections.push(section),
            Err(driver::Error::Interrupted) => return Err(failed(driver::Error::Interrupted)),
            Err(error) => broken.push(format!("{}: {error}", subject.head.label())),
        }
    }
    if let Some(path) = &arguments.output {
        write(path, found.to_text().map_err(failed)?.as_bytes())?;
    }
    let all = arguments.only.is_none() && shard.is_none();
    let comparison = compare(&set, &found, &list, all);
    let mut status = show(comparison, &arguments.show, out)?;
    for (spec, why) in &missing {
        writeln!(out, "skipped: {spec}: {why}")?;
    }
    for line in &broken {
        writeln!(out, "error: {line}")?;
        status = status.and(Status::Failed);
    }
    writeln!(
        out,
        "{} of {} subjects run, {} skipped, {} failed",
        found.sections.len(),
        specs.len(),
        missing.len(),
        broken.len()
    )?;
    let required = missing.iter().find(|(spec, _)| arguments.require.iter().any(|wanted| spec.is(wanted)));
    if let Some((spec, _)) = required {
        writeln!(out, "error: {spec} is required")?;
        status = status.and(Status::Failed);
    }
    Ok(status)
}

/// Prints the table, and what is not as listed; writes the files that were asked for.
fn show(comparison: Comparison, arguments: &LabShow, out: &mut dyn Write) -> Result<Status, Error> {
    let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let as_listed = comparison.is_as_listed();
    let Comparison { rows, unlisted, stale, predicted, unknown } = comparison;
    let labels: Vec<_> = rows.iter().map(|row| row.head.label()).collect();
    let report = Report::new(rows);
    write!(out, "{}", report.terminal(colour))?;
    for (label, (right, wrong)) in labels.iter().zip(predicted) {
        if right + wrong > 0 {
            writeln!(out, "predicted for {label}: {right} came out, {wrong} did not")?;
        }
    }
    if unknown > 0 {
        writeln!(out, "note: {unknown} outcomes are of cases that this build does not have")?;
    }
    for (what, lines) in [("unlisted difference", &unlisted), ("stale entry of the list", &stale)] {
        for line in lines.iter().take(MOST_PRINTED) {
            writeln!(out, "error: {what}: {line}")?;
        }
        if lines.len() > MOST_PRINTED {
            writeln!(out, "error: {what}: {} more", lines.len() - MOST_PRINTED)?;
        }
    }
    if let Some(path) = &arguments.markdown {
        write(path, report.markdown().as_bytes())?;
    }
    if let Some(path) = &arguments.html {
        write(path, report.html().as_bytes())?;
    }
    Ok(if as_listed { Status::Fine } else { Status::Refused })
}

fn report_files(arguments: &LabReport, out: &mut dyn Write) -> Result<Status, Error> {
    let list = expected_list(arguments.show.expected.as_deref())?;
    let parts = arguments.files.iter().map(|path| Ok((path.display().to_string(), read_results(path)?)));
    let merged = results::merge(parts.collect::<Result<Vec<_>, Error>>()?).map_err(failed)?;
    let mut by_set: BTreeMap<String, Results> = BTreeMap::new();
    for section in merged.sections {
        if let Some(missing) = section.missing() {
            writeln!(out, "note: {}: {missing}", section.head.label())?;
        }
        by_set.entry(section.head.set.clone()).or_default().sections.push(section);
    }
    let mut all = Comparison::default();
    for (name, found) in by_set {
        let set = sets::set(&name).map_err(failed)?;
        let whole = found.sections.iter().all(|section| section.outcomes.len() == set.cases.len());
        let one = compare(&set, &found, &list, whole);
        all.rows.extend(one.rows);
        all.unlisted.extend(one.unlisted);
        all.stale.extend(one.stale);
        all.predicted.extend(one.predicted);
        all.unknown += one.unknown;
    }
    show(all, &arguments.show, out)
}

fn fetch(what: &[String], out: &mut dyn Write) -> Result<Status, Error> {
    let requests: Vec<Request> =
        what.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let store = open_store()?;
    let mut fetcher = Fetcher::new(&store).map_err(failed)?;
    for request in &requests {
        let subject = fetcher.fetch(request, &mut |line| eprintln!("{line}")).map_err(failed)?;
        writeln!(out, "{subject}")?;
        out.flush()?;
    }
    Ok(Status::Fine)
}

fn available(what: &[String], out: &mut dyn Write) -> Result<Status, Error> {
    let requests: Vec<Request> =
        what.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let store = open_store()?;
    let mut fetcher = Fetcher::new(&store).map_err(failed)?;
    for request in &requests {
        let found = fetcher
            .available(request.kind, &request.suite, &mut |line| eprintln!("{line}"))
            .map_err(failed)?;
        for one in found {
            writeln!(
                out,
                "{}:{}@{}  {}  {} MB",
                request.kind,
                one.package,
                request.suite,
                one.version,
                one.size >> 20
            )?;
        }
    }
    Ok(Status::Fine)
}

fn list(out: &mut dyn Write) -> Result<Status, Error> {
    let line = |out: &mut dyn Write, subject: &Subject, place: &Path| {
        writeln!(out, "{:<50} {}", subject.to_string(), place.display())
    };
    for found in store::installed() {
        match found {
            Ok(subject) => {
                let program = subject.program().unwrap_or_default();
                line(out, &subject, &program)?;
            }
            Err(error) => writeln!(out, "unusable: {error}")?,
        }
    }
    let store = open_store()?;
    let listing = store.list().map_err(failed)?;
    for subject in &listing.subjects {
        line(out, subject, &subject.root)?;
    }
    for (path, error) in &listing.damaged {
        writeln!(out, "damaged: {}: {error}", path.display())?;
    }
    if listing.subjects.is_empty() {
        writeln!(out, "nothing is fetched; `nsvm lab fetch qemu@trixie kernel@sid` gets some")?;
    }
    Ok(Status::Fine)
}

fn diff(old: &Path, new: &Path, between: Option<&[String]>, out: &mut dyn Write) -> Result<Status, Error> {
    let (old, new) = (read_results(old)?, read_results(new)?);
    let mut diff = match between {
        Some([one, two]) => {
            let pick = |results: &Results, text: &str| -> Result<results::Section, Error> {
                let globs = Globs::parse(text).map_err(failed)?;
                let labels = || results.sections.iter().map(|section| section.head.label());
                let mut found =
                    results.sections.iter().filter(|section| globs.matches(&section.head.label()));
                match (found.next(), found.next()) {
                    (Some(section), None) => Ok(section.clone()),
                    (None, _) => Err(failed(format!(
                        "no subject is called `{text}`; there are: {}",
                        labels().collect::<Vec<_>>().join("; ")
                    ))),
                    _ => Err(failed(format!("several subjects match `{text}`"))),
                }
            };
            let one = results::compare(&pick(&old, one)?, &pick(&new, two)?);
            results::Diff { sections: vec![one], ..results::Diff::default() }
        }
        _ => results::diff(&old, &new),
    };
    // Ids mean the same in every set, and this one has all cases.
    let unstable: BTreeSet<String> = set_of("full", None)?
        .cases
        .into_iter()
        .filter_map(|case| case.meaningless.map(|_| case.id))
        .collect();
    for section in &mut diff.sections {
        // Between two subjects a difference is what is asked for.
        let same = (section.old == section.new).then(|| section.old.clone());
        let named = same.as_deref().and_then(|label| label.split_once(' '));
        let of_subject =
            |id: &str| named.is_some_and(|(who, version)| sets::unstable(who, version, id).is_some());
        section.set_aside(|id| unstable.contains(id) || of_subject(id));
    }
    write!(out, "{diff}")?;
    Ok(if diff.is_empty() { Status::Fine } else { Status::Refused })
}

fn merge(files: &[PathBuf], output: Option<&Path>, out: &mut dyn Write) -> Result<Status, Error> {
    let parts = files.iter().map(|path| Ok((path.display().to_string(), read_results(path)?)));
    let merged = results::merge(parts.collect::<Result<Vec<_>, Error>>()?).map_err(failed)?;
    for section in &merged.sections {
        if let Some(missing) = section.missing() {
            eprintln!("note: {}: {missing}", section.head.label());
        }
    }
    put(&merged, output, out)
}

fn put(results: &Results, output: Option<&Path>, out: &mut dyn Write) -> Result<Status, Error> {
    let text = results.to_text().map_err(failed)?;
    match output {
        Some(path) => write(path, text.as_bytes())?,
        None => out.write_all(text.as_bytes())?,
    }
    Ok(Status::Fine)
}

fn cases(name: &str, only: Option<&str>, out: &mut dyn Write) -> Result<Status, Error> {
    for case in &set_of(name, only)?.cases {
        match (&case.cannot_run, &case.meaningless) {
            (Some(why), _) => writeln!(out, "{}  not run: {why}", case.id)?,
            (None, Some(why)) => writeln!(out, "{}  not compared: {why}", case.id)?,
            (None, None) => writeln!(out, "{}", case.id)?,
        }
    }
    Ok(Status::Fine)
}

fn image(form: Form, set: &str, output: &Path, out: &mut dyn Write) -> Result<Status, Error> {
    let mut set = set_of(set, None)?;
    set.cases.retain(|case| case.cannot_run.is_none());
    let image = Image::new(&set, console::SERIAL | console::SCREEN).map_err(failed)?;
    let bytes = match form {
        Form::Disk => image.disk(),
        Form::Multiboot => image.flat().to_vec(),
        Form::Elf => image.elf(),
    };
    write(output, &bytes)?;
    writeln!(
        out,
        "{}: {} cases, {} bytes; see `nsvm lab image --help`",
        output.display(),
        set.cases.len(),
        bytes.len()
    )?;
    Ok(Status::Fine)
}

fn import(
    capture: &Path,
    set: &str,
    machine: &str,
    output: Option<&Path>,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    let set = set_of(set, None)?;
    let text = read(capture)?;
    let section = run::import(&set, &String::from_utf8_lossy(&text), machine)
        .map_err(|message| Error::Input { file: capture.display().to_string(), message })?;
    put(&Results { sections: vec![section] }, output, out)
}

/// A line of progress for each subject: redrawn on a terminal, else one when it ends.
struct Bars {
    state: Mutex<State>,
    began: Instant,
    terminal: bool,
}

struct State {
    labels: Vec<String>,
    last: Vec<Option<Progress>>,
    drawn: usize,
    when: Instant,
}

impl Bars {
    fn new(labels: Vec<String>) -> Self {
        let now = Instant::now();
        let last = vec![None; labels.len()];
        let state = Mutex::new(State { labels, last, drawn: 0, when: now });
        Self { state, began: now, terminal: std::io::stderr().is_terminal() }
    }

    fn line(&self, label: &str, progress: Option<Progress>) -> String {
        match progress {
            None => format!("{label}: waiting"),
            Some(Progress { done, all, broken }) => {
                let broken = if broken > 0 { format!(", {broken} broke it") } else { String::new() };
                format!("{label}: {done} of {all} cases{broken}, {} s", self.began.elapsed().as_secs())
            }
        }
    }

    fn update(&self, number: usize, progress: Progress) {
        let Ok(mut state) = self.state.lock() else { return };
        if let Some(place) = state.last.get_mut(number) {
            *place = Some(progress);
        }
        let finished = progress.done >= progress.all;
        if self.terminal {
            if finished || state.when.elapsed() > Duration::from_millis(100) {
                self.draw(&mut state);
            }
        } else if finished && let Some(label) = state.labels.get(number) {
            eprintln!("{}", self.line(label, Some(progress)));
        }
    }

    fn draw(&self, state: &mut State) {
        let mut text = String::new();
        if state.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", state.drawn));
        }
        for (label, progress) in state.labels.iter().zip(&state.last) {
            text.push_str("\r\x1b[K");
            text.extend(self.line(label, *progress).chars().take(100));
            text.push('\n');
        }
        state.drawn = state.labels.len();
        state.when = Instant::now();
        eprint!("{text}");
    }

    fn end(&self) {
        if self.terminal
            && let Ok(mut state) = self.state.lock()
        {
            self.draw(&mut state);
        }
    }
}
