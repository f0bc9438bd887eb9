//! What a trial reports: findings, counters, and the steps before a finding.

use super::vm::Asids;
use std::string::String;
use std::vec::Vec;

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
pub(super) enum Action {
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
