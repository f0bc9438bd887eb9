//! L1's permission maps: whether an access of L2 to a port or an MSR is L1's.

use crate::l0::memory::Memory;

/// The bits of a map that an access asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Access {
    /// First bit.
    first: u64,
    /// How many; none where the map has no bit for it, which is always intercepted.
    count: u64,
}

impl Access {
    /// IN or OUT, from EXITINFO1: one bit for each byte that the access touches. A wide access to the last ports goes on
    /// in the bits behind those of the 64 Ki ports.
    ///
    /// # Source
    /// Manual volume 2, 15.10.1 and 15.10.2.
    #[inline(always)]
    pub(crate) fn port(info: u64) -> Self {
        Self { first: info >> 16 & 0xFFFF, count: (info >> 4 & 7).max(1) }
    }

    /// RDMSR or WRMSR, of which EXITINFO1 is 0 or 1: two bits an MSR, the first for reads.
    ///
    /// # Source
    /// Manual volume 2, 15.11.
    #[inline(always)]
    pub(crate) fn msr(number: u32, info: u64) -> Self {
        const RANGES: [(u32, u64); 3] = [(0, 0), (0xC000_0000, 0x800), (0xC001_0000, 0x1000)];
        for (first, byte) in RANGES {
            let index = number.wrapping_sub(first);
            if index < 0x2000 {
                return Self { first: byte * 8 + u64::from(index) * 2 + (info & 1), count: 1 };
            }
        }
        Self { first: 0, count: 0 }
    }
}

/// Whether L1 intercepts the access.
///
/// Where the map is not in memory, it does: what nobody answers for reads as ones.
#[inline(never)]
pub(crate) fn intercepts<M: Memory>(memory: &M, base: u64, access: Access) -> bool {
    const PAGE: u64 = !0xFFF;
    let base = base & PAGE;
    access.count == 0
        || (access.first..access.first + access.count).any(|bit| {
            let mut byte = [0];
            match memory.read(base + bit / 8, &mut byte) {
                Ok(()) => byte[0] >> (bit % 8) & 1 != 0,
                Err(_) => true,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l0::memory::NoMemory;

    /// Ones at single bits, and a hole from some address on.
    struct Map {
        set: [u64; 2],
        hole: u64,
    }

    impl Memory for Map {
        fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
            for (index, byte) in bytes.iter_mut().enumerate() {
                let at = address + index as u64;
                if at >= self.hole {
                    return Err(NoMemory);
                }
                *byte =
                    self.set.iter().filter(|&&bit| bit / 8 == at).fold(0, |byte, bit| byte | 1 << (bit % 8));
            }
            Ok(())
        }

        fn write(&mut self, _: u64, _: &[u8]) -> Result<(), NoMemory> {
            Err(NoMemory)
        }
    }

    #[test]
    fn every_port_and_size() {
        let info = |port: u64, size: u64| port << 16 | size << 4 | 1;
        for set in [0_u64, 1, 7, 8, 0x3F8, 0x7FFF, 0xFFFC, 0xFFFF, 0x1_0000, 0x1_0002] {
            let map = Map { set: [set + 0x5000 * 8, 0], hole: u64::MAX };
            for port in 0..0x1_0000_u64 {
                for size in [1, 2, 4] {
                    let touches = (port..port + size).contains(&set);
                    // Bits 11:0 of the base are ignored.
                    let says = intercepts(&map, 0x5ABC, Access::port(info(port, size)));
                    assert_eq!(says, touches, "port {port:#x} size {size} bit {set:#x}");
                }
            }
        }
    }

    #[test]
    fn every_msr_of_the_ranges() {
        let place = |msr: u32| match msr {
            0..0x2000 => Some(u64::from(msr) * 2),
            0xC000_0000..0xC000_2000 => Some(0x4000 + u64::from(msr - 0xC000_0000) * 2),
            0xC001_0000..0xC001_2000 => Some(0x8000 + u64::from(msr - 0xC001_0000) * 2),
            _ => None,
        };
        let ranges =
            [0..0x2002_u32, 0xBFFF_FFFE..0xC000_2002, 0xC000_FFFE..0xC001_2002, u32::MAX - 1..u32::MAX];
        for msr in ranges.into_iter().flatten() {
            for write in [0, 1] {
                let access = Access::msr(msr, write);
                match place(msr) {
                    Some(bit) => {
                        assert_eq!(access, Access { first: bit + write, count: 1 });
                        let map = Map { set: [bit + write, u64::MAX], hole: 0x2000 };
                        assert!(intercepts(&map, 0, access));
                        let map = Map { set: [bit + (1 - write), u64::MAX], hole: 0x2000 };
                        assert!(!intercepts(&map, 0, access));
                    }
                    None => assert!(intercepts(&Map { set: [u64::MAX; 2], hole: 0x2000 }, 0, access)),
                }
            }
        }
    }

    #[test]
    fn a_map_without_memory_belongs_to_l1() {
        let map = Map { set: [u64::MAX; 2], hole: 0x2000 };
        assert!(!intercepts(&map, 0, Access::port(0xFFFF_0010)));
        assert!(intercepts(&map, 0, Access::port(0xFFFF_0040)), "the bits behind the last port");
        let map = Map { set: [u64::MAX; 2], hole: 0x1000 };
        assert!(!intercepts(&map, 0xFFF, Access::port(0x7FFF_0010)), "the address is that of a page");
        assert!(intercepts(&map, 0xFFF, Access::port(0x8000_0010)));
    }
}
