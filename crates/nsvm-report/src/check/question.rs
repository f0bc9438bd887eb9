//! The question of a check: CPU, host facts and stacks, compiled once for all VMCBs.

use super::judged_for::{Cpus, JudgedFor};
use super::stack::Stack;
use crate::error::Error;
use crate::host::HostFacts;
use std::cell::OnceCell;
use vmcb::{Cpu, Feature, KnownPage, Limits, Phase, Policy};
use vmcb_dump::VmType;

/// CPU, host facts and stacks, compiled once for all VMCBs of a check.
pub struct Question {
    pub(super) cpu: Cpu,
    pub(super) cpu_text: String,
    pub(super) cpu_given: bool,
    pub(super) policy: Policy,
    pub(super) cpus: Cpus,
    /// Of the same policy: any AMD CPU, and one of which no feature is known.
    any: OnceCell<Limits>,
    blank: OnceCell<Limits>,
    pub(super) host: HostFacts,
    pub(super) phase: Option<Phase>,
    pub(super) vmsa: Option<(String, Box<KnownPage>)>,
    /// Those of `--as`, and of `--who`.
    pub(super) stacks: Vec<Stack>,
    pub(super) everyone: Vec<Stack>,
}

/// What a check is asked, as the caller states it.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// The virtual CPU and its description. Without it, any AMD CPU with SVM.
    pub cpu: Option<(Cpu, &'a str)>,
    /// Which exception vectors may be injected.
    pub policy: Policy,
    /// Facts about the host, as `--host` takes them.
    pub host: Option<&'a str>,
    /// When the VMCB was captured. Overrides the input.
    pub phase: Option<Phase>,
    /// The decrypted VMSA and its name.
    pub vmsa: Option<(String, Box<KnownPage>)>,
    /// Stacks of implementations whose answers are predicted, as `--as` takes them.
    pub stacks: &'a [String],
    /// Whether the answers of all known implementations are predicted.
    pub who: bool,
}

impl Question {
    /// Compiles a question. `parse_cpu` parses the CPU of a layer in a stack; [`crate::parse_model`] knows names only.
    ///
    /// # Errors
    /// If the host facts or a stack cannot be parsed, with suggestions.
    pub fn new(options: Options<'_>, parse_cpu: &dyn Fn(&str) -> Result<Cpu, Error>) -> Result<Self, Error> {
        let (cpu, cpu_text) = options.cpu.unwrap_or((Cpu::ANY, "any"));
        let host = HostFacts::parse(options.host)?;
        let stacks = options.stacks.iter().map(|text| Stack::parse(text, &cpu, parse_cpu));
        Ok(Self {
            cpu,
            cpu_text: cpu_text.to_owned(),
            cpu_given: options.cpu.is_some(),
            policy: options.policy,
            cpus: Cpus::default(),
            any: OnceCell::new(),
            blank: OnceCell::new(),
            host,
            phase: options.phase,
            vmsa: options.vmsa,
            stacks: stacks.collect::<Result<_, _>>()?,
            everyone: if options.who { Stack::everyone(&cpu) } else { Vec::new() },
        })
    }

    /// Returns the CPU that VMCBs of this type of guest are judged for.
    pub(super) fn judged_for(&self, vm_type: Option<VmType>) -> &JudgedFor {
        self.cpus.get(vm_type, &self.cpu, &self.cpu_text, self.policy)
    }

    pub(super) fn any(&self) -> &Limits {
        self.any.get_or_init(|| Limits::compile(&Cpu::ANY, self.policy))
    }

    pub(super) fn blank(&self) -> &Limits {
        self.blank.get_or_init(|| {
            let cpu = Feature::ALL.iter().fold(Cpu::ANY, |cpu, &feature| cpu.without_knowing(feature));
            Limits::compile(&cpu, self.policy)
        })
    }
}
