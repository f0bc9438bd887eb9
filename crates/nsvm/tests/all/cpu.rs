//! `--cpu`: CPUs as people have them.

use crate::common::{file, root, run, status, stderr, stdout};

const FOLDER: &str = "crates/nsvm/tests/all/cpu";

/// What `nsvm cpu` says of a source: feature or setting, and its answer.
fn cpu(source: &str) -> std::collections::BTreeMap<String, String> {
    let text = stdout(&run(&["cpu", source, "--format", "json"]).code(0));
    let value: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
    let mut all = std::collections::BTreeMap::new();
    for feature in value["features"].as_array().expect("features") {
        all.insert(
            feature["name"].as_str().unwrap().to_owned(),
            feature["answer"].as_str().unwrap().to_owned(),
        );
    }
    for setting in ["phys_bits", "c_bit", "sev_asid_max", "sev_asid_min"] {
        all.insert(setting.to_owned(), value[setting].to_string());
    }
    all
}

fn fixture(name: &str) -> String {
    format!("file:{FOLDER}/{name}")
}

fn answers(all: &std::collections::BTreeMap<String, String>, names: &str) -> String {
    names.split(' ').map(|name| format!("{name}={}", all[name])).collect::<Vec<_>>().join(" ")
}

/// The same CPU as a table of leaves and as the tool's text: what both state is the same.
#[test]
fn raw_and_decoded_agree() {
    let raw = cpu(&fixture("epyc-7502-raw.txt"));
    let decoded = cpu(&fixture("epyc-7502-decoded.txt"));
    let mut stated = 0;
    for (name, answer) in &decoded {
        if answer != "unknown" && answer != "null" {
            assert_eq!(answer, &raw[name], "{name}");
            stated += 1;
        }
    }
    // The tool prints no line for x2AVIC's extension; leaf 8000_0021h is beyond what this CPU has, which the text
    // does not say; and three bits of 8000_001Fh had no line yet.
    let open: Vec<_> =
        decoded.iter().filter(|(_, answer)| *answer == "unknown").map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        open,
        ["allowed-sev-features", "auto-ibrs", "pmc-virt-guest-ctl", "secure-avic", "uai", "x2avic-ext"]
    );
    assert_eq!(stated + open.len(), raw.len());
    let names = "npt avic vgif vnmi shstk sev sev-es sev-snp lmsle-unsupported mcommit tce fxsr-opt pcid";
    assert_eq!(
        answers(&raw, names),
        "npt=yes avic=yes vgif=yes vnmi=no shstk=no sev=yes sev-es=yes sev-snp=no lmsle-unsupported=no mcommit=yes \
         tce=yes fxsr-opt=yes pcid=no"
    );
    assert_eq!(
        answers(&raw, "phys_bits c_bit sev_asid_max sev_asid_min"),
        "phys_bits=48 c_bit=47 sev_asid_max=509 sev_asid_min=1"
    );
}

#[test]
fn the_older_name_reads_all_kinds_too() {
    let path = format!("{FOLDER}/epyc-7502-raw.txt");
    assert_eq!(cpu(&format!("cpuid:{path}")), cpu(&format!("file:{path}")));
    assert_eq!(
        cpu(&format!("cpuid:{FOLDER}/domain-rome.xml")),
        cpu(&format!("file:{FOLDER}/domain-rome.xml"))
    );
}

/// A domain goes to QEMU: its model says what is not named.
#[test]
fn a_domain_is_its_model_and_its_features() {
    let domain = cpu(&fixture("domain-rome.xml"));
    let names =
        "npt nrip-save lbrv svm-lock decodeassists tce avic shstk umip pcid phys_bits lmsle-unsupported";
    assert_eq!(
        answers(&domain, names),
        "npt=yes nrip-save=yes lbrv=yes svm-lock=yes decodeassists=yes tce=yes avic=no shstk=no umip=yes pcid=no \
         phys_bits=null lmsle-unsupported=unknown"
    );
    let said = stderr(&run(&["cpu", &fixture("domain-rome.xml")]));
    assert_eq!(said, "note: --cpu: no <maxphysaddr>: give phys-bits\n");
    // A change settles it, and then nothing is said.
    let settled = format!("{},phys-bits=43,+shstk", fixture("domain-rome.xml"));
    assert_eq!(answers(&cpu(&settled), "phys_bits shstk"), "phys_bits=43 shstk=yes");
    assert_eq!(stderr(&run(&["cpu", &settled])), "");
    assert_eq!(
        answers(&cpu(&fixture("domain-epyc.xml")), "npt fsgsbase umip vgif"),
        "npt=yes fsgsbase=yes umip=no vgif=no"
    );
}

#[test]
fn a_domain_says_what_it_leaves_to_the_host() {
    let domain = |cpu: &str| file("domain.xml", format!("<domain type='kvm'>{cpu}</domain>").as_bytes());
    let said = |path: &str| stderr(&run(&["cpu", &format!("file:{path}")]).code(0));
    let path = domain(
        "<cpu mode='host-passthrough' check='none' migratable='on'><maxphysaddr mode='passthrough' limit='39'/></cpu>",
    );
    let all = cpu(&format!("file:{path}"));
    assert_eq!(answers(&all, "npt shstk phys_bits svm"), "npt=unknown shstk=unknown phys_bits=null svm=yes");
    assert!(
        said(&path).contains("<cpu mode='host-passthrough'>: the host's CPU, of which the XML says nothing")
    );
    // Told what the host is.
    let told = format!("file:{path},+npt,-shstk,phys-bits=48");
    assert_eq!(answers(&cpu(&told), "npt shstk phys_bits"), "npt=yes shstk=no phys_bits=48");
    let path = domain(
        "<cpu match='minimum'><model>EPYC-Milan</model><maxphysaddr mode='emulate' bits='48'/>\
         <feature policy='optional' name='pku'/><feature policy='forbid' name='npt'/></cpu>",
    );
    let all = cpu(&format!("file:{path}"));
    assert_eq!(
        answers(&all, "smep shstk pku npt phys_bits"),
        "smep=yes shstk=unknown pku=unknown npt=no phys_bits=48"
    );
    let path = domain("");
    assert!(said(&path).contains("the domain has no <cpu>"));
}

#[test]
fn capabilities_do_not_say_what_a_host_lacks() {
    let host = cpu(&fixture("capabilities.xml"));
    // This libvirt knew neither AVIC nor virtual GIF, which the CPU has: epyc-7502-raw.txt is the same one.
    assert_eq!(
        answers(&host, "npt lbrv tce avic vgif shstk phys_bits"),
        "npt=yes lbrv=yes tce=yes avic=unknown vgif=unknown shstk=unknown phys_bits=48"
    );
    let raw = cpu(&fixture("epyc-7502-raw.txt"));
    for (name, answer) in host.iter().filter(|(_, answer)| *answer == "yes" || *answer == "no") {
        assert_eq!(answer, &raw[name], "{name}");
    }
    // What a guest with host-model gets.
    let guest = cpu(&fixture("domcapabilities.xml"));
    assert_eq!(
        answers(&guest, "vgif vnmi lbrv avic shstk la57 phys_bits"),
        "vgif=yes vnmi=yes lbrv=yes avic=no shstk=no la57=yes phys_bits=null"
    );
}

#[test]
fn cpuinfo_shows_what_is_there_and_hides_the_rest() {
    let all = cpu(&fixture("cpuinfo-5900x.txt"));
    assert_eq!(
        answers(&all, "npt avic v-vmsave-vmload vgif tce pku umip fxsr-opt phys_bits"),
        "npt=yes avic=yes v-vmsave-vmload=yes vgif=yes tce=yes pku=yes umip=yes fxsr-opt=yes phys_bits=48"
    );
    assert_eq!(
        answers(&all, "shstk la57 pcid vnmi sev auto-ibrs lmsle-unsupported"),
        "shstk=unknown la57=unknown pcid=unknown vnmi=unknown sev=unknown auto-ibrs=unknown lmsle-unsupported=unknown"
    );
    let text = |flags: &str, sizes: &str| {
        let text = format!(
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: {flags}\naddress sizes\t: {sizes}\n"
        );
        format!("file:{}", file("cpuinfo.txt", text.as_bytes()))
    };
    // Every kernel shows these, so an SVM CPU that does not have them lacks them.
    let old = text("fpu lm svm npt nrip_save", "40 bits physical, 48 bits virtual");
    assert_eq!(
        answers(&cpu(&old), "npt nrip-save lbrv pause-filter avic phys_bits"),
        "npt=yes nrip-save=yes lbrv=no pause-filter=no avic=unknown phys_bits=40"
    );
    // Linux reduces the width by what memory encryption uses.
    let encrypted = text("fpu lm svm npt sme sev user_shstk", "43 bits physical, 48 bits virtual");
    assert_eq!(
        answers(&cpu(&encrypted), "sme sev shstk phys_bits"),
        "sme=yes sev=yes shstk=yes phys_bits=null"
    );
    assert!(stderr(&run(&["cpu", &encrypted])).contains("reduced by memory encryption: give phys-bits"));
    let hidden = text("fpu lm npt", "48 bits physical, 48 bits virtual");
    assert_eq!(answers(&cpu(&hidden), "svm lbrv"), "svm=unknown lbrv=unknown");
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn the_host_is_asked_and_named() {
    let asked = run(&["cpu", "host", "--format", "json"]).code(0);
    let said = stderr(&asked);
    assert!(said.starts_with("note: --cpu: host: CPUID of this machine, from /"), "{said}");
    let path = if said.contains("from /dev/cpu/0/cpuid\n") { "/dev/cpu/0/cpuid" } else { "/proc/cpuinfo" };
    assert!(said.contains(path), "{said}");
    assert_eq!(answers(&cpu("host,+shstk,phys-bits=52"), "shstk phys_bits"), "shstk=yes phys_bits=52");
}

#[test]
fn what_is_not_understood_has_its_reason() {
    let check = |name: &str, text: &str, expected: &str| {
        let source = format!("file:{}", file(name, text.as_bytes()));
        let ran = run(&["cpu", &source]);
        assert_eq!(status(&ran), 3, "{text}");
        assert!(stderr(&ran).contains(expected), "{text}: {}", stderr(&ran));
    };
    check("none.txt", "some words\n", "no CPU is described here");
    check("empty.txt", "", "no CPU is described here");
    check("bad.xml", "<domain><cpu>", "not the XML of a CPU");
    check("bomb.xml", "<!DOCTYPE d [<!ENTITY a 'x'>]><domain>&a;</domain>", "not the XML of a CPU");
    check("other.xml", "<network/>", "<network> is none of <domain>");
    check(
        "model.xml",
        "<domain><cpu mode='custom'><model>EPYC-Milano</model></cpu></domain>",
        "did you mean `EPYC-Milan`",
    );
    check(
        "width.xml",
        "<cpu><model>EPYC</model><maxphysaddr mode='emulate' bits='64'/></cpu>",
        "expected 32 to 52",
    );
    check(
        "policy.xml",
        "<cpu><model>EPYC</model><feature policy='may' name='npt'/></cpu>",
        "no policy is named `may`",
    );
    check("raw.txt", "CPU:\n   0x80000001 0x00: eax=0x0 ebx=0x0\n", "line 2: expected `0x80000001");
    check(
        "decoded.txt",
        "   SVM Secure Virtual Machine (0x8000000a/edx):\n      nested paging = perhaps\n",
        "line 2: expected true or false",
    );
    for (arguments, expected) in [
        (["cpu", "file:nothing-of-this-name"], "nothing-of-this-name: "),
        (["cpu", "EPYC-Milano"], "`EPYC-Milan`"),
        (["cpu", "max"], "name a model"),
    ] {
        let ran = run(&arguments);
        assert_eq!(status(&ran), 3);
        assert!(stderr(&ran).contains(expected), "{}", stderr(&ran));
    }
    let change = format!("{},+shstkk", fixture("domain-rome.xml"));
    assert!(stderr(&run(&["cpu", &change]).code(3)).contains("`shstk`"));
}

/// Every verb that takes a CPU takes it from a file.
#[test]
fn a_file_is_a_cpu_everywhere() {
    let source = fixture("epyc-7502-raw.txt");
    assert!(stdout(&run(&["vectors", "--cpu", &source]).code(0)).contains("#CP"));
    assert!(stdout(&run(&["decode", "80000315", "--cpu", &source])).contains("#CP"));
    let sample = "samples/kvm-6.1-dmesg-refused-cs-l-d.txt";
    assert!(root().join(sample).exists());
    assert!(stdout(&run(&["check", sample, "--cpu", &source]).code(1)).contains("sav-cs-l-and-d"));
}
