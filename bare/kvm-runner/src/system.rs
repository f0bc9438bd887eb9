//! What is asked of the system and not in Rust's own library.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

unsafe extern "C" {
    fn ioctl(file: c_int, request: c_ulong, ...) -> c_int;
    fn mmap(at: *mut c_void, size: usize, prot: c_int, flags: c_int, file: c_int, offset: i64)
    -> *mut c_void;
    fn munmap(at: *mut c_void, size: usize) -> c_int;
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn ioperm(from: c_ulong, count: c_ulong, on: c_int) -> c_int;
    fn reboot(command: c_int) -> c_int;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> *const c_void;
    fn setitimer(which: c_int, new: *const [c_long; 4], old: *mut [c_long; 4]) -> c_int;
}

const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;
const MAP_FAILED: *mut c_void = usize::MAX as *mut c_void;
const SYS_FINIT_MODULE: c_long = 313;
const RB_POWER_OFF: c_int = 0x4321_fedc;
const SIGALRM: c_int = 14;
const SIG_ERR: *const c_void = usize::MAX as *const c_void;
const ITIMER_REAL: c_int = 0;

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
    let (seconds, microseconds) = (period.as_secs() as c_long, period.subsec_micros().into());
    let timer = [seconds, microseconds, seconds, microseconds];
    // SAFETY: the handler only stores to an atomic, which a signal handler may.
    let old = unsafe { signal(SIGALRM, ticked) };
    // SAFETY: `timer` is a struct itimerval, four longs, and outlives the call.
    if old == SIG_ERR || unsafe { setitimer(ITIMER_REAL, &timer, std::ptr::null_mut()) } != 0 {
        return Err(format!("no timer: {}", Error::last_os_error()));
    }
    Ok(())
}

/// Asks again what a [`tick`] has interrupted: making a virtual machine is such a thing.
fn insist(mut ask: impl FnMut() -> c_int) -> Result<c_int, Error> {
    loop {
        let answer = ask();
        if answer >= 0 {
            return Ok(answer);
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// An ioctl that takes nothing, once; an error if a [`tick`] interrupts it.
pub(crate) fn ioctl_once(file: &impl AsRawFd, request: c_ulong) -> Result<(), Error> {
    // SAFETY: the requests of this program that take nothing touch no memory of ours that anybody refers to.
    let answer = unsafe { ioctl(file.as_raw_fd(), request, 0 as c_ulong) };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// An ioctl that takes nothing and answers with a number.
pub(crate) fn ioctl_number(file: &impl AsRawFd, request: c_ulong) -> Result<c_int, Error> {
    // SAFETY: as in `ioctl_once`.
    insist(|| unsafe { ioctl(file.as_raw_fd(), request, 0 as c_ulong) })
}

/// An ioctl that reads or writes `data`.
///
/// # Safety
/// The request must read and write no more than `data` has.
pub(crate) unsafe fn ioctl_data<T: ?Sized>(
    file: &impl AsRawFd,
    request: c_ulong,
    data: &mut T,
) -> Result<(), Error> {
    let data = std::ptr::from_mut(data).cast::<c_void>();
    // SAFETY: `data` is alive and ours alone during the call; the caller answers for its size.
    insist(|| unsafe { ioctl(file.as_raw_fd(), request, data) }).map(drop)
}

/// The file that an ioctl has just opened.
pub(crate) fn ioctl_open(file: &impl AsRawFd, request: c_ulong) -> Result<OwnedFd, Error> {
    let opened = ioctl_number(file, request)?;
    // SAFETY: KVM gave this descriptor for us to own.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// Memory that the kernel, or a guest, writes too; so it is read and written by copies only.
pub(crate) struct Shared {
    start: NonNull<u8>,
    size: usize,
}

impl Shared {
    /// Zeroed memory.
    pub(crate) fn anonymous(size: usize) -> Result<Self, Error> {
        Self::map(size, MAP_PRIVATE_ANONYMOUS, -1)
    }

    /// What `file` shares.
    pub(crate) fn of(file: &impl AsRawFd, size: usize) -> Result<Self, Error> {
        Self::map(size, MAP_SHARED, file.as_raw_fd())
    }

    fn map(size: usize, flags: c_int, file: c_int) -> Result<Self, Error> {
        // SAFETY: with no address asked for, a new mapping overlaps nothing that is there.
        let start = unsafe { mmap(std::ptr::null_mut(), size, PROT_READ_WRITE, flags, file, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast::<c_void>() != MAP_FAILED => Ok(Self { start, size }),
            _ => Err(Error::last_os_error()),
        }
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

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping. Only a VM may use the address too, and it is closed before its memory.
        unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Mounts a file system that has no device.
pub(crate) fn mount_at(kind: &CStr, target: &CStr) -> Result<(), Error> {
    // SAFETY: the three strings end in zero and outlive the call; these file systems take no data.
    let answer = unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if answer == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Loads a kernel module, without parameters.
pub(crate) fn load(module: &File) -> Result<(), Error> {
    // SAFETY: finit_module takes a descriptor, a string and flags, as given.
    let answer = unsafe { syscall(SYS_FINIT_MODULE, module.as_raw_fd(), c"".as_ptr(), 0 as c_uint) };
    if answer == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// A port that this process may use.
#[derive(Clone, Copy)]
pub(crate) struct Port(u16);

impl Port {
    pub(crate) fn open(number: u16) -> Result<Self, Error> {
        // SAFETY: it changes what this process may do with a port, no memory.
        let answer = unsafe { ioperm(number.into(), 1, 1) };
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

/// Switches the machine off.
pub(crate) fn power_off() {
    // SAFETY: it takes a number. Only process 1 of our own initramfs comes here, so nothing is lost.
    unsafe { reboot(RB_POWER_OFF) };
}
