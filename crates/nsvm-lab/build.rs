//! Builds what runs elsewhere than the command does, and embeds it.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn main() {
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    init(Path::new(&out));
}

/// The runner for KVM: a static Linux program. Where it cannot be built, the subject says so when it is asked for.
fn init(out: &Path) {
    for path in ["init", "src/protocol.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=RUSTC");
    let program = out.join("kvm-init");
    let built = build_init(&program);
    if let Err(reason) = &built {
        println!("cargo:warning=the runner for KVM is left out: {reason}");
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
