//! What a word may be.

/// What a word may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// EVENTINJ, 0A8h.
    Eventinj,
    /// EXITINTINFO, 088h.
    Exitintinfo,
    /// EXITCODE, 070h.
    Exitcode,
    /// Interrupt control, 060h.
    IntCtl,
    /// Attributes of a segment, packed as in the VMCB.
    Attributes,
    /// Intercepts at 00Ch.
    Intercepts1,
    /// Intercepts at 010h.
    Intercepts2,
    /// Intercepts at 014h.
    Intercepts3,
    /// Exception intercepts at 008h.
    Exceptions,
    /// CR intercepts at 000h.
    CrIntercepts,
    /// DR intercepts at 004h.
    DrIntercepts,
    /// CR0.
    Cr0,
    /// CR4.
    Cr4,
    /// EFER.
    Efer,
    /// Nested control at 090h; Linux: nested_ctl, misc_ctl.
    NestedCtl,
    /// Virtualization extensions at 0B8h; Linux: virt_ext, misc_ctl2.
    VirtExt,
    /// SEV_FEATURES, VMSA 3B0h.
    SevFeatures,
    /// G_PAT.
    Pat,
    /// Clean bits at 0C0h.
    Clean,
}

impl Field {
    /// All fields, with the name and the meaning of each.
    pub const ALL: [(Self, &str, &str); 19] = [
        (Self::Eventinj, "eventinj", "EVENTINJ, 0A8h"),
        (Self::Exitintinfo, "exitintinfo", "EXITINTINFO, 088h"),
        (Self::Exitcode, "exitcode", "EXITCODE, 070h"),
        (Self::IntCtl, "int_ctl", "Interrupt control, 060h"),
        (Self::Attributes, "attributes", "Attributes of a segment, packed as in the VMCB"),
        (Self::Intercepts1, "intercepts1", "Intercepts at 00Ch"),
        (Self::Intercepts2, "intercepts2", "Intercepts at 010h"),
        (Self::Intercepts3, "intercepts3", "Intercepts at 014h"),
        (Self::Exceptions, "exceptions", "Exception intercepts at 008h"),
        (Self::CrIntercepts, "cr_intercepts", "CR intercepts at 000h"),
        (Self::DrIntercepts, "dr_intercepts", "DR intercepts at 004h"),
        (Self::Cr0, "cr0", "CR0"),
        (Self::Cr4, "cr4", "CR4"),
        (Self::Efer, "efer", "EFER"),
        (Self::NestedCtl, "nested_ctl", "Nested control at 090h; Linux: nested_ctl, misc_ctl"),
        (Self::VirtExt, "virt_ext", "Virtualization extensions at 0B8h; Linux: virt_ext, misc_ctl2"),
        (Self::SevFeatures, "sev_features", "SEV_FEATURES, VMSA 3B0h"),
        (Self::Pat, "pat", "G_PAT"),
        (Self::Clean, "clean", "Clean bits at 0C0h"),
    ];

    /// Returns the name as `--field` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(field, ..)| *field == self).map_or("", |(_, name, _)| name)
    }

    /// Returns the field with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(field, ..)| *field)
    }
}
