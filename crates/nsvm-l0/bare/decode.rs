//! How long an instruction is that was intercepted: QEMU's CPUs have no next RIP.

use crate::memory::{Ram, translate};
use nested_svm::{Memory as _, Page};
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
        let linear = if wide { rip } else { vmcb.vmcb().segment(f::cs).base.wrapping_add(rip) & 0xFFFF_FFFF };
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
        let wide = in_64_bit_mode(vmcb);
        let mut bytes = [0; LONGEST];
        let physical = translate(ram, vmcb.vmcb(), linear)?;
        *self.slot(linear) = Found { linear: linear & !0xFFF, physical: physical & !0xFFF };
        // What lies on the next page is read from there, and is left out where there is none.
        let here = LONGEST.min(4096 - (linear & 0xFFF) as usize);
        let (first, second) = bytes.split_at_mut(here);
        ram.read(physical, first).ok()?;
        let next = linear.wrapping_add(here as u64);
        let next = translate(ram, vmcb.vmcb(), if wide { next } else { next & 0xFFFF_FFFF });
        let whole = !second.is_empty() && next.is_some_and(|next| ram.read(next, second).is_ok());
        let bytes = bytes.get(..if whole { LONGEST } else { here })?;
        let prefixes = bytes.iter().take_while(|&&byte| is_prefix(byte, wide)).count();
        let rest = bytes.get(prefixes..)?;
        let opcode = opcodes(code).iter().find(|opcode| rest.starts_with(opcode))?;
        Some((prefixes + opcode.len()) as u64)
    }
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
