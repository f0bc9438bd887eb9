//! What is counted, in bounded memory, and put together in the order of the input.

use crate::follow::Followed;
use crate::judge::Broken;
use crate::vcpu::{KeyHasher, Vcpu, VcpuKey};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use vmcb::{Decision, Rule, RuleSet};
use vmcb_dump::trace::Event;

/// Virtual CPUs that are told apart; the lines of more are counted together.
pub const MOST_VCPUS: usize = 4096;
/// Conditions of KVM that are told apart; more are counted together.
pub const MOST_CONDITIONS: usize = 256;
/// Virtual CPUs that are found without a search.
const RECENT: usize = 16;
/// Bytes of a line that are kept.
const MOST_TEXT: usize = 512;

/// Why something counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// VMRUN refuses.
    Broken,
    /// The manual requires otherwise and does not say what VMRUN does.
    Required,
    /// KVM, or Xen, said that it refused.
    Refused,
    /// The exit code says that VMRUN refused.
    Exit,
}

/// Where an event stood that was to be injected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Source {
    /// EVENTINJ of VMCB12: `kvm_nested_vmenter`.
    Vmcb12,
    /// EVENTINJ of the VMCB that VMRUN was given: `kvm_entry` of newer kernels.
    Entry,
    /// What KVM was about to inject: `kvm_inj_virq`, `kvm_inj_exception`.
    Kvm,
}

/// A rule that was broken, or is required and was not met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleCount {
    /// The rule.
    pub rule: Rule,
    /// [`Standing::Broken`] or [`Standing::Required`].
    pub standing: Standing,
    /// It was an event of the host: of [`Source::Entry`] or [`Source::Kvm`].
    pub host: bool,
    /// How often.
    pub count: u64,
    /// The first line, counted from 1.
    pub line: u64,
    /// That line, shortened.
    pub text: String,
}

/// A condition that KVM or Xen named when it refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// Its own words.
    pub condition: String,
    /// Ids of the rules of which one is then broken.
    pub rules: &'static [&'static str],
    /// How often.
    pub count: u64,
    /// The first line, counted from 1.
    pub line: u64,
}

/// Events of one source, TYPE and VECTOR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Injected {
    /// How often.
    pub count: u64,
    /// Whether EVENTINJ may hold it, in a guest without SEV of which the mode is not known.
    pub decision: Decision,
    /// The first line, counted from 1.
    pub line: u64,
}

/// A line that breaks something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// The line, counted from 1.
    pub line: u64,
    /// Why it counts.
    pub standing: Standing,
    /// The rule's id, where there is one.
    pub rule: Option<&'static str>,
    /// The line, shortened.
    pub text: String,
    /// It is about an event of the host.
    pub host: bool,
}

/// What a scan found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Bytes read.
    pub bytes: u64,
    /// Lines read.
    pub lines: u64,
    /// Trace lines by event.
    pub trace: BTreeMap<Event, u64>,
    /// VMCBs dumped in a log.
    pub dumps: u64,
    /// Rules broken, and required and not met.
    pub rules: Vec<RuleCount>,
    /// Conditions that KVM or Xen named, in the order of their first lines.
    pub conditions: Vec<Condition>,
    /// Refusals whose condition is not in the list, which was full.
    pub more_conditions: u64,
    /// Events by source and bits 10:0 of EVENTINJ.
    pub injected: BTreeMap<(Source, u16), Injected>,
    /// Virtual CPUs, in the order of their first lines.
    pub vcpus: Vec<(VcpuKey, Vcpu)>,
    /// Trace lines of virtual CPUs that are not in the list, which was full.
    pub more_vcpus: u64,
    /// Exits of which the code says that VMRUN refused, by event.
    pub failed_exits: BTreeMap<Event, u64>,
    /// Events and dumps that are not decided.
    pub undecided: u64,
    /// The first lines that break something.
    pub findings: Vec<Finding>,
    /// All lines and rules that `findings` would list.
    pub found: u64,
    /// Marks of the tracer that it lost events.
    pub lost: u64,
    /// Trace lines of VMX; what is not SVM for certain is not judged then.
    pub vmx: u64,
    /// The first of them.
    pub vmx_line: Option<u64>,
    /// What became of injected events, if that was asked.
    pub events: Option<Followed>,
    limit: usize,
    index: HashMap<VcpuKey, usize, BuildHasherDefault<KeyHasher>>,
    /// Virtual CPUs of the last lines and their places in `vcpus`, by the low bits of their numbers.
    recent: [Option<(VcpuKey, usize)>; RECENT],
    host_undecided: u64,
    refused: bool,
}

impl Report {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: 0,
            lines: 0,
            trace: BTreeMap::new(),
            dumps: 0,
            rules: Vec::new(),
            conditions: Vec::new(),
            more_conditions: 0,
            injected: BTreeMap::new(),
            vcpus: Vec::new(),
            more_vcpus: 0,
            failed_exits: BTreeMap::new(),
            undecided: 0,
            findings: Vec::new(),
            found: 0,
            lost: 0,
            vmx: 0,
            vmx_line: None,
            events: None,
            limit,
            index: HashMap::default(),
            recent: [None; RECENT],
            host_undecided: 0,
            refused: false,
        }
    }

    /// Whether something is refused: by a rule, by KVM or Xen, or as an exit code says.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.rules.iter().any(|rule| rule.standing == Standing::Broken)
            || !self.conditions.is_empty()
            || !self.failed_exits.is_empty()
            || self.refused
    }

    /// Whether something is not decided.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        self.undecided > 0 || !self.rules.is_empty()
    }

    /// The counts of a virtual CPU; `None` where no more are told apart.
    #[inline]
    pub(crate) fn vcpu(&mut self, key: VcpuKey) -> Option<&mut Vcpu> {
        let place = key.number() as usize % RECENT;
        let index = match self.recent.get(place) {
            Some(&Some((recent, index))) if recent == key => index,
            _ => self.index_of(key)?,
        };
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = Some((key, index));
        }
        self.vcpus.get_mut(index).map(|(_, vcpu)| vcpu)
    }

    /// The place of a virtual CPU, which may be a new one.
    #[inline(never)]
    fn index_of(&mut self, key: VcpuKey) -> Option<usize> {
        let next = self.vcpus.len();
        match self.index.get(&key) {
            Some(&index) => Some(index),
            None if next < MOST_VCPUS => {
                self.index.insert(key, next);
                self.vcpus.push((key, Vcpu::default()));
                Some(next)
            }
            None => None,
        }
    }

    pub(crate) fn finding(&mut self, standing: Standing, rule: Option<Rule>, line: u64, text: &[u8]) {
        self.refused |= standing != Standing::Required;
        self.find(standing, rule, line, text, false);
    }

    fn find(&mut self, standing: Standing, rule: Option<Rule>, line: u64, text: &[u8], host: bool) {
        self.found += 1;
        let worth = self.findings.len() < self.limit
            || self.findings.get(self.limit.saturating_sub(1)).is_some_and(|last| line <= last.line);
        if worth && self.limit > 0 {
            let text = shorten(text);
            self.findings.push(Finding { line, standing, rule: rule.map(Rule::id), text, host });
            if self.findings.len() > self.limit * 2 + 64 {
                self.trim();
            }
        }
    }

    /// Keeps the findings that come first.
    fn trim(&mut self) {
        self.findings.sort();
        self.findings.truncate(self.limit);
    }

    pub(crate) fn broken(&mut self, broken: Broken, line: u64, text: &[u8]) {
        self.each(broken, line, text, false);
    }

    fn each(&mut self, broken: Broken, line: u64, text: &[u8], host: bool) {
        let all = [(Standing::Broken, broken.refusing), (Standing::Required, broken.unstated)];
        for (standing, rules) in all {
            for rule in rules_of(rules) {
                let count = RuleCount { rule, standing, host, count: 1, line, text: String::new() };
                self.count(count, || shorten(text));
                self.find(standing, Some(rule), line, text, host);
            }
        }
    }

    fn count(&mut self, new: RuleCount, text: impl FnOnce() -> String) {
        let same =
            |old: &&mut RuleCount| (old.rule, old.standing, old.host) == (new.rule, new.standing, new.host);
        match self.rules.iter_mut().find(same) {
            Some(old) => {
                old.count += new.count;
                if new.line < old.line {
                    old.line = new.line;
                    old.text = text();
                }
            }
            None => self.rules.push(RuleCount { text: text(), ..new }),
        }
    }

    pub(crate) fn condition(
        &mut self,
        condition: &str,
        rules: &'static [&'static str],
        line: u64,
        text: &[u8],
    ) {
        match self.conditions.iter_mut().find(|old| old.condition == condition) {
            Some(old) => old.add(1, line),
            None => {
                let condition = shorten(condition.as_bytes());
                self.add_condition(Condition { condition, rules, count: 1, line });
            }
        }
        let rule = if let [rule] = rules { Rule::from_id(rule) } else { None };
        self.finding(Standing::Refused, rule, line, text);
    }

    fn add_condition(&mut self, new: Condition) {
        let full = self.conditions.len() >= MOST_CONDITIONS;
        match self.conditions.iter_mut().find(|old| old.condition == new.condition) {
            Some(old) => old.add(new.count, new.line),
            None if !full => self.conditions.push(new),
            None => self.more_conditions += new.count,
        }
    }

    /// An event that is injected; of the host's ones, what it breaks counts too.
    pub(crate) fn inject(
        &mut self,
        source: Source,
        word: u32,
        (decision, broken): (Decision, Broken),
        line: u64,
        text: &[u8],
    ) {
        let new = Injected { count: 1, decision, line };
        let event = (source, word as u16 & 0x7FF);
        match self.injected.get_mut(&event) {
            Some(old) => old.add(new),
            None => _ = self.injected.insert(event, new),
        }
        let host = source != Source::Vmcb12;
        if decision == Decision::Undecided {
            *(if host { &mut self.host_undecided } else { &mut self.undecided }) += 1;
        }
        if host {
            self.each(broken, line, text, true);
        }
    }

    pub(crate) fn vmx(&mut self, line: u64) {
        self.vmx += 1;
        self.vmx_line.get_or_insert(line);
    }

    /// Takes over what was found in the lines that follow.
    pub(crate) fn merge(&mut self, part: Self) {
        let before = self.lines;
        self.bytes += part.bytes;
        self.lines += part.lines;
        self.dumps += part.dumps;
        self.more_conditions += part.more_conditions;
        self.more_vcpus += part.more_vcpus;
        self.undecided += part.undecided;
        self.host_undecided += part.host_undecided;
        self.found += part.found;
        self.refused |= part.refused;
        self.lost += part.lost;
        self.vmx += part.vmx;
        self.vmx_line = self.vmx_line.or(part.vmx_line.map(|line| line + before));
        for (event, count) in part.trace {
            *self.trace.entry(event).or_default() += count;
        }
        for (event, count) in part.failed_exits {
            *self.failed_exits.entry(event).or_default() += count;
        }
        for rule in part.rules {
            let text = rule.text.clone();
            self.count(RuleCount { line: rule.line + before, ..rule }, || text);
        }
        for condition in part.conditions {
            self.add_condition(Condition { line: condition.line + before, ..condition });
        }
        for (key, injected) in part.injected {
            let new = Injected { line: injected.line + before, ..injected };
            self.injected.entry(key).and_modify(|old| old.add(new)).or_insert(new);
        }
        for (key, new) in part.vcpus {
            match self.vcpu(key) {
                Some(old) => {
                    old.number = old.number.or(new.number);
                    old.lines += new.lines;
                    old.vmruns += new.vmruns;
                    old.events += new.events;
                    old.refused += new.refused;
                }
                None => self.more_vcpus += new.lines,
            }
        }
        self.findings
            .extend(part.findings.into_iter().map(|found| Finding { line: found.line + before, ..found }));
        self.trim();
    }

    /// Nothing more comes.
    pub(crate) fn settle(&mut self) {
        if self.vmx > 0 {
            // Which of the two wrote a line that does not say it is not known.
            self.rules.retain(|rule| !rule.host);
            self.injected.retain(|(source, _), _| *source == Source::Vmcb12);
            let before = self.findings.len();
            self.findings.retain(|finding| !finding.host);
            self.found -= (before - self.findings.len()) as u64;
        } else {
            self.undecided += self.host_undecided;
        }
        self.trim();
        // How the lines were found again is no part of what was found: it depends on the blocks.
        self.index.clear();
        self.recent = [None; RECENT];
        self.rules.sort_by_key(|rule| (rule.standing, std::cmp::Reverse(rule.count), rule.line, rule.host));
    }
}

impl Condition {
    fn add(&mut self, count: u64, line: u64) {
        self.count += count;
        self.line = self.line.min(line);
    }
}

impl Injected {
    fn add(&mut self, new: Self) {
        self.count += new.count;
        self.line = self.line.min(new.line);
        if self.decision != new.decision {
            // Other bits of the word differ.
            self.decision = Decision::Undecided;
        }
    }
}

fn rules_of(rules: RuleSet) -> Vec<Rule> {
    if rules.is_empty() { Vec::new() } else { rules.iter().collect() }
}

/// The beginning of a line, as text.
pub(crate) fn shorten(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    String::from_utf8_lossy(line.get(..line.len().min(MOST_TEXT)).unwrap_or_default()).into_owned()
}
