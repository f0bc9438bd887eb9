//! `--cpu host`: the CPU that this program runs on.
//!
//! The CPUID instruction takes unsafe code in Rust 1.88, so the kernel is asked: its CPUID device, which root
//! may read, or /proc/cpuinfo, which shows less.

use nsvm_report::Described;
use nsvm_report::Error;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use vmcb::{Cpu, Feature};

const DEVICE: &str = "/dev/cpu/0/cpuid";
const CPUINFO: &str = "/proc/cpuinfo";
const MOST_BYTES: u64 = 16 << 20;

pub(super) fn this() -> Result<Described, Error> {
    let from = |mut described: Described, source: &str| {
        described.remarks.insert(0, format!("host: CPUID of this machine, from {source}"));
        if described.cpu.has(Feature::Svm) == Some(false) {
            described.remarks.push("host: this machine does not offer SVM: VMRUN raises #UD here".into());
        }
        described
    };
    let denied = match device() {
        Ok(cpu) => return Ok(from(cpu.into(), DEVICE)),
        Err(error) => error,
    };
    let mut text = Vec::new();
    let read = File::open(CPUINFO).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    match read.ok().and_then(|_| Described::from_cpuinfo(&String::from_utf8_lossy(&text))) {
        Some(Ok(described)) => Ok(from(described, &format!("{CPUINFO} ({DEVICE}: {denied})"))),
        _ => Err(Error::usage(
            format!("--cpu host: neither {DEVICE} ({denied}) nor {CPUINFO} describes an x86 CPU here"),
            "name a model, or give a file by `file:PATH`".to_owned(),
        )),
    }
}

/// Reads the CPU through the kernel's CPUID device.
fn device() -> std::io::Result<Cpu> {
    let mut device = File::open(DEVICE)?;
    let mut failed = None;
    let mut ask = |leaf: u32, subleaf: u32| {
        let mut registers = [0; 4];
        device.seek(SeekFrom::Start(u64::from(subleaf) << 32 | u64::from(leaf)))?;
        for register in &mut registers {
            let mut bytes = [0; 4];
            device.read_exact(&mut bytes)?;
            *register = u32::from_le_bytes(bytes);
        }
        Ok(registers)
    };
    let cpu = Cpu::ask_cpuid(|leaf, subleaf| {
        ask(leaf, subleaf).unwrap_or_else(|error| {
            failed = Some(error);
            [0; 4]
        })
    });
    failed.map_or(Ok(cpu), Err)
}
