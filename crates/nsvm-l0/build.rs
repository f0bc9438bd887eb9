//! Builds L0 and its test hypervisors, and makes a flat image of L0.
//!
//! If the toolchain lacks the target of the bare-metal programs, the library has no images. `nsvm l0` then returns an
//! error that names the missing target.

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD, R_X86_64_RELATIVE, SHT_RELA};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(has_l0)");
    let Some(programs) = bare_build::bare(&["l0", "l1"]) else { return };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let elf = fs::read(programs.join("l0")).expect("cargo wrote it");
    let (image, size) = flatten(&elf).expect("a linker wrote it");
    fs::write(out.join("l0.bin"), image).expect("OUT_DIR can be written");
    let text =
        format!("/// Bytes of memory that L0 takes, from its first.\npub(crate) const SIZE: u64 = {size};\n");
    fs::write(out.join("l0_size.rs"), text).expect("OUT_DIR can be written");
    fs::copy(programs.join("l1"), out.join("l1.bin")).expect("OUT_DIR can be written");
    println!("cargo::rustc-cfg=has_l0");
}

/// Returns the bytes of an ELF64 file in memory from address 0, and the number of bytes that it occupies there.
///
/// # Panics
/// If the file has a relocation that L0's first instructions do not apply.
fn flatten(elf: &[u8]) -> object::read::Result<(Vec<u8>, u64)> {
    let header = FileHeader64::<LittleEndian>::parse(elf)?;
    let endian = header.endian()?;
    let (mut image, mut size) = (Vec::new(), 0);
    for segment in header.program_headers(endian, elf)? {
        if segment.p_type(endian) == PT_LOAD {
            let bytes = segment.data(endian, elf).expect("a segment lies within the file");
            let start = segment.p_vaddr(endian) as usize;
            image.resize(image.len().max(start + bytes.len()), 0);
            image[start..start + bytes.len()].copy_from_slice(bytes);
            size = size.max(segment.p_vaddr(endian) + segment.p_memsz(endian));
        }
    }
    for section in header.sections(endian, elf)?.iter().filter(|row| row.sh_type(endian) == SHT_RELA) {
        if let Some((relocations, _)) = section.rela(endian, elf)? {
            for relocation in relocations {
                let kind = relocation.r_type(endian, false);
                assert!(kind == R_X86_64_RELATIVE, "relocation of type {kind}");
            }
        }
    }
    image.resize(image.len().next_multiple_of(16), 0);
    Ok((image, size.next_multiple_of(4096)))
}
