//! The BIOS as L1 sees it: INT 15h, which tells how much memory there is, does not tell of L0's.
//!
//! A hypervisor may ask the BIOS in real mode whatever its boot loader said, as Xen does. The interrupt leads to a
//! VMMCALL, and L0 answers; calls that are not about memory are passed on to the BIOS.

use crate::firmware::Map;
use crate::memory::{Ram, STUB};
use crate::vcpu::Registers;
use nested_svm::{Memory as _, NoMemory, Page};
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr0, Rflags, Vmcb};

const INT_15H: u64 = 4 * 0x15;
/// KiB of memory below 1 MiB, in the data area of the BIOS.
const BASE_MEMORY: u64 = 0x413;
/// VMMCALL; IRET; a far jump to what was there before.
const VMMCALL: [u8; 3] = [0x0F, 0x01, 0xD9];
const IRET: u8 = 0xCF;
const JUMP: u8 = 0xEA;
const AT_IRET: u64 = VMMCALL.len() as u64;
const AT_JUMP: u64 = AT_IRET + 1;

/// Takes the interrupt over.
///
/// # Errors
/// Where L1 has no memory below 1 MiB.
pub(crate) fn hook(ram: &mut Ram) -> Result<(), NoMemory> {
    let before = ram.read_u32(INT_15H)?;
    ram.write(STUB, &VMMCALL)?;
    ram.write(STUB + AT_IRET, &[IRET, JUMP])?;
    ram.write(STUB + AT_JUMP + 1, &before.to_le_bytes())?;
    ram.write(INT_15H, &((STUB as u32 >> 4) << 16).to_le_bytes())?;
    ram.write(BASE_MEMORY, &((STUB >> 10) as u16).to_le_bytes())
}

/// Whether a VMMCALL is that of the interrupt.
pub(crate) fn is_call(vmcb: Vmcb<'_>) -> bool {
    let segment = vmcb.segment(f::cs);
    !vmcb.cr0().contains(Cr0::PE) && segment.base == STUB && vmcb.read(f::rip) == 0
}

/// Answers the call. Returns the RIP at which L1 continues.
pub(crate) fn answer(vmcb01: &mut Page, registers: &mut Registers, ram: &mut Ram, map: &Map) -> u64 {
    const LOW: u64 = 0xFFFF;
    const SMAP: u64 = 0x534D_4150;
    let ax = vmcb01.get(f::rax) & LOW;
    let done = match ax {
        0xE820 => {
            let to = vmcb01.vmcb().segment(f::es).base + (registers.rdi & LOW);
            match entry(ram, map, registers.rbx as u32, to) {
                Some(next) => {
                    registers.rbx = next.into();
                    registers.rcx = 20;
                    vmcb01.set(f::rax, SMAP);
                    true
                }
                None => false,
            }
        }
        // Older functions, which this BIOS does not implement.
        0xE801 | 0xE881 | 0x8800..=0x88FF => false,
        _ => return AT_JUMP,
    };
    if !done {
        // AH: no such function.
        vmcb01.set_bits(f::rax, 0xFF00, 0x8600);
    }
    let flags = vmcb01.vmcb().segment(f::ss).base + (vmcb01.get(f::rsp).wrapping_add(4) & LOW);
    let mut low = [0];
    // Where L1 has no memory for its stack, IRET finds none either.
    if ram.read(flags, &mut low).is_ok() {
        const CF: u8 = Rflags::CF.bits() as u8;
        let _ = ram.write(flags, &[low[0] & !CF | if done { 0 } else { CF }]);
    }
    AT_IRET
}

/// Writes a range of the memory map. Returns the number of the one behind it, 0 where there is none.
fn entry(ram: &mut Ram, map: &Map, number: u32, to: u64) -> Option<u32> {
    let range = map.ranges().get(number as usize)?;
    let mut bytes = [0; 20];
    for (place, value) in bytes.chunks_mut(8).zip([range.base, range.size, range.kind.into()]) {
        place.copy_from_slice(value.to_le_bytes().get(..place.len())?);
    }
    ram.write(to, &bytes).ok()?;
    let next = number + 1;
    Some(if map.ranges().len() > next as usize { next } else { 0 })
}
