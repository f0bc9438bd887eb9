//! The machines that boot an image: QEMU's emulation, Bochs, and our own L0 in QEMU's.

use crate::driver::{Error, Machine};
use crate::image::Image;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Makes the command that starts a program, before its arguments.
pub type Start = Box<dyn Fn() -> Command + Send + Sync>;

/// How QEMU boots the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boot {
    /// An ELF64 file with a PVH entry.
    Pvh,
    /// A multiboot kernel.
    Multiboot,
    /// A disk image with a boot sector of its own.
    Disk,
}

/// QEMU's emulation (TCG).
pub struct Qemu {
    /// Starts `qemu-system-x86_64`.
    pub start: Start,
    /// The CPU model, as QEMU spells it: `max`, `EPYC-v4`, `qemu64,+svm`.
    pub cpu: String,
    /// How the image is booted.
    pub boot: Boot,
}

/// Writes a file of the run.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(Error::file(&path))?;
    Ok(path)
}

impl Machine for Qemu {
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error> {
        let mut command = (self.start)();
        command
            .args(["-accel", "tcg", "-M", "pc", "-cpu", &self.cpu, "-m", "128", "-display", "none"])
            .args(["-no-reboot", "-nodefaults", "-serial", "none", "-monitor", "none"])
            .args(["-debugcon", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        match self.boot {
            Boot::Pvh => command.arg("-kernel").arg(write(folder, "payload.elf", &image.elf())?),
            Boot::Multiboot => command.arg("-kernel").arg(write(folder, "payload.mb", image.flat())?),
            Boot::Disk => {
                let disk = write(folder, "payload.img", &image.disk())?;
                // A comma in a path is written twice.
                let file = disk.to_string_lossy().replace(',', ",,");
                command.arg("-drive").arg(format!("format=raw,if=ide,snapshot=on,file={file}"))
            }
        };
        Ok(command)
    }

    /// A dump of all registers follows it.
    fn reason(&self, _: &Path, complaints: &[String]) -> Option<String> {
        complaints.iter().find(|line| line.contains("fatal:")).or(complaints.first()).cloned()
    }
}

/// Our L0 in QEMU's emulation: the payload is its L1.
pub struct L0 {
    /// Starts `qemu-system-x86_64`.
    pub start: Start,
    /// L1's virtual CPU; without it what QEMU's `max` has and the engine gives.
    pub limits: Option<vmcb::Limits>,
    /// L0 judges each VMRUN and enters no L2: for a virtual CPU that this machine cannot run. An accepted VMCB exits with
    /// [`nsvm_l0::bundle::verdict`]'s codes.
    pub verdict_only: bool,
    /// After so many exits, each time, L0 goes on from its nested state as it saved it; 0: never.
    pub reload: u32,
}

/// L0's log in the folder of a run.
const L0_LOG: &str = "l0.log";

/// QEMU with L0 as its kernel; L1's first serial port goes to `serial`.
fn boot_l0(
    start: &Start,
    image: &[u8],
    setup: &nsvm_l0::Setup,
    serial: &str,
    folder: &Path,
) -> Result<Command, Error> {
    let kernel = nsvm_l0::kernel(image, setup).map_err(|error| Error::Missing(error.to_string()))?;
    let mut command = start();
    nsvm_l0::machine(&mut command, setup.memory);
    let log = folder.join(L0_LOG).to_string_lossy().replace(',', ",,");
    command
        .args(["-serial", serial, "-debugcon", "stdio", "-chardev"])
        .arg(format!("file,id=log,path={log}"))
        // COM2 by its ports, whether there is a COM1 or not.
        .args(["-device", "isa-serial,chardev=log,index=1", "-kernel"])
        .arg(write(folder, "l0.elf", &kernel)?);
    Ok(command)
}

/// L0's last word.
fn last_of_l0(folder: &Path) -> Option<String> {
    let log = std::fs::read(folder.join(L0_LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    log.lines().rfind(|line| line.starts_with("l0: ")).map(str::to_owned)
}

impl Machine for L0 {
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error> {
        let setup = nsvm_l0::Setup {
            limits: self.limits.clone(),
            verdict_only: self.verdict_only,
            quiet: true,
            reload: self.reload,
            ..nsvm_l0::Setup::default()
        };
        boot_l0(&self.start, image.flat(), &setup, "none", folder)
    }

    /// L0's last word, else QEMU's.
    fn reason(&self, folder: &Path, complaints: &[String]) -> Option<String> {
        let own = last_of_l0(folder);
        own.or_else(|| complaints.iter().find(|line| line.contains("fatal:")).or(complaints.last()).cloned())
    }
}

/// Bochs.
pub struct Bochs {
    /// Starts `bochs`.
    pub start: Start,
    /// The CPU model, as Bochs spells it: `ryzen`.
    pub cpu: String,
    /// The BIOS and the VGA BIOS.
    pub firmware: (PathBuf, PathBuf),
}

impl Machine for Bochs {
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error> {
        let disk = write(folder, "payload.img", &image.disk())?;
        let (bios, vga) = &self.firmware;
        let configuration = format!(
            "config_interface: textconfig\n\
             display_library: rfb, options=\"timeout=0\"\n\
             memory: guest=128, host=128\n\
             romimage: file=\"{}\"\n\
             vgaromimage: file=\"{}\"\n\
             boot: disk\n\
             ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=disk, path=\"{}\", mode=volatile\n\
             cpu: model={}, count=1, ips=4000000, reset_on_triple_fault=0\n\
             sound: driver=dummy, waveoutdrv=dummy\n\
             speaker: enabled=0\n\
             port_e9_hack: enabled=1\n\
             panic: action=fatal\n\
             error: action=ignore\n\
             info: action=ignore\n\
             log: \"{}\"\n",
            bios.display(),
            vga.display(),
            disk.display(),
            self.cpu,
            folder.join("bochs.log").display(),
        );
        let configuration = write(folder, "bochsrc", configuration.as_bytes())?;
        // Debian's Bochs stops in its debugger first.
        let go_on = write(folder, "debugger", b"c\n")?;
        let mut command = (self.start)();
        command.arg("-q").arg("-f").arg(configuration).arg("-rc").arg(go_on).current_dir(folder);
        Ok(command)
    }

    fn reason(&self, _: &Path, complaints: &[String]) -> Option<String> {
        let mark = complaints.iter().position(|line| line.contains("exiting with the following message"))?;
        complaints.get(mark + 1).cloned()
    }
}

/// What the kernel says when it crashes.
const KERNEL_LOG: &str = "kernel.log";
/// The runner's time limit for a case on KVM, in seconds.
const KVM_CASE_LIMIT: u32 = 5;
const KERNEL_BOOT_LIMIT: Duration = Duration::from_secs(180);
const KERNEL_CASE_LIMIT: Duration = Duration::from_secs(KVM_CASE_LIMIT as u64 * 6);

/// KVM of a Linux kernel that boots in QEMU's emulation.
pub struct Kvm {
    /// Starts `qemu-system-x86_64`.
    pub start: Start,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// Its folder of modules, the one named after its release.
    pub modules: PathBuf,
}

fn runner() -> Result<&'static [u8], Error> {
    crate::kvm::INIT.ok_or_else(|| {
        Error::Missing(
            "this build of nsvm has no runner for KVM: it was built without a static C library (libc6-dev)"
                .to_owned(),
        )
    })
}

/// An initramfs with the payload.
fn initramfs(modules: &Path, image: &Image) -> Result<Vec<u8>, Error> {
    crate::kvm::initramfs(runner()?, modules, image.flat()).map_err(|error| Error::Missing(error.to_string()))
}

/// Why the kernel crashed.
fn last_of_kernel(folder: &Path) -> Option<String> {
    let log = std::fs::read(folder.join(KERNEL_LOG)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let words = ["BUG:", "Oops", "Kernel panic"];
    let line = log.lines().find(|line| words.iter().any(|word| line.contains(word)));
    line.map(str::to_owned)
}

impl Machine for Kvm {
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error> {
        let initramfs = write(folder, "initramfs", &initramfs(&self.modules, image)?)?;
        let mut command = (self.start)();
        let log = folder.join(KERNEL_LOG);
        command.args(crate::kvm::qemu_arguments(
            &self.kernel,
            &initramfs,
            KVM_CASE_LIMIT,
            "stdio",
            Some(&log),
        ));
        Ok(command)
    }

    fn boot_limit(&self) -> Duration {
        KERNEL_BOOT_LIMIT
    }

    fn reason(&self, folder: &Path, complaints: &[String]) -> Option<String> {
        last_of_kernel(folder).or_else(|| complaints.last().cloned())
    }

    /// The runner minds cases itself; this is for a kernel that hangs.
    fn case_limit(&self) -> Duration {
        KERNEL_CASE_LIMIT
    }
}

/// The same kernel as L1 of our L0: the payload is L2, and what it enters is L3.
pub struct KvmOnL0(pub Kvm);

impl Machine for KvmOnL0 {
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error> {
        let Self(Kvm { start, kernel, modules }) = self;
        let setup = nsvm_l0::Setup {
            memory: crate::kvm::MEMORY,
            command_line: crate::kvm::command_line(KVM_CASE_LIMIT),
            modules: vec![(initramfs(modules, image)?, String::new())],
            quiet: true,
            ..nsvm_l0::Setup::default()
        };
        let kernel = std::fs::read(kernel).map_err(Error::file(kernel))?;
        let log = folder.join(KERNEL_LOG);
        boot_l0(start, &kernel, &setup, &format!("file:{}", log.display()), folder)
    }

    fn boot_limit(&self) -> Duration {
        KERNEL_BOOT_LIMIT
    }

    /// The kernel's last word, else L0's, else QEMU's.
    fn reason(&self, folder: &Path, complaints: &[String]) -> Option<String> {
        let own = last_of_kernel(folder).or_else(|| last_of_l0(folder));
        own.or_else(|| complaints.last().cloned())
    }

    fn case_limit(&self) -> Duration {
        KERNEL_CASE_LIMIT
    }
}

/// KVM of the machine itself.
pub struct HostKvm;

impl Machine for HostKvm {
    fn prepare(&self, image: &Image, folder: &Path) -> Result<Command, Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let image = write(folder, "payload.img", image.flat())?;
        let runner = write(folder, "kvm-runner", runner()?)?;
        std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o700))
            .map_err(Error::file(&runner))?;
        let mut command = Command::new(runner);
        command.arg(image).arg(KVM_CASE_LIMIT.to_string());
        Ok(command)
    }

    fn case_limit(&self) -> Duration {
        KERNEL_CASE_LIMIT
    }
}
