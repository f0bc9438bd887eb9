//! Compiles L0, which runs on the bare machine: `vmcb` and `nested-svm` first, then `bare/main.rs` with both.
//!
//! It is made for the Linux target that every stable toolchain for x86-64 has, so no further target is needed, and
//! linked to a position-independent image. On another target there is no image, and the library says so.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Code that is entered without a stack of the system's, and moves itself to where it lives.
const FREESTANDING: &[&str] = &[
    "--edition=2024",
    "--target",
    TARGET,
    "-Cpanic=abort",
    "-Copt-level=3",
    "-Ccodegen-units=1",
    "-Crelocation-model=pie",
    "-Ctarget-feature=+crt-static",
    "-Cno-redzone=yes",
    "-Cforce-unwind-tables=no",
];

const LINKED: &[&str] = &[
    "--crate-type=bin",
    "-Clto=fat",
    "-Dwarnings",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-Wl,--build-id=none",
    "-Clink-arg=-Wl,--gc-sections",
];

fn main() {
    println!("cargo::rerun-if-changed=bare");
    println!("cargo::rerun-if-changed=src/bundle.rs");
    println!("cargo::rustc-check-cfg=cfg(has_l0)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if env::var("TARGET").is_ok_and(|target| target == TARGET) {
        let vmcb = library(&out, "vmcb", &[]);
        let engine = library(&out, "nested-svm", &[("vmcb", &vmcb)]);
        let program = out.join("l0.elf");
        let script =
            Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("bare/link.ld");
        let mut rustc = compiler(&out, &[("vmcb", &vmcb), ("nested_svm", &engine)]);
        rustc.args(LINKED).arg(format!("-Clink-arg=-Wl,-T,{}", script.display()));
        run(rustc.arg("-o").arg(&program).arg("bare/main.rs"));
        let elf = std::fs::read(&program).expect("rustc wrote it");
        let (image, size) = flatten(&elf);
        std::fs::write(out.join("l0.bin"), image).expect("OUT_DIR can be written");
        let text = format!(
            "/// Bytes of memory that L0 takes, from its first.\npub(crate) const SIZE: u64 = {size};\n"
        );
        std::fs::write(out.join("l0_size.rs"), text).expect("OUT_DIR can be written");
        println!("cargo::rustc-cfg=has_l0");
    }
}

fn compiler(out: &Path, externs: &[(&str, &Path)]) -> Command {
    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(FREESTANDING).arg("-L").arg(out);
    for (name, path) in externs {
        rustc.arg("--extern").arg(format!("{name}={}", path.display()));
    }
    rustc
}

fn run(rustc: &mut Command) {
    let done = rustc.output().unwrap_or_else(|error| panic!("{rustc:?}: {error}"));
    assert!(
        done.status.success(),
        "L0 does not compile:\n{}\n{rustc:?}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A library of this project: beside us in the workspace, or with its version in its folder's name as where cargo
/// keeps what it unpacked.
fn library(out: &Path, name: &str, externs: &[(&str, &Path)]) -> PathBuf {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let folders = [here.join("..").join(name), here.join("..").join(format!("{name}-{version}"))];
    let source =
        folders.iter().map(|folder| folder.join("src")).find(|source| source.join("lib.rs").exists());
    let source = source.unwrap_or_else(|| panic!("the sources of {name} are in none of {folders:?}"));
    println!("cargo::rerun-if-changed={}", source.display());
    let crate_name = name.replace('-', "_");
    let library = out.join(format!("lib{crate_name}.rlib"));
    let mut rustc = compiler(out, externs);
    rustc.args([
        "--crate-type=rlib",
        "-Cembed-bitcode=yes",
        "--cap-lints=allow",
        "--crate-name",
        &crate_name,
    ]);
    run(rustc.arg("-o").arg(&library).arg(source.join("lib.rs")));
    library
}

/// The bytes of an ELF64 file as they stand in memory from address 0, and how many bytes it takes there.
fn flatten(elf: &[u8]) -> (Vec<u8>, usize) {
    let word = |at: usize, size: usize| {
        elf[at..at + size].iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte))
    };
    let (table, entry_size, count) = (word(32, 8), word(54, 2), word(56, 2));
    let (mut image, mut size) = (Vec::new(), 0);
    for header in (0..count).map(|index| table + index * entry_size) {
        let (offset, address) = (word(header + 8, 8), word(header + 16, 8));
        let (given, taken) = (word(header + 32, 8), word(header + 40, 8));
        // PT_LOAD
        if word(header, 4) == 1 {
            let end = address + given;
            image.resize(image.len().max(end), 0);
            image[address..end].copy_from_slice(&elf[offset..offset + given]);
            size = size.max(address + taken);
        }
    }
    // Relocations are applied by L0's first instructions, which know one kind: R_X86_64_RELATIVE.
    let (sections, entry_size, count) = (word(40, 8), word(58, 2), word(60, 2));
    for header in (0..count).map(|index| sections + index * entry_size) {
        const SHT_RELA: usize = 4;
        if word(header + 4, 4) == SHT_RELA {
            let (offset, bytes) = (word(header + 24, 8), word(header + 32, 8));
            for entry in (offset..offset + bytes).step_by(24) {
                assert_eq!(word(entry + 8, 8), 8, "a relocation that is not relative");
            }
        }
    }
    image.resize(image.len().next_multiple_of(16), 0);
    (image, size.next_multiple_of(4096))
}
