//! Links L0 to a position-independent image.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/link.ld");
    println!("cargo::rerun-if-changed={script}");
    // L0 relocates itself before it needs a page that is read-only afterwards.
    for argument in [&format!("-T{script}"), "-znorelro"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
