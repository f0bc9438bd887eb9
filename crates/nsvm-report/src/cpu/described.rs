//! A CPU with remarks.

use vmcb::Cpu;

/// A CPU, and remarks on its description.
#[derive(Clone, Debug)]
pub struct Described {
    /// The CPU.
    pub cpu: Cpu,
    /// Sentences without a full stop.
    pub remarks: Vec<String>,
}

impl From<Cpu> for Described {
    fn from(cpu: Cpu) -> Self {
        Self { cpu, remarks: Vec::new() }
    }
}
