//! Descriptions of virtual CPUs: names with changes, and texts of other programs.

mod cpuinfo;
mod decoded;
mod described;
mod libvirt;
mod names;
mod spec;
mod table;

pub use described::Described;
pub(crate) use names::SETTINGS;
pub(crate) use spec::spec;

use crate::error::Error;
use names::explain;
use vmcb::Cpu;

/// Where a CPU may come from, other than from a name.
pub(crate) const SOURCES: [(&str, &str); 3] = [
    ("file:PATH", "cpuid's output (raw or decoded), libvirt's XML (domain, capabilities), /proc/cpuinfo"),
    ("cpuid:PATH", "the same, by its older name"),
    ("host", "CPUID of this machine"),
];

impl Described {
    /// Reads a description: cpuid's output, libvirt's XML, or /proc/cpuinfo. The kind is recognized by lines that only
    /// that kind has.
    ///
    /// # Errors
    /// A sentence that says why the text does not describe a CPU.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_start_matches('\u{FEFF}').trim_start();
        if trimmed.starts_with('<') {
            return libvirt::read(trimmed);
        }
        let found = table::read(text).or_else(|| decoded::read(text)).or_else(|| cpuinfo::read(text));
        found.unwrap_or_else(|| {
            Err("no CPU is described here: expected lines of `cpuid -r` (`0x80000001 0x00: eax=0x... ebx=0x...`), the \
                 text of `cpuid -1`, libvirt's XML of a domain or of its capabilities, or /proc/cpuinfo"
                .into())
        })
    }

    /// Reads /proc/cpuinfo. Returns nothing if the text is something else.
    #[must_use]
    pub fn from_cpuinfo(text: &str) -> Option<Result<Self, String>> {
        cpuinfo::read(text)
    }

    /// Applies changes such as `+shstk,phys-bits=48`.
    ///
    /// # Errors
    /// If a change names no feature or setting, with suggestions.
    pub fn change(self, changes: &str) -> Result<Self, Error> {
        let Self { mut cpu, mut remarks } = self;
        for change in changes.split(',').map(str::trim).filter(|change| !change.is_empty()) {
            cpu = cpu.change(change).map_err(|error| explain(&error))?;
        }
        // What a change has settled needs no remark.
        remarks.retain(|remark| !(remark.contains("phys-bits") && cpu.phys_bits().is_some()));
        Ok(Self { cpu, remarks })
    }
}

/// Parses a model and changes to it, such as `EPYC-Milan,+shstk,phys-bits=48`.
///
/// # Errors
/// If a name is unknown, with suggestions.
pub fn parse_model(text: &str) -> Result<Cpu, Error> {
    Cpu::parse(text).map_err(|error| explain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggest;

    #[test]
    fn hostile_text_ends_in_an_answer() {
        let deep = "<a>".repeat(100_000);
        let wide = format!("<domain><cpu mode='custom'>{}</cpu></domain>", "<feature/>".repeat(200_000));
        let texts = [
            "",
            "<",
            "<domain>",
            &deep,
            &wide,
            "<!DOCTYPE d [<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;'>]><domain>&b;</domain>",
            "<domain/>",
            "<cpu><model>EPYC</model><maxphysaddr mode='emulate' bits='99'/></cpu>",
            "<cpu><model>EPYC</model><feature policy='maybe' name='npt'/></cpu>",
            "0x80000001 0x00: eax=0x0",
            "0x80000001 0x00: eax=0x0 ebx=0x0 ecx=0x0 edx=0xfffffffffff",
            "   maximum physical address bits         = true",
            "flags : svm",
            "flags\t: \u{0}\u{7f}",
            "address sizes\t: 99999999999 bits physical",
        ];
        for text in texts {
            let _ = Described::from_text(text);
        }
        for text in [&deep, texts[5], texts[7], texts[8], texts[9], texts[10]] {
            assert!(Described::from_text(text).is_err(), "{}", suggest::shorten(text));
        }
    }
}
