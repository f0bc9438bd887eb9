//! Arguments of `nsvm scan`.

use super::common::{Format, Policy};
use clap::Args;

/// Arguments of `nsvm scan`.
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
pub struct Scan {
    /// Files to read; `-` is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<std::path::PathBuf>,

    /// The virtual CPU, as for `nsvm check`
    #[arg(long, value_name = "SPEC")]
    pub cpu: Option<String>,

    /// Which exception vectors may be injected
    #[arg(long, value_enum, default_value_t = Policy::VirtualCpu)]
    pub policy: Policy,

    /// Follow each injected event from its VMRUN to its exit
    #[arg(long)]
    pub events: bool,

    /// How many of the lines that break something are listed
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub lines: u16,

    /// How many threads read; as many as there are processors without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}
