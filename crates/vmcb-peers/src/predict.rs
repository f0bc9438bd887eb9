//! What a stack of implementations does with a VMCB, by the table.

use crate::table::{Check, HABITS, Habit, Implementation, Row, STILL_BROKEN_IN_VMCB02, ids};
use crate::variants::{Facts, Predicate};
use crate::version::Version;
use std::fmt;
use vmcb::layout::{PAGE_SIZE, vmcb_field};
use vmcb::{Efer, Environment, Limits, Rule};

/// One layer of a stack: an implementation, and the CPU that it offers to the layer above.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    implementation: Implementation,
    version: Version,
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
        Self { implementation, version, limits, checks, memory: None }
    }

    /// The same where the CPU that it offers has RAM from address 0 to this one, in bytes, and nowhere else. Without
    /// this every address is taken to be RAM.
    #[must_use]
    pub fn with_memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Whose it is.
    #[must_use]
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

/// What is predicted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prediction {
    /// What VMRUN does.
    pub answer: Answer,
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
    with_svme(&mut vmcb02);
    let mut why = Vec::new();
    let mut above: Option<&Layer<'_>> = None;
    for (number, layer) in stack.iter().enumerate() {
        let (seen, environment) = match above {
            None => (page, environment),
            Some(Layer { implementation: Implementation::Kvm, .. }) => (&vmcb02, &below),
            Some(other) => {
                why.push(format!(
                    "how {} builds the VMCB for the layer below is not known",
                    other.implementation.title()
                ));
                break;
            }
        };
        let facts = Facts::new(seen, layer.limits, environment).with_memory(layer.memory);
        let Found { faults, refuses, stops, unknown } = layer.ask(&facts, above.is_some());
        let by = if faults.is_empty() { refuses } else { faults };
        if !by.is_empty() {
            let layer = why.is_empty().then_some(number);
            return Prediction { answer: Answer::Refuses { by, layer } };
        }
        why.extend(unknown);
        if !stops.is_empty() && why.is_empty() {
            return Prediction { answer: Answer::Stops { by: stops, layer: number } };
        }
        why.extend(stops.iter().map(|id| format!("{} may stop by {id}", layer.implementation.title())));
        above = Some(layer);
    }
    let answer = if why.is_empty() { Answer::Accepts } else { Answer::Unknown { why } };
    Prediction { answer }
}

/// KVM sets EFER.SVME of VMCB02 itself.
fn with_svme(page: &mut [u8; PAGE_SIZE]) {
    let at = usize::from(vmcb_field::efer.offset);
    for (byte, bits) in page[at..].iter_mut().zip(Efer::SVME.bits().to_le_bytes()) {
        *byte |= bits;
    }
}

/// What the checks of a layer say of a page.
#[derive(Default)]
struct Found {
    faults: Vec<&'static str>,
    refuses: Vec<&'static str>,
    stops: Vec<&'static str>,
    unknown: Vec<String>,
}

impl Layer<'_> {
    fn ask(&self, facts: &Facts<'_>, is_vmcb02: bool) -> Found {
        let mut found = Found::default();
        for known in self.checks.iter().filter(|known| !is_vmcb02 || known.in_vmcb02) {
            let says = match known.check {
                Check::Absent => Some(false),
                Check::Same | Check::Stops => meets(known.id, facts),
                Check::Differs(refuses) => refuses(facts),
                Check::NotSeen => {
                    if known.could_refuse(facts) {
                        found.unknown.push(format!("{}: {}", known.id, self.last_seen(known)));
                    }
                    continue;
                }
            };
            match (says, known.check) {
                (Some(false), _) => {}
                (Some(true), Check::Stops) => found.stops.push(known.id),
                (Some(true), _) if is_fault(known.id) => found.faults.push(known.id),
                (Some(true), _) => found.refuses.push(known.id),
                (None, _) => found.unknown.push(format!("{}: not decided by what is known", known.id)),
            }
        }
        found
    }

    /// What is known of other versions.
    fn last_seen(&self, known: &Known) -> String {
        let name = self.implementation.title();
        let seen =
            || Row::all(self.implementation, known.id).filter(|row| !matches!(row.check, Check::NotSeen));
        let before = |row: &&Row| row.versions().and_then(|versions| versions.last_before(self.version));
        let nearest = seen().filter(|row| before(row).is_some()).max_by_key(before).or_else(|| seen().next());
        match (nearest, known.row) {
            (Some(row), _) => format!(
                "unknown in {name} {}, last seen in {}: {}",
                self.version,
                row.versions,
                row.in_words()
            ),
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
