//! Writes the test hypervisors of this crate to a file, to be run as L1. The command line names the test, such as
//! `hello`, `refused` or `interrupts`.
//!
//! ```console
//! $ cargo run -p nsvm-l0 --example hypervisors -- hypervisors.bin
//! $ nsvm l0 run --l1 hypervisors.bin --append refused --log l0.log
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(output) = std::env::args_os().nth(1) else {
        eprintln!("usage: hypervisors FILE");
        return ExitCode::from(3);
    };
    let written = match nsvm_l0::HYPERVISORS {
        Some(image) => std::fs::write(output, image).map_err(|error| error.to_string()),
        None => Err(nsvm_l0::Error::NoL0.to_string()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
