//! The nested state saved, thrown away, and loaded again while the guests run: what a migration does to it.

use crate::log::{Log, fail};
use crate::memory::{Pool, Ram};
use nested_svm::{Guest, Nested, World};

/// When the state is reloaded.
pub(crate) struct Reload {
    /// After so many exits; 0: never.
    every: u32,
    left: u32,
    /// The last exit only filled in the shadow of L1's nested tables.
    filled: bool,
    /// The shadow was lost while L2 waited for more of it: not again before L2 has gone on, which it never would if each
    /// of the pages that one instruction needs were lost for the next.
    held: bool,
    buffer: [u8; Nested::SAVED_MAX],
}

impl Reload {
    pub(crate) const fn new(every: u32) -> Self {
        Self { every, left: every, filled: false, held: false, buffer: [0; Nested::SAVED_MAX] }
    }

    #[inline(always)]
    pub(crate) const fn is_on(&self) -> bool {
        self.every != 0
    }

    /// The exit only filled in the shadow: L2 has not gone on.
    #[inline(always)]
    pub(crate) fn filled(&mut self) {
        self.filled = true;
    }

    /// An exit was dealt with.
    pub(crate) fn count(&mut self, nested: &mut Nested, world: &mut World<'_, Ram, Pool, Log>) {
        let filled = core::mem::take(&mut self.filled);
        self.held &= filled;
        self.left = self.left.saturating_sub(1);
        if self.left > 0 || self.held {
            return;
        }
        self.held = filled;
        self.left = self.every;
        let bytes = nested.save(world, &mut self.buffer);
        // VMCB02 is cleared, so that `load` must fill it from the bytes alone. `load` resets all other state.
        world.vmcb02.bytes_mut().fill(0);
        nested.load(world, bytes).unwrap_or_else(|error| {
            fail(format_args!("the nested state that L0 saved is not loaded: {error}"))
        });
        let again = &mut [0; Nested::SAVED_MAX];
        if nested.save(world, again) != bytes {
            fail(format_args!("the nested state is another one after loading: {} runs", guest(nested)));
        }
    }
}

fn guest(nested: &Nested) -> &'static str {
    match nested.guest() {
        Guest::L1 => "L1",
        Guest::L2 => "L2",
    }
}
