//! The state of a trial.

use super::choices::Choices;
use super::host::{Host, SLOTS};
use super::ledger::Ledger;
use super::report::{Action, Counters, Finding, Oracle};
use super::vm::Vm;
use crate::model::cpu::Hardware;
use crate::model::machine::{CPU, limits};
use crate::model::script::Step;
use crate::state::nested::Nested;
use std::boxed::Box;
use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::sync::OnceLock;
use std::vec::Vec;
use vmcb::Limits;

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
    pub(super) limits: Limits,
    pub(super) choices: Choices,
    pub(super) hardware: Hardware,
    pub(super) host: Host,
    pub(super) vms: Vec<Vm>,
    pub(super) ledgers: Vec<Ledger>,
    pub(super) free_asids: Vec<u32>,
    /// Steps that the guest still has to execute.
    pub(super) script: VecDeque<Step>,
    /// Accesses of the script that are not compared yet.
    pub(super) accesses: VecDeque<Step>,
    /// The next VMRUN of VMCB02 is refused.
    pub(super) refuse: bool,
    pub(super) saved: Box<[u8; Nested::SAVED_MAX]>,
    pub(super) counters: Counters,
    pub(super) recent: VecDeque<(u64, usize, Action)>,
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
            trial.ledgers.push(Ledger::default());
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

    pub(super) fn note(&mut self, vm: usize, action: Action) {
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
    pub(super) fn recreate(&mut self, slot: usize) {
        self.counters.recreated += 1;
        let old = &self.vms[slot];
        self.host.destroy(&old.memory, old.blocks);
        self.free_asids.extend(old.asids);
        self.vms[slot] = self.create(slot);
        self.ledgers[slot] = Ledger::default();
    }

    /// Returns a fault, if its oracle is on.
    pub(super) fn found(
        &self,
        oracle: Oracle,
        vm: usize,
        description: impl FnOnce() -> String,
    ) -> Result<(), Finding> {
        let checked = match oracle {
            Oracle::Memory => self.check_memory,
            Oracle::Events => self.check_events,
            Oracle::Masking => self.check_masking,
            Oracle::Progress => self.check_memory,
        };
        if !checked {
            return Ok(());
        }
        let print = |(step, vm, action): &(u64, usize, Action)| format!("{step}: VM {vm}: {action:x?}");
        Err(Finding {
            oracle,
            step: self.counters.steps,
            description: format!("VM {vm}: {}", description()),
            recent: self.recent.iter().filter(|(_, of, _)| *of == vm).map(print).collect(),
        })
    }
}
