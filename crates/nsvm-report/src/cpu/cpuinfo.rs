//! /proc/cpuinfo: the flags that Linux shows of a CPU.
//!
//! A flag that is shown is there. One that is not shown says less: a kernel hides what it was not built for, what
//! was turned off on its command line, and all that came after it; some features it never shows.

use super::described::Described;
use vmcb::{Cpu, Feature};

/// What it means that a flag is not shown, where `svm` is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// The CPU lacks the feature: every kernel since 2011 shows it, and none hides it.
    Lacks,
    /// Nothing.
    Unknown,
}

/// Flags whose names are Linux's own, and those whose absence says something.
const FLAGS: [(&str, Feature, Absent); 22] = {
    use Absent::{Lacks, Unknown};
    [
        ("npt", Feature::Npt, Lacks),
        ("lbrv", Feature::Lbrv, Lacks),
        ("svm_lock", Feature::SvmLock, Lacks),
        ("nrip_save", Feature::NripSave, Lacks),
        ("tsc_scale", Feature::TscScale, Lacks),
        ("vmcb_clean", Feature::VmcbClean, Lacks),
        ("flushbyasid", Feature::FlushByAsid, Lacks),
        ("decodeassists", Feature::DecodeAssists, Lacks),
        ("pausefilter", Feature::PauseFilter, Lacks),
        ("pfthreshold", Feature::PfThreshold, Lacks),
        ("v_vmsave_vmload", Feature::VmsaveVmload, Unknown),
        ("user_shstk", Feature::Shstk, Unknown),
        ("sev_es", Feature::SevEs, Unknown),
        ("sev_snp", Feature::SevSnp, Unknown),
        ("autoibrs", Feature::AutoIbrs, Unknown),
        ("fxsr_opt", Feature::Ffxsr, Unknown),
        ("pcid", Feature::Pcid, Unknown),
        ("xsave", Feature::Xsave, Unknown),
        ("fsgsbase", Feature::Fsgsbase, Unknown),
        ("smep", Feature::Smep, Unknown),
        ("smap", Feature::Smap, Unknown),
        ("umip", Feature::Umip, Unknown),
    ]
};

/// The first processor; `None` where no line has flags.
pub(super) fn read(text: &str) -> Option<Result<Described, String>> {
    let (mut flags, mut sizes, mut vendor) = (None, None, None);
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let slot = match key.trim() {
            // The second processor begins.
            "processor" if flags.is_some() => break,
            "flags" => &mut flags,
            "address sizes" => &mut sizes,
            "vendor_id" => &mut vendor,
            _ => continue,
        };
        slot.get_or_insert(value.trim());
    }
    let flags = flags?;
    let shown = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    let mut remarks = Vec::new();
    let mut cpu = Cpu::ANY;
    for flag in flags.split_whitespace() {
        let own = FLAGS.iter().find(|(name, ..)| *name == flag).map(|&(_, feature, _)| feature);
        if let Some(feature) = own.or_else(|| Feature::from_name(flag)) {
            cpu = cpu.with(feature, true);
        }
    }
    if shown("svm") {
        for (name, feature, absent) in FLAGS {
            if absent == Absent::Lacks && !shown(name) {
                cpu = cpu.with(feature, false);
            }
        }
    } else {
        cpu = cpu.without_knowing(Feature::Svm);
        remarks.push(
            "/proc/cpuinfo shows no svm: absent, or turned off by the firmware; taken as unknown".into(),
        );
    }
    remarks.push(
        "/proc/cpuinfo does not show all features, and hides some: what it does not show is unknown, but for the \
         oldest SVM features"
            .into(),
    );
    let width = sizes.and_then(|text| text.split_whitespace().next()?.parse().ok());
    if ["sme", "sev"].into_iter().any(shown) {
        // Linux takes off what memory encryption uses; the rules read the full width.
        remarks.push(
            "/proc/cpuinfo shows the address width reduced by memory encryption: give phys-bits as CPUID 8000_0008 \
             EAX[7:0] has it"
                .into(),
        );
    } else if let Some(known) = width.and_then(|bits| cpu.with_phys_bits(bits)) {
        cpu = known;
    } else {
        remarks.push("no line `address sizes` with a width from 32 to 52 bits: give phys-bits".into());
    }
    if let Some(vendor) = vendor.filter(|name| !matches!(*name, "AuthenticAMD" | "HygonGenuine")) {
        remarks.push(format!("the CPU is of `{}`: it has no VMRUN", crate::suggest::shorten(vendor)));
    }
    Some(Ok(Described { cpu, remarks }))
}
