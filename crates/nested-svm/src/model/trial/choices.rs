//! The source of a trial's choices: a generator with a seed, or the bytes of a fuzzer.

use std::vec::Vec;

/// A deterministic sequence of choices.
#[derive(Clone, Debug)]
pub(super) struct Choices {
    state: u64,
    bytes: Option<(Vec<u8>, usize)>,
}

impl Choices {
    /// Choices of a pseudorandom generator.
    pub(super) fn from_seed(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03, bytes: None }
    }

    /// Choices of these bytes. After the last one every choice is 0.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self { state: 1, bytes: Some((bytes.to_vec(), 0)) }
    }

    /// Whether all bytes are used up. A seed never runs out.
    pub(super) fn is_finished(&self) -> bool {
        self.bytes.as_ref().is_some_and(|(bytes, used)| *used >= bytes.len())
    }

    /// Returns a number below `limit`. `limit` must not be 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        match &mut self.bytes {
            Some((bytes, used)) => {
                let count = if limit > 0x100 { 2 } else { 1 };
                let taken = bytes.iter().skip(*used).take(count);
                *used += count;
                taken.fold(0, |number, &byte| number << 8 | u64::from(byte)) % limit
            }
            None => (self.next() >> 33) % limit,
        }
    }

    /// Returns `true` in one of `limit` cases.
    pub(super) fn one_in(&mut self, limit: u64) -> bool {
        // Fuzzers start with zero bytes. A zero selects the common case.
        self.below(limit) == limit - 1
    }

    /// Returns one of the values. `values` must not be empty.
    pub(super) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.state;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    }
}
