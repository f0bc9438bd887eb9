//! Compiles what runs on the subjects: the payload, and the boot sector of its disk image.
//!
//! They are freestanding programs for the Linux target that every stable toolchain for x86-64 has, so no further
//! target is needed. On another target there is no payload, and the lab says so when it is asked to run.

use std::env;
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
