//! `nsvm compare`: every VMCB that one virtual CPU accepts and another does not, each shown by a smallest one;
//! whether a guest may move; the CPU that is safe for all.

mod difference;
mod files;
mod human;
mod json;
mod safe;

use crate::cli::{self, Format};
use crate::error::Error;
use crate::{Status, cpu, near};
use difference::Pair;
use safe::Safe;
use std::io::Write;
use vmcb::{Contrast, Cpu, Feature, Limits};

/// A CPU of the comparison.
struct Named {
    /// As given.
    text: String,
    cpu: Cpu,
    limits: Limits,
}

/// All that is compared.
struct Comparison {
    cpus: Vec<Named>,
    pairs: Vec<Pair>,
    migrations: Vec<Migration>,
    safe: Safe,
}

/// Whether a guest that was started on one CPU may go on on another.
struct Migration {
    from: usize,
    to: usize,
    answer: May,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    Yes,
    /// Only what it has no reason to do is refused: bits of features that it does not see.
    IfUnused,
    No,
    Undecided,
}

impl May {
    const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::IfUnused => "if-unused",
            Self::No => "no",
            Self::Undecided => "undecided",
        }
    }
}

/// `A`, `B`: how the CPUs are called in the text.
fn letter(index: usize) -> char {
    u8::try_from(index).ok().and_then(|index| b'A'.checked_add(index)).map_or('?', char::from)
}

/// `a, b and c`.
fn list<T: AsRef<str>>(words: &[T]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.as_ref().to_owned(),
        Some((last, rest)) => {
            let rest: Vec<_> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", rest.join(", "), last.as_ref())
        }
    }
}

pub(crate) fn run(arguments: &cli::Compare, out: &mut dyn Write) -> Result<Status, Error> {
    let policy = arguments.policy.into();
    let mut cpus = Vec::new();
    for text in &arguments.cpus {
        let cpu = cpu::parse(text)?;
        cpus.push(Named { text: near::clean(text), cpu, limits: Limits::compile(&cpu, policy) });
    }
    let mut pairs = Vec::new();
    for b in 1..cpus.len() {
        for a in 0..b {
            pairs.extend(Pair::of(&cpus, a, b));
        }
    }
    pairs.sort_by_key(|pair| (pair.a, pair.b));
    let migrations = pairs.iter().flat_map(|pair| [(pair, pair.a, pair.b), (pair, pair.b, pair.a)]);
    let migrations = migrations.map(|(pair, from, to)| Migration::of(pair, from, to)).collect();
    let safe = Safe::of(&cpus, policy);
    let comparison = Comparison { cpus, pairs, migrations, safe };
    let files = match &arguments.witness {
        Some(directory) => files::write(&comparison, directory)?,
        None => Vec::new(),
    };
    match arguments.format {
        Format::Human => human::show(&comparison, &files, out)?,
        Format::Json => json::show(&comparison, &files, out)?,
    }
    Ok(comparison.status())
}

impl Comparison {
    fn status(&self) -> Status {
        let status = |pair: &Pair| match (pair.differences.is_empty(), pair.open.is_empty()) {
            (false, _) => Status::Refused,
            (true, false) => Status::Undecided,
            (true, true) => Status::Fine,
        };
        self.pairs.iter().map(status).fold(Status::Fine, Status::and)
    }
}

impl Migration {
    /// As if the guest saw the other CPU from then on: where its own CPU moves with it, nothing changes.
    fn of(pair: &Pair, from: usize, to: usize) -> Self {
        let (here, there) = (letter(from), letter(to));
        let shown = || pair.differences.iter().filter(|difference| difference.contrast == Contrast::Verdict);
        let lost: Vec<_> = shown().filter(|difference| difference.refusing == to).collect();
        let gained = shown().any(|difference| difference.accepting == to);
        let rules = |used: bool| {
            let mut ids: Vec<String> = Vec::new();
            for difference in lost.iter().filter(|difference| difference.unseen.is_empty() == used) {
                if !ids.iter().any(|id| id == difference.rule.id()) {
                    ids.push(difference.rule.id().to_owned());
                }
            }
            ids
        };
        let unseen: Vec<&str> = {
            let mut features: Vec<Feature> =
                lost.iter().flat_map(|difference| difference.unseen.clone()).collect();
            features.sort_unstable();
            features.dedup();
            features.into_iter().map(Feature::name).collect()
        };
        let missing: Vec<String> = pair.open.iter().map(|open| open.fact.clone()).collect();
        let (answer, why) = if !rules(true).is_empty() {
            (May::No, format!("{there} does not accept all that {here} accepts: {}", list(&rules(true))))
        } else if !missing.is_empty() {
            (May::Undecided, format!("it depends on what is not known: {}", list(&missing)))
        } else if !lost.is_empty() {
            let why = format!(
                "if it leaves alone what it does not see on {here}: {} ({})",
                list(&unseen),
                list(&rules(false))
            );
            (May::IfUnused, why)
        } else if gained {
            (May::Yes, format!("{there} accepts every VMCB that {here} accepts, and more"))
        } else {
            (May::Yes, format!("{there} accepts the same VMCBs as {here}"))
        };
        let said = match answer {
            May::Yes => "yes:",
            May::IfUnused => "yes,",
            May::No => "no:",
            May::Undecided => "undecided:",
        };
        let text = format!("a guest started on {here} may move to {there}? {said} {why}");
        Self { from, to, answer, text }
    }
}
