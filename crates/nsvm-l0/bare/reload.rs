//! The nested state saved, thrown away, and loaded again while the guests run: what a migration does to it.

use crate::cpuid;
use crate::log::{Log, fail};
use crate::memory::{Pool, Ram};
use nested_svm::{Guest, Host, Nested, Page, World};

/// When, and for which host.
pub(crate) struct Reload {
    /// After so many exits; 0: never.
    every: u32,
    left: u32,
    host: Host,
    buffer: [u8; Nested::SAVED_MAX],
}

impl Reload {
    pub(crate) const fn new(every: u32, host: Host) -> Self {
        Self { every, left: every, host, buffer: [0; Nested::SAVED_MAX] }
    }

    #[inline(always)]
    pub(crate) const fn is_on(&self) -> bool {
        self.every != 0
    }

    /// An exit was dealt with.
    pub(crate) fn count(&mut self, nested: &mut Nested, world: &mut World<'_, Ram, Pool, Log>) {
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        self.left = self.every;
        let limits = nested.limits().clone();
        let bytes = nested.save(world.vmcb02, &mut self.buffer);
        // Nothing is left of what is not in the bytes.
        *nested = Nested::for_verdicts(limits.clone(), self.host);
        *world.vmcb02 = Page::zeroed();
        let loaded = Nested::load(bytes, &limits, self.host).unwrap_or_else(|error| {
            fail(format_args!("the nested state that L0 saved is not loaded: {error}"))
        });
        *nested = loaded.resume(world);
        nested.set_gib_pages(cpuid::gib_pages());
        let again = &mut [0; Nested::SAVED_MAX];
        if nested.save(world.vmcb02, again) != bytes {
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
