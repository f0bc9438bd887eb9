//! Helpers of the tests.
#![allow(dead_code, reason = "each test file uses some of them")]

use std::path::Path;
use vmcb::layout::{Field, Page};
use vmcb_dump::{Error, Found, Kind, Place, RemarkKind, Seen, read_all};

/// Samples in forms that are read.
pub(crate) const READ: [&str; 10] = [
    "kvm-6.1-dmesg-refused-cs-l-d.txt",
    "kvm-7.2-dmesg-refused-event-moved.txt",
    "kvm-dmesg-dump_vmcb-npf.txt",
    "kvm-6.14-dmesg-refused-snp-allowed-sev-features.txt",
    "tracecmd-kvm_nested_vmrun-eventinj.txt",
    "ftrace-kvm_nested-6.1.txt",
    "ftrace-kvm_nested-7.2.txt",
    "xen-debugkey-v-vmcb-vcpu0.txt",
    "qemu-register-dump-prot32.txt",
    "qemu-tcg-in_asm-vmrun-vmexit.txt",
];

pub(crate) fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What `input` holds; it must end without an error.
pub(crate) fn all(input: impl AsRef<[u8]>) -> Vec<Found> {
    let (found, error) = read_all(input.as_ref());
    assert!(error.is_none(), "{error:?}");
    check(&found);
    found
}

/// The one VMCB of `input`.
pub(crate) fn one(input: impl AsRef<[u8]>) -> Found {
    let mut found = all(input);
    assert_eq!(found.len(), 1, "{:?}", found.iter().map(|found| &found.lines).collect::<Vec<_>>());
    found.remove(0)
}

/// The error of an input in which nothing is found.
pub(crate) fn error(input: impl AsRef<[u8]>) -> Error {
    let (found, error) = read_all(input.as_ref());
    assert!(found.is_empty(), "{found:?}");
    error.expect("an error")
}

pub(crate) fn seen<'a>(found: &'a Found, name: &str) -> &'a Seen {
    let mut with = found.fields.iter().filter(|seen| seen.name == name);
    let field = with.next().unwrap_or_else(|| panic!("no `{name}` in {:?}", found.fields));
    assert!(with.next().is_none(), "`{name}` twice");
    field
}

pub(crate) fn has(found: &Found, name: &str) -> bool {
    found.fields.iter().any(|seen| seen.name == name)
}

pub(crate) fn value(found: &Found, field: Field) -> (u64, u64) {
    let page = match field.page {
        Page::Vmcb => &found.vmcb,
        Page::Vmsa => found.vmsa.as_ref().expect("a VMSA"),
    };
    let bits = page.field(field);
    let size = if field.size >= 8 { u64::MAX } else { (1 << (field.size * 8)) - 1 };
    (bits.value(), bits.known_mask() & size)
}

pub(crate) fn remarks(found: &Found) -> Vec<&RemarkKind> {
    found.remarks.iter().map(|remark| &remark.kind).collect()
}

/// The text at a place.
pub(crate) fn marked<'a>(found: &'a Found, place: &Place) -> &'a str {
    let Place::Text { line, columns } = place else { panic!("{place:?} in a text") };
    let line = found.line(*line).unwrap_or_else(|| panic!("line {line} was not kept"));
    line.get(columns.clone()).unwrap_or_else(|| panic!("{columns:?} of {line:?}"))
}

/// What holds of everything that is handed out, however broken the input is.
pub(crate) fn check(all: &[Found]) {
    for found in all {
        assert!(found.fields.iter().all(|seen| (1..=8).contains(&seen.size)));
        let numbers: Vec<u64> = found.lines.iter().map(|line| line.number).collect();
        assert!(numbers.is_sorted());
        let mut known = 0;
        let mut taken = [[false; 4096]; 2];
        for seen in &found.fields {
            let page = match seen.page {
                Page::Vmcb => &found.vmcb,
                Page::Vmsa => found.vmsa.as_ref().expect("a field of a VMSA"),
            };
            let bits = page.read(seen.offset, seen.size);
            assert_eq!(bits.value() & seen.mask, seen.value, "{}", seen.name);
            assert_eq!(bits.known_mask() & seen.mask, seen.mask, "{}", seen.name);
            known += seen.mask.count_ones();
            for byte in seen.offset..seen.offset + seen.size {
                let taken = &mut taken[usize::from(seen.page == Page::Vmsa)][usize::from(byte)];
                assert!(!std::mem::replace(taken, true), "{} overlaps", seen.name);
            }
            if found.kind != Kind::RawPage && !found.lines.is_empty() {
                shows(found, seen);
            }
        }
        if !matches!(found.kind, Kind::RawPage | Kind::HexDump) {
            let count = |page: &vmcb::KnownPage| -> u32 {
                (0..4096).step_by(8).map(|offset| page.read(offset, 8).known_mask().count_ones()).sum()
            };
            let total = count(&found.vmcb) + found.vmsa.as_deref().map_or(0, count);
            assert_eq!(total, known, "every known bit was seen somewhere");
        }
        for remark in &found.remarks {
            assert!(!remark.to_string().is_empty());
            if let Place::Text { line, columns } = &remark.place
                && let Some(line) = found.line(*line)
            {
                assert!(line.get(columns.clone()).is_some(), "{remark:?} in {line:?}");
            }
        }
        for refusal in &found.refusals {
            assert_eq!(marked(found, &refusal.place), refusal.condition);
        }
    }
}

/// The columns of a field cover its value and nothing else.
fn shows(found: &Found, seen: &Seen) {
    let text = marked(found, &seen.place);
    if matches!(found.kind, Kind::HexDump | Kind::KvmNestedState) {
        assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b' ' || byte == b'\t'));
        return;
    }
    let printed = match text {
        "y" | "on" => 1,
        "n" | "off" => 0,
        "invalid_guest_state" => u64::from(u32::MAX),
        text => {
            if let Some(code) = text.strip_prefix("UNKNOWN (") {
                assert_eq!(code.trim_end_matches(')').parse(), Ok(seen.value));
                return;
            }
            let digits = text.trim_start_matches("0x");
            let decimal = text.parse::<i128>().ok().map(|value| value as u64 & seen.mask);
            let hex = u64::from_str_radix(digits, 16).ok();
            // Intercepts of old kernels share one number of 16 digits.
            let high = hex.filter(|_| digits.len() == 16 && seen.size == 4).map(|value| value >> 32);
            let low = hex.map(|value| value & seen.mask);
            // QEMU shows the attributes of a segment as they stand in the descriptor.
            let packed = hex
                .filter(|_| found.kind == Kind::QemuRegisters && seen.name.ends_with(".attrib"))
                .map(|flags| (flags >> 8 & 0xFF | flags >> 12 & 0xF00) & seen.mask);
            let candidates = [decimal, low, high, packed];
            assert!(candidates.contains(&Some(seen.value)), "{} = {:x} in {text:?}", seen.name, seen.value);
            return;
        }
    };
    assert_eq!(printed, seen.value, "{}", seen.name);
}
