//! Links the boot sector to the 512 bytes that a BIOS loads.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/link.ld");
    println!("cargo::rerun-if-changed={script}");
    for argument in [&format!("-T{script}"), "--no-pie"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
