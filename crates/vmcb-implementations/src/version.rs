//! Versions of implementations, and sets of them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version of an implementation: a release, or a revision of its sources.
///
/// Understood as people and packages spell them: `6.1.0`, `v7.2.13`, `1:7.2+dfsg-7+deb12u18`, `7.3~rc4-1~exp1`,
/// `6.12.94+deb13-amd64`; a revision is `git:` and the first 12 hexadecimal digits of its hash.
///
/// Some spellings say the branch only: `7.2`, Debian's `1:7.2+dfsg-7`, its kernels' `6.1.0-42-amd64`. Such a version is
/// some release of that branch, nobody knows which: it is in a set only if the whole branch is.
///
/// Releases are ordered, a candidate before its release. A branch compares with none of its own releases, a revision
/// with nothing but itself.
///
/// # Examples
/// ```
/// use vmcb_implementations::Version;
/// let debian: Version = "1:7.2+dfsg-7+deb12u18".parse().unwrap();
/// assert_eq!(debian.to_string(), "7.2");
/// assert!(debian < "10.0.2".parse().unwrap());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Version(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
enum Kind {
    /// The lowest and the highest numbers that it may be: the same, but for a branch.
    Release(Numbers, Numbers),
    /// The first 12 digits of a hash.
    Revision(u64),
}

/// Three numbers, and which release candidate it is; `u32::MAX` for the release itself.
type Numbers = ([u32; 3], u32);

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

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.0, other.0) {
            (a, b) if a == b => Some(Ordering::Equal),
            (Kind::Release(_, high), Kind::Release(low, _)) if high < low => Some(Ordering::Less),
            (Kind::Release(low, _), Kind::Release(_, high)) if low > high => Some(Ordering::Greater),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Release(([a, u32::MIN, _], _), ([_, u32::MAX, _], _)) => write!(f, "{a}"),
            Kind::Release(([a, b, _], _), ([.., u32::MAX], _)) => write!(f, "{a}.{b}"),
            Kind::Release(([a, b, c], RELEASED), _) => write!(f, "{a}.{b}.{c}"),
            Kind::Release(([a, b, c], candidate), _) => write!(f, "{a}.{b}.{c}-rc{candidate}"),
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
        let (low, mut stated, rest) = numbers(trimmed).ok_or_else(bad)?;
        // Behind the numbers stands what a packager adds, never a letter at once: `7a` is something else.
        if rest.starts_with(|c: char| c.is_alphanumeric() && !rest.starts_with("rc")) {
            return Err(bad());
        }
        let candidate = rest.trim_start_matches(['~', '-']).strip_prefix("rc").and_then(leading_number);
        if let Some((candidate, _)) = candidate {
            return Ok(Self(Kind::Release((low, candidate), (low, candidate))));
        }
        if low[2] == 0 && names_an_abi(rest) {
            stated = stated.min(2);
        }
        let mut high = low;
        high[stated..].fill(u32::MAX);
        Ok(Self(Kind::Release((low, RELEASED), (high, RELEASED))))
    }
}

/// `-42-amd64`: Debian's kernels of a branch are all named `6.1.0` with the number of an ABI.
fn names_an_abi(rest: &str) -> bool {
    let flavour =
        rest.strip_prefix('-').and_then(leading_number).and_then(|(_, rest)| rest.strip_prefix('-'));
    flavour.is_some_and(|flavour| flavour.starts_with(|c: char| c.is_ascii_lowercase()))
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
/// use vmcb_implementations::Versions;
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
            (Span::Releases { from, to }, Kind::Release((low, _), (high, _))) => from <= low && high <= to,
            (Span::Revision(a), Kind::Revision(b)) => a == b,
            _ => false,
        })
    }

    /// The first and the last version of each part: where another set of versions may begin or end to hide this one.
    pub(crate) fn corners(&self) -> impl Iterator<Item = Version> {
        let release = |numbers| Version(Kind::Release((numbers, RELEASED), (numbers, RELEASED)));
        let corners = self.0.iter().map(move |span| match *span {
            Span::All => [release([0; 3]), release([u32::MAX; 3])],
            Span::Releases { from, to } => [release(from), release(to)],
            Span::Revision(hash) => [Version(Kind::Revision(hash)); 2],
        });
        corners.flatten()
    }

    /// The highest release in the set that is not above `version`; `None` if there is none.
    pub(crate) fn last_before(&self, version: Version) -> Option<[u32; 3]> {
        let Kind::Release(_, (wanted, _)) = version.0 else { return None };
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
            ("v6.12", "6.12"),
            ("3", "3"),
            ("1:7.2+dfsg-7+deb12u18", "7.2"),
            ("1:7.2+dfsg-7+deb12u18+b3", "7.2"),
            ("1:10.0.2+ds-2~bpo12+1", "10.0.2"),
            ("6.12.94+deb13-amd64", "6.12.94"),
            ("6.1.0-42-amd64", "6.1"),
            ("6.1.159-1", "6.1.159"),
            ("6.1.0-1", "6.1.0"),
            ("2.7+dfsg-4+deb12u1", "2.7"),
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
        assert!(
            version("6.18") < version("7.2.0")
                && version("7.2.13") > version("7.1")
                && version("6") < version("7")
        );
        assert_eq!(version("7.2").partial_cmp(&version("7.2.13")), None);
        assert_eq!(version("7.2").partial_cmp(&version("7.2")), Some(Ordering::Equal));
        let revision = version("git:c447b7308b13");
        assert_eq!(revision.partial_cmp(&version("7.2")), None);
        assert_eq!(revision.partial_cmp(&version("git:c447b7308b14")), None);
        assert_eq!(revision.partial_cmp(&revision), Some(Ordering::Equal));
    }

    #[test]
    fn sets_of_versions() {
        let set = |text: &str| text.parse::<Versions>().unwrap_or_else(|error| panic!("{error}"));
        let rows = [
            ("7.2", "7.2 7.2.0 7.2.13 7.2.0-rc3", "7 7.1.99 7.3.0 10.7.2 git:c447b7308b13"),
            ("7.2.13", "7.2.13", "7.2 7.2.12 7.2.14 7.2.0"),
            ("7.0-7.2", "7.0.0 7.1.5 7.2.99", "6.18.9 7.3.0"),
            ("6.16.2-6.16.12 6.1", "6.16.2 6.16.12 6.1.0", "6.16 6.16.1 6.16.13 6.12.0"),
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
