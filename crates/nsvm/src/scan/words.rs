//! Phrases of the reports on a trace.

use vmcb::Event;
use vmcb_scan::{Source, Standing, VcpuKey};

/// Returns `1 line`, `2 lines`.
pub(super) fn plural(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// `interrupt 0x36`, `exception 14 (#PF)`.
pub(super) fn event_text(low: u16) -> String {
    let event = Event::from_bits(low.into());
    let (kind, vector) = (event.event_type(), event.vector());
    match vector.mnemonic().filter(|_| kind == vmcb::EventType::EXCEPTION) {
        Some(name) => format!("{} {} ({name})", kind.name(), vector.number()),
        None if kind == vmcb::EventType::EXCEPTION => format!("{} {}", kind.name(), vector.number()),
        None => format!("{} {:#04x}", kind.name(), vector.number()),
    }
}

pub(super) fn vcpu_text(key: VcpuKey, number: Option<u32>) -> String {
    let number = number.map_or_else(String::new, |number| format!(" (vcpu {number})"));
    match key {
        VcpuKey::Thread(pid) => format!("thread {pid}{number}"),
        VcpuKey::Cpu(cpu) => format!("CPU {cpu}{number}"),
        VcpuKey::Number(number) => format!("vcpu {number}"),
        _ => "not named".to_owned(),
    }
}

/// Returns the name of a source in JSON and its headline.
pub(super) const fn source(source: Source) -> (&'static str, &'static str) {
    match source {
        Source::Vmcb12 => ("vmcb12", "EVENTINJ of nested VMRUNs"),
        Source::Entry => ("entry", "EVENTINJ of kvm_entry"),
        _ => ("kvm", "injected by KVM itself"),
    }
}

pub(super) const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Broken => "broken",
        Standing::Required => "required",
        Standing::Refused => "refused",
        _ => "exit-code",
    }
}

/// Returns a number of bytes with a decimal unit.
pub(super) fn human_bytes(bytes: u64) -> String {
    let scaled = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..=999 => format!("{bytes} bytes"),
        1000..=999_999 => format!("{:.1} kB", scaled(1000)),
        1_000_000..=999_999_999 => format!("{:.1} MB", scaled(1_000_000)),
        _ => format!("{:.1} GB", scaled(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_by_type_and_vector() {
        assert_eq!(event_text(0x036), "interrupt 0x36");
        assert_eq!(event_text(0x30E), "exception 14 (#PF)");
        assert_eq!(event_text(0x3FF), "exception 255");
        assert_eq!(event_text(0x480), "software interrupt 0x80");
    }
}
