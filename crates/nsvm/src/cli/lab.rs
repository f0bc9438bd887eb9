//! Arguments of `nsvm lab`.

use clap::{Args, Subcommand, ValueEnum};

/// The verbs of `nsvm lab`.
#[derive(Subcommand, Debug)]
#[command(after_long_help = "\
EXAMPLES:
  nsvm lab run                               the model, QEMU, Bochs, two kernels; fetches them
  nsvm lab run model qemu=./qemu-system-x86_64 --set full -o mine.txt --html mine.html
  nsvm lab fetch qemu@trixie kernel@sid
  nsvm lab diff before.txt after.txt")]
pub enum Lab {
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

/// The forms of an image.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Form {
    /// A disk image with a boot sector of its own
    Disk,
    /// A multiboot kernel
    Multiboot,
    /// An ELF64 kernel with a PVH entry
    Elf,
}

/// Arguments of `nsvm lab run`.
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
pub struct LabRun {
    /// Who is asked
    #[arg(value_name = "SUBJECT")]
    pub subjects: Vec<String>,
    /// commit (fast, nothing that kills a machine) or full
    #[arg(long, default_value = "commit", value_name = "NAME")]
    pub set: String,
    /// Only cases whose id, or family, matches; `*` is any text, patterns are separated by commas
    #[arg(long, value_name = "GLOB")]
    pub only: Option<String>,
    /// Subjects that must not be missing, separated by commas: model, qemu, bochs, kvm, kvm-l0, l0
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub require: Vec<String>,
    /// Ask KVM of this machine too: the subject kvm-host
    #[arg(long)]
    pub host: bool,
    /// Fetch nothing
    #[arg(long)]
    pub offline: bool,
    /// Only this part of the cases, such as 2/4
    #[arg(long, value_name = "I/N")]
    pub shard: Option<String>,
    /// How many subjects run at the same time; as many as there are processors without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Write the results as text, for `nsvm lab diff`, `merge` and `report`
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<std::path::PathBuf>,
    /// What the report is compared with and written to
    #[command(flatten)]
    pub show: LabShow,
}

/// What a report is compared with and written to.
#[derive(Args, Debug)]
pub struct LabShow {
    /// Write the report as one page of HTML that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<std::path::PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<std::path::PathBuf>,
    /// Another list of expected differences
    #[arg(long, value_name = "FILE")]
    pub expected: Option<std::path::PathBuf>,
}

/// Arguments of `nsvm lab report`.
#[derive(Args, Debug)]
pub struct LabReport {
    /// Results as `nsvm lab run -o` wrote them
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<std::path::PathBuf>,
    /// What the report is compared with and written to
    #[command(flatten)]
    pub show: LabShow,
}
