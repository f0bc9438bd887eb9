//! `nsvm check --emit`: rows that say what was found, and a page that shows it.

use crate::common::{MILAN, file, legal, put, run, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vmcb_cases::{Expected, Rows};

/// The rows of a text, with the bases that they start from.
fn read(text: &str) -> Rows {
    let bases = vmcb_cases::embedded().iter().filter(|(name, _)| *name == "bases.txt");
    let files: Vec<(&str, &str)> = bases.copied().chain([("emitted.txt", text)]).collect();
    vmcb_cases::read(&files).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

/// Each row holds, and finds broken what the report found broken.
fn round_trip(arguments: &[&str]) -> usize {
    let emitted = stdout(&run(&[&["check", "--emit", "case"], arguments].concat()));
    let rows = read(&emitted).cases;
    for row in &rows {
        assert_eq!(Expected::of(&row.judge(&row.limits)), row.expected, "{}", row.id);
        assert!(row.vmcb.complete().is_some(), "what is not shown is the base's: {}", row.id);
    }
    let json = stdout(&run(&[&["check", "--format", "json"], arguments].concat()));
    let records = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    for finding in records.filter(|record| record["type"] == "finding" && record["standing"] == "broken") {
        let end = format!(".found-{}", finding["vmcb"]);
        let row =
            rows.iter().find(|row| row.id.ends_with(&end)).unwrap_or_else(|| panic!("{end}\n{emitted}"));
        let rule = vmcb::Rule::from_id(finding["rule"].as_str().expect("a rule")).expect("a rule");
        let said = format!("{} is not decided by what the row has", rule.id());
        assert!(row.expected.broken.contains(rule) || emitted.contains(&said), "{}: {emitted}", rule.id());
    }
    rows.len()
}

#[test]
fn rows_of_every_sample_come_back() {
    let mut rows = 0;
    for entry in std::fs::read_dir(crate::common::root().join("samples")).expect("samples") {
        let path = entry.expect("an entry").path();
        for cpu in ["any", "EPYC-Milan-v3,phys-bits=48", "EPYC-Genoa,+sev-es,+sev-snp,+shstk"] {
            rows += round_trip(&[path.to_str().expect("UTF-8"), "--cpu", cpu]);
        }
    }
    assert!(rows > 30, "{rows} rows");
}

#[test]
fn rows_of_pages_come_back() {
    let mut page = legal();
    for seed in 0..24_u64 {
        // Noise in ever more of the page.
        for (index, byte) in page.iter_mut().enumerate() {
            let noise = (index as u64 * (seed * 2 + 3) * 2_654_435_761) >> 13;
            if noise >> 8 & 0x3F < seed {
                *byte = noise as u8;
            }
        }
        let path = file(&format!("emit{seed}.bin"), &page);
        let host = "memenc=1,snp=1,rax=0x1001,u-cet=5,pdptes=1:2:3:4,cpl=2,hsave-pa-zero=unknown";
        let cpu = "EPYC-Genoa,+sev,+sev-es,+sev-snp,+shstk,+secure-avic,phys-bits=52";
        let arguments = [path.as_str(), "--phase", "before", "--host", host, "--cpu", cpu, "--vmsa", &path];
        assert_eq!(round_trip(&arguments), 1);
        assert_eq!(round_trip(&[&path, "--phase", "after", "--policy", "fixed-vectors"]), 1);
        assert_eq!(round_trip(&[&path, "--phase", "before", "--host", "unknown,pg=0"]), 1);
    }
}

#[test]
fn a_row_is_short_and_says_what_is_not_shown() {
    let text = stdout(&run(&["check", "samples/kvm-6.1-dmesg-refused-cs-l-d.txt", "--emit", "case"]).code(1));
    snapbox::assert_data_eq!(text, snapbox::file!["snapshots/emit-case.txt"]);
    // CPUID tables become names.
    let table = "   0x80000001 0x00: eax=0x00a00f11 ebx=0 ecx=0x00000004 edx=0x20100800\n"
        .replace("ebx=0 ", "ebx=0x0 ");
    let cpu = format!("cpuid:{}", file("table.txt", table.as_bytes()));
    let path = file("cpuid-row.bin", &legal());
    let text = stdout(&run(&["check", &path, "--emit", "case", "--cpu", &cpu, "--phase", "before"]));
    assert!(text.contains("| any,"), "{text}");
    assert_eq!(read(&text).cases[0].base, "long64");
    // A line that shows no VMCB gives none.
    let line = b"a-1 [000] ..... 1.0: kvm_nested_vmenter_failed: save->quux & 1\n";
    let text = stdout(&run(&["check", &file("none.txt", line), "--emit", "case"]));
    assert!(text.contains("# It shows no VMCB: no row.\n") && read(&text).cases.is_empty(), "{text}");
}

#[test]
fn with_a_file_the_report_stands_beside_it() {
    let dump = "samples/kvm-6.1-dmesg-refused-cs-l-d.txt";
    let path = file("emitted.txt", b"");
    let output = run(&["check", dump, "--emit", "case", "-o", &path]).code(1);
    assert_eq!(stdout(&output), stdout(&run(&["check", dump])));
    let written = std::fs::read_to_string(&path).expect("it was written");
    assert_eq!(written, stdout(&run(&["check", dump, "--emit", "case"])));
    run(&["check", dump, "-o", &path]).code(3);
    let nowhere = format!("{path}/no/such/place");
    run(&["check", dump, "--emit", "page", "-o", &nowhere]).code(3);
}

/// No text of the input is markup, wherever it is quoted.
#[test]
fn a_hostile_dump_is_text() {
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let mut text = String::new();
    for line in
        std::fs::read_to_string(crate::common::root().join("samples/kvm-6.1-dmesg-refused-cs-l-d.txt"))
            .expect("the sample")
            .lines()
    {
        text.push_str(&format!("{evil} {line} {evil}\u{202e}\n"));
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("<b>&{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("x'\".txt");
    std::fs::write(&path, &text).expect("a file");
    let page = stdout(&run(&["check", path.to_str().expect("UTF-8"), "--emit", "page"]));
    let trace = format!("a-1 [000] ..... 1.0: kvm_nested_vmenter_failed: {evil}\n");
    let refused = stdout(&run(&["check", &file("evil.txt", trace.as_bytes()), "--emit", "page"]));
    for page in [&page, &refused] {
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        for markup in ["<script", "<img", "<b>&", "onerror=alert(2)>\""] {
            assert!(!page.contains(markup), "{markup}: {page}");
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn page(arguments: &[&str]) -> String {
    stdout(&run(&[&["check", "--emit", "page"], arguments].concat()))
}

#[test]
fn a_page_shows_what_is_wrong_and_loads_nothing() {
    let page = page(&["samples/kvm-6.1-dmesg-refused-cs-l-d.txt", "--cpu", "EPYC-Milan,phys-bits=48"]);
    for text in [
        "<code>sav-cs-l-and-d</code> CS.L and CS.D are both set in long mode",
        "<mark class=\"bad\">0e9b</mark>",
        "<mark>0000000080010031</mark>",
        "<td class=\"bad\" title=\"410h cs: ",
        "<td class=\"with\" title=\"558h cr0: 0x0000000080010031\">",
        "<tr><th>Bochs 3.1</th><td class=\"refuses\">refuses by sav-cs-l-and-d</td><td>measured 2026-11-24</td></tr>",
        "section 15.5.1, revision 3.44",
        "<summary>The rule <code>sav-cs-l-and-d</code></summary>",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

/// A page that is known as bytes has no lines to quote, and its cells are marked all the same.
#[test]
fn a_page_of_bytes_is_marked_too() {
    let mut bytes = legal();
    put(&mut bytes, 0x560, 1 << 40);
    let page = page(&[&file("dr7.bin", &bytes), "--phase", "before", "--cpu", MILAN]);
    assert!(page.contains("<td class=\"bad\" title=\"560h dr7: 0x0000010000000000\">dr7</td>"), "{page}");
    assert!(!page.contains("<mark"), "{page}");
}

/// The browser.
fn browser() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
        .expect("Chromium is in PATH")
}

/// What a browser makes of it: cells of the width that they are given, nothing refused by the page's own policy.
#[test]
#[ignore = "needs Chromium; `cargo xtask ci` runs it"]
fn a_browser_shows_the_page() {
    let browser = browser();
    let text = page(&["samples/kvm-6.1-dmesg-refused-cs-l-d.txt"]);
    let html = file("finding.html", text.as_bytes());
    let folder = Path::new(&html).parent().expect("a folder");
    let (out, err) = (folder.join("dom"), folder.join("log"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--window-size=1200,900", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{html}"))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).expect("out"))
        .stderr(std::fs::File::create(&err).expect("err"))
        .spawn()
        .expect("the browser starts");
    let begin = Instant::now();
    while child.try_wait().expect("it is our child").is_none() {
        if begin.elapsed() > Duration::from_secs(120) {
            child.kill().expect("it is our child");
            let _ = child.wait();
            panic!("the browser hangs");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let read = |path| String::from_utf8_lossy(&std::fs::read(path).expect("it was written")).into_owned();
    let (dom, log) = (read(out), read(err));
    for cell in ["class=\"bad\"", "class=\"with\"", "class=\"known\"", "class=\"partly\""] {
        assert_eq!(dom.matches(cell).count(), text.matches(cell).count(), "{cell}");
    }
    assert_eq!(dom.matches("<table").count(), text.matches("<table").count(), "{dom}");
    assert!(dom.contains("Why VMRUN refuses"), "{dom}");
    for complaint in ["CONSOLE", "Content Security Policy"] {
        assert!(!log.contains(complaint), "{log}");
    }
}
