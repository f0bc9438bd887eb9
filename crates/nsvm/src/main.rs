//! The command `nsvm`. Everything is in the library of the same name.

fn main() -> std::process::ExitCode {
    nsvm::run(std::env::args_os())
}
