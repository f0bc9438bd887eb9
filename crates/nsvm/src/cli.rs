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
  nsvm compare EPYC-Rome EPYC-Milan           may a nested guest move?

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
    /// Judge and count every EVENTINJ and VMCB in traces and logs of any size
    Scan(Scan),
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

        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// List the CPU models, the features that rules read and the settings that --cpu knows
    Cpus {
        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Show what a virtual CPU allows: bits of CR4 and EFER, addresses, exceptions, SVM features
    #[command(after_help = "\
EXAMPLES:
  nsvm cpu EPYC-Milan,+shstk,phys-bits=48
  nsvm cpu file:dom.xml                    what a guest of this libvirt domain may do
  nsvm cpu host --format json")]
    Cpu {
        /// The virtual CPU, as for `nsvm check`
        #[arg(value_name = "SPEC")]
        spec: String,

        /// How to print
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Show every VMCB that one virtual CPU accepts and another refuses, and the CPU that is safe for all
    Compare(Compare),
    /// Run the same VMRUN cases on the model, QEMU, Bochs and KVM, and show who differs
    #[command(subcommand)]
    Lab(Lab),
    /// Run a hypervisor as L1 on nested-svm, and be told why each VMRUN of it failed
    #[command(subcommand)]
    L0(L0),
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

    /// Say what this stack of implementations would do, from the top, as in kvm@7.2.13/qemu@7.2.22; may be repeated
    #[arg(long = "as", value_name = "STACK")]
    pub(crate) stacks: Vec<String>,

    /// Say what every known implementation would do
    #[arg(long)]
    pub(crate) who: bool,

    /// Write what was found in another form, in the place of the report
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) emit: Option<Emit>,

    /// Where --emit writes; the report is printed too then
    #[arg(short, long, value_name = "FILE", requires = "emit")]
    pub(crate) output: Option<std::path::PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = CheckFormat::Human)]
    pub(crate) format: CheckFormat,

    /// List each undecided rule with what is missing
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Emit {
    /// A row for cases/ and the lab for each VMCB; what the input does not show is left to the row's base
    Case,
    /// A page of HTML that explains the findings, for a browser, with nothing loaded from elsewhere
    Page,
}

/// How `nsvm check` prints.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum CheckFormat {
    /// For people
    Human,
    /// JSON lines; the schema is schema/nsvm.schema.json in the repository
    Json,
    /// SARIF 2.1.0, one object: for code scanning and viewers of it
    Sarif,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
Each difference comes with the smallest VMCB that shows it: the minimal legal guest and what is changed in it. \
What is not known of a CPU may differ, and is said to be undecided, never equal: models do not state phys-bits. \
--witness writes the VMCBs as raw pages, reads each back and checks it on both CPUs; INDEX.txt says what they are.

EXAMPLES:
  nsvm compare EPYC-Rome,phys-bits=48 EPYC-Milan,phys-bits=48
  nsvm compare file:old.xml,phys-bits=43 file:new.xml,phys-bits=48 --witness differences
  nsvm compare EPYC-Rome EPYC-Milan EPYC-Genoa --format json | jq -r 'select(.type == \"safe-cpu\").cpu'

EXIT STATUS:
  0 no difference, 1 differences, 2 something is not decided, 3 bad usage or an input that cannot be read; \
  of several answers the first of 3, 1, 2, 0 counts.")]
pub(crate) struct Compare {
    /// The virtual CPUs, as for `nsvm check`
    #[arg(value_name = "CPU", required = true, num_args = 2..=MOST_CPUS)]
    pub(crate) cpus: Vec<String>,

    /// Which exception vectors may be injected
    #[arg(long, value_enum, default_value_t = Policy::VirtualCpu)]
    pub(crate) policy: Policy,

    /// Write the VMCBs that show the differences into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) witness: Option<std::path::PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// Each is compared with each.
const MOST_CPUS: usize = 16;

#[derive(Args, Debug)]
#[command(after_long_help = "\
INPUT:
  Text of tracefs, `trace-cmd report`, `perf script` and kernel logs, of any size, in bounded memory. KVM's events \
  kvm_nested_vmrun, kvm_nested_vmenter, kvm_nested_vmenter_failed, kvm_nested_intercepts, kvm_nested_vmexit, \
  kvm_nested_vmexit_inject, kvm_nested_intr_vmexit, kvm_exit, kvm_entry, kvm_inj_virq and kvm_inj_exception are \
  read, and dumps of VMCBs whose lines name their module. Hex dumps, pages and wrapped lines: `nsvm check`.

  A line is judged by what it shows; what it does not show is not asked. L2 is taken for a guest without SEV. \
  Virtual CPUs are told apart by thread, else by CPU, else by the last `vcpu N` of a line before.

EVENTS:
  --events follows each event of kvm_nested_vmenter to the exit that L1 is told. It needs kvm_exit or \
  kvm_nested_vmexit, and kvm_nested_vmexit_inject, in the trace; without them, and where the tracer lost lines, the \
  answer is that it is not known.

EXAMPLES:
  trace-cmd report | nsvm scan - --events
  nsvm scan trace.txt --cpu EPYC-Milan --lines 100
  nsvm scan trace.txt --format json | jq -r 'select(.type == \"scan-rule\") | [.count, .rule] | @tsv'

EXIT STATUS:
  0 nothing is refused or goes wrong, 1 something is, 2 an event or a dump is not decided, 3 bad usage, an input that \
  cannot be read, or one of VMX; of several answers the first of 3, 1, 2, 0 counts.")]
pub(crate) struct Scan {
    /// Files to read; `-` is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<std::path::PathBuf>,

    /// The virtual CPU, as for `nsvm check`
    #[arg(long, value_name = "SPEC")]
    pub(crate) cpu: Option<String>,

    /// Which exception vectors may be injected
    #[arg(long, value_enum, default_value_t = Policy::VirtualCpu)]
    pub(crate) policy: Policy,

    /// Follow each injected event from its VMRUN to its exit
    #[arg(long)]
    pub(crate) events: bool,

    /// How many of the lines that break something are listed
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) lines: u16,

    /// How many threads read; as many as there are processors without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
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
  nsvm decode --field cr4 0xb506f0 --cpu EPYC-Milan
  nsvm decode 80000b0d --format json | jq .parts")]
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

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
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

#[derive(Subcommand, Debug)]
#[command(after_long_help = "\
EXAMPLES:
  nsvm lab run                               the model, QEMU, Bochs, two kernels; fetches them
  nsvm lab run model qemu=./qemu-system-x86_64 --set full -o mine.txt --html mine.html
  nsvm lab fetch qemu@trixie kernel@sid
  nsvm lab diff before.txt after.txt")]
pub(crate) enum Lab {
    /// Ask subjects all cases, and print the table of who differs from the rulebook
    Run(LabRun),
    /// Get subjects from Debian's archive into the cache; nothing is installed
    #[command(after_help = "\
EXAMPLES:
  nsvm lab fetch qemu@trixie bochs@sid kernel@bookworm-backports
  nsvm lab fetch kernel:linux-image-6.1.0-56-amd64@bookworm
  nsvm lab fetch xen@bookworm                for the test of nsvm-lab that runs Xen under L0
  nsvm lab fetch --available kernel@trixie

Suites: bookworm, bookworm-backports, trixie, trixie-backports, sid, experimental. The archive is the one \
in this machine's own sources. The cache is NSVM_LAB_CACHE, else nsvm-lab in XDG_CACHE_HOME or ~/.cache.")]
    Fetch {
        /// KIND@SUITE or KIND:PACKAGE@SUITE; kinds are qemu, bochs, kernel and xen
        #[arg(value_name = "WHAT", required = true)]
        what: Vec<String>,
        /// Only list what the suite has
        #[arg(long)]
        available: bool,
    },
    /// Show which subjects are installed or fetched
    List,
    /// Show what changed between two results; the exit status is 1 where something did
    #[command(after_help = "\
EXAMPLES:
  nsvm lab diff monday.txt tuesday.txt
  nsvm lab diff results.txt results.txt --between 'kvm 6.1*' 'kvm 7.2*'    two subjects of one file")]
    Diff {
        /// Results as `nsvm lab run -o` wrote them
        old: std::path::PathBuf,
        /// Later ones
        new: std::path::PathBuf,
        /// Compare these two subjects, of the old file and of the new one; `*` is any text
        #[arg(long, num_args = 2, value_names = ["SUBJECT", "SUBJECT"])]
        between: Option<Vec<String>>,
    },
    /// Put shards, and runs of several subjects, into one file
    #[command(after_help = "EXAMPLE:\n  nsvm lab merge shard-*.txt -o whole.txt")]
    Merge {
        /// Results
        #[arg(required = true)]
        files: Vec<std::path::PathBuf>,
        /// Where to write the whole; the standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
    },
    /// Print the table of results that were kept
    Report(LabReport),
    /// List the cases of a set
    Cases {
        /// commit or full
        #[arg(long, default_value = "commit", value_name = "NAME")]
        set: String,
        /// Only cases whose id, or family, matches; `*` is any text, patterns are separated by commas
        #[arg(long, value_name = "GLOB")]
        only: Option<String>,
    },
    /// Write a bootable image that runs a set on hardware
    #[command(after_long_help = "\
The image boots by itself on a PC with a legacy BIOS (`--form disk`, written to a stick), or through GRUB \
(`--form multiboot`: multiboot /nsvm-lab). It runs the cases and writes a line for each to the first serial \
port (115200 8N1) and to the screen. Nothing is written to any disk. It was never run on hardware: tell us.

Capture the serial port on another machine, then:
  nsvm lab import capture.txt --machine 'EPYC 7713, BIOS 2.4' -o results.txt
and send us results.txt.")]
    Image {
        /// What it is for
        #[arg(long, value_enum, default_value_t = Form::Disk)]
        form: Form,
        /// commit or full
        #[arg(long, default_value = "commit", value_name = "NAME")]
        set: String,
        /// Where to write it
        #[arg(short, long, value_name = "FILE")]
        output: std::path::PathBuf,
    },
    /// Make results of what a machine wrote to its serial port
    Import {
        /// The captured text
        capture: std::path::PathBuf,
        /// The set that the image was made with
        #[arg(long, default_value = "commit", value_name = "NAME")]
        set: String,
        /// What machine it is: processor, firmware
        #[arg(long, value_name = "TEXT")]
        machine: String,
        /// Where to write the results; the standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum Form {
    /// A disk image with a boot sector of its own
    Disk,
    /// A multiboot kernel
    Multiboot,
    /// An ELF64 kernel with a PVH entry
    Elf,
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
SUBJECTS:
  model, model:CPU            the rulebook itself, for a CPU as --cpu of `nsvm check` takes it
  qemu, bochs                 the installed one, else the newest fetched one, else one is fetched
  qemu@trixie, bochs@3.1      a fetched one, by suite or version
  qemu=PATH, bochs=PATH       this program
  qemu:EPYC-v4                with this CPU model; also qemu@trixie:EPYC-Genoa, qemu:qemu64,+svm
  kvm@bookworm, kvm@6.12      KVM of this Debian kernel, in QEMU's emulation
  kvm@PACKAGE@SUITE           the same, by its package: linux-image-6.1.0-56-amd64@bookworm
  kvm=VMLINUZ,MODULES         KVM of this kernel; MODULES is its folder lib/modules/VERSION
  kvm-host                    KVM of this machine
  kvm-l0@bookworm, kvm-l0=... the same kernels as L1 of our L0: three levels
  l0, l0@trixie, l0=PATH      our L0 on nested-svm, in the QEMU of qemu, qemu@trixie, qemu=PATH
  l0:CPU                      the same with this virtual CPU for L1, as --cpu of `nsvm check`
  Without any: model qemu bochs kvm@bookworm kvm@sid, that is, KVM before and after it checked EVENTINJ.

EXAMPLES:
  nsvm lab run
  nsvm lab run qemu bochs --require qemu,bochs --offline       as in CI: a missing one is an error
  nsvm lab run kvm@sid --only 'eventinj.*'
  nsvm lab run qemu --set full --shard 2/4 -o part-2.txt       merge the parts by `nsvm lab merge`

EXIT STATUS:
  0  every difference is listed as expected (crates/nsvm-lab/expected.txt, or --expected)
  1  a difference is not listed, or a listed one did not come out any more
  3  bad usage, a required subject is missing, a subject that is there could not be run,
     nothing was run, or the run was interrupted
A second Ctrl-C ends it at once: 130. Files are written whole or not at all.")]
pub(crate) struct LabRun {
    /// Who is asked
    #[arg(value_name = "SUBJECT")]
    pub(crate) subjects: Vec<String>,
    /// commit (fast, nothing that kills a machine) or full
    #[arg(long, default_value = "commit", value_name = "NAME")]
    pub(crate) set: String,
    /// Only cases whose id, or family, matches; `*` is any text, patterns are separated by commas
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// Subjects that must not be missing, separated by commas: model, qemu, bochs, kvm, kvm-l0, l0
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub(crate) require: Vec<String>,
    /// Ask KVM of this machine too: the subject kvm-host
    #[arg(long)]
    pub(crate) host: bool,
    /// Fetch nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// Only this part of the cases, such as 2/4
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<String>,
    /// How many subjects run at the same time; as many as there are processors without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Write the results as text, for `nsvm lab diff`, `merge` and `report`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) show: LabShow,
}

/// What a report is written to, and held against.
#[derive(Args, Debug)]
pub(crate) struct LabShow {
    /// Write the report as one page of HTML that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<std::path::PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<std::path::PathBuf>,
    /// Another list of expected differences
    #[arg(long, value_name = "FILE")]
    pub(crate) expected: Option<std::path::PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct LabReport {
    /// Results as `nsvm lab run -o` wrote them
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) show: LabShow,
}

#[derive(Subcommand, Debug)]
pub(crate) enum L0 {
    /// Boot L0 in QEMU's emulation, with a multiboot or a Linux kernel as L1
    Run(L0Run),
}

#[derive(Args, Debug)]
#[command(after_long_help = "\
L0 is a small hypervisor on the bare machine. L1 has the machine but for L0's memory: its serial port, interrupt \
controllers, timers and debug exit (isa-debug-exit at F4h). Devices cannot write to memory by themselves: bus \
mastering, ISA DMA and fw_cfg's DMA are held off. The CPU below is QEMU's `max`.

LOG:
  One line for each VMRUN that is refused: address, ids of the broken rules, the values that they read, what \
  VMRUN does. Behind it stands the VMCB as `xxd` writes it: `nsvm check` reads the log. Without --cpu the log \
  begins with L1's CPU, as `nsvm check --cpu cpuid:LOG` reads it.

EXAMPLES:
  nsvm l0 run --l1 hypervisor.elf --append 'console=com1' --log l0.log
  nsvm check l0.log --cpu cpuid:l0.log --phase before
  nsvm l0 run --l1 vmlinuz --initrd initrd.img --append console=ttyS0 --memory 512
  nsvm l0 run --l1 xen.gz.elf --module 'dom0.bin quiet' --memory 512
  nsvm l0 run --l1 hypervisor.elf --cpu EPYC-Genoa,+shstk,phys-bits=52 --verdict-only

EXIT STATUS:
  What L1 wrote to its debug exit, 0 to 127; 0 where it powered off or reset. 113 (71h) where it shut down.
  3 where L0 or QEMU could not go on, or bad usage: then there is a message that begins with `error`.")]
pub(crate) struct L0Run {
    /// L1: a multiboot (version 1) kernel, ELF or flat, or a Linux kernel (bzImage)
    #[arg(long, value_name = "IMAGE")]
    pub(crate) l1: std::path::PathBuf,
    /// L1's command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) append: String,
    /// A module of L1: a file, and after a blank its command line; may be given several times
    #[arg(long = "module", value_name = "FILE")]
    pub(crate) modules: Vec<String>,
    /// The initrd of a Linux kernel
    #[arg(long, value_name = "FILE", conflicts_with = "modules")]
    pub(crate) initrd: Option<std::path::PathBuf>,
    /// L1's virtual CPU, as for `nsvm check`; without it what QEMU's CPU has and the engine gives
    #[arg(long, value_name = "SPEC")]
    pub(crate) cpu: Option<String>,
    /// Judge each VMRUN for any virtual CPU and enter no L2: EXITCODE F0000000h says that it would have been entered
    #[arg(long)]
    pub(crate) verdict_only: bool,
    /// Another qemu-system-x86_64: a path, or a fetched one such as `qemu@sid`
    #[arg(long, value_name = "PATH")]
    pub(crate) qemu: Option<String>,
    /// QEMU's machine
    #[arg(long, value_name = "NAME", default_value = "pc", value_parser = ["pc", "q35"])]
    pub(crate) machine: String,
    /// L1's memory
    #[arg(long, value_name = "MIB", default_value_t = nsvm_l0::MEMORY.0)]
    pub(crate) memory: u32,
    /// Where L0's log goes; the standard error without it
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<std::path::PathBuf>,
    /// Of how many refused VMRUNs the VMCB is dumped
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) dumps: u32,
    /// After every N exits L0 saves its nested state, throws it away and goes on from the saved bytes; 0: never
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) reload: u32,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{Command, CommandFactory as _};

    /// clap breaks lines at 100 columns where there is no terminal: prose may be of any length, a row of columns may
    /// not.
    #[test]
    fn rows_of_help_fit() {
        fn look(command: &Command) {
            for help in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
                for line in help.to_string().lines().filter(|line| line.trim_start().contains("   ")) {
                    assert!(line.len() <= 100, "{}: {line}", command.get_name());
                }
            }
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }
}
