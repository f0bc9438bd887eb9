//! `--witness`: the VMCBs that show the differences, as raw pages.

use super::difference::Difference;
use super::{Comparison, letter};
use crate::error::Error;
use crate::host::{self, HostFacts};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use vmcb::{Decision, Limits, Verdict, Vmsa, check};

/// What was written for a difference, in the order of [`Comparison::differences`].
pub(super) struct Written {
    /// Name of the page's file in the directory.
    pub(super) vmcb: String,
    /// Name of the VMSA's file, where the verdicts depend on one.
    pub(super) vmsa: Option<String>,
}

const INDEX: &str = "INDEX.txt";

impl Comparison {
    /// All that differs, pair by pair.
    pub(super) fn differences(&self) -> impl Iterator<Item = &Difference> {
        self.pairs.iter().flat_map(|pair| &pair.differences)
    }
}

/// Writes a page for each difference, reads it back and checks it on both CPUs.
pub(super) fn write(comparison: &Comparison, directory: &Path) -> Result<Vec<Written>, Error> {
    let fail =
        |path: &Path, what: &str| Error::Input { file: crate::input::name(path), message: what.to_owned() };
    fs::create_dir_all(directory).map_err(|error| fail(directory, &error.to_string()))?;
    let mut index = String::from(
        "VMCBs on which CPUs differ, one page of 4096 bytes each, written by `nsvm compare --witness`.\n",
    );
    for (number, named) in comparison.cpus.iter().enumerate() {
        let _ = writeln!(index, "{} = {}", letter(number), named.text);
    }
    let mut written = Vec::new();
    for (number, difference) in (1..).zip(comparison.differences()) {
        let (Some(one), Some(other)) =
            (comparison.cpus.get(difference.refusing), comparison.cpus.get(difference.accepting))
        else {
            continue;
        };
        let facts = host::of_witness(&difference.witness);
        let host = HostFacts::parse(Some(&facts))?;
        let both = [&one.limits, &other.limits];
        let (page, vmsa) = (difference.witness.vmcb(), difference.witness.vmsa());
        let with = |page: &[u8; 4096], vmsa: Vmsa<'_>| {
            both.map(|limits: &Limits| check(page, limits, &host.environment(None).with_vmsa(vmsa)))
        };
        let expected = both.map(|limits| difference.witness.judge(limits));
        // A plain guest has no VMSA.
        let needs_vmsa = with(&page, Vmsa::Unknown) != expected;
        let name = name(number, difference);
        let put = |name: &str, bytes: &[u8; 4096]| {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(|error| fail(&path, &error.to_string()))?;
            let back = fs::read(&path).map_err(|error| fail(&path, &error.to_string()))?;
            <[u8; 4096]>::try_from(back).map_err(|_| fail(&path, "it is not what was written"))
        };
        let vmcb_name = format!("{name}.vmcb");
        let vmsa_name = needs_vmsa.then(|| format!("{name}.vmsa"));
        let page = put(&vmcb_name, &page)?;
        let vmsa = match &vmsa_name {
            Some(name) => Some(put(name, &vmsa)?),
            None => None,
        };
        if with(&page, vmsa.as_ref().map_or(Vmsa::Unknown, Vmsa::Page)) != expected {
            return Err(fail(&directory.join(&vmcb_name), "read back, it is not judged as it should be"));
        }
        let [first, second] = &expected;
        let _ = writeln!(index, "\n{vmcb_name}\n  {}: {}", difference.rule.id(), difference.title());
        for (cpu, verdict) in [(difference.refusing, first), (difference.accepting, second)] {
            let _ = writeln!(index, "  expected on {}: {}", letter(cpu), said(verdict));
        }
        for reason in &difference.because {
            let _ = writeln!(index, "  because {reason}");
        }
        let vmsa = vmsa_name.as_ref().map(|name| format!(" --vmsa {name}")).unwrap_or_default();
        let _ = writeln!(
            index,
            "  nsvm check {vmcb_name}{vmsa} --phase before --cpu '{}' --host {facts}",
            one.text
        );
        written.push(Written { vmcb: vmcb_name, vmsa: vmsa_name });
    }
    let path = directory.join(INDEX);
    fs::write(&path, index).map_err(|error| fail(&path, &error.to_string()))?;
    Ok(written)
}

/// `accepted`, `refused (sav-cr4-mbz)`.
fn said(verdict: &Verdict) -> String {
    let ids = |rules: vmcb::RuleSet| rules.iter().map(vmcb::Rule::id).collect::<Vec<_>>().join(", ");
    match verdict.decision() {
        Decision::Accepted => "accepted".into(),
        Decision::Refused => format!("refused ({})", ids(verdict.broken())),
        Decision::Undecided => format!("required, outcome not stated ({})", ids(verdict.undecided())),
    }
}

/// `03-sav-cr4-mbz-cr4-17-A-refuses-B-accepts`.
fn name(number: usize, difference: &Difference) -> String {
    let bit = difference
        .bit
        .map(|(word, bit)| format!("-{}-{bit}", word.name().to_lowercase()))
        .unwrap_or_default();
    let does = |cpu, decision| match decision {
        Decision::Accepted => format!("{}-accepts", letter(cpu)),
        Decision::Refused => format!("{}-refuses", letter(cpu)),
        Decision::Undecided => format!("{}-not-stated", letter(cpu)),
    };
    let (one, other) =
        (does(difference.refusing, difference.decision), does(difference.accepting, difference.other));
    format!("{number:02}-{}{bit}-{one}-{other}", difference.rule.id())
}
