//! The file of a tree that says what it is.

use super::error::Error;
use super::subject::{Package, Subject};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The file of a tree that says what it is. It ends with a line `end`; without it the tree is damaged.
pub const MANIFEST: &str = "subject.txt";

const HEAD: &str = "nsvm-lab subject 1";

impl Subject {
    /// Returns the text of its manifest.
    pub(super) fn manifest(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let run = match self.kernel() {
            Some((image, modules)) => {
                let inside =
                    |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
                format!("image {}, modules {}", inside(&image), inside(&modules))
            }
            None => self.run_line(),
        };
        let Self { kind, version, suite, package, fetched, size, .. } = self;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "kind: {kind}\nversion: {version}\nsuite: {suite}\nmain: {package}\nfetched: {fetched}\nsize: {size}\nrun: {run}\n"
        );
        for Package { name, version, sha256 } in &self.packages {
            let _ = writeln!(text, "package: {name} {version} {sha256}");
        }
        text.push_str("end\n");
        text
    }

    /// How to run it from a shell, with TREE for the folder.
    fn run_line(&self) -> String {
        let command = self.command();
        let mut words: Vec<String> = Vec::new();
        for (name, value) in command.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            words.push(format!("{}={value}", name.to_string_lossy()));
        }
        words.push(command.get_program().to_string_lossy().into_owned());
        words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
        words.join(" ").replace(&*self.root.to_string_lossy(), "TREE")
    }

    /// Reads the manifest of a tree.
    pub(super) fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        let damaged = |line: usize, what: String| Error::Damaged { path: path.clone(), line, what };
        let mut fields: [Option<&str>; 6] = [None; 6];
        const NAMES: [&str; 6] = ["kind", "version", "suite", "main", "fetched", "size"];
        let mut packages = Vec::new();
        let mut ended = false;
        let mut count = 0;
        for (index, line) in text.lines().enumerate() {
            count = index + 1;
            if ended {
                return Err(damaged(count, "something follows `end`".to_owned()));
            }
            if index == 0 {
                if line != HEAD {
                    return Err(damaged(count, format!("should be `{HEAD}`")));
                }
            } else if line == "end" {
                ended = true;
            } else if let Some(rest) = line.strip_prefix("package: ") {
                let mut words = rest.split(' ').map(str::to_owned);
                match (words.next(), words.next(), words.next(), words.next()) {
                    (Some(name), Some(version), Some(sha256), None) => {
                        packages.push(Package { name, version, sha256 })
                    }
                    _ => return Err(damaged(count, "a package has a name, a version and a sum".to_owned())),
                }
            } else if let Some((name, value)) = line.split_once(": ") {
                // Others, `run` too, are for people.
                if let Some(place) = NAMES.iter().position(|known| *known == name) {
                    fields[place] = Some(value);
                }
            } else {
                return Err(damaged(count, "should be `NAME: VALUE`".to_owned()));
            }
        }
        if !ended {
            return Err(damaged(count, "it is cut off: no `end`".to_owned()));
        }
        let field = |place: usize| {
            fields[place].map(str::to_owned).ok_or_else(|| damaged(count, format!("no `{}`", NAMES[place])))
        };
        let size = field(5)?;
        Ok(Self {
            kind: field(0)?.parse().map_err(|error: Error| damaged(count, error.to_string()))?,
            version: field(1)?,
            suite: field(2)?,
            root: root.to_owned(),
            package: field(3)?,
            fetched: field(4)?,
            size: size.parse().map_err(|_| damaged(count, format!("`{size}` is no size in bytes")))?,
            packages,
            program: None,
        })
    }
}
