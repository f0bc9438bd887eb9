//! Arguments of `nsvm compare`.

use super::common::{Format, Policy};
use clap::Args;

/// Arguments of `nsvm compare`.
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
pub struct Compare {
    /// The virtual CPUs, as for `nsvm check`
    #[arg(value_name = "CPU", required = true, num_args = 2..=MOST_CPUS)]
    pub cpus: Vec<String>,

    /// Which exception vectors may be injected
    #[arg(long, value_enum, default_value_t = Policy::VirtualCpu)]
    pub policy: Policy,

    /// Write the VMCBs that show the differences into this directory
    #[arg(long, value_name = "DIR")]
    pub witness: Option<std::path::PathBuf>,

    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub format: Format,
}

/// Each is compared with each.
const MOST_CPUS: usize = 16;
