//! Compiles what runs on the subjects: the payload, the boot sector of its disk image, and the runner for KVM.
//!
//! They are freestanding programs for the Linux target that every stable toolchain for x86-64 has, so no further
//! target is needed. On another target there is no payload, and the lab says so when it is asked to run.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Static code at a fixed address that is entered without a stack of the system's; interrupts may come.
const FREESTANDING: &[&str] = &[
    "-Cpanic=abort",
    "-Copt-level=2",
    "-Crelocation-model=static",
    "-Ccode-model=kernel",
    "-Cno-redzone=yes",
    "-Cforce-unwind-tables=no",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
];

fn main() {
    println!("cargo::rerun-if-changed=guest");
    println!("cargo::rerun-if-changed=src/protocol.rs");
    println!("cargo::rustc-check-cfg=cfg(has_payload)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if env::var("TARGET").is_ok_and(|target| target == TARGET) {
        freestanding("guest/main.rs", "guest/link.ld", &out.join("payload.bin"));
        freestanding("guest/disk.rs", "guest/disk.ld", &out.join("boot-sector.bin"));
        println!("cargo::rustc-cfg=has_payload");
    }
    init(&out);
}

fn freestanding(source: &str, script: &str, output: &Path) {
    let script = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join(script);
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(["--edition=2024", "--crate-type=bin", "--target", TARGET, "-Dwarnings"]).args(FREESTANDING);
    rustc.arg(format!("-Clink-arg=-Wl,-T,{}", script.display())).arg("-o").arg(output).arg(source);
    let done = rustc.output().unwrap_or_else(|error| panic!("{rustc:?}: {error}"));
    assert!(
        done.status.success(),
        "{source} does not compile:\n{}\n{rustc:?}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// The runner for KVM: a static Linux program. Where it cannot be built, the subject says so when it is asked for.
fn init(out: &Path) {
    println!("cargo::rerun-if-changed=init");
    let program = out.join("kvm-init");
    let built = build_init(&program);
    if let Err(reason) = &built {
        println!("cargo::warning=the runner for KVM is left out: {reason}");
    }
    let value = match built {
        Ok(()) => "Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/kvm-init\")))",
        Err(_) => "None",
    };
    let text = format!(
        "/// The runner for KVM, a static Linux program; nothing if this build's target or machine could not make it.\n\
         pub const INIT: Option<&[u8]> = {value};\n"
    );
    std::fs::write(out.join("kvm_init.rs"), text).expect("OUT_DIR can be written");
}

fn build_init(program: &Path) -> Result<(), String> {
    let target = env::var("TARGET").unwrap_or_default();
    if target != TARGET {
        return Err(format!("it is made for {TARGET} only, not for {target}"));
    }
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(&rustc);
    command.args(["--edition", "2024", "--target", TARGET, "--crate-name", "kvm_init"]);
    for option in ["target-feature=+crt-static", "panic=abort", "opt-level=2", "strip=symbols"] {
        command.args(["-C", option]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsStr::new("linker=").to_owned();
        option.push(linker);
        command.arg("-C").arg(option);
    }
    let output = command
        .arg("-o")
        .arg(program)
        .arg("init/main.rs")
        .output()
        .map_err(|error| format!("{}: {error}", rustc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    // One line is what a warning has room for; the linker's own last words say most.
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = || text.lines().map(str::trim);
    let first = lines().find(|line| line.contains("cannot find") || line.starts_with("error"));
    Err(format!("{} (libc6-dev has the static C library)", first.unwrap_or("rustc failed")))
}
