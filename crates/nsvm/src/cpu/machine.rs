//! `--cpu host`: the CPU that this program runs on.
//!
//! The CPUID instruction takes unsafe code in Rust 1.88, so the kernel is asked: its CPUID device, which root
//! may read, or /proc/cpuinfo, which shows less.

use nsvm_report::Described;
use nsvm_report::Error;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use vmcb::{Cpu, CpuidEntry, Feature};

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

/// The leaves that state features, by the kernel's CPUID device.
fn device() -> std::io::Result<Cpu> {
    let mut device = File::open(DEVICE)?;
    let mut table: Vec<CpuidEntry> = Vec::new();
    // The first leaf of a range says how far it goes; what lies beyond is not asked.
    let stated = Feature::ALL.iter().map(|feature| (feature.cpuid().leaf, feature.cpuid().subleaf));
    for (leaf, subleaf) in [(0, 0), (0x8000_0000, 0), (0x8000_0008, 0)].into_iter().chain(stated) {
        let known = |leaf, subleaf| table.iter().find(|entry| entry.leaf == leaf && entry.subleaf == subleaf);
        let beyond = known(leaf & 0x8000_0000, 0).is_some_and(|first| first.eax < leaf);
        if beyond || known(leaf, subleaf).is_some() {
            continue;
        }
        let mut words = [0; 16];
        device.seek(SeekFrom::Start(u64::from(subleaf) << 32 | u64::from(leaf)))?;
        device.read_exact(&mut words)?;
        let mut words = words
            .chunks_exact(4)
            .map(|word| word.iter().rev().fold(0_u32, |number, &byte| number << 8 | u32::from(byte)));
        let mut next = || words.next().unwrap_or(0);
        table.push(CpuidEntry { leaf, subleaf, eax: next(), ebx: next(), ecx: next(), edx: next() });
    }
    Ok(Cpu::from_cpuid(&table))
}
