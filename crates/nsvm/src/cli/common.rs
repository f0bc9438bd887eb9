//! Values that several verbs take.

use clap::ValueEnum;

/// Which exception vectors may be injected.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Policy {
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

/// When a VMCB was captured.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub enum Phase {
    /// As VMRUN reads it
    Before,
    /// As #VMEXIT left it
    After,
}

impl From<Phase> for vmcb::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Before => Self::Before,
            Phase::After => Self::After,
        }
    }
}

/// How most verbs print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Format {
    /// For people
    Human,
    /// JSON lines; the schema is schema/nsvm.schema.json in the repository
    Json,
}

impl From<Format> for nsvm_report::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Human => Self::Human,
            Format::Json => Self::Json,
        }
    }
}
