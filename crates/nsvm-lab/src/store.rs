//! The subjects that are here: trees in the cache, and programs of the machine itself.
//!
//! A tree is built in a folder `part-…`, gets its [`subject.txt`](MANIFEST) last, and is then renamed to
//! `KIND/VERSION@SUITE`. So a fetch that was interrupted leaves a part, never something that looks complete.

mod ask;
mod cache;
mod error;
mod kind;
mod manifest;
mod staging;
mod subject;
mod versions;

pub use ask::installed;
pub use cache::{Listing, Store};
pub use error::Error;
pub use kind::Kind;
pub use manifest::MANIFEST;
pub use subject::{INSTALLED, Package, Subject};
pub use versions::compare_versions;

pub(crate) use error::listed;
pub(crate) use staging::staging_dir;

/// Returns the current time as manifests and results show it, such as `2026-01-31T12:00:00Z`.
pub(crate) fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}
