/// When the VMCB was seen.
///
/// #VMEXIT changes the page: it stores the guest's state and clears EVENTINJ.V, so a page seen
/// afterwards does not show what VMRUN was asked to inject.
///
/// # Source
/// Manual volume 2, 15.20 (EVENTINJ), 15.6 (#VMEXIT).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Phase {
    /// As VMRUN reads it.
    Before,
    /// As #VMEXIT left it.
    After,
    /// The input does not tell.
    #[default]
    Unknown,
}
