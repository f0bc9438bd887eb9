//! apt's sources for other suites, made from the machine's own.

use super::error::{Error, Result};
use super::suites::Suites;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What Debian's sources may call a suite, before `-updates`, `-security` and `-backports`.
const NAMES: [&str; 14] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "experimental",
    "unstable",
    "testing",
    "stable",
    "oldstable",
    "oldoldstable",
    "rc-buggy",
];

/// An entry of the machine's sources: what it says beside the suite.
struct Source {
    /// Options and addresses as they are to be written: lines of a stanza, or what stands before the suite.
    front: String,
    stanza: bool,
    suites: Vec<String>,
    /// Whether it is signed with Debian's keys, or with whichever the machine trusts.
    debian_keys: bool,
}

/// The sources for these suites, from the machine's own: `(file name, text)` each, names ending in `.sources` for
/// stanzas (deb822) and in `.list` for lines. Addresses, keys and options are kept; the suite is replaced, and
/// packages of the component main for amd64 are all that is asked for.
///
/// # Errors
/// If none of the entries is Debian's.
pub fn sources(files: &[(String, String)], suites: &Suites) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, text) in files {
        if name.ends_with(".sources") { stanzas(text, &mut all) } else { lines(text, &mut all) }
    }
    // Others publish under Debian's names of suites too, signed with keys of their own. A mirror that signs with
    // its own key is taken where it is all there is.
    if all.iter().any(|source| source.debian_keys) {
        all.retain(|source| source.debian_keys);
    }
    let (mut stanza_text, mut line_text) = (String::new(), String::new());
    let mut written = BTreeSet::new();
    let mut has_main = false;
    for source in &all {
        for security in [false, true] {
            if !source.suites.iter().any(|suite| is_security(suite) == security) {
                continue;
            }
            let names: Vec<&String> =
                if security { suites.security.iter().collect() } else { suites.main.iter().collect() };
            has_main |= !security;
            if names.is_empty() || !written.insert((&source.front, security)) {
                continue;
            }
            // Writing to a string cannot fail.
            if source.stanza {
                let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
                let _ = writeln!(
                    stanza_text,
                    "Types: deb\nSuites: {names}\nComponents: main\nTargets: Packages\n{}",
                    source.front
                );
            } else {
                for name in names {
                    let _ = writeln!(line_text, "{} {name} main", source.front);
                }
            }
        }
    }
    if !has_main {
        return Err(Error::NotDebian { files: files.iter().map(|(name, _)| name.clone()).collect() });
    }
    let mut made = Vec::new();
    for (name, text) in [("lab.sources", stanza_text), ("lab.list", line_text)] {
        if !text.is_empty() {
            made.push((name.to_owned(), text));
        }
    }
    Ok(made)
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

fn is_debian(suite: &str) -> bool {
    let base = suite.strip_suffix("/updates").unwrap_or(suite);
    let ends = ["-updates", "-security", "-proposed-updates", "-backports", "-backports-sloppy"];
    let base = ends.iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
    NAMES.contains(&base)
}

/// Entries of a `.sources` file: stanzas of `Field: value`, a value going on in lines that begin with a space.
fn stanzas(text: &str, all: &mut Vec<Source>) {
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            all.extend(stanza_source(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

fn stanza_source(stanza: &[(String, String)]) -> Option<Source> {
    let field = |wanted: &str| {
        stanza
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map_or("", |(_, value)| value.as_str())
    };
    let has = |name: &str, word: &str| field(name).split_whitespace().any(|each| each == word);
    if !has("Types", "deb")
        || !has("Components", "main")
        || ["no", "false", "off"].contains(&field("Enabled"))
    {
        return None;
    }
    let suites: Vec<String> = field("Suites").split_whitespace().map(str::to_owned).collect();
    let uris: Vec<&str> = field("URIs").split_whitespace().filter(|uri| !uri.starts_with("cdrom:")).collect();
    if uris.is_empty() || !suites.iter().any(|suite| is_debian(suite)) {
        return None;
    }
    let mut front = format!("URIs: {}\n", uris.join(" "));
    const REPLACED: [&str; 7] =
        ["Types", "URIs", "Suites", "Components", "Architectures", "Targets", "Enabled"];
    for (name, value) in stanza {
        if !REPLACED.iter().any(|replaced| name.eq_ignore_ascii_case(replaced)) {
            let _ = writeln!(front, "{name}: {value}");
        }
    }
    let suites = suites.into_iter().filter(|suite| is_debian(suite)).collect();
    Some(Source { front, stanza: true, suites, debian_keys: debian_keys(field("Signed-By")) })
}

/// Entries of a `.list` file: `deb [options] address suite components`.
fn lines(text: &str, all: &mut Vec<Source>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '['])) else {
            continue;
        };
        let (options, rest) = match rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        if uri.starts_with("cdrom:") || !words.any(|word| word == "main") || !is_debian(suite) {
            continue;
        }
        let mut kept: Vec<&str> = options.split_whitespace().collect();
        kept.retain(|option| !option.starts_with("arch") && !option.starts_with("target"));
        let signed = kept.iter().find_map(|option| option.strip_prefix("signed-by=")).unwrap_or_default();
        let debian_keys = debian_keys(signed);
        kept.push("target=Packages");
        all.push(Source {
            front: format!("deb [ {} ] {uri}", kept.join(" ")),
            stanza: false,
            suites: vec![suite.to_owned()],
            debian_keys,
        });
    }
}

fn debian_keys(signed_by: &str) -> bool {
    signed_by.is_empty() || signed_by.contains("debian-archive")
}
