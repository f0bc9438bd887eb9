//! Reads the rows of `cases/`, as `cases/README.md` describes them.
//!
//! Nothing here knows a rule: a row names CPU, environment, pages and what is expected.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unreachable_pub, reason = "a module that several tests include is public to each")]

pub mod frozen;
pub mod generate;
pub mod random;
pub mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use vmcb::layout::{Field, VMCB, VMSA};
use vmcb::{
    Answer, Cpu, Environment, Host, Input, KnownPage, Limits, Phase, Policy, Rule, RuleSet, Verdict, Vmsa,
    judge,
};

/// The directory of the rows.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases")
}

/// What a row expects: rules by answer, in the order of the rulebook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    pub broken: RuleSet,
    pub unstated: RuleSet,
    pub unknown: RuleSet,
}

impl Expected {
    pub fn of(verdict: &Verdict) -> Self {
        Self { broken: verdict.broken(), unstated: verdict.unstated(), unknown: verdict.unknown() }
    }

    /// Whatever the answer.
    pub fn all(self) -> RuleSet {
        self.broken.union(self.unstated).union(self.unknown)
    }
}

/// One row.
pub struct Case {
    pub id: String,
    /// `file:line`.
    pub place: String,
    /// The CPU with its names written out.
    pub cpu_text: String,
    pub cpu: Cpu,
    pub limits: Limits,
    pub phase: Phase,
    /// Item by item, names written out; a later item has taken the place of an earlier one.
    pub environment: BTreeMap<String, String>,
    pub host: Environment<'static>,
    pub vmcb: KnownPage,
    pub vmsa: Option<KnownPage>,
    pub expected: Expected,
    pub source: String,
}

impl Case {
    /// The environment with this case's VMSA.
    pub fn environment(&self) -> Environment<'_> {
        match &self.vmsa {
            Some(page) => self.host.with_vmsa(Vmsa::Known(page)),
            None => self.host,
        }
    }

    pub fn judge(&self, limits: &Limits) -> Verdict {
        judge(&self.vmcb, self.phase, limits, &self.environment())
    }
}

/// All rows of all files, in the order of the files' names.
///
/// # Panics
/// With `file:line` and what is wrong there, for all rows that are wrong.
pub fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| match read_all(&directory()) {
        Ok(cases) => cases,
        Err(errors) => panic!("bad rows:\n{}", errors.join("\n")),
    });
    &CASES
}

/// Reads `bases.txt` and then every other file of the directory.
pub fn read_all(directory: &Path) -> Result<Vec<Case>, Vec<String>> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| vec![format!("{path:?}: {e}")]);
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .map_err(|e| vec![format!("{directory:?}: {e}")])?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| path.file_name().is_some_and(|name| name != "bases.txt"))
        .collect();
    paths.sort();
    let mut reader = Reader::default();
    reader.bases("bases.txt", &read(&directory.join("bases.txt"))?);
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        reader.rows(&name, &read(&path)?);
    }
    if reader.errors.is_empty() { Ok(reader.cases) } else { Err(reader.errors) }
}

/// What has been read so far.
#[derive(Default)]
pub struct Reader {
    cpus: BTreeMap<String, String>,
    environments: BTreeMap<String, String>,
    bases: BTreeMap<String, String>,
    pub cases: Vec<Case>,
    pub errors: Vec<String>,
}

impl Reader {
    /// Definitions: `cpu NAME = ...`, `environment NAME = ...`, `base NAME = ...`.
    pub fn bases(&mut self, file: &str, text: &str) {
        for (place, line) in lines(file, text) {
            if let Err(error) = self.definition(line) {
                self.errors.push(format!("{place}: {error}"));
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
            _ => pages(&body).map(|_| ())?,
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
                Ok(case) if self.cases.iter().any(|other| other.id == case.id) => {
                    self.errors.push(format!("{place}: the id `{}` is there already", case.id));
                }
                Ok(case) => self.cases.push(case),
                Err(error) => self.errors.push(format!("{place}: {error}")),
            }
        }
    }

    fn row(&self, place: &str, line: &str) -> Result<Case, String> {
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
        let base = self.bases.get(base).ok_or(format!("no base is named `{base}`"))?;
        let (vmcb, vmsa) = pages(&format!("{base} {patches}"))?;
        Ok(Case {
            id: id.to_owned(),
            place: place.to_owned(),
            cpu_text,
            cpu,
            limits: Limits::compile(&cpu, host.policy),
            phase: host.phase,
            environment: host.items,
            host: host.environment,
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

/// Decimal, or hexadecimal after 0x.
pub fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no number of 64 bits"))
}

struct HostSpec {
    environment: Environment<'static>,
    phase: Phase,
    policy: Policy,
    vmsa_given: bool,
    items: BTreeMap<String, String>,
}

/// The facts of [`Host`] that have a name here: its constants' names in kebab case, and `cpl`.
pub fn fact(name: &str) -> Option<Host> {
    if name == "cpl" {
        return Some(Host::CPL0.union(Host::CPL1));
    }
    let &(position, ..) =
        Host::NAMES.iter().find(|(_, known, _)| known.to_lowercase().replace('_', "-") == name)?;
    Some(Host::from_bits(1 << position)).filter(|&bit| bit != Host::CPL0 && bit != Host::CPL1)
}

pub const INPUTS: [(&str, Input); 8] = [
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

/// The two pages: all zero but for the items. There is a VMSA when an item names a field of it.
fn pages(text: &str) -> Result<(KnownPage, Option<KnownPage>), String> {
    let mut vmcb = KnownPage::all(&[0; 4096]);
    let mut vmsa = None;
    for item in text.split_whitespace().filter(|&item| item != "-") {
        let (name, value) = item.split_once('=').ok_or(format!("`{item}`: expected FIELD=VALUE"))?;
        let (page, place) = match name.strip_prefix("vmsa.") {
            Some(name) => (vmsa.get_or_insert(KnownPage::all(&[0; 4096])), place(&VMSA, name)),
            None => (&mut vmcb, place(&VMCB, name)),
        };
        let (offset, size) = place?;
        let (value, mask) = match value.split_once('/') {
            Some((value, mask)) => (number(value)?, number(mask)?),
            None if value == "?" => (0, 0),
            None => (number(value)?, u64::MAX),
        };
        if size < 8 && value >> (8 * size) != 0 {
            return Err(format!("`{item}`: the field has {size} bytes"));
        }
        if value & !mask != 0 {
            return Err(format!("`{item}`: the value has bits outside the mask"));
        }
        page.forget(offset, size);
        page.learn(offset, size, value, mask);
    }
    Ok((vmcb, vmsa))
}

/// `FIELD`, `SEGMENT.PART` or `OFFSET:SIZE`, to offset and size in bytes.
fn place(fields: &[Field], name: &str) -> Result<(u16, u16), String> {
    if let Some((offset, size)) = name.split_once(':') {
        let (offset, size) = (number(offset)?, number(size)?);
        return match (u16::try_from(offset), size) {
            (Ok(start), 1 | 2 | 4 | 8) if offset + size <= 4096 => Ok((start, size as u16)),
            _ => Err(format!("`{name}`: no 1, 2, 4 or 8 bytes of a page")),
        };
    }
    let find = |name: &str| {
        let mut found = fields.iter().filter(|field| field.name == name && !field.is_reserved());
        found.next().ok_or(format!("no field is named `{name}`"))
    };
    if let Some((segment, part)) = name.split_once('.') {
        let field = find(segment)?;
        let (at, size) = match part {
            "selector" => (0, 2),
            "attributes" => (2, 2),
            "limit" => (4, 4),
            "base" => (8, 8),
            _ => return Err(format!("`{part}` is no part of a segment register")),
        };
        return if field.size == 16 {
            Ok((field.offset + at, size))
        } else {
            Err(format!("`{segment}` is no segment register"))
        };
    }
    let field = find(name)?;
    match field.size {
        1 | 2 | 4 | 8 => Ok((field.offset, field.size)),
        size => Err(format!("`{name}` has {size} bytes: name a part, or OFFSET:SIZE")),
    }
}
