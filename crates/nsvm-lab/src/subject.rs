//! Finds subjects by name, and the machines that run them.

use crate::driver::Machine;
use crate::fetch::{Fetcher, Request};
use crate::machine::{Bochs, Boot, HostKvm, Kvm, KvmOnL0, L0, Qemu};
use crate::names::{BOCHS_CPU, QEMU_CPU};
use crate::results::Head;
use crate::store::{Kind, Store, Subject};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use crate::names::{DEFAULT, HOST, KVM_ON_L0, MODEL_CPU, default_cpu};

/// A subject as people name it.
///
/// | text | is |
/// | --- | --- |
/// | `model`, `model:CPU` | the rulebook itself, for a CPU in QEMU's spelling |
/// | `qemu`, `bochs` | the installed one, else the newest fetched |
/// | `qemu@trixie`, `bochs@3.1`, `kvm@6.12`, `kvm@sid` | a fetched one, by suite or version |
/// | `kvm@linux-image-6.1.0-56-amd64@bookworm` | the kernel of this package of Debian |
/// | `qemu=PATH`, `bochs=PATH` | this program |
/// | `kvm=VMLINUZ,MODULES` | this kernel, with its folder `lib/modules/VERSION`, in QEMU |
/// | `qemu:CPU`, `bochs@3.1:CPU` | with this CPU model; `max` and `ryzen` without it |
/// | `kvm-host` | KVM of this machine |
/// | `kvm-l0@6.12`, `kvm-l0=VMLINUZ,MODULES` | the kernel that `kvm` takes for the same, as L1 of our L0: three levels |
/// | `l0`, `l0@trixie`, `l0=PATH` | our L0 on `nested-svm`, in the QEMU that `qemu`, `qemu@trixie`, `qemu=PATH` are |
/// | `l0:CPU` | with this virtual CPU for L1, as `model:CPU` has it; else what QEMU's `max` has and the engine gives |
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    who: Who,
    which: Which,
    cpu: Option<String>,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Model,
    Qemu,
    Bochs,
    Kvm,
    HostKvm,
    KvmOnL0,
    L0,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Which {
    Any,
    Fetched(String),
    Path(String),
}

/// Why a subject cannot be asked. Its text says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

impl Spec {
    /// Whether it is of this sort: `model`, `qemu`, `bochs`, `kvm`, `kvm-host`, `kvm-l0`, `l0`, or its whole text.
    #[must_use]
    pub fn is(&self, sort: &str) -> bool {
        sort == self.sort() || sort == self.text
    }

    fn sort(&self) -> &'static str {
        match self.who {
            Who::Model => "model",
            Who::Qemu => "qemu",
            Who::Bochs => "bochs",
            Who::Kvm => "kvm",
            Who::HostKvm => HOST,
            Who::KvmOnL0 => KVM_ON_L0,
            Who::L0 => "l0",
        }
    }
}

impl Spec {
    /// Whether it is something of this very machine or build: not having it is a mistake in the name, not a lack.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.who == Who::Model || matches!(self.which, Which::Path(_))
    }
}

impl Unavailable {
    fn because(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Spec {
    type Err = Unavailable;

    fn from_str(text: &str) -> Result<Self, Unavailable> {
        let end = text.find(['@', '=', ':']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let who = match name {
            "model" => Who::Model,
            "qemu" => Who::Qemu,
            "bochs" => Who::Bochs,
            "kvm" => Who::Kvm,
            HOST => Who::HostKvm,
            KVM_ON_L0 => Who::KvmOnL0,
            "l0" => Who::L0,
            _ => {
                return Err(Unavailable(format!(
                    "`{text}`: no subject is called `{name}`; there are model, qemu, bochs, kvm, kvm-host, \
                     kvm-l0 and l0"
                )));
            }
        };
        let (rest, cpu) = match rest.split_once(':') {
            Some((rest, cpu)) => (rest, Some(cpu.to_owned())),
            None => (rest, None),
        };
        let which = match rest.split_at_checked(1) {
            None => Which::Any,
            Some((_, "")) => return Err(Unavailable(format!("`{text}`: nothing stands behind `{rest}`"))),
            Some(("@", version)) => Which::Fetched(version.to_owned()),
            Some((_, path)) => Which::Path(path.to_owned()),
        };
        let fits = match who {
            Who::Model => which == Which::Any,
            Who::HostKvm => which == Which::Any && cpu.is_none(),
            Who::Kvm | Who::KvmOnL0 => cpu.is_none(),
            Who::Qemu | Who::Bochs | Who::L0 => true,
        };
        if !fits {
            return Err(Unavailable(format!(
                "`{text}`: {name} takes no such addition; see `nsvm lab run --help`"
            )));
        }
        Ok(Self { who, which, cpu, text: text.to_owned() })
    }
}

/// Who answers.
pub enum Answers {
    /// The rulebook, for this CPU.
    Model(vmcb::Cpu),
    /// A machine that boots the payload.
    Machine(Box<dyn Machine + Send + Sync>),
}

/// A subject that can be asked.
pub struct Ready {
    /// The head of its results; the run fills in the rest.
    pub head: Head,
    /// Who answers.
    pub answers: Answers,
}

impl Ready {
    fn machine(head: Head, machine: impl Machine + Send + Sync + 'static) -> Self {
        Self { head, answers: Answers::Machine(Box::new(machine)) }
    }
}

/// Finds what subjects need: installed, fetched, or fetched now.
pub struct Finder<'a> {
    /// Where fetched ones are.
    pub store: &'a Store,
    /// Whether what is missing may be fetched.
    pub may_fetch: bool,
    /// Told what is being fetched.
    pub progress: &'a mut dyn FnMut(&str),
    /// Kept, so that the archive's lists are read once.
    pub fetcher: Option<Fetcher<'a>>,
}

impl Finder<'_> {
    /// The subject, ready to be asked.
    ///
    /// # Errors
    /// Where it is not here, and cannot or may not be fetched; where a program is not what it should be.
    pub fn find(&mut self, spec: &Spec) -> Result<Ready, Unavailable> {
        match spec.who {
            Who::Model => Self::model(spec),
            Who::Qemu => self.qemu_tcg(spec),
            Who::Bochs => self.bochs(spec),
            Who::Kvm | Who::KvmOnL0 => self.kvm(spec),
            Who::HostKvm => Ok(Self::host_kvm()),
            Who::L0 => self.l0(spec),
        }
    }

    /// Returns the rulebook for the CPU that the name contains.
    fn model(spec: &Spec) -> Result<Ready, Unavailable> {
        let text = spec.cpu.as_deref().unwrap_or(MODEL_CPU);
        let cpu = vmcb::Cpu::parse(text).map_err(Unavailable::because)?;
        let head = Head {
            subject: "model".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cpu: text.to_owned(),
            ..Head::default()
        };
        Ok(Ready { head, answers: Answers::Model(cpu) })
    }

    fn qemu_tcg(&mut self, spec: &Spec) -> Result<Ready, Unavailable> {
        let qemu = self.subject(Kind::Qemu, &spec.which)?;
        let cpu = spec.cpu.clone().unwrap_or_else(|| QEMU_CPU.to_owned());
        let head = Head {
            subject: "qemu-tcg".to_owned(),
            version: version(&qemu)?,
            cpu: cpu.clone(),
            ..Head::default()
        };
        Ok(Ready::machine(head, Qemu { start: Box::new(move || qemu.command()), cpu, boot: Boot::Pvh }))
    }

    fn bochs(&mut self, spec: &Spec) -> Result<Ready, Unavailable> {
        let bochs = self.subject(Kind::Bochs, &spec.which)?;
        let cpu = spec.cpu.clone().unwrap_or_else(|| BOCHS_CPU.to_owned());
        let head = Head {
            subject: "bochs".to_owned(),
            version: version(&bochs)?,
            cpu: cpu.clone(),
            ..Head::default()
        };
        let firmware = bochs.bochs_firmware().ok_or_else(|| {
            Unavailable("Bochs has no BIOS here: install the packages bochsbios and vgabios".to_owned())
        })?;
        Ok(Ready::machine(head, Bochs { start: Box::new(move || bochs.command()), cpu, firmware }))
    }

    /// Returns KVM of a Linux kernel, which runs in QEMU, or on our L0 in QEMU.
    fn kvm(&mut self, spec: &Spec) -> Result<Ready, Unavailable> {
        let (kernel, modules, release) = self.kernel(spec)?;
        for path in [&kernel, &modules] {
            if !path.exists() {
                return Err(Unavailable(format!("{}: no such file or folder", path.display())));
            }
        }
        let qemu = self.subject(Kind::Qemu, &Which::Any)?;
        let emulator = format!("qemu-tcg {}, cpu {QEMU_CPU}", version(&qemu)?);
        let kvm = Kvm { start: Box::new(move || qemu.command()), kernel, modules };
        let head = |subject: &str, below| Head {
            subject: subject.to_owned(),
            version: release,
            cpu: QEMU_CPU.to_owned(),
            below: Some(below),
            ..Head::default()
        };
        Ok(if spec.who == Who::Kvm {
            Ready::machine(head("kvm", emulator), kvm)
        } else {
            let below = format!("l0 {}, on {emulator}", env!("CARGO_PKG_VERSION"));
            Ready::machine(head(KVM_ON_L0, below), KvmOnL0(kvm))
        })
    }

    /// Returns a kernel's image, the folder of its modules, and its version.
    fn kernel(&mut self, spec: &Spec) -> Result<(PathBuf, PathBuf, String), Unavailable> {
        match &spec.which {
            Which::Path(paths) => {
                let (kernel, modules) = paths.split_once(',').ok_or_else(|| {
                    Unavailable(format!("`{spec}`: expected {}=VMLINUZ,MODULES", spec.sort()))
                })?;
                let modules = PathBuf::from(modules);
                let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok((PathBuf::from(kernel), modules, release))
            }
            which => {
                let kernel = self.subject(Kind::Kernel, which)?;
                let release = kernel.release().unwrap_or_default().to_owned();
                let (image, modules) = kernel.kernel().ok_or_else(|| {
                    Unavailable(format!("{kernel}: its image or its modules are missing; fetch it again"))
                })?;
                // The version is more exact than the release: 6.1.192-2, not 6.1.0-56-amd64.
                Ok((image, modules, format!("{release} ({})", kernel.version)))
            }
        }
    }

    fn host_kvm() -> Ready {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let head = Head {
            subject: "kvm".to_owned(),
            version: read("/proc/sys/kernel/osrelease"),
            cpu: "host".to_owned(),
            below: Some("this machine".to_owned()),
            ..Head::default()
        };
        Ready::machine(head, HostKvm)
    }

    fn l0(&mut self, spec: &Spec) -> Result<Ready, Unavailable> {
        let cpu = spec.cpu.as_deref().map(vmcb::Cpu::parse).transpose();
        let cpu = cpu.map_err(Unavailable::because)?;
        let qemu = self.subject(Kind::Qemu, &spec.which)?;
        let head = Head {
            subject: "l0".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cpu: spec.cpu.clone().unwrap_or_else(|| QEMU_CPU.to_owned()),
            below: Some(format!("qemu-tcg {}, cpu {QEMU_CPU}", version(&qemu)?)),
            ..Head::default()
        };
        let limits = cpu.map(|cpu| vmcb::Limits::compile(&cpu, vmcb::Policy::VirtualCpu));
        let start = Box::new(move || qemu.command());
        Ok(Ready::machine(head, L0 { start, limits, verdict_only: false, reload: 0 }))
    }

    /// The program of a subject that is QEMU.
    ///
    /// # Errors
    /// Where it is none, or not here and cannot be fetched.
    pub fn qemu(&mut self, spec: &Spec) -> Result<Subject, Unavailable> {
        match spec.who {
            Who::Qemu => self.subject(Kind::Qemu, &spec.which),
            _ => Err(Unavailable(format!("`{spec}` is no QEMU"))),
        }
    }

    /// The program or kernel.
    fn subject(&mut self, kind: Kind, which: &Which) -> Result<Subject, Unavailable> {
        match which {
            Which::Path(path) => Subject::of_program(kind, path.as_ref()).map_err(Unavailable::because),
            Which::Any => {
                let installed = crate::store::installed();
                for found in installed {
                    match found {
                        Ok(subject) if subject.kind == kind && usable(&subject) => return Ok(subject),
                        Ok(_) => {}
                        // A broken program in PATH is not passed over in silence.
                        Err(error) if kind_of(&error) == Some(kind) => {
                            return Err(Unavailable::because(error));
                        }
                        Err(_) => {}
                    }
                }
                match self.store.find(kind.name()) {
                    Ok(subject) => Ok(subject),
                    Err(missing) => self.fetch(kind, "bookworm", missing),
                }
            }
            Which::Fetched(wanted) => {
                let by_version = self.store.find(&format!("{}:{wanted}", kind.name()));
                let by_suite = || self.store.find(&format!("{}@{wanted}", kind.name()));
                match by_version.or_else(|_| by_suite()) {
                    Ok(subject) => Ok(subject),
                    Err(missing) => self.fetch(kind, wanted, missing),
                }
            }
        }
    }

    fn fetch(
        &mut self,
        kind: Kind,
        suite: &str,
        missing: crate::store::Error,
    ) -> Result<Subject, Unavailable> {
        // `PACKAGE@SUITE` names a package, anything else is a suite.
        let separator = if suite.contains('@') { ':' } else { '@' };
        let request: Request = match format!("{}{separator}{suite}", kind.name()).parse() {
            Ok(request) if self.may_fetch => request,
            _ => return Err(Unavailable::because(missing)),
        };
        let fetcher = match self.fetcher.take() {
            Some(fetcher) => fetcher,
            None => Fetcher::new(self.store).map_err(Unavailable::because)?,
        };
        let subject = self.fetcher.insert(fetcher).fetch(&request, self.progress);
        subject.map_err(Unavailable::because)
    }
}

/// An installed Bochs without a BIOS cannot boot anything.
fn usable(subject: &Subject) -> bool {
    subject.kind != Kind::Bochs || subject.bochs_firmware().is_some()
}

fn kind_of(error: &crate::store::Error) -> Option<Kind> {
    match error {
        crate::store::Error::NotOne { kind, .. } => Some(*kind),
        _ => None,
    }
}

/// What the program says of itself.
fn version(subject: &Subject) -> Result<String, Unavailable> {
    subject.ask().map_err(Unavailable::because)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let spec = |text: &str| text.parse::<Spec>().expect(text);
        assert_eq!(spec("qemu").which, Which::Any);
        assert_eq!(spec("qemu@trixie:EPYC-v4").cpu.as_deref(), Some("EPYC-v4"));
        assert_eq!(spec("qemu:qemu64,+svm").cpu.as_deref(), Some("qemu64,+svm"));
        assert_eq!(spec("bochs@3.1").which, Which::Fetched("3.1".to_owned()));
        assert_eq!(spec("kvm=a/vmlinuz,b/6.1").which, Which::Path("a/vmlinuz,b/6.1".to_owned()));
        assert_eq!(spec("model:EPYC-Milan,phys-bits=48").cpu.as_deref(), Some("EPYC-Milan,phys-bits=48"));
        assert_eq!(spec("kvm-l0@6.12").which, Which::Fetched("6.12".to_owned()));
        assert!(spec("kvm-l0@sid").is("kvm-l0") && !spec("kvm-l0@sid").is("kvm"));
        for wrong in ["", "xen", "kvm-l0:max", "qemu@", "model@1", "kvm-host@1", "kvm:max", "bochs="] {
            assert!(wrong.parse::<Spec>().is_err(), "{wrong}");
        }
        for default in DEFAULT {
            spec(default);
        }
    }
}
