//! A run: subjects, each asked all cases, some at the same time.

use crate::case::Set;
use crate::driver::{self, Error, Progress};
use crate::outcome::{Outcome, Seen};
use crate::results::{Head, Section, Shards};
use crate::subject::{Answers, Ready};
use crate::{sets, verdict};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;
use vmcb::{Limits, Policy};

/// The cases of shard `number` of `of`, counted from 1: every `of`-th one, so that each shard has some of each kind.
#[must_use]
pub fn shard(set: &Set, number: u32, of: u32) -> Set {
    let cases = set.cases.iter().enumerate();
    let mine = cases.filter(|(index, _)| *index as u64 % u64::from(of) == u64::from(number) - 1);
    Set {
        name: set.name.clone(),
        bases: set.bases.clone(),
        cases: mine.map(|(_, case)| case.clone()).collect(),
    }
}

/// What all subjects of a run are asked.
pub struct Questions<'a> {
    /// The cases.
    pub set: &'a Set,
    /// How many cases the whole set has, of which these may be a shard.
    pub all: usize,
    /// The shard, if it is one.
    pub shard: Option<Shards>,
}

/// Asks each subject all cases, `jobs` of them at a time. The results stand in the order of the subjects.
///
/// `progress` is told of the subject by its position. When `interrupted` becomes true machines are ended and what is
/// not finished is [`Error::Interrupted`].
pub fn run(
    subjects: &[Ready],
    questions: &Questions<'_>,
    jobs: usize,
    interrupted: &AtomicBool,
    progress: &(dyn Fn(usize, Progress) + Sync),
) -> Vec<Result<Section, Error>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Section, Error>>>> =
        subjects.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, subjects.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(subject), Some(place)) = (subjects.get(number), results.get(number)) else {
                        return;
                    };
                    let result = if interrupted.load(Ordering::Relaxed) {
                        Err(Error::Interrupted)
                    } else {
                        progress(number, Progress { done: 0, all: questions.set.cases.len(), broken: 0 });
                        ask(subject, questions, interrupted, &mut |done| progress(number, done))
                    };
                    if let Ok(mut place) = place.lock() {
                        *place = Some(result);
                    }
                }
            });
        }
    });
    let finished = |place: Mutex<Option<_>>| place.into_inner().ok().flatten();
    results.into_iter().map(|place| finished(place).unwrap_or(Err(Error::Interrupted))).collect()
}

/// Asks one subject.
fn ask(
    subject: &Ready,
    questions: &Questions<'_>,
    interrupted: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Section, Error> {
    let set = questions.set;
    let mut head = subject.head.clone();
    head.date = crate::store::now();
    head.set.clone_from(&set.name);
    head.cases = questions.all;
    head.shard.clone_from(&questions.shard);
    let outcomes = match &subject.answers {
        Answers::Model(cpu) => {
            let outcomes = model(cpu, set);
            progress(Progress { done: set.cases.len(), all: set.cases.len(), broken: 0 });
            outcomes
        }
        Answers::Machine(machine) => {
            let folder = folder()?;
            let killer =
                |id: &str| sets::killer(&head.subject, &head.version, id).map(|killer| killer.reason);
            let run = driver::run(machine.as_ref(), set, &killer, folder.path(), interrupted, progress)?;
            learn(&mut head, &run);
            run.outcomes
        }
    };
    let outcomes = set.cases.iter().map(|case| case.id.clone()).zip(outcomes).collect();
    Ok(Section { head, outcomes })
}

/// What the machine said of itself, in the order in which merged results have it.
fn learn(head: &mut Head, run: &driver::Run) {
    head.cpuid.clone_from(&run.cpuid);
    head.cpuid.sort_by_key(|entry| (entry.leaf, entry.subleaf));
    head.msrs.clone_from(&run.msrs);
    head.msrs.sort_unstable();
    head.notes.clone_from(&run.notes);
    head.notes.sort();
}

/// Results from the lines that the payload wrote on a machine that we cannot drive: hardware.
///
/// # Errors
/// What is wrong with the text.
pub fn import(set: &Set, text: &str, machine: &str) -> Result<Section, String> {
    let runnable: Vec<_> = set.cases.iter().filter(|case| case.cannot_run.is_none()).cloned().collect();
    let part = Set { name: set.name.clone(), bases: set.bases.clone(), cases: runnable };
    let run = driver::listen(&part, text.lines()).map_err(|error| error.to_string())?;
    let mut head = Head {
        subject: "hardware".to_owned(),
        version: machine.to_owned(),
        cpu: "its own".to_owned(),
        date: crate::store::now(),
        set: set.name.clone(),
        cases: set.cases.len(),
        ..Head::default()
    };
    learn(&mut head, &run);
    let mut outcomes: BTreeMap<_, _> =
        part.cases.iter().map(|case| case.id.clone()).zip(run.outcomes).collect();
    for case in &set.cases {
        if let Some(why) = &case.cannot_run {
            outcomes.insert(case.id.clone(), Outcome::of(Seen::Skipped(why.clone())));
        }
    }
    Ok(Section { head, outcomes })
}

/// The rulebook's own answers, as a subject that implements it would give them.
fn model(cpu: &vmcb::Cpu, set: &Set) -> Vec<Outcome> {
    let limits = Limits::compile(cpu, Policy::VirtualCpu);
    let answer = |case: &crate::case::Case| {
        if let Some(why) = &case.cannot_run {
            return Seen::Skipped(why.clone());
        }
        let verdict = verdict::expected(set, case, &limits);
        match verdict::refusal(&verdict) {
            None if verdict.is_accepted() => Seen::Ran,
            None => Seen::Skipped("the rulebook does not decide it".to_owned()),
            Some(vmcb::Outcome::InvalidOpcode) => Seen::Fault { vector: 6, error: 0 },
            Some(vmcb::Outcome::GeneralProtection) => Seen::Fault { vector: 13, error: 0 },
            Some(vmcb::Outcome::Busy) => Seen::Busy,
            Some(vmcb::Outcome::IdleRequired) => Seen::IdleRequired,
            Some(vmcb::Outcome::InvalidPmc) => Seen::InvalidPmc,
            Some(_) => Seen::Invalid,
        }
    };
    set.cases.iter().map(|case| Outcome::of(answer(case))).collect()
}

/// Creates a folder for what a machine boots. It is removed when the value is dropped. Programs are started from it, so
/// nobody else can write to it.
///
/// # Errors
/// If it cannot be created.
pub fn folder() -> Result<TempDir, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let private = std::fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("nsvm-lab-").permissions(private).tempdir();
    folder.map_err(|error| Error::file(&std::env::temp_dir())(error))
}
