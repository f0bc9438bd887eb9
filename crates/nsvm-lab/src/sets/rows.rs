//! The rows of `cases/` as cases, and pairs of them.

use super::bases::{contain, flags, plumb, tables};
use super::builder::{Builder, Write, differences, plain};
use crate::case::{Case, Set};
use crate::protocol::{case_flag, memory};
use crate::verdict;
use std::collections::{BTreeMap, BTreeSet};
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
    let page = patched(&builder.bases()[base].page, &items);
    // Patches may make another mode, of which handlers push words of another width.
    let fits = |base: &usize| builder.bases()[*base].flags == flags(&page);
    let base = Some(base).filter(fits).or((0..builder.bases().len()).find(fits)).unwrap_or(base);
    let mut case = Case { cannot_run: cannot_run(row), ..plain(id, base) };
    case.differences = compare(&builder.bases()[base].page, &page);
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
    case.tables = given.or(Some(tables(&page)).filter(|tables| *tables != builder.bases()[base].tables));
    Ok(case)
}

/// A base with a row's patches, and with plumbing for the mode that they make. The patches count for more, but for
/// the intercepts that hold L2.
fn patched(base: &[u8; PAGE_SIZE], items: &[Item]) -> [u8; PAGE_SIZE] {
    let writes = items.iter().filter(|item| item.page == Page::Vmcb);
    let writes =
        writes.map(|item| Write { offset: item.offset, size: item.size, value: item.value & item.mask });
    let bytes: Vec<_> = writes.flat_map(Write::bytes).collect();
    let mut page = *base;
    for step in [plumb, contain] {
        for (offset, byte) in &bytes {
            page[usize::from(*offset)] = *byte;
        }
        step(&mut page);
    }
    page
}

/// The bytes of a page that differ from the base's.
fn compare(base: &[u8; PAGE_SIZE], page: &[u8; PAGE_SIZE]) -> Vec<(u16, Vec<u8>)> {
    let changed = (0..).zip(page.iter().zip(base)).filter(|(_, (new, old))| new != old);
    let writes = changed.map(|(offset, (new, _))| Write { offset, size: 1, value: (*new).into() });
    differences(base, &writes.collect::<Vec<_>>())
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
    let mut singles: BTreeMap<(usize, Rule), Vec<Item>> = BTreeMap::new();
    for row in &rows.cases {
        let case = case(builder, row)?;
        let (Some(base), None) = (builder.find(&row.base), &case.cannot_run) else { continue };
        if case.flags == 0 && case.rax == memory::VMCB {
            let patches = items(&row.patches)?;
            let page = &set.bases[base].page;
            let differences = compare(page, &patched(page, &patches));
            if let Some(rule) = alone(&Case { differences, ..plain(String::new(), base) }) {
                singles.entry((base, rule)).or_insert(patches);
            }
        }
    }
    let mut known = BTreeSet::new();
    for (index, ((base, one), patches)) in singles.iter().enumerate() {
        let others = singles.iter().skip(index + 1).take_while(|((of, _), _)| of == base);
        for ((_, other), more) in others {
            if one.row().outcome != other.row().outcome || known.contains(&(*one, *other)) {
                continue;
            }
            let page = &set.bases[*base].page;
            let both = patched(page, &[patches.as_slice(), more].concat());
            let id = format!("pair.{}+{}", one.id(), other.id());
            let case = Case { differences: compare(page, &both), ..plain(id, *base) };
            // Where patches overlap, the second ones win and the first rule is whole again.
            if verdict::expected(&set, &case, &limits).broken().iter().eq([*one, *other]) {
                known.insert((*one, *other));
                builder.push(case);
            }
        }
    }
    Ok(())
}
