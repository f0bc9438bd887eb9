//! What is asked of every VMCB: the options of the command line, compiled once.

use super::encrypted::Cpus;
use super::stack::Stack;
use crate::error::Error;
use crate::host::HostFacts;
use crate::{cli, cpu, input};
use std::cell::OnceCell;
use vmcb::{Cpu, Feature, KnownPage, Limits, Phase, Policy};

/// What is asked of every VMCB.
pub(super) struct Question {
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

impl Question {
    pub(super) fn new(arguments: &cli::Check) -> Result<Self, Error> {
        let cpu = arguments.cpu.as_deref().map_or(Ok(Cpu::ANY), cpu::parse)?;
        let policy = arguments.policy.into();
        let vmsa = match &arguments.vmsa {
            Some(path) => Some((input::name(path), input::vmsa(path)?)),
            None => None,
        };
        Ok(Self {
            cpu,
            cpu_text: arguments.cpu.clone().unwrap_or_else(|| "any".into()),
            cpu_given: arguments.cpu.is_some(),
            policy,
            cpus: Cpus::default(),
            any: OnceCell::new(),
            blank: OnceCell::new(),
            host: HostFacts::parse(arguments.host.as_deref())?,
            phase: arguments.phase.map(|phase| match phase {
                cli::Phase::Before => Phase::Before,
                cli::Phase::After => Phase::After,
            }),
            vmsa,
            stacks: arguments.stacks.iter().map(|text| Stack::parse(text, &cpu)).collect::<Result<_, _>>()?,
            everyone: if arguments.who { Stack::everyone(&cpu) } else { Vec::new() },
        })
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
