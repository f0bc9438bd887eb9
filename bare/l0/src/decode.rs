//! How long an instruction is that was intercepted: QEMU's CPUs have no next RIP.

use crate::log::Log;
use crate::memory::{Pool, Ram, translate};
use core::cell::RefCell;
use nested_svm::{Memory, Nested, NoMemory, Page, World};
use vmcb::layout::vmcb_field as f;
use vmcb::{CsAttributes, Efer};

/// Where L1's code was found lately. A TLB may hold the same, and unlike a TLB it is never trusted: only an instruction
/// that the exit code names is taken from there.
#[derive(Default)]
pub(crate) struct Code {
    /// By the lowest bits of the page's number.
    pages: [Found; PAGES],
}

const PAGES: usize = 16;

#[derive(Clone, Copy, Default)]
struct Found {
    linear: u64,
    physical: u64,
}

/// The longest instruction.
const LONGEST: usize = 15;

/// What stands at RIP for each exit code.
fn opcodes(code: u64) -> &'static [&'static [u8]] {
    match code {
        0x80 => &[&[0x0F, 0x01, 0xD8]],
        0x81 => &[&[0x0F, 0x01, 0xD9]],
        0x82 => &[&[0x0F, 0x01, 0xDA]],
        0x83 => &[&[0x0F, 0x01, 0xDB]],
        0x84 => &[&[0x0F, 0x01, 0xDC]],
        0x85 => &[&[0x0F, 0x01, 0xDD]],
        0x86 => &[&[0x0F, 0x01, 0xDE]],
        0x7A => &[&[0x0F, 0x01, 0xDF]],
        0x72 => &[&[0x0F, 0xA2]],
        0x7C => &[&[0x0F, 0x30], &[0x0F, 0x32]],
        _ => &[],
    }
}

impl Code {
    /// RIP of the instruction after the one that exited with this code. Nothing where the bytes at RIP are another
    /// one: they changed since.
    #[inline(always)]
    pub(crate) fn next_rip(&mut self, ram: &Ram, vmcb: &Page, code: u64) -> Option<u64> {
        let rip = vmcb.get(f::rip);
        let wide = in_64_bit_mode(vmcb);
        let linear = linear(vmcb);
        let (page, offset) = (linear & !0xFFF, linear & 0xFFF);
        let found = self.slot(linear);
        // The common case: no prefix, on a page that was found lately.
        if page == found.linear
            && offset <= 0xFFC
            && let Ok(bytes) = ram.read_u32(found.physical | offset)
            && let Some(length) = plain(code, bytes)
        {
            return Some(after(rip, length, wide));
        }
        self.find(ram, vmcb, code, linear).map(|length| after(rip, length, wide))
    }

    #[inline(always)]
    fn slot(&mut self, linear: u64) -> &mut Found {
        // The index is below the length, so nothing of a bounds check is left.
        &mut self.pages[(linear >> 12) as usize % PAGES]
    }

    #[cold]
    #[inline(never)]
    fn find(&mut self, ram: &Ram, vmcb: &Page, code: u64, linear: u64) -> Option<u64> {
        let physical = translate(ram, vmcb.vmcb(), linear)?;
        *self.slot(linear) = Found { linear: linear & !0xFFF, physical: physical & !0xFFF };
        length(&fetch(ram, vmcb, linear)?, code, in_64_bit_mode(vmcb))
    }
}

/// What stands at RIP of L2, which exited with this code.
pub(crate) enum OfL2 {
    /// The instruction that exited: RIP of the next one.
    Next(u64),
    /// Another one: it changed since.
    Another,
}

/// RIP of the instruction after L2's. Where its bytes cannot be read, they are taken to have no prefix.
#[cold]
pub(crate) fn next_rip_of_l2(nested: &Nested, world: &mut World<'_, Ram, Pool, Log>, code: u64) -> OfL2 {
    let vmcb = world.vmcb02.clone();
    let (rip, wide) = (vmcb.get(f::rip), in_64_bit_mode(&vmcb));
    let linear = linear(&vmcb);
    let bytes = fetch(&OfL2Memory { nested, world: RefCell::new(world) }, &vmcb, linear);
    let found = match bytes {
        Some(bytes) => length(&bytes, code, wide),
        None => opcodes(code).first().map(|opcode| opcode.len() as u64),
    };
    found.map_or(OfL2::Another, |length| OfL2::Next(after(rip, length, wide)))
}

/// L2's physical memory, by L1's nested tables.
struct OfL2Memory<'a, 'w> {
    nested: &'a Nested,
    world: RefCell<&'a mut World<'w, Ram, Pool, Log>>,
}

impl Memory for OfL2Memory<'_, '_> {
    /// What is read here lies on one page.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        let mut world = self.world.borrow_mut();
        let address = self.nested.address_of_l2(&mut world, address).ok_or(NoMemory)?;
        world.memory.read(address, bytes)
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), NoMemory> {
        Err(NoMemory)
    }
}

/// The bytes of an instruction; those beyond the last one that can be read are missing.
struct Fetched {
    bytes: [u8; LONGEST],
    count: usize,
}

/// Nothing where not even the first byte can be read.
fn fetch<M: Memory>(memory: &M, vmcb: &Page, linear: u64) -> Option<Fetched> {
    let mut bytes = [0; LONGEST];
    let physical = translate(memory, vmcb.vmcb(), linear)?;
    // What lies on the next page is read from there, and is left out where there is none.
    let here = LONGEST.min(4096 - (linear & 0xFFF) as usize);
    let (first, second) = bytes.split_at_mut(here);
    memory.read(physical, first).ok()?;
    let next = linear.wrapping_add(here as u64);
    let next = if in_64_bit_mode(vmcb) { next } else { next & 0xFFFF_FFFF };
    let whole = !second.is_empty()
        && translate(memory, vmcb.vmcb(), next).is_some_and(|next| memory.read(next, second).is_ok());
    Some(Fetched { bytes, count: if whole { LONGEST } else { here } })
}

/// The length of the instruction that exits with this code, prefixes included; nothing where it is another one.
fn length(fetched: &Fetched, code: u64, wide: bool) -> Option<u64> {
    let bytes = fetched.bytes.get(..fetched.count)?;
    let prefixes = bytes.iter().take_while(|&&byte| is_prefix(byte, wide)).count();
    let rest = bytes.get(prefixes..)?;
    let opcode = opcodes(code).iter().find(|opcode| rest.starts_with(opcode))?;
    Some((prefixes + opcode.len()) as u64)
}

/// Linear address of the instruction.
#[inline(always)]
fn linear(vmcb: &Page) -> u64 {
    let rip = vmcb.get(f::rip);
    if in_64_bit_mode(vmcb) { rip } else { vmcb.vmcb().segment(f::cs).base.wrapping_add(rip) & 0xFFFF_FFFF }
}

#[inline(always)]
fn plain(code: u64, bytes: u32) -> Option<u64> {
    // 0F 01 D8 to DE, in the order of the exit codes.
    const FIRST: u64 = 0x00D8_010F;
    if u64::from(bytes & 0xFF_FFFF) == FIRST.wrapping_add(code.wrapping_sub(0x80) << 16) {
        return Some(3);
    }
    let [first, second, ..] = bytes.to_le_bytes();
    opcodes(code).iter().any(|opcode| **opcode == [first, second]).then_some(2)
}

#[inline(always)]
fn after(rip: u64, length: u64, wide: bool) -> u64 {
    let next = rip.wrapping_add(length);
    if wide { next } else { next & 0xFFFF_FFFF }
}

#[inline(always)]
fn in_64_bit_mode(vmcb: &Page) -> bool {
    const L: u16 = CsAttributes::L.bits() as u16;
    let view = vmcb.vmcb();
    view.efer().contains(Efer::LMA) & (view.segment(f::cs).attributes.bits() & L != 0)
}

/// Operand and address size, REP, segments, LOCK; REX in 64-bit mode.
fn is_prefix(byte: u8, wide: bool) -> bool {
    matches!(byte, 0x26 | 0x2E | 0x36 | 0x3E | 0x64..=0x67 | 0xF0 | 0xF2 | 0xF3)
        || wide && matches!(byte, 0x40..=0x4F)
}
