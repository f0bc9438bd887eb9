//! Links the program to a flat image at a fixed address.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../common/flat.ld");
    println!("cargo::rerun-if-changed={script}");
    for argument in [&format!("-T{script}"), "--defsym=BASE=0x400000", "--no-pie"] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
