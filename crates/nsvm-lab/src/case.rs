//! One case: a VMCB as VMRUN reads it, what stands around it, and whether its outcome means anything.

use crate::protocol::memory;
use vmcb::layout::PAGE_SIZE;

/// One VMRUN.
///
/// Its id is for ever. Families of generated cases share a stem and number their members in hexadecimal after `#`:
/// `flip.long64.cr4#17`.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique in its set.
    pub id: String,
    /// Which of the set's [bases](Set::bases) it starts from.
    pub base: usize,
    /// Bytes of the VMCB that differ from the base: offset and the bytes, in ascending order, not overlapping.
    pub differences: Vec<(u16, Vec<u8>)>,
    /// rAX for VMRUN: [`memory::VMCB`], unless the case is about it.
    pub rax: u64,
    /// What it asks for of the executing CPU: [flags](crate::protocol::case_flag), without those of its base.
    pub flags: u16,
    /// The four quadwords at [`memory::CR3`], where they are not those of the base.
    pub tables: Option<[u64; 4]>,
    /// Why no subject can run it: it asks for a host or a VMSA that the payload does not make.
    pub cannot_run: Option<String>,
    /// Why its outcome is not compared with the rulebook.
    pub meaningless: Option<String>,
}

/// Where cases start: a legal VMCB that enters L2 and comes back.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its name: `long64`, `np-pae`.
    pub name: String,
    /// The whole VMCB.
    pub page: Box<[u8; PAGE_SIZE]>,
    /// The four quadwords at [`memory::CR3`].
    pub tables: [u64; 4],
    /// [Flags](crate::protocol::case_flag) of all its cases: width of stack words, VMLOAD.
    pub flags: u16,
}

/// Cases and the bases that they start from.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// Its name: `commit`, `full`.
    pub name: String,
    /// What cases start from.
    pub bases: Vec<Base>,
    /// In the order in which they are run.
    pub cases: Vec<Case>,
}

impl Set {
    /// The VMCB that VMRUN reads.
    #[must_use]
    pub fn page(&self, case: &Case) -> [u8; PAGE_SIZE] {
        let mut page = *self.bases[case.base].page;
        for (offset, bytes) in &case.differences {
            let start = usize::from(*offset);
            page[start..start + bytes.len()].copy_from_slice(bytes);
        }
        page
    }

    /// The four quadwords at [`memory::CR3`]: the PDPTEs of a guest in legacy PAE mode whose CR3 points there.
    #[must_use]
    pub fn tables(&self, case: &Case) -> [u64; 4] {
        case.tables.unwrap_or(self.bases[case.base].tables)
    }

    /// All flags of the case.
    #[must_use]
    pub fn flags(&self, case: &Case) -> u16 {
        case.flags | self.bases[case.base].flags
    }
}

const _: () = assert!(memory::VMCB.is_multiple_of(PAGE_SIZE as u64));
