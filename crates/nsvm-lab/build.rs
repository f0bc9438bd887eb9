//! Builds the payload, the boot sector of its disk image, and the KVM runner.
//!
//! If the toolchain lacks the target of the bare-metal programs, there is no payload. The lab then returns an error that
//! names the missing target.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    for present in ["has_payload", "has_kvm_runner"] {
        println!("cargo::rustc-check-cfg=cfg({present})");
    }
    if let Some(programs) = bare_build::bare(&["payload", "boot-sector"]) {
        keep(&programs.join("payload"), "payload.bin");
        keep(&programs.join("boot-sector"), "boot-sector.bin");
        println!("cargo::rustc-cfg=has_payload");
    }
    match bare_build::kvm_runner() {
        Ok(program) => {
            keep(&program, "kvm-runner");
            println!("cargo::rustc-cfg=has_kvm_runner");
        }
        Err(reason) => println!("cargo::warning=the runner for KVM is left out: {reason}"),
    }
}

/// Copies a program to the place that the library includes it from.
fn keep(program: &Path, name: &str) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy(program, out.join(name)).expect("OUT_DIR can be written");
}
