//! The sets of cases: the rows of `cases/`, and what is generated.
//!
//! | ids | cases |
//! | --- | --- |
//! | `base.BASE` | the base itself |
//! | `row.ID` | the row of that id; its CPU is ignored, each subject has its own |
//! | `eventinj.BASE#N` | EVENTINJ: N is V (bit 12), TYPE (11:9), VECTOR (8:1), EV (0). All of it in 64-bit mode; elsewhere exceptions (1600 to 17ff) and two vectors of every other TYPE |
//! | `eventbit.BASE.EVENT#BIT` | a reserved bit of EVENTINJ, 30:12, set in a legal event |
//! | `flip.BASE.FIELD#BIT` | one bit of a field differs from the base: of every field that a rule reads, and of neighbours that people expect to be checked |
//! | `value.BASE.FIELD#VALUE` | values of a field that no single bit gives |
//! | `map.BASE.FIELD.wW#N` | an address around 2^W. N is 3 P + L: the page is 2^W / 4096 - 4 + P for P from 0 to 5, L chooses the low 12 bits: 000h, 001h, FFFh |
//! | `pat.BASE.byteI#VALUE` | a byte of G_PAT |
//! | `pdpte.BASE.I#BIT` | one bit of a present page directory pointer entry differs |
//! | `mode.BASE.BITS#N` | CR0.PG, CR0.PE and EFER.LME as named, N is CD, NW, CR4.PAE, CS.L and CS.D (bits 4 to 0) |
//! | `pair.RULE+RULE` | two rules broken at once, both with the same outcome |
//!
//! ERRORCODE is 5A5Ah where EV is set, else zero. Numbers after `#` are hexadecimal. Nothing here decides what is legal: [`verdict`](crate::verdict) asks `vmcb`.

mod bases;
mod builder;
mod families;
mod killers;
mod rows;

use crate::case::{Case, Set};
use builder::Builder;
pub use killers::{KILLERS, Killer, MEANINGLESS, Meaningless, UNSTABLE, Unstable, killer, unstable};

/// The sets' names.
const NAMES: [&str; 2] = ["commit", "full"];

/// Why there is no set.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// No set has this name.
    #[error("no set of cases is named `{0}`; there are {list}", list = NAMES.join(" and "))]
    Unknown(String),
    /// The rows of `cases/` inside this program cannot be read.
    #[error("the case rows inside this program cannot be read: {0}")]
    BadRow(String),
}

/// The names of the sets: `commit` takes seconds and has no [killer]; `full` has all cases.
#[must_use]
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// The set of this name.
///
/// # Errors
/// [`Error::Unknown`] for a name that is none of [`names`].
pub fn set(name: &str) -> Result<Set, Error> {
    if !NAMES.contains(&name) {
        return Err(Error::Unknown(name.to_owned()));
    }
    let rows = vmcb_cases::read(vmcb_cases::embedded())
        .map_err(|errors| Error::BadRow(errors.first().map_or(String::new(), ToString::to_string)))?;
    let bad = |what: String| Error::BadRow(what);
    let mut builder = Builder::new(bases::bases(&rows));
    families::bases_and_flips(&mut builder);
    families::events(&mut builder);
    rows::rows(&mut builder, &rows).map_err(bad)?;
    families::values(&mut builder);
    families::maps(&mut builder);
    families::memory_types(&mut builder);
    families::pdptes(&mut builder);
    families::modes(&mut builder);
    rows::pairs(&mut builder, &rows).map_err(bad)?;
    let mut set = builder.finish(name);
    for index in 0..set.cases.len() {
        let case = &set.cases[index];
        let (page, tables) = (set.page(case), set.tables(case));
        let meaningless = killers::meaningless(&case.id, &page).map(str::to_owned);
        let walks = bases::walks_the_payload(&page, tables);
        let case = &mut set.cases[index];
        case.meaningless = meaningless;
        if walks && case.cannot_run.is_none() {
            case.cannot_run = Some("its page tables would be in the payload's own memory".to_owned());
        }
    }
    let kills = |case: &Case| KILLERS.iter().any(|killer| killer.cases.matches(&case.id));
    if name == "commit" {
        set.cases.retain(|case| families::is_quick(&case.id) && !kills(case));
    }
    // Last, so that a subject that is given up for them has been asked all else.
    set.cases.sort_by_cached_key(kills);
    Ok(set)
}
