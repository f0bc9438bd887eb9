//! Arguments of `nsvm check`.

use super::common::{Phase, Policy};
use clap::{Args, ValueEnum};

/// Arguments of `nsvm check`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
INPUT:
  Raw pages; hex dumps of xxd, hexdump and od; dumps of KVM, Xen and QEMU; QEMU's logs; Xen's checker lines; \
  KVM's trace lines of ftrace, trace-cmd and perf; KVM_GET_NESTED_STATE. As pasted: quoted, wrapped, cut. \
  Several in one file are judged in turn. What each shows: docs/formats.md.

CPU:
  A model of QEMU and changes to it: EPYC-Milan, EPYC-Genoa-v2,+shstk,-vnmi,phys-bits=52
  any                 any AMD CPU that has SVM (the default): what depends on the CPU is undecided
  file:PATH           cpuid's output (`cpuid -1`, with or without -r), libvirt's XML (a domain,
                      `virsh capabilities`, `virsh domcapabilities`) or /proc/cpuinfo; changes may
                      follow: file:dom.xml,+shstk
  host                CPUID of this machine, if the kernel lets it be read, else /proc/cpuinfo
  A model does not state the physical address width: give phys-bits, or the address rules stay undecided. \
  `nsvm cpus` lists models, features and settings.

IMPLEMENTATIONS:
  --as names a stack from the top, NAME@VERSION:CPU with / between layers; VERSION and :CPU may be left out.
  kvm bochs qemu virtualbox xen    by the observations of docs/peers.md
  hardware                         a CPU of silicon, last: of it only the manual is known
  kvm@7.2.13/qemu@7.2.22           KVM judges VMCB12, then QEMU the VMCB02 that KVM builds of it
  Without VERSION the newest that is known; without :CPU each layer offers the CPU of --cpu. Each answer says \
  whether it was measured or read in source; between observations it is unknown, with what was seen last. \
  The exit status stays that of the rulebook.

HOST FACTS (a list with commas; 0 no, 1 yes, unknown):
  svme pe vm pg long64 smm    the executing CPU: EFER.SVME, CR0.PE, RFLAGS.VM, CR0.PG, 64-bit
                              mode, SMM
  cpl=0..3                    its CPL
  hsave-pa-zero smmlock memenc snp ibs-fetch ibs-op
                              its MSRs: VM_HSAVE_PA is 0, HWCR.SmmLock, SYSCFG.MemEncryptionModEn,
                              SYSCFG.SecureNestedPagingEn, IbsFetchEn, IbsOpEn
  rmp-vmcb-foreign rmp-vmsa-foreign rmp-avic-foreign
                              the RMP does not say that this page is the hypervisor's
  rmp-vmsa-fails vmsa-load-fails sibling-active
  rax=ADDRESS                 the VMCB's physical address
  u-cet=VALUE                 MSR 6A0h
  pdptes=A:B:C:D              the guest's page directory pointer entries
  unknown                     nothing is assumed of the host; may be followed by facts
  Without --host: svme=1,pe=1,vm=0,cpl=0,pg=1,long64=1,smm=0, which holds for every real hypervisor.

EXAMPLES:
  nsvm check dump.txt
  dmesg | nsvm check - --cpu EPYC-Milan,phys-bits=48
  nsvm check vmcb.bin --phase before --host rax=0x1000,hsave-pa-zero=0
  nsvm check dump.txt --cpu EPYC-Milan,phys-bits=48 --as kvm@6.1.170/qemu@10.0.2 --as bochs
  nsvm check dump.txt --who
  nsvm check dump.txt --emit case                 the VMCB as a row for the lab
  nsvm check dump.txt --emit page -o finding.html
  nsvm check trace.txt --format json | jq -r 'select(.type == \"finding\").rule'

EXIT STATUS:
  0 nothing is refused, 1 refused, 2 something is not decided, 3 bad usage or an input that cannot be read; \
  of several answers the first of 3, 1, 2, 0 counts.")]
pub struct Check {
    /// Files to read; `-` is the standard input, which is also read when none is given
    #[arg(value_name = "FILE")]
    pub files: Vec<std::path::PathBuf>,

    /// The virtual CPU: the CPU that executes VMRUN, as the hypervisor sees it
    #[arg(long, value_name = "SPEC")]
    pub cpu: Option<String>,

    /// Which exception vectors may be injected
    #[arg(long, value_enum, default_value_t = Policy::VirtualCpu)]
    pub policy: Policy,

    /// Facts about the host where VMRUN is executed
    #[arg(long, value_name = "FACTS")]
    pub host: Option<String>,

    /// When the VMCB was seen, where the input does not tell or tells wrong
    #[arg(long, value_enum)]
    pub phase: Option<Phase>,

    /// The decrypted VMSA of an SEV-ES or SEV-SNP guest, where the input does not show it: a raw page or a hex
    /// dump
    #[arg(long, value_name = "FILE")]
    pub vmsa: Option<std::path::PathBuf>,

    /// Say what this stack of implementations would do, from the top, as in kvm@7.2.13/qemu@7.2.22; may be repeated
    #[arg(long = "as", value_name = "STACK")]
    pub stacks: Vec<String>,

    /// Say what every known implementation would do
    #[arg(long)]
    pub who: bool,

    /// Write what was found in another form, in the place of the report
    #[arg(long, value_enum, value_name = "WHAT")]
    pub emit: Option<Emit>,

    /// Where --emit writes; the report is printed too then
    #[arg(short, long, value_name = "FILE", requires = "emit")]
    pub output: Option<std::path::PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = CheckFormat::Human)]
    pub format: CheckFormat,

    /// List each undecided rule with what is missing
    #[arg(short, long)]
    pub verbose: bool,
}

/// What `--emit` writes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Emit {
    /// A row for cases/ and the lab for each VMCB; what the input does not show is left to the row's base
    Case,
    /// A page of HTML that explains the findings, for a browser, with nothing loaded from elsewhere
    Page,
}

/// How `nsvm check` prints.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum CheckFormat {
    /// For people
    Human,
    /// JSON lines; the schema is schema/nsvm.schema.json in the repository
    Json,
    /// SARIF 2.1.0, one object: for code scanning and viewers of it
    Sarif,
}

impl From<Emit> for nsvm_report::Emit {
    fn from(emit: Emit) -> Self {
        match emit {
            Emit::Case => Self::Case,
            Emit::Page => Self::Page,
        }
    }
}

impl From<CheckFormat> for nsvm_report::CheckFormat {
    fn from(format: CheckFormat) -> Self {
        match format {
            CheckFormat::Human => Self::Human,
            CheckFormat::Json => Self::Json,
            CheckFormat::Sarif => Self::Sarif,
        }
    }
}
