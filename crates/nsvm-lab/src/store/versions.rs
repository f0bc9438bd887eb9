//! The order of Debian's versions.

use std::cmp::Ordering;

/// The order of Debian's versions (Debian Policy, section 5.6.12): epoch, upstream version, revision, each by
/// alternating runs of other characters and of digits, where `~` sorts before the end.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn split(version: &str) -> (u64, &str, &str) {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
    let (a, b) = (split(a), split(b));
    a.0.cmp(&b.0).then_with(|| compare_runs(a.1, b.1)).then_with(|| compare_runs(a.2, b.2))
}

fn compare_runs(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let weight = |c: Option<&u8>| match c {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    while !a.is_empty() || !b.is_empty() {
        let digits = |c: Option<&u8>| c.is_none_or(u8::is_ascii_digit);
        while !digits(a.first()) || !digits(b.first()) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
        }
        fn number(text: &[u8]) -> (&[u8], &[u8]) {
            let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
            let (digits, rest) = text.split_at(end);
            let zeros = digits.iter().take_while(|c| **c == b'0').count();
            (&digits[zeros..], rest)
        }
        let ((first, a_rest), (second, b_rest)) = (number(a), number(b));
        // Without leading zeros the longer number is the larger one.
        let order = first.len().cmp(&second.len()).then_with(|| first.cmp(second));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}
