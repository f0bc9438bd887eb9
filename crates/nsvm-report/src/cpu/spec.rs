//! A CPU written as `--cpu` takes it: the nearest model and changes to it.

use vmcb::{Cpu, Feature, MODELS};

/// The shortest description: `EPYC-Rome,-umip,phys-bits=43`.
///
/// A feature that is unknown where every model states it cannot be written: it is left as the model has it.
pub(crate) fn spec(cpu: &Cpu) -> String {
    let numbered = MODELS.iter().flat_map(|model| {
        (1..=model.versions.len()).map(|version| match version {
            1 => model.name.to_owned(),
            _ => format!("{}-v{version}", model.name),
        })
    });
    let candidates = numbered.chain(["any".to_owned()]).filter_map(|name| {
        let base = Cpu::model(&name).ok()?;
        // What the base states and the CPU leaves open can only be said by a base that says less.
        let said_too_much =
            Feature::ALL.iter().filter(|&&feature| cpu.has(feature).is_none() && base.has(feature).is_some());
        let changes: Vec<_> = Feature::ALL
            .iter()
            .filter(|&&feature| cpu.has(feature).is_some() && cpu.has(feature) != base.has(feature))
            .map(|&feature| match (feature.restricts(), cpu.has(feature) == Some(true)) {
                // `-lmsle-unsupported` would read as if something were taken away.
                (true, has) => format!("{}={}", feature.name(), if has { "on" } else { "off" }),
                (false, true) => format!("+{}", feature.name()),
                (false, false) => format!("-{}", feature.name()),
            })
            .collect();
        Some(((said_too_much.count(), changes.len()), name, changes))
    });
    // Of equals the first, which is the oldest.
    let Some((_, mut text, changes)) = candidates.min_by_key(|(cost, ..)| *cost) else {
        return String::new();
    };
    let encrypts = [Feature::Sme, Feature::Sev].iter().any(|&feature| cpu.has(feature) != Some(false));
    let settings = [
        ("phys-bits", cpu.phys_bits().map(u32::from)),
        ("c-bit", cpu.c_bit().map(u32::from).filter(|&bit| encrypts && bit >= 32)),
        ("sev-asid-max", cpu.sev_asid_maximum().filter(|_| encrypts)),
        ("sev-asid-min", cpu.sev_asid_minimum().filter(|_| encrypts)),
    ];
    for change in changes {
        text += ",";
        text += &change;
    }
    for (name, value) in settings {
        if let Some(value) = value {
            text += &format!(",{name}={value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_gives_the_same_cpu() {
        for (text, expected) in [
            ("any", "any"),
            ("EPYC-Rome-v2,phys-bits=43", "EPYC-Rome,phys-bits=43"),
            ("EPYC-Milan,-pku,-pcid", "EPYC-Rome,+svme-addr-chk"),
            (
                "EPYC-Genoa-v2,lmsle-unsupported=on,phys-bits=52",
                "EPYC-Genoa-v2,lmsle-unsupported=on,phys-bits=52",
            ),
            (
                "EPYC,+sev,+sme,c-bit=47,sev-asid-max=15,sev-asid-min=9",
                "EPYC,+sme,+sev,c-bit=47,sev-asid-max=15,sev-asid-min=9",
            ),
            ("any,+shstk", "any,+shstk"),
        ] {
            let cpu = Cpu::parse(text).unwrap();
            assert_eq!(spec(&cpu), expected);
            assert_eq!(Cpu::parse(expected).unwrap(), cpu, "{text}");
        }
    }
}
