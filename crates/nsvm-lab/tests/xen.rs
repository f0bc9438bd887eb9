//! Debian's Xen as L1, on the bare emulator and under L0: domain 0 starts a guest, for which Xen executes VMRUN.
//!
//! It takes minutes. The packages come from the store: `nsvm lab fetch xen@bookworm kernel@bookworm`.

use nsvm_l0::{Setup, machine};
use nsvm_lab::run;
use nsvm_lab::store::Store;
use nsvm_lab::xen::{KERNEL_OPTIONS, MEMORY, OPTIONS, image, initramfs};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// SHA-256 of 16 MiB of zeros.
const SUM: &str = "080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e";

/// What a run printed, and how long it took.
struct Ran {
    output: String,
    log: String,
    time: Duration,
    /// Of CPUs, which others on the machine disturb less.
    cpu_time: Duration,
}

/// Returns the CPU time of all children: fields 16 and 17 of proc(5)'s stat, in hundredths of a second. The children of
/// other tests count too, so run this test alone for exact figures.
fn children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(13).take(2);
    Duration::from_millis(10 * fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>())
}

fn run(kernel: &Path, setup: &[String], folder: &Path, name: &str) -> Ran {
    let (output, log) = (folder.join(format!("{name}.out")), folder.join(format!("{name}.log")));
    let program = std::env::var_os("NSVM_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    // GNU's timeout ends what hangs.
    let mut command = Command::new("timeout");
    command.arg("900").arg(program);
    machine(&mut command, MEMORY);
    command.arg("-serial").arg(format!("file:{}", output.display()));
    command.arg("-serial").arg(format!("file:{}", log.display()));
    let (start, before) = (Instant::now(), children());
    let status =
        command.arg("-kernel").arg(kernel).args(setup).stdin(Stdio::null()).status().expect("it starts");
    let (time, cpu_time) = (start.elapsed(), children() - before);
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let ran = Ran { output: read(&output), log: read(&log), time, cpu_time };
    let own = ran.output.lines().filter(|line| line.contains("nsvm: "));
    let own = own.collect::<Vec<_>>().join("\n");
    println!("{name}: {status}, {:.0} s, {:.0} s of CPU\n{own}", time.as_secs_f32(), cpu_time.as_secs_f32());
    ran
}

/// The guest did all of its work, and Xen went on to the end.
fn assert_passed(ran: &Ran) {
    for line in
        ["nsvm: the guest is up", SUM, "nsvm: the guest started 200 programs", "nsvm: the guest is gone"]
    {
        assert!(ran.output.contains(line), "`{line}` is missing:\n{}\n{}", ran.output, ran.log);
    }
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "boots Xen for minutes; `cargo xtask nightly` runs it")]
fn nightly_a_guest_of_xen_runs_as_on_the_bare_emulator() {
    let store = Store::open(&Store::default_root().expect("a folder")).expect("a store");
    let find = |what: &str| {
        store.find(what).unwrap_or_else(|error| {
            panic!("{error}; `nsvm lab fetch xen@bookworm kernel@bookworm` brings both")
        })
    };
    let (xen, kernel) = (find("xen@bookworm"), find("kernel@bookworm"));
    let (vmlinuz, modules) = kernel.kernel().expect("its image and modules");
    let initramfs = initramfs(&xen, &vmlinuz, &modules).expect("an initramfs");
    let image = image(&xen).expect("Xen");
    let folder = run::folder().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };

    let modules = format!(
        "{} {},{}",
        vmlinuz.display(),
        KERNEL_OPTIONS.split_once(' ').expect("options").1,
        file("initramfs", &initramfs).display()
    );
    let arguments = ["-append".to_owned(), OPTIONS.to_owned(), "-initrd".to_owned(), modules];
    let bare = run(&file("xen", &image), &arguments, folder.path(), "bare");
    assert_passed(&bare);

    let setup = Setup {
        memory: MEMORY,
        command_line: OPTIONS.to_owned(),
        modules: vec![
            (fs::read(&vmlinuz).expect("a kernel"), KERNEL_OPTIONS.to_owned()),
            (initramfs, "initramfs".to_owned()),
        ],
        ..Setup::default()
    };
    let l0 = nsvm_l0::kernel(&image, &setup).expect("a kernel");
    let ran = run(&file("l0", &l0), &[], folder.path(), "l0");
    assert_passed(&ran);
    assert!(!ran.log.contains("refused"), "Xen's VMCBs are legal:\n{}", ran.log);
    let times = |of: fn(&Ran) -> Duration| of(&ran).as_secs_f32() / of(&bare).as_secs_f32();
    let (wall, cpu) = (times(|ran| ran.time), times(|ran| ran.cpu_time));
    println!("under L0 it takes {wall:.2} times as long, {cpu:.2} times the CPU time");
}
