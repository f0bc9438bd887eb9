//! L1 as a multiboot (version 1) kernel: its segments, the boot information, the state of its CPU.

use crate::bundle_reader::{Bundle, Part};
use crate::firmware::Map;
use crate::memory::{Ram, STUB};
use crate::vcpu::Registers;
use nested_svm::{Memory as _, NoMemory, Page};
use vmcb::layout::vmcb_field as f;

const PAGE: u64 = 4096;
const IN_EAX: u64 = 0x2BAD_B002;
/// Memory sizes, command line, modules, memory map, name of the boot loader.
const FLAGS: u32 = 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
const NAME: &[u8] = b"nsvm l0\0";

const TOO_SMALL: &str = "L1 and its modules do not fit into its memory: give it more (--memory)";

/// Copies L1's segments to their places and writes the boot information in the pages below the bundle, which stands at
/// this address. Returns the registers with which L1 begins.
///
/// # Errors
/// What does not fit.
pub(crate) fn load(ram: &mut Ram, bundle: &Bundle, at: u64, map: &Map) -> Result<Registers, &'static str> {
    let modules = bundle.modules().count();
    let size = (128 + NAME.len() + 24 * map.ranges().len() + 16 * modules) as u64;
    let info = load_segments(ram, bundle, at, size)?;
    write_info(ram, bundle, at, map, info).map_err(|NoMemory| TOO_SMALL)?;
    Ok(Registers { rbx: info, ..Registers::new() })
}

/// Copies L1's segments to their places, and finds room for so many bytes of boot information in whole pages of zeros below
/// the bundle, which stands at this address.
///
/// # Errors
/// What does not fit.
pub(crate) fn load_segments(ram: &mut Ram, bundle: &Bundle, at: u64, size: u64) -> Result<u64, &'static str> {
    let info = at.checked_sub(size.next_multiple_of(PAGE)).ok_or(TOO_SMALL)?;
    for [address, taken, offset, given] in bundle.segments() {
        let (address, taken) = (u64::from(address), u64::from(taken));
        if address + taken > info || given as u64 > taken {
            return Err(TOO_SMALL);
        }
        ram.write(address, bundle.bytes(Part { offset, size: given }))
            .and_then(|()| zeros(ram, address + u64::from(given), address + taken))
            .map_err(|NoMemory| "a segment of L1 lies where there is no memory")?;
    }
    zeros(ram, info, at).map_err(|NoMemory| TOO_SMALL)?;
    Ok(info)
}

fn zeros(ram: &mut Ram, start: u64, end: u64) -> Result<(), NoMemory> {
    let mut at = start;
    while at < end {
        let size = (end - at).min(PAGE);
        ram.write(at, [0; PAGE as usize].get(..size as usize).unwrap_or(&[]))?;
        at += size;
    }
    Ok(())
}

fn write_info(ram: &mut Ram, bundle: &Bundle, at: u64, map: &Map, info: u64) -> Result<(), NoMemory> {
    let mut words = |address: u64, values: &[u64]| {
        values
            .iter()
            .zip(0..)
            .try_for_each(|(&value, index)| ram.write(address + 4 * index, &(value as u32).to_le_bytes()))
    };
    let name = info + 128;
    let mut end = name + NAME.len() as u64;
    let (map_at, map_size) = (end, 24 * map.ranges().len() as u64);
    for range in map.ranges() {
        let (base, size) = (range.base, range.size);
        words(end, &[20, base, base >> 32, size, size >> 32, range.kind.into()])?;
        end += 24;
    }
    let modules_at = end;
    let mut modules = 0;
    for [offset, size, text, _] in bundle.modules() {
        let start = at + u64::from(offset);
        words(end, &[start, start + u64::from(size), at + u64::from(text), 0])?;
        end += 16;
        modules += 1;
    }
    let upper = map.ranges().iter().find(|range| range.base == 0x10_0000 && range.kind == 1);
    let upper = upper.map_or(0, |range| range.size / 1024);
    words(
        info,
        &[
            FLAGS.into(),
            STUB >> 10,
            upper,
            0,
            at + u64::from(bundle.command_line().offset),
            modules,
            modules_at,
        ],
    )?;
    words(info + 44, &[map_size, map_at, 0, 0, 0, name])?;
    ram.write(name, NAME)
}

/// 32-bit protected mode, paging off, flat segments, whose selectors are those that Linux wants.
pub(crate) fn start(vmcb01: &mut Page, entry: u32) {
    const CODE: u64 = 0x0C9B << 16 | 0xFFFF_FFFF << 32 | 16;
    const DATA: u64 = 0x0C93 << 16 | 0xFFFF_FFFF << 32 | 24;
    /// A TSS and an LDT as after INIT.
    const TSS: u64 = 0x008B << 16 | 0xFFFF << 32;
    const LDT: u64 = 0x0082 << 16 | 0xFFFF << 32;
    for field in [f::ds, f::es, f::ss, f::fs, f::gs] {
        vmcb01.set(field, DATA);
    }
    for (field, value) in [
        (f::cs, CODE),
        (f::tr, TSS),
        (f::ldtr, LDT),
        (f::rip, entry.into()),
        (f::rax, IN_EAX),
        (f::cr0, 0x11),
        (f::rflags, 2),
        (f::dr6, 0xFFFF_0FF0),
        (f::dr7, 0x400),
        (f::g_pat, 0x0007_0406_0007_0406),
    ] {
        vmcb01.set(field, value);
    }
}
