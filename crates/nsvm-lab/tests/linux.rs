//! Linux as L1 of our L0: a shell on its serial port, and its KVM with the payload as L2.
//!
//! The kernel is the one that `NSVM_LAB_KERNEL` and `NSVM_LAB_MODULES` name, as in `kvm.rs`, or the newest that `nsvm lab
//! fetch kernel@bookworm` and similar commands stored. `NSVM_BUSYBOX` names another static busybox than `/bin/busybox`.

use nsvm_lab::driver::{self, Run};
use nsvm_lab::expected::CaseFacts;
use nsvm_lab::glob::Globs;
use nsvm_lab::kvm::Cpio;
use nsvm_lab::machine::{Kvm, KvmOnL0};
use nsvm_lab::run;
use nsvm_lab::store::Store;
use nsvm_lab::subject::KVM_ON_L0;
use nsvm_lab::{sets, verdict};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
/// Longer than a kernel takes on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(180);

/// A kernel and its modules.
fn kernel() -> (PathBuf, PathBuf) {
    let set = (std::env::var_os("NSVM_LAB_KERNEL"), std::env::var_os("NSVM_LAB_MODULES"));
    if let (Some(kernel), Some(modules)) = set {
        return (kernel.into(), modules.into());
    }
    let store = Store::default_root().and_then(|root| Store::open(&root));
    let kernel = store.and_then(|store| store.find("kernel")).ok().and_then(|subject| subject.kernel());
    kernel.expect("there is no kernel: `nsvm lab fetch kernel@bookworm` fetches one")
}

/// Whether a 64-bit ELF file has no program header that names a loader. Nothing where it is none.
fn is_static(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| Some(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?) as usize);
    let table = u64::from_le_bytes(*elf.get(32..)?.first_chunk()?) as usize;
    let (size, count) = (half(54)?, half(56)?);
    let mut kinds = (0..count).map(|index| elf.get(table + index * size..)?.first_chunk());
    let interpreted = kinds.any(|kind| kind.is_none_or(|kind| u32::from_le_bytes(*kind) == PT_INTERP));
    Some(elf.starts_with(b"\x7fELF\x02") && !interpreted)
}

/// An initramfs whose process 1 is a shell.
fn shell() -> Vec<u8> {
    let path = std::env::var_os("NSVM_BUSYBOX").unwrap_or_else(|| "/bin/busybox".into());
    let busybox = std::fs::read(&path).unwrap_or_default();
    let is_static = is_static(&busybox).unwrap_or(false);
    assert!(is_static, "there is no static busybox: install the package busybox-static");
    const INIT: &str = "#!/bin/busybox sh\n\
        exec </dev/ttyS0 >/dev/ttyS0 2>&1\n\
        exec /bin/busybox sh -i\n";
    let mut archive = Cpio::default();
    for folder in ["bin", "dev"] {
        archive.entry(folder, 0o040_755, (0, 0), &[]).unwrap();
    }
    archive.entry("dev/console", 0o020_600, (5, 1), &[]).unwrap();
    archive.entry("dev/ttyS0", 0o020_600, (4, 64), &[]).unwrap();
    archive.entry("bin/busybox", 0o100_755, (0, 0), &busybox).unwrap();
    archive.entry("init", 0o100_755, (0, 0), INIT.as_bytes()).unwrap();
    archive.finish().unwrap()
}

/// A machine whose first serial port is ours; it ends with the test.
struct Console {
    machine: Child,
    from: Receiver<Vec<u8>>,
    seen: String,
}

impl Console {
    fn new(command: &mut Command) -> Self {
        let mut machine = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = machine.stdout.take().unwrap();
        let (to, from) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let _ = to.send(bytes[..count].to_vec());
            }
        });
        Self { machine, from, seen: String::new() }
    }

    /// Waits until this has come, and forgets what came up to its end.
    fn expect(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            match self.from.recv_timeout(left) {
                Ok(bytes) => {
                    print!("{}", String::from_utf8_lossy(&bytes));
                    self.seen.push_str(&String::from_utf8_lossy(&bytes));
                }
                Err(why) => panic!("no `{text}`: {why}; before it came {}", self.seen),
            }
        }
    }

    fn type_(&mut self, text: &str) {
        self.machine.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}

const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet";

/// Types a command and reads its answer; the time until the shell was there.
fn talk(command: &mut Command) -> Duration {
    let start = Instant::now();
    let mut console = Console::new(command);
    console.expect("# ");
    let time = start.elapsed();
    // What is typed comes back first, so the answer must not stand in it.
    console.type_("echo answer $((6 * 7))\n");
    console.expect("answer 42");
    console.type_("/bin/busybox poweroff -f\n");
    let status = console.machine.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    time
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "boots Linux on L0; `cargo xtask ci` runs it")]
fn a_shell_answers_on_the_serial_port() {
    let (path, _) = kernel();
    let initrd = shell();
    let folder = run::folder().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("initrd"), &initrd).unwrap();
    let setup = nsvm_l0::Setup {
        memory: 256,
        command_line: COMMAND_LINE.to_owned(),
        modules: vec![(initrd, String::new())],
        ..nsvm_l0::Setup::default()
    };
    std::fs::write(file("l0.elf"), nsvm_l0::kernel(&std::fs::read(&path).unwrap(), &setup).unwrap()).unwrap();
    let machine = |kernel: &Path| {
        let mut command = Command::new(QEMU);
        nsvm_l0::machine(&mut command, setup.memory);
        command.args(["-serial", "stdio", "-serial"]).arg(format!("file:{}", file("log").display()));
        command.arg("-kernel").arg(kernel);
        command
    };
    let time = talk(&mut machine(&file("l0.elf")));
    let log = std::fs::read_to_string(file("log")).unwrap();
    assert!(log.starts_with("l0: L1's CPU by its CPUID:\n") && !log.contains("refused"), "{log}");
    let bare = talk(machine(&path).arg("-initrd").arg(file("initrd")).args(["-append", COMMAND_LINE]));
    eprintln!("a shell after {time:.1?}; {bare:.1?} without L0");
}

/// Three levels: KVM is L1, the payload L2, and what the payload enters L3. The kernel's KVM may have no check of EVENTINJ:
/// then the answers are L0's, and they are the rulebook's all the same.
///
/// The release bar is the whole family: `NSVM_L0_CASES=8192`, which `cargo xtask nightly` sets.
#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(not(has_kvm_runner), ignore = "this build has no KVM runner")]
#[cfg_attr(all(has_payload, has_kvm_runner), ignore = "boots Linux on L0; `cargo xtask ci` runs it")]
fn kvm_runs_the_payload_twice_the_same() {
    let (kernel, modules) = kernel();
    let count: usize = std::env::var("NSVM_L0_CASES").map_or(512, |text| text.parse().expect("a number"));
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let machine = KvmOnL0(Kvm { start: Box::new(|| Command::new(QEMU)), kernel, modules });
    let mut set = sets::set("commit").unwrap();
    let family = Globs::parse("eventinj.long64*").unwrap();
    set.cases.retain(|case| family.matches(&case.id));
    let step = set.cases.len().div_ceil(count.max(1));
    set.cases = set.cases.into_iter().step_by(step).collect();
    let [first, second] = [0, 1].map(|_| {
        let folder = run::folder().unwrap();
        let none = &AtomicBool::new(false);
        driver::run(&machine, &set, &|_| None, folder.path(), none, &mut |_| {}).unwrap()
    });
    let Run { cpuid, outcomes, starts, .. } = &first;
    assert_eq!((outcomes.len(), *starts), (set.cases.len(), 1));
    assert_eq!(cpuid, &second.cpuid);
    let limits = verdict::limits(cpuid);
    let (mut refused, mut changed) = (0, 0);
    for ((case, one), two) in set.cases.iter().zip(outcomes).zip(&second.outcomes) {
        let facts = CaseFacts::new(&set, case, &verdict::expected(&set, case, &limits));
        refused += usize::from(!facts.broken.is_empty());
        let right = one == two && !facts.differs(one);
        // KVM loses an event now and then, on the bare emulator too.
        if !right && sets::unstable(KVM_ON_L0, &release, &case.id).is_some() {
            changed += 1;
            eprintln!("{}: {one}, then {two}", case.id);
        } else {
            assert!(right, "{}: {one}, then {two}; the rulebook has {:?}", case.id, facts.broken);
        }
    }
    assert!(changed <= set.cases.len() / 500, "{changed} cases lost their events");
    eprintln!("{} cases, twice the same; {refused} of them refused", set.cases.len());
    assert!(refused > 0 && refused < set.cases.len());
}
