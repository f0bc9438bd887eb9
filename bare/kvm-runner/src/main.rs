//! Runs the payload as L1 on this kernel's KVM and passes its lines on.
//!
//! As process 1 of an initramfs, it first mounts file systems, loads modules and opens ports. Lines then go to port E9h, and
//! the program powers the machine off at the end. As any other process, it uses the existing `/dev/kvm`, and lines go to
//! standard output.
//!
//! The payload's lines are passed on unchanged and in order. The program adds these lines, with numbers in hexadecimal:
//!
//! | line | meaning |
//! | --- | --- |
//! | `v RELEASE` | the kernel; the first line |
//! | `n TEXT` | the reason why there will be no lines `t`; the run continues |
//! | `t CASE CONDITION` | the reason that KVM printed for its refusal; follows the line of the case |
//! | `k CASE REASON` | the case killed the virtual machine; a new one continues with the next case |
//! | `h CASE` | the case printed no line within the time limit; a new machine continues with the next case |
//! | `e TEXT` | the runner cannot continue |
//!
//! The first lines of a new machine (`nsvm-lab`, `c`, `m`, `b`) are dropped, because the first machine has printed them.

// UNSAFETY: the guest's memory is mapped and shared with KVM, a signal needs a handler, and ports are accessed by
// instructions.
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
            // The reader of the lines needs the error. If standard output is closed, the error goes to standard error.
            if say(&format!("e {error}")).is_err() {
                eprintln!("kvm-runner: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
