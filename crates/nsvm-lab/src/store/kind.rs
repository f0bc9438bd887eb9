//! Sorts of subjects.

use std::fmt;

/// What sort of subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// QEMU's `qemu-system-x86_64`.
    Qemu,
    /// Bochs.
    Bochs,
    /// A Linux kernel with its KVM modules.
    Kernel,
    /// Xen, with its tools and what a domain 0 of them needs.
    Xen,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Qemu, Self::Bochs, Self::Kernel, Self::Xen];

    /// Its name: `qemu`, `bochs`, `kernel`, `xen`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Bochs => "bochs",
            Self::Kernel => "kernel",
            Self::Xen => "xen",
        }
    }

    /// The program's name in PATH; none for what QEMU boots.
    #[must_use]
    pub fn program(self) -> Option<&'static str> {
        match self {
            Self::Qemu => Some("qemu-system-x86_64"),
            Self::Bochs => Some("bochs"),
            Self::Kernel | Self::Xen => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
