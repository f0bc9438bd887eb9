//! One virtual machine: one CPU, memory, and a console at port E9h.

use crate::system::{self, Memory};
use bare_interface::payload::console::BELL_PORT;
use bare_interface::payload::{BASE, KVM_MEMORY};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use std::io::{Error, ErrorKind};

const CONSOLE: u16 = 0xE9;
const EXIT: u16 = 0xF4;
/// A line that is longer is cut: the payload writes none.
const LONGEST_LINE: usize = 4096;

/// `/dev/kvm` of a machine that offers SVM to guests.
pub(crate) struct Kvm {
    kvm: kvm_ioctls::Kvm,
    cpuid: CpuId,
}

impl Kvm {
    pub(crate) fn open() -> Result<Self, String> {
        let kvm = kvm_ioctls::Kvm::new().map_err(Error::from).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                "there is no /dev/kvm: no module kvm_amd, or virtualization is off in the firmware".to_owned()
            }
            ErrorKind::PermissionDenied => {
                "no permission for /dev/kvm: become root or a member of the group kvm".to_owned()
            }
            _ => format!("/dev/kvm: {error}"),
        })?;
        let version = kvm.get_api_version();
        if version != 12 {
            return Err(format!("/dev/kvm speaks version {version}, not 12"));
        }
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|error| format!("KVM_GET_SUPPORTED_CPUID: {error}"))?;
        let svm = cpuid.as_slice().iter().any(|entry| entry.function == 0x8000_0001 && entry.ecx & 4 != 0);
        if !svm {
            return Err(
                "KVM offers no SVM to guests here: the CPU is not AMD's, or nesting is off (parameter `nested` of kvm_amd)"
                    .to_owned(),
            );
        }
        Ok(Self { kvm, cpuid })
    }

    /// A fresh machine whose CPU stands at the image's entry.
    pub(crate) fn machine(&self, image: &[u8]) -> Result<Machine, String> {
        let mut memory = Memory::new(KVM_MEMORY as usize).map_err(failed("memory for the guest"))?;
        memory.write(BASE as usize, image);
        let vm = insist(|| self.kvm.create_vm()).map_err(failed("KVM_CREATE_VM"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: memory.size() as u64,
            userspace_addr: memory.address(),
        };
        // SAFETY: only the guest writes to the memory during KVM_RUN, and the memory outlives the VM.
        insist(|| unsafe { vm.set_user_memory_region(region) })
            .map_err(failed("KVM_SET_USER_MEMORY_REGION"))?;
        let cpu = insist(|| vm.create_vcpu(0)).map_err(failed("KVM_CREATE_VCPU"))?;
        insist(|| cpu.set_cpuid2(&self.cpuid)).map_err(failed("KVM_SET_CPUID2"))?;
        reset(&cpu).map_err(failed("setting the registers"))?;
        Ok(Machine { cpu, _vm: vm, memory })
    }
}

fn failed(what: &'static str) -> impl Fn(Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Repeats a request that a [tick](system::tick) has interrupted, such as making a virtual machine.
fn insist<T>(request: impl Fn() -> Result<T, kvm_ioctls::Error>) -> Result<T, Error> {
    loop {
        match request().map_err(Error::from) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Flat protected mode, paging off, interrupts off.
fn reset(cpu: &VcpuFd) -> Result<(), Error> {
    let mut special = insist(|| cpu.get_sregs())?;
    let flat = kvm_segment {
        limit: u32::MAX,
        selector: 0x10,
        type_: 3,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    };
    special.cs = kvm_segment { selector: 8, type_: 0xB, ..flat };
    [special.ds, special.es, special.fs, special.gs, special.ss] = [flat; 5];
    special.cr0 = 0x11;
    special.cr4 = 0;
    special.efer = 0;
    insist(|| cpu.set_sregs(&special))?;
    insist(|| cpu.set_regs(&kvm_regs { rip: BASE, rflags: 2, ..kvm_regs::default() }))
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
    cpu: VcpuFd,
    _vm: VmFd,
    memory: Memory,
}

impl Machine {
    /// Runs it, giving each line to the listener, until that says `true` or there will be no more.
    pub(crate) fn run(
        &mut self,
        listener: &mut dyn FnMut(&str) -> Result<bool, String>,
    ) -> Result<Stop, String> {
        let mut line = Vec::new();
        let mut bell = [0; LONGEST_LINE];
        let mut silent = 0;
        loop {
            let exit = self.cpu.run().map_err(Error::from);
            if system::has_ticked() {
                silent += 1;
                // The first one may come at once.
                if silent > system::TICKS {
                    return Ok(Stop::Silent);
                }
            }
            let data = match exit {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                    continue;
                }
                Err(error) => return Ok(Stop::Died(format!("KVM_RUN: {error}"))),
                Ok(VcpuExit::IoOut(CONSOLE, data)) => data,
                Ok(VcpuExit::IoOut(BELL_PORT, data)) => {
                    let address = data.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                    bell.fill(b'\n');
                    self.memory.read(address, &mut bell);
                    let length = bell.iter().position(|&byte| byte == b'\n').unwrap_or(LONGEST_LINE - 1);
                    &bell[..=length]
                }
                Ok(VcpuExit::IoOut(EXIT, _)) => return Ok(Stop::Died("exit by port f4".to_owned())),
                // No device: all ones, as on a PC. A guest that ran astray reads where nothing is. Writes are lost.
                Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => {
                    data.fill(0xFF);
                    continue;
                }
                Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) | VcpuExit::Intr) => continue,
                Ok(VcpuExit::Hlt) => return Ok(Stop::Died("hlt".to_owned())),
                Ok(VcpuExit::Shutdown) => return Ok(Stop::Died("shutdown".to_owned())),
                Ok(VcpuExit::FailEntry(reason, _)) => {
                    return Ok(Stop::Died(format!("entry failed {reason:x}")));
                }
                Ok(VcpuExit::InternalError) => {
                    // SAFETY: KVM fills this variant at this exit.
                    let number = unsafe { self.cpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
                    return Ok(Stop::Died(internal_error(number)));
                }
                Ok(_) => return Ok(Stop::Died(format!("exit {:x}", self.cpu.get_kvm_run().exit_reason))),
            };
            for &byte in data {
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
    }
}

/// Names an internal error of KVM.
fn internal_error(number: u32) -> String {
    match number {
        1 => "internal error, emulation".to_owned(),
        2 => "internal error, exceptions at once".to_owned(),
        3 => "internal error, delivery of an event".to_owned(),
        4 => "internal error, unexpected exit".to_owned(),
        other => format!("internal error {other:x}"),
    }
}
