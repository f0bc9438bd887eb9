//! Results against the rulebook, against the list of expected differences, and against what is predicted.

use crate::case::{Case, Set};
use crate::expected::{self, CaseFacts};
use crate::outcome::{Answer, Outcome, Seen};
use crate::protocol::{KVM_MEMORY, memory};
use crate::report::{Agreement, CaseReport, Expected, Row};
use crate::results::{Head, Results, Section, answer_name, compress};
use crate::sets::{self, killer, unstable};
use crate::verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use vmcb::{Cpu, Decision, Limits, Policy, Verdict};
use vmcb_implementations::{Answer as Predicted, Implementation, Layer, Version, predict};

/// What came of a comparison.
#[derive(Default)]
pub struct Comparison {
    /// For the report: one for each section.
    pub rows: Vec<Row>,
    /// Differences that no row of the list explains, those of one sort together.
    pub unlisted: Vec<Unlisted>,
    /// Rows of the list that explained nothing, a line each.
    pub stale: Vec<String>,
    /// Of the predicted answers, how many came out and how many did not, by section.
    pub predicted: Vec<(usize, usize)>,
    /// Ids in the results that the set does not have.
    pub unknown: usize,
}

impl Comparison {
    /// Whether every difference is listed and every row of the list still holds.
    #[must_use]
    pub fn is_as_listed(&self) -> bool {
        self.unlisted.is_empty() && self.stale.is_empty()
    }
}

/// Differences of one subject that no row of the list explains: the same answer, and the same rules broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unlisted {
    /// Who differs.
    pub subject: String,
    /// What it did, in people's words.
    pub answer: String,
    /// Its outcomes as the results have them.
    pub outcomes: BTreeSet<String>,
    /// The rules by which the rulebook refuses these; none where it accepts them.
    pub rules: Vec<&'static str>,
    /// The cases.
    pub ids: BTreeSet<String>,
}

impl fmt::Display for Unlisted {
    /// All but the subject: `accepted, where the rulebook refuses by sav-cr4-mbz: 38 cases`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)?;
        // Several say too little of each case to be of use.
        if self.outcomes.len() == 1 {
            write!(f, " (`{}`)", self.outcomes.iter().map(String::as_str).collect::<String>())?;
        }
        match &self.rules[..] {
            [] => write!(f, ", where the rulebook accepts")?,
            rules => write!(f, ", where the rulebook refuses by {}", rules.join(", "))?,
        }
        let cases = self.ids.len();
        write!(f, ": {cases} case{}", if cases == 1 { "" } else { "s" })
    }
}

impl Unlisted {
    /// The cases in few words. Families with the same members share one: `flip.{long64,pae}.cr4#0,11`.
    #[must_use]
    pub fn cases(&self) -> Vec<String> {
        // What stands around the second part of a stem, and the numbers: to those second parts.
        let mut families: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let mut others = Vec::new();
        for group in compress(self.ids.iter().map(String::as_str)) {
            let split = group.split_once('#').and_then(|(stem, numbers)| {
                let (first, rest) = stem.split_once('.')?;
                let (base, rest) = rest.split_once('.').unwrap_or((rest, ""));
                let end = if rest.is_empty() { format!("#{numbers}") } else { format!(".{rest}#{numbers}") };
                Some(((first.to_owned(), end), base.to_owned()))
            });
            match split {
                Some((around, base)) => families.entry(around).or_default().push(base),
                None => others.push(group),
            }
        }
        let families = families.into_iter().map(|((first, end), bases)| match &bases[..] {
            [base] => format!("{first}.{base}{end}"),
            _ => format!("{first}.{{{}}}{end}", bases.join(",")),
        });
        families.chain(others).collect()
    }
}

/// Compares each section. Rows of the list are held to be stale only where `whole` says that these are all cases of
/// their set.
#[must_use]
pub fn compare(set: &Set, results: &Results, list: &expected::Expected, whole: bool) -> Comparison {
    let mut comparison = Comparison::default();
    let cases: BTreeMap<&str, &Case> = set.cases.iter().map(|case| (case.id.as_str(), case)).collect();
    for section in &results.sections {
        one_section(set, &cases, section, list, whole, &mut comparison);
    }
    comparison
}

/// Compares results of any sets, each section with its own set. Rows of the list are held to be stale only by sections
/// that are whole.
///
/// # Errors
/// A section's set is not one of this build's.
pub fn compare_all(results: Results, list: &expected::Expected) -> Result<Comparison, sets::Error> {
    let mut by_set: BTreeMap<String, Results> = BTreeMap::new();
    for section in results.sections {
        by_set.entry(section.head.set.clone()).or_default().sections.push(section);
    }
    let mut all = Comparison::default();
    for (name, found) in by_set {
        let set = sets::set(&name)?;
        let whole = found.sections.iter().all(|section| section.outcomes.len() == set.cases.len());
        let one = compare(&set, &found, list, whole);
        all.rows.extend(one.rows);
        all.unlisted.extend(one.unlisted);
        all.stale.extend(one.stale);
        all.predicted.extend(one.predicted);
        all.unknown += one.unknown;
    }
    Ok(all)
}

fn one_section(
    set: &Set,
    cases: &BTreeMap<&str, &Case>,
    section: &Section,
    list: &expected::Expected,
    whole: bool,
    comparison: &mut Comparison,
) {
    let head = &section.head;
    let limits = match Cpu::parse(&head.cpu) {
        Ok(cpu) if head.subject == "model" => Limits::compile(&cpu, Policy::VirtualCpu),
        _ => verdict::limits(&head.cpuid),
    };
    let version = version(&head.version);
    let layers = layers(section, &limits);
    let mut row = Row { head: head.clone(), cases: Vec::with_capacity(section.outcomes.len()) };
    let mut facts = Vec::with_capacity(section.outcomes.len());
    let (mut right, mut wrong) = (0, 0);
    let mut unlisted: BTreeMap<(Vec<&'static str>, String), Unlisted> = BTreeMap::new();
    for (id, outcome) in &section.outcomes {
        let Some(case) = cases.get(id.as_str()) else {
            comparison.unknown += 1;
            continue;
        };
        let judged = verdict::expected(set, case, &limits);
        let fact = CaseFacts::new(set, case, &judged);
        let agreement = agreement(&judged, &fact, outcome);
        let explained = version.and_then(|version| list.explain(&head.subject, version, &fact, outcome));
        if fact.differs(outcome) && explained.is_none() {
            let rules: Vec<_> = fact.broken.iter().map(|rule| rule.id()).collect();
            let answer = answer_name(outcome.answer());
            let group = unlisted.entry((rules.clone(), answer.clone())).or_insert_with(|| Unlisted {
                subject: section.head.label(),
                answer,
                outcomes: BTreeSet::new(),
                rules,
                ids: BTreeSet::new(),
            });
            group.outcomes.insert(outcome.to_string());
            group.ids.insert(id.clone());
        }
        let prediction = layers.as_deref().and_then(|layers| predicted(head, layers, set, case, outcome));
        match prediction {
            Some(true) => right += 1,
            Some(false) => wrong += 1,
            None => {}
        }
        row.cases.push(CaseReport {
            id: id.clone(),
            rules: concerned(&judged),
            expected: expected(&judged),
            outcome: outcome.clone(),
            agreement,
            reason: case.meaningless.clone().or_else(|| explained.map(|row| row.why.clone())),
            prediction,
            layer: layer(section, outcome),
        });
        facts.push((fact, outcome.clone()));
    }
    if whole && let Some(version) = version {
        let stale = list.stale(&head.subject, version, &facts);
        comparison.stale.extend(stale.into_iter().map(|row| format!("{}: {row}", section.head.label())));
    }
    comparison.unlisted.extend(unlisted.into_values());
    comparison.predicted.push((right, wrong));
    comparison.rows.push(row);
}

/// The rules that a case is about: those that are met, else those that are not decided. Where VMRUN reads a page that
/// is not ours most rules are not decided, and the case is about none of them.
fn concerned(verdict: &Verdict) -> Vec<&'static str> {
    const MOST: usize = 4;
    let met = verdict.broken().union(verdict.unstated());
    let rules = if met.is_empty() { verdict.unknown() } else { met };
    if rules.len() > MOST && met.is_empty() {
        return Vec::new();
    }
    rules.iter().map(|rule| rule.id()).collect()
}

fn expected(judged: &Verdict) -> Expected {
    match verdict::refusal(judged) {
        Some(outcome) => Expected::Refuse(outcome),
        None if judged.is_accepted() => Expected::Accept,
        None => Expected::Undecided,
    }
}

fn agreement(verdict: &Verdict, facts: &CaseFacts, outcome: &Outcome) -> Agreement {
    match outcome.answer() {
        Answer::Skipped => Agreement::Skipped,
        _ if !facts.compared => Agreement::NotComparable,
        Answer::Broken => Agreement::Broken,
        _ if facts.differs(outcome) => Agreement::Differs,
        _ if verdict.decision() == Decision::Undecided => Agreement::NotComparable,
        _ => Agreement::Agrees,
    }
}

/// Kernels are named `6.1.0-56-amd64 (6.1.192-2)`: the package in brackets says which release it is, the name may not.
/// Results of a subject whose version cannot be read are explained by no row.
fn version(text: &str) -> Option<Version> {
    let package = text.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    package.or_else(|| text.split(' ').next()?.parse().ok())
}

/// The layers from the top, where all are implementations that predictions exist for.
///
/// What CPU a layer below offers is not in the results: it is taken to offer what the payload saw.
fn layers<'a>(section: &Section, limits: &'a Limits) -> Option<Vec<Layer<'a>>> {
    let head = &section.head;
    let top = Layer::new(Implementation::from_name(&head.subject)?, version(&head.version)?, limits);
    let mut layers = vec![if head.subject == "kvm" { top.with_memory(KVM_MEMORY) } else { top }];
    if let Some(below) = &head.below {
        let (name, rest) = below.split_once(' ')?;
        let below = rest.split(',').next()?;
        layers.push(Layer::new(Implementation::from_name(name)?, version(below)?, limits));
    }
    Some(layers)
}

/// Whether what is predicted came out; nothing where nothing is predicted or the case was not run.
fn predicted(head: &Head, layers: &[Layer<'_>], set: &Set, case: &Case, outcome: &Outcome) -> Option<bool> {
    let environment = verdict::environment(set, case);
    let answer = outcome.answer();
    if answer == Answer::Skipped || case.meaningless.is_some() {
        return None;
    }
    let is_fault = |id: &&str| id.starts_with("pre-");
    let came_out = match predict(layers, &set.page(case), &environment).answer {
        // VMRUN reads another page than ours: only what comes before is predicted.
        Predicted::Refuses { by, .. } if case.rax != memory::VMCB && !by.iter().all(is_fault) => None,
        Predicted::Accepts | Predicted::Stops { .. } if case.rax != memory::VMCB => None,
        // How a guest ends that VMRUN lets in is not predicted; of what kills a subject there is a list.
        Predicted::Accepts
            if answer == Answer::Broken && killer(&head.subject, &head.version, &case.id).is_some() =>
        {
            None
        }
        Predicted::Accepts => Some(answer == Answer::Accepted),
        Predicted::Refuses { .. } => Some(matches!(answer, Answer::Refused(_))),
        Predicted::Stops { .. } => Some(answer == Answer::Broken),
        Predicted::Unknown { .. } => None,
    };
    // What changes from run to run proves no prediction wrong.
    came_out.filter(|right| *right || unstable(&head.subject, &head.version, &case.id).is_none())
}

/// Who answered, where it can be told.
///
/// A nested hypervisor that refuses by itself leaves the save area alone, or prints its condition. Where neither is so it
/// had accepted, and what it ran on refused the VMCB that it had built.
fn layer(section: &Section, outcome: &Outcome) -> Option<String> {
    let below = section.head.below.as_deref().and_then(|below| below.split(' ').next());
    match (&outcome.seen, below) {
        (Seen::Skipped(_), _) => None,
        (_, None) => Some(section.head.subject.clone()),
        (Seen::Invalid | Seen::Invalid32, Some(below)) if outcome.by.is_none() && outcome.left.save => {
            Some(below.to_owned())
        }
        // Faults of VMRUN in L1 are the hypervisor's doing.
        (Seen::Invalid | Seen::Invalid32 | Seen::Fault { .. }, Some(_)) => Some(section.head.subject.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_the_release_that_its_package_names() {
        let release = |text| version(text).map(|version| version.to_string());
        assert_eq!(release("6.1.0-56-amd64 (6.1.192-2)").as_deref(), Some("6.1.192"));
        assert_eq!(release("6.12.95+deb12-amd64 (6.12.95-1~bpo12+1)").as_deref(), Some("6.12.95"));
        assert_eq!(release("7.2.22").as_deref(), Some("7.2.22"));
        assert_eq!(release("6.1.0-56-amd64 (built here)").as_deref(), Some("6.1"));
        assert_eq!(release("unknown"), None);
    }

    #[test]
    fn unlisted_differences_take_few_words() {
        let ids = [
            "flip.long64.cr4#0",
            "flip.long64.cr4#1",
            "flip.np64.cr4#0",
            "flip.np64.cr4#1",
            "flip.pae.cr4#0",
            "eventinj.long64#1612",
            "eventinj.v86#1612",
            "pair.a+b",
            "row.x",
        ];
        let mut unlisted = Unlisted {
            subject: "bochs 2.7".to_owned(),
            answer: "accepted".to_owned(),
            outcomes: BTreeSet::from(["ran".to_owned()]),
            rules: vec![vmcb::Rule::SavCr4Mbz.id()],
            ids: ids.map(str::to_owned).into(),
        };
        assert_eq!(
            unlisted.cases(),
            [
                "eventinj.{long64,v86}#1612",
                "flip.pae.cr4#0",
                "flip.{long64,np64}.cr4#0-1",
                "pair.a+b",
                "row.x"
            ]
        );
        assert_eq!(
            unlisted.to_string(),
            "accepted (`ran`), where the rulebook refuses by sav-cr4-mbz: 9 cases"
        );
        unlisted.outcomes.insert("took".to_owned());
        unlisted.rules.clear();
        unlisted.ids = BTreeSet::from(["row.x".to_owned()]);
        assert_eq!(unlisted.to_string(), "accepted, where the rulebook accepts: 1 case");
    }
}
