//! A VMCB as a row of `cases/`: what the input shows, on the base that it differs least from.

use crate::check::case::Case;
use crate::error::Error;
use crate::record::Report;
use std::fmt::Write as _;
use vmcb::layout::{Field, PAGE_SIZE, Page, VMCB, VMSA, field_at, vmcb_field};
use vmcb::{Cpu, Event, Feature, KnownPage, Phase, Policy, Rule, RuleSet, Word};
use vmcb_cases::Reader;
use vmcb_dump::VmType;

/// What #VMEXIT writes and VMRUN does not read.
const OUTPUTS: [Field; 4] =
    [vmcb_field::exitcode, vmcb_field::exitinfo1, vmcb_field::exitinfo2, vmcb_field::exitintinfo];

/// The parts of a segment register: name, offset, size.
const PARTS: [(&str, u16, u16); 4] =
    [("selector", 0, 2), ("attributes", 2, 2), ("limit", 4, 4), ("base", 8, 8)];

/// A comment is broken here, in characters.
const WIDTH: usize = 100;

/// The reader of rows, with the bases.
pub(super) struct Rows(Reader);

impl Rows {
    pub(super) fn new() -> Result<Self, Error> {
        let mut reader = Reader::default();
        for (name, text) in vmcb_cases::embedded().iter().filter(|(name, _)| *name == "bases.txt") {
            reader.bases(name, text);
        }
        match reader.errors.first() {
            None => Ok(Self(reader)),
            Some(error) => Err(Error::usage(format!("the bases inside this program: {error}"), None)),
        }
    }

    /// Comments and the row; comments alone where the input shows no VMCB.
    pub(super) fn row(&self, case: &Case<'_>, report: &Report) -> String {
        let verdict = &report.verdict;
        let mut text = format!("# {}: {}\n", one_line(&verdict.place.to_string()), one_line(&verdict.text));
        if !case.shows_a_vmcb() {
            text.push_str("# It shows no VMCB: no row.\n\n");
            return text;
        }
        let shown = as_vmrun_read_it(case);
        let Some((base, patches)) = self.nearest(&shown) else {
            text.push_str("# No base to start from: no row.\n\n");
            return text;
        };
        let unknown = left_to_the_base(&shown);
        if !unknown.is_empty() {
            comment(&mut text, &format!("Not shown, and left to the base: {}.", unknown.join(", ")));
        }
        if case.view.event_is_inferred() {
            comment(&mut text, "EVENTINJ is what stood in EXITINTINFO after the refusal.");
        }
        let mut patches = patches;
        if let Some(vmsa) = case.vmsa {
            patches.extend(vmsa_items(vmsa));
        }
        let broken: Vec<Rule> = verdict.broken.iter().filter_map(|id| Rule::from_id(id)).collect();
        let (id, source) = match broken.split_first() {
            Some((first, _)) => {
                let mut sections: Vec<&str> = Vec::new();
                for section in broken.iter().map(|rule| rule.row().section) {
                    if !sections.contains(&section) {
                        sections.push(section);
                    }
                }
                (first.id(), sections.join(", "))
            }
            None => ("found", "15.5".to_owned()),
        };
        let environment = environment(case, &broken);
        let cpu = cpu(case);
        let patches = if patches.is_empty() { "-".to_owned() } else { patches.join(" ") };
        let row = |broken: &str, unstated: &str, unknown: &str| {
            let id = format!("{id}.found-{}", verdict.vmcb);
            format!(
                "{id} | {cpu} | {environment} | {base} | {patches} | {broken} | {unstated} | {unknown} | {source}"
            )
        };
        let mut reader = self.0.clone();
        reader.rows("row", &row("-", "-", "-"));
        let Some(read) = reader.rows.cases.last() else {
            let why = reader.errors.first().map_or_else(String::new, ToString::to_string);
            comment(&mut text, &format!("No row: {why}."));
            text.push('\n');
            return text;
        };
        // The columns of rules are the rulebook's verdict on the row itself.
        let judged = read.judge(&read.limits);
        for lost in broken.iter().filter(|rule| !judged.broken().contains(**rule)) {
            comment(&mut text, &format!("{} is not decided by what the row has.", lost.id()));
        }
        let ids = |rules: RuleSet| {
            let ids: Vec<&str> = rules.iter().map(Rule::id).collect();
            if ids.is_empty() { "-".to_owned() } else { ids.join(",") }
        };
        let _ = writeln!(
            text,
            "{}\n",
            row(&ids(judged.broken()), &ids(judged.unstated()), &ids(judged.unknown()))
        );
        text
    }

    /// The base that needs the fewest patches, and those.
    fn nearest(&self, shown: &KnownPage) -> Option<(&str, Vec<String>)> {
        let bases = self.0.rows.bases.iter().filter(|base| base.vmsa.is_none());
        let patched = bases.filter_map(|base| {
            let complete = base.vmcb.complete()?;
            Some((base.name.as_str(), patches(complete, &completed(complete, shown))))
        });
        // Of those that need as many, the 64-bit guest: what is not shown is the usual then.
        patched.min_by_key(|(name, patches)| (patches.len(), *name != "long64"))
    }
}

/// The known bits over those of the base.
fn completed(base: &[u8; PAGE_SIZE], shown: &KnownPage) -> [u8; PAGE_SIZE] {
    let mut page = *base;
    for (offset, byte) in (0..).zip(page.iter_mut()) {
        let bits = shown.read(offset, 1);
        *byte = (u64::from(*byte) & bits.unknown_mask() | bits.value()) as u8;
    }
    page
}

/// What makes one page of another.
fn patches(from: &[u8; PAGE_SIZE], to: &[u8; PAGE_SIZE]) -> Vec<String> {
    let (from, to) = (KnownPage::all(from), KnownPage::all(to));
    let mut patches = Vec::new();
    for (name, offset, size) in VMCB.iter().flat_map(places) {
        let value = to.read(offset, size).value();
        if from.read(offset, size).value() != value {
            patches.push(format!("{name}={value:#x}"));
        }
    }
    patches
}

/// How rows name the bytes of a field: by its name, its parts, or their offset.
fn places(field: &'static Field) -> Vec<(String, u16, u16)> {
    let Field { name, offset, size, .. } = *field;
    let is_segment = size == 16 && !field.is_reserved();
    match size {
        1 | 2 | 4 | 8 if !field.is_reserved() => vec![(name.to_owned(), offset, size)],
        _ if is_segment => {
            PARTS.map(|(part, at, size)| (format!("{name}.{part}"), offset + at, size)).to_vec()
        }
        _ => {
            let mut places = Vec::new();
            let (mut at, end) = (offset, offset + size);
            while at < end {
                let size = if end - at >= 8 { 8 } else { 1 };
                places.push((format!("{at:#05x}:{size}"), at, size));
                at += size;
            }
            places
        }
    }
}

/// A row has the VMCB before VMRUN: the event where VMRUN read it, and nothing that #VMEXIT writes.
fn as_vmrun_read_it(case: &Case<'_>) -> KnownPage {
    let mut page = (*case.found.vmcb).clone();
    let event = vmcb_field::eventinj;
    if case.view.event_is_inferred() {
        let bits = page.field(vmcb_field::exitintinfo);
        page.forget(event.offset, event.size);
        page.learn(event.offset, event.size, bits.value(), bits.known_mask());
    } else if case.phase != Phase::Before && page.field(event).may_clear() & Event::V != 0 {
        page.forget(event.offset, event.size);
    }
    for field in OUTPUTS {
        page.forget(field.offset, field.size);
    }
    page
}

/// Names of what rules read and the input does not show whole.
fn left_to_the_base(shown: &KnownPage) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for field in Word::ALL.iter().filter_map(|word| word.field(false)) {
        let unknown = field.page == Page::Vmcb && shown.field(field).unknown_mask() != 0;
        let name = field_at(Page::Vmcb, field.offset).map_or(field.name, |field| field.name);
        if unknown && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The VMSA: what is known of it, and of what rules read what is not.
fn vmsa_items(vmsa: &KnownPage) -> Vec<String> {
    let mut items = Vec::new();
    for (name, offset, size) in VMSA.iter().flat_map(places) {
        let bits = vmsa.read(offset, size);
        let (value, known) = (bits.value(), bits.known_mask());
        if bits.unknown_mask() == 0 {
            if value != 0 || items.is_empty() {
                items.push(format!("vmsa.{name}={value:#x}"));
            }
        } else if known & mask(size) != 0 {
            items.push(format!("vmsa.{name}={value:#x}/{:#x}", known & mask(size)));
        } else if Word::ALL.iter().filter_map(|word| word.field(true)).any(|field| {
            field.page == Page::Vmsa && field.offset < offset + size && offset < field.offset + field.size
        }) {
            items.push(format!("vmsa.{name}=?"));
        }
    }
    items
}

fn mask(size: u16) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 }
}

fn environment(case: &Case<'_>, broken: &[Rule]) -> String {
    let is_snp = case.found.vm_type == Some(VmType::SevSnp);
    let mut items = case.question.host.case_items(if is_snp { "@snp-host" } else { "@host" });
    let reads_address = |rule: &Rule| rule.reads().any(|(word, _)| word == Word::VmcbAddress);
    if let Some(address) = case.found.vmcb_address.filter(|_| broken.iter().any(reads_address))
        && !items.contains("vmcb-address=")
    {
        let _ = write!(items, " vmcb-address={address:#x}");
    }
    if case.question.policy != Policy::VirtualCpu {
        let _ = write!(items, " policy={}", case.question.policy.name());
    }
    items
}

/// As `--cpu` has it; a table of CPUID's answers written out.
fn cpu(case: &Case<'_>) -> String {
    let text = &case.judged_for.text;
    if text.starts_with("cpuid:") { spelled(&case.judged_for.cpu) } else { text.clone() }
}

fn spelled(cpu: &Cpu) -> String {
    let mut text = "any".to_owned();
    for feature in Feature::ALL.iter().filter(|feature| cpu.has(**feature) != Cpu::ANY.has(**feature)) {
        let sign = if cpu.has(*feature) == Some(true) { '+' } else { '-' };
        let _ = write!(text, ",{sign}{}", feature.name());
    }
    if let Some(bits) = cpu.phys_bits() {
        let _ = write!(text, ",phys-bits={bits}");
    }
    text
}

/// A comment of one line or more.
fn comment(text: &mut String, sentence: &str) {
    let mut line = "#".to_owned();
    for word in one_line(sentence).split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

/// Without what would end the line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
