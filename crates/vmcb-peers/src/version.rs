//! Versions of implementations, and sets of them.

use std::fmt;
use std::str::FromStr;

/// A version of an implementation: a release, or a revision of its sources.
///
/// Understood as people and packages spell them: `6.1.0`, `v7.2.13`, `1:7.2+dfsg-7+deb12u18`, `7.3~rc4-1~exp1`,
/// `6.12.94+deb13-amd64`; a revision is `git:` and the first 12 hexadecimal digits of its hash. Parts that are not
/// stated read as zero: Debian's `1:7.2+dfsg-7` says the branch only.
///
/// Releases are ordered, a candidate before its release. A revision compares with nothing but itself.
///
/// # Examples
/// ```
/// use vmcb_peers::Version;
/// let debian: Version = "1:7.2+dfsg-7+deb12u18".parse().unwrap();
/// assert_eq!(debian.to_string(), "7.2.0");
/// assert!(debian < "7.2.13".parse().unwrap());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Version(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Kind {
    /// Numbers, and which release candidate it is; `u32::MAX` for the release itself.
    Release([u32; 3], u32),
    /// The first 12 digits of a hash.
    Revision(u64),
}

/// Digits of a hash that name a revision.
const REVISION_DIGITS: usize = 12;
const RELEASED: u32 = u32::MAX;

/// A text that is no version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadVersion(String);

impl fmt::Display for BadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no version: expected `7.2.13`, a package's spelling of it, or `git:` and 12 digits of a hash",
            self.0
        )
    }
}

impl std::error::Error for BadVersion {}

impl Version {
    /// The release with these numbers.
    #[must_use]
    pub const fn release(numbers: [u32; 3]) -> Self {
        Self(Kind::Release(numbers, RELEASED))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self.0, other.0) {
            (Kind::Release(a, first), Kind::Release(b, second)) => Some((a, first).cmp(&(b, second))),
            (a, b) => (a == b).then_some(std::cmp::Ordering::Equal),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Release([a, b, c], RELEASED) => write!(f, "{a}.{b}.{c}"),
            Kind::Release([a, b, c], candidate) => write!(f, "{a}.{b}.{c}-rc{candidate}"),
            Kind::Revision(hash) => write!(f, "git:{hash:012x}"),
        }
    }
}

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.chars().take(60).collect());
        let trimmed = text.trim();
        if let Some(hash) = trimmed.strip_prefix("git:") {
            return revision(hash).map(|hash| Self(Kind::Revision(hash))).ok_or_else(bad);
        }
        // Debian's epoch says nothing about the software.
        let trimmed = match trimmed.split_once(':') {
            Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => {
                rest
            }
            Some(_) => return Err(bad()),
            None => trimmed.strip_prefix('v').unwrap_or(trimmed),
        };
        let (numbers, _, rest) = numbers(trimmed).ok_or_else(bad)?;
        // Behind the numbers stands what a packager adds, never a letter at once: `7a` is something else.
        if rest.starts_with(|c: char| c.is_alphanumeric() && !rest.starts_with("rc")) {
            return Err(bad());
        }
        let candidate = rest.trim_start_matches(['~', '-']).strip_prefix("rc").map(leading_number);
        let candidate = match candidate {
            Some(Some((number, _))) => number,
            _ => RELEASED,
        };
        Ok(Self(Kind::Release(numbers, candidate)))
    }
}

fn revision(hash: &str) -> Option<u64> {
    let fits = hash.len() == REVISION_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(hash, 16).ok()).flatten()
}

/// The number at the start, and what follows it.
fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    digits.parse().ok().map(|number| (number, rest))
}

/// Up to three numbers with dots between them: the numbers, how many there are, and what follows.
fn numbers(text: &str) -> Option<([u32; 3], usize, &str)> {
    let mut found = [0; 3];
    let (first, mut rest) = leading_number(text)?;
    found[0] = first;
    let mut count = 1;
    while count < found.len() {
        let Some((number, after)) = rest.strip_prefix('.').and_then(leading_number) else { break };
        found[count] = number;
        rest = after;
        count += 1;
    }
    Some((found, count, rest))
}

/// A set of versions, as rows name them.
///
/// Parts separated by spaces: `7.2` is the whole branch, `7.2.13` that release, `7.0-7.2` everything from the first
/// to the last, `git:HASH` a revision, `*` every version.
///
/// # Examples
/// ```
/// use vmcb_peers::Versions;
/// let versions: Versions = "6.1 6.16.0-6.16.12".parse().unwrap();
/// assert!(versions.contain("6.1.170".parse().unwrap()));
/// assert!(!versions.contain("6.16.13".parse().unwrap()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versions(Vec<Span>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Span {
    All,
    Releases { from: [u32; 3], to: [u32; 3] },
    Revision(u64),
}

impl Versions {
    /// Whether the version is in the set. A candidate counts as its release.
    #[must_use]
    pub fn contain(&self, version: Version) -> bool {
        self.0.iter().any(|span| match (*span, version.0) {
            (Span::All, _) => true,
            (Span::Releases { from, to }, Kind::Release(numbers, _)) => from <= numbers && numbers <= to,
            (Span::Revision(a), Kind::Revision(b)) => a == b,
            _ => false,
        })
    }

    /// The highest release in the set that is not above `version`; `None` if there is none.
    pub(crate) fn last_before(&self, version: Version) -> Option<[u32; 3]> {
        let Kind::Release(wanted, _) = version.0 else { return None };
        let below = self.0.iter().filter_map(|span| match *span {
            Span::Releases { from, to } if from <= wanted => Some(to.min(wanted)),
            _ => None,
        });
        below.max()
    }
}

impl FromStr for Versions {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let spans = text.split_whitespace().map(span).collect::<Result<Vec<_>, _>>()?;
        if spans.is_empty() { Err(BadVersion(text.to_owned())) } else { Ok(Self(spans)) }
    }
}

fn span(text: &str) -> Result<Span, BadVersion> {
    let bad = || BadVersion(text.chars().take(60).collect());
    if text == "*" {
        return Ok(Span::All);
    }
    if let Some(hash) = text.strip_prefix("git:") {
        return revision(hash).map(Span::Revision).ok_or_else(bad);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let whole = |text| numbers(text).filter(|(.., rest)| rest.is_empty()).ok_or_else(bad);
    let (from, ..) = whole(first)?;
    let (mut to, stated, _) = whole(last)?;
    to[stated..].fill(u32::MAX);
    if from <= to { Ok(Span::Releases { from, to }) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn versions_as_people_and_packages_spell_them() {
        for (text, shown) in [
            ("6.1.0", "6.1.0"),
            ("7.2.13", "7.2.13"),
            ("10.0.2", "10.0.2"),
            ("v6.12", "6.12.0"),
            ("1:7.2+dfsg-7+deb12u18", "7.2.0"),
            ("1:7.2+dfsg-7+deb12u18+b3", "7.2.0"),
            ("1:10.0.2+ds-2~bpo12+1", "10.0.2"),
            ("6.12.94+deb13-amd64", "6.12.94"),
            ("6.1.0-42-amd64", "6.1.0"),
            ("2.7+dfsg-4+deb12u1", "2.7.0"),
            ("4.17.5+23-ga4e5191dc0-1", "4.17.5"),
            ("7.1.4-165100~Debian~bookworm", "7.1.4"),
            ("7.3~rc4-1~exp1", "7.3.0-rc4"),
            ("7.3-rc4-amd64", "7.3.0-rc4"),
            ("7.3.0-rc4", "7.3.0-rc4"),
            ("git:c447b7308b13", "git:c447b7308b13"),
            ("git:0047b7308b13", "git:0047b7308b13"),
        ] {
            assert_eq!(version(text).to_string(), shown, "{text}");
            assert_eq!(version(shown), version(text));
        }
        for text in
            ["", "x", "git:", "git:c447", "git:+447b7308b13", "7a", "-1", "a:7.2", ":7.2", "99999999999"]
        {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn releases_are_ordered_and_revisions_are_not() {
        let ascending = ["6.1.0", "6.1.170", "6.12.0", "7.2.0-rc1", "7.2.0-rc2", "7.2.0", "7.2.13", "10.0.2"];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        let revision = version("git:c447b7308b13");
        assert_eq!(revision.partial_cmp(&version("7.2")), None);
        assert_eq!(revision.partial_cmp(&version("git:c447b7308b14")), None);
        assert_eq!(revision.partial_cmp(&revision), Some(std::cmp::Ordering::Equal));
    }

    #[test]
    fn sets_of_versions() {
        let set = |text: &str| text.parse::<Versions>().unwrap_or_else(|error| panic!("{error}"));
        let rows = [
            ("7.2", "7.2.0 7.2.13 7.2.0-rc3", "7.1.99 7.3.0 10.7.2 git:c447b7308b13"),
            ("7.2.13", "7.2.13", "7.2.12 7.2.14 7.2.0"),
            ("7.0-7.2", "7.0.0 7.1.5 7.2.99", "6.18.9 7.3.0"),
            ("6.16.2-6.16.12 6.1", "6.16.2 6.16.12 6.1.0", "6.16.1 6.16.13 6.12.0"),
            ("3", "3.0.0 3.1.0", "2.7.0"),
            ("git:c447b7308b13", "git:c447b7308b13", "git:c447b7308b14 4.17.0"),
            ("*", "1.0.0 git:c447b7308b13", ""),
        ];
        for (text, inside, outside) in rows {
            let versions = set(text);
            assert!(inside.split_whitespace().all(|inside| versions.contain(version(inside))), "{text}");
            assert!(!outside.split_whitespace().any(|outside| versions.contain(version(outside))), "{text}");
        }
        for text in ["", "7.3-7.2", "7.", "7.2x", "a", "7.2-", "-7.2", "git:12"] {
            assert!(text.parse::<Versions>().is_err(), "{text}");
        }
        assert_eq!(set("6.1 7.0-7.2").last_before(version("7.1.3")), Some([7, 1, 3]));
        assert_eq!(set("6.1 7.2").last_before(version("6.12.0")), Some([6, 1, u32::MAX]));
        assert_eq!(set("6.1").last_before(version("5.10.0")), None);
    }
}
