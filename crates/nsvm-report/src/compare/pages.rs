//! The VMCBs that show the differences, as raw pages with an index.

use super::comparison::Comparison;
use super::difference::Difference;
use super::named::letter;
use crate::error::Error;
use crate::host::{self, HostFacts};
use std::fmt::Write as _;
use vmcb::{Decision, Limits, Verdict, Vmsa, check_out_of_line};

/// The files of one difference, in the order of [`Comparison::differences`].
pub(super) struct Written {
    /// Name of the VMCB's file.
    pub(super) vmcb: String,
    /// Name of the VMSA's file, if the verdicts depend on one.
    pub(super) vmsa: Option<String>,
}

/// A page for each difference, for the caller to write into one directory.
pub struct WitnessPages {
    /// The names and bytes of the files. The last one is the index.
    pub files: Vec<(String, Vec<u8>)>,
    pub(super) written: Vec<Written>,
}

const INDEX: &str = "INDEX.txt";

impl WitnessPages {
    /// Makes the pages and checks each on both CPUs.
    ///
    /// # Errors
    /// If a page is not judged as its difference claims.
    pub fn of(comparison: &Comparison) -> Result<Self, Error> {
        let mut index = String::from(
            "VMCBs on which CPUs differ, one page of 4096 bytes each, written by `nsvm compare --witness`.\n",
        );
        for (number, named) in comparison.cpus.iter().enumerate() {
            let _ = writeln!(index, "{} = {}", letter(number), named.text);
        }
        let mut pages = Self { files: Vec::new(), written: Vec::new() };
        for (number, difference) in (1..).zip(comparison.differences()) {
            pages.add(number, difference, comparison, &mut index)?;
        }
        pages.files.push((INDEX.to_owned(), index.into_bytes()));
        Ok(pages)
    }

    fn add(
        &mut self,
        number: usize,
        difference: &Difference,
        comparison: &Comparison,
        index: &mut String,
    ) -> Result<(), Error> {
        let (Some(one), Some(other)) =
            (comparison.cpus.get(difference.refusing), comparison.cpus.get(difference.accepting))
        else {
            return Ok(());
        };
        let facts = host::of_witness(&difference.witness);
        let host = HostFacts::parse(Some(&facts))?;
        let both = [&one.limits, &other.limits];
        let (page, vmsa) = (difference.witness.vmcb(), difference.witness.vmsa());
        let with = |vmsa: Vmsa<'_>| {
            both.map(|limits: &Limits| {
                check_out_of_line(&page, limits, &host.environment(None).with_vmsa(vmsa))
            })
        };
        let expected = both.map(|limits| difference.witness.judge(limits));
        // A plain guest has no VMSA.
        let needs_vmsa = with(Vmsa::Unknown) != expected;
        let name = name(number, difference);
        let vmcb_name = format!("{name}.vmcb");
        let vmsa_name = needs_vmsa.then(|| format!("{name}.vmsa"));
        if needs_vmsa && with(Vmsa::Page(&vmsa)) != expected {
            let message = "the page is not judged as the difference claims".to_owned();
            return Err(Error::Input { file: vmcb_name, message });
        }
        let [first, second] = &expected;
        let _ = writeln!(index, "\n{vmcb_name}\n  {}: {}", difference.rule.id(), difference.title());
        for (cpu, verdict) in [(difference.refusing, first), (difference.accepting, second)] {
            let _ = writeln!(index, "  expected on {}: {}", letter(cpu), said(verdict));
        }
        for reason in &difference.because {
            let _ = writeln!(index, "  because {reason}");
        }
        let option = vmsa_name.as_ref().map(|name| format!(" --vmsa {name}")).unwrap_or_default();
        let _ = writeln!(
            index,
            "  nsvm check {vmcb_name}{option} --phase before --cpu '{}' --host {facts}",
            one.text
        );
        self.files.push((vmcb_name.clone(), page.to_vec()));
        if let Some(name) = &vmsa_name {
            self.files.push((name.clone(), vmsa.to_vec()));
        }
        self.written.push(Written { vmcb: vmcb_name, vmsa: vmsa_name });
        Ok(())
    }
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
