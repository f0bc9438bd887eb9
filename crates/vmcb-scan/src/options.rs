//! The options of a scan.

use vmcb::{Cpu, Policy};

/// What is asked of an input.
#[derive(Clone, Debug)]
pub struct Options {
    /// The virtual CPU.
    pub cpu: Cpu,
    /// Which exception vectors may be injected.
    pub policy: Policy,
    /// Follow each injected event from its VMRUN to its exit.
    pub events: bool,
    /// Findings, and problems of events, that are kept; more are counted.
    pub lines: usize,
    /// Threads that read lines; with 1 everything is done by the calling one.
    pub jobs: usize,
    /// Bytes that a thread is given at a time. No answer depends on it.
    pub block: usize,
}

impl Default for Options {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cpu: Cpu::ANY, policy: Policy::VirtualCpu, events: false, lines: 20, jobs, block: 1 << 19 }
    }
}
