//! apt in a private state, and what it prints.

use super::error::{Error, Result};
use crate::store;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Returns apt's settings: those of the machine, such as proxies, except for settings that would change the machine.
pub(super) fn configuration(path: &Path) -> String {
    let path = path.display();
    format!(
        r#"Dir::State "{path}/state";
Dir::State::status "{path}/status";
Dir::Cache "{path}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{path}/sources.list.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Acquire::Retries "3";
"#
    )
}

/// Returns a tool of apt that uses the private state. It prints English, because its output is parsed.
pub(super) fn tool(name: &str, state: &Path) -> Command {
    let mut command = Command::new(name);
    command.arg("-c").arg(state.join("apt.conf")).env("LC_ALL", "C.UTF-8");
    command
}

pub(super) fn apt(state: &Path) -> Command {
    let mut command = tool("apt-get", state);
    command.arg("-q");
    command
}

pub(super) fn run(command: &mut Command, tool: &'static str) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| missing_tool(tool, error))
}

pub(super) fn missing_tool(tool: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoTool { tool },
        _ => Error::Store(store::Error::CannotRun { path: PathBuf::from(tool), error }),
    }
}

pub(super) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Returns the last lines that are not empty, each indented.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(6));
    last.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

pub(super) fn is_full(text: &str) -> bool {
    ["No space left on device", "enough free space in", "Disk quota exceeded"]
        .iter()
        .any(|words| text.contains(words))
}

pub(super) fn apt_error(doing: String, place: &Path, output: &Output) -> Error {
    let text = said(output);
    if is_full(&text) {
        return Error::Store(store::Error::DiskFull { path: place.parent().unwrap_or(place).to_owned() });
    }
    // Warnings and errors come at the end of the other stream, and tell more than the steps do.
    let worse = String::from_utf8_lossy(&output.stderr);
    Error::Apt { doing, said: last_lines(if worse.trim().is_empty() { &text } else { &worse }) }
}

/// Returns the suites that the archive does not have, from apt's `The repository 'ADDRESS SUITE Release' does not have …`.
pub(super) fn missing_suites(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains("does not have a Release file"));
    let names = lines.filter_map(|line| line.split('\'').nth(1)?.split_whitespace().nth(1));
    names.map(str::to_owned).collect()
}

/// Returns the machine's sources: names and texts of the files that its apt reads.
pub(super) fn machine_sources() -> Result<Vec<(String, String)>> {
    let mut command = Command::new("apt-config");
    command.args(["shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]);
    let output = run(&mut command, "apt-config")?;
    if !output.status.success() {
        return Err(apt_error("asking apt for its sources".to_owned(), Path::new("/"), &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''));
        line.map(PathBuf::from)
    };
    let mut paths: Vec<PathBuf> = value("LIST").into_iter().filter(|path| path.is_file()).collect();
    if let Some(parts) = value("PARTS") {
        let found = fs::read_dir(&parts).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = found
            .filter(|path| {
                path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
            })
            .collect();
        found.sort();
        paths.append(&mut found);
    }
    let mut files = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(|error| store::Error::io(&path, error))?;
        files.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(files)
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    Ok(fs::write(path, text).map_err(|error| store::Error::io(path, error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_words_are_understood() {
        let text = "Err:1 mirror://x.example/debian forky-backports Release\n\
                    E: The repository 'mirror://x.example/debian forky-backports Release' does not have a Release file.\n\
                    E: The repository 'mirror://x.example/security forky-security Release' does not have a Release file.";
        assert_eq!(missing_suites(text), ["forky-backports", "forky-security"]);
        assert!(is_full("E: You don't have enough free space in /x/archives/."));
        assert!(is_full("tar: y: Cannot write: No space left on device"));
        assert!(!is_full(text));
        assert_eq!(last_lines("1\n2\n\n3\n4\n5\n6\n7\n"), "  2\n  3\n  4\n  5\n  6\n  7");
    }
}
