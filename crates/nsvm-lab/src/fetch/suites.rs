//! Suites of Debian.

/// Suites of Debian that hold subjects worth having. Others of the archive may be asked for too.
pub const SUITES: [&str; 6] =
    ["bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid", "experimental"];

/// Suites whose packages belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suites {
    /// What was asked for.
    pub(super) wanted: String,
    /// Of the main archive: the wanted one, and what its packages may depend on.
    pub(super) main: Vec<String>,
    /// Of the security archive.
    pub(super) security: Option<String>,
}

impl Suites {
    /// Returns the suites that a suite needs.
    #[must_use]
    pub fn of(wanted: &str) -> Self {
        let base = match wanted {
            "experimental" | "rc-buggy" => "sid",
            _ => wanted.split_once("-backports").map_or(wanted, |(base, _)| base),
        };
        let mut main = vec![base.to_owned()];
        let mut security = None;
        if !matches!(base, "sid" | "unstable") {
            main.push(format!("{base}-updates"));
            security = Some(format!("{base}-security"));
        }
        if base != wanted {
            main.push(wanted.to_owned());
        }
        Self { wanted: wanted.to_owned(), main, security }
    }

    /// Checks whether the suite extends another one, so that apt must be told to prefer its packages.
    pub(super) fn is_overlay(&self) -> bool {
        self.main.first() != Some(&self.wanted)
    }

    /// Checks whether packages of a suite count as the wanted suite's own.
    pub(super) fn own(&self, suite: &str) -> bool {
        suite == self.wanted
            || (!self.is_overlay()
                && (self.main.iter().any(|s| s == suite) || self.security.as_deref() == Some(suite)))
    }

    /// Removes a suite that the archive does not have. Returns `false` if that suite is required.
    pub(super) fn without(&mut self, suite: &str) -> bool {
        if self.security.as_deref() == Some(suite) {
            self.security = None;
            return true;
        }
        match self.main.iter().skip(1).position(|s| s == suite) {
            Some(place) if suite != self.wanted => {
                self.main.remove(place + 1);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_that_an_archive_lacks_are_left_out_unless_they_are_needed() {
        let mut suites = Suites::of("trixie-backports");
        assert!(suites.without("trixie-security") && suites.without("trixie-updates"));
        assert!(!suites.without("trixie-updates"), "it is gone already");
        assert!(!suites.without("trixie") && !suites.without("trixie-backports"));
        assert_eq!((suites.main.join(" "), &suites.security), ("trixie trixie-backports".to_owned(), &None));
        assert!(suites.own("trixie-backports") && !suites.own("trixie"));
        let trixie = Suites::of("trixie");
        assert!(trixie.own("trixie-security") && trixie.own("trixie-updates") && !trixie.own("sid"));
    }
}
