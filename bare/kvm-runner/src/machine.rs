//! One virtual machine: one CPU, memory, and a console at port E9h.

use crate::system::{self, Shared};
use bare_interface::payload::console::BELL_PORT;
use bare_interface::payload::{BASE, KVM_MEMORY};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

const CONSOLE: u16 = 0xE9;
const EXIT: u16 = 0xF4;
/// A line that is longer is cut: the payload writes none.
const LONGEST_LINE: usize = 4096;

/// Requests, from `linux/kvm.h`.
mod request {
    use std::ffi::c_ulong;

    pub(super) const GET_API_VERSION: c_ulong = 0xAE00;
    pub(super) const CREATE_VM: c_ulong = 0xAE01;
    pub(super) const GET_VCPU_MMAP_SIZE: c_ulong = 0xAE04;
    pub(super) const GET_SUPPORTED_CPUID: c_ulong = 0xC008_AE05;
    pub(super) const CREATE_VCPU: c_ulong = 0xAE41;
    pub(super) const SET_USER_MEMORY_REGION: c_ulong = 0x4020_AE46;
    pub(super) const RUN: c_ulong = 0xAE80;
    pub(super) const SET_REGS: c_ulong = 0x4090_AE82;
    pub(super) const GET_SREGS: c_ulong = 0x8138_AE83;
    pub(super) const SET_SREGS: c_ulong = 0x4138_AE84;
    pub(super) const SET_CPUID2: c_ulong = 0x4008_AE90;
}

/// Reasons for an exit, from `linux/kvm.h`.
mod exit {
    pub(super) const IO: u32 = 2;
    pub(super) const HLT: u32 = 5;
    pub(super) const MMIO: u32 = 6;
    pub(super) const SHUTDOWN: u32 = 8;
    pub(super) const FAIL_ENTRY: u32 = 9;
    pub(super) const INTR: u32 = 10;
    pub(super) const INTERNAL_ERROR: u32 = 17;
}

/// Offsets in `struct kvm_run`.
mod run {
    pub(super) const EXIT_REASON: usize = 8;
    /// What belongs to the reason: it begins here.
    pub(super) const DETAILS: usize = 32;
    pub(super) const IO_DIRECTION: usize = DETAILS;
    pub(super) const IO_SIZE: usize = DETAILS + 1;
    pub(super) const IO_PORT: usize = DETAILS + 2;
    pub(super) const IO_COUNT: usize = DETAILS + 4;
    pub(super) const IO_DATA: usize = DETAILS + 8;
    pub(super) const MMIO_DATA: usize = DETAILS + 8;
    pub(super) const MMIO_IS_WRITE: usize = DETAILS + 20;
}

/// `struct kvm_segment`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segment {
    base: u64,
    limit: u32,
    selector: u16,
    kind: u8,
    present: u8,
    dpl: u8,
    db: u8,
    s: u8,
    l: u8,
    g: u8,
    avl: u8,
    unusable: u8,
    padding: u8,
}

/// `struct kvm_sregs`; the rest is what we leave as it is.
#[repr(C)]
struct SpecialRegisters {
    cs: Segment,
    /// DS, ES, FS, GS, SS.
    data: [Segment; 5],
    tr: Segment,
    ldt: Segment,
    gdt: [u64; 2],
    idt: [u64; 2],
    cr0: u64,
    cr2: u64,
    cr3: u64,
    cr4: u64,
    cr8: u64,
    efer: u64,
    apic_base: u64,
    interrupts: [u64; 4],
}
const _: () = assert!(size_of::<SpecialRegisters>() == 0x138);

/// `struct kvm_regs`: RAX to R15, RIP, RFLAGS.
type Registers = [u64; 18];
const RIP: usize = 16;
const RFLAGS: usize = 17;

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
struct Region {
    slot: u32,
    flags: u32,
    guest: u64,
    size: u64,
    user: u64,
}

/// Entries that `struct kvm_cpuid2` has room for: KVM's own limit.
const CPUID_ENTRIES: usize = 256;
/// Its size in words of 32 bits: two of a head, ten an entry.
const CPUID_WORDS: usize = 2 + 10 * CPUID_ENTRIES;
/// The whole of it.
type Cpuid = [u32; CPUID_WORDS];

/// `/dev/kvm` of a machine that offers SVM to guests.
pub(crate) struct Kvm {
    file: File,
    cpuid: Box<Cpuid>,
    run_size: usize,
}

impl Kvm {
    pub(crate) fn open() -> Result<Self, String> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/kvm").map_err(|error| match error
            .kind()
        {
            ErrorKind::NotFound => "there is no /dev/kvm: no module kvm_amd, or virtualization is off in \
                                        the firmware"
                .to_owned(),
            ErrorKind::PermissionDenied => {
                "no permission for /dev/kvm: become root or a member of the group kvm".to_owned()
            }
            _ => format!("/dev/kvm: {error}"),
        })?;
        let version = system::ioctl_number(&file, request::GET_API_VERSION)
            .map_err(|error| format!("/dev/kvm: {error}"))?;
        if version != 12 {
            return Err(format!("/dev/kvm speaks version {version}, not 12"));
        }
        let mut cpuid: Box<Cpuid> = Box::new([0; CPUID_WORDS]);
        cpuid[0] = CPUID_ENTRIES as u32;
        // SAFETY: KVM writes no more entries than the head says there is room for, and there is.
        unsafe { system::ioctl_data(&file, request::GET_SUPPORTED_CPUID, &mut *cpuid) }
            .map_err(|error| format!("KVM_GET_SUPPORTED_CPUID: {error}"))?;
        // Function, index, flags, EAX, EBX, ECX, EDX: 8000_0001 ECX[2].
        let svm = cpuid[2..].chunks_exact(10).any(|entry| entry[0] == 0x8000_0001 && entry[5] & 4 != 0);
        if !svm {
            return Err(
                "KVM offers no SVM to guests here: the CPU is not AMD's, or nesting is off (parameter \
                        `nested` of kvm_amd)"
                    .to_owned(),
            );
        }
        let run_size = system::ioctl_number(&file, request::GET_VCPU_MMAP_SIZE)
            .map_err(|error| format!("KVM_GET_VCPU_MMAP_SIZE: {error}"))?;
        Ok(Self { file, cpuid, run_size: usize::try_from(run_size).unwrap_or_default() })
    }

    /// A fresh machine whose CPU stands at the image's entry.
    pub(crate) fn machine(&self, image: &[u8]) -> Result<Machine, String> {
        let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
        let vm = system::ioctl_open(&self.file, request::CREATE_VM).map_err(failed("KVM_CREATE_VM"))?;
        let mut memory = Shared::anonymous(KVM_MEMORY as usize).map_err(failed("memory for the guest"))?;
        memory.write(BASE as usize, image);
        let mut region =
            Region { slot: 0, flags: 0, guest: 0, size: memory.size() as u64, user: memory.address() };
        // SAFETY: KVM reads the region, which has the size that the request names; the memory outlives the VM.
        unsafe { system::ioctl_data(&vm, request::SET_USER_MEMORY_REGION, &mut region) }
            .map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
        let cpu = system::ioctl_open(&vm, request::CREATE_VCPU).map_err(failed("KVM_CREATE_VCPU"))?;
        let run = Shared::of(&cpu, self.run_size).map_err(failed("memory shared with KVM"))?;
        let mut cpuid = self.cpuid.clone();
        // SAFETY: KVM reads as many entries as the head says, and so many are there.
        unsafe { system::ioctl_data(&cpu, request::SET_CPUID2, &mut *cpuid) }
            .map_err(failed("KVM_SET_CPUID2"))?;
        let mut machine = Machine { run, cpu, _vm: vm, memory };
        machine.reset().map_err(failed("setting the registers"))?;
        Ok(machine)
    }
}

/// Why a machine stopped.
pub(crate) enum Stop {
    /// The listener has all the lines that it needs.
    Finished,
    /// The reason.
    Died(String),
    /// No line within the limit.
    Silent,
}

/// A machine. Fields are dropped in this order: the memory is freed after the virtual CPU and the VM are closed.
pub(crate) struct Machine {
    run: Shared,
    cpu: OwnedFd,
    _vm: OwnedFd,
    memory: Shared,
}

impl Machine {
    /// Flat protected mode, paging off, interrupts off.
    fn reset(&mut self) -> Result<(), std::io::Error> {
        // SAFETY: integers only, for which zero is a value.
        let mut special: SpecialRegisters = unsafe { std::mem::zeroed() };
        // SAFETY: KVM writes a `struct kvm_sregs`, whose size is that of ours.
        unsafe { system::ioctl_data(&self.cpu, request::GET_SREGS, &mut special) }?;
        let flat = Segment {
            limit: u32::MAX,
            selector: 0x10,
            kind: 3,
            present: 1,
            db: 1,
            s: 1,
            g: 1,
            ..Segment::default()
        };
        special.cs = Segment { selector: 8, kind: 0xB, ..flat };
        special.data = [flat; 5];
        special.cr0 = 0x11;
        special.cr4 = 0;
        special.efer = 0;
        // SAFETY: KVM reads a `struct kvm_sregs`.
        unsafe { system::ioctl_data(&self.cpu, request::SET_SREGS, &mut special) }?;
        let mut registers: Registers = [0; 18];
        registers[RIP] = BASE;
        registers[RFLAGS] = 2;
        // SAFETY: KVM reads a `struct kvm_regs`, 18 registers.
        unsafe { system::ioctl_data(&self.cpu, request::SET_REGS, &mut registers) }
    }

    fn number<const N: usize>(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.run.read(offset, &mut bytes[..N]);
        u64::from_le_bytes(bytes)
    }

    /// Runs it, giving each line to the listener, until that says `true` or there will be no more.
    pub(crate) fn run(
        &mut self,
        listener: &mut dyn FnMut(&str) -> Result<bool, String>,
    ) -> Result<Stop, String> {
        let mut line = Vec::new();
        let mut data = Vec::new();
        let mut silent = 0;
        loop {
            let entered = system::ioctl_once(&self.cpu, request::RUN);
            if system::has_ticked() {
                silent += 1;
                // The first one may come at once.
                if silent > system::TICKS {
                    return Ok(Stop::Silent);
                }
            }
            match entered {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(error) => return Ok(Stop::Died(format!("KVM_RUN: {error}"))),
            }
            let reason = self.number::<4>(run::EXIT_REASON) as u32;
            match reason {
                exit::IO => {
                    let size = self.number::<1>(run::IO_SIZE) as usize;
                    let count = self.number::<4>(run::IO_COUNT) as usize;
                    let at = self.number::<8>(run::IO_DATA) as usize;
                    data.resize((size * count).min(self.run.size()), 0);
                    if self.number::<1>(run::IO_DIRECTION) == 0 {
                        // No device: all ones, as on a PC.
                        data.fill(0xFF);
                        self.run.write(at, &data);
                        continue;
                    }
                    self.run.read(at, &mut data);
                    match self.number::<2>(run::IO_PORT) as u16 {
                        CONSOLE => {}
                        BELL_PORT => {
                            let address =
                                data.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                            data.clear();
                            data.resize(LONGEST_LINE, b'\n');
                            self.memory.read(address, &mut data);
                            let length =
                                data.iter().position(|&byte| byte == b'\n').unwrap_or(LONGEST_LINE - 1);
                            data.truncate(length + 1);
                        }
                        EXIT => return Ok(Stop::Died("exit by port f4".to_owned())),
                        _ => continue,
                    }
                    for &byte in &data {
                        match byte {
                            b'\n' => {
                                silent = 0;
                                // Only ASCII was let in.
                                if listener(&String::from_utf8_lossy(&line))? {
                                    return Ok(Stop::Finished);
                                }
                                line.clear();
                            }
                            _ if line.len() >= LONGEST_LINE => {}
                            b' '..=b'~' => line.push(byte),
                            b'\r' => {}
                            _ => line.push(b'?'),
                        }
                    }
                }
                // A guest that ran astray reads where nothing is: all ones, and what it writes is lost.
                exit::MMIO => {
                    if self.number::<1>(run::MMIO_IS_WRITE) == 0 {
                        self.run.write(run::MMIO_DATA, &[0xFF; 8]);
                    }
                }
                exit::INTR => {}
                exit::HLT => return Ok(Stop::Died("hlt".to_owned())),
                exit::SHUTDOWN => return Ok(Stop::Died("shutdown".to_owned())),
                exit::FAIL_ENTRY => {
                    return Ok(Stop::Died(format!("entry failed {:x}", self.number::<8>(run::DETAILS))));
                }
                exit::INTERNAL_ERROR => {
                    return Ok(Stop::Died(internal_error(self.number::<4>(run::DETAILS))));
                }
                other => return Ok(Stop::Died(format!("exit {other:x}"))),
            }
        }
    }
}

/// Names an internal error of KVM.
fn internal_error(number: u64) -> String {
    match number {
        1 => "internal error, emulation".to_owned(),
        2 => "internal error, exceptions at once".to_owned(),
        3 => "internal error, delivery of an event".to_owned(),
        4 => "internal error, unexpected exit".to_owned(),
        other => format!("internal error {other:x}"),
    }
}
