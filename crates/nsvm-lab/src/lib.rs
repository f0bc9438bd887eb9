#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod case;
pub mod compare;
pub mod driver;
pub mod expected;
pub mod fetch;
pub mod glob;
pub mod image;
pub mod kvm;
pub mod machine;
mod names;
pub mod observe;
pub mod outcome;
pub mod report;
pub mod results;
pub mod run;
pub mod sets;
pub mod store;
pub mod subject;
pub mod verdict;
pub mod xen;

#[doc(inline)]
pub use bare_interface::payload as protocol;
