//! `--host`: facts about the host in a spelling of our own.

use crate::error::Error;
use crate::suggest;
use vmcb::{Answer, Environment, Host, Input, Witness, Word};

/// Spelling, fact, and how it is said when assumed or missing.
pub(crate) const FACTS: [(&str, Host, &str); 18] = [
    ("svme", Host::SVME, "EFER.SVME"),
    ("pe", Host::PE, "CR0.PE"),
    ("vm", Host::VM, "RFLAGS.VM"),
    ("pg", Host::PG, "CR0.PG"),
    ("long64", Host::LONG64, "64-bit mode"),
    ("smm", Host::SMM, "SMM"),
    ("hsave-pa-zero", Host::HSAVE_PA_ZERO, "VM_HSAVE_PA = 0"),
    ("smmlock", Host::SMMLOCK, "HWCR.SmmLock"),
    ("memenc", Host::MEM_ENCRYPTION, "SYSCFG.MemEncryptionModEn"),
    ("snp", Host::SNP_ENABLED, "SYSCFG.SecureNestedPagingEn"),
    ("ibs-fetch", Host::IBS_FETCH, "IbsFetchEn"),
    ("ibs-op", Host::IBS_OP, "IbsOpEn"),
    ("sibling-active", Host::SIBLING_ACTIVE, "the sibling thread is active"),
    ("rmp-vmcb-foreign", Host::VMCB_NOT_HYPERVISOR_OWNED, "RMP: the VMCB page is not the hypervisor's"),
    ("rmp-vmsa-foreign", Host::VMSA_NOT_HYPERVISOR_OWNED, "RMP: the VMSA page is not the hypervisor's"),
    ("rmp-vmsa-fails", Host::VMSA_RMP_CHECK_FAILS, "RMP: the VMSA page fails a check"),
    ("rmp-avic-foreign", Host::AVIC_PAGE_NOT_HYPERVISOR_OWNED, "RMP: the AVIC page is not the hypervisor's"),
    ("vmsa-load-fails", Host::VMSA_LOAD_FAILS, "loading the VMSA fails"),
];

/// What every real host has: spelling, and how it is said.
const ASSUMED: [(&str, &str); 7] = [
    ("svme", "EFER.SVME set"),
    ("pe", "protected mode"),
    ("vm", ""),
    ("long64", "64-bit mode"),
    ("pg", "paging on"),
    ("cpl", "CPL 0"),
    ("smm", "outside SMM"),
];

/// What is known of the host.
#[derive(Debug)]
pub(crate) struct HostFacts {
    environment: Environment<'static>,
    address_given: bool,
    stated: Vec<&'static str>,
    nothing_assumed: bool,
    /// The same as items of a case row: `cases/README.md`.
    items: Vec<String>,
}

impl HostFacts {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Error> {
        let mut facts = Self {
            environment: Environment::real_host(),
            address_given: false,
            stated: Vec::new(),
            nothing_assumed: false,
            items: Vec::new(),
        };
        for part in text.unwrap_or("").split(',').map(str::trim).filter(|part| !part.is_empty()) {
            facts.state(part)?;
        }
        Ok(facts)
    }

    fn state(&mut self, part: &str) -> Result<(), Error> {
        if part == "unknown" {
            self.environment = Environment::unknown();
            self.address_given = false;
            self.nothing_assumed = true;
            self.items.clear();
            return Ok(());
        }
        let (name, value) = part.split_once('=').unwrap_or((part, "1"));
        let bad = |expected: &str| {
            Error::usage(format!("--host: `{}`: expected {expected}", suggest::shorten(part)), None)
        };
        match name {
            "cpl" => {
                let (answer0, answer1) = match value {
                    "0" => (Answer::No, Answer::No),
                    "1" => (Answer::Yes, Answer::No),
                    "2" => (Answer::No, Answer::Yes),
                    "3" => (Answer::Yes, Answer::Yes),
                    "unknown" => (Answer::Unknown, Answer::Unknown),
                    _ => return Err(bad("cpl=0 to cpl=3, or cpl=unknown")),
                };
                self.environment = self.environment.with(Host::CPL0, answer0).with(Host::CPL1, answer1);
                self.stated.push("cpl");
                self.items.push(format!("cpl={}", if value == "unknown" { "?" } else { value }));
            }
            "rax" => {
                let address = number(value).ok_or_else(|| bad("a physical address, as in rax=0x1000"))?;
                self.environment = self.environment.with_vmcb_address(address);
                self.address_given = true;
                self.items.push(format!("vmcb-address={address:#x}"));
            }
            "u-cet" => {
                let value = number(value).ok_or_else(|| bad("a number, as in u-cet=0x0"))?;
                self.environment = self.environment.with_u_cet(value);
                self.items.push(format!("u-cet={value:#x}"));
            }
            "pdptes" => {
                let wanted = || bad("four numbers, as in pdptes=0x1001:0x2001:0x3001:0");
                let entries: Option<Vec<u64>> = value.split(':').map(number).collect();
                let entries: [u64; 4] =
                    entries.and_then(|entries| entries.try_into().ok()).ok_or_else(wanted)?;
                self.environment = self.environment.with_pdptes(entries);
                self.items.push(format!("pdptes={}", entries.map(|entry| format!("{entry:#x}")).join(",")));
            }
            _ => {
                let Some(&(name, fact, _)) = FACTS.iter().find(|(known, ..)| *known == name) else {
                    let known = FACTS.iter().map(|(name, ..)| *name);
                    let known = known.chain(["cpl", "rax", "u-cet", "pdptes", "unknown"]);
                    return Err(Error::unknown("--host: no such fact", name, known.map(str::to_owned)));
                };
                let answer = match value {
                    "1" | "yes" => Answer::Yes,
                    "0" | "no" => Answer::No,
                    "unknown" => Answer::Unknown,
                    _ => return Err(bad(&format!("{name}=0, {name}=1 or {name}=unknown"))),
                };
                self.environment = self.environment.with(fact, answer);
                self.stated.push(name);
                let named = Host::NAMES.iter().find(|(bit, ..)| fact.bits() >> bit & 1 == 1);
                let named =
                    named.map_or_else(String::new, |(_, name, _)| name.to_lowercase().replace('_', "-"));
                let answer = match answer {
                    Answer::Yes => "1",
                    Answer::No => "0",
                    _ => "?",
                };
                self.items.push(format!("{named}={answer}"));
            }
        }
        Ok(())
    }

    /// The environment, with the address that the input tells where none was given.
    pub(crate) fn environment(&self, address: Option<u64>) -> Environment<'static> {
        match address {
            Some(address) if !self.address_given => self.environment.with_vmcb_address(address),
            _ => self.environment,
        }
    }

    /// The environment for what others would do: moreover what is not stated is so that VMRUN does not fault for it, or
    /// the answer would be unknown for nearly every dump.
    pub(crate) fn as_for_others(&self, address: Option<u64>) -> Environment<'static> {
        let environment = self.environment(address);
        if self.nothing_assumed {
            return environment;
        }
        let environment =
            if self.address_given { environment } else { environment.take_over(Input::VmcbAddress) };
        let open = FACTS.iter().filter(|(name, ..)| {
            !self.stated.contains(name) && !ASSUMED.iter().any(|(assumed, _)| assumed == name)
        });
        open.fold(environment, |environment, (_, fact, _)| environment.with(*fact, Answer::No))
    }

    /// What that assumes beyond [`assumed`](Self::assumed), in words.
    pub(crate) fn assumed_for_others(&self) -> Vec<&'static str> {
        if self.nothing_assumed {
            return Vec::new();
        }
        let stated = |name| self.stated.contains(&name);
        let mut assumed = vec!["memory behind each legal address"];
        if !self.address_given {
            assumed.push("a legal rAX");
        }
        if !stated("hsave-pa-zero") {
            assumed.push("VM_HSAVE_PA set");
        }
        if !(stated("memenc") || stated("snp")) {
            assumed.push("no memory encryption");
        }
        assumed
    }

    /// The environment of a case row: `base` with what was stated.
    pub(crate) fn case_items(&self, base: &str) -> String {
        let base = if self.nothing_assumed { None } else { Some(base) };
        let items: Vec<&str> = base.into_iter().chain(self.items.iter().map(String::as_str)).collect();
        if items.is_empty() { "-".to_owned() } else { items.join(" ") }
    }

    /// What is assumed because nobody said otherwise.
    pub(crate) fn assumed(&self) -> Vec<&'static str> {
        if self.nothing_assumed {
            return Vec::new();
        }
        let open = ASSUMED.iter().filter(|(name, said)| !said.is_empty() && !self.stated.contains(name));
        open.map(|(_, said)| *said).collect()
    }
}

/// The host of a witness, as `--host` takes it: every fact.
pub(crate) fn of_witness(witness: &Witness) -> String {
    let facts = Host::from_bits(witness.word(Word::Host));
    let bit = |fact| u8::from(facts.contains(fact));
    let stated =
        FACTS.iter().map(|&(name, fact, _)| format!("{name}={}", bit(fact))).collect::<Vec<_>>().join(",");
    let ring = bit(Host::CPL0) | bit(Host::CPL1) << 1;
    let [rax, u_cet] = [Word::VmcbAddress, Word::UCet].map(|word| witness.word(word));
    let pdptes = [Word::Pdpte0, Word::Pdpte1, Word::Pdpte2, Word::Pdpte3]
        .map(|word| format!("{:#x}", witness.word(word)))
        .join(":");
    format!("{stated},cpl={ring},rax={rax:#x},u-cet={u_cet:#x},pdptes={pdptes}")
}

/// Decimal, or hexadecimal after 0x; digits may be grouped with `_`.
fn number(text: &str) -> Option<u64> {
    let text = text.replace('_', "");
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.strip_prefix("0x") {
        Some(hex) if digits(hex) => u64::from_str_radix(hex, 16).ok(),
        None if digits(&text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_a_spelling() {
        let spelled = FACTS.iter().fold(0, |set, (_, fact, _)| set | fact.bits());
        let all = Host::NAMES.iter().fold(0, |set, (bit, ..)| set | 1 << bit);
        assert_eq!(spelled | Host::CPL0.union(Host::CPL1).bits(), all);
    }

    #[test]
    fn the_host_of_a_witness_can_be_written_and_read() {
        use vmcb::{Cpu, Limits, Policy};
        let cpu = Cpu::parse("EPYC-Genoa-v2,+sev-snp,+shstk,phys-bits=48,lmsle-unsupported=off").unwrap();
        let limits = Limits::compile(&cpu, Policy::VirtualCpu);
        for rule in limits.breakable().iter() {
            let witness = rule.witness(&limits).unwrap();
            let facts = HostFacts::parse(Some(&of_witness(&witness))).unwrap();
            let (vmcb, vmsa) = (witness.vmcb(), witness.vmsa());
            let environment = facts.environment(None).with_vmsa(vmcb::Vmsa::Page(&vmsa));
            assert_eq!(
                vmcb::check_out_of_line(&vmcb, &limits, &environment),
                witness.judge(&limits),
                "{}",
                rule.id()
            );
        }
    }
}
