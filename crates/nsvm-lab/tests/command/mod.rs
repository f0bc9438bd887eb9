//! The programs `nsvm-lab` and `nsvm-l0`, and what the kept results show.

mod batch;
mod common;
mod conditions;
mod golden;
mod l0;
mod lab;
mod page;
mod predictions;
#[path = "../../../../golden/replay.rs"]
mod replay;
#[path = "../../../nsvm/tests/all/shared.rs"]
mod shared;
