//! A random trial of the engine: several VMs on one physical CPU, with an exact oracle.
//!
//! Each step is an action of L0, an L1 or an L2. Every access of a guest is compared with a reference walk of
//! the current tables. This is exact because each L1 of the trial makes the flushes that the architecture
//! requires, and because L0 calls [`crate::Nested::forget`] or migrates the VM after it moves, unmaps or
//! write-protects a page. A ledger keeps every event until it has a legal outcome.

mod choices;
mod events;
mod host;
mod l1;
mod layout;
mod ledger;
mod reference;
mod run;
mod steps;
mod vm;

use super::{CPU, Hardware, Step, limits};
use crate::{Guest, Nested};
use choices::Choices;
use host::{Host, SLOTS};
use std::boxed::Box;
use std::collections::VecDeque;
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;
use vm::{Asids, Vm};
use vmcb::Limits;

/// What a trial checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oracle {
    /// Accesses reach what the tables map.
    Memory,
    /// Events are neither lost, nor duplicated, nor delivered to the wrong guest.
    Events,
    /// L0 receives physical interrupts at the next instruction boundary, whatever L1 masks.
    Masking,
    /// L2 makes progress.
    Progress,
}

/// A bug in the engine that a trial found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The oracle that found it.
    pub oracle: Oracle,
    /// Number of the step.
    pub step: u64,
    /// What happened.
    pub description: String,
    /// The last steps of the VM, oldest first.
    pub recent: Vec<String>,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        writeln!(f, "step {}: {:?}: {}", self.step, self.oracle, self.description)?;
        self.recent.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

impl core::error::Error for Finding {}

/// Statistics of a trial. If a counter is 0, the trial did not exercise that behavior.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Steps.
    pub steps: u64,
    /// Accesses that were compared with the reference.
    pub accesses: u64,
    /// Accesses that raised #PF in L2.
    pub guest_faults: u64,
    /// Accesses that the TLB served.
    pub tlb_hits: u64,
    /// Page walks.
    pub walks: u64,
    /// Page walks that began in a page-walk cache.
    pub short_walks: u64,
    /// VMRUNs of L1 that entered L2.
    pub entries: u64,
    /// Nested page faults that the engine resolved.
    pub resolved_faults: u64,
    /// Nested page faults at which the engine ran out of shadow pages and started again with an empty shadow.
    pub full_shadows: u64,
    /// Nested page faults that L1 got.
    pub l1_faults: u64,
    /// Nested page faults that L0 got.
    pub l0_faults: u64,
    /// Exits that L1 got, by any code.
    pub l1_exits: u64,
    /// INTR exits that L1 got.
    pub intr_exits: u64,
    /// NMI exits that L1 got.
    pub nmi_exits: u64,
    /// Exceptions that L1 got as exits.
    pub exception_exits: u64,
    /// VMRUNs of VMCB02 that the host refused.
    pub host_refusals: u64,
    /// VMRUNs before or at which L1 had to flush.
    pub flushes: u64,
    /// Pages of L1 that L0 moved or unmapped.
    pub moved_pages: u64,
    /// VMs that were created after the first ones.
    pub recreated: u64,
    /// States that were saved and loaded.
    pub loaded: u64,
    /// Events that entered the ledger.
    pub events: u64,
    /// Events that were delivered to L1.
    pub delivered_to_l1: u64,
    /// Events that were delivered to L2.
    pub delivered_to_l2: u64,
    /// Events that L1 found in EXITINTINFO.
    pub reported: u64,
    /// Events that need no delivery of their own: merged, dropped because their instruction is executed again, or ended
    /// by a shutdown or a refused VMRUN.
    pub merged: u64,
    /// Number of times that a drain delivered all pending events of a VM.
    pub drains: u64,
}

impl Counters {
    /// Returns the names of the counters that are 0.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let Self {
            steps,
            accesses,
            guest_faults,
            tlb_hits,
            walks,
            short_walks,
            entries,
            resolved_faults,
            full_shadows,
            l1_faults,
            l0_faults,
            l1_exits,
            intr_exits,
            nmi_exits,
            exception_exits,
            host_refusals,
            flushes,
            moved_pages,
            recreated,
            loaded,
            events,
            delivered_to_l1,
            delivered_to_l2,
            reported,
            merged,
            drains,
        } = *self;
        [
            ("steps", steps),
            ("accesses", accesses),
            ("guest_faults", guest_faults),
            ("tlb_hits", tlb_hits),
            ("walks", walks),
            ("short_walks", short_walks),
            ("entries", entries),
            ("resolved_faults", resolved_faults),
            ("full_shadows", full_shadows),
            ("l1_faults", l1_faults),
            ("l0_faults", l0_faults),
            ("l1_exits", l1_exits),
            ("intr_exits", intr_exits),
            ("nmi_exits", nmi_exits),
            ("exception_exits", exception_exits),
            ("host_refusals", host_refusals),
            ("flushes", flushes),
            ("moved_pages", moved_pages),
            ("recreated", recreated),
            ("loaded", loaded),
            ("events", events),
            ("delivered_to_l1", delivered_to_l1),
            ("delivered_to_l2", delivered_to_l2),
            ("reported", reported),
            ("merged", merged),
            ("drains", drains),
        ]
        .into_iter()
        .filter_map(|(name, count)| (count == 0).then_some(name))
    }
}

/// A step, for the description of a finding.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the fields are only printed")]
enum Action {
    Create { asids: Asids },
    L1Access { address: u64, write: bool },
    ChangeNested { space: usize },
    ChangeGuest { space: usize },
    Vmrun { space: usize, asid: u32, tlb_control: u64, eventinj: u64 },
    Invlpga { asid: u32 },
    SetGif(bool),
    Accesses { count: u64 },
    WriteCr3 { cr3: u64 },
    ChangeGuestInL2 { linear: Option<u64> },
    InvlpgaInL2 { remote_change: bool, single_step: bool },
    Vmmcall,
    Raise { event: u64 },
    Inject { event: u64 },
    Interrupt { vector: Option<u8> },
    MovePage { page: u64 },
    UnmapPage { page: u64 },
    WriteProtect { page: u64 },
    SwitchRoot,
    Refuse,
    Refused,
    SaveAndLoad,
    Drain,
}

/// Number of steps that are remembered. A finding shows those of its VM.
const RECENT: usize = 120;

/// A random trial.
#[derive(Debug)]
pub struct Trial {
    /// Accesses are compared with the reference, and guests must make progress.
    pub check_memory: bool,
    /// Events are followed in the ledger.
    pub check_events: bool,
    /// Physical interrupts must not be masked by L1.
    pub check_masking: bool,
    /// VMs are saved and loaded.
    pub migrates: bool,
    /// L0 builds its own tables for L1 again under another root.
    pub switches_roots: bool,
    /// L0 write-protects pages of L1.
    pub write_protects: bool,
    /// L0 raises exceptions in L2 while an interrupt or NMI is in EVENTINJ.
    pub displaces_events: bool,
    limits: Limits,
    choices: Choices,
    hardware: Hardware,
    host: Host,
    vms: Vec<Vm>,
    ledgers: Vec<ledger::Ledger>,
    free_asids: Vec<u32>,
    /// Steps that the guest still has to execute.
    script: VecDeque<Step>,
    /// Accesses of the script that are not compared yet.
    accesses: VecDeque<Step>,
    /// The next VMRUN of VMCB02 is refused.
    refuse: bool,
    saved: Box<[u8; Nested::SAVED_MAX]>,
    counters: Counters,
    recent: VecDeque<(u64, usize, Action)>,
}

impl Trial {
    /// A trial whose choices a seed makes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Choices::from_seed(seed))
    }

    /// A trial whose choices these bytes make.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::with(Choices::from_bytes(bytes))
    }

    fn with(choices: Choices) -> Self {
        // A fuzzer makes many trials.
        static LIMITS: OnceLock<Limits> = OnceLock::new();
        let limits = LIMITS.get_or_init(|| limits(CPU)).clone();
        let mut trial = Self {
            check_memory: true,
            check_events: true,
            check_masking: true,
            migrates: true,
            switches_roots: true,
            write_protects: true,
            displaces_events: true,
            hardware: Hardware::new(limits.clone()),
            limits,
            choices,
            host: Host::new(),
            vms: Vec::new(),
            ledgers: Vec::new(),
            free_asids: (2..2 + 2 * SLOTS as u32 + 2).collect(),
            script: VecDeque::new(),
            accesses: VecDeque::new(),
            refuse: false,
            saved: Box::new([0; Nested::SAVED_MAX]),
            counters: Counters::default(),
            recent: VecDeque::new(),
        };
        for slot in 0..SLOTS {
            let vm = trial.create(slot);
            trial.vms.push(vm);
            trial.ledgers.push(ledger::Ledger::default());
        }
        trial
    }

    /// Returns how often things happened.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        Counters {
            tlb_hits: self.hardware.tlb.hits,
            walks: self.hardware.tlb.walks,
            short_walks: self.hardware.tlb.short_walks,
            ..self.counters
        }
    }

    /// Whether the bytes of the fuzzer are used up. A trial with a seed never ends.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.choices.is_finished()
    }

    /// Makes up to `steps` steps. Stops early if it finds a bug or has used up the bytes.
    ///
    /// # Errors
    /// Returns the finding.
    pub fn run(&mut self, steps: u64) -> Result<(), Finding> {
        for _ in 0..steps {
            if self.is_finished() {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Makes one step.
    ///
    /// # Errors
    /// Returns the fault that it found.
    pub fn step(&mut self) -> Result<(), Finding> {
        self.counters.steps += 1;
        self.hardware.delivery.clear();
        let vm = self.choices.below(SLOTS as u64) as usize;
        match self.choices.below(16) {
            0 => self.step_of_l0(vm),
            1 => self.event_of_l0(vm),
            _ => match self.vms[vm].nested.guest() {
                Guest::L1 => self.step_of_l1(vm),
                Guest::L2 => self.step_of_l2(vm),
            },
        }?;
        self.check_pending(vm)
    }

    /// Checks GIF and the pending events. A pending event that is neither in EVENTINJ nor held by the engine
    /// is lost.
    fn check_pending(&mut self, index: usize) -> Result<(), Finding> {
        let vm = &self.vms[index];
        if vm.nested.gif() != vm.gif {
            self.found(Oracle::Events, index, || std::format!("GIF should be {}", vm.gif))?;
        }
        if vm.nested.waits() || vm.page().vmcb().event_inj().valid() {
            return Ok(());
        }
        if self.ledgers[index].is_settled() {
            return Ok(());
        }
        let lost = core::mem::take(&mut self.ledgers[index]);
        self.found(Oracle::Events, index, || std::format!("lost: {lost:x?}"))
    }

    fn note(&mut self, vm: usize, action: Action) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((self.counters.steps, vm, action));
    }

    fn create(&mut self, slot: usize) -> Vm {
        let asids = core::array::from_fn(|_| {
            let chosen = self.choices.below(self.free_asids.len() as u64) as usize;
            self.free_asids.swap_remove(chosen)
        });
        self.note(slot, Action::Create { asids });
        Vm::new(&mut self.host, slot, asids, &self.limits, &mut self.choices)
    }

    /// Destroys a VM and creates another one in its slot. The new VM may reuse the hardware ASIDs and the
    /// memory of the old one.
    fn recreate(&mut self, slot: usize) {
        self.counters.recreated += 1;
        let old = &self.vms[slot];
        self.host.destroy(&old.memory, old.blocks);
        self.free_asids.extend(old.asids);
        self.vms[slot] = self.create(slot);
        self.ledgers[slot] = ledger::Ledger::default();
    }

    /// Returns a fault, if its oracle is on.
    fn found(&self, oracle: Oracle, vm: usize, description: impl FnOnce() -> String) -> Result<(), Finding> {
        let checked = match oracle {
            Oracle::Memory => self.check_memory,
            Oracle::Events => self.check_events,
            Oracle::Masking => self.check_masking,
            Oracle::Progress => self.check_memory,
        };
        if !checked {
            return Ok(());
        }
        let print = |(step, vm, action): &(u64, usize, Action)| std::format!("{step}: VM {vm}: {action:x?}");
        Err(Finding {
            oracle,
            step: self.counters.steps,
            description: std::format!("VM {vm}: {}", description()),
            recent: self.recent.iter().filter(|(_, of, _)| *of == vm).map(print).collect(),
        })
    }
}
