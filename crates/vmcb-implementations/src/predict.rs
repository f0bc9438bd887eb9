//! What a stack of implementations does with a VMCB, by the table.

use crate::table::{Check, HABITS, Habit, Implementation, Row, STILL_BROKEN_IN_VMCB02, ids};
use crate::variants::{Facts, Predicate};
use crate::version::Version;
use std::fmt;
use vmcb::layout::{Field, PAGE_SIZE, vmcb_field};
use vmcb::{Cpu, Efer, Environment, Feature, KnownPage, Limits, NestedCtl, Phase, Policy, Rule, View, Word};

/// One layer of a stack: an implementation, and the CPU that it offers to the layer above.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// `None` for hardware.
    of: Option<(Implementation, Version)>,
    limits: &'a Limits,
    checks: Vec<Known>,
    memory: Option<u64>,
}

/// What is known of one rule or habit in a version.
#[derive(Clone, Debug)]
struct Known {
    id: &'static str,
    /// The row that counts; `None` where there is no observation.
    row: Option<&'static Row>,
    check: Check,
    /// Where nothing is known: what other versions refuse by, besides the rulebook's own conditions.
    variants: Vec<Predicate>,
    /// Whether it can refuse the VMCB02 of KVM.
    in_vmcb02: bool,
}

impl Known {
    fn new(of: Implementation, version: Version, id: &'static str) -> Self {
        let row = Row::find(of, version, id);
        let check = row.map_or(Check::NotSeen, |row| row.check);
        let seen = Row::all(of, id).filter(|_| matches!(check, Check::NotSeen));
        let variants = seen.filter_map(|row| match row.check {
            Check::Differs(refuses) => Some(refuses),
            _ => None,
        });
        Self { id, row, check, variants: variants.collect(), in_vmcb02: still_broken(id) }
    }

    /// Whether some check that this implementation is known for, or the rulebook's own, might refuse.
    fn could_refuse(&self, facts: &Facts<'_>) -> bool {
        meets(self.id, facts) != Some(false)
            || self.variants.iter().any(|refuses| refuses(facts) != Some(false))
    }
}

impl<'a> Layer<'a> {
    /// What the table says of this version.
    ///
    /// `limits` are those of the CPU that it offers, compiled with [`Policy::VirtualCpu`](vmcb::Policy): of rules
    /// that they leave out nothing is predicted. Build a layer once and use it for many pages.
    #[must_use]
    pub fn new(implementation: Implementation, version: Version, limits: &'a Limits) -> Self {
        let checks = ids().map(|id| Known::new(implementation, version, id)).collect();
        Self { of: Some((implementation, version)), limits, checks, memory: None }
    }

    /// A CPU of silicon, of which nothing was measured: it accepts what no rule of the manual is against, and of all
    /// else the answer is [`Answer::Unknown`], with what the manual says.
    #[must_use]
    pub fn hardware(limits: &'a Limits) -> Self {
        Self { of: None, limits, checks: Vec::new(), memory: None }
    }

    /// The same where the CPU that it offers has RAM from address 0 to this one, in bytes, and nowhere else. Without
    /// this every address is taken to be RAM.
    #[must_use]
    pub fn with_memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Whose it is; `None` for hardware.
    #[must_use]
    pub fn implementation(&self) -> Option<Implementation> {
        self.of.map(|(implementation, _)| implementation)
    }

    /// Its version; `None` for hardware.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.of.map(|(_, version)| version)
    }

    /// Whose it is and the version, for people.
    #[must_use]
    pub fn title(&self) -> String {
        match self.of {
            Some((implementation, version)) => format!("{} {version}", implementation.title()),
            None => "hardware".to_owned(),
        }
    }
}

/// What is predicted.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// What VMRUN does.
    pub answer: Answer,
    /// What it rests on: the checks that refuse, stop or are not known, and those that let pass what the rulebook is
    /// against. Empty where no check that is known of any version has anything to say.
    pub grounds: Vec<Ground>,
}

/// A check of a layer that the answer rests on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The layer, counted from the top.
    pub layer: usize,
    /// The rule or habit.
    pub id: &'static str,
    /// What the check says of this VMCB.
    pub says: Says,
    /// The observation; `None` where there is none of this version, and for hardware.
    pub row: Option<&'static Row>,
}

/// What a check says of a VMCB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    /// It refuses.
    Refuses,
    /// The machine stops.
    Stops,
    /// It lets pass what the rulebook is against.
    LetsPass,
    /// It is not known.
    Unknown,
}

/// What VMRUN does with a VMCB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// L2 is entered.
    Accepts,
    /// It is refused.
    Refuses {
        /// The rules and habits that refuse for certain: those of faults, if there are some, else all. A rule's row
        /// in `vmcb` has the outcome.
        by: Vec<&'static str>,
        /// The layer that refuses, counted from the top; `None` where a layer above it may do so already.
        layer: Option<usize>,
    },
    /// It is accepted and the machine stops.
    Stops {
        /// The rules that ought to have refused.
        by: Vec<&'static str>,
        /// The layer that stops, counted from the top.
        layer: usize,
    },
    /// It is not known.
    Unknown {
        /// What is not known, a sentence each without a full stop.
        why: Vec<String>,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepts => f.write_str("accepts"),
            Self::Refuses { by, layer: Some(layer) } => {
                write!(f, "layer {layer} refuses by {}", by.join(", "))
            }
            Self::Refuses { by, layer: None } => write!(f, "some layer refuses by {}", by.join(", ")),
            Self::Stops { by, layer } => write!(f, "layer {layer} stops by {}", by.join(", ")),
            Self::Unknown { why } => write!(f, "unknown: {}", why.join("; ")),
        }
    }
}

/// What a stack does with a VMCB.
///
/// The first layer reads the page as given; `environment` is the CPU that executes VMRUN there. Each layer below
/// reads the VMCB that the one above builds for it: only KVM's way of building is known, so another nested
/// hypervisor on top of something is [`Answer::Unknown`] wherever it accepts. An empty stack accepts.
#[must_use]
pub fn predict(stack: &[Layer<'_>], page: &[u8; PAGE_SIZE], environment: &Environment<'_>) -> Prediction {
    let below = Environment::real_host();
    let mut vmcb02 = *page;
    for (field, value, mask) in KVMS_OWN {
        let bytes = value.to_le_bytes().into_iter().zip(mask.to_le_bytes());
        for (byte, (value, mask)) in vmcb02.iter_mut().skip(field.offset.into()).zip(bytes) {
            *byte = *byte & !mask | value & mask;
        }
    }
    descend(stack, |limits, is_vmcb02| {
        if is_vmcb02 { Facts::new(&vmcb02, limits, &below) } else { Facts::new(page, limits, environment) }
    })
}

/// The same of a page that is known in part, seen at this time.
///
/// An answer other than [`Answer::Unknown`] holds for every completion of the unknown bits. After #VMEXIT the event is
/// judged where it stands then, in EXITINTINFO, or is unknown, as [`View`] has it.
#[must_use]
pub fn predict_known(
    stack: &[Layer<'_>],
    page: &KnownPage,
    phase: Phase,
    environment: &Environment<'_>,
) -> Prediction {
    let below = Environment::real_host();
    let before = before_vmrun(page, phase);
    let mut vmcb02 = before.clone();
    for (field, value, mask) in KVMS_OWN {
        vmcb02.learn(field.offset, field.size, value, mask);
    }
    descend(stack, |limits, is_vmcb02| {
        if is_vmcb02 {
            Facts::known(&vmcb02, limits, &below)
        } else {
            Facts::known(&before, limits, environment)
        }
    })
}

/// What KVM has of its own in the fields of VMCB02 that decide how the rest is read: field, value, mask. It sets
/// EFER.SVME; nested paging is on and nothing of SEV, which it offers to no L1.
const KVMS_OWN: [(Field, u64, u64); 2] = [
    (vmcb_field::efer, Efer::SVME.bits(), Efer::SVME.bits()),
    (vmcb_field::nested_ctl, NestedCtl::NP_ENABLE.bits(), u64::MAX),
];

/// The page with EVENTINJ as VMRUN read it, which #VMEXIT clears.
fn before_vmrun(page: &KnownPage, phase: Phase) -> KnownPage {
    // Peers read EVENTINJ in the VMCB, whatever a VMSA has.
    let limits = Limits::compile(&Cpu::ANY.with(Feature::SevEs, false), Policy::VirtualCpu);
    let environment = Environment::unknown();
    let event = View::new(page, phase, &limits, &environment).word(Word::EventInj);
    let mut before = page.clone();
    before.forget(vmcb_field::eventinj.offset, vmcb_field::eventinj.size);
    before.learn(vmcb_field::eventinj.offset, vmcb_field::eventinj.size, event.value(), event.known_mask());
    before
}

/// Asks layer by layer, from the top; `facts` of what a layer reads, by the CPU that it offers and whether that is VMCB02.
fn descend<'f>(stack: &[Layer<'f>], facts: impl Fn(&'f Limits, bool) -> Facts<'f>) -> Prediction {
    let mut why = Vec::new();
    let mut grounds = Vec::new();
    let mut above: Option<&Layer<'f>> = None;
    for (number, layer) in stack.iter().enumerate() {
        let is_vmcb02 = match above {
            None => false,
            Some(above) if above.implementation() == Some(Implementation::Kvm) => true,
            Some(other) => {
                why.push(format!("how {} builds the VMCB for the layer below is not known", other.name()));
                break;
            }
        };
        let facts = facts(layer.limits, is_vmcb02).with_memory(layer.memory);
        let found = layer.ask(number, &facts, is_vmcb02);
        let by = found.refusing();
        grounds.extend(found.grounds);
        if !by.is_empty() {
            let layer = why.is_empty().then_some(number);
            return Prediction { answer: Answer::Refuses { by, layer }, grounds };
        }
        why.extend(found.unknown);
        if !found.stops.is_empty() && why.is_empty() {
            return Prediction { answer: Answer::Stops { by: found.stops, layer: number }, grounds };
        }
        why.extend(found.stops.iter().map(|id| format!("{} may stop by {id}", layer.name())));
        above = Some(layer);
    }
    let answer = if why.is_empty() { Answer::Accepts } else { Answer::Unknown { why } };
    Prediction { answer, grounds }
}

/// What the checks of a layer say of a page.
#[derive(Default)]
struct Found {
    faults: Vec<&'static str>,
    refuses: Vec<&'static str>,
    stops: Vec<&'static str>,
    unknown: Vec<String>,
    grounds: Vec<Ground>,
}

impl Found {
    /// Faults come before the VMCB is read.
    fn refusing(&self) -> Vec<&'static str> {
        if self.faults.is_empty() { self.refuses.clone() } else { self.faults.clone() }
    }
}

impl Layer<'_> {
    fn name(&self) -> &'static str {
        self.implementation().map_or("hardware", Implementation::title)
    }

    fn ask(&self, number: usize, facts: &Facts<'_>, is_vmcb02: bool) -> Found {
        let Some((implementation, version)) = self.of else {
            return ask_the_manual(number, facts, is_vmcb02);
        };
        let mut found = Found::default();
        for known in self.checks.iter().filter(|known| !is_vmcb02 || known.in_vmcb02) {
            let refuses = match known.check {
                Check::Absent => Some(false),
                Check::Same | Check::Stops => meets(known.id, facts),
                Check::Differs(refuses) => refuses(facts),
                Check::NotSeen if known.could_refuse(facts) => None,
                Check::NotSeen => continue,
            };
            let says = match (refuses, known.check) {
                (Some(false), Check::Same | Check::Stops) => continue,
                (Some(false), _) if meets(known.id, facts) == Some(true) => Says::LetsPass,
                (Some(false), _) => continue,
                (Some(true), Check::Stops) => Says::Stops,
                (Some(true), _) => Says::Refuses,
                (None, _) => Says::Unknown,
            };
            match (says, known.check) {
                (Says::LetsPass, _) => {}
                (Says::Stops, _) => found.stops.push(known.id),
                (Says::Refuses, _) if is_fault(known.id) => found.faults.push(known.id),
                (Says::Refuses, _) => found.refuses.push(known.id),
                (Says::Unknown, Check::NotSeen) => {
                    let last = known.last_seen(implementation, version);
                    found.unknown.push(format!("{}: {last}", known.id));
                }
                (Says::Unknown, _) => found.unknown.push(undecided(known.id)),
            }
            let row = known.row.filter(|_| !matches!(known.check, Check::NotSeen));
            found.grounds.push(Ground { layer: number, id: known.id, says, row });
        }
        found
    }
}

/// What the manual says of hardware.
fn ask_the_manual(number: usize, facts: &Facts<'_>, is_vmcb02: bool) -> Found {
    let mut found = Found::default();
    for rule in Rule::ALL.iter().filter(|rule| !is_vmcb02 || still_broken(rule.id())) {
        let id = rule.id();
        let why = match facts.meets(*rule) {
            Some(true) if facts.verdict().broken().contains(*rule) => {
                format!("{id}: the manual says that VMRUN refuses it, and no hardware was measured")
            }
            Some(true) => format!("{id}: the manual does not say what VMRUN does"),
            Some(false) => continue,
            None => undecided(id),
        };
        found.unknown.push(why);
        found.grounds.push(Ground { layer: number, id, says: Says::Unknown, row: None });
    }
    found
}

fn undecided(id: &str) -> String {
    format!("{id}: not decided by what is known")
}

impl Known {
    /// What is known of other versions.
    fn last_seen(&self, of: Implementation, version: Version) -> String {
        let name = of.title();
        let seen = || Row::all(of, self.id).filter(|row| !matches!(row.check, Check::NotSeen));
        let before = |row: &&Row| row.versions().and_then(|versions| versions.last_before(version));
        let nearest = seen().filter(|row| before(row).is_some()).max_by_key(before).or_else(|| seen().next());
        match (nearest, self.row) {
            (Some(row), _) => {
                format!("unknown in {name} {version}, last seen in {}: {}", row.versions, row.in_words())
            }
            (None, Some(row)) => format!("unknown in {name}: {}", row.does),
            (None, None) => format!("unknown in {name}"),
        }
    }
}

/// Whether the conditions of the rulebook, or of a habit, are met.
fn meets(id: &str, facts: &Facts<'_>) -> Option<bool> {
    let habit: Option<Predicate> = HABITS.iter().find(|habit| habit.id == id).map(|Habit { met, .. }| *met);
    match (habit, Rule::from_id(id)) {
        (Some(met), _) => met(facts),
        (None, Some(rule)) => facts.meets(rule),
        (None, None) => None,
    }
}

/// Whether VMRUN faults by this rule, before it reads the VMCB.
fn is_fault(id: &str) -> bool {
    id.starts_with("pre-")
}

fn still_broken(id: &str) -> bool {
    STILL_BROKEN_IN_VMCB02.split_whitespace().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => id.starts_with(start),
        None => pattern == id,
    })
}
