//! L0 and its bundle as a kernel that QEMU boots.

use crate::bundle::{HEAD, HEAD_MAGIC, LOAD, MAGIC, REGION, ROW, flag, head};
use crate::image::{L1, L1Error, Linux};
use std::process::Command;
use vmcb::Limits;

/// The test hypervisors of this crate, a multiboot image. Nothing if this build has no bare-metal programs.
#[cfg(has_l0)]
pub const HYPERVISORS: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/l1.bin")));
/// The test hypervisors of this crate, which this build does not have.
#[cfg(not(has_l0))]
pub const HYPERVISORS: Option<&[u8]> = None;

#[cfg(has_l0)]
mod image {
    pub(crate) const IMAGE: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/l0.bin")));
    include!(concat!(env!("OUT_DIR"), "/l0_size.rs"));
}
#[cfg(not(has_l0))]
mod image {
    pub(crate) const IMAGE: Option<&[u8]> = None;
    pub(crate) const SIZE: u64 = 0;
}

/// What L1 gets beside its image.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its memory in MiB.
    pub memory: u32,
    /// Its virtual CPU; nothing: what the machine has and the engine gives.
    pub limits: Option<Limits>,
    /// Its command line.
    pub command_line: String,
    /// Its modules: the bytes and the command line of each. Of Linux: its initrd, which has no command line.
    pub modules: Vec<(Vec<u8>, String)>,
    /// Each VMRUN is judged, and none enters L2.
    pub verdict_only: bool,
    /// Nothing is logged but L0's own end.
    pub quiet: bool,
    /// Of so many refused VMRUNs the VMCB is dumped.
    pub dumps: u32,
    /// After so many exits, each time, L0 saves its nested state, throws it away and goes on from the saved bytes; 0:
    /// never.
    pub reload: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            memory: MEMORY.0,
            limits: None,
            command_line: String::new(),
            modules: Vec::new(),
            verdict_only: false,
            quiet: false,
            dumps: 16,
            reload: 0,
        }
    }
}

/// L1's memory in MiB: where none is said, the least, and the most, all of which lies below 4 GiB.
pub const MEMORY: (u32, u32, u32) = (128, 32, 2048);

/// Why there is nothing to boot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// L0 is compiled if the toolchain has the target of the bare-metal programs.
    #[error("this build of nsvm has no L0: run `rustup target add x86_64-unknown-none` and build it again")]
    NoL0,
    /// L1's image.
    #[error("L1: {0}")]
    L1(#[from] L1Error),
    /// The memory is out of range.
    #[error("L1 can have {least} to {most} MiB of memory, not {asked}", least = MEMORY.1, most = MEMORY.2)]
    Memory {
        /// In MiB.
        asked: u32,
    },
    /// Linux has an initrd or none.
    #[error("Linux takes one initrd, and no modules with command lines")]
    Modules,
    /// Linux says how long its command line may be.
    #[error("this Linux kernel takes a command line of {most} bytes, not {asked}")]
    CommandLine {
        /// In bytes.
        most: u32,
        /// In bytes.
        asked: usize,
    },
    /// L0 puts the initrd at the end of L1's memory.
    #[error("this Linux kernel wants its initrd below {0:#x}: give it less memory")]
    InitrdMax(u64),
    /// L1 and its modules are larger than its memory.
    #[error("L1, its modules and L0 together need more than {0} MiB: give it more memory")]
    TooLarge(u32),
}

/// L0 with L1 in it: an ELF64 file with a PVH entry, for `qemu-system-x86_64 -kernel`.
///
/// # Errors
/// What is wrong with L1's image, or does not fit.
pub fn kernel(image: &[u8], setup: &Setup) -> Result<Vec<u8>, Error> {
    let l0 = image::IMAGE.ok_or(Error::NoL0)?;
    if !(MEMORY.1..=MEMORY.2).contains(&setup.memory) {
        return Err(Error::Memory { asked: setup.memory });
    }
    let l1 = L1::parse(image)?;
    if let Some(linux) = &l1.linux {
        takes(linux, setup)?;
    }
    let too_large = || Error::TooLarge(setup.memory);
    let bundle = bundle(&l1, image, setup).ok_or_else(too_large)?;
    let home = u64::from(setup.memory) << 20;
    let at = (LOAD + l0.len() as u64).next_multiple_of(4096);
    let loaded = l1.segments.iter().map(|segment| u64::from(segment.address) + u64::from(segment.size)).max();
    // L0 moves the bundle to the end of L1's memory, while its own image stands where it was loaded; then L1 goes below it.
    if at + bundle.len() as u64 + LOAD > home || loaded.unwrap_or(0) + bundle.len() as u64 > home {
        return Err(too_large());
    }
    let mut flat = l0.to_vec();
    debug_assert_eq!(flat.get(head::MAGIC..head::MAGIC + 8), Some(&HEAD_MAGIC.to_le_bytes()[..]));
    let zeros = image::SIZE.saturating_sub(l0.len() as u64);
    let size = bundle.len() as u64;
    for (place, value) in [
        (head::HOME, home),
        (head::BUNDLE, at),
        (head::BUNDLE_SIZE, size),
        (head::FILE_SIZE, l0.len() as u64),
        (head::ZEROS, zeros),
    ] {
        if let Some(slot) = flat.get_mut(place..place + 8) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
    }
    flat.resize((at - LOAD) as usize, 0);
    flat.extend(bundle);
    Ok(elf(&flat))
}

/// Whether a Linux kernel takes what it is to get.
fn takes(linux: &Linux, setup: &Setup) -> Result<(), Error> {
    if setup.modules.len() > 1 || setup.modules.iter().any(|(_, line)| !line.is_empty()) {
        return Err(Error::Modules);
    }
    if setup.command_line.len() > linux.command_line as usize {
        return Err(Error::CommandLine { most: linux.command_line, asked: setup.command_line.len() });
    }
    let above = u64::from(linux.initrd_max) + 1;
    if !setup.modules.is_empty() && u64::from(setup.memory) << 20 > above {
        return Err(Error::InitrdMax(above));
    }
    Ok(())
}

const _: () = {
    /// Firmware's tables take some of the end of L0's region.
    const FIRMWARE: u64 = 256 << 10;
    assert!(image::SIZE + FIRMWARE <= REGION);
};

/// The machine that L0 runs on, as arguments of `qemu-system-x86_64`: without the kernel, and without what the two serial
/// ports are tied to. The first one is L1's, the second L0's log. A further `-M q35` makes it that machine.
pub fn machine(command: &mut Command, memory: u32) {
    command
        // Firmware's system management mode would be a way around L0.
        .args(["-accel", "tcg", "-M", "pc,smm=off", "-cpu", "max", "-m"])
        .arg(format!("{}M", u64::from(memory) + (REGION >> 20)))
        .args(["-display", "none", "-no-reboot", "-nodefaults", "-monitor", "none"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
}

fn put(to: &mut Vec<u8>, words: &[u32]) {
    to.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}

/// The bundle; nothing where it is larger than 4 GiB.
fn bundle(l1: &L1, image: &[u8], setup: &Setup) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    let add = |bytes: &mut Vec<u8>, part: &[u8], align: usize| -> Option<u32> {
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        let at = u32::try_from(bytes.len()).ok()?;
        bytes.extend(part);
        Some(at)
    };
    let text = |bytes: &mut Vec<u8>, text: &str| add(bytes, &[text.as_bytes(), b"\0"].concat(), 1);
    let mut buffer = [0; Limits::ENCODED_MAX];
    let limits = setup.limits.as_ref().map_or(&[][..], |limits| limits.encode(&mut buffer));
    let limits_at = add(&mut bytes, limits, 8)?;
    let command_line = text(&mut bytes, &setup.command_line)?;
    let (mut segments, mut modules) = (Vec::new(), Vec::new());
    for segment in &l1.segments {
        let given = image.get(segment.given.clone())?;
        let at = add(&mut bytes, given, 16)?;
        put(&mut segments, &[segment.address, segment.size, at, given.len() as u32]);
    }
    let setup_header = match &l1.linux {
        Some(linux) => image.get(linux.header.clone())?,
        None => &[],
    };
    let setup_header_at = add(&mut bytes, setup_header, 8)?;
    for (module, line) in &setup.modules {
        let line_at = text(&mut bytes, line)?;
        let at = add(&mut bytes, module, 4096)?;
        put(&mut modules, &[at, u32::try_from(module.len()).ok()?, line_at, line.len() as u32]);
    }
    let segments_at = add(&mut bytes, &segments, 16)?;
    let modules_at = add(&mut bytes, &modules, 16)?;
    let rows = |table: &[u8]| (table.len() / ROW) as u32;
    let mut flags = 0;
    for (is, flag) in [(setup.verdict_only, flag::VERDICT_ONLY), (setup.quiet, flag::QUIET)] {
        flags |= if is { flag } else { 0 };
    }
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    let mut header = MAGIC.to_le_bytes().to_vec();
    put(&mut header, &[u32::try_from(bytes.len()).ok()?, flags, setup.dumps, l1.entry]);
    put(&mut header, &[limits_at, limits.len() as u32, command_line, setup.command_line.len() as u32]);
    put(&mut header, &[segments_at, rows(&segments), modules_at, rows(&modules)]);
    put(&mut header, &[setup_header_at, setup_header.len() as u32, setup.reload, 0]);
    bytes.get_mut(..HEAD)?.copy_from_slice(&header);
    Some(bytes)
}

/// An ELF64 file that loads the flat image at [`LOAD`], whose first byte is the entry.
fn elf(flat: &[u8]) -> Vec<u8> {
    const NOTE: u64 = 0x1000;
    // The first 8 KiB must not hold a multiboot header, and L1's image has one: QEMU would look at it first.
    const START: u64 = 0x4000;
    let quad =
        |to: &mut Vec<u8>, values: &[u64]| to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    put(&mut file, &[62 << 16 | 2, 1]);
    quad(&mut file, &[LOAD, 64, 0]);
    put(&mut file, &[0, 56 << 16 | 64, 64 << 16 | 2, 0]);
    let size = flat.len() as u64;
    // PT_LOAD, readable, writable, executable; then PT_NOTE.
    put(&mut file, &[1, 7]);
    quad(&mut file, &[START, LOAD, LOAD, size, size, 4096]);
    put(&mut file, &[4, 4]);
    quad(&mut file, &[NOTE, 0, 0, 24, 24, 4]);
    file.resize(NOTE as usize, 0);
    // XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry of PVH.
    put(&mut file, &[4, 8, 18]);
    file.extend(b"Xen\0");
    quad(&mut file, &[LOAD]);
    file.resize(START as usize, 0);
    file.extend(flat);
    file
}
