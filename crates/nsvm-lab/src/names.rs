//! Names of subjects and of their default CPU models.

/// The subjects of a run that names none: the model, both emulators, and KVM before and after it got its check of
/// EVENTINJ.
pub const DEFAULT: [&str; 5] = ["model", "qemu", "bochs", "kvm@bookworm", "kvm@sid"];
/// KVM of this machine.
pub const HOST: &str = "kvm-host";
/// KVM of a Linux kernel that runs as L1 on our L0.
pub const KVM_ON_L0: &str = "kvm-l0";
/// The default virtual CPU of the model. Its physical address width is that of QEMU's CPUs.
pub const MODEL_CPU: &str = "EPYC-Milan-v3,phys-bits=40";

/// The default CPU model of QEMU.
pub(crate) const QEMU_CPU: &str = "max";
/// The default CPU model of Bochs.
pub(crate) const BOCHS_CPU: &str = "ryzen";

/// Returns the default CPU model of a subject, such as `max` for `qemu-tcg`. Returns `None` for a subject whose CPU
/// model cannot be chosen.
#[must_use]
pub fn default_cpu(subject: &str) -> Option<&'static str> {
    match subject {
        "model" => Some(MODEL_CPU),
        "qemu-tcg" => Some(QEMU_CPU),
        "bochs" => Some(BOCHS_CPU),
        _ => None,
    }
}
