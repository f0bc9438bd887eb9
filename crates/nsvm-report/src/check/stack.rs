//! `--as` and `--who`: stacks of implementations by name.

use crate::error::Error;
use crate::suggest;
use vmcb::{Cpu, Limits, Policy};
use vmcb_implementations::{Implementation, Layer, TABLE, Version};

/// What a stack may end with: a CPU of silicon.
const HARDWARE: &str = "hardware";

/// Implementations from the top, each with the CPU that it offers to the layer above.
pub(super) struct Stack {
    parts: Vec<Part>,
}

struct Part {
    /// `None` for hardware.
    of: Option<(Implementation, Version)>,
    /// As the user wrote it, where it is not that of `--cpu`.
    cpu: Option<String>,
    limits: Limits,
}

impl Stack {
    /// `kvm@7.2.13/qemu@7.2.22:EPYC-Milan`.
    pub(super) fn parse(
        text: &str,
        cpu: &Cpu,
        parse_cpu: &dyn Fn(&str) -> Result<Cpu, Error>,
    ) -> Result<Self, Error> {
        let parts = text
            .split('/')
            .map(|part| Part::parse(part.trim(), cpu, parse_cpu))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some((_, above)) = parts.split_last()
            && above.iter().any(|part| part.of.is_none())
        {
            return Err(Error::usage(format!("--as: nothing is below `{HARDWARE}`: name it last"), None));
        }
        Ok(Self { parts })
    }

    /// Every implementation of the table in the newest version that it knows; of KVM on what it was measured on, and on
    /// hardware.
    pub(super) fn everyone(cpu: &Cpu) -> Vec<Self> {
        let limits = limits(cpu);
        let part = |of| Part { of, cpu: None, limits: limits.clone() };
        let mut everyone = Vec::new();
        for of in Implementation::ALL {
            let Some(version) = of.newest() else { continue };
            let top = || part(Some((of, version)));
            if of == Implementation::Kvm {
                let measured = measured_on(of, version).map(Some);
                let below = measured.into_iter().chain([None]);
                everyone.extend(below.map(|below| Self { parts: vec![top(), part(below)] }));
            } else {
                everyone.push(Self { parts: vec![top()] });
            }
        }
        everyone
    }

    /// To be asked about many pages.
    pub(super) fn build(&self) -> Vec<Layer<'_>> {
        self.parts.iter().map(Part::build).collect()
    }

    /// As `--as` takes it.
    pub(super) fn name(&self) -> String {
        let name = |part: &Part| {
            let of = part.of.map_or(HARDWARE.to_owned(), |(of, version)| format!("{}@{version}", short(of)));
            part.cpu.as_ref().map_or(of.clone(), |cpu| format!("{of}:{cpu}"))
        };
        self.parts.iter().map(name).collect::<Vec<_>>().join("/")
    }
}

impl Part {
    fn parse(
        text: &str,
        common: &Cpu,
        parse_cpu: &dyn Fn(&str) -> Result<Cpu, Error>,
    ) -> Result<Self, Error> {
        let end = text.find(['@', ':']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (version, own) = match rest.strip_prefix('@') {
            Some(rest) => {
                let (version, cpu) = split_version(rest);
                (Some(version), cpu)
            }
            None => (None, rest.strip_prefix(':')),
        };
        let of = match (implementation(name), version) {
            (None, _) if name.eq_ignore_ascii_case(HARDWARE) => match version {
                None => None,
                Some(_) => {
                    let why = format!("--as: `{HARDWARE}` has no version: nothing was measured on any");
                    return Err(Error::usage(why, None));
                }
            },
            (None, _) => {
                let known: Vec<String> = names().map(str::to_owned).collect();
                let help = suggest::help(name, known.iter().cloned());
                let why = format!("--as: `{}` is none of {}", suggest::shorten(name), known.join(", "));
                return Err(Error::usage(why, help));
            }
            (Some(of), None) => of.newest().map(|version| (of, version)),
            (Some(of), Some(version)) => {
                let known = format!("the table knows {} {}", short(of), of.versions().join(", "));
                let version = version.parse::<Version>();
                Some((
                    of,
                    version.map_err(|error| Error::usage(format!("--as: {}: {error}", short(of)), known))?,
                ))
            }
        };
        let limits = limits(&own.map_or(Ok(*common), parse_cpu)?);
        Ok(Self { of, cpu: own.map(str::to_owned), limits })
    }

    fn build(&self) -> Layer<'_> {
        match self.of {
            Some((of, version)) => Layer::new(of, version, &self.limits),
            None => Layer::hardware(&self.limits),
        }
    }
}

/// What predictions are made with: they say nothing of rules that another policy leaves out.
fn limits(cpu: &Cpu) -> Limits {
    Limits::compile(cpu, Policy::VirtualCpu)
}

/// What ran below where this version was measured.
fn measured_on(of: Implementation, version: Version) -> Option<(Implementation, Version)> {
    let version = version.to_string();
    let mut rows =
        TABLE.iter().filter(|row| row.of == of && row.versions.split(' ').any(|one| one == version));
    rows.find_map(|row| row.evidence.below())
}

/// The CPU behind a version; the version may have a colon itself, after `git` or an epoch.
fn split_version(text: &str) -> (&str, Option<&str>) {
    let head = match text.split_once(':') {
        Some(("git", _)) => 4,
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) && starts_with_digit(rest) => {
            epoch.len() + 1
        }
        _ => 0,
    };
    match text.get(head..).and_then(|rest| rest.find(':')) {
        Some(colon) => {
            let (version, cpu) = text.split_at(head + colon);
            (version, cpu.strip_prefix(':'))
        }
        None => (text, None),
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// `qemu` is the emulation of QEMU: with KVM it is KVM that executes VMRUN.
fn short(of: Implementation) -> &'static str {
    match of {
        Implementation::QemuTcg => "qemu",
        other => other.name(),
    }
}

fn implementation(name: &str) -> Option<Implementation> {
    let name = name.to_ascii_lowercase();
    Implementation::ALL.into_iter().find(|of| short(*of) == name || of.name() == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    Implementation::ALL.into_iter().map(short).chain([HARDWARE])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> String {
        Stack::parse(text, &Cpu::ANY, &crate::cpu::parse_model).map_or_else(
            |error| format!("{error} | {}", error.help().unwrap_or_default()),
            |stack| stack.name(),
        )
    }

    #[test]
    fn stacks_as_people_write_them() {
        for (text, same) in [
            ("kvm@7.2.13/qemu@7.2.22", "kvm@7.2.13/qemu@7.2.22"),
            ("KVM@v6.12.95+deb12-amd64 / qemu-tcg@1:7.2+dfsg-7", "kvm@6.12.95/qemu@7.2"),
            ("qemu@1:7.2+dfsg-7:EPYC-Milan,+shstk", "qemu@7.2:EPYC-Milan,+shstk"),
            ("qemu@7.2.22:EPYC-Milan", "qemu@7.2.22:EPYC-Milan"),
            ("qemu:EPYC-v4", "qemu@11.1.3:EPYC-v4"),
            ("bochs", "bochs@3.1"),
            ("xen@git:c447b7308b13:EPYC", "xen@git:c447b7308b13:EPYC"),
            ("xen@4.17", "xen@4.17"),
            ("kvm/hardware", "kvm@7.3.4/hardware"),
            ("hardware:EPYC", "hardware:EPYC"),
        ] {
            assert_eq!(name(text), same);
            assert_eq!(name(same), same);
        }
    }

    #[test]
    fn errors_say_what_is_known() {
        assert_eq!(
            name("bosch@3.1"),
            "--as: `bosch` is none of kvm, bochs, qemu, virtualbox, xen, hardware | did you mean `bochs`?"
        );
        let bad = name("bochs@new");
        assert!(bad.starts_with("--as: bochs: `new` is no version: "), "{bad}");
        assert!(bad.ends_with("| the table knows bochs 2.7, 3.0, 3.1"), "{bad}");
        assert!(name("hardware/kvm").starts_with("--as: nothing is below `hardware`"));
        assert!(name("hardware@5").starts_with("--as: `hardware` has no version"));
        assert!(name("qemu:EPYC-Milano").contains("EPYC-Milano"));
        for text in ["", "/", "kvm@", "@", ":", "kvm//qemu", "kvm@git:", "kvm@:"] {
            assert!(name(text).starts_with("--as: "), "{text}: {}", name(text));
        }
    }

    #[test]
    fn everyone_is_the_newest_of_each() {
        let names: Vec<String> = Stack::everyone(&Cpu::ANY).iter().map(Stack::name).collect();
        assert_eq!(
            names,
            [
                "kvm@7.3.4/qemu@7.2.22",
                "kvm@7.3.4/hardware",
                "bochs@3.1",
                "qemu@11.1.3",
                "virtualbox@git:4908d8d1a85c",
                "xen@git:c447b7308b13"
            ]
        );
    }
}
