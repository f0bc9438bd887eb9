//! What a guest does, and what the software CPU saw of it.

use vmcb::Event;
use vmcb::layout::Field;

/// An access of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Guest physical address.
    pub address: u64,
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub fetch: bool,
    /// The read or write of an entry of the guest's own page tables.
    pub walk: bool,
}

impl Access {
    /// A read.
    #[must_use]
    pub const fn read(address: u64) -> Self {
        Self { address, write: false, fetch: false, walk: false }
    }

    /// A write.
    #[must_use]
    pub const fn write(address: u64) -> Self {
        Self { write: true, ..Self::read(address) }
    }

    /// An instruction fetch.
    #[must_use]
    pub const fn fetch(address: u64) -> Self {
        Self { fetch: true, ..Self::read(address) }
    }

    /// An entry of the guest's own tables: hardware walks them as if it wrote.
    #[must_use]
    pub const fn walk(address: u64) -> Self {
        Self { write: true, walk: true, ..Self::read(address) }
    }

    /// EXITINFO1 of a nested page fault, without what the nested tables say.
    pub(super) const fn info(self) -> u64 {
        const USER: u64 = 1 << 2;
        USER | (self.write as u64) << 1 | (self.fetch as u64) << 4 | 1 << (if self.walk { 33 } else { 32 })
    }
}

/// What a guest does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Writes a field of its VMCB: a register.
    Set(Field, u64),
    /// Accesses memory.
    Access(Access),
    /// Raises an event whose delivery accesses memory: an exit during it stands in EXITINTINFO.
    Deliver(Event, Access),
    /// Accesses memory by linear address, through the guest's own four-level tables.
    Linear(Access),
    /// Writes CR3, which flushes the non-global TLB entries.
    WriteCr3(u64),
    /// Executes INVLPG for a linear address.
    InvalidatePage(u64),
    /// Raises an exception. If it is intercepted it exits, with the address in EXITINFO2 for #PF.
    Raise(Event, u64),
    /// Exits: EXITCODE, EXITINFO1 and 2.
    Exit(u64, [u64; 2]),
    /// Exits while this event is being delivered.
    ExitDuring(Event, u64, [u64; 2]),
}

/// What the software CPU saw happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// An injected event was delivered, with this next RIP: nRIP for software events.
    Delivered(Event, u64),
    /// An access reached this physical address of the host.
    Reached(u64),
}
