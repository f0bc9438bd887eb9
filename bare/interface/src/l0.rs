//! What the host side and L0 agree on: where things stand in memory, and the bundle that L0 boots L1 from.
//!
//! # The image
//! L0 is position-independent and linked at 0. The host side loads it at [`LOAD`], with the bundle in the page behind
//! it, and writes into its [head] where it is to live: at the top of memory, where firmware puts nothing that
//! lasts but where nothing may stand before firmware is done. L0 copies itself there. The entry is the first byte, in
//! 32-bit protected mode with EBX as PVH has it.
//!
//! # The bundle
//! Little endian; offsets count from its first byte.
//!
//! | offset | what |
//! | --- | --- |
//! | 0 | [`MAGIC`] (8) |
//! | 8 | bytes of the bundle in all (4) |
//! | 12 | [flags](flag) (4) |
//! | 16 | how many refused VMCBs are dumped (4); of the rest there is only the line |
//! | 20 | entry of L1, a physical address (4) |
//! | 24 | offset and size of the virtual CPU, as `Limits` are encoded; size 0: what the CPU below and the engine have (8) |
//! | 32 | offset and size of the command line (8) |
//! | 40 | offset and number of the segments (8): physical address, size in memory, offset, size of what is given (16) |
//! | 48 | offset and number of the modules (8): offset, size, offset and size of the module's own command line (16) |
//! | 56 | offset and size of the setup header of a Linux kernel; size 0: L1 is a multiboot kernel (8) |
//! | 64 | after how many exits the nested state is saved and loaded again, each time; 0: never (4) |
//! | 68 | zero (4) |

/// `"NSVML0B1"`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"NSVML0B1");
/// Bytes of the bundle's head.
pub const HEAD: usize = 72;
/// Bytes of a segment's and of a module's row.
pub const ROW: usize = 16;

/// Flags of the bundle.
pub mod flag {
    /// L0 judges each VMRUN and enters no L2.
    pub const VERDICT_ONLY: u32 = 1;
    /// Refused VMRUNs are not logged.
    pub const QUIET: u32 = 2;
}

/// Offsets in L0's image of what the host side writes (8 bytes each).
pub mod head {
    /// `"NSVML0\0\0"`, which stands there already.
    pub const MAGIC: usize = 8;
    /// Physical address where L0 is to live.
    pub const HOME: usize = 16;
    /// Physical address of the bundle.
    pub const BUNDLE: usize = 24;
    /// Its size in bytes.
    pub const BUNDLE_SIZE: usize = 32;
    /// Bytes of the image in the file, a multiple of 16.
    pub const FILE_SIZE: usize = 40;
    /// Bytes of zeros that follow, a multiple of 16.
    pub const ZEROS: usize = 48;
}

/// `"NSVML0\0\0"`.
pub const HEAD_MAGIC: u64 = u64::from_le_bytes(*b"NSVML0\0\0");
/// Physical address where firmware puts the image.
pub const LOAD: u64 = 0x0100_0000;
/// Bytes of memory that L0 needs beyond what L1 gets. Firmware keeps some of the last ones for its tables.
pub const REGION: u64 = 4 << 20;

/// What L0 itself writes to the debug exit; L1 may write the same, so the log says it too.
pub mod ended {
    /// L0 cannot go on: the log has the reason.
    pub const FAILED: u8 = 0x70;
    /// L1 shut down, or reset its CPU.
    pub const SHUTDOWN: u8 = 0x71;
}

/// EXITCODE of a VMRUN that L0 only judged (`--verdict-only`), in the range that is free for software
/// (manual volume 2, appendix C).
pub mod verdict {
    /// The rules accept the VMCB: L2 would be entered.
    pub const WOULD_ENTER: u64 = 0xF000_0000;
    /// Nothing is refused, and something is undecided: the log says what is missing.
    pub const UNDECIDED: u64 = 0xF000_0001;
}
