//! Compiles the test hypervisors of this crate, to be run as L1: the command line names the test, as `hello`, `refused`,
//! `interrupts`.
//!
//! ```console
//! $ cargo run -p nsvm-l0 --example hypervisors -- hypervisors.bin
//! $ nsvm l0 run --l1 hypervisors.bin --append refused --log l0.log
//! ```

#[path = "../l1/compile.rs"]
mod compile;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(output) = std::env::args_os().nth(1).map(std::path::absolute) else {
        eprintln!("usage: hypervisors FILE");
        return ExitCode::from(3);
    };
    let written = output.map_err(|error| error.to_string()).and_then(|file: PathBuf| compile::compile(&file));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
