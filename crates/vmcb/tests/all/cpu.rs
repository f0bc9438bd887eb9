//! The virtual CPU: what each model allows in CR4 and EFER, how it is spelled, what CPUID says.

use vmcb::{Cpu, CpuError, CpuidEntry, Feature, Limits, MODELS, Policy, Register};

/// Masks of CR4 and EFER and the SVM bits (CPUID 8000_000A EDX) of every version of every model.
///
/// # Source
/// QEMU's definitions, added up by hand. EFER bit 13 (LMSLE) is left out: no model states its CPUID bit.
const NAMED: [(&str, u64, u64, u32); 25] = [
    ("Opteron_G2-v1", 0x7FF, 0x1D01, 0),
    ("Opteron_G3-v1", 0x7FF, 0x1D01, 0),
    ("Opteron_G4-v1", 0x4_07FF, 0x1D01, 0x9),
    ("Opteron_G5-v1", 0x4_07FF, 0x1D01, 0x9),
    ("EPYC-v1", 0x35_07FF, 0x5D01, 0x9),
    ("EPYC-v2", 0x35_07FF, 0x5D01, 0x9),
    ("EPYC-v3", 0x35_07FF, 0x5D01, 0x9),
    ("EPYC-v4", 0x35_07FF, 0x5D01, 0x9),
    ("EPYC-v5", 0x35_07FF, 0x5D01, 0x1_947B),
    ("EPYC-Rome-v1", 0x35_0FFF, 0x5D01, 0x9),
    ("EPYC-Rome-v2", 0x35_0FFF, 0x5D01, 0x9),
    ("EPYC-Rome-v3", 0x35_0FFF, 0x5D01, 0x9),
    ("EPYC-Rome-v4", 0x35_0FFF, 0x5D01, 0x9),
    ("EPYC-Rome-v5", 0x35_0FFF, 0x5D01, 0x1_947B),
    ("EPYC-Milan-v1", 0x77_0FFF, 0x5D01, 0x1000_0009),
    ("EPYC-Milan-v2", 0x77_0FFF, 0x5D01, 0x1000_0009),
    ("EPYC-Milan-v3", 0x77_0FFF, 0x5D01, 0x1001_947B),
    ("EPYC-Genoa-v1", 0x77_1FFF, 0x20_5D01, 0x1200_0009),
    ("EPYC-Genoa-v2", 0x77_1FFF, 0x20_5D01, 0x1201_947B),
    ("EPYC-Turin-v1", 0x77_1FFF, 0x20_5D01, 0x1201_947B),
    // The model's name alone is its first version; an alias is the version that it stands for.
    ("EPYC", 0x35_07FF, 0x5D01, 0x9),
    ("EPYC-IBPB", 0x35_07FF, 0x5D01, 0x9),
    ("EPYC-Milan", 0x77_0FFF, 0x5D01, 0x1000_0009),
    // Real parts have shadow stacks.
    ("EPYC-Milan,+shstk", 0xF7_0FFF, 0x5D01, 0x1000_0009),
    ("EPYC-Genoa,+shstk", 0xF7_1FFF, 0x20_5D01, 0x1200_0009),
];
/// EFER bits 7:1 read as zero: writing them is no illegal state (revision 3.44).
const READ_AS_ZERO: u64 = 0xFE;
const LMSLE: u64 = 0x2000;

#[test]
fn every_model_allows_what_its_features_say() {
    for (name, cr4, efer, svm) in NAMED {
        let cpu = Cpu::parse(name).unwrap();
        let limits = Limits::compile(&cpu, Policy::VirtualCpu);
        assert_eq!(limits.cr4_always().bits(), cr4, "{name}");
        assert_eq!(limits.cr4_maybe().bits(), cr4, "{name}");
        assert_eq!(limits.efer_always().bits(), efer | READ_AS_ZERO, "{name}");
        assert_eq!(limits.efer_maybe().bits(), efer | READ_AS_ZERO | LMSLE, "{name}");
        assert_eq!(cpu.phys_bits(), None, "no model states it: {name}");
        let mut found = 0;
        for &feature in Feature::ALL {
            let place = feature.cpuid();
            if (place.leaf, place.register) == (0x8000_000A, Register::Edx) && cpu.has(feature) == Some(true)
            {
                found |= 1 << place.bit;
            }
            let stated = cpu.has(feature).is_some();
            assert_eq!(stated, feature != Feature::LmsleUnsupported, "{name}: {feature:?}");
        }
        assert_eq!(found, svm, "{name}");
        // None of them has what only SEV guests are shown.
        for feature in [Feature::Sme, Feature::Sev, Feature::SevEs, Feature::SevSnp, Feature::Avic] {
            assert_eq!(cpu.has(feature), Some(false), "{name}");
        }
    }
}

#[test]
fn every_version_of_every_model_is_tested() {
    let listed = MODELS.iter().flat_map(|model| {
        (1..=model.versions.len()).map(move |version| format!("{}-v{version}", model.name))
    });
    for name in listed {
        assert!(NAMED.iter().any(|(tested, ..)| *tested == name), "{name} is not in the test's table");
    }
}

#[test]
fn of_any_cpu_only_what_all_have_is_known() {
    for spelling in ["any", ""] {
        assert_eq!(Cpu::parse(spelling), Ok(Cpu::ANY));
    }
    let limits = Limits::compile(&Cpu::ANY, Policy::VirtualCpu);
    assert_eq!(limits.cr4_always().bits(), 0x7FF);
    assert_eq!(limits.cr4_maybe().bits(), 0xF7_1FFF);
    assert_eq!(limits.efer_always().bits(), 0x1DFF);
    assert_eq!(limits.efer_maybe().bits(), 0x36_FDFF);
    let known: Vec<_> = Feature::ALL.iter().filter(|feature| Cpu::ANY.has(**feature).is_some()).collect();
    assert!(known.iter().all(|feature| Cpu::ANY.has(**feature) == Some(true)));
    assert_eq!(known.len(), 13, "{known:?}");
    assert_eq!(Cpu::ANY.has(Feature::Shstk), None);
}

#[test]
fn changes_apply_from_left_to_right() {
    let cpu = |text| Cpu::parse(text).unwrap();
    assert_eq!(cpu("EPYC-Genoa,-vnmi,+vnmi"), cpu("EPYC-Genoa"));
    assert_eq!(cpu("EPYC-Genoa,vnmi=off"), cpu("EPYC-Genoa,-vnmi"));
    assert_eq!(cpu("EPYC-Genoa,shstk=on"), cpu("EPYC-Genoa,+shstk"));
    assert_eq!(cpu("EPYC-Genoa,shstk"), cpu("EPYC-Genoa,+shstk"));
    assert_eq!(cpu(" EPYC-Genoa , +shstk "), cpu("EPYC-Genoa,+shstk"));
    assert_eq!(cpu("EPYC-Genoa,+cet-ss"), cpu("EPYC-Genoa,+shstk"));
    assert_eq!(cpu("EPYC,-fxsr_opt,-xd,-i64"), cpu("EPYC,-fxsr-opt,-nx,-lm"));
    assert_eq!(cpu("EPYC,nrip_save=off"), cpu("EPYC,-nrip-save"));
    assert_eq!(cpu("EPYC-IBPB"), cpu("EPYC-v2"));
    assert_eq!(cpu("+shstk"), cpu("any,+shstk"));
    assert_eq!(cpu("-lm"), cpu("any,-lm"));
    assert_eq!(cpu("phys-bits=48"), Cpu::ANY.with_phys_bits(48).unwrap());
    assert_eq!(cpu("EPYC,phys-bits=0x30").phys_bits(), Some(48));
    assert_eq!(cpu("EPYC,cbitpos=51"), cpu("EPYC,c-bit=0x33"));
    assert_ne!(cpu("EPYC,c-bit=51"), cpu("EPYC,c-bit=47"));
    assert_ne!(cpu("EPYC,sev-asid-max=1"), cpu("EPYC,sev-asid-min=1"));
    for bound in ["phys-bits=32", "phys-bits=52", "c-bit=32", "c-bit=63", "sev-asid-max=4294967295"] {
        assert!(Cpu::parse(bound).is_ok(), "{bound}");
    }
    assert_eq!(Cpu::ANY.with_phys_bits(31), None);
    assert_eq!(Cpu::ANY.with_phys_bits(53), None);
    assert_eq!(Cpu::ANY.with(Feature::Shstk, true).without_knowing(Feature::Shstk), Cpu::ANY);
}

#[test]
fn what_is_not_understood_is_named() {
    for (text, culprit, message) in [
        ("EPYC-Milano", "EPYC-Milano", "no CPU model is named `EPYC-Milano`"),
        ("epyc", "epyc", "no CPU model is named `epyc`"),
        ("EPYC-v", "EPYC-v", "newest version of this model is v5"),
        ("EPYC-v0", "EPYC-v0", "newest version of this model is v5"),
        ("EPYC-v6", "EPYC-v6", "newest version of this model is v5"),
        ("EPYC-v256", "EPYC-v256", "newest version of this model is v5"),
        ("EPYC-Genoa-v3", "EPYC-Genoa-v3", "newest version of this model is v2"),
        ("EPYC-v1x", "EPYC-v1x", "no CPU model is named"),
        ("EPYC-v+1", "EPYC-v+1", "no CPU model is named"),
        ("EPYC-IBPB-v1", "EPYC-IBPB-v1", "no CPU model is named"),
        ("EPYC,+fred", "fred", "no feature that a rule of VMRUN reads"),
        ("EPYC,-fred", "fred", "no feature"),
        ("EPYC,fred", "fred", "no feature"),
        ("EPYC,fred=on", "fred", "no feature"),
        ("EPYC,fred=1", "fred", "no feature"),
        ("EPYC,", "", "no feature"),
        ("EPYC,+SHSTK", "SHSTK", "no feature"),
        ("EPYC,shstk=yes", "shstk=yes", "`shstk=yes`: expected on or off"),
        ("EPYC,phys-bits=31", "phys-bits=31", "expected phys-bits from 32 to 52"),
        ("EPYC,phys-bits=53", "phys-bits=53", "expected phys-bits from 32 to 52"),
        ("EPYC,phys-bits=304", "phys-bits=304", "expected phys-bits from 32 to 52"),
        ("EPYC,phys-bits=", "phys-bits=", "expected phys-bits"),
        ("EPYC,phys-bits=+48", "phys-bits=+48", "expected phys-bits"),
        ("EPYC,phys-bits=0x+30", "phys-bits=0x+30", "expected phys-bits"),
        ("EPYC,phys-bits=0x", "phys-bits=0x", "expected phys-bits"),
        ("EPYC,phys-bits=on", "phys-bits=on", "expected phys-bits"),
        ("EPYC,c-bit=31", "c-bit=31", "expected a bit position from 32 to 63"),
        ("EPYC,c-bit=64", "c-bit=64", "expected a bit position from 32 to 63"),
        ("EPYC,cbitpos=x", "cbitpos=x", "expected a bit position"),
        ("EPYC,sev-asid-max=4294967296", "sev-asid-max=4294967296", "expected a 32-bit number"),
        ("EPYC,sev-asid-min=-1", "sev-asid-min=-1", "expected a 32-bit number"),
        ("host", "host", "would ask the CPU that this program runs on"),
        ("max,+shstk", "max", "would ask the CPU that this program runs on"),
    ] {
        let error = Cpu::parse(text).expect_err(text);
        assert_eq!(error.culprit(), culprit, "{text}");
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert!(error.to_string().contains(culprit), "{text}: {error}");
    }
    let version = CpuError::UnknownVersion { name: "EPYC-Rome-v9", newest: 5 };
    assert_eq!(Cpu::model("EPYC-Rome-v9"), Err(version));
    assert_eq!(Cpu::model("Zen"), Err(CpuError::UnknownModel("Zen")));
    for text in ["EPYC-Milan,", "EPYC-Milan,,+shstk", ","] {
        let error = Cpu::parse(text).unwrap_err();
        assert_eq!(error, CpuError::EmptyPart, "{text}");
        assert_eq!(error.to_string(), "no feature or setting follows a comma");
    }
    assert_eq!(Cpu::model("host"), Err(CpuError::AsksTheHost("host")));
}

const ENTRY: CpuidEntry = CpuidEntry { leaf: 0, subleaf: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };

fn nothing_known() -> Cpu {
    Feature::ALL.iter().fold(Cpu::ANY, |cpu, &feature| cpu.without_knowing(feature))
}

#[test]
fn cpuid_states_each_feature_by_its_bit_alone() {
    assert_eq!(Cpu::from_cpuid(&[]), nothing_known());
    for &feature in Feature::ALL {
        let place = feature.cpuid();
        let word = 1 << place.bit;
        for (set, [a, b, c, d]) in [(true, [word, 0, 0, 0]), (false, [!word, u32::MAX, u32::MAX, u32::MAX])] {
            let of = |register| match (register, place.register) {
                (Register::Eax, Register::Eax)
                | (Register::Ebx, Register::Ebx)
                | (Register::Ecx, Register::Ecx)
                | (Register::Edx, Register::Edx) => a,
                (Register::Eax, _) => b,
                (Register::Ebx, _) => c,
                _ => d,
            };
            let entry = CpuidEntry {
                leaf: place.leaf,
                subleaf: place.subleaf,
                eax: of(Register::Eax),
                ebx: of(Register::Ebx),
                ecx: of(Register::Ecx),
                edx: of(Register::Edx),
            };
            let cpu = Cpu::from_cpuid(&[entry]);
            assert_eq!(cpu.has(feature), Some(set), "{feature:?}");
            for &other in Feature::ALL {
                let same_leaf = other.cpuid().leaf == place.leaf;
                assert_eq!(cpu.has(other).is_some(), same_leaf, "{other:?} by the leaf of {feature:?}");
                if set && same_leaf && other != feature {
                    assert_eq!(cpu.has(other), Some(false), "{other:?} by the bit of {feature:?}");
                }
            }
            // Another subleaf says nothing.
            let other = CpuidEntry { subleaf: 1, ..entry };
            assert_eq!(Cpu::from_cpuid(&[other]).has(feature), None);
        }
    }
}

#[test]
fn leaves_beyond_the_largest_are_absent() {
    let largest = |leaf, eax| CpuidEntry { leaf, eax, ..ENTRY };
    let has = |entry| Cpu::from_cpuid(&[entry]);
    // Leaf 0 speaks of the standard range, 8000_0000h of the extended one.
    let standard = has(largest(0, 6));
    assert_eq!(standard.has(Feature::Smep), Some(false));
    assert_eq!(standard.has(Feature::Vme), None);
    assert_eq!(standard.has(Feature::Svm), None);
    assert_eq!(has(largest(0, 7)).has(Feature::Smep), None);
    assert_eq!(has(largest(0, 0)).has(Feature::Vme), Some(false));
    let extended = has(largest(0x8000_0000, 0x8000_0008));
    assert_eq!(extended.has(Feature::Npt), Some(false));
    assert_eq!(extended.has(Feature::SevEs), Some(false));
    assert_eq!(extended.has(Feature::Mcommit), None);
    assert_eq!(extended.has(Feature::Smep), None);
    assert_eq!(has(largest(0x8000_0000, 0x8000_000A)).has(Feature::Npt), None);
    assert_eq!(has(largest(0x8000_0000, 0x8000_0000)).has(Feature::Svm), Some(false));
    // A CPU without extended leaves answers with something else: that says nothing.
    assert_eq!(has(largest(0x8000_0000, 0x10)).has(Feature::Npt), None);
}

/// An emulator returned the values of leaf 0Dh for leaf 8000_001Fh, so #VC seemed to exist.
#[test]
fn entries_beyond_the_largest_leaf_are_ignored() {
    let maximum = CpuidEntry { leaf: 0x8000_0000, eax: 0x8000_0008, ..ENTRY };
    let beyond = CpuidEntry { leaf: 0x8000_001F, eax: 1 << 3, ebx: 51, ecx: 509, edx: 100, ..ENTRY };
    for table in [[maximum, beyond], [beyond, maximum]] {
        for cpu in [Cpu::from_cpuid(&table), Cpu::from_complete_cpuid(&table)] {
            assert_eq!(cpu.has(Feature::SevEs), Some(false));
            assert_eq!((cpu.sev_asid_maximum(), cpu.sev_asid_minimum(), cpu.c_bit()), (None, None, None));
        }
    }
    assert_eq!(Cpu::from_cpuid(&[beyond]).has(Feature::SevEs), Some(true), "no maximum is known");
    let standard = [CpuidEntry { eax: 6, ..ENTRY }, CpuidEntry { leaf: 7, ebx: u32::MAX, ..ENTRY }];
    assert_eq!(Cpu::from_cpuid(&standard).has(Feature::Smep), Some(false));
}

#[test]
fn a_missing_leaf_of_a_complete_table_is_zero() {
    let none = Cpu::from_complete_cpuid(&[]);
    assert!(Feature::ALL.iter().all(|&feature| none.has(feature) == Some(false)));
    assert_eq!(none.phys_bits(), None);
    let without_extended =
        [CpuidEntry { eax: 7, ..ENTRY }, CpuidEntry { leaf: 0x8000_0000, eax: 7, ..ENTRY }];
    let svm = CpuidEntry { leaf: 0x8000_0001, ecx: 1 << 2, ..ENTRY };
    let table = [&without_extended[..], &[svm]].concat();
    assert_eq!(Cpu::from_complete_cpuid(&table).has(Feature::Svm), Some(false));
}

#[test]
fn a_callback_is_asked_for_existing_leaves_only() {
    let mut asked = Vec::new();
    let cpu = Cpu::ask_cpuid(|leaf, subleaf| {
        asked.push((leaf, subleaf));
        match leaf {
            0 => [1, 0, 0, 0],
            0x8000_0000 => [0x8000_000A, 0, 0, 0],
            0x8000_000A => [0, 0, 0, 1],
            _ => [0; 4],
        }
    });
    assert_eq!(cpu.has(Feature::Npt), Some(true));
    assert_eq!((cpu.has(Feature::Smep), cpu.has(Feature::SevEs)), (Some(false), Some(false)));
    assert_eq!(asked[..2], [(0, 0), (0x8000_0000, 0)]);
    assert!(
        asked.iter().all(|&(leaf, _)| leaf <= 1 || (0x8000_0000..=0x8000_000A).contains(&leaf)),
        "{asked:?}"
    );
    assert!(asked.len() <= 8, "each leaf is asked once: {asked:?}");
}

#[test]
fn cpuid_states_widths_and_asids() {
    let width = |eax| Cpu::from_cpuid(&[CpuidEntry { leaf: 0x8000_0008, eax, ..ENTRY }]).phys_bits();
    assert_eq!(width(0x3930), Some(48));
    assert_eq!(width(0x20), Some(32));
    assert_eq!(width(0x34), Some(52));
    for not_possible in [0, 0x1F, 0x35, 0xFF] {
        assert_eq!(width(not_possible), None);
    }
    let sev = CpuidEntry { leaf: 0x8000_001F, eax: 0, ebx: 0xFFFF_F173, ecx: 509, edx: 100, subleaf: 0 };
    let named = Cpu::parse("any,c-bit=51,sev-asid-max=509,sev-asid-min=100").unwrap();
    let expected = Feature::ALL.iter().fold(named, |cpu, &feature| match feature.cpuid().leaf {
        0x8000_001F => cpu.with(feature, false),
        _ => cpu.without_knowing(feature),
    });
    assert_eq!(Cpu::from_cpuid(&[sev]), expected);
}

#[test]
fn features_say_where_cpuid_has_them() {
    assert_eq!(Feature::Vme.cpuid().to_string(), "CPUID 1 EDX[1]");
    assert_eq!(Feature::Pcid.cpuid().to_string(), "CPUID 1 ECX[17]");
    assert_eq!(Feature::Shstk.cpuid().to_string(), "CPUID 7.0 ECX[7]");
    assert_eq!(Feature::Smap.cpuid().to_string(), "CPUID 7.0 EBX[20]");
    assert_eq!(Feature::AutoIbrs.cpuid().to_string(), "CPUID 8000_0021 EAX[8]");
    for (bit, &feature) in (0..).zip(Feature::ALL) {
        assert_eq!(Feature::at_bit(bit), Some(feature));
    }
    assert_eq!(Feature::at_bit(Feature::ALL.len() as u8), None);
}
