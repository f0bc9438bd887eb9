//! Lines as `cpuid -r` prints them: `   0x80000001 0x00: eax=0x... ebx=0x... ecx=0x... edx=0x...`.

use super::described::Described;
use crate::suggest;
use vmcb::{Cpu, CpuidEntry};

/// The first CPU listed; `None` where no line is one of a table.
pub(super) fn read(text: &str) -> Option<Result<Described, String>> {
    let mut table = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("CPU") && !table.is_empty() {
            break;
        }
        if !line.starts_with("0x") {
            continue;
        }
        match entry(line) {
            Some(entry) => table.push(entry),
            None => {
                return Some(Err(format!(
                    "line {}: expected `0x80000001 0x00: eax=0x... ebx=0x... ecx=0x... edx=0x...`, found `{}`",
                    number + 1,
                    suggest::shorten(line)
                )));
            }
        }
    }
    if table.is_empty() { None } else { Some(Ok(Cpu::from_cpuid(&table).into())) }
}

fn entry(line: &str) -> Option<CpuidEntry> {
    let hex = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let (input, output) = line.split_once(':')?;
    let mut input = input.split_whitespace();
    let mut entry = CpuidEntry { leaf: hex(input.next()?)?, ..CpuidEntry::default() };
    if let Some(subleaf) = input.next() {
        entry.subleaf = hex(subleaf)?;
    }
    let mut seen = 0;
    for word in output.split_whitespace() {
        let (register, value) = word.split_once('=')?;
        let slot = match register {
            "eax" => &mut entry.eax,
            "ebx" => &mut entry.ebx,
            "ecx" => &mut entry.ecx,
            "edx" => &mut entry.edx,
            _ => return None,
        };
        *slot = hex(value)?;
        seen += 1;
    }
    (seen == 4).then_some(entry)
}
