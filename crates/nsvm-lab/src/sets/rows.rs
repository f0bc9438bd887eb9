//! The rows of `cases/` as cases, and pairs of them.

use super::bases::{contain, tables};
use super::builder::{Builder, Write, plain};
use crate::case::{Case, Set};
use crate::protocol::{case_flag, memory};
use crate::verdict;
use std::collections::BTreeMap;
use vmcb::layout::{PAGE_SIZE, Page};
use vmcb::{Cpu, Limits, Phase, Policy, Rule};
use vmcb_cases::{Item, Rows, items, number};

const HAS_VMSA: &str = "it has a VMSA, which the payload does not make";

/// Each row.
pub(super) fn rows(builder: &mut Builder, rows: &Rows) -> Result<(), String> {
    for row in &rows.cases {
        let case = case(builder, row)?;
        builder.push(case);
    }
    Ok(())
}

fn case(builder: &Builder, row: &vmcb_cases::Case) -> Result<Case, String> {
    let id = format!("row.{}", row.id);
    let at = |what: String| format!("{}: {what}", row.place);
    let Some(base) = builder.find(&row.base) else {
        return Ok(Case { cannot_run: Some(HAS_VMSA.to_owned()), ..plain(id, 0) });
    };
    let items = items(&row.patches).map_err(at)?;
    let mut case = Case { cannot_run: cannot_run(row), ..plain(id, base) };
    let page = &builder.bases()[base].page;
    case.differences = super::builder::differences(page, &writes(page, &items));
    let item = |name: &str| row.environment.get(name).map(String::as_str);
    if item("svme") == Some("0") {
        case.flags |= case_flag::SVME_OFF;
    }
    if item("hsave-pa-zero") == Some("1") {
        case.flags |= case_flag::HSAVE_ZERO;
    }
    if let Some(address) = item("vmcb-address").and_then(|address| number(address).ok()) {
        case.rax = address;
    }
    let entries: Vec<_> =
        item("pdptes").unwrap_or("").split(',').filter_map(|entry| number(entry).ok()).collect();
    // All zero says that the row is not about them: then they fit the mode.
    let given: Option<[u64; 4]> = entries.try_into().ok().filter(|entries| *entries != [0; 4]);
    case.tables = given.or_else(|| {
        let mut page = **page;
        for (offset, bytes) in &case.differences {
            let start = usize::from(*offset);
            page[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Some(tables(&page)).filter(|tables| *tables != builder.bases()[base].tables)
    });
    Ok(case)
}

/// What a row's patches write. They may clear intercepts that hold L2, which no rule reads: those come back.
fn writes(base: &[u8; PAGE_SIZE], items: &[Item]) -> Vec<Write> {
    let mut page = *base;
    let mut writes = Vec::new();
    for &Item { page: of, offset, size, value, mask } in items {
        if of == Page::Vmcb {
            writes.push(Write { offset, size, value: value & mask });
        }
    }
    for (offset, byte) in writes.iter().flat_map(|write| write.bytes()) {
        page[usize::from(offset)] = byte;
    }
    contain(&mut page);
    let changed = writes.iter().flat_map(|write| write.bytes()).map(|(offset, _)| offset);
    changed.map(|offset| Write { offset, size: 1, value: page[usize::from(offset)].into() }).collect()
}

/// Why no subject can run a row: it asks for what the payload does not make.
fn cannot_run(row: &vmcb_cases::Case) -> Option<String> {
    /// What holds where the payload executes VMRUN. Of what is not here it makes nothing known.
    const HOST: [(&str, &str); 17] = [
        ("pe", "1"),
        ("vm", "0"),
        ("cpl", "0"),
        ("pg", "1"),
        ("long64", "1"),
        ("smm", "0"),
        ("mem-encryption", "0"),
        ("snp-enabled", "0"),
        ("ibs-fetch", "0"),
        ("ibs-op", "0"),
        ("sibling-active", "0"),
        ("vmcb-not-hypervisor-owned", "0"),
        ("vmsa-not-hypervisor-owned", "0"),
        ("vmsa-rmp-check-fails", "0"),
        ("avic-page-not-hypervisor-owned", "0"),
        ("vmsa-load-fails", "0"),
        ("u-cet", "0"),
    ];
    if row.vmcb.complete().is_none() {
        return Some("parts of its VMCB are not known".to_owned());
    }
    if row.vmsa.is_some() {
        return Some(HAS_VMSA.to_owned());
    }
    if row.phase != Phase::Before {
        return Some("its VMCB is one as #VMEXIT left it".to_owned());
    }
    for (name, has) in HOST {
        match row.environment.get(name).map(String::as_str) {
            None | Some("?" | "taken") => {}
            Some(asked) if asked == has => {}
            Some(asked) => {
                return Some(format!("it asks for a host with {name}={asked}; the payload has {has}"));
            }
        }
    }
    None
}

/// Pairs of rows that break one rule each, on the same base and with the same outcome, where both together break
/// exactly both.
pub(super) fn pairs(builder: &mut Builder, rows: &Rows) -> Result<(), String> {
    // What QEMU's `max` has of widths, with the features of a model that has no extras.
    let cpu = Cpu::parse("EPYC-Milan-v3,phys-bits=40").map_err(|error| error.to_string())?;
    let limits = Limits::compile(&cpu, Policy::VirtualCpu);
    let set = Set { bases: builder.bases().to_vec(), ..Set::default() };
    let alone = |case: &Case| {
        let verdict = verdict::expected(&set, case, &limits);
        let mut broken = verdict.broken().iter();
        broken.next().filter(|_| broken.next().is_none() && verdict.undecided().is_empty())
    };
    // The first row for each rule and base.
    let mut singles: BTreeMap<(usize, Rule), (Vec<Write>, Case)> = BTreeMap::new();
    for row in &rows.cases {
        let case = case(builder, row)?;
        if case.cannot_run.is_some() || case.flags != 0 || case.rax != memory::VMCB || case.tables.is_some() {
            continue;
        }
        if let Some(rule) = alone(&case) {
            let page = &set.bases[case.base].page;
            let writes = writes(page, &items(&row.patches)?);
            singles.entry((case.base, rule)).or_insert((writes, case));
        }
    }
    let mut known = std::collections::BTreeSet::new();
    for (index, ((base, one), (writes, _))) in singles.iter().enumerate() {
        for ((_, other), (more, _)) in
            singles.iter().skip(index + 1).take_while(|((other_base, _), _)| other_base == base)
        {
            let overlap =
                writes.iter().any(|a| more.iter().any(|b| a.offset == b.offset && a.value != b.value));
            if overlap || one.row().outcome != other.row().outcome || known.contains(&(*one, *other)) {
                continue;
            }
            let both = [writes.as_slice(), more].concat();
            let differences = super::builder::differences(&set.bases[*base].page, &both);
            let id = format!("pair.{}+{}", one.id(), other.id());
            let case = Case { differences, ..plain(id, *base) };
            if verdict::expected(&set, &case, &limits).broken().iter().eq([*one, *other]) {
                known.insert((*one, *other));
                builder.push(case);
            }
        }
    }
    Ok(())
}
