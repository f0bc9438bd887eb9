//! The command line: help, completions and the man page come from here too.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Explains why AMD-V's VMRUN refuses a VMCB.
///
/// VMRUN refuses a VMCB with one number, VMEXIT_INVALID, and never says why. nsvm judges the VMCB by the
/// rules of the manual, for the CPU that you name, and says which of them it breaks.
#[derive(Parser, Debug)]
#[command(
    name = "nsvm",
    version,
    max_term_width = 100,
    after_long_help = "\
EXAMPLES:
  dmesg | nsvm check                          what KVM printed with kvm_amd.dump_invalid_vmcb=1
  nsvm check vmcb.bin --cpu EPYC-Milan,phys-bits=48
  nsvm decode 8000031f                        what does EVENTINJ = 8000031f inject?
  nsvm explain sav-cs-l-and-d

EXIT STATUS:
  0  nothing is refused
  1  a VMCB is refused
  2  nothing is refused, but something is not decided
  3  bad usage, or an input that cannot be read
  Of several answers the first of 3, 1, 2, 0 counts.

ENVIRONMENT:
  NO_COLOR  when set, no colours"
)]
pub(crate) struct Cli {
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Find every VMCB in the input and judge it
    Check(Check),
    /// Decode words: EVENTINJ, EXITINTINFO, exit codes, registers, intercepts
    Decode(Decode),
    /// Print the page of a rule
    #[command(after_help = "EXAMPLE:\n  nsvm explain evt-exc-cp-without-shstk")]
    Explain {
        /// Id of the rule, as `nsvm rules` lists it
        rule: String,
    },
    /// List the rules
    Rules(Rules),
    /// List vectors 0 to 31: what each is, and whether EVENTINJ may carry it
    #[command(after_help = "EXAMPLE:\n  nsvm vectors --cpu EPYC-Genoa,+shstk")]
    Vectors {
        /// The virtual CPU, as for `nsvm check`
        #[arg(long, value_name = "SPEC")]
        cpu: Option<String>,
    },
    /// List the CPU models, the features that rules read and the settings that --cpu knows
    Cpus,
    /// Print a shell's completions
    #[command(
        after_help = "EXAMPLE:\n  nsvm completions bash > ~/.local/share/bash-completion/completions/nsvm"
    )]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "EXAMPLE:\n  nsvm man | man -l -")]
    Man,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
INPUT:
  Raw pages, text of xxd, hexdump and od, KVM's dump_vmcb in a kernel log, and KVM's trace lines
  kvm_nested_vmrun, kvm_nested_vmenter and kvm_nested_vmenter_failed. Several in one file are judged in turn.

CPU:
  A model of QEMU and changes to it: EPYC-Milan, EPYC-Genoa-v2,+shstk,-vnmi,phys-bits=52
  any                 any AMD CPU that has SVM (the default): what depends on the CPU is undecided
  cpuid:FILE          lines as `cpuid -r` prints them
  A model does not state the physical address width: give phys-bits, or the address rules stay undecided.
  `nsvm cpus` lists models, features and settings.

HOST FACTS (a list with commas; 0 no, 1 yes, unknown):
  svme pe vm pg long64 smm    the executing CPU: EFER.SVME, CR0.PE, RFLAGS.VM, CR0.PG, 64-bit mode, SMM
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
  nsvm check trace.txt --format json | jq -r 'select(.type == \"finding\").rule'

EXIT STATUS:
  0 nothing is refused, 1 refused, 2 something is not decided, 3 bad usage or an input that cannot be read;
  of several answers the first of 3, 1, 2, 0 counts.")]
pub(crate) struct Check {
    /// Files to read; `-` is the standard input, which is also read when none is given
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<std::path::PathBuf>,

    /// The virtual CPU: the CPU that executes VMRUN, as the hypervisor sees it
    #[arg(long, value_name = "SPEC")]
    pub(crate) cpu: Option<String>,

    /// Which exception vectors may be injected
    #[arg(long, value_enum, default_value_t = Policy::VirtualCpu)]
    pub(crate) policy: Policy,

    /// Facts about the host where VMRUN is executed
    #[arg(long, value_name = "FACTS")]
    pub(crate) host: Option<String>,

    /// When the VMCB was seen, where the input does not tell or tells wrong
    #[arg(long, value_enum)]
    pub(crate) phase: Option<Phase>,

    /// The decrypted VMSA of an SEV-ES or SEV-SNP guest, where the input does not show it: a raw page or a hex
    /// dump
    #[arg(long, value_name = "FILE")]
    pub(crate) vmsa: Option<std::path::PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,

    /// List each undecided rule with what is missing
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum Policy {
    /// Those that the virtual CPU has
    VirtualCpu,
    /// Those that some AMD CPU has: #CP, #VC and #HV are left to the hardware below
    FixedVectors,
}

impl From<Policy> for vmcb::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::VirtualCpu => Self::VirtualCpu,
            Policy::FixedVectors => Self::FixedVectors,
        }
    }
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum Phase {
    /// As VMRUN reads it
    Before,
    /// As #VMEXIT left it
    After,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Format {
    /// For people
    Human,
    /// JSON lines; the schema is schema/nsvm.schema.json in the repository
    Json,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
EXAMPLES:
  nsvm decode 8000031f                     guessed: EVENTINJ
  nsvm decode -1 0x400 npf VMEXIT_HLT      exit codes by number and name
  nsvm decode '#GP'
  nsvm decode --field cr4 0xb506f0 --cpu EPYC-Milan")]
pub(crate) struct Decode {
    /// Numbers and names: -1, ffffffff, 0x400, 18446744073709551615, VMEXIT_NPF, npf, #GP
    #[arg(value_name = "WORD", required = true, allow_negative_numbers = true)]
    pub(crate) words: Vec<String>,

    /// What the words are; guessed, and said, without it
    #[arg(long, value_enum)]
    pub(crate) field: Option<crate::decode::Field>,

    /// The virtual CPU, as for `nsvm check`: whether it accepts the event
    #[arg(long, value_name = "SPEC")]
    pub(crate) cpu: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
  nsvm rules --class R
  nsvm rules --reads cr4 --format json")]
pub(crate) struct Rules {
    /// Only this class: A illegal by the manual, D derived, R required, T test practice
    #[arg(long, value_name = "A|D|R|T", ignore_case = true, value_parser = ["A", "D", "R", "T"])]
    pub(crate) class: Option<String>,

    /// Only this group: P before the VMCB is read, C control area, S save area, E events, V SEV
    #[arg(long, value_name = "P|C|S|E|V", ignore_case = true, value_parser = ["P", "C", "S", "E", "V"])]
    pub(crate) group: Option<String>,

    /// Only rules that read this field, register or CPU feature
    #[arg(long, value_name = "FIELD")]
    pub(crate) reads: Option<String>,

    /// Only rules whose page has this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) grep: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}
