//! What the program needs of Linux and the standard library lacks: a timer, memory, mounts, modules, ports and power.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io::Error;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set by every [`tick`].
static TICKED: AtomicBool = AtomicBool::new(false);

extern "C" fn ticked(_: c_int) {
    TICKED.store(true, Ordering::Relaxed);
}

/// Whether time has passed since the last time it was asked.
pub(crate) fn has_ticked() -> bool {
    // A plain load in the common case: it is asked at every exit.
    TICKED.load(Ordering::Relaxed) && TICKED.swap(false, Ordering::Relaxed)
}

/// So many [`tick`]s with nothing heard are silence.
pub(crate) const TICKS: u32 = 8;

/// From now on a signal interrupts KVM_RUN, [`TICKS`] times within `limit`. A timer for each case would cost two calls
/// a case, and a signal between two runs would be lost. A clock would count the time in which a loaded machine did not
/// let us run at all; ticks that come due then are one.
pub(crate) fn tick(limit: Duration) -> Result<(), String> {
    let period = limit / TICKS;
    let period =
        libc::timeval { tv_sec: period.as_secs() as libc::time_t, tv_usec: period.subsec_micros().into() };
    let timer = libc::itimerval { it_interval: period, it_value: period };
    let handler = ticked as extern "C" fn(c_int);
    // SAFETY: the handler only stores to an atomic, which a signal handler may.
    let old = unsafe { libc::signal(libc::SIGALRM, handler as libc::sighandler_t) };
    // SAFETY: `timer` outlives the call.
    let started = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    if old == libc::SIG_ERR || started != 0 {
        return Err(format!("no timer: {}", Error::last_os_error()));
    }
    Ok(())
}

/// Memory that a guest writes too. It is accessed only by copies.
pub(crate) struct Memory {
    start: NonNull<u8>,
    size: usize,
}

impl Memory {
    /// Zeroed memory.
    pub(crate) fn new(size: usize) -> Result<Self, Error> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: with no address asked for, a new mapping overlaps nothing that is there.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), size, access, MapFlags::PRIVATE) }?;
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, size })
    }

    /// Its address, for the kernel.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Copies out. What lies beyond the end is left as it is in `bytes`.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let count = self.size.saturating_sub(offset).min(bytes.len());
        if count > 0 {
            // SAFETY: `count` bytes from `offset` lie within the mapping, which lives as long as `self`.
            unsafe { self.start.as_ptr().add(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), count) };
        }
    }

    /// Copies in. What would lie beyond the end is dropped.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let count = self.size.saturating_sub(offset).min(bytes.len());
        if count > 0 {
            // SAFETY: as in `read`.
            unsafe { self.start.as_ptr().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), count) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping. Only a VM may use the address too, and it is closed before its memory.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Mounts a file system that has no device.
pub(crate) fn mount_at(kind: &CStr, target: &CStr) -> Result<(), Error> {
    Ok(mount(kind, target, kind, MountFlags::empty(), None)?)
}

/// Loads a kernel module, without parameters.
pub(crate) fn load(module: &File) -> Result<(), Error> {
    Ok(finit_module(module, c"", 0)?)
}

/// A port that this process may use.
#[derive(Clone, Copy)]
pub(crate) struct Port(u16);

impl Port {
    pub(crate) fn open(number: u16) -> Result<Self, Error> {
        // SAFETY: it changes what this process may do with a port, no memory.
        let answer = unsafe { libc::ioperm(number.into(), 1, 1) };
        if answer == 0 { Ok(Self(number)) } else { Err(Error::last_os_error()) }
    }

    /// Writes the bytes one after another.
    pub(crate) fn write(self, bytes: &[u8]) {
        // SAFETY: it reads `bytes` only, upwards since the direction flag is clear, and the port is allowed.
        unsafe {
            std::arch::asm!(
                "rep outsb",
                inout("rcx") bytes.len() => _,
                inout("rsi") bytes.as_ptr() => _,
                in("dx") self.0,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
}

/// Switches the machine off. Only process 1 of our own initramfs calls it, so nothing is lost.
pub(crate) fn power_off() {
    let _ = reboot(RebootCommand::PowerOff);
}
