//! Runs the payload as L1 on this kernel's KVM and hands on what it says.
//!
//! As process 1 of an initramfs it first makes the machine: mounts, modules, ports; lines go to port E9h and the
//! end is a power-off. As any other process it uses the `/dev/kvm` that is there, and lines go to standard output.
//!
//! The payload's lines come first to last as they are. These are added, numbers in hexadecimal:
//!
//! | line | says |
//! | --- | --- |
//! | `v RELEASE` | the kernel, before all else |
//! | `n TEXT` | why no conditions will come; the run goes on without them |
//! | `t CASE CONDITION` | what KVM printed as the reason of its refusal, right behind the case's own line |
//! | `k CASE REASON` | the virtual machine died of this case; a fresh one goes on behind it |
//! | `h CASE` | nothing came within the time limit; a fresh one goes on behind it |
//! | `e TEXT` | it cannot go on |
//!
//! A fresh machine's first lines (`nsvm-lab`, `c`, `m`, `b`) are dropped: the first machine has said them.

// UNSAFETY: KVM is spoken to by ioctl and shared memory, ports by instructions.
#![deny(unsafe_op_in_unsafe_fn)]

mod boot;
mod image;
mod machine;
mod run;
mod system;
mod trace;

use run::{LIMIT, run, seconds};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return boot::main();
    }
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: kvm-runner IMAGE [SECONDS-FOR-A-CASE]";
    let (Some(path), limit, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("{usage}");
        return ExitCode::from(2);
    };
    let limit = match limit.map(|text| text.to_str().and_then(seconds)) {
        None => Duration::from_secs(LIMIT),
        Some(Some(limit)) => limit,
        Some(None) => {
            eprintln!("{usage}: seconds are a number above zero");
            return ExitCode::from(2);
        }
    };
    let mut say = |line: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("standard output: {error}"))
    };
    let outcome = std::fs::read(&path)
        .map_err(|error| format!("{}: {error}", path.display()))
        .and_then(|image| run(image, limit, &mut say));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever reads the lines must learn of it; if nobody reads them any more, standard error remains.
            if say(&format!("e {error}")).is_err() {
                eprintln!("kvm-runner: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
