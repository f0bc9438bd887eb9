//! Guests whose registers are in an encrypted VMSA: nothing is said of what cannot be seen.

use crate::common::{file, legal, put, run, stdout};

const ENCRYPTED: &str = "cannot judge the guest's registers: they are in an encrypted VMSA";
const SAMPLE: &str = "samples/kvm-6.14-dmesg-refused-snp-allowed-sev-features.txt";

fn sample() -> String {
    std::fs::read_to_string(crate::common::root().join(SAMPLE)).expect("the sample")
}

/// The control area of the sample alone, as a kernel prints it that cannot decrypt the VMSA.
fn control_area(kind: &str) -> String {
    let text = sample().replace("SEV-SNP", kind);
    let (control, _) = text.split_once("kvm_amd: VMCB State Save Area").expect("a save area");
    control.to_owned()
}

/// A page with nested control as given, ASID 0 in the control area and all wrong in the save area.
fn page(nested_ctl: u64) -> [u8; 4096] {
    let mut page = legal();
    put(&mut page, 0x58, 0);
    put(&mut page, 0x90, nested_ctl);
    put(&mut page, 0x4D0, u64::MAX);
    put(&mut page, 0x548, u64::MAX);
    put(&mut page, 0x558, 1 << 40);
    put(&mut page, 0x560, 1 << 40);
    put(&mut page, 0x568, 1 << 40);
    page
}

fn of_the_save_area(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("error[sav-")).count()
}

#[test]
fn a_page_with_sev_es_is_judged_on_its_control_area() {
    let path = file("es.bin", &page(0b111));
    for (cpu, said) in [
        ("any", format!("{ENCRYPTED}, unless the CPU lacks SEV-ES\n")),
        ("EPYC-Milan,phys-bits=48,+sev,+sev-es", format!("{ENCRYPTED}\n")),
    ] {
        let text = stdout(&run(&["check", &path, "--phase", "before", "--cpu", cpu]).code(1));
        assert!(text.starts_with("error[ctl-asid-zero]: "), "{text}");
        assert!(text.contains(&said), "{text}");
        assert_eq!(of_the_save_area(&text), 0, "{text}");
    }
    // On a CPU without SEV-ES the bit means nothing, and without the bit the registers are there.
    let plain = file("plain.bin", &page(0b011));
    for (path, cpu) in [(&path, "EPYC-Milan,phys-bits=48"), (&plain, "EPYC-Milan,phys-bits=48,+sev,+sev-es")]
    {
        let text = stdout(&run(&["check", path, "--phase", "before", "--cpu", cpu]).code(1));
        assert!(of_the_save_area(&text) >= 4 && !text.contains(ENCRYPTED), "{text}");
    }
    // A VMSA that is given is judged.
    let mut vmsa = [0; 4096];
    vmsa[..0x1000 - 0x400].copy_from_slice(&page(0)[0x400..]);
    let vmsa = file("vmsa.bin", &vmsa);
    let cpu = "EPYC-Milan,phys-bits=48,+sev,+sev-es";
    let text = stdout(&run(&["check", &path, "--phase", "before", "--cpu", cpu, "--vmsa", &vmsa]).code(1));
    assert!(of_the_save_area(&text) >= 3 && !text.contains(ENCRYPTED), "{text}");
}

#[test]
fn a_dump_of_an_encrypted_guest_says_so() {
    for (kind, cpu) in [("SEV-ES", "any,+sev,+sev-es"), ("SEV-SNP", "any,+sev,+sev-es,+sev-snp")] {
        let path = file(&format!("{kind}.txt"), control_area(kind).as_bytes());
        let output = run(&["check", &path, "--format", "json"]);
        let text = stdout(&output);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let verdict = lines.iter().find(|line| line["type"] == "verdict").expect("a verdict");
        assert_eq!(verdict["encrypted"], true);
        assert!(verdict["text"].as_str().expect("text").ends_with(ENCRYPTED), "{verdict}");
        assert_eq!(verdict["cpu"], cpu);
        vmcb::Cpu::parse(cpu).expect("what is said can be asked");
        let note = lines.iter().find(|line| line["id"] == "cpu-from-dump").expect("a note");
        assert!(note["text"].as_str().expect("text").starts_with(&format!("the dump is headed {kind}, so")));
        assert!(!lines.iter().any(|line| line["type"] == "finding"), "{text}");
    }
    // Older kernels name no kind; the save area that they print is none.
    let old =
        sample().replace("kvm_amd: SEV-SNP vCPU1 VMCB 00000000759a48a5, last attempted VMRUN on CPU 7\n", "");
    let old: String = old
        .lines()
        .filter(|line| !line.contains("sev_features"))
        .map(|line| {
            let dr7 = line.contains("dr7:").then(|| line.replace("0000000000000400", "0000010000000400"));
            dr7.unwrap_or_else(|| line.to_owned()) + "\n"
        })
        .collect();
    assert!(old.contains("0000010000000400"), "{old}");
    let text = stdout(&run(&["check", &file("old.txt", old.as_bytes())]));
    assert!(text.contains(&format!("{ENCRYPTED}, unless the CPU lacks SEV-ES\n")), "{text}");
    assert_eq!(of_the_save_area(&text), 0, "{text}");
    // A plain guest is not encrypted.
    let text = stdout(&run(&["check", "samples/kvm-6.1-dmesg-refused-cs-l-d.txt"]));
    assert!(
        !text.contains("encrypted VMSA"),
        "{}",
        text.replace("else: the contents of an encrypted VMSA", "")
    );
}

#[test]
fn a_cpu_that_the_dump_contradicts_is_remarked() {
    let arguments = ["check", SAMPLE, "--cpu", "EPYC-Milan,phys-bits=48,+sev,-sev-snp", "--format", "json"];
    let text = stdout(&run(&arguments));
    assert!(text.contains(
        "the dump is headed SEV-SNP, so its CPU has sev-es, sev-snp; --cpu says that it has not, and counts"
    ));
    assert!(text.contains("\"cpu\":\"EPYC-Milan,phys-bits=48,+sev,-sev-snp\""), "{text}");
    assert!(!text.contains("cpu-from-dump"), "{text}");
}
