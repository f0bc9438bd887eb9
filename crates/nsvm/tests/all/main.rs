//! The command `nsvm`, run on files of the repository.

mod check;
mod common;
mod compare;
mod cpu;
mod emit;
mod encrypted;
#[cfg(unix)]
mod external;
mod golden;
mod json;
mod pages;
mod peers;
#[path = "../../../../golden/replay.rs"]
mod replay;
mod sarif;
mod scan;
mod shared;
mod usage;
mod words;
