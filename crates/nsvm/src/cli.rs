//! The arguments of `nsvm` and of its external verbs. Help, completions and the man page are made from them.

mod check;
mod common;
mod compare;
mod l0;
mod lab;
mod scan;

pub use check::{Check, CheckFormat, Emit};
pub use common::{Format, Phase, Policy};
pub use compare::Compare;
pub use l0::{L0, L0_MEMORY, L0Run};
pub use lab::{Form, Lab, LabReport, LabRun, LabShow};
pub use scan::Scan;

use clap::builder::{PossibleValue, PossibleValuesParser};
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
  NO_COLOR  when set, no colors"
)]
pub struct Cli {
    /// When to use colors
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = Color::Auto,
        value_name = "WHEN",
        overrides_with = "color"
    )]
    pub color: Color,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// When output is colored.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Verb {
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

/// The names that `--field` takes.
fn fields() -> PossibleValuesParser {
    nsvm_report::Field::ALL.map(|(_, name, meaning)| PossibleValue::new(name).help(meaning)).into()
}

/// Arguments of `nsvm decode`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
EXAMPLES:
  nsvm decode 8000031f                     guessed: EVENTINJ
  nsvm decode -1 0x400 npf VMEXIT_HLT      exit codes by number and name
  nsvm decode '#GP'
  nsvm decode --field cr4 0xb506f0 --cpu EPYC-Milan
  nsvm decode 80000b0d --format json | jq .parts")]
pub struct Decode {
    /// Numbers and names: -1, ffffffff, 0x400, 18446744073709551615, VMEXIT_NPF, npf, #GP
    #[arg(value_name = "WORD", required = true, allow_negative_numbers = true)]
    pub words: Vec<String>,

    /// What the words are; guessed, and said, without it
    #[arg(long, value_parser = fields())]
    pub field: Option<String>,

    /// The virtual CPU, as for `nsvm check`: whether it accepts the event
    #[arg(long, value_name = "SPEC")]
    pub cpu: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Arguments of `nsvm rules`.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
  nsvm rules --class R
  nsvm rules --reads cr4 --format json")]
pub struct Rules {
    /// Only this class: A illegal by the manual, D derived, R required, T test practice
    #[arg(long, value_name = "A|D|R|T", ignore_case = true, value_parser = ["A", "D", "R", "T"])]
    pub class: Option<String>,

    /// Only this group: P before the VMCB is read, C control area, S save area, E events, V SEV
    #[arg(long, value_name = "P|C|S|E|V", ignore_case = true, value_parser = ["P", "C", "S", "E", "V"])]
    pub group: Option<String>,

    /// Only rules that read this field, register or CPU feature
    #[arg(long, value_name = "FIELD")]
    pub reads: Option<String>,

    /// Only rules whose page has this text
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
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
