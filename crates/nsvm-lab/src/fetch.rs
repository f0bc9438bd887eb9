//! Gets subjects from the archive that the machine's own apt uses, without installing anything.
//!
//! apt works in a private state: other folders, an empty list of installed packages, and sources made from the
//! machine's own with the suite replaced. The packages are unpacked into a tree of the [store](crate::store).
//!
//! ```no_run
//! use nsvm_lab::fetch::{Request, fetch};
//! use nsvm_lab::store::Store;
//!
//! let store = Store::open(&Store::default_root()?)?;
//! let request: Request = "qemu@trixie".parse()?;
//! let qemu = fetch(&request, &store, &mut |line| eprintln!("{line}"))?;
//! let mut command = qemu.command();
//! command.args(["-nodefaults", "-display", "none", "-accel", "tcg"]);
//! # Ok::<(), nsvm_lab::fetch::Error>(())
//! ```

mod apt;
mod archive;
mod error;
mod fetcher;
mod index;
mod request;
mod sources;
mod suites;
mod unpack;

pub use archive::Available;
pub use error::Error;
pub use fetcher::{Fetcher, available, fetch};
pub use request::Request;
pub use sources::sources;
pub use suites::{SUITES, Suites};
pub use unpack::unpack;
