//! What keeps an input from being read.

use std::io;

/// Why no further VMCB comes from an input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("the input cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The input has no bytes at all.
    #[error("the input is empty: not one byte to read")]
    Empty,
    /// A binary input that does not consist of whole pages.
    #[error(
        "a VMCB is 4096 bytes; the input is binary and has {bytes}, so page {page} has {have} and lacks {lacks}{hint}",
        page = bytes / 4096 + 1, have = bytes % 4096, lacks = 4096 - bytes % 4096,
        hint = if *.gzip { "; it begins as gzip does: unpack it first" } else { "" }
    )]
    BadSize {
        /// Size of the whole input in bytes.
        bytes: u64,
        /// The input begins with the mark of a gzip file.
        gzip: bool,
    },
    /// KVM's nested state breaks off, or something else comes behind it.
    #[error(
        "at byte {offset}: the input begins with KVM's nested state, and here {have} bytes are left that make no \
         further one of 128 or 4224 bytes"
    )]
    BadNestedState {
        /// Bytes from the start of the input.
        offset: u64,
        /// Bytes left, at most 4224.
        have: usize,
    },
    /// KVM's nested state of a vCPU that runs no nested guest.
    #[error(
        "at byte {offset}: this is KVM's nested state of a vCPU that runs no nested guest: there is no VMCB in it"
    )]
    NestedStateWithoutGuest {
        /// Bytes from the start of the input.
        offset: u64,
    },
    /// KVM's nested state of an Intel vCPU.
    #[error(
        "at byte {offset}: this is KVM's nested state of a vCPU with VMX (Intel), which has a VMCS and no VMCB; its \
         fields mean other things"
    )]
    VmxNestedState {
        /// Bytes from the start of the input.
        offset: u64,
    },
    /// A text without any VMCB in a known form.
    #[error(
        "no VMCB found in {lines} line{s} ({bytes} bytes of text); looked for KVM's dump_vmcb, \
         kvm_nested_vmrun, kvm_nested_vmenter and kvm_nested_vmenter_failed trace lines and exits that VMRUN refused, Xen's dumps and checks, \
         QEMU's register dumps and vmexit lines, and hex dumps of xxd, hexdump and od{hint}",
        s = if *lines == 1 { "" } else { "s" },
        hint = if *bytes < 4096 && *lines <= 1 { "; a raw VMCB would be 4096 bytes" } else { "" }
    )]
    NothingFound {
        /// Lines read.
        lines: u64,
        /// Bytes read.
        bytes: u64,
    },
    /// KVM said that it would have dumped a VMCB, had it been allowed to.
    #[error(
        "line {line}: KVM met a VMCB worth dumping but did not print it; load kvm_amd with dump_invalid_vmcb=1 \
         and try again"
    )]
    KvmDumpDisabled {
        /// Line of the message, counted from 1.
        line: u64,
    },
    /// The dump or trace of an Intel VMCS.
    #[error(
        "line {line}: this is {what} of VMX (Intel), which has a VMCS and no VMCB; its fields mean other things"
    )]
    Vmx {
        /// First line that shows it, counted from 1.
        line: u64,
        /// What it is: a dump or a trace line.
        what: &'static str,
    },
    /// The text is in UTF-16.
    #[error("the input is UTF-16 text; save it as UTF-8 (as PowerShell's `Out-File -Encoding utf8` does)")]
    Utf16,
    /// QEMU's log of emulated SVM instructions.
    #[error(
        "line {line}: this is QEMU's log of emulated SVM instructions; it names the VMCB's address but shows none of it"
    )]
    QemuSvmLog {
        /// First line that shows it, counted from 1.
        line: u64,
    },
}
