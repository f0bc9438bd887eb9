//! What becomes of each event that L1 injects into L2: from VMRUN to the exit that L1 is told.
//!
//! Only what the lines themselves show is said. The CPU delivers EVENTINJ first of all, so an exit of L2 with
//! EXITINTINFO.V = 0 shows that the event was delivered, and one with V = 1 that it was not. Where the tracer lost
//! lines, or does not record the lines that would tell, the answer is that it is not known.

use crate::vcpu::{KeyHasher, VcpuKey};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use vmcb::{Event, EventType, ExitCode};

/// What a line says of nested entries and exits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// VMRUN by L1, with EVENTINJ and the address of VMCB12.
    Enter { word: Option<u32>, vmcb: Option<u64> },
    /// An exit from any guest: its code and EXITINTINFO.
    Ran { code: Option<u32>, info: Option<u32> },
    /// What L1 is told.
    Told { code: Option<u32>, info: Option<u32> },
    /// L0 decided to leave L2.
    Left,
    /// KVM refused the VMRUN.
    Failed,
    /// The tracer lost lines.
    Lost,
    /// A line that only names its virtual CPU.
    Named,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) line: u64,
    pub(crate) key: VcpuKey,
    pub(crate) what: What,
}

/// What became of an injected event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// An exit of L2 shows that it was delivered.
    Delivered,
    /// It was left in EXITINTINFO, and L1's next VMRUN of that VMCB injects it again.
    InjectedAgain,
    /// VMRUN was refused.
    Refused,
    /// L1 was told of an exit before L2 ran, with EXITINTINFO.V = 0; or L2's exit left it undelivered and L1 was
    /// told nothing of it.
    Lost,
    /// L1's next VMRUN came before any exit.
    Overwritten,
    /// It was left in EXITINTINFO, and L1's next VMRUN of that VMCB injects nothing.
    NotInjectedAgain,
    /// L2's last exit shows that it was delivered, L1 was told that it was not, and injects it again.
    DeliveredTwice,
    /// The same, of an exception or a software interrupt, which may come again by itself.
    MayComeAgain,
    /// L1's next VMRUN of that VMCB injects another event first.
    AnotherFirst,
    /// The lines do not tell: some were lost, or are not recorded.
    Unknown,
    /// The input ends before it is known.
    Open,
}

impl Fate {
    /// Whether something went wrong for certain.
    #[must_use]
    pub const fn is_problem(self) -> bool {
        matches!(self, Self::Lost | Self::Overwritten | Self::NotInjectedAgain | Self::DeliveredTwice)
    }

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::InjectedAgain => "injected-again",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Overwritten => "overwritten",
            Self::NotInjectedAgain => "not-injected-again",
            Self::DeliveredTwice => "delivered-twice",
            Self::MayComeAgain => "may-come-again",
            Self::AnotherFirst => "another-first",
            Self::Unknown => "unknown",
            Self::Open => "open",
        }
    }

    /// What it means, in a sentence's end.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Delivered => "delivered: L2 exits with EXITINTINFO.V = 0",
            Self::InjectedAgain => "left in EXITINTINFO and injected again",
            Self::Refused => "VMRUN refused",
            Self::Lost => {
                "lost: L1 is told of an exit with EXITINTINFO.V = 0, and no exit of L2 shows that it was delivered"
            }
            Self::Overwritten => "overwritten: VMRUN again, and no exit between",
            Self::NotInjectedAgain => {
                "left in EXITINTINFO, and the next VMRUN of that VMCB does not inject it again"
            }
            Self::DeliveredTwice => {
                "delivered twice: L2's exit has EXITINTINFO.V = 0, L1 is told V = 1, and injects it again"
            }
            Self::MayComeAgain => {
                "left in EXITINTINFO and not injected again; such an event may come again by itself"
            }
            Self::AnotherFirst => {
                "left in EXITINTINFO, and the next VMRUN of that VMCB injects another event"
            }
            Self::Unknown => "not known: the lines that would tell are missing",
            Self::Open => "still open where the input ends",
        }
    }
}

/// An event that went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Line of the VMRUN, counted from 1.
    pub vmrun: u64,
    /// Line that shows it.
    pub line: u64,
    /// What went wrong.
    pub fate: Fate,
    /// EVENTINJ, its low 32 bits.
    pub word: u32,
    /// Address of VMCB12, where the line shows it.
    pub vmcb: Option<u64>,
    /// The virtual CPU.
    pub vcpu: VcpuKey,
}

/// What became of all of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Followed {
    /// Events by fate and bits 10:0 of EVENTINJ.
    pub fates: BTreeMap<(Fate, u16), u64>,
    /// The first that went wrong.
    pub problems: Vec<Problem>,
    /// All that went wrong.
    pub wrong: u64,
}

impl Followed {
    /// How many have this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.iter().filter(|((has, _), _)| *has == fate).map(|(_, count)| count).sum()
    }
}

/// Virtual CPUs followed at a time, and VMCBs of one that have an event left.
const MOST: usize = 4096;
const MOST_LEFT: usize = 16;

/// An injected event.
#[derive(Clone, Copy, Debug)]
struct Pending {
    word: u32,
    vmcb: Option<u64>,
    line: u64,
}

#[derive(Default, Debug)]
struct State {
    /// L2 was entered, and L1 not yet told of an exit.
    open: Option<Pending>,
    /// The CPU left L2 since, and EXITINTINFO had the event.
    undelivered: bool,
    /// The CPU left L2 since, and did not show EXITINTINFO.
    unseen: bool,
    /// The event that this entry delivered.
    delivered: Option<Pending>,
    /// Events in EXITINTINFO of a VMCB12; `true` where L2's exit shows that it was delivered.
    left: Vec<(Pending, bool)>,
    shows_runs: bool,
    shows_told: bool,
}

#[derive(Debug)]
pub(crate) struct Follower {
    states: HashMap<VcpuKey, State, BuildHasherDefault<KeyHasher>>,
    /// The virtual CPU named last on a line without columns.
    current: Option<u32>,
    out: Followed,
    limit: usize,
}

const fn short(word: u32) -> u16 {
    word as u16 & 0x7FF
}

fn valid(word: u32) -> bool {
    Event::from_bits(word.into()).valid()
}

/// Whether both are the same event.
fn same(one: u32, other: u32) -> bool {
    valid(one) && valid(other) && short(one) == short(other)
}

impl Follower {
    pub(crate) fn new(limit: usize) -> Self {
        Self { states: HashMap::default(), current: None, out: Followed::default(), limit }
    }

    pub(crate) fn take(&mut self, record: &Record, before: u64) {
        let line = record.line + before;
        let key = match record.key {
            VcpuKey::Number(number) => {
                self.current = Some(number);
                record.key
            }
            VcpuKey::Unnamed => self.current.map_or(record.key, VcpuKey::Number),
            _ => record.key,
        };
        if record.what == What::Lost {
            for (_, mut state) in std::mem::take(&mut self.states) {
                self.out.give_up(&mut state, Fate::Unknown);
            }
            return;
        }
        if self.states.len() >= MOST && !self.states.contains_key(&key) {
            // Threads come and go; those that are gone make room.
            for (_, mut state) in std::mem::take(&mut self.states) {
                self.out.give_up(&mut state, Fate::Unknown);
            }
        }
        let state = self.states.entry(key).or_default();
        let mut ending = Ending { out: &mut self.out, line, vcpu: key, limit: self.limit };
        match record.what {
            What::Enter { word, vmcb } => state.enter(word, vmcb, &mut ending),
            What::Ran { code, info } => state.ran(code, info, &mut ending),
            What::Told { code, info } => state.told(code, info, &mut ending),
            What::Failed => {
                if let Some(event) = state.open.take() {
                    ending.end(Fate::Refused, event);
                }
            }
            What::Left | What::Named | What::Lost => {}
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(mut self) -> Followed {
        for (_, mut state) in self.states {
            self.out.give_up(&mut state, Fate::Open);
        }
        self.out
    }
}

impl State {
    /// L1 executes VMRUN.
    fn enter(&mut self, word: Option<u32>, vmcb: Option<u64>, ending: &mut Ending<'_>) {
        if let Some(event) = self.open.take() {
            let sure = self.shows_runs && self.shows_told && !self.unseen && !self.undelivered;
            ending.end(if sure { Fate::Overwritten } else { Fate::Unknown }, event);
        }
        self.undelivered = false;
        self.unseen = false;
        self.delivered = None;
        let index = self.left.iter().position(|(left, _)| left.vmcb.is_some() && left.vmcb == vmcb);
        if let Some((left, stale)) = index.map(|index| self.left.remove(index)) {
            let kind = Event::from_bits(left.word.into()).event_type();
            let by_itself = kind != EventType::INTERRUPT && kind != EventType::NMI;
            let fate = match word {
                None => Fate::Unknown,
                Some(word) if same(word, left.word) && stale => Fate::DeliveredTwice,
                Some(word) if same(word, left.word) => Fate::InjectedAgain,
                // It was delivered: L1 does well not to inject it again.
                Some(_) if stale => Fate::Delivered,
                Some(word) if valid(word) => Fate::AnotherFirst,
                Some(_) if by_itself => Fate::MayComeAgain,
                Some(_) => Fate::NotInjectedAgain,
            };
            ending.end(fate, left);
        }
        if let Some(word) = word.filter(|&word| valid(word)) {
            self.open = Some(Pending { word, vmcb, line: ending.line });
        }
    }

    /// The CPU leaves a guest.
    fn ran(&mut self, code: Option<u32>, info: Option<u32>, ending: &mut Ending<'_>) {
        self.shows_runs = true;
        if let Some(event) = self.open {
            if code.is_some_and(|code| ExitCode::from_low_half(code).is_failure()) {
                self.open = None;
                ending.end(Fate::Refused, event);
            } else {
                match info {
                    Some(info) if valid(info) => self.undelivered = true,
                    Some(_) => {
                        self.open = None;
                        self.delivered = Some(event);
                    }
                    None => self.unseen = true,
                }
            }
        } else if let Some(event) = self.delivered
            && info.is_some_and(|info| same(info, event.word))
        {
            // Another event of the same vector, which L0 injects for itself: no longer told apart.
            self.delivered = None;
            ending.end(Fate::Delivered, event);
        }
    }

    /// L0 emulates #VMEXIT for L1.
    fn told(&mut self, code: Option<u32>, info: Option<u32>, ending: &mut Ending<'_>) {
        self.shows_told = true;
        let delivered = self.delivered.take();
        if let Some(event) = self.open.take() {
            let code = code.map(ExitCode::from_low_half);
            let moot = code.is_none_or(|code| matches!(code.name(), Some("SHUTDOWN" | "INIT")));
            match info {
                _ if code.is_some_and(ExitCode::is_failure) => ending.end(Fate::Refused, event),
                Some(info) if same(info, event.word) => self.leave(event, false, ending),
                Some(info) if valid(info) => ending.end(Fate::Unknown, event),
                Some(_) if self.unseen || moot => ending.end(Fate::Unknown, event),
                Some(_) if self.shows_runs => ending.end(Fate::Lost, event),
                _ => ending.end(Fate::Unknown, event),
            }
        } else if let Some(event) = delivered {
            match info {
                Some(info) if same(info, event.word) => self.leave(event, true, ending),
                _ => ending.end(Fate::Delivered, event),
            }
        }
        self.undelivered = false;
        self.unseen = false;
    }

    /// Keeps an event that EXITINTINFO of a VMCB12 holds.
    fn leave(&mut self, event: Pending, stale: bool, ending: &mut Ending<'_>) {
        if self.left.len() >= MOST_LEFT {
            let (oldest, _) = self.left.remove(0);
            ending.end(Fate::Unknown, oldest);
        }
        self.left.push((event, stale));
    }
}

/// Records the ends of events that one line shows.
struct Ending<'a> {
    out: &'a mut Followed,
    line: u64,
    vcpu: VcpuKey,
    limit: usize,
}

impl Ending<'_> {
    fn end(&mut self, fate: Fate, event: Pending) {
        let Self { ref mut out, line, vcpu, limit } = *self;
        *out.fates.entry((fate, short(event.word))).or_default() += 1;
        if fate.is_problem() {
            out.wrong += 1;
            if out.problems.len() < limit {
                let Pending { word, vmcb, line: vmrun } = event;
                out.problems.push(Problem { vmrun, line, fate, word, vmcb, vcpu });
            }
        }
    }
}

impl Followed {
    fn give_up(&mut self, state: &mut State, fate: Fate) {
        let left = state.left.drain(..).map(|(event, _)| event);
        for event in state.open.take().into_iter().chain(left) {
            *self.fates.entry((fate, short(event.word))).or_default() += 1;
        }
        if let Some(event) = state.delivered.take() {
            *self.fates.entry((Fate::Delivered, short(event.word))).or_default() += 1;
        }
    }
}
