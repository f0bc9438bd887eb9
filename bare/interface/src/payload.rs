//! What the host side and the payload agree on: where things stand in memory, how cases are written down, and
//! the lines that come back.
//!
//! # The image
//! One flat image is loaded at [`BASE`] whatever boots it. It begins with a jump to its 32-bit entry, so the
//! entry *is* [`BASE`]: flat protected mode, paging off, A20 on, interrupts off, any registers. The
//! [`Header`](HEADER_MAGIC) follows. Behind the image, at the header's `end`, stands the blob of cases.
//!
//! # The blob of cases
//! Little endian, no padding but where written:
//!
//! | what | size |
//! | --- | --- |
//! | [`BLOB_MAGIC`] | 8 |
//! | number of bases, number of cases | 4, 4 |
//! | `first`: cases before this one are passed over | 4 |
//! | [console flags](console) | 4 |
//! | bytes of the blob in all | 4 |
//! | zero | 4 |
//! | the bases: whole VMCB pages | 4096 each |
//! | the cases | see below |
//!
//! A case: number of its base (2), [case flags](case_flag) (2), count of differences (2), count of memory words
//! (2), rAX for VMRUN (8); then the differences, bytes of the VMCB, as offset (2), count (2) and that many bytes; then
//! the memory words as physical address (8) and value (8).
//!
//! # The lines
//! The payload writes ASCII lines. Numbers are hexadecimal and have no prefix. One space separates two fields.
//!
//! | line | meaning |
//! | --- | --- |
//! | `nsvm-lab 1` | it has started; the number is [`VERSION`] |
//! | `c LEAF SUBLEAF EAX EBX ECX EDX` | CPUID as the payload sees it |
//! | `m MSR VALUE` | an MSR of it |
//! | `b BLOB-CASES FIRST` | the blob was found whole; cases begin |
//! | `x CASE EXITCODE EXITINFO1 EXITINFO2 EXITINTINFO EVENTINJ RIP RSP SLOTS WORD0 WORD1 SAVE` | #VMEXIT. What the VMCB reads afterwards; SLOTS: words between RSP and the stack's top, and the lowest two of them; SAVE: 1 if VMRUN changed the state save area |
//! | `f CASE VECTOR ERRORCODE` | VMRUN itself faulted in L1 |
//! | `e TEXT` | the payload cannot continue: there is no SVM, or the payload itself faulted |
//! | `end CASES` | all cases were run |
//!
//! Cases are run in order and each line is out before the next case begins, so the case after the last line is
//! the one that killed the machine.

/// Version of all of this.
pub const VERSION: u32 = 1;

/// Physical address where the image is loaded, and its entry.
pub const BASE: u64 = 0x0040_0000;
/// The image and the blob end below this address.
pub const IMAGE_LIMIT: u64 = 0x0200_0000;
/// Memory of the virtual machine that the KVM runner makes, in bytes.
pub const KVM_MEMORY: u64 = 64 << 20;
/// `"NSVMLAB\0"`, 8 bytes into the image.
pub const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"NSVMLAB\0");
/// Offset in the image of [`HEADER_MAGIC`]; the physical address `end` (8 bytes) follows it.
pub const HEADER: usize = 8;
/// `"NSVMCASE"`.
pub const BLOB_MAGIC: u64 = u64::from_le_bytes(*b"NSVMCASE");
/// Size of the blob's head, in bytes.
pub const BLOB_HEAD: usize = 32;
/// Offset of `first` in the blob.
pub const BLOB_FIRST: usize = 16;

/// Where the payload writes its lines.
pub mod console {
    /// Port E9h, as QEMU, Bochs and our runner on KVM offer it.
    pub const E9: u32 = 1;
    /// The first serial port, 115,200 baud.
    pub const SERIAL: u32 = 2;
    /// The text screen.
    pub const SCREEN: u32 = 4;
    /// A bell: the line stands in memory, its newline with it, and its physical address is written to [`BELL_PORT`]
    /// as 32 bits; E9h is then left alone. Our runner on KVM sets it by itself: there each byte at E9h costs an exit.
    pub const BELL: u32 = 8;
    /// Where the bell is rung.
    pub const BELL_PORT: u16 = 0xE8;
}

/// What a case asks for beside its VMCB.
pub mod case_flag {
    /// EFER.SVME of the executing CPU is cleared for this VMRUN.
    pub const SVME_OFF: u16 = 1;
    /// VM_HSAVE_PA is zero for this VMRUN.
    pub const HSAVE_ZERO: u16 = 2;
    /// VMLOAD from the VMCB comes before VMRUN: the guest's TR matters.
    pub const VMLOAD: u16 = 4;
    /// Words on the guest's stack have 8 bytes.
    pub const SLOT8: u16 = 8;
    /// Words on the guest's stack have 2 bytes; with neither flag they have 4.
    pub const SLOT2: u16 = 16;
}

/// Physical addresses of what the cases' VMCBs point at. The bases of the rows in `cases/` name the same ones.
/// All of it lies in the first 128 KiB, which the payload sets up and, after a guest that ran astray, sets up again.
pub mod memory {
    /// Top level of the guest's own page tables; a case's memory words fill its first four entries.
    pub const CR3: u64 = 0x3000;
    /// Second level of 4-level tables: entry 0 leads to [`PD`].
    pub const PDPT: u64 = 0x4000;
    /// Nested page tables (4 levels, 2 MiB pages): what lies in [0, 2 MiB) is mapped to itself, writable, user.
    pub const N_CR3: u64 = 0x5000;
    /// The VMCB.
    pub const VMCB: u64 = 0x7000;
    /// Entry 0 maps [0, 2 MiB) as a 2 MiB page; of 4-level and of PAE tables.
    pub const PD: u64 = 0x8000;
    /// Page table of 32-bit paging: maps [0, 1 MiB).
    pub const PT: u64 = 0x9000;
    /// Second level of the nested tables.
    pub const N_PDPT: u64 = 0xA000;
    /// Third level of the nested tables.
    pub const N_PD: u64 = 0xB000;
    /// The host save area.
    pub const HSAVE: u64 = 0xD000;
    /// I/O permission map: 12 KiB of ones, so that the guest's ports are all intercepted.
    pub const IOPM: u64 = 0x1_0000;
    /// The guest's GDT: null, [`CODE64`](super::selector::CODE64) and so on, in the order of their numbers.
    pub const GDT: u64 = 0x1_3000;
    /// The guest's IDT for long mode: gate n is an interrupt gate to [`STUBS`] + 16 n, DPL 3.
    pub const IDT64: u64 = 0x1_4000;
    /// The same for protected mode.
    pub const IDT32: u64 = 0x1_5000;
    /// The same for real mode: segment [`STUBS`] / 16, offset 16 n.
    pub const IVT: u64 = 0x1_6000;
    /// A 32-bit TSS: SS0 is [`DATA`](super::selector::DATA), ESP0 is [`STACK_TOP`].
    pub const TSS: u64 = 0x1_7000;
    /// 256 handlers of 16 bytes: each does VMMCALL at once, and HLT if it comes back.
    pub const STUBS: u64 = 0x1_8000;
    /// Where the guest begins: VMMCALL and HLT.
    pub const START: u64 = 0x1_9000;
    /// The guest's stack ends here; it has 4 KiB.
    pub const STACK_TOP: u64 = 0x1_BF00;
    /// MSR permission map: 8 KiB of ones.
    pub const MSRPM: u64 = 0x2_0000;
}

/// Selectors of the guest's GDT.
pub mod selector {
    /// 64-bit code.
    pub const CODE64: u16 = 0x08;
    /// 32-bit code.
    pub const CODE32: u16 = 0x10;
    /// Flat data.
    pub const DATA: u16 = 0x18;
    /// The busy 32-bit TSS.
    pub const TSS: u16 = 0x20;
}
