//! The header of a dump.

use crate::found::VmType;
use crate::number;

/// The line that comes before a dump.
#[derive(Default)]
pub(super) struct Header {
    pub(super) vm_type: Option<VmType>,
    pub(super) vcpu: Option<u32>,
    pub(super) last_cpu: Option<u32>,
    pub(super) pointer: Option<String>,
}

impl Header {
    pub(super) fn read(message: &[u8], prefixed: bool) -> Option<Self> {
        // What kernels before the label `VMCB ..., last attempted` printed.
        if message.starts_with(b"KVM: FAILED VMRUN WITH VMCB") {
            return Some(Self::default());
        }
        if !matches!(message.first()?, b'S' | b'V' | b'v') {
            return None;
        }
        let mut header = Self::default();
        let mut words = message.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let mut word = words.next()?;
        header.vm_type = match word {
            b"SVM" => Some(VmType::Svm),
            b"SEV" => Some(VmType::Sev),
            b"SEV-ES" => Some(VmType::SevEs),
            b"SEV-SNP" => Some(VmType::SevSnp),
            _ => None,
        };
        if header.vm_type.is_some() {
            word = words.next()?;
        }
        if let Some(number) = word.strip_prefix(b"vCPU") {
            header.vcpu = decimal(number);
            word = words.next()?;
        }
        if word != b"VMCB" {
            return None;
        }
        let Some(pointer) = words.next() else {
            // A mail program put the rest on another line.
            return (prefixed && header.vm_type.is_some()).then_some(header);
        };
        let last = words.next().unwrap_or_default();
        let pointer = pointer.strip_suffix(b",").or_else(|| prefixed.then_some(pointer))?;
        let hashed = pointer.starts_with(b"(") && pointer.ends_with(b")");
        if pointer.len() > 32
            || !hashed && !number::hex_digits(pointer).iter().all(u8::is_ascii_hexdigit)
            || last != b"last" && !prefixed
        {
            return None;
        }
        header.pointer = Some(String::from_utf8_lossy(pointer).into_owned());
        header.last_cpu = words.skip_while(|&word| word != b"CPU").nth(1).and_then(decimal);
        Some(header)
    }
}

fn decimal(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}
