//! The forms in which VMCBs are met.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $id:literal $title:literal, $shows:literal, $lacks:literal;)*) => {
        /// The form in which a VMCB was met.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its stable name: `kvm-dump`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// What it is.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What it shows, and when of it: before VMRUN or after #VMEXIT.
            #[must_use]
            pub const fn shows(self) -> &'static str {
                match self { $(Self::$name => $shows,)* }
            }

            /// What it does not show although rules read it.
            #[must_use]
            pub const fn lacks(self) -> &'static str {
                match self { $(Self::$name => $lacks,)* }
            }
        }
    };
}

kinds! {
    /// 4096 bytes as they are in memory.
    RawPage "raw-page" "raw page",
        "everything; whether before VMRUN or after #VMEXIT it does not tell (`--phase`)",
        "the VMSA of an encrypted guest (`--vmsa`)";
    /// Text of `xxd`, `hexdump`, `od` or the like.
    HexDump "hex-dump" "hex dump",
        "as a raw page, but for the rows that are missing",
        "as a raw page; bytes of which the dump does not tell the order";
    /// What KVM's `dump_vmcb` writes to the kernel log.
    KvmDump "kvm-dump" "KVM dump_vmcb",
        "nearly all fields, after #VMEXIT; the VMSA where KVM could decrypt it",
        "clean bits, on most kernels the intercepts at 014h; EVENTINJ is cleared by then, and judged in EXITINTINFO only where \
         a refused event stands there";
    /// A trace line `kvm_nested_vmrun` or `kvm_nested_vmenter`, with the `kvm_nested_intercepts`
    /// that belongs to it.
    KvmTraceEnter "kvm-trace-enter" "KVM trace of a nested VMRUN",
        "VMCB12 before VMRUN: EVENTINJ's low half, int_ctl, N_CR3 or CR3, RIP, most intercepts, its address",
        "ASID, permission maps, EFER, CR0, CR4 and the rest of the save area";
    /// A trace line `kvm_nested_vmenter_failed`: the VMCB itself is not shown, the reason is.
    KvmTraceFailed "kvm-trace-failed" "KVM trace of a refused nested VMRUN",
        "the condition of KVM's source that held, which names the rule",
        "the VMCB";
    /// A trace line `kvm_exit`, `kvm_nested_vmexit` or `kvm_nested_vmexit_inject`: what #VMEXIT wrote.
    KvmTraceExit "kvm-trace-exit" "KVM trace of a #VMEXIT",
        "EXITCODE, EXITINFO1 and 2, EXITINTINFO, after #VMEXIT; shown where VMRUN refused",
        "what VMRUN read, but for an event that stands in EXITINTINFO";
    /// The bytes that `KVM_GET_NESTED_STATE` gives: VMCB12 as far as KVM keeps it.
    KvmNestedState "kvm-nested-state" "KVM nested state",
        "of VMCB12 the control area as KVM caches it; EVENTINJ only where VMRUN is still pending",
        "L2's save area: what stands there are L1's registers";
    /// Xen's dump of a VMCB (debug key `v`, or after VMEXIT_INVALID).
    XenDump "xen-dump" "Xen VMCB dump",
        "nearly all fields; after #VMEXIT where VMRUN was refused, unknown which for the debug key (`--phase`)",
        "the intercepts at 014h, the registers of shadow stacks in older versions";
    /// Lines of Xen's own checks: the VMCB itself is not shown, the reasons are.
    XenChecks "xen-checks" "Xen's own checks",
        "each reason of Xen, and the value that it names, before VMRUN",
        "all other fields";
    /// A dump of CPU registers by QEMU: what the guest sees, from which only some of the VMCB follows.
    QemuRegisters "qemu-registers" "QEMU register dump",
        "of the guest's view what must stand in the VMCB however it is run; EXITCODE where KVM said that VMRUN failed",
        "the control area; EFER.SVME, CR3, DR6, DR7 and bits of CR0, CR4, EFER that a hypervisor may change";
    /// A `vmexit(...)!` line in QEMU's log of emulated instructions.
    QemuLog "qemu-log" "QEMU log of an emulated #VMEXIT",
        "EXITCODE, EXITINFO1 and 2, RIP, and the VMCB's address, after #VMEXIT",
        "what VMRUN read";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
