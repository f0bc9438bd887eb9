//! Plain types that the whole engine shares.

use vmcb::{Event, EventType, Feature, Vector};

/// Who runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guest {
    /// The guest hypervisor, on VMCB01.
    L1,
    /// Its guest, on VMCB02.
    L2,
}

/// A fault that an instruction raises in the place of what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// #UD.
    InvalidOpcode,
    /// #GP(0).
    GeneralProtection,
}

impl Fault {
    /// As it is injected.
    #[must_use]
    pub const fn event(self) -> Event {
        match self {
            Self::InvalidOpcode => Event::new(EventType::EXCEPTION, Vector::new(6)),
            Self::GeneralProtection => Event::new(EventType::EXCEPTION, Vector::new(13)).with_error_code(0),
        }
    }
}

/// What became of an exit of L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The exit was reflected to L1, which runs next.
    ToL1,
    /// The engine handled the exit. L2 continues.
    Resume,
    /// L0 must handle the exit that VMCB02 describes. L2 then continues. If the exit interrupted the delivery of an
    /// event, EVENTINJ holds the event again.
    ForL0,
    /// The guest shut down, for example by a fault during the delivery of #DF. If it is L2, L1 does not intercept the
    /// shutdown.
    Shutdown,
    /// L2 does not run, so it has no exit. L0 called this by mistake, and nothing changed.
    NotInL2,
}

/// Why the engine cannot run a virtual CPU on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unsupported {
    /// The virtual CPU has this feature, and no guest of this host can have it. For `lmsle-unsupported`, which takes
    /// something away: the virtual CPU does not have it.
    Feature(Feature),
    /// The host has no nested paging. The engine always runs L2 with nested paging, also if L1 does not use it.
    HostWithoutNestedPaging,
}

impl core::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Feature(feature) => write!(
                f,
                "this host cannot provide `{}` ({}) as the virtual CPU specifies it",
                feature.name(),
                feature.meaning()
            ),
            Self::HostWithoutNestedPaging => f.write_str(
                "the host has no nested paging (`npt`), which the engine needs to run L2; use a host that has it",
            ),
        }
    }
}

impl core::error::Error for Unsupported {}

/// Properties of the hardware and values of L0 that the engine needs. The engine copies the ASID and the
/// addresses of the permission maps into VMCB02 unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// ASID of L2 on the hardware; L1 has another.
    pub asid: u32,
    /// The hardware flushes by ASID (CPUID 8000_000A EDX\[6\]).
    pub flush_by_asid: bool,
    /// Physical address of L0's I/O permission map, for an L2 whose ports L1 leaves alone.
    pub iopm: u64,
    /// Physical address of L0's MSR permission map, for an L2 whose MSRs L1 leaves alone.
    pub msrpm: u64,
    /// Physical address of a map of 12 KiB of ones: every port is intercepted, and the engine reads L1's map.
    pub every_port: u64,
    /// Physical address of a map of 8 KiB of ones.
    pub every_msr: u64,
    /// The hardware sets bit 5 (accessed) in the page directory pointers of a guest in legacy PAE mode, as QEMU does.
    /// According to the manual, the bit is reserved there and VMRUN refuses it, so the engine clears it at #VMEXIT.
    pub marks_pdptes: bool,
    /// L0 takes physical interrupts itself: VMCB01 intercepts INTR and has V_INTR_MASKING set. Otherwise they reach the
    /// guests.
    pub takes_interrupts: bool,
    /// The hardware virtualizes SPEC_CTRL (CPUID 8000_000A EDX\[20\]), so that the VMCB holds the guest's value. Otherwise L0
    /// must switch the MSR itself at each entry and exit. L1 and L2 share one value, since VMRUN does not switch it.
    pub virtual_spec_ctrl: bool,
    /// The virtual CPU has pages of 1 GiB, CPUID 8000_0001 EDX\[26\], which no rule reads. Without them an entry of L1's
    /// nested tables that maps one has a reserved bit set.
    pub gib_pages: bool,
}

/// What the hardware must flush; the greater includes the lesser.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Flush {
    Nothing,
    Asid,
    All,
}

/// TLB_CONTROL.
#[inline(always)]
pub(crate) const fn tlb_control(flush: Flush, by_asid: bool) -> u8 {
    match (flush, by_asid) {
        (Flush::Nothing, _) => 0,
        (Flush::Asid, true) => 3,
        (Flush::Asid, false) | (Flush::All, _) => 1,
    }
}
