//! The text of the `cpuid` tool without `-r`: headings with the leaf in parentheses, a line a bit.
//!
//! The words are those of version 20230120; a line that another version words otherwise is not read, so the
//! feature stays unknown.

use super::described::Described;
use crate::suggest;
use vmcb::{Cpu, Feature};

/// Leaf, words, feature.
const LINES: [(u32, &str, Feature); 55] = [
    (0x1, "VME: virtual-8086 mode enhancement", Feature::Vme),
    (0x1, "DE: debugging extensions", Feature::De),
    (0x1, "PSE: page size extensions", Feature::Pse),
    (0x1, "TSC: time stamp counter", Feature::Tsc),
    (0x1, "PAE: physical address extensions", Feature::Pae),
    (0x1, "MCE: machine check exception", Feature::Mce),
    (0x1, "PTE global bit", Feature::Pge),
    (0x1, "FXSAVE/FXRSTOR", Feature::Fxsr),
    (0x1, "SSE extensions", Feature::Sse),
    (0x1, "PCID: process context identifiers", Feature::Pcid),
    (0x1, "XSAVE/XSTOR states", Feature::Xsave),
    (0x7, "FSGSBASE instructions", Feature::Fsgsbase),
    (0x7, "SMEP supervisor mode exec protection", Feature::Smep),
    (0x7, "SMAP: supervisor mode access prevention", Feature::Smap),
    (0x7, "UMIP: user-mode instruction prevention", Feature::Umip),
    (0x7, "PKU protection keys for user-mode", Feature::Pku),
    (0x7, "CET_SS: CET shadow stack", Feature::Shstk),
    (0x7, "LA57: 57-bit addrs & 5-level paging", Feature::La57),
    (0x8000_0001, "SYSCALL and SYSRET instructions", Feature::Syscall),
    (0x8000_0001, "no-execute page protection", Feature::Nx),
    // The tool has Intel's words for bit 25 here too.
    (0x8000_0001, "SSE extensions", Feature::Ffxsr),
    (0x8000_0001, "long mode (AA-64)", Feature::Lm),
    (0x8000_0001, "SVM: secure virtual machine", Feature::Svm),
    (0x8000_0001, "TCE: translation cache extension", Feature::Tce),
    (0x8000_0008, "MCOMMIT instruction", Feature::Mcommit),
    (0x8000_0008, "interruptible WBINVD, WBNOINVD", Feature::IntWbinvd),
    (0x8000_0008, "EFER[LMSLE] not supported", Feature::LmsleUnsupported),
    (0x8000_000A, "nested paging", Feature::Npt),
    (0x8000_000A, "LBR virtualization", Feature::Lbrv),
    (0x8000_000A, "SVM lock", Feature::SvmLock),
    (0x8000_000A, "NRIP save", Feature::NripSave),
    (0x8000_000A, "MSR based TSC rate control", Feature::TscScale),
    (0x8000_000A, "VMCB clean bits support", Feature::VmcbClean),
    (0x8000_000A, "flush by ASID", Feature::FlushByAsid),
    (0x8000_000A, "decode assists", Feature::DecodeAssists),
    (0x8000_000A, "pause intercept filter", Feature::PauseFilter),
    (0x8000_000A, "pause filter threshold", Feature::PfThreshold),
    (0x8000_000A, "AVIC: AMD virtual interrupt controller", Feature::Avic),
    (0x8000_000A, "virtualized VMLOAD/VMSAVE", Feature::VmsaveVmload),
    (0x8000_000A, "virtualized global interrupt flag (GIF)", Feature::Vgif),
    (0x8000_000A, "X2AVIC: virtualized X2APIC", Feature::X2avic),
    (0x8000_000A, "VNMI: NMI virtualization", Feature::Vnmi),
    (0x8000_000A, "guest SVME addr check", Feature::SvmeAddrChk),
    (0x8000_001F, "SME: secure memory encryption support", Feature::Sme),
    (0x8000_001F, "SEV: secure encrypted virtualize support", Feature::Sev),
    (0x8000_001F, "SEV-ES: SEV encrypted state support", Feature::SevEs),
    (0x8000_001F, "SEV-SNP: SEV secure nested paging", Feature::SevSnp),
    (0x8000_001F, "SEV guest exec only from 64-bit host", Feature::Sev64BitHost),
    (0x8000_001F, "restricted injection", Feature::RestrictedInjection),
    (0x8000_001F, "alternate injection", Feature::AlternateInjection),
    (0x8000_001F, "disallowing IBS use by host", Feature::PreventHostIbs),
    (0x8000_001F, "IBS virtual support for SEV-ES guests", Feature::IbsVirtGuest),
    (0x8000_001F, "SMT protection support", Feature::SmtProtection),
    (0x8000_0021, "upper address ignore support", Feature::Uai),
    (0x8000_0021, "automatic IBRS", Feature::AutoIbrs),
];

/// Leaf, words, setting of `Cpu::change`.
const NUMBERS: [(u32, &str, &str); 4] = [
    (0x8000_0008, "maximum physical address bits", "phys-bits"),
    (0x8000_001F, "encryption bit position in PTE", "c-bit"),
    (0x8000_001F, "number of SEV-enabled guests supported", "sev-asid-max"),
    (0x8000_001F, "minimum SEV guest ASID", "sev-asid-min"),
];

/// The first CPU; `None` where no heading names a leaf that is read.
pub(super) fn read(text: &str) -> Option<Result<Described, String>> {
    let mut cpu = Cpu::ANY;
    let (mut leaf, mut read, mut closed) = (None, 0, false);
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("CPU") {
            if closed {
                break;
            }
            closed = true;
            continue;
        }
        let line = line.trim();
        if let Some(heading) = line.strip_suffix(':') {
            leaf = heading_leaf(heading);
            continue;
        }
        let (Some(leaf), Some((words, value))) = (leaf, line.rsplit_once(" = ")) else { continue };
        let words = words.trim_end();
        let wrong = |expected: &str| {
            let line = suggest::shorten(line);
            Some(Err(format!("line {}: expected {expected}, found `{line}`", number + 1)))
        };
        if let Some(&(.., feature)) = LINES.iter().find(|(of, text, _)| *of == leaf && *text == words) {
            cpu = match value.trim() {
                "true" => cpu.with(feature, true),
                "false" => cpu.with(feature, false),
                _ => return wrong("true or false"),
            };
            read += 1;
        } else if let Some(&(.., setting)) =
            NUMBERS.iter().find(|(of, text, _)| *of == leaf && *text == words)
        {
            // `0x30 (48)`.
            let number = value.split_whitespace().next().unwrap_or("");
            let change = format!("{setting}={number}");
            match (cpu.change(&change), setting) {
                (Ok(changed), _) => cpu = changed,
                // Zero where there is no such bit.
                (Err(_), "c-bit") if number == "0x0" => {}
                (Err(error), _) => return wrong(&error.to_string()),
            }
            read += 1;
        }
    }
    (read > 0).then(|| {
        let remarks = if cpu.phys_bits().is_none() {
            vec!["no address width in it: give phys-bits".into()]
        } else {
            Vec::new()
        };
        Ok(Described { cpu, remarks })
    })
}

/// The leaf of `SVM Secure Virtual Machine (0x8000000a/edx)` or of `extended feature flags (7)`.
fn heading_leaf(heading: &str) -> Option<u32> {
    let (_, inside) = heading.strip_suffix(')')?.rsplit_once('(')?;
    let leaf = inside.split('/').next()?;
    match leaf.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => leaf.parse().ok(),
    }
}
