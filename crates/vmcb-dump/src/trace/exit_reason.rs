//! Exit codes and exceptions by the names that trace lines give them.

/// The kernel's names; the more frequent stand first.
const KERNEL: &[(&str, u32)] = &[
    ("npf", 0x400),
    ("interrupt", 0x60),
    ("hypercall", 0x81),
    ("msr", 0x7C),
    ("io", 0x7B),
    ("hlt", 0x78),
    ("vmrun", 0x80),
    ("vintr", 0x64),
    ("cpuid", 0x72),
    ("pause", 0x77),
    ("stgi", 0x84),
    ("clgi", 0x85),
    ("vmload", 0x82),
    ("vmsave", 0x83),
    ("read_cr0", 0x00),
    ("read_cr2", 0x02),
    ("read_cr3", 0x03),
    ("read_cr4", 0x04),
    ("read_cr8", 0x08),
    ("write_cr0", 0x10),
    ("write_cr2", 0x12),
    ("write_cr3", 0x13),
    ("write_cr4", 0x14),
    ("write_cr8", 0x18),
    ("read_dr0", 0x20),
    ("read_dr1", 0x21),
    ("read_dr2", 0x22),
    ("read_dr3", 0x23),
    ("read_dr4", 0x24),
    ("read_dr5", 0x25),
    ("read_dr6", 0x26),
    ("read_dr7", 0x27),
    ("write_dr0", 0x30),
    ("write_dr1", 0x31),
    ("write_dr2", 0x32),
    ("write_dr3", 0x33),
    ("write_dr4", 0x34),
    ("write_dr5", 0x35),
    ("write_dr6", 0x36),
    ("write_dr7", 0x37),
    ("DE excp", 0x40),
    ("DB excp", 0x41),
    ("BP excp", 0x43),
    ("OF excp", 0x44),
    ("BR excp", 0x45),
    ("UD excp", 0x46),
    ("NM excp", 0x47),
    ("DF excp", 0x48),
    ("TS excp", 0x4A),
    ("NP excp", 0x4B),
    ("SS excp", 0x4C),
    ("GP excp", 0x4D),
    ("PF excp", 0x4E),
    ("MF excp", 0x50),
    ("AC excp", 0x51),
    ("MC excp", 0x52),
    ("XF excp", 0x53),
    ("nmi", 0x61),
    ("smi", 0x62),
    ("init", 0x63),
    ("cr0_sel_write", 0x65),
    ("read_idtr", 0x66),
    ("read_gdtr", 0x67),
    ("read_ldtr", 0x68),
    // TR, as the kernel spells it.
    ("read_rt", 0x69),
    ("write_idtr", 0x6A),
    ("write_gdtr", 0x6B),
    ("write_ldtr", 0x6C),
    ("write_rt", 0x6D),
    ("rdtsc", 0x6E),
    ("rdpmc", 0x6F),
    ("pushf", 0x70),
    ("popf", 0x71),
    ("rsm", 0x73),
    ("iret", 0x74),
    ("swint", 0x75),
    ("invd", 0x76),
    ("invlpg", 0x79),
    ("invlpga", 0x7A),
    ("task_switch", 0x7D),
    ("ferr_freeze", 0x7E),
    ("shutdown", 0x7F),
    ("skinit", 0x86),
    ("rdtscp", 0x87),
    ("icebp", 0x88),
    ("wbinvd", 0x89),
    ("monitor", 0x8A),
    ("mwait", 0x8B),
    ("xsetbv", 0x8D),
    ("write_efer_trap", 0x8F),
    ("write_cr0_trap", 0x90),
    ("write_cr4_trap", 0x94),
    ("write_cr8_trap", 0x98),
    ("invpcid", 0xA2),
    ("buslock", 0xA5),
    ("idle-halt", 0xA6),
    ("avic_incomplete_ipi", 0x401),
    ("avic_unaccelerated_access", 0x402),
    ("vmgexit", 0x403),
    ("invalid_guest_state", u32::MAX),
];

/// First bytes of the names, as numbers.
const KEYS: [u64; KERNEL.len()] = {
    let mut keys = [0; KERNEL.len()];
    let mut index = 0;
    while index < keys.len() {
        keys[index] = key(KERNEL[index].0.as_bytes());
        index += 1;
    }
    keys
};

const fn key(name: &[u8]) -> u64 {
    let (mut key, mut index) = (0, 0);
    while index < name.len() && index < 8 {
        key |= (name[index] as u64) << (index * 8);
        index += 1;
    }
    key
}

/// The low half of the exit code of this name, of the kernel or of the plugin of trace-cmd and perf.
///
/// The plugin prints `EXIT_ERR` for every code that it does not know, so that name tells none.
pub(crate) fn by_name(name: &[u8]) -> Option<u32> {
    let wanted = key(name);
    let same = KEYS.iter().zip(KERNEL).filter(|(key, _)| **key == wanted).map(|(_, row)| row);
    if let Some(&(_, code)) = same.into_iter().find(|(known, _)| known.as_bytes() == name) {
        return Some(code);
    }
    let name = std::str::from_utf8(name.strip_prefix(b"EXIT_")?).ok()?;
    let code = match name {
        "EXCP_BASE" => 0x40,
        "AVIC_UNACCELERATED_ACCESS" => 0x402,
        "MWAIT_COND" => 0x8C,
        _ => register(name).or_else(|| code_of(name))?,
    };
    Some(code)
}

fn code_of(name: &str) -> Option<u32> {
    let code = vmcb::ExitCode::from_name(name).filter(|code| !code.is_failure())?;
    u32::try_from(code.bits()).ok()
}

/// `READ_CR0` to `WRITE_DR7`.
fn register(name: &str) -> Option<u32> {
    let (access, register) = name.split_once('_')?;
    let access = ["READ", "WRITE"].iter().position(|&known| known == access)?;
    let (kind, number) = register.split_at_checked(2)?;
    let kind = ["CR", "DR"].iter().position(|&known| known == kind)?;
    let number = number.parse::<u32>().ok().filter(|_| number.len() == 1)?;
    Some(kind as u32 * 0x20 + access as u32 * 0x10 + number)
}

/// The vector of an exception as `kvm_inj_exception` names it: `#GP`.
pub(crate) fn exception(name: &[u8]) -> Option<u64> {
    let [b'#', first, second] = name else { return None };
    let known =
        |&&(known, _): &&(&str, u32)| known.as_bytes().strip_suffix(b" excp") == Some(&[*first, *second]);
    let named = KERNEL.iter().find(known).map(|&(_, code)| u64::from(code) - 0x40);
    // Newer kernels print these two by the mnemonics of the manual.
    named.or(match name {
        b"#XM" => Some(19),
        b"#CP" => Some(21),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_code() {
        for (index, (name, code)) in KERNEL.iter().enumerate() {
            assert_eq!(by_name(name.as_bytes()), Some(*code), "{name}");
            assert!(KERNEL.iter().skip(index + 1).all(|(other, value)| other != name && value != code));
        }
        for (name, code) in [
            ("EXIT_READ_CR0", 0),
            ("EXIT_WRITE_DR7", 0x37),
            ("EXIT_INTR", 0x60),
            ("EXIT_VMMCALL", 0x81),
            ("EXIT_IOIO", 0x7B),
            ("EXIT_EXCP_BASE", 0x40),
            ("EXIT_NPF", 0x400),
        ] {
            assert_eq!(by_name(name.as_bytes()), Some(code), "{name}");
        }
        for name in ["", "np", "npff", "EXIT_", "EXIT_ERR", "EXIT_INVALID", "excp", "EXIT_READ_TR", "NPF"] {
            assert_eq!(by_name(name.as_bytes()), None, "{name}");
        }
        assert_eq!(exception(b"#PF"), Some(14));
        assert_eq!(exception(b"#XF"), Some(19));
        assert_eq!(exception(b"PF"), None);
    }
}
