//! Reads the rows of `cases/`, as `cases/README.md` describes them.

use crate::page::{number, pages};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use vmcb::{
    Answer, Cpu, Environment, Host, Input, KnownPage, Limits, Phase, Policy, Rule, RuleSet, Verdict, Vmsa,
    judge,
};

/// What a row expects: rules by answer, in the order of the rulebook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Those that refuse.
    pub broken: RuleSet,
    /// Those that are broken without the manual saying what VMRUN does.
    pub unstated: RuleSet,
    /// Those that are not decided because something is not known.
    pub unknown: RuleSet,
}

impl Expected {
    /// The rules that a verdict names.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Self {
        Self { broken: verdict.broken(), unstated: verdict.unstated(), unknown: verdict.unknown() }
    }

    /// Whatever the answer.
    #[must_use]
    pub fn all(self) -> RuleSet {
        self.broken.union(self.unstated).union(self.unknown)
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name for ever.
    pub id: String,
    /// `file:line`.
    pub place: String,
    /// The CPU with its names written out.
    pub cpu_text: String,
    /// The CPU.
    pub cpu: Cpu,
    /// The CPU compiled, by the row's policy.
    pub limits: Limits,
    /// When the VMCB was seen.
    pub phase: Phase,
    /// Item by item, names written out; a later item has taken the place of an earlier one.
    pub environment: BTreeMap<String, String>,
    /// The environment without the VMSA.
    pub host: Environment<'static>,
    /// Name of the base that it starts from.
    pub base: String,
    /// The patches as they are written: [`items`](crate::items) takes them apart.
    pub patches: String,
    /// The base with the patches.
    pub vmcb: KnownPage,
    /// The VMSA, if items name its fields and the environment does not say otherwise.
    pub vmsa: Option<KnownPage>,
    /// The verdict.
    pub expected: Expected,
    /// Where the manual says so.
    pub source: String,
}

/// A VMCB that rows start from.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its name.
    pub name: String,
    /// The VMCB.
    pub vmcb: KnownPage,
    /// The VMSA, if items name its fields.
    pub vmsa: Option<KnownPage>,
}

/// What was read without an error.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// In the order of their definitions.
    pub bases: Vec<Base>,
    /// In the order of the files.
    pub cases: Vec<Case>,
}

/// A line that is no definition or no row, or a file that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRow {
    /// `file:line`, or the file's path.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for BadRow {}

impl Case {
    /// The environment with this case's VMSA.
    #[must_use]
    pub fn environment(&self) -> Environment<'_> {
        match &self.vmsa {
            Some(page) => self.host.with_vmsa(Vmsa::Known(page)),
            None => self.host,
        }
    }

    /// The verdict on it with these limits in the place of its own.
    pub fn judge(&self, limits: &Limits) -> Verdict {
        judge(&self.vmcb, self.phase, limits, &self.environment())
    }
}

/// Reads texts of the names and contents given: definitions if the name is `bases.txt`, else rows.
///
/// # Errors
/// All rows that are wrong.
pub fn read<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Rows, Vec<BadRow>> {
    let mut reader = Reader::default();
    for (name, text) in files {
        match (name.as_ref(), text.as_ref()) {
            (name @ BASES, text) => reader.bases(name, text),
            (name, text) => reader.rows(name, text),
        }
    }
    if reader.errors.is_empty() { Ok(reader.rows) } else { Err(reader.errors) }
}

/// Reads `bases.txt` and then every other `.txt` file of the directory, in the order of their names.
///
/// # Errors
/// All rows that are wrong, or the first file that cannot be read.
pub fn read_all(directory: &Path) -> Result<Rows, Vec<BadRow>> {
    let bad = |path: &Path, error: std::io::Error| {
        vec![BadRow { place: path.display().to_string(), what: error.to_string() }]
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|error| bad(directory, error))? {
        paths.push(entry.map_err(|error| bad(directory, error))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    // Definitions stand above what uses them.
    paths.sort_by_key(|path| (path.file_name().is_none_or(|name| name != BASES), path.clone()));
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, std::fs::read_to_string(&path).map_err(|error| bad(&path, error))?));
    }
    read(&files)
}

/// The file of definitions.
const BASES: &str = "bases.txt";

/// What has been read so far.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    cpus: BTreeMap<String, String>,
    environments: BTreeMap<String, String>,
    bases: BTreeMap<String, String>,
    /// What could be read.
    pub rows: Rows,
    ids: BTreeSet<String>,
    limits: Vec<(String, Policy, Limits)>,
    /// What could not.
    pub errors: Vec<BadRow>,
}

impl Reader {
    /// Definitions: `cpu NAME = ...`, `environment NAME = ...`, `base NAME = ...`.
    pub fn bases(&mut self, file: &str, text: &str) {
        for (place, line) in lines(file, text) {
            if let Err(what) = self.definition(line) {
                self.errors.push(BadRow { place, what });
            }
        }
    }

    fn definition(&mut self, line: &str) -> Result<(), String> {
        let (head, body) = line.split_once(" = ").ok_or("expected `KIND NAME = ...`")?;
        let (kind, name) = head.trim().split_once(' ').ok_or("expected `KIND NAME = ...`")?;
        let body = match kind {
            "cpu" => expand(&self.cpus, body, ",")?,
            "environment" => expand(&self.environments, body, " ")?,
            "base" => expand(&self.bases, body, " ")?,
            _ => return Err(format!("`{kind}` is none of cpu, environment, base")),
        };
        match kind {
            "cpu" => Cpu::parse(&body).map(|_| ()).map_err(|e| e.to_string())?,
            "environment" => environment(&body).map(|_| ())?,
            _ => {
                let (vmcb, vmsa) = pages(&body)?;
                self.rows.bases.push(Base { name: name.trim().to_owned(), vmcb, vmsa });
            }
        }
        let named = match kind {
            "cpu" => &mut self.cpus,
            "environment" => &mut self.environments,
            _ => &mut self.bases,
        };
        match named.insert(name.trim().to_owned(), body) {
            None => Ok(()),
            Some(_) => Err(format!("`{kind} {name}` is defined twice")),
        }
    }

    /// Rows of nine columns.
    pub fn rows(&mut self, file: &str, text: &str) {
        for (place, line) in lines(file, text) {
            match self.row(&place, line) {
                Ok(case) if self.ids.insert(case.id.clone()) => self.rows.cases.push(case),
                Ok(case) => {
                    self.errors
                        .push(BadRow { place, what: format!("the id `{}` is there already", case.id) });
                }
                Err(what) => self.errors.push(BadRow { place, what }),
            }
        }
    }

    /// The CPU compiled. Many rows have the same, and compiling costs more than reading a row.
    fn limits(&mut self, text: &str, cpu: &Cpu, policy: Policy) -> Limits {
        let known = self.limits.iter().find(|(of, by, _)| of == text && *by == policy);
        if let Some((.., limits)) = known {
            return limits.clone();
        }
        let limits = Limits::compile(cpu, policy);
        self.limits.push((text.to_owned(), policy, limits.clone()));
        limits
    }

    fn row(&mut self, place: &str, line: &str) -> Result<Case, String> {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [id, cpu, host, base, patches, broken, unstated, unknown, source] = columns[..] else {
            return Err(format!("{} columns where there must be 9", columns.len()));
        };
        if source.is_empty() || source == "-" {
            return Err("no source".to_owned());
        }
        let cpu_text = expand(&self.cpus, cpu, ",")?;
        let cpu = Cpu::parse(&cpu_text).map_err(|e| e.to_string())?;
        let host = environment(&expand(&self.environments, host, " ")?)?;
        let written = self.bases.get(base).ok_or(format!("no base is named `{base}`"))?;
        let (vmcb, vmsa) = pages(&format!("{written} {patches}"))?;
        let limits = self.limits(&cpu_text, &cpu, host.policy);
        Ok(Case {
            id: id.to_owned(),
            place: place.to_owned(),
            cpu_text,
            cpu,
            limits,
            phase: host.phase,
            environment: host.items,
            host: host.environment,
            base: base.to_owned(),
            patches: patches.to_owned(),
            vmcb,
            // The caller's word counts for more than the page.
            vmsa: vmsa.filter(|_| !host.vmsa_given),
            expected: Expected {
                broken: rules(broken)?,
                unstated: rules(unstated)?,
                unknown: rules(unknown)?,
            },
            source: source.to_owned(),
        })
    }
}

/// Lines that are neither empty nor a comment, with their places.
fn lines<'a>(file: &'a str, text: &'a str) -> impl Iterator<Item = (String, &'a str)> {
    text.lines()
        .enumerate()
        .map(move |(index, line)| (format!("{file}:{}", index + 1), line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Writes out a leading `@NAME`.
fn expand(named: &BTreeMap<String, String>, text: &str, separator: &str) -> Result<String, String> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let (name, changes) = rest.split_once(separator).unwrap_or((rest, ""));
    let body = named.get(name).ok_or(format!("`@{name}` is not defined"))?;
    Ok(if changes.is_empty() { body.clone() } else { format!("{body}{separator}{changes}") })
}

fn rules(text: &str) -> Result<RuleSet, String> {
    text.split(',')
        .map(str::trim)
        .filter(|&id| id != "-")
        .map(|id| Rule::from_id(id).ok_or(format!("`{id}` is no rule")))
        .collect()
}

struct HostSpec {
    environment: Environment<'static>,
    phase: Phase,
    policy: Policy,
    vmsa_given: bool,
    items: BTreeMap<String, String>,
}

/// The facts of [`Host`] that have a name here: its constants' names in kebab case, and `cpl`.
#[must_use]
pub fn fact(name: &str) -> Option<Host> {
    if name == "cpl" {
        return Some(Host::CPL0.union(Host::CPL1));
    }
    let &(position, ..) =
        Host::NAMES.iter().find(|(_, known, _)| known.to_lowercase().replace('_', "-") == name)?;
    Some(Host::from_bits(1 << position)).filter(|&bit| bit != Host::CPL0 && bit != Host::CPL1)
}

const INPUTS: [(&str, Input); 8] = [
    ("host-mode", Input::HostMode),
    ("host-msrs", Input::HostMsrs),
    ("vmcb-address", Input::VmcbAddress),
    ("pdptes", Input::Pdptes),
    ("u-cet", Input::UCet),
    ("vmsa", Input::Vmsa),
    ("rmp", Input::Rmp),
    ("sibling-thread", Input::SiblingThread),
];

fn environment(text: &str) -> Result<HostSpec, String> {
    let mut items = BTreeMap::new();
    for item in text.split_whitespace().filter(|&item| item != "-") {
        let (name, value) = item.split_once('=').ok_or(format!("`{item}`: expected NAME=VALUE"))?;
        items.insert(name.to_owned(), value.to_owned());
    }
    let mut spec = HostSpec {
        environment: Environment::unknown(),
        phase: Phase::Before,
        policy: Policy::VirtualCpu,
        vmsa_given: false,
        items,
    };
    for (name, value) in &spec.items {
        let unexpected = || format!("`{name}={value}`: unexpected value");
        let environment = spec.environment;
        if let Some((_, input)) = INPUTS.iter().find(|(known, _)| known == name && value == "taken") {
            spec.environment = environment.take_over(*input);
            spec.vmsa_given |= *input == Input::Vmsa;
            continue;
        }
        spec.environment = match (name.as_str(), value.as_str()) {
            ("phase", phase) => {
                spec.phase = match phase {
                    "before" => Phase::Before,
                    "after" => Phase::After,
                    "unknown" => Phase::Unknown,
                    _ => return Err(unexpected()),
                };
                environment
            }
            ("policy", policy) => {
                spec.policy = Policy::from_name(policy).ok_or_else(unexpected)?;
                environment
            }
            ("vmsa", "?") => {
                spec.vmsa_given = true;
                environment
            }
            ("vmcb-address" | "pdptes" | "u-cet", "?") => environment,
            ("vmcb-address", address) => environment.with_vmcb_address(number(address)?),
            ("u-cet", value) => environment.with_u_cet(number(value)?),
            ("pdptes", entries) => {
                let entries: Result<Vec<_>, _> = entries.split(',').map(number).collect();
                environment.with_pdptes(entries?.try_into().map_err(|_| unexpected())?)
            }
            ("cpl", ring @ ("0" | "1" | "2" | "3")) => {
                let ring = number(ring)?;
                let answer = |bit: u64| if ring >> bit & 1 == 1 { Answer::Yes } else { Answer::No };
                environment.with(Host::CPL0, answer(0)).with(Host::CPL1, answer(1))
            }
            (name, answer) => {
                let facts = fact(name).ok_or(format!("`{name}` is no fact about the host"))?;
                let answer = match answer {
                    "1" if name != "cpl" => Answer::Yes,
                    "0" if name != "cpl" => Answer::No,
                    "?" => Answer::Unknown,
                    "taken" => Answer::TakenOver,
                    _ => return Err(unexpected()),
                };
                environment.with(facts, answer)
            }
        };
    }
    Ok(spec)
}
