//! Compiles the test hypervisors: a multiboot image.

use std::path::Path;
use std::process::Command;

/// Writes the image to `output`.
///
/// # Errors
/// What the compiler said.
pub(crate) fn compile(output: &Path) -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nsvm-l0/l1");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(here).args([
        "--edition=2024",
        "--crate-type=bin",
        "--target",
        "x86_64-unknown-linux-gnu",
    ]);
    for option in [
        "panic=abort",
        "opt-level=2",
        "relocation-model=static",
        "code-model=kernel",
        "no-redzone=yes",
        "force-unwind-tables=no",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-no-pie",
        "link-arg=-Wl,--build-id=none",
        "link-arg=-Wl,-T,link.ld",
    ] {
        rustc.args(["-C", option]);
    }
    let done = rustc.arg("-Dwarnings").arg("-o").arg(output).arg("main.rs").output();
    let done = done.map_err(|error| format!("rustc: {error}"))?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}
