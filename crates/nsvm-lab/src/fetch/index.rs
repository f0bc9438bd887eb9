//! The index of a suite: its packages and what they depend on.

/// A package in the index of a suite.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) architecture: String,
    pub(super) depends: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// Whether it is in the wanted suite itself, not only in what that is laid over.
    pub(super) own: bool,
}

/// Reads an index and adds its entries. It ignores lines that it does not need or cannot read.
pub(super) fn read_index(text: &str, own: bool, entries: &mut Vec<Entry>) {
    let empty = || Entry {
        name: String::new(),
        version: String::new(),
        architecture: String::new(),
        depends: String::new(),
        size: 0,
        sha256: String::new(),
        own,
    };
    let mut entry = empty();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            if !entry.name.is_empty() && !entry.version.is_empty() {
                entries.push(std::mem::replace(&mut entry, empty()));
            }
        } else if let Some((name, value)) = line.split_once(": ") {
            let value = || value.to_owned();
            match name {
                "Package" => entry.name = value(),
                "Version" => entry.version = value(),
                "Architecture" => entry.architecture = value(),
                "Depends" => entry.depends = value(),
                "Size" => entry.size = value().parse().unwrap_or(0),
                "SHA256" => entry.sha256 = value(),
                _ => {}
            }
        }
    }
}

/// Returns the first choices of what a package depends on, each with the exact version that it must have.
pub(super) fn depends_on(entry: &Entry) -> Vec<(&str, Option<&str>)> {
    entry
        .depends
        .split(',')
        .filter_map(|clause| {
            let choice = clause.split('|').next()?.trim();
            let name = choice.split([' ', '(', ':']).next()?;
            let version = choice.split_once("(= ").and_then(|(_, rest)| rest.strip_suffix(')'));
            Some((name, version))
        })
        .collect()
}
