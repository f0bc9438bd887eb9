//! `nsvm lab`: the same cases on several implementations of VMRUN. The work is done in `nsvm-lab`; here are
//! arguments, files and what is printed.

use crate::cli::{Form, Lab, LabReport, LabRun, LabShow};
use crate::error::Error;
use crate::{Status, near};
use nsvm_lab::case::Set;
use nsvm_lab::compare::{Comparison, compare, compare_all};
use nsvm_lab::driver::{self, Progress};
use nsvm_lab::expected::{self, Expected};
use nsvm_lab::fetch::{Fetcher, Request};
use nsvm_lab::glob::Globs;
use nsvm_lab::image::Image;
use nsvm_lab::protocol::console;
use nsvm_lab::report::Report;
use nsvm_lab::results::{self, Results, Shards};
use nsvm_lab::run::{self, Questions};
use nsvm_lab::store::{self, Store};
use nsvm_lab::subject::{DEFAULT, Finder, HOST, Ready, Spec, Unavailable};
use nsvm_lab::{sets, store::Subject};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As many groups of unlisted differences are printed, and as many lines of cases for each; the rest is counted.
const MOST_GROUPS: usize = 20;
const MOST_FAMILIES: usize = 8;
/// Columns of what is printed, at most: wider tables and lines are hard to follow.
const WIDTH: usize = 100;

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

fn not_written(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |error| Error::Input {
        file: path.display().to_string(),
        message: format!("it cannot be written: {error}"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(in_file(path))
}

fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    Output::open(path)?.write(text)
}

/// A file to be written: whole, or not at all. The text goes into another file beside it, which then takes its name.
pub(crate) struct Output {
    path: PathBuf,
    /// The other file, until it has the name; nothing where `path` is a pipe or a device.
    beside: Option<PathBuf>,
    file: File,
}

impl Output {
    /// Before the work whose outcome goes there: what cannot be written is told at once.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // What is a link is followed, so that the file changes and not the link.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // /dev/stdout may be a link to a file that others hold open: that one must not be replaced.
        let device = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
        if device || std::fs::metadata(&target).is_ok_and(|is| !is.is_file()) {
            let file = File::options().write(true).open(path).map_err(not_written(path))?;
            return Ok(Self { path: path.to_owned(), beside: None, file });
        }
        let name = target.file_name().ok_or_else(|| Error::Input {
            file: path.display().to_string(),
            message: "this is no name of a file".to_owned(),
        })?;
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}", std::process::id()));
        let beside = target.with_file_name(beside);
        let file = File::create(&beside).map_err(not_written(path))?;
        Ok(Self { path: target, beside: Some(beside), file })
    }

    pub(crate) fn write(mut self, text: &[u8]) -> Result<(), Error> {
        self.file.write_all(text).map_err(not_written(&self.path))?;
        if let Some(beside) = &self.beside {
            // Some file systems tell only now that there was no room.
            self.file.sync_all().map_err(not_written(&self.path))?;
            std::fs::rename(beside, &self.path).map_err(not_written(&self.path))?;
            self.beside = None;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// Files that were asked for, opened.
struct Outputs {
    results: Option<Output>,
    html: Option<Output>,
    markdown: Option<Output>,
}

impl Outputs {
    fn open(results: Option<&Path>, show: &LabShow) -> Result<Self, Error> {
        let open = |path: Option<&Path>| path.map(Output::open).transpose();
        Ok(Self {
            results: open(results)?,
            html: open(show.html.as_deref())?,
            markdown: open(show.markdown.as_deref())?,
        })
    }
}

fn read_results(path: &Path) -> Result<Results, Error> {
    Results::parse(&path.display().to_string(), &read(path)?).map_err(failed)
}

fn open_store() -> Result<Store, Error> {
    Store::open(&Store::default_root().map_err(failed)?).map_err(failed)
}

/// The set, or the part of it whose ids match.
fn set_of(name: &str, only: Option<&str>) -> Result<Set, Error> {
    let mut set = sets::set(name).map_err(|error| {
        let near = near::help(name, sets::names().iter().map(|&name| name.to_owned()));
        Error::usage(error.to_string(), near)
    })?;
    if let Some(only) = only {
        let globs = Globs::parse(only).map_err(failed)?;
        // A family's name stands for all of it.
        set.cases.retain(|case| globs.matches(&case.id) || globs.matches(results::split_id(&case.id).0));
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

fn spec_of(name: &str) -> Result<Spec, Error> {
    name.parse().map_err(|error: Unavailable| {
        let sort = name.split(['@', '=', ':']).next().unwrap_or(name);
        let known = ["model", "qemu", "bochs", "kvm", "kvm-host", "kvm-l0", "l0"];
        let near = (!known.contains(&sort)).then(|| near::help(sort, known.map(str::to_owned))).flatten();
        Error::usage(error.to_string(), near)
    })
}

fn run_subjects(arguments: &LabRun, out: &mut dyn Write) -> Result<Status, Error> {
    let whole = set_of(&arguments.set, arguments.only.as_deref())?;
    let shard = arguments.shard.as_deref().map(shard_of).transpose()?;
    let list = expected_list(arguments.show.expected.as_deref())?;
    let mut names: Vec<&str> = arguments.subjects.iter().map(String::as_str).collect();
    if arguments.host {
        names.push(HOST);
    } else if names.is_empty() {
        names.extend(DEFAULT);
    }
    let specs: Vec<Spec> = names.iter().map(|name| spec_of(name)).collect::<Result<_, _>>()?;
    for wanted in &arguments.require {
        if !specs.iter().any(|spec| spec.is(wanted)) {
            return Err(failed(format!(
                "--require: `{wanted}` is not among the subjects {}",
                names.join(" ")
            )));
        }
    }
    let mut outputs = Outputs::open(arguments.output.as_deref(), &arguments.show)?;
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
    let mut broken = Vec::new();
    for spec in &specs {
        match finder.find(spec) {
            Ok(subject) => ready.push(subject),
            Err(why) if spec.is_exact() => broken.push(format!("{spec}: {why}")),
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
    let jobs = arguments
        .jobs
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let bars = Bars::new(ready.iter().map(|subject| subject.head.label()).collect());
    let done =
        run::run(&ready, &questions, jobs, &INTERRUPTED, &|number, progress| bars.update(number, progress));
    bars.end();

    let mut found = Results::default();
    for (subject, result) in ready.iter().zip(done) {
        match result {
            Ok(section) => found.sections.push(section),
            Err(driver::Error::Interrupted) => return Err(failed(driver::Error::Interrupted)),
            Err(error) => broken.push(format!("{}: {error}", subject.head.label())),
        }
    }
    if let Some(output) = outputs.results.take() {
        output.write(found.to_text().map_err(failed)?.as_bytes())?;
    }
    let all = arguments.only.is_none() && shard.is_none();
    let comparison = compare(&set, &found, &list, all);
    let mut status = show(comparison, all, outputs, out)?;
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
    if found.sections.is_empty() && broken.is_empty() {
        writeln!(out, "error: nothing was run")?;
        status = status.and(Status::Failed);
    }
    Ok(status)
}

/// The text, indented, in lines that break behind blanks and commas only.
fn folded(indent: usize, text: &str, columns: usize) -> String {
    let mut out = " ".repeat(indent);
    let mut at = indent;
    for word in text.split_inclusive([' ', ',']) {
        let length = word.trim_end().chars().count();
        if at + length > columns && at > indent {
            out.truncate(out.trim_end().len());
            at = indent + 2;
            out.push('\n');
            out.push_str(&" ".repeat(at));
        }
        out.push_str(word);
        at += word.chars().count();
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Prints the table, and what is not as listed; writes the files that were asked for. `all`: whole sets were run.
fn show(comparison: Comparison, all: bool, outputs: Outputs, out: &mut dyn Write) -> Result<Status, Error> {
    let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let columns = terminal_size::terminal_size_of(std::io::stdout())
        .map_or(WIDTH, |(columns, _)| usize::from(columns.0).min(WIDTH));
    let as_listed = comparison.is_as_listed();
    let Comparison { rows, unlisted, stale, predicted, unknown } = comparison;
    let labels: Vec<_> = rows.iter().map(|row| row.head.label()).collect();
    let report = Report::new(rows);
    let report = if all { report } else { report.of_a_part() };
    if !labels.is_empty() {
        writeln!(out, "{}", report.terminal(colour, columns))?;
    }
    for (label, (right, wrong)) in labels.iter().zip(predicted) {
        if right + wrong > 0 {
            let text = format!("{label}: {right} of {} predicted answers came out", right + wrong);
            write!(out, "{}", folded(0, &text, columns))?;
        }
    }
    if unknown > 0 {
        writeln!(out, "note: {unknown} outcomes are of cases that this build does not have")?;
    }
    if !unlisted.is_empty() {
        let cases: usize = unlisted.iter().map(|group| group.ids.len()).sum();
        writeln!(out, "error: {cases} differences from the rulebook are not in the list of expected ones")?;
        let mut subject = None;
        for group in unlisted.iter().take(MOST_GROUPS) {
            if subject.replace(&group.subject) != Some(&group.subject) {
                writeln!(out, "  {}", group.subject)?;
            }
            write!(out, "{}", folded(4, &group.to_string(), columns))?;
            let families = group.cases();
            for ids in families.iter().take(MOST_FAMILIES) {
                write!(out, "{}", folded(6, ids, columns))?;
            }
            if families.len() > MOST_FAMILIES {
                writeln!(out, "      and more: {} of such lines", families.len() - MOST_FAMILIES)?;
            }
        }
        if unlisted.len() > MOST_GROUPS {
            writeln!(out, "  and {} more of such groups; --html FILE has all", unlisted.len() - MOST_GROUPS)?;
        }
        let help = format!(
            "= help: where a subject is known to do so, add a row to {}; its head says how",
            expected::FILE
        );
        write!(out, "{}", folded(2, &help, columns))?;
    }
    if !stale.is_empty() {
        writeln!(out, "error: rows of the list of which nothing came out any more: {}", stale.len())?;
        for line in &stale {
            write!(out, "{}", folded(2, line, columns))?;
        }
        let help = format!("= help: remove the row, or its subject or version, from {}", expected::FILE);
        write!(out, "{}", folded(2, &help, columns))?;
    }
    if let Some(output) = outputs.markdown {
        output.write(report.markdown().as_bytes())?;
    }
    if let Some(output) = outputs.html {
        output.write(report.html().as_bytes())?;
    }
    Ok(if as_listed { Status::Fine } else { Status::Refused })
}

fn report_files(arguments: &LabReport, out: &mut dyn Write) -> Result<Status, Error> {
    let list = expected_list(arguments.show.expected.as_deref())?;
    let parts = arguments.files.iter().map(|path| Ok((path.display().to_string(), read_results(path)?)));
    let merged = results::merge(parts.collect::<Result<Vec<_>, Error>>()?).map_err(failed)?;
    let outputs = Outputs::open(None, &arguments.show)?;
    for section in &merged.sections {
        if let Some(missing) = section.missing() {
            writeln!(out, "note: {}: {missing}", section.head.label())?;
        }
    }
    let whole = merged.sections.iter().all(|section| section.missing().is_none());
    let all = compare_all(merged, &list).map_err(failed)?;
    show(all, whole, outputs, out)
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
    for found in store::installed() {
        match found {
            Ok(subject) => {
                let program = subject.program().unwrap_or_default();
                writeln!(out, "{} {}, installed: {}", subject.kind, subject.version, program.display())?;
            }
            Err(error) => writeln!(out, "unusable: {error}")?,
        }
    }
    let root = Store::default_root().map_err(failed)?;
    let store = Store::open(&root).map_err(failed)?;
    let listing = store.list().map_err(failed)?;
    writeln!(out, "{}:", root.display())?;
    if listing.subjects.is_empty() {
        writeln!(out, "  nothing is fetched; `nsvm lab fetch qemu@trixie kernel@sid` gets some")?;
    }
    let columns = |subject: &Subject| {
        let release = subject.release().unwrap_or_default().to_owned();
        [subject.kind.name().to_owned(), subject.version.clone(), subject.suite.clone(), release]
    };
    let rows: Vec<_> = listing.subjects.iter().map(columns).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let (versions, suites) = (width(1), width(2));
    for (subject, [kind, version, suite, release]) in listing.subjects.iter().zip(&rows) {
        let size = format!("{} MB", subject.size >> 20);
        let line = format!("  {kind:<6}  {version:<versions$}  {suite:<suites$}  {size:>7}  {release}");
        writeln!(out, "{}", line.trim_end())?;
    }
    for (path, error) in &listing.damaged {
        writeln!(out, "damaged: {}: {error}", path.display())?;
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
    terminal: bool,
}

struct State {
    labels: Vec<String>,
    last: Vec<Option<Bar>>,
    drawn: usize,
    when: Instant,
}

/// How far a subject is, since when, and when it was told.
#[derive(Clone, Copy)]
struct Bar {
    progress: Progress,
    began: Instant,
    told: Instant,
}

impl Bars {
    fn new(labels: Vec<String>) -> Self {
        let now = Instant::now();
        let last = vec![None; labels.len()];
        // Lines are redrawn where the cursor can be moved.
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        let state = Mutex::new(State { labels, last, drawn: 0, when: now });
        Self { state, terminal }
    }

    fn line(label: &str, bar: Option<Bar>) -> String {
        let Some(Bar { progress: Progress { done, all, broken }, began, told }) = bar else {
            return format!("{label}: waiting");
        };
        let until = if done >= all { told } else { Instant::now() };
        let seconds = until.duration_since(began).as_secs();
        let broken = if broken > 0 { format!(", {broken} broke it") } else { String::new() };
        format!("{label}: {done} of {all} cases{broken}, {seconds} s")
    }

    fn update(&self, number: usize, progress: Progress) {
        let Ok(mut state) = self.state.lock() else { return };
        let State { labels, last, when, .. } = &mut *state;
        let (Some(label), Some(place)) = (labels.get(number), last.get_mut(number)) else { return };
        let told = Instant::now();
        let began = place.map_or(told, |bar| bar.began);
        *place = Some(Bar { progress, began, told });
        let finished = progress.done >= progress.all;
        if !self.terminal {
            if finished {
                eprintln!("{}", Self::line(label, *place));
            }
        } else if finished || when.elapsed() > Duration::from_millis(100) {
            Self::draw(&mut state);
        }
    }

    fn draw(state: &mut State) {
        // A line wider than the terminal must be cut: one that goes on in the next would spoil what is redrawn.
        let mut text = "\x1b[?7l".to_owned();
        if state.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", state.drawn));
        }
        for (label, bar) in state.labels.iter().zip(&state.last) {
            text.push_str("\r\x1b[K");
            text.push_str(&Self::line(label, *bar));
            text.push('\n');
        }
        text.push_str("\x1b[?7h");
        state.drawn = state.labels.len();
        state.when = Instant::now();
        eprint!("{text}");
    }

    fn end(&self) {
        if self.terminal
            && let Ok(mut state) = self.state.lock()
        {
            Self::draw(&mut state);
        }
    }
}
