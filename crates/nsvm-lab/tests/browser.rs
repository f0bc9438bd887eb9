//! The page in a real browser: Chromium from PATH, headless.

use crate::sample;
use nsvm_lab::report::Report;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The browser.
fn browser() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
        .expect("Chromium is in PATH")
}

/// What the browser wrote to standard output and to standard error.
fn open(browser: &Path, name: &str, page: &str, arguments: &[String]) -> (String, String) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("cargo's folder can be written");
    let file = dir.join("page.html");
    fs::write(&file, page).expect("the page can be written");
    let (out, err) = (dir.join("out"), dir.join("err"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .args(arguments)
        .arg(format!("file://{}", file.display()))
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("out"))
        .stderr(File::create(&err).expect("err"))
        .spawn()
        .expect("the browser starts");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break Some(status);
        }
        if begin.elapsed() > Duration::from_secs(120) {
            child.kill().expect("it is our child");
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let read = |path| String::from_utf8_lossy(&fs::read(path).expect("it was written")).into_owned();
    let (out, err) = (read(&out), read(&err));
    let _ = fs::remove_dir_all(&dir);
    assert!(status.is_some_and(|status| status.success()), "{name}: {status:?}\n{err}");
    (out, err)
}

/// What the page's scripts printed or threw.
fn console(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains(":CONSOLE")).collect()
}

/// Runs behind the page's own script: says `key=value` lines in an element of its own.
const PROBE: &str = r##"
<pre id="probe"></pre><script>
const source = document.documentElement.outerHTML.split('<pre id="probe">')[0];
const said = [], say = (key, value) => said.push(key + "=" + value);
const links = [...document.querySelectorAll(".grid td a")];
say("links", links.length);
let astray = 0;
for (const [index, link] of links.entries()) {
  const target = document.getElementById(link.getAttribute("href").slice(1));
  // The browser allows a page so many navigations only.
  if (index % 7 === 0) link.click(); else target?.scrollIntoView();
  const box = target?.getBoundingClientRect();
  if (!box || box.height === 0 || box.bottom <= 0 || box.top >= innerHeight) astray++;
}
say("astray", astray);
const planes = [...document.querySelectorAll(".plane svg")];
say("planes", planes.length);
say("cells", planes.map((svg) => svg.querySelectorAll("g rect").length).join());
const small = planes.flatMap((svg) => [...svg.querySelectorAll("g rect")]).filter((rect) => {
  const box = rect.getBoundingClientRect();
  return box.width < 2 || box.height < 2;
});
say("small", small.length);
say("wide", document.documentElement.scrollWidth - innerWidth);

const form = document.getElementById("filter");
const shown = () => [...document.querySelectorAll(".grid tbody tr")].filter((row) => row.offsetParent).length;
const change = (element, value) => {
  if (element.type === "checkbox") element.checked = value; else element.value = value;
  element.dispatchEvent(new Event("input", { bubbles: true }));
};
say("rows", shown());
change(form.elements.text, "evt-exc-VECTOR");
say("named", shown());
change(form.elements.text, "");
change(form.elements.rows, "broken");
say("broken", shown());
for (const box of form.elements.subject) change(box, box.value === "0");
say("broken-on-first", shown());
say("columns", document.querySelectorAll(".grid thead th:not([hidden])").length);
change(form.elements.rows, "");
for (const box of form.elements.subject) change(box, true);

const svg = planes[0], output = svg.closest(".plane").querySelector("output");
svg.scrollIntoView();
const of = (type, vector) => [...svg.querySelectorAll("g rect")].find((one) => String(one.cell) === type + "," + vector);
const point = (cell) => {
  const box = cell.getBoundingClientRect();
  svg.dispatchEvent(new PointerEvent("pointermove", { clientX: box.x + box.width / 2, clientY: box.y + 1, bubbles: true }));
  return output.value;
};
say("nmi", point(of(3, 2)));
say("gp", point(of(3, 13)));
say("nine", point(of(3, 9)));
say("last", point(of(7, 255)));
svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowUp" }));
say("moved", output.value);
// A telephone: the browser's own window cannot be that narrow.
const frame = document.createElement("iframe");
frame.style = "width: 400px; height: 800px; border: 0";
frame.addEventListener("load", () => {
  const inner = frame.contentDocument;
  say("telephone", frame.contentWindow.innerWidth);
  say("telephone-rows", inner.querySelectorAll(".grid tbody tr").length);
  say("telephone-wide", inner.documentElement.scrollWidth - frame.contentWindow.innerWidth);
  document.getElementById("probe").textContent = said.join("\n");
});
frame.srcdoc = source;
document.body.append(frame);
</script>"##;

fn probe() -> Vec<(String, String)> {
    let browser = browser();
    let page = Report::new(sample::rows(3, 12)).html();
    let page = page.replace("</body>", &format!("{PROBE}</body>"));
    let (dom, log) =
        open(&browser, "probe", &page, &["--dump-dom".to_owned(), "--window-size=1280,900".to_owned()]);
    assert_eq!(console(&log), [""; 0]);
    let said = dom.split("<pre id=\"probe\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let said = said.expect("the probe ran").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let said = said.lines().filter_map(|line| line.split_once('='));
    said.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
#[ignore = "needs Chromium; `cargo xtask ci` runs it"]
fn the_page_works() {
    let said = probe();
    let of = |key: &str| said.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str());
    let number = |key: &str| of(key).parse::<i64>().unwrap_or(-1);
    // A line for each rule and one for legal VMCBs, by three subjects.
    let lines = i64::try_from(vmcb::Rule::ALL.len() + 1).expect("it is small");
    let known = number("rows");
    assert!(known > 60 && known <= lines, "{said:#?}");
    assert_eq!(number("links"), known * 3, "{said:#?}");
    assert_eq!(number("astray"), 0, "cells whose link leads nowhere: {said:#?}");
    assert_eq!((number("planes"), of("cells")), (3, "2048,2048,2048"), "{said:#?}");
    assert_eq!(number("small"), 0, "cells that cannot be seen: {said:#?}");
    assert!(number("wide") <= 0, "the page scrolls sideways: {said:#?}");
    assert_eq!((number("telephone"), number("telephone-rows")), (400, known), "{said:#?}");
    assert!(number("telephone-wide") <= 0, "the page scrolls sideways: {said:#?}");
    assert_eq!(number("named"), 4, "{said:#?}");
    assert!(number("broken") > 3 && number("broken") < known, "{said:#?}");
    assert_eq!((number("broken-on-first"), number("columns")), (0, 3), "{said:#?}");
    assert_eq!(
        of("nmi"),
        "TYPE 3 (exception), VECTOR 2 NMI: = invalid32, exitintinfo – expected VMEXIT_INVALID"
    );
    assert_eq!(of("gp"), "TYPE 3 (exception), VECTOR 13 #GP: = took – expected accepted");
    assert_eq!(of("nine"), "TYPE 3 (exception), VECTOR 9 reserved: ≠ took – expected VMEXIT_INVALID");
    assert_eq!(
        of("last"),
        "TYPE 7 (reserved), VECTOR 255: = invalid32, exitintinfo – expected VMEXIT_INVALID"
    );
    assert_eq!(
        of("moved"),
        "TYPE 6 (reserved), VECTOR 0: = invalid32, exitintinfo – expected VMEXIT_INVALID"
    );
}

/// The list of errors above is empty because there are none.
#[test]
#[ignore = "needs Chromium; `cargo xtask ci` runs it"]
fn an_error_of_a_script_would_be_seen() {
    let browser = browser();
    let (_, log) = open(&browser, "error", "<script>nobody.home()</script>", &["--dump-dom".to_owned()]);
    assert_eq!(console(&log).len(), 1, "{log}");
}

#[test]
#[ignore = "needs Chromium; `cargo xtask ci` runs it"]
fn the_page_is_drawn() {
    let browser = browser();
    let page = Report::new(sample::rows(1, 2)).html();
    let shot = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shot-{}.png", std::process::id()));
    let arguments = [format!("--screenshot={}", shot.display()), "--window-size=1000,700".to_owned()];
    let (_, log) = open(&browser, "shot", &page, &arguments);
    let image = fs::read(&shot).expect("it was drawn");
    let _ = fs::remove_file(&shot);
    assert_eq!(console(&log), [""; 0]);
    // An empty page of that size has some 3 KB.
    assert!(image.starts_with(b"\x89PNG") && image.len() > 20_000, "{} bytes", image.len());
}
